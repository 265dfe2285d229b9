"""The one class of message that reaches the operator, and the exit codes.

Everything that can go wrong because of the spec, a host, the network or the operator is a `MeshError`. Anything
else that escapes is a bug in the tool. `mesh.cli.main` is the only place that turns one into text and an exit code.
"""

from __future__ import annotations

from dataclasses import dataclass

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_CHANGES = 2
"""`mesh plan` found changes, `mesh drift` found drift (the habit of Terraform's detailed exit codes)."""


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a file. `line` and `column` count from 1; 0 means that only the file is known."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}:{self.column}" if self.column else f"{self.file}:{self.line}"


class MeshError(Exception):
    """A message for the operator.

    what:  one sentence, no full stop needed.
    where: a `Location`, a host, `host/stack`, or a file.
    why:   the cause as far as it is known (the other program's own words, say).
    mend:  what to do about it.
    """

    def __init__(self, what: str, *, where: Location | str = "", why: str = "", mend: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = str(where)
        self.why = why
        self.mend = mend

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        tail = [f"  why:  {self.why}"] if self.why else []
        tail += [f"  mend: {self.mend}"] if self.mend else []
        return "\n".join([head, *tail])
