"""The lab's own inventory: the reference spec on the lab's hosts, registry and cloud doubles. `python -m tests.lab.inventory`

It is an overlay that extends inventory/mesh.yaml, so that what is tested is the reference homelab and not a copy of it.
Secrets are made up here and open with .lab/identity.txt; keys of providers are the doubles'.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mesh.compile.images import ImageLock, ImageRef
from mesh.paths import INVENTORY, PROJECT
from mesh.secrets.agefile import IDENTITY_VARIABLE

sys.path.insert(0, str(Path(__file__).parent))
from labctl import Lab

FOLDER = PROJECT / ".lab" / "inventory"
IDENTITY = PROJECT / ".lab" / "identity.txt"
CLOUD_PORT = 9000
PROVIDERS = ("anthropic", "deepseek", "groq", "moonshot")
SERVICES = {
    "ollama": "ollama",
    "litellm": "litellm",
    "front": "haproxy",
    "caching-proxy": "litellm",
    "open-webui": "open-webui",
    "qdrant": "qdrant",
    "whoami": "tiny",
}
"""Service of the reference stacks -> image folder of the lab."""


def overlay(lab: Lab, folder: Path) -> dict[str, Any]:
    """The lab's mesh.yaml as data: addresses, keys, images and the doubles' addresses; everything else is the reference's."""
    images = {name: ImageRef.parse(reference) for name, reference in lab.images().items()}
    key = os.path.relpath(lab.key, folder)
    return {
        "extends": os.path.relpath(INVENTORY / "mesh.yaml", folder),
        "mesh": "lab",
        "hosts": {name: {"address": host.address, "ssh": {"key": key}} for name, host in lab.hosts.items()},
        "providers": {name: {"base_url": f"http://{lab.cloud}:{CLOUD_PORT}/{name}"} for name in PROVIDERS},
        "images": {
            service: f"{images[image].repo}:{images[image].tag}" for service, image in SERVICES.items() if image in images
        },
    }


def write(lab: Lab, folder: Path = FOLDER, *, identity: Path = IDENTITY, spec: Mapping[str, Any] | None = None) -> Path:
    """Write the whole inventory and return its folder. `spec` takes the place of the overlay."""
    from mesh.cli.secrets import init
    from mesh.secrets.agefile import AgeFile, load_identities
    from mesh.secrets.value import Secret

    folder.mkdir(parents=True, exist_ok=True)
    data = dict(overlay(lab, folder) if spec is None else spec)
    head = "# The lab's overlay over the reference homelab. Written by tests/lab/inventory.py.\n"
    (folder / "mesh.yaml").write_text(head + yaml.safe_dump(data, sort_keys=False))
    (folder / "known_hosts").write_bytes(lab.known_hosts.read_bytes())
    lock = ImageLock()
    for reference in map(ImageRef.parse, lab.images().values()):
        lock = lock.with_image(f"{reference.repo}:{reference.tag}", reference.digest, "2026-01-01")
    (folder / "images.lock").write_text(lock.dump())
    os.environ[IDENTITY_VARIABLE] = str(identity)
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        init(folder, replace=True)
    file = AgeFile(folder)
    values = file.open(load_identities(identity))
    keys = {f"{name}_api_key": Secret(f"sk-double-{name}-{'0123456789abcdef' * 2}") for name in PROVIDERS}
    if not keys.items() <= values.items():
        file.save(values | keys, file.index().recipients)
    return folder


def main() -> int:
    write(Lab())
    print(f"{FOLDER}: the reference homelab on the lab's hosts (export {IDENTITY_VARIABLE}={IDENTITY})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
