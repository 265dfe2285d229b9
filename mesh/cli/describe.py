"""`mesh fit --describe`: the numbers of a model that the catalogue does not know, as lines for the spec."""

from __future__ import annotations

from pathlib import Path

from mesh.cli.output import note
from mesh.errors import EXIT_OK
from mesh.hardware import gib
from mesh.hardware.footprint import footprint
from mesh.inventory import open_inventory
from mesh.live.describe import as_yaml, describe


def run(folder: Path, source: str) -> int:
    """Print what to add to the model in the spec, and on stderr what it takes."""
    arch = describe(source, lambda: open_inventory(folder).mesh)
    print(f"# {arch.tag}: from {arch.source}, {source}\n{as_yaml(arch)}")
    for context in (4096, 32768):
        if context <= arch.max_context:
            note(f"with {context} tokens it takes {gib(footprint(arch, context).total)}")
    return EXIT_OK
