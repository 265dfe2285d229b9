"""A project as it was found, and what is to be written for it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesh.adopt.host import FoundProject
from mesh.compile import dotenv
from mesh.compile.interpolate import InterpolationError, interpolate
from mesh.compile.library import StackFolder


class NotAdoptableError(Exception):
    """The project stays as it is. The message says why."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """What is written for one project. files: bytes and whether executable, by path in the folder, compose.yaml among them.

    env, secret_files: for the spec, name -> name of the secret. values: of secrets, by name. pins: `repo:tag` -> digest.
    stays: paths on the host that the folder refers to. notes: what the operator should know.
    """

    project: FoundProject
    files: Mapping[str, tuple[bytes, bool]]
    env: Mapping[str, str]
    secret_files: Mapping[str, str]
    values: Mapping[str, str]
    pins: Mapping[str, str]
    pinned: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class Source:
    """The project's own files as fetched: `variables` is the text of its .env, or of what it was given in its place."""

    project: FoundProject
    compose: str
    variables: str
    data: dict[str, Any] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.data = StackFolder(Path(self.project.folder), None, self.compose, {}).parsed()
        self.known = dotenv.parse(self.variables, f"{self.project.folder}/.env", lambda _: None)

    def path(self, written: str) -> str:
        """As written, below the project's folder where it is relative."""
        try:
            text = interpolate(written, self.known.get)
        except InterpolationError as error:
            raise NotAdoptableError(f"{written}: {error}") from None
        return posixpath.normpath(posixpath.join(self.project.folder, text))

    def env_files(self) -> Iterator[str]:
        """As written, in every service."""
        for service in self.data["services"].values():
            entries = service.get("env_file")
            for entry in entries if isinstance(entries, list) else [entries] if entries else []:
                yield str(entry.get("path", "") if isinstance(entry, Mapping) else entry)

    def mounts(self) -> Iterator[tuple[str, bool]]:
        """Relative sources of bind mounts, and whether each is mounted read-only."""
        for service in self.data["services"].values():
            for volume in service.get("volumes") or ():
                if isinstance(volume, Mapping):
                    source, only = str(volume.get("source", "")), bool(volume.get("read_only"))
                    if volume.get("type") == "bind" and source.startswith("."):
                        yield source, only
                elif str(volume).startswith("."):
                    source, _, rest = str(volume).partition(":")
                    yield source, "ro" in rest.rpartition(":")[2].split(",") and ":" in rest

    def sections(self, section: str) -> Iterator[str]:
        for declared in (self.data.get(section) or {}).values():
            if (declared or {}).get("file"):
                yield str(declared["file"])

    def wanted(self) -> tuple[list[str], list[str]]:
        """(files, trees) to fetch: everything relative that it takes content from."""
        files = [self.path(each) for each in (*self.env_files(), *self.sections("configs"), *self.sections("secrets"))]
        trees = [self.path(source) for source, _ in self.mounts()]
        return list(dict.fromkeys(files)), list(dict.fromkeys(trees))
