"""All secrets of an inventory by name, wherever each comes from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mesh.errors import MeshError
from mesh.secrets.fingerprints import SALT, fingerprint
from mesh.secrets.value import Secret, Source

if TYPE_CHECKING:
    from mesh.secrets.agefile import AgeFile

PLACEHOLDER = "0" * 16
"""Fingerprint of a secret that cannot be opened here; `mesh render` only."""


class SecretStore:
    """The spec's `secrets:` entries first, secrets.age for every other name. Each value is fetched once a run."""

    def __init__(self, folder: Path, sources: Mapping[str, Source]) -> None:
        self.folder = folder
        self.sources = sources
        self._values: dict[str, Secret] = {}
        self.fingerprints: dict[str, str] = {}
        """Those that were asked for, by name."""

    @cached_property
    def _file(self) -> AgeFile:
        from mesh.secrets.agefile import AgeFile

        return AgeFile(self.folder)

    @cached_property
    def _opened(self) -> dict[str, Secret] | MeshError:
        """The contents of secrets.age, or why it cannot be opened."""
        from mesh.secrets.agefile import identity_path, load_identities

        try:
            return self._file.open(load_identities(identity_path()))
        except MeshError as error:
            return error

    @property
    def openable(self) -> bool:
        """Whether secrets.age can be opened with the identity at hand."""
        return isinstance(self._opened, dict)

    def names(self) -> frozenset[str]:
        """Every name that has a value. Without the identity: as the index and the spec say, offline and without asking."""
        return self.names_in_file() | frozenset(self.sources)

    def names_in_file(self) -> frozenset[str]:
        """The names in secrets.age; from its index where the file cannot be opened."""
        return frozenset(self._opened) if isinstance(self._opened, dict) else self._file.index().names

    def value(self, name: str) -> str:
        """The value. Raises MeshError when there is none or it cannot be had; no error text ever holds a value."""
        if name not in self._values:
            self._values[name] = self._fetch(name)
        return self._values[name].reveal()

    def _fetch(self, name: str) -> Secret:
        if name in self.sources:
            from mesh.secrets.sources import fetch

            return fetch(name, self.sources[name], self.folder)
        if isinstance(self._opened, MeshError):
            raise self._opened
        if name not in self._opened:
            from mesh.suggest import Suggester

            near = Suggester().nearest(name, self._opened)
            mend = f"did you mean secret:{near}? Otherwise: " if near else ""
            raise MeshError("this secret has no value", where=f"secret:{name}", mend=f"{mend}mesh secrets set {name}")
        return self._opened[name]

    def fingerprint(self, name: str) -> str:
        """16 hexadecimal characters that change with the value and tell nothing about it: HMAC-SHA256, keyed by mesh_salt."""
        if name not in self.fingerprints:
            self.fingerprints[name] = self._fingerprint(name)
        return self.fingerprints[name]

    def _fingerprint(self, name: str) -> str:
        try:
            salt = self.value(SALT)
        except MeshError as error:
            if SALT in self.names():
                raise
            raise MeshError(
                "the mesh has no salt for fingerprints of secrets", where=error.where, mend="mesh secrets init makes it"
            ) from error
        return fingerprint(salt, name, self.value(name))

    def indexed_fingerprint(self, name: str) -> str:
        """The fingerprint as secrets.index has it: no identity is needed. Raises MeshError where it has none."""
        found = self._file.index().fingerprints.get(name)
        if found is None:
            raise MeshError(
                "the fingerprint of this secret is not known without the age identity",
                where=f"secret:{name}",
                why="secrets.index has none for it; of a secret that comes from elsewhere it never has one",
                mend="run `mesh secrets set` once and commit secrets.index, or give this job the identity",
            )
        return found

    def placeholder_fingerprint(self, name: str) -> str:
        """The fingerprint, or a fixed placeholder when the value cannot be had here."""
        try:
            return self.fingerprint(name)
        except MeshError:
            return PLACEHOLDER
