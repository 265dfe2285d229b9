"""Names, addresses and folders of the lab. One lab per machine: its addresses are fixed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mesh.paths import PROJECT

IMAGES = PROJECT / "tests" / "lab" / "images"
LAB_DIR = PROJECT / ".lab"
"""What belongs to this checkout: keys, known_hosts, lab.json. Git-ignored."""

PREFIX = "homelab-mesh-lab"
"""Repository prefix of the lab's images, and name prefix of its containers, network and volume."""
LABEL = "homelab-mesh.lab"

NETWORK = PREFIX
SUBNET = "10.88.0.0/24"
GATEWAY = "10.88.0.1"
REGISTRY_ADDRESS = "10.88.0.2"
REGISTRY = f"{REGISTRY_ADDRESS}:5000"
REGISTRY_VOLUME = f"{PREFIX}-registry"
CLOUD_ADDRESS = "10.88.0.3"

CARD_FILE = "/etc/lab/card"


@dataclass(frozen=True, slots=True)
class Host:
    """A machine of the lab. `card` is what its stub nvidia-smi answers: name, memory; empty means no card."""

    name: str
    address: str
    card: str = ""

    @property
    def container(self) -> str:
        return f"{PREFIX}-{self.name}"


HOSTS = {
    host.name: host
    for host in (
        Host("gpu-box", "10.88.0.11", card="NVIDIA GeForce RTX 4070 Ti, 12282 MiB"),
        Host("vm-docker", "10.88.0.12"),
        Host("nas", "10.88.0.13"),
    )
}


def cache() -> Path:
    """The lab's folder in the user's cache: the own engine's data, so that images survive fresh clones and second runs."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "homelab-mesh" / "lab"
