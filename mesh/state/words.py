"""How differences are put into words without giving a secret away."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_SECRET_NAME = re.compile(r"key|token|secret|pass|pwd|cred|auth|salt|dsn|cookie|session|private", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"://[^/\s]*:[^/\s]*@|^(sk|pk|ghp|gsk|xox[a-z])[-_]|-----BEGIN|^[A-Za-z0-9+/_=-]{32,}$")
_LONGEST = 60
"""Characters of a value that are shown."""


def environment_differences(wanted: Mapping[str, str], seen: Iterable[str]) -> list[str]:
    """One phrase a variable that is missing or has another value. Values that could be secrets are not shown."""
    has = dict(pair.partition("=")[::2] for pair in seen)
    phrases = []
    for name, value in sorted(wanted.items()):
        if name not in has:
            phrases.append(f"environment lacks {name}")
        elif has[name] != value:
            phrases.append(f"environment {name}: {shown(name, has[name])}, should be {shown(name, value)}")
    return phrases


def looks_secret(name: str, value: str) -> bool:
    """Whether a variable could be a secret, by its name or by the look of its value."""
    return bool(_SECRET_NAME.search(name) or _SECRET_VALUE.search(value))


def shown(name: str, value: str) -> str:
    """A variable's value for the operator's eyes, or that it is hidden."""
    if looks_secret(name, value):
        return "(hidden)"
    return repr(value if len(value) <= _LONGEST else f"{value[:_LONGEST]}...")


def short(image_id: str) -> str:
    """`sha256:0123...` as Docker shortens it."""
    return image_id.removeprefix("sha256:")[:12]
