"""What the second look at a host finds, and only where something differs: texts, mounts, volumes. Pure data and its reading."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mesh.state.observed import Unknown

OTHER = "-"
"""In place of a variable's name that the spec does not know: it could be a piece of a value."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file on the host. size: bytes. data: None where it is too large to fetch. link: a symbolic link, never followed."""

    size: int = 0
    data: bytes | None = None
    link: bool = False


@dataclass(frozen=True, slots=True)
class Mount:
    """What a container has mounted, as Docker says. source: a path on the host, or a volume's name. kind: volume, bind, ..."""

    kind: str
    source: str
    target: str
    writable: bool = True


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume of the host. project: the Compose project that made it, or empty."""

    name: str
    driver: str
    options: Mapping[str, str] = field(default_factory=dict)
    project: str = ""


@dataclass(frozen=True, slots=True)
class Looked:
    """One host, looked at for the second time."""

    platform: str = ""
    """As registries name it: linux/amd64. Empty when Docker did not tell."""
    files: Mapping[str, Found] = field(default_factory=dict)
    variables: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    """File of secrets -> (variable or `-`, keyed hash of its text), in the order of the file"""
    mounts: Mapping[str, tuple[Mount, ...]] = field(default_factory=dict)
    """Container -> its mounts"""
    volumes: Mapping[str, Volume] = field(default_factory=dict)


def parse_looked(text: str, boundary: str) -> Looked | Unknown:
    """What the script of `mesh.plan.script` printed. Anything missing or odd makes it Unknown."""
    sections = list(_sections(text, boundary))
    if not sections or sections[-1][0] != "end":
        return Unknown("the host's answer was cut short", "try again")
    platform = ""
    files: dict[str, Found] = {}
    variables: dict[str, tuple[tuple[str, str], ...]] = {}
    mounts: dict[str, tuple[Mount, ...]] = {}
    volumes: dict[str, Volume] = {}
    try:
        for name, argument, body in sections:
            lines = [line for line in body.split("\n") if line]
            if name == "platform":
                platform = lines[0].strip() if lines and "/" in lines[0] else ""
            elif name == "file":
                size, _, path = argument.partition(" ")
                data = None if lines == ["large"] else base64.b64decode("".join(lines), validate=True)
                files[_unhex(path)] = Found(int(size), data)
            elif name == "link":
                files[_unhex(argument)] = Found(link=True)
            elif name == "variables":
                variables[_unhex(argument)] = tuple((each.split()[0], each.split()[1]) for each in lines)
            elif name == "mounts":
                mounts |= {data["name"].removeprefix("/"): _mounts(data) for data in map(json.loads, lines)}
            elif name == "volumes":
                volumes |= {data["name"]: _volume(data) for data in map(json.loads, lines)}
    except (binascii.Error, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        return Unknown(f"its answer makes no sense: {type(error).__name__}", "please report this with the host's docker version")
    return Looked(platform, files, variables, mounts, volumes)


def _sections(text: str, boundary: str) -> Iterator[tuple[str, str, str]]:
    for block in f"\n{text}".split(f"\n{boundary} ")[1:]:
        head, _, body = block.partition("\n")
        name, _, argument = head.strip().partition(" ")
        yield name, argument, body


def _unhex(digits: str) -> str:
    return bytes.fromhex(digits).decode("utf-8", "surrogateescape")


def _mounts(data: Mapping[str, Any]) -> tuple[Mount, ...]:
    return tuple(
        Mount(each["Type"], each.get("Name") or each.get("Source") or "", each["Destination"], bool(each.get("RW", True)))
        for each in data["mounts"] or ()
    )


def _volume(data: Mapping[str, Any]) -> Volume:
    return Volume(data["name"], data["driver"], dict(data.get("options") or {}), data.get("project") or "")


def assignments(text: str, known: frozenset[str], nonce: str) -> tuple[tuple[str, str], ...]:
    """What the script prints for a file of secrets with this text: see `assigned` there, which this must stay equal to.

    An assignment goes up to the next line that begins one, so values of several lines are whole.
    """
    found: list[tuple[str, str]] = []
    name, chunk = OTHER, ""

    def flush() -> None:
        if chunk:
            digest = hashlib.sha256(f"{nonce}{chunk}".encode("utf-8", "surrogateescape")).hexdigest()
            found.append((name if name in known else OTHER, digest))

    lines = text.split("\n")
    for line in lines[:-1] if lines[-1] == "" else lines:
        candidate, equals, _ = line.partition("=")
        if equals and "='" in line and _is_name(candidate):
            flush()
            name, chunk = candidate, ""
        chunk += f"{line}\n"
    flush()
    return tuple(found)


def _is_name(word: str) -> bool:
    return word.isascii() and word.isidentifier()
