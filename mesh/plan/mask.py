"""Lines of configuration files for the operator's eyes: no value of a secret, neither today's nor a former one. Pure.

Two kinds of files are told apart. In one that is `private` (the spec puts a secret into it, or nobody but its owner may read
the one that is there) everything shown is the spec's own literal text: a line of the host's file is shown only where it is a
line of the spec's, and in the spec's words. In any other file the known values are taken out, and what looks like one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from mesh.state.deployment import File, SecretPart

HIDDEN = "[hidden]"
HIDDEN_LINE = "[a line of a file with secrets: hidden]"
_PRIVATE_MODE = 0o077
_LONGEST = 300
"""Characters of a line that are shown."""
_DIGEST = re.compile(r"^(\s*)(- )?[\"']?mesh\.digest[\"']?(: |=).*[0-9a-f]{64}[\"']?$")
_NAMED = re.compile(
    r"(?i)([\w.-]*(?:key|token|secret|passw|pwd|cred|auth|salt|dsn|cookie|session|private)[\w.-]*[\"']?\s*(?::\s|[=:]|\s=>)\s*)(\S.*)$"
)
_HARMLESS = re.compile(
    r"^[\"']?(?:[-+]?[\d._]{1,9}[a-zA-Z%]?|true|false|null|none|os\.environ/\w+|\$\{?\w+\}?|/[\w./-]*)?[\"']?,?$", re.I
)
_OPENS = re.compile(r"^[\"']?[\[{|>&]?[+-]?$")
_USERINFO = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")
_PREFIXED = re.compile(r"\b((?:sk|pk|rk|ghp|gho|gsk|glpat|xox[a-z]|AKIA|AGE-SECRET-KEY)[-_]?)[A-Za-z0-9_-]{8,}")
_RANDOM = re.compile(r"(?<![A-Za-z0-9_:@.-])(?=(?:[A-Za-z_-]*\d){4})[A-Za-z0-9+_-]{32,}={0,2}")
_PEM = re.compile(r"-----BEGIN.*|^\s*[A-Za-z0-9+/]{60,}={0,2}\s*$")


@dataclass(frozen=True, slots=True)
class Line:
    """One line. real: what is compared, never printed. shown: what may be printed.

    before, after: the literal text around the secrets that are in it; None where there are none.
    """

    real: str
    shown: str
    before: str | None = None
    after: str | None = None


def is_private(file: File | None, mode: int | None) -> bool:
    """Whether a file may hold secrets, by the spec's text of it and by the permission bits of the one on the host."""
    return (file is not None and bool(file.secret_names)) or (mode is not None and not mode & _PRIVATE_MODE)


def wanted_lines(file: File, value_of: Callable[[str], str], redact: Callable[[str], str]) -> list[Line]:
    """The spec's text. Raises UnicodeDecodeError where it is not text.

    value_of: a secret's value by name. redact: takes the known values out of a text.
    """
    lines, real, shown, before, after = [], "", "", None, ""
    for part in file.text:
        secret = isinstance(part, SecretPart)
        text = replace(file, text=(part,)).content(value_of).decode()
        for number, piece in enumerate(text.split("\n")):
            if number:
                lines.append(_line(real, shown, before, after, redact))
                real, shown, before, after = "", "", None, ""
            real += piece
            if secret:
                before, after = shown if before is None else before, ""
                shown += "" if shown.endswith(HIDDEN) else HIDDEN
            else:
                shown += piece
                after += piece
    return [*lines, _line(real, shown, before, after, redact)] if real or shown else lines


def _line(real: str, shown: str, before: str | None, after: str, redact: Callable[[str], str]) -> Line:
    if _DIGEST.match(real):
        return digest_line(real)
    return Line(real, without_secrets(shown, redact), before, None if before is None else after)


def digest_line(real: str) -> Line:
    """A line with a service's digest: it follows from everything else that changes, so it counts as unchanged."""
    found = _DIGEST.match(real)
    assert found is not None
    return Line("mesh.digest", f"{found[1]}{found[2] or ''}mesh.digest{found[3]}...")


def found_lines(text: str, wanted: list[Line], *, private: bool, redact: Callable[[str], str]) -> list[Line]:
    """The host's text, line by line."""
    same = {line.real: line.shown for line in wanted}
    places = [line for line in wanted if line.before is not None]
    lines = []
    for real in text.split("\n")[: -1 if text.endswith("\n") or not text else None]:
        if _DIGEST.match(real):
            lines.append(digest_line(real))
        elif real in same:
            lines.append(Line(real, same[real]))
        else:
            lines.append(Line(real, _of_place(real, places) if private else without_secrets(real, redact)))
    return lines


def _of_place(real: str, places: list[Line]) -> str:
    """A line of the host's at whose place the spec has a secret, in the spec's words; any other line is hidden whole."""
    for line in places:
        before, after = line.before or "", line.after or ""
        if real.startswith(before) and real.endswith(after) and len(real) >= len(before) + len(after):
            return line.shown
    return HIDDEN_LINE


def without_secrets(text: str, redact: Callable[[str], str]) -> str:
    """A line without known values and without what looks like one, by its name or by its form.

    Of a long line only the first words are kept: what is cut could no longer be told from a secret.
    """
    text = redact(text)
    if len(text) > _LONGEST:
        head, space, _ = text[:_LONGEST].rpartition(" ")
        text = f"{head}{space}{HIDDEN}"
    text = _PEM.sub(HIDDEN, text)
    text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
    text = _PREFIXED.sub(rf"\1{HIDDEN}", text)
    text = _RANDOM.sub(HIDDEN, text)
    named = _NAMED.search(text)
    if named and not _HARMLESS.match(named[2]) and not _OPENS.match(named[2]):
        return text[: named.start()] + named[1] + HIDDEN
    return text
