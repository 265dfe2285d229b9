"""inventory/secrets.age and its index, and the identity (the private key) that opens it.

secrets.age is an ordinary armored age file; `age -d -i IDENTITY secrets.age` opens it as well. secrets.index holds the
recipients, the names and a keyed fingerprint of each value, no values: `mesh check` finds a missing secret by name, and
`mesh drift --no-secrets` compares what was made from them, where the identity is not.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesh.errors import MeshError
from mesh.files import write_atomically
from mesh.secrets import document
from mesh.secrets.fingerprints import SALT, fingerprint
from mesh.secrets.value import Secret

IDENTITY_VARIABLE = "MESH_AGE_IDENTITY"
_INDEX_HEAD = "# Names, recipients and keyed fingerprints of secrets.age, without values. Written by `mesh secrets`.\n"
_INIT = "run `mesh secrets init` in your own inventory"


class NotOpenableError(MeshError):
    """The file is sound, but belongs to another identity, or there is no identity here."""


def identity_path() -> Path:
    """$MESH_AGE_IDENTITY, or ~/.config/homelab-mesh/identity.txt."""
    given = os.environ.get(IDENTITY_VARIABLE)
    return Path(given).expanduser() if given else Path.home() / ".config" / "homelab-mesh" / "identity.txt"


def load_identities(path: Path) -> list[Any]:
    """The age identities in a file as age-keygen writes it. Raises NotOpenableError when there is no such file."""
    import pyrage

    try:
        mode = path.stat().st_mode
        text = path.read_text("utf-8")
    except FileNotFoundError:
        mend = f"{_INIT}, or point ${IDENTITY_VARIABLE} at the identity"
        raise NotOpenableError("there is no age identity to open the secrets with", where=str(path), mend=mend) from None
    except (OSError, UnicodeDecodeError) as error:
        raise MeshError("the age identity cannot be read", where=str(path), why=_reason(error)) from None
    if stat.S_IMODE(mode) & 0o077:
        why = f"its mode is {stat.S_IMODE(mode):04o}: others on this machine can read the key to every secret"
        raise MeshError("the age identity is not private", where=str(path), why=why, mend=f"chmod 600 {path}")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        identities = [pyrage.x25519.Identity.from_str(line) for line in lines]
    except pyrage.IdentityError:
        identities = []
    if not identities:
        mend = "it should hold a line that starts with AGE-SECRET-KEY-1, as age-keygen writes it"
        raise MeshError("this is not an age identity", where=str(path), mend=mend)
    return identities


def create_identity(path: Path) -> Any:
    """A new identity in a file that only its owner can read. Never replaces a file."""
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(
                f"# homelab-mesh: keep a copy of this file in a safe place\n# public key: {identity.to_public()}\n{identity}\n"
            )
    except OSError as error:
        raise MeshError("the age identity cannot be written", where=str(path), why=_reason(error)) from None
    return identity


@dataclass(frozen=True, slots=True)
class Index:
    """secrets.index: who can open the file, the names in it, and fingerprints that tell nothing but that a value changed."""

    recipients: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    fingerprints: Mapping[str, str] = field(default_factory=dict)


class AgeFile:
    """secrets.age and secrets.index of one inventory folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "secrets.age"
        self.index_path = folder / "secrets.index"

    def index(self) -> Index:
        """The index; empty when there is none."""
        try:
            text = self.index_path.read_text("utf-8")
        except FileNotFoundError:
            return Index()
        except (OSError, UnicodeDecodeError) as error:
            raise MeshError("the index of the secrets cannot be read", where=str(self.index_path), why=_reason(error)) from None
        import yaml

        try:
            data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except (yaml.YAMLError, RecursionError):
            data = None
        recipients, names = (
            (_texts(data.get("recipients")), _texts(data.get("names"))) if isinstance(data, dict) else (None, None)
        )
        if recipients is None or names is None:
            mend = "any `mesh secrets set` writes it anew; do not edit it by hand"
            raise MeshError("the index of the secrets is damaged", where=str(self.index_path), mend=mend)
        prints = data.get("fingerprints") or {}
        if not isinstance(prints, dict):
            prints = {}
        return Index(recipients, frozenset(names), {str(name): str(text) for name, text in prints.items()})

    def open(self, identities: list[Any]) -> dict[str, Secret]:
        """Every secret by name. Raises NotOpenableError for another key's file, MeshError for a missing or broken one."""
        import pyrage

        where = str(self.path)
        try:
            sealed = self.path.read_bytes()
        except FileNotFoundError:
            raise MeshError("there is no file of secrets", where=where, mend=_INIT) from None
        except OSError as error:
            raise MeshError("the file of secrets cannot be read", where=where, why=_reason(error)) from None
        if not sealed.startswith((b"-----BEGIN AGE ENCRYPTED FILE-----", b"age-encryption.org/")):
            raise MeshError("this is not an age file", where=where, mend=f"restore it from version control, or {_INIT}")
        try:
            text = bytes(pyrage.decrypt(sealed, identities)).decode("utf-8")
        except pyrage.DecryptError as error:
            if "No matching keys" in str(error):
                mend = f"point ${IDENTITY_VARIABLE} at the identity they were made for, or `mesh secrets init --replace`"
                raise NotOpenableError(
                    "these secrets belong to another key", where=where, why=f"{identity_path()} does not open them", mend=mend
                ) from None
            raise MeshError(
                "the file of secrets is damaged or cut short", where=where, why=str(error), mend="restore it from version control"
            ) from None
        except UnicodeDecodeError:
            raise MeshError("the file of secrets holds something else than text", where=where) from None
        return document.parse(text, where=f"{where} (decrypted)")

    def save(self, values: dict[str, Secret], recipients: tuple[str, ...]) -> None:
        """Encrypt to every recipient and write both files, the index last: a killed run leaves it a name short at worst."""
        import pyrage
        import yaml

        try:
            keys = [pyrage.x25519.Recipient.from_str(recipient) for recipient in recipients]
        except pyrage.RecipientError:
            mend = "every recipient is a public key that starts with age1"
            raise MeshError("the index names a recipient that is not an age key", where=str(self.index_path), mend=mend) from None
        write_atomically(self.path, bytes(pyrage.encrypt(document.dump(values).encode(), keys, armored=True)))
        data: dict[str, Any] = {"recipients": list(recipients), "names": sorted(values)}
        if SALT in values:
            salt = values[SALT].reveal()
            data["fingerprints"] = {name: fingerprint(salt, name, values[name].reveal()) for name in sorted(values)}
        listing = yaml.safe_dump(data, sort_keys=False)
        write_atomically(self.index_path, (_INDEX_HEAD + listing).encode())


def _texts(value: object) -> tuple[str, ...] | None:
    return tuple(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else (error.strerror or type(error).__name__)
