"""The reference homelab compiles to exactly the files under tests/golden/reference, whatever the machine.

After a change that is meant: .venv/bin/python tests/unit/test_compile_golden.py --update, then read the diff.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from compiled import compiled

from mesh.compile.images import ImageLock
from mesh.compile.tree import MARKER, placeholder, tree, write_tree
from mesh.paths import INVENTORY, PROJECT

GOLDEN = PROJECT / "tests" / "golden" / "reference"
DIGESTS = """
import sys
sys.path.insert(0, {here!r})
from compiled import compiled
from mesh.compile.tree import placeholder, tree
for path, file in tree(compiled()).items():
    print(path, oct(file.mode), file.sha256(placeholder))
"""


def rendered() -> dict[str, bytes]:
    deployment = compiled(lock=ImageLock.load(INVENTORY / "images.lock"))
    return {path: file.content(placeholder) for path, file in tree(deployment).items()}


def test_the_reference_homelab_compiles_to_the_golden_tree() -> None:
    kept = {path.relative_to(GOLDEN).as_posix(): path.read_bytes() for path in GOLDEN.rglob("*") if path.is_file()}
    kept.pop(MARKER)
    found = rendered()
    assert sorted(found) == sorted(kept)
    for path, content in found.items():
        assert content.decode() == kept[path].decode(), f"{path}: see the docstring of this file for how to update"


def test_the_same_spec_gives_the_same_bytes_in_every_process() -> None:
    script = DIGESTS.format(here=str(Path(__file__).parent))
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": "C"},
            capture_output=True,
            check=True,
        ).stdout
        for seed, zone in (("0", "UTC"), ("1", "Asia/Tokyo"), ("4242", "UTC"))
    }
    assert len(outputs) == 1


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        sys.exit(f"usage: {sys.argv[0]} --update")
    print(write_tree(compiled(lock=ImageLock.load(INVENTORY / "images.lock")), GOLDEN), "files in", GOLDEN)
