"""Text for the operator: errors, tables, questions. Plain by default, coloured on a terminal that wants it (NO_COLOR)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from mesh.errors import MeshError

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


def style(text: str, *names: str, stream: TextIO | None = None) -> str:
    """`text` in the named styles (bold, dim, red, ...) when the stream (stdout by default) is a terminal that wants them."""
    if not lively(stream or sys.stdout):
        return text
    return f"\x1b[{';'.join(_STYLES[name] for name in names)}m{text}\x1b[0m"


def lively(stream: TextIO | None = None) -> bool:
    """Whether the stream (stdout by default) is a terminal that wants colours and can move its cursor."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and (stream or sys.stdout).isatty()


def harmless(text: str) -> str:
    """Text of another program or a model without control characters: it cannot move the cursor or change the terminal."""
    return text.replace("\r\n", "\n").translate(_CONTROL)


def note(text: str) -> None:
    """A line beside the result, on stderr: stdout stays what a script can read."""
    print(text, file=sys.stderr, flush=True)


def print_error(error: MeshError) -> None:
    """One error as the operator sees it."""
    from mesh.secrets.value import redact

    head, *tail = redact(harmless(str(error))).splitlines() or [""]
    label = style("error:", "red", "bold", stream=sys.stderr)
    print("\n".join([f"{label} {head}", *tail]), file=sys.stderr, flush=True)


def table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    """Left-aligned columns, two spaces apart. The last column is not padded."""
    widths = [max(len(row[column]) for row in [headers, *rows]) for column in range(len(headers))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [headers, *rows]]
    return "\n".join([style(lines[0], "dim"), *lines[1:]])


def confirm(question: str, *, otherwise: str) -> bool:
    """Ask on the terminal; only `y` or `yes` is a yes. `otherwise` says what to do where there is no terminal to ask on."""
    if not sys.stdin.isatty():
        raise MeshError("there is no terminal to ask on", why=question, mend=otherwise)
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
