"""The command line: `mesh VERB`.

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

import typer

from mesh.cli.output import note, print_error, style
from mesh.cli.verbs import app
from mesh.errors import EXIT_ERROR, EXIT_OK, MeshError


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
