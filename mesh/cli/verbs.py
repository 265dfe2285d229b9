"""The verbs: thin typer functions. Each hands over to its module, which is imported only then, and returns the exit code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from mesh.cli.output import note
from mesh.errors import EXIT_ERROR

_HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_HELP,
    help="One typed spec says what the mesh is; every file on every host follows from it.",
)
secrets = typer.Typer(
    rich_markup_mode=None, context_settings=_HELP, help="The secrets that the spec names: init, set, list, edit, rm."
)
app.add_typer(secrets, name="secrets")
client = typer.Typer(
    rich_markup_mode=None, context_settings=_HELP, help="Who may ask, each with an own key: add, rotate, revoke, list."
)
app.add_typer(client, name="client")
host = typer.Typer(rich_markup_mode=None, context_settings=_HELP, help="Hosts: whose key is trusted, and what CI may do there.")
app.add_typer(host, name="host")

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
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
ClientName = Annotated[str, typer.Argument(metavar="NAME", help="Name under `clients:` of the spec.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the key and nothing else, for piping.")]
SecretName = Annotated[str, typer.Argument(metavar="NAME", help="Name as in secret:NAME.")]


def _folder(ctx: typer.Context, given: Path | None) -> Path:
    """The inventory: given after the verb, before it, $MESH_INVENTORY, ./inventory with a spec in it, the project's own."""
    from mesh.paths import INVENTORY

    chosen = given or ctx.find_object(Path)
    if chosen is not None:
        return chosen
    if os.environ.get("MESH_INVENTORY"):
        return Path(os.environ["MESH_INVENTORY"])
    here = Path("inventory")
    return here if any((here / name).is_file() for name in ("mesh.yaml", "mesh.yml", "mesh.py")) else INVENTORY


@app.callback(invoke_without_command=True)
def _every_verb(
    ctx: typer.Context,
    inventory: Dir = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    ctx.obj = inventory
    if version:
        from mesh import __version__

        print(f"homelab-mesh {__version__}")
        raise typer.Exit
    _help_without_verb(ctx)


@client.callback(invoke_without_command=True)
@host.callback(invoke_without_command=True)
@secrets.callback(invoke_without_command=True)
def _every_second_verb(ctx: typer.Context, inventory: Dir = None) -> None:
    ctx.obj = inventory
    _help_without_verb(ctx)


def _help_without_verb(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        note(ctx.get_help())
        raise typer.Exit(EXIT_ERROR)


@app.command()
def check(
    ctx: typer.Context,
    inventory: Dir = None,
    format: Annotated[Literal["text", "json", "github", "sarif"], typer.Option(help="How findings are written.")] = "text",
) -> int:
    """Validate the spec, offline.

    Every finding carries its rule, file:line:column, what is wrong and how to mend it. Exit 0: clean, 1: errors.
    """
    from mesh.cli.check import run

    return run(_folder(ctx, inventory), format=format)


@app.command()
def render(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write to.")],
    inventory: Dir = None,
) -> int:
    """Write what would land on the hosts to DIR.

    Byte for byte, as DIR/<host>/...; only values of secrets are placeholders.
    """
    from mesh.cli.render import run

    return run(_folder(ctx, inventory), out=out)


@app.command()
def plan(ctx: typer.Context, inventory: Dir = None, hosts: Hosts = None, stacks: Stacks = None, json: Json = False) -> int:
    """Show what apply would change, and why.

    Exit 0: nothing, 2: changes, 1: error.
    """
    from mesh.cli.plan import run

    return run(_folder(ctx, inventory), hosts=tuple(hosts or ()), stacks=tuple(stacks or ()), as_json=json)


@app.command()
def apply(
    ctx: typer.Context,
    inventory: Dir = None,
    hosts: Hosts = None,
    stacks: Stacks = None,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask before changing things.")] = False,
) -> int:
    """Make the hosts what the spec says.

    Shows the plan, asks, does it, and verifies by probing.
    """
    from mesh.cli.apply import run

    return run(_folder(ctx, inventory), hosts=tuple(hosts or ()), stacks=tuple(stacks or ()), yes=yes)


@app.command()
def drift(
    ctx: typer.Context,
    inventory: Dir = None,
    hosts: Hosts = None,
    stacks: Stacks = None,
    format: Annotated[Literal["text", "json", "github", "junit"], typer.Option(help="How drift is written.")] = "text",
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="List what is ignored.")] = False,
    no_secrets: Annotated[
        bool, typer.Option("--no-secrets", help="Without the age identity: no file with secrets, no route is compared.")
    ] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Ask Open WebUI itself, too: settings changed in its pages.")] = False,
) -> int:
    """Compare hosts and spec for CI; reads only.

    Exit 0: none, 2: drift, 1: could not tell.
    """
    from mesh.cli.drift import run

    return run(
        _folder(ctx, inventory),
        hosts=tuple(hosts or ()),
        stacks=tuple(stacks or ()),
        format=format,
        verbose=verbose,
        secrets=not no_secrets,
        deep=deep,
    )


@app.command()
def ask(
    ctx: typer.Context,
    route: Annotated[str, typer.Argument(metavar="ROUTE", help="Name of a route of the spec.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The question, or the text to embed; - reads it from stdin.")],
    inventory: Dir = None,
    client: Annotated[
        str | None, typer.Option(metavar="CLIENT", show_default=False, help="Whose key to use; laptop, or the first that may.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the answer.")] = 300,
    json: Json = False,
) -> int:
    """Send one request through the gateway.

    Prints the answer, who answered, the fallbacks tried and the cost.
    """
    from mesh.cli.ask import run

    return run(_folder(ctx, inventory), route=route, text=text, client=client, timeout=timeout, as_json=json)


@app.command()
def fit(
    ctx: typer.Context,
    inventory: Dir = None,
    swap: Annotated[
        str | None,
        typer.Option("--swap", metavar="HOST=CARD", show_default=False, help="What another card would change; A+B for two."),
    ] = None,
    all_cards: Annotated[bool, typer.Option("--all-cards", help="Rank every known card for this mesh.")] = False,
    describe: Annotated[
        str | None,
        typer.Option(
            "--describe",
            metavar="SOURCE",
            show_default=False,
            help="A model nobody knows, for the spec: a .gguf file, its web address, or OLLAMA:TAG.",
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Show what fits the cards, and how fast.

    Offline, from the spec (--describe reads what it is given). Exit 0: all of it fits or may spill, 1: not.
    """
    if describe is not None:
        from mesh.cli.describe import run as run_describe

        return run_describe(_folder(ctx, inventory), describe)
    from mesh.cli.fit import run

    return run(_folder(ctx, inventory), swap_to=swap, all_cards=all_cards, as_json=json)


@app.command()
def bench(
    ctx: typer.Context,
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", show_default=False, help="Names or tags; all that write text.")
    ] = None,
    inventory: Dir = None,
    runs: Annotated[int, typer.Option(min=1, max=50, help="How often each model writes.")] = 3,
    tokens: Annotated[int, typer.Option(min=16, max=4096, help="Tokens of every answer.")] = 128,
    force: Annotated[bool, typer.Option("--force", help="Record what a test double answers too, marked as such.")] = False,
    json: Json = False,
) -> int:
    """Measure tokens a second on the live mesh.

    Records them in measurements.csv beside the spec; `mesh fit` is calibrated with it.
    """
    from mesh.cli.bench import run

    return run(_folder(ctx, inventory), models=tuple(models or ()), runs=runs, tokens=tokens, force=force, as_json=json)


@app.command()
def drill(
    ctx: typer.Context,
    inventory: Dir = None,
    on: Annotated[
        Literal["auto", "host", "local"], typer.Option(help="Docker of the gateway's host or of this machine; auto: what can.")
    ] = "auto",
    litellm: Annotated[
        str | None, typer.Option("--with", metavar="COMMAND", show_default=False, help="An installed `litellm`, without Docker.")
    ] = None,
    hang_limit: Annotated[float, typer.Option(min=2, help="Seconds that a hang may take; longer timeouts are scaled.")] = 20,
    json: Json = False,
) -> int:
    """Prove fallbacks and privacy beside doubles.

    The rendered gateway, every fault on every route and every leak, compared with the spec. Exit 0: green, 1: red.
    """
    from mesh.cli.drill import run

    return run(_folder(ctx, inventory), on=on, litellm=litellm, hang_limit=hang_limit, as_json=json)


@app.command()
def lock(ctx: typer.Context, inventory: Dir = None) -> int:
    """Pin every image by digest in images.lock."""
    from mesh.cli.lock import run

    return run(_folder(ctx, inventory))


@secrets.command("init")
def secrets_init(
    ctx: typer.Context,
    inventory: Dir = None,
    replace: Annotated[bool, typer.Option("--replace", help="Start anew where secrets.age belongs to another key.")] = False,
) -> int:
    """Make the key and all own secrets that miss.

    Never overwrites anything; keys of providers are yours to set.
    """
    from mesh.cli.secrets import init

    return init(_folder(ctx, inventory), replace=replace)


@secrets.command("set")
def secrets_set(ctx: typer.Context, name: SecretName, inventory: Dir = None) -> int:
    """Set one secret from stdin or a prompt.

    The value never comes from the command line, where others could see it. One line end at its end is dropped.
    """
    from mesh.cli.secrets import set_value

    return set_value(_folder(ctx, inventory), name)


@secrets.command("list")
def secrets_list(ctx: typer.Context, inventory: Dir = None, json: Json = False) -> int:
    """List names, sources, uses, what is missing."""
    from mesh.cli.secrets import list_names

    return list_names(_folder(ctx, inventory), as_json=json)


@secrets.command("edit")
def secrets_edit(ctx: typer.Context, inventory: Dir = None) -> int:
    """Edit all secrets in $EDITOR.

    The file is in memory where the system has such a place, and gone afterwards.
    """
    from mesh.cli.secrets import edit

    return edit(_folder(ctx, inventory))


@secrets.command("rm")
def secrets_rm(ctx: typer.Context, name: SecretName, inventory: Dir = None) -> int:
    """Remove one secret."""
    from mesh.cli.secrets import remove

    return remove(_folder(ctx, inventory), name)


@client.command("add")
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

    return add(_folder(ctx, inventory), name, routes=routes, budget=budget, rpm=rpm, quiet=quiet)


@client.command("rotate")
def client_rotate(ctx: typer.Context, name: ClientName, inventory: Dir = None, quiet: Quiet = False) -> int:
    """Make a new key and show it, once.

    The old key is valid until the next apply.
    """
    from mesh.cli.client import rotate

    return rotate(_folder(ctx, inventory), name, quiet=quiet)


@client.command("revoke")
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

    return revoke(_folder(ctx, inventory), name, force=force)


@client.command("list")
def client_list(ctx: typer.Context, inventory: Dir = None, json: Json = False) -> int:
    """List clients: routes, budget, requests per minute.

    And whether each has a key, never the key.
    """
    from mesh.cli.client import list_clients

    return list_clients(_folder(ctx, inventory), as_json=json)


@host.command("trust")
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

    return run(_folder(ctx, inventory), name, fingerprint=fingerprint, yes=yes, read_only=read_only, key=key)


@app.command()
def init(
    ctx: typer.Context,
    ci: Annotated[Literal["github", "forgejo", "gitea"], typer.Option("--ci", help="Whose workflows to write.")],
    inventory: Dir = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Root of the repository.")] = Path(),
) -> int:
    """Write the workflows of CI.

    The spec is checked on every push, the hosts every morning.
    """
    from mesh.cli.init import run

    return run(_folder(ctx, inventory), ci=ci, out=out)
