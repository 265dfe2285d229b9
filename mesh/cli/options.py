"""What the verbs share: their options, and the inventory folder that is meant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mesh.cli.output import note
from mesh.errors import EXIT_ERROR

HELP = {"help_option_names": ["-h", "--help"]}

Dir = Annotated[
    Path | None,
    typer.Option("-C", "--inventory", metavar="DIR", show_default=False, help="The inventory folder; before or after the verb."),
]
Hosts = Annotated[
    list[str] | None, typer.Option("--host", metavar="HOST", show_default=False, help="Only this host; may be repeated.")
]
Stacks = Annotated[
    list[str] | None, typer.Option("--stack", metavar="STACK", show_default=False, help="Only this stack; may be repeated.")
]
Diff = Annotated[bool, typer.Option("--diff", help="Texts of files that change, however long; secrets hidden.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def folder(ctx: typer.Context, given: Path | None) -> Path:
    """The inventory: given after the verb, before it, $MESH_INVENTORY, ./inventory with a spec in it, the project's own."""
    from mesh.paths import INVENTORY

    chosen = given or ctx.find_object(Path)
    if chosen is not None:
        return chosen
    if os.environ.get("MESH_INVENTORY"):
        return Path(os.environ["MESH_INVENTORY"])
    here = Path("inventory")
    return here if any((here / name).is_file() for name in ("mesh.yaml", "mesh.yml", "mesh.py")) else INVENTORY


def begin(ctx: typer.Context, inventory: Path | None) -> None:
    """Before a verb, or a verb of a group: remember the inventory; without a verb, the help and an error."""
    ctx.obj = inventory
    if ctx.invoked_subcommand is None:
        note(ctx.get_help())
        raise typer.Exit(EXIT_ERROR)
