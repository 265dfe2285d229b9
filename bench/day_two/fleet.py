"""A fleet of plain stacks at the size of the operator's closet: 35 stacks and 100 containers on the lab's three hosts.

It is a mesh of its own (`day-two`, below /opt/day-two), so that it runs beside the lab's reference mesh. Each stack is what an
operator writes: two or three services of a 4 MB image with a health check, limits, environment, a mounted file, a volume.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests" / "lab")]

from labctl import Lab  # noqa: E402

from mesh.compile.images import ImageRef  # noqa: E402
from tests.lab import inventory  # noqa: E402

FOLDER = PROJECT / ".lab" / "day-two"
IDENTITY = FOLDER / "identity.txt"
MESH, ROOT = "day-two", "/opt/day-two"
STACKS, CONTAINERS = 35, 100
HEALTH = {
    "test": ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/"],
    "interval": "5s",
    "timeout": "3s",
    "retries": 3,
}


def stack_name(number: int, copy: int) -> str:
    return f"app-{number:03d}" + (f"-{copy}" if copy else "")


@dataclass(frozen=True)
class Fleet:
    """Sizes and places. hosts: name -> address; a stack is on the host of its number modulo three, in its own copy of the closet.

    copies: how many closets of three hosts there are; more than one only where hosts are simulated.
    """

    hosts: dict[str, str]
    image: str
    copies: int = 1

    @property
    def placement(self) -> dict[str, str]:
        """Stack -> host."""
        names = list(self.hosts)
        return {stack_name(number, copy): names[3 * copy + number % 3] for copy in range(self.copies) for number in range(STACKS)}

    def services_of(self, stack: str) -> int:
        """As even as it goes: 35 stacks have 2 or 3 services each, 100 in total."""
        number = int(stack.split("-")[1])
        return CONTAINERS * (number + 1) // STACKS - CONTAINERS * number // STACKS

    def compose(self, stack: str, *, tag: str = "1") -> dict[str, Any]:
        """One stack's compose.yaml; another `tag` changes the definition of its first service."""
        services = {}
        for number in range(self.services_of(stack)):
            services[f"part{number}"] = {
                "image": self.image,
                "init": True,
                "restart": "unless-stopped",
                "environment": {"STACK": stack, "PART": str(number), "TAG": tag if number == 0 else "1"},
                "mem_limit": "64m",
                "healthcheck": HEALTH,
                "volumes": ["./app.conf:/etc/app.conf:ro", *(["state:/state"] if number == 0 else [])],
            }
        return {"services": services, "volumes": {"state": {}}}

    def write(self, folder: Path, *, changed: str = "", tag: str = "1") -> None:
        """The stack folders. `changed` is the one whose definition gets `tag`."""
        for stack in self.placement:
            own = folder / "own" / stack
            own.mkdir(parents=True, exist_ok=True)
            data = self.compose(stack, tag=tag if stack == changed else "1")
            (own / "compose.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
            (own / "app.conf").write_text("".join(f"setting_{line} = {stack}\n" for line in range(20)))

    def spec(self, host: dict[str, Any]) -> dict[str, Any]:
        """mesh.yaml as data. host: what every host has beside its address."""
        return {
            "mesh": MESH,
            "root": ROOT,
            "hosts": {name: {"address": address, **host} for name, address in self.hosts.items()},
            "stacks": {stack: {"on": on, "source": f"own/{stack}"} for stack, on in self.placement.items()},
        }


def lab_fleet(lab: Lab) -> Fleet:
    """The fleet on the lab, its inventory written to .lab/day-two."""
    tiny = ImageRef.parse(lab.images()["tiny"])
    fleet = Fleet({name: host.address for name, host in lab.hosts.items()}, f"{tiny.repo}:{tiny.tag}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    fleet.write(FOLDER)
    spec = fleet.spec({"ssh": {"key": os.path.relpath(lab.key, FOLDER)}})
    inventory.write(lab, FOLDER, identity=IDENTITY, spec=spec)
    return fleet
