"""The verbs of `mesh host`: thin typer functions, as in verbs.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mesh.cli.options import HELP, Dir, begin, folder

app = typer.Typer(rich_markup_mode=None, context_settings=HELP, help="Hosts: whose key is trusted, and what CI may do there.")


@app.callback(invoke_without_command=True)
def _every_verb(ctx: typer.Context, inventory: Dir = None) -> None:
    begin(ctx, inventory)


@app.command("trust")
def host_trust(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="HOST", help="Name under `hosts:` of the spec.")],
    inventory: Dir = None,
    fingerprint: Annotated[
        str | None, typer.Option(metavar="SHA256:...", show_default=False, help="What the host's own console tells; no question.")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Also let CI's key in, for `mesh drift` and no more.")] = False,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default=False, help="CI's public key; ci.pub in the inventory.")
    ] = None,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Install without asking; a new host key needs --fingerprint.")] = False,
) -> int:
    """Learn a host's key, once compared.

    Writes known_hosts in the inventory. A host that was installed anew gets its old key replaced.
    """
    from mesh.cli.host import run

    return run(folder(ctx, inventory), name, fingerprint=fingerprint, yes=yes, read_only=read_only, key=key)
