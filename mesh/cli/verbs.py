"""The verbs: thin typer functions. Each hands over to its module, which is imported only then, and returns the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mesh.cli import verbs_client, verbs_host, verbs_secrets
from mesh.cli.options import HELP, Diff, Dir, Hosts, Json, Stacks, begin, folder
from mesh.errors import MeshError

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=HELP,
    help="One typed spec says what the mesh is; every file on every host follows from it.",
)
app.add_typer(verbs_secrets.app, name="secrets")
app.add_typer(verbs_client.app, name="client")
app.add_typer(verbs_host.app, name="host")


@app.callback(invoke_without_command=True)
def _every_verb(
    ctx: typer.Context,
    inventory: Dir = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from mesh import __version__

        print(f"homelab-mesh {__version__}")
        raise typer.Exit
    begin(ctx, inventory)


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

    return run(folder(ctx, inventory), format=format)


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

    return run(folder(ctx, inventory), out=out)


@app.command()
def plan(
    ctx: typer.Context,
    inventory: Dir = None,
    hosts: Hosts = None,
    stacks: Stacks = None,
    diff: Diff = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="A line for every change; foreign containers by name.")
    ] = False,
    json: Json = False,
) -> int:
    """Show what apply would change, why, and what that means.

    What restarts and for how long, bytes to pull, VRAM, data at risk. Nothing is started, built or pulled.
    Exit 0: nothing, 2: changes, 1: error.
    """
    from mesh.cli.plan import run

    chosen = {"hosts": tuple(hosts or ()), "stacks": tuple(stacks or ())}
    return run(folder(ctx, inventory), **chosen, as_json=json, diff=diff, verbose=verbose)


@app.command()
def apply(
    ctx: typer.Context,
    inventory: Dir = None,
    hosts: Hosts = None,
    stacks: Stacks = None,
    diff: Diff = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask before changing things.")] = False,
) -> int:
    """Make the hosts what the spec says.

    Shows the plan, asks, does it, and verifies by probing.
    """
    from mesh.cli.apply import run

    return run(folder(ctx, inventory), hosts=tuple(hosts or ()), stacks=tuple(stacks or ()), yes=yes, diff=diff)


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
        folder(ctx, inventory),
        hosts=tuple(hosts or ()),
        stacks=tuple(stacks or ()),
        format=format,
        verbose=verbose,
        secrets=not no_secrets,
        deep=deep,
    )


@app.command()
def adopt(
    ctx: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST", help="Name of a host of the spec.")],
    inventory: Dir = None,
    stacks: Stacks = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it would write, and write nothing.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask before writing.")] = False,
) -> int:
    """Take over Compose projects that run on a host.

    Writes their folders, secrets, digests and spec lines. No container is touched, and the plan after it is empty.
    """
    from mesh.cli.adopt import run

    return run(folder(ctx, inventory), host, stacks=tuple(stacks or ()), dry_run=dry_run, yes=yes)


@app.command()
def history(
    ctx: typer.Context,
    inventory: Dir = None,
    hosts: Hosts = None,
    stacks: Stacks = None,
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="How many runs.")] = 10,
    json: Json = False,
) -> int:
    """Show who applied what, when, and how it went.

    From the journals of all hosts, the latest run first. Exit 0, 1: a host could not be read.
    """
    from mesh.cli.history import run

    return run(folder(ctx, inventory), hosts=tuple(hosts or ()), stacks=tuple(stacks or ()), number=number, as_json=json)


@app.command()
def rollback(
    ctx: typer.Context,
    inventory: Dir = None,
    hosts: Hosts = None,
    stacks: Stacks = None,
    run_id: Annotated[
        str, typer.Option("--run", metavar="ID", show_default=False, help="What this run of mesh history changed.")
    ] = "",
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask before changing things.")] = False,
) -> int:
    """Go back to the previous release.

    Of the named stacks; else of all that the last run changed, on all hosts or the named ones.
    """
    from mesh.cli.rollback import run

    return run(folder(ctx, inventory), hosts=tuple(hosts or ()), stacks=tuple(stacks or ()), run_id=run_id, yes=yes)


@app.command()
def prune(
    ctx: typer.Context,
    inventory: Dir = None,
    hosts: Hosts = None,
    days: Annotated[int, typer.Option(min=0, help="Files put aside by earlier releases are kept so long.")] = 30,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask before removing things.")] = False,
) -> int:
    """Remove what the mesh left and nobody needs.

    Images of earlier releases, networks of stacks that are gone, files put aside. Never volumes, nothing foreign.
    """
    from mesh.cli.prune import run

    return run(folder(ctx, inventory), hosts=tuple(hosts or ()), days=days, yes=yes)


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

    return run(folder(ctx, inventory), route=route, text=text, client=client, timeout=timeout, as_json=json)


@app.command()
def fit(
    ctx: typer.Context,
    inventory: Dir = None,
    swap: Annotated[
        str | None,
        typer.Option("--swap", metavar="HOST=CARD", show_default=False, help="What another card would change; A+B for two."),
    ] = None,
    all_cards: Annotated[bool, typer.Option("--all-cards", help="Rank every known card for this mesh.")] = False,
    ledger: Annotated[
        bool, typer.Option("--ledger", help="With --swap: ask the gateway what its routes carried, not the spec's volumes.")
    ] = False,
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

    Offline, from the spec (--describe reads what it is given, --ledger asks the gateway's host).
    Exit 0: all of it fits or may spill, 1: not.
    """
    if describe is not None:
        from mesh.cli.describe import run as run_describe

        if swap is not None or all_cards or ledger or json:
            raise MeshError("--describe is a question of its own", where="mesh fit", mend="ask it without the other options")
        return run_describe(folder(ctx, inventory), describe)
    from mesh.cli.fit import run

    return run(folder(ctx, inventory), swap_to=swap, all_cards=all_cards, ledger=ledger, as_json=json)


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

    return run(folder(ctx, inventory), models=tuple(models or ()), runs=runs, tokens=tokens, force=force, as_json=json)


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

    return run(folder(ctx, inventory), on=on, litellm=litellm, hang_limit=hang_limit, as_json=json)


@app.command()
def lock(
    ctx: typer.Context,
    inventory: Dir = None,
    check: Annotated[bool, typer.Option("--check", help="Say what is newer upstream, and write nothing.")] = False,
    json: Json = False,
) -> int:
    """Pin every image by digest in images.lock.

    --check exits with 0: all current, 2: newer tags or moved digests, 1: could not tell.
    """
    from mesh.cli import lock as verb

    return verb.check(folder(ctx, inventory), as_json=json) if check else verb.run(folder(ctx, inventory))


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

    return run(folder(ctx, inventory), ci=ci, out=out)
