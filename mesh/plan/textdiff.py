"""Unified diffs of configuration files: what is on the host against what would land, without secrets. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import SequenceMatcher

from mesh.plan.looked import Found
from mesh.plan.mask import Line, found_lines, wanted_lines
from mesh.state.deployment import File

CONTEXT = 2
"""Unchanged lines shown on either side of a change."""
LARGEST = 128 * 1024
"""Bytes of a file that is fetched and compared as text."""
_MANY = 4000
"""Lines above which the comparison is coarser."""


@dataclass(frozen=True, slots=True)
class FileDiff:
    """How a file's text changes. note: why there is no text to show, in words; empty where there is.

    lines: a unified diff without its two head lines, secrets hidden; control characters are still in it.
    """

    added: int = 0
    removed: int = 0
    lines: tuple[str, ...] = ()
    note: str = ""

    @property
    def changed(self) -> int:
        """Lines, a changed one counted once."""
        return max(self.added, self.removed)


def diff_file(
    file: File, found: Found | None, *, private: bool, value_of: Callable[[str], str], redact: Callable[[str], str]
) -> FileDiff:
    """The file of the spec against what was found in its place."""
    if found is None:
        return FileDiff(note="could not be read")
    if found.link:
        return FileDiff(note="a symbolic link lies in its place")
    content = file.content(value_of)
    if found.data is None or len(content) > LARGEST:
        return FileDiff(note=f"too large to show: {found.size} bytes now, {len(content)} then")
    try:
        if b"\0" in content + found.data:
            raise UnicodeError
        wanted = wanted_lines(file, value_of, redact)
        there = found_lines(found.data.decode(), wanted, private=private, redact=redact)
    except UnicodeError:
        return FileDiff(note=f"not text: {found.size} bytes now, {len(content)} then")
    if [line.real for line in there] == [line.real for line in wanted]:
        return FileDiff(note="only digests of services" if found.data != content and _digests(wanted) else "only how it ends")
    return _unified(there, wanted)


def _digests(lines: list[Line]) -> bool:
    return any(line.real == "mesh.digest" for line in lines)


def _unified(old: list[Line], new: list[Line]) -> FileDiff:
    many = len(old) + len(new) > _MANY  # thousands of equal lines would take minutes
    matcher = SequenceMatcher(None, [line.real for line in old], [line.real for line in new], autojunk=many)
    added = removed = 0
    lines: list[str] = []
    for group in matcher.get_grouped_opcodes(CONTEXT):
        (_, first, _, third, _), (_, _, second, _, fourth) = group[0], group[-1]
        lines.append(f"@@ -{_range(first, second)} +{_range(third, fourth)} @@")
        for tag, start, end, begin, stop in group:
            if tag == "equal":
                lines += [f" {line.shown}" for line in new[begin:stop]]
                continue
            removed, added = removed + end - start, added + stop - begin
            lines += [f"-{line.shown}" for line in old[start:end]]
            lines += [f"+{line.shown}" for line in new[begin:stop]]
    return FileDiff(added, removed, tuple(lines))


def _range(start: int, end: int) -> str:
    """As in a unified diff: the first line counts from 1, an empty range names the line before it."""
    return f"{start + 1 if end > start else start},{end - start}"
