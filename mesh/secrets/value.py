"""A secret's value in memory, wrapped so that it cannot be printed by accident."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from urllib.parse import quote

_REDACTED = "[REDACTED]"
_SHORTEST = 6
"""Values below this many characters are not searched for in text: they would blank out ordinary words."""

_seen: set[str] = set()


@dataclass(frozen=True, slots=True)
class Source:
    """Where a secret comes from when not from secrets.age: an environment variable, or a command that prints it."""

    env: str | None = None
    command: tuple[str, ...] | None = None


class Secret:
    """The value of a secret. Printing, formatting and pickling never show it; `reveal` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        _seen.update(form for form in forms(value) if len(form) >= _SHORTEST)

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return _REDACTED

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return _REDACTED

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a secret is never pickled")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


def forms(value: str) -> set[str]:
    """The value as it may stand in a text: as it is, each of its lines, in a shell word, a JSON string or a URL, in base64."""
    shell = value.replace("'", "'\\''")
    encoded = base64.b64encode(value.encode("utf-8", "surrogateescape")).decode()
    quoted = quote(value.encode("utf-8", "surrogateescape"), safe="")
    return {value, *value.splitlines(), shell, *shell.splitlines(), json.dumps(value)[1:-1], quoted, encoded}


def redact(text: str) -> str:
    """`text` without the values of any secret that this process has opened: the net below every error message."""
    for value in sorted(_seen, key=len, reverse=True):
        text = text.replace(value, _REDACTED)
    return text
