"""Plan: the one diff of Deployment and Observed. `plan` prints it, `apply` does it, `drift` reports it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Subject = Literal["file", "service", "container", "model", "route", "image"]
Verb = Literal["create", "update", "remove", "restart"]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as the spec says.

    name: what it is about (a path, a service, a model tag, a route).
    why:  one sentence with the difference; values of secrets never appear in it.
    """

    host: str
    stack: str
    subject: Subject
    name: str
    verb: Verb
    why: str


@dataclass(frozen=True, slots=True)
class Deviation:
    """Something that is not as the spec says and that no apply can mend: another card, a model that spilled, a volume left over.

    stack: empty for the host itself. name: a card, `VRAM`, a model's tag, a volume. mend: what the operator can do.
    """

    host: str
    stack: str
    subject: Literal["card", "model", "volume", "network", "setting"]
    name: str
    why: str
    mend: str


@dataclass(frozen=True, slots=True)
class CannotTell:
    """A host or service that could not be read, so that nothing can be said about it."""

    where: str
    why: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """All differences, in a stable order, and what could not be read."""

    changes: tuple[Change, ...] = ()
    unknown: tuple[CannotTell, ...] = ()
    foreign: tuple[str, ...] = ()
    """`host/container` names that run beside the mesh: reported, never touched."""
    notes: tuple[str, ...] = ()
    """Worth knowing, and nothing that apply would change: models nobody asked for, an apply that is running."""

    deviations: tuple[Deviation, ...] = ()
    """Not as the spec says, and not for apply to mend: drift all the same."""

    @property
    def clean(self) -> bool:
        return not self.changes and not self.unknown and not self.deviations

    def stacks(self, host: str) -> tuple[str, ...]:
        """The host's stacks with at least one change, in order of first appearance."""
        return tuple(dict.fromkeys(change.stack for change in self.changes if change.host == host))
