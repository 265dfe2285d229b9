"""`mesh client VERB`: thin typer functions, as in mesh.cli.verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli.options import HELP, Dir, Json, begin, folder

app = typer.Typer(
    rich_markup_mode=None, context_settings=HELP, help="Who may ask, each with an own key: add, rotate, revoke, list."
)

ClientName = Annotated[str, typer.Argument(metavar="NAME", help="Name under `clients:` of the spec.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the key and nothing else, for piping.")]


@app.callback(invoke_without_command=True)
def _every_verb(ctx: typer.Context, inventory: Dir = None) -> None:
    begin(ctx, inventory)


@app.command("add")
def client_add(
    ctx: typer.Context,
    name: ClientName,
    routes: Annotated[str, typer.Option(metavar="ROUTE,ROUTE", help="The routes that its key opens.")],
    inventory: Dir = None,
    budget: Annotated[
        str | None, typer.Option(metavar="SUM", show_default=False, help="What it may spend: '5 USD/month'.")
    ] = None,
    rpm: Annotated[int | None, typer.Option(min=1, show_default=False, help="Requests per minute.")] = None,
    quiet: Quiet = False,
) -> int:
    """Declare a client and show its key, once.

    Writes one line into mesh.yaml, leaving every other as it is, and the key into secrets.age.
    """
    from mesh.cli.client import add

    return add(folder(ctx, inventory), name, routes=routes, budget=budget, rpm=rpm, quiet=quiet)


@app.command("rotate")
def client_rotate(ctx: typer.Context, name: ClientName, inventory: Dir = None, quiet: Quiet = False) -> int:
    """Make a new key and show it, once.

    The old key is valid until the next apply.
    """
    from mesh.cli.client import rotate

    return rotate(folder(ctx, inventory), name, quiet=quiet)


@app.command("revoke")
def client_revoke(
    ctx: typer.Context,
    name: ClientName,
    inventory: Dir = None,
    force: Annotated[bool, typer.Option("--force", help="Even when a stack needs it.")] = False,
) -> int:
    """Remove a client and its key.

    The key is valid until the next apply.
    """
    from mesh.cli.client import revoke

    return revoke(folder(ctx, inventory), name, force=force)


@app.command("list")
def client_list(ctx: typer.Context, inventory: Dir = None, json: Json = False) -> int:
    """List clients: routes, budget, requests per minute.

    And whether each has a key, never the key.
    """
    from mesh.cli.client import list_clients

    return list_clients(folder(ctx, inventory), as_json=json)
