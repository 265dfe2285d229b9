"""The command line: `mesh VERB`. Every verb is a thin function that hands over to its module, which is imported only then.

`main` is the one place that turns an exception into text on stderr and an exit code:

    0    done, clean, nothing to do
    1    an error, wrong usage included
    2    `mesh plan` found changes, `mesh drift` found drift; nothing else exits 2
    128+ ended by a signal: 130 SIGINT, 143 SIGTERM, 129 SIGHUP, 141 nobody reads the output any more
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import typer

from mesh.cli.output import note, print_error, style
from mesh.errors import EXIT_ERROR, EXIT_OK, MeshError

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


@secrets.callback(invoke_without_command=True)
def _every_secrets_verb(ctx: typer.Context, inventory: Dir = None) -> None:
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
) -> int:
    """Compare hosts and spec for CI; reads only.

    Exit 0: none, 2: drift, 1: could not tell.
    """
    from mesh.cli.drift import run

    return run(_folder(ctx, inventory), hosts=tuple(hosts or ()), stacks=tuple(stacks or ()), format=format)


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


class _Signalled(BaseException):
    """SIGTERM or SIGHUP, raised in the main thread so that `finally` blocks run (temporary files, host locks)."""

    def __init__(self, number: int) -> None:
        self.number = number


def _on_signal(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise _Signalled(number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; see the module's docstring for the codes."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _on_signal)
    try:
        code = _invoke(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt, _Signalled) as error:
        code = _report(error)
    return code


def _report(error: BaseException) -> int:
    """Tell the operator, and give the exit code."""
    match error:
        case MeshError():
            print_error(error)
            code = EXIT_ERROR
        case KeyboardInterrupt():
            note("interrupted")
            code = 128 + signal.SIGINT
        case _Signalled():
            code = 128 + error.number
        case BrokenPipeError():
            # Python flushes stdout once more at exit; give it somewhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 128 + signal.SIGPIPE
        case OSError():  # a full disk, a folder that is not ours: the machine's answer, not a bug
            print_error(MeshError(error.strerror or str(error) or type(error).__name__, where=str(error.filename or "")))
            _traceback(error)
            code = EXIT_ERROR
        case _:
            _bug(error)
            code = EXIT_ERROR
    return code


def _invoke(arguments: list[str]) -> int:
    """Parse and run. Typer's own main is not used, because it exits 2 for wrong usage and hides signals."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("mesh", arguments) as context:
            return command.invoke(context) or EXIT_OK
    except typer.Exit as done:
        return done.exit_code
    except typer.Abort as abort:
        raise KeyboardInterrupt from abort
    except typer.TyperException as wrong:
        raise _usage_error(wrong) from wrong


def _usage_error(wrong: typer.TyperException) -> MeshError:
    """Wrong usage in the tool's own form, with the nearest word for a mistyped option (Typer does it for verbs)."""
    context = getattr(wrong, "ctx", None)
    message = wrong.format_message().rstrip(".")
    option = getattr(wrong, "option_name", None)
    if option and context is not None:
        known = [name for parameter in context.command.params for name in parameter.opts]
        from mesh.suggest import Suggester

        near = Suggester().nearest(option, known)
        message = message.split(" (Possible options")[0] + (f"; did you mean {near}?" if near else "")
    path = context.command_path if context is not None else "mesh"
    return MeshError(message, mend=f"see {path} --help")


def _bug(error: BaseException) -> None:
    """One paragraph in place of a traceback. Values of secrets are taken out of it."""
    import traceback

    from mesh.secrets.value import redact

    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    label = style("bug:", "red", "bold", stream=sys.stderr)
    note(redact(f"{label} homelab-mesh failed in a way it should not: {type(error).__name__} at {place}: {error}"))
    if not _traceback(error):
        note("  Your hosts and files are as the last finished step left them. MESH_DEBUG=1 shows the traceback for a report.")


def _traceback(error: BaseException) -> bool:
    """The traceback for whoever asked for it with MESH_DEBUG; says whether it was printed."""
    if not os.environ.get("MESH_DEBUG"):
        return False
    import traceback

    from mesh.secrets.value import redact

    note(redact("".join(traceback.format_exception(error))))
    return True
