"""Which of a repository's tags are newer than one: by version, of the same kind. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_TAG = re.compile(r"(v?)([0-9]+(?:\.[0-9]+){0,3})((?:[-_.+][A-Za-z0-9.+_-]*)?)")
_TRIAL = re.compile(r"(?i)(?:^|[-_.+])(?:rc|alpha|beta|dev|pre|preview|nightly|edge|snapshot|test|canary|m)\.?[0-9]*(?=$|[-_.+])")


@dataclass(frozen=True, slots=True)
class Version:
    """`v1.29.1-alpine` in its parts: prefix `v`, numbers 1, 29 and 1, variant `-alpine`."""

    prefix: str
    numbers: tuple[int, ...]
    variant: str

    @classmethod
    def parse(cls, tag: str) -> Version | None:
        """None for a tag that is no version."""
        match = _TAG.fullmatch(tag)
        return cls(match[1], tuple(int(part) for part in match[2].split(".")), match[3]) if match else None

    def like(self, other: Version) -> bool:
        """Whether both are of one kind: written alike, as exact as each other, and of one variant."""
        return (self.prefix, len(self.numbers), self.variant) == (other.prefix, len(other.numbers), other.variant)

    @property
    def calendar(self) -> bool:
        """A date rather than a version, such as 20240131."""
        return self.numbers[0] >= 10_000


def newest(tag: str, tags: Iterable[str]) -> str | None:
    """The highest tag above `tag` of the same kind; None where there is none. No trial version, unless `tag` is one itself.

    A date is no newer version of a number: 20240131 is not above 3.20.
    """
    mine = Version.parse(tag)
    if mine is None:
        return None
    found = [
        (version.numbers, each)
        for each in tags
        if (version := Version.parse(each)) is not None
        and version.like(mine)
        and version.calendar == mine.calendar
        and version.numbers > mine.numbers
        and (not _TRIAL.search(version.variant) or _TRIAL.search(mine.variant))
    ]
    return max(found)[1] if found else None
