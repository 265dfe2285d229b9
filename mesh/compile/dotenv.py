"""Files of variables, `.env` and what `env_file:` names, read as Compose reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mesh.compile.interpolate import InterpolationError, Lookup, interpolate
from mesh.errors import Location, MeshError

_KEY = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*([=:])[ \t]*")
_LONE = re.compile(r"(?:export[ \t]+)?[A-Za-z_][A-Za-z0-9_.-]*[ \t]*(?=\n|\Z)")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"'}


@dataclass(frozen=True, slots=True)
class Assignment:
    """`KEY=value`. start, end: offsets of what is written for the value, quotes included. quote: `'`, `"` or nothing.

    text: the value without its quotes, its variables not yet replaced.
    """

    key: str
    text: str
    quote: str
    start: int
    end: int
    line: int

    def value(self, lookup: Lookup) -> str:
        """The value. Raises InterpolationError."""
        if self.quote == "'":
            return self.text
        kept = self.text.replace("\\$", "$$") if self.quote else self.text
        return interpolate(kept, lookup)


def assignments(text: str, where: str) -> Iterator[Assignment]:
    """Every assignment of the file, in order. Raises MeshError with the line of what is none."""
    at = 0
    while at < len(text):
        line = text.count("\n", 0, at) + 1
        if text[at] in " \t\r\n":
            at += 1
        elif text[at] == "#" or _LONE.match(text, at):
            at = _line_end(text, at)
        elif match := _KEY.match(text, at):
            each = _assignment(text, match, line, where)
            yield each
            at = _line_end(text, each.end)
        else:
            column = at - text.rfind("\n", 0, at)
            raise MeshError("this is no line of variables", where=Location(where, line, column), mend="write NAME=value")


def _line_end(text: str, at: int) -> int:
    found = text.find("\n", at)
    return len(text) if found < 0 else found


def _assignment(text: str, match: re.Match[str], line: int, where: str) -> Assignment:
    start = match.end()
    quote = text[start : start + 1]
    if quote not in ("'", '"'):
        end = _line_end(text, start)
        raw = text[start:end]
        raw = re.split(r"(?:^|\s)#", raw, maxsplit=1)[0].rstrip()
        return Assignment(match[1], raw, "", start, start + len(raw), line)
    at, value = start + 1, ""
    while at < len(text) and text[at] != quote:
        if text[at] == "\\" and at + 1 < len(text):
            value += _unescaped(text[at + 1], quote)
            at += 2
        else:
            value += text[at]
            at += 1
    if at >= len(text):
        place = Location(where, line, start - text.rfind("\n", 0, start))
        raise MeshError("the quote is not closed", where=place, mend=f"end the value with {quote}")
    return Assignment(match[1], value, quote, start, at + 1, line)


def _unescaped(letter: str, quote: str) -> str:
    if letter == quote:
        return letter
    return _ESCAPES.get(letter, f"\\{letter}") if quote == '"' else f"\\{letter}"


def parse(text: str, where: str, lookup: Lookup) -> dict[str, str]:
    """The values by name. lookup: what is known besides the lines above. Raises MeshError with the line."""
    found: dict[str, str] = {}
    for each in assignments(text, where):
        try:
            found[each.key] = each.value(lambda name: found[name] if name in found else lookup(name))
        except InterpolationError as error:
            raise MeshError(str(error), where=Location(where, each.line), mend="give it a value, or a default") from None
    return found
