"""`mesh init --ci`: workflows that check the spec on every push, and the hosts every morning."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Literal

from mesh.errors import EXIT_OK, MeshError
from mesh.files import write_atomically
from mesh.inventory import open_inventory
from mesh.paths import TEMPLATES

Forge = Literal["github", "forgejo", "gitea"]


def run(folder: Path, *, ci: Forge, out: Path) -> int:
    """Write the workflows below `out`, the root of the repository. A file that somebody changed is never replaced."""
    open_inventory(folder)
    inventory = Path(os.path.relpath(folder.resolve(), out.resolve()))
    if inventory.parts[:1] == ("..",):
        raise MeshError("the inventory is outside of the repository", where=str(folder), mend="--out takes the repository's root")
    texts = {
        out / f".{ci}" / "workflows" / f"mesh-{name}.yml": (TEMPLATES / "ci" / f"{ci}-{name}.yml").read_text("utf-8")
        for name in ("check", "drift")
    }
    texts = {path: text.replace("@inventory@", shlex.quote(str(inventory))) for path, text in texts.items()}
    for path, text in texts.items():
        if path.exists() and path.read_text("utf-8", "replace") != text:
            mend = "move it away, and put your changes into the new one"
            raise MeshError("there is such a workflow already, and it is not this one", where=str(path), mend=mend)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
        print(f"{path} written")
    print("docs/ci.md says how the runner, the key and the secrets are set up")
    return EXIT_OK
