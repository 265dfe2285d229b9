"""Host keys: what a host answers with, and which of them the inventory trusts (known_hosts, in OpenSSH's own form)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mesh.errors import MeshError
from mesh.files import write_atomically

_KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
"""Best first."""
SCAN_SECONDS = 5


@dataclass(frozen=True, slots=True)
class HostKey:
    """A public key: its kind, and the key in base64."""

    kind: str
    blob: str

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -lf` prints it: `SHA256:...`. Raises ValueError for what is no key."""
        digest = hashlib.sha256(base64.b64decode(self.blob, validate=True)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def entry_of(address: str, port: int) -> str:
    """How known_hosts names a host."""
    return address if port == 22 else f"[{address}]:{port}"


def scan(address: str, port: int) -> HostKey:
    """The best key that the host answers with. Nothing says yet that it is that host: somebody has to compare it."""
    command = ["ssh-keyscan", "-T", str(SCAN_SECONDS), "-p", str(port), "-t", "ed25519,ecdsa,rsa", "--", address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=4 * SCAN_SECONDS, check=False)
    except FileNotFoundError:
        raise MeshError("there is no ssh-keyscan on this machine", mend="install the OpenSSH client") from None
    except subprocess.TimeoutExpired:
        raise MeshError("the host does not finish its answer", where=f"{address} port {port}", mend="is it overloaded?") from None
    found = {key.kind: key for line in done.stdout.splitlines() if (key := _key(line.split()[1:]))}
    best = next((found[kind] for kind in _KINDS if kind in found), None)
    if best is None:
        why = " ".join(line for line in done.stderr.splitlines() if not line.startswith("#")) or "no SSH server answers"
        mend = "is it on, and are its address and ssh.port right? A host behind a jump host: add its line to known_hosts by hand"
        raise MeshError("the host's key cannot be had", where=f"{address} port {port}", why=why, mend=mend)
    return best


def known(path: Path, address: str, port: int) -> tuple[HostKey, ...]:
    """The keys that known_hosts has for a host."""
    entry = entry_of(address, port)
    return tuple(key for line in _lines(path) if _is_for(line, entry) and (key := _key(line.split()[1:])))


def trust(path: Path, address: str, port: int, key: HostKey) -> None:
    """Make this the one key of the host in known_hosts; every other line stays."""
    entry = entry_of(address, port)
    kept = [left for line in _lines(path) if (left := _without(line, entry)) is not None]
    write_atomically(path, "".join(f"{line}\n" for line in [*kept, f"{entry} {key.kind} {key.blob}"]).encode())


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise MeshError("known_hosts cannot be read", where=str(path), why=str(error)) from None


def _is_for(line: str, entry: str) -> bool:
    """Whether a line names this host; names may be hashed. Patterns and marked lines (@cert-authority) are nobody's."""
    names = line.split(maxsplit=1)[0] if line.strip() else ""
    if names.startswith("|1|"):
        _, _, salt, digest = (*names.split("|"), "", "")[:4]
        try:
            made = hmac.new(base64.b64decode(salt), entry.encode(), hashlib.sha1).digest()
        except (binascii.Error, ValueError):
            return False
        return base64.b64encode(made).decode() == digest
    return entry in names.split(",")


def _without(line: str, entry: str) -> str | None:
    """The line for the other hosts that it names; None where there are none."""
    if not _is_for(line, entry):
        return line
    names, _, rest = line.strip().partition(" ")
    others = [name for name in names.split(",") if name != entry and not name.startswith("|")]
    return f"{','.join(others)} {rest}" if others else None


def _key(words: list[str]) -> HostKey | None:
    """`KIND BLOB` of a line, if that is what it is."""
    if len(words) < 2 or words[0] not in _KINDS:
        return None
    key = HostKey(words[0], words[1])
    try:
        return key if key.fingerprint else None
    except (binascii.Error, ValueError):
        return None


def public_key(path: Path) -> str:
    """`KIND BLOB COMMENT` of a public key file. Raises MeshError for anything else, a private key above all."""
    make = f"ssh-keygen -t ed25519 -N '' -C mesh-drift -f mesh-drift; mv mesh-drift.pub {path}"
    mend = f"make one for CI alone: {make}; the private half goes into CI's secret store"
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise MeshError("there is no public key for CI", where=str(path), mend=mend) from None
    except (OSError, UnicodeDecodeError) as error:
        raise MeshError("the public key cannot be read", where=str(path), why=str(error)) from None
    if "PRIVATE KEY" in text:
        raise MeshError("this is a private key", where=str(path), mend="give the file that ends in .pub")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    words = lines[0].split() if len(lines) == 1 else []
    kinds = (*_KINDS, "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com")
    if len(words) < 2 or words[0] not in kinds or not words[1].isascii() or '"' in lines[0]:
        raise MeshError("this is not one public key", where=str(path), mend=mend)
    comment = "".join(letter for letter in " ".join(words[2:]) if letter.isprintable())
    return " ".join(filter(None, (words[0], words[1], comment)))
