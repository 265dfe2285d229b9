"""Findings: what `mesh check` says about a spec. Loading makes some, the rules make the others; both look the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from mesh.errors import Location, MeshError

Severity = Literal["error", "warning", "notice"]
Path = tuple[str | int, ...]
"""The way to a value in the spec: ("models", "claude", "price", "in"), ("routes", "bulk", "fallback", 1)."""

_IN_ONE_ERROR = 10
"""How many findings an exception spells out; `mesh check` lists all of them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    rule:    the id under which docs/rules.md explains it.
    message: what is wrong, one sentence without a full stop.
    mend:    what to do about it.
    path:    the way to it in the spec; empty when it is about a file as a whole.
    """

    rule: str
    severity: Severity
    message: str
    mend: str
    location: Location
    path: Path = ()


class SpecInvalid(MeshError):  # noqa: N818  it is a state of the spec, and reads as one
    """The spec cannot be used. `findings` has everything that is known to be wrong with it."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(sorted_by_place(findings))
        errors = [finding for finding in self.findings if finding.severity == "error"]
        first = errors[0]
        if len(errors) == 1:
            super().__init__(f"{first.message} [{first.rule}]", where=first.location, mend=first.mend)
            return
        lines = [f"{finding.location}: {finding.message} [{finding.rule}]" for finding in errors[:_IN_ONE_ERROR]]
        if len(errors) > _IN_ONE_ERROR:
            lines.append(f"and {len(errors) - _IN_ONE_ERROR} more")
        super().__init__(
            f"the spec has {len(errors)} errors",
            where=first.location.file,
            why="\n        ".join(lines),
            mend="`mesh check` lists them, each with how to mend it",
        )


def sorted_by_place(findings: Iterable[Finding]) -> list[Finding]:
    """Findings in the order in which a reader of the file meets them."""
    return sorted(findings, key=lambda f: (f.location.file, f.location.line, f.location.column, f.rule, f.message))


def dotted(path: Path) -> str:
    """A path as the operator would say it: routes.bulk.fallback[1]."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{shown(part)}" if text else shown(part)
    return text


def shown(text: str, limit: int = 60) -> str:
    """Text from the spec for use in a message: on one line and not longer than `limit` characters."""
    flat = "".join(character if character.isprintable() else " " for character in text)
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"
