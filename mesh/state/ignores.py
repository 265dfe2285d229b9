"""What drift finds, less what the spec says to ignore for now. Pure: the day is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from fnmatch import fnmatchcase
from typing import TypeVar

from mesh.state.plan import Change, Deviation, Plan

Found = TypeVar("Found", Change, Deviation)


@dataclass(frozen=True, slots=True)
class Ignore:
    """An entry of `drift.ignore`. what: as the spec writes it. until: the last day, ISO 8601. Its parts and `why` are patterns.

    stack: None for what is the host's own.
    """

    what: str
    why: str
    reason: str
    until: str
    host: str
    stack: str | None
    subject: str
    name: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """Something that differs and is not reported, and the entry that says so."""

    found: Change | Deviation
    by: Ignore


@dataclass(frozen=True, slots=True)
class Sifted:
    """A plan without what is ignored. ended: entries that hide nothing any more. idle: entries that nothing is like."""

    plan: Plan
    ignored: tuple[Ignored, ...] = ()
    ended: tuple[Ignore, ...] = ()
    idle: tuple[Ignore, ...] = ()


def sift(plan: Plan, ignores: Sequence[Ignore], today: date) -> Sifted:
    """Take out what is ignored on that day."""
    current = [each for each in ignores if today.isoformat() <= each.until]
    everything: tuple[Change | Deviation, ...] = (*plan.changes, *plan.deviations)
    by = {id(found): each for found in everything for each in current if matches(each, found)}
    ignored = tuple(Ignored(found, by[id(found)]) for found in everything if id(found) in by)
    used = {id(each.by) for each in ignored}
    left = replace(plan, changes=_without(plan.changes, by), deviations=_without(plan.deviations, by))
    ended = tuple(each for each in ignores if each.until < today.isoformat())
    return Sifted(left, ignored, ended, tuple(each for each in current if id(each) not in used))


def _without(found: Iterable[Found], by: Mapping[int, Ignore]) -> tuple[Found, ...]:
    return tuple(each for each in found if id(each) not in by)


def matches(ignore: Ignore, found: Change | Deviation) -> bool:
    """Whether the entry is about this, and about every reason that it has."""
    pairs = ((found.host, ignore.host), (found.subject, ignore.subject), (found.name, ignore.name))
    if not all(fnmatchcase(text, pattern) for text, pattern in pairs):
        return False
    if not (fnmatchcase(found.stack, ignore.stack) if ignore.stack else not found.stack):
        return False
    return all(fnmatchcase(reason, ignore.why) for reason in found.why.split("; "))
