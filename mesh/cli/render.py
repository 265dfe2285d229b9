"""`mesh render --out DIR`: exactly what would land on the hosts, with placeholders for the values of secrets."""

from __future__ import annotations

from pathlib import Path

from mesh.cli.output import note, table
from mesh.compile.tree import write_tree
from mesh.errors import EXIT_OK
from mesh.findings import SpecInvalid
from mesh.inventory import open_inventory
from mesh.state.deployment import Deployment
from mesh.validate import validate


def run(folder: Path, *, out: Path) -> int:
    """Write the tree and print what is in it. A secret without a value is no obstacle: no value is written."""
    inventory = open_inventory(folder)
    errors = [each for each in validate(inventory) if each.severity == "error" and each.rule != "secret-missing"]
    if errors:
        raise SpecInvalid(errors)
    deployment = inventory.deployment(preview=True)
    count = write_tree(deployment, out)
    print(table(_rows(deployment), ("HOST", "STACK", "FILES", "SERVICES")))
    print(f"{count} files in {out}")
    if deployment.secret_names and not inventory.secrets.openable:
        note("the secrets cannot be opened here: the digest labels differ from those that apply would write")
    return EXIT_OK


def _rows(deployment: Deployment) -> list[tuple[str, str, str, str]]:
    return [
        (host.name, stack.name, str(len(stack.files)), ", ".join(service.name for service in stack.services))
        for host in deployment.hosts.values()
        for stack in host.stacks
    ]
