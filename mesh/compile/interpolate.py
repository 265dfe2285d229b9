"""Compose's interpolation: `$VAR`, `${VAR:-default}` and their kin, as compose-go reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

Lookup = Callable[[str], str | None]
"""A variable's value; None where it has none."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DEPTH = 16


class InterpolationError(ValueError):
    """The text cannot be interpolated. The message is for the operator."""


def interpolate(text: str, lookup: Lookup) -> str:
    """The text with every variable in it replaced. A variable without value and default is an error, not a blank."""
    return "".join(_parts(text, lookup, 0))


def variables(text: str) -> tuple[str, ...]:
    """The names of the variables in a text, those in defaults too, in order. Malformed text has none."""
    found: list[str] = []

    def note(name: str) -> str | None:
        found.append(name)
        return None

    try:
        for _ in _parts(text, note, 0, lenient=True):
            pass
    except InterpolationError:
        return ()
    return tuple(dict.fromkeys(found))


def _parts(text: str, lookup: Lookup, depth: int, *, lenient: bool = False) -> Iterator[str]:
    if depth > _DEPTH:
        raise InterpolationError(f"defaults are nested more than {_DEPTH} deep")
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        yield text[at:dollar]
        if text.startswith("$$", dollar):
            yield "$"
            at = dollar + 2
        elif text.startswith("${", dollar):
            end = _closing(text, dollar + 2)
            yield _braced(text[dollar + 2 : end], lookup, depth, lenient=lenient)
            at = end + 1
        elif match := _NAME.match(text, dollar + 1):
            yield _value(match[0], lookup, lenient=lenient)
            at = match.end()
        else:
            raise InterpolationError("a lone `$` is no variable: write `$$` for a dollar sign")
    yield text[at:]


def _closing(text: str, start: int) -> int:
    depth = 1
    for at in range(start, len(text)):
        if text.startswith("${", at):
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if depth == 0:
                return at
    raise InterpolationError("`${` without `}`: write `$$` for a dollar sign")


def _braced(inside: str, lookup: Lookup, depth: int, *, lenient: bool) -> str:
    match = _NAME.match(inside)
    name, rest = (match[0], inside[match.end() :]) if match else ("", inside)
    operator = re.match(r":?[-?+]", rest)
    if not name or (rest and not operator):
        raise InterpolationError(f"`${{{inside}}}` is no variable: write `$$` for a dollar sign")
    if not operator:
        return _value(name, lookup, lenient=lenient)
    kind, word = operator[0], rest[operator.end() :]
    value = lookup(name)
    given = value is not None and not (kind.startswith(":") and value == "")
    if lenient:
        "".join(_parts(word, lookup, depth + 1, lenient=True))
        return ""
    if kind.endswith("+"):
        return "".join(_parts(word, lookup, depth + 1)) if given else ""
    if given:
        return value or ""
    if kind.endswith("-"):
        return "".join(_parts(word, lookup, depth + 1))
    raise InterpolationError(f"`{name}` has no value" + (f": {word}" if word else ""))


def _value(name: str, lookup: Lookup, *, lenient: bool) -> str:
    value = lookup(name)
    if value is None and not lenient:
        raise InterpolationError(f"`{name}` has no value")
    return value or ""
