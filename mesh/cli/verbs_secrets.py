"""`mesh secrets VERB`: thin typer functions, as in mesh.cli.verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli.options import HELP, Dir, Json, begin, folder

app = typer.Typer(
    rich_markup_mode=None, context_settings=HELP, help="The secrets that the spec names: init, set, list, edit, rm."
)

SecretName = Annotated[str, typer.Argument(metavar="NAME", help="Name as in secret:NAME.")]


@app.callback(invoke_without_command=True)
def _every_verb(ctx: typer.Context, inventory: Dir = None) -> None:
    begin(ctx, inventory)


@app.command("init")
def secrets_init(
    ctx: typer.Context,
    inventory: Dir = None,
    replace: Annotated[bool, typer.Option("--replace", help="Start anew where secrets.age belongs to another key.")] = False,
) -> int:
    """Make the key and all own secrets that miss.

    Never overwrites anything; keys of providers are yours to set.
    """
    from mesh.cli.secrets import init

    return init(folder(ctx, inventory), replace=replace)


@app.command("set")
def secrets_set(ctx: typer.Context, name: SecretName, inventory: Dir = None) -> int:
    """Set one secret from stdin or a prompt.

    The value never comes from the command line, where others could see it. One line end at its end is dropped.
    """
    from mesh.cli.secrets import set_value

    return set_value(folder(ctx, inventory), name)


@app.command("list")
def secrets_list(ctx: typer.Context, inventory: Dir = None, json: Json = False) -> int:
    """List names, sources, uses, what is missing."""
    from mesh.cli.secrets import list_names

    return list_names(folder(ctx, inventory), as_json=json)


@app.command("edit")
def secrets_edit(ctx: typer.Context, inventory: Dir = None) -> int:
    """Edit all secrets in $EDITOR.

    The file is in memory where the system has such a place, and gone afterwards.
    """
    from mesh.cli.secrets import edit

    return edit(folder(ctx, inventory))


@app.command("rm")
def secrets_rm(ctx: typer.Context, name: SecretName, inventory: Dir = None) -> int:
    """Remove one secret."""
    from mesh.cli.secrets import remove

    return remove(folder(ctx, inventory), name)
