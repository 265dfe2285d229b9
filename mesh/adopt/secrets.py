"""Which values of a Compose project are secrets, and the names that they get. In doubt a value is a secret."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from mesh.state.words import looks_secret

_HARMLESS = re.compile(r"(?i)|true|false|yes|no|on|off|none|null|[0-9]{1,5}|[0-9]+(?:ms|s|m|h|d)")
_PATH = re.compile(r"/[A-Za-z0-9._/-]*")
SHORTEST = 6
"""Characters of a value that is looked for in the rest of the file: a shorter one would be found in ordinary words."""


def is_secret(name: str, value: str) -> bool:
    """By the variable's name or the value's look. Switches, small numbers and paths (`..._FILE`) are none."""
    if _HARMLESS.fullmatch(value) or _PATH.fullmatch(value):
        return False
    return looks_secret(name, value)


@dataclass
class Vault:
    """The secrets of one stack as they are found: variable -> (name of the secret, value).

    taken: every secret that the inventory has, by name; a value that is there under the wanted name keeps it.
    """

    stack: str
    taken: Mapping[str, str]
    reserved: frozenset[str] = frozenset()
    """Variables of the stack's .env that are no secrets."""
    variables: dict[str, tuple[str, str]] = field(default_factory=dict)
    files: dict[str, tuple[str, str]] = field(default_factory=dict)
    """As `variables`, of files below secrets/."""

    def variable(self, wanted: str, value: str) -> str:
        """The variable that holds the value: the wanted one, or the first `WANTED_2`, `_3`, ... that is free."""
        base = re.sub(r"[^A-Za-z0-9_]", "_", wanted)
        base = base if re.match(r"[A-Za-z_]", base) else f"_{base}"
        number = 1
        while True:
            name = base if number == 1 else f"{base}_{number}"
            known = self.variables.get(name)
            if known is None and name not in self.reserved:
                self.variables[name] = (self._secret(name, value), value)
                return name
            if known is not None and known[1] == value:
                return name
            number += 1

    def file(self, wanted: str, value: str) -> str:
        """The name below secrets/ of a file."""
        name = re.sub(r"[^a-z0-9._-]", "-", wanted.lower()).strip("._-")[:60] or "secret"
        self.files.setdefault(name, (self._secret(name, value), value))
        return name

    def _secret(self, name: str, value: str) -> str:
        base = re.sub(r"[^a-z0-9_]", "_", f"{self.stack}_{name}".lower())[:60]
        mine = dict([*self.variables.values(), *self.files.values()])
        number = 1
        while True:
            each = base if number == 1 else f"{base}_{number}"
            known = mine.get(each, self.taken.get(each))
            if known is None or known == value:
                return each
            number += 1

    def hidden(self, text: str, ordinary: Collection[str]) -> str:
        """The text with every value in it replaced by its variable, less short ones and `ordinary` words: other names."""
        for variable, (_, value) in sorted(self.variables.items(), key=lambda item: -len(item[1][1])):
            if len(value) >= SHORTEST and value not in ordinary:
                text = text.replace(value.replace("$", "$$"), f"${{{variable}}}")
        return text
