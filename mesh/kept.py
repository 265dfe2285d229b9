"""What an inventory compiled to, kept for the next run: the same inputs always give the same Deployment, so it can be looked up.

There is one entry for each inventory folder, a file in $XDG_CACHE_HOME/homelab-mesh/kept (~/.cache/homelab-mesh/kept). It lists
everything that was read to check and compile the spec: an audit hook of Python's sees each file opened and each folder listed,
so nothing has to be listed by hand. An entry counts as long as all of that, the tool itself, the Python packages and the day
(a rule may look at it) are the same, and every secret has the value that it had. Anything odd about an entry means that there
is none. docs/kept.md says it for operators.

The entry is sealed with the operator's own age identity, like secrets.age: a Deployment holds no secret of the mesh, but an
operator's own compose.yaml or .env may. It is written with marshal, like Python's own .pyc files, and only read when it is
ours and nobody else can write or read it.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import os
import stat
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.errors import MeshError
from mesh.paths import PROJECT
from mesh.secrets.agefile import identity_path, load_identities
from mesh.secrets.store import SecretStore
from mesh.secrets.value import Source
from mesh.state import deployment as shapes
from mesh.state.deployment import Deployment, Reach
from mesh.state.ignores import Ignore

_ASKED_FOR = ("mesh.yaml", "mesh.yml", "mesh.py", "catalogue.yaml", "images.lock", "secrets.age", "secrets.index")
"""Files of an inventory whose absence counts too. Where one is absent it may only have been asked for, and never opened."""
_CLASSES: tuple[type[Any], ...] = (
    *(each for each in vars(shapes).values() if hasattr(each, "__dataclass_fields__")),
    *(Ignore, Source),
)
"""What an entry consists of: all that a Deployment does, and two more."""
_MOST_ENTRIES = 16
_LARGEST = 16 * 1024**2
"""Bytes of an entry."""
_SETTLED_NS = 10**9
"""An input that changed less than this before it was read, or since, is not relied on: it may have changed once more."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What plan, apply and drift need of an inventory. fingerprints: of the secrets that the digests are made from, by name."""

    deployment: Deployment
    reach: Mapping[str, Reach]
    ignores: tuple[Ignore, ...]
    sources: Mapping[str, Source]
    fingerprints: Mapping[str, str]

    def fits(self, secrets: SecretStore) -> bool:
        """Whether every secret still has the value that it had."""
        try:
            return all(secrets.fingerprint(name) == known for name, known in self.fingerprints.items())
        except MeshError:
            return False


def recall(folder: Path) -> Kept | None:
    """What is kept of an inventory, if it still holds. The secrets are for the caller to compare: `fits`."""
    try:
        made_with, inputs, packed = marshal.loads(_unsealed(_entry(folder)))
        if made_with != _made_with() or any(_state(path)[0] != known for path, known in inputs.items()):
            return None
        mesh, hosts, gateway, reach, ignores, sources, fingerprints = (_unpacked(each) for each in packed)
        return Kept(Deployment(mesh, {host.name: host for host in hosts}, gateway), reach, ignores, sources, fingerprints)
    except (OSError, MeshError, ValueError, EOFError, TypeError, RuntimeError):
        return None


class Watch:
    """Everything that is read from now on. Made before an inventory is opened; `keep` makes an entry of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._began = time.time_ns()
        self._seen = {str((folder / name).absolute()) for name in _ASKED_FOR}
        self._watching = True
        libraries = [path for path in sys.path if path.endswith("-packages")]
        self._covered = tuple(f"{path}{os.sep}" for path in (os.path.dirname(os.__file__), str(PROJECT / "mesh"), *libraries))  # noqa: PTH120
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._watching or event not in ("open", "os.listdir", "os.scandir"):
            return
        path = arguments[0]
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if isinstance(path, str | bytes | os.PathLike) and not writes:
            self._seen.add(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100  Path.absolute takes no `..` out

    def keep(self, kept: Kept) -> None:
        """Write the entry, unless an input may have changed meanwhile. Where it cannot be written, there is none."""
        self._watching = False
        if (self.folder / "mesh.py").exists():
            return  # any program: it may read the clock, the environment, the network
        inputs = {}
        for path in map(_source_of, self._seen):
            if path in sys.path or f"{path}/".startswith(self._covered):
                continue  # Python looking for modules; `_made_with` has what can be there
            inputs[path], changed = _state(path)
            if changed > self._began - _SETTLED_NS:
                return
        deployment = kept.deployment
        parts = (deployment.mesh, tuple(deployment.hosts.values()), deployment.gateway)
        packed = tuple(
            _packed(each) for each in (*parts, dict(kept.reach), kept.ignores, dict(kept.sources), dict(kept.fingerprints))
        )
        with contextlib.suppress(OSError, MeshError, ValueError, RuntimeError):
            content = _sealed(marshal.dumps((_made_with(), inputs, packed)))
            if len(content) <= _LARGEST:
                _store(_entry(self.folder), content)


def _entry(folder: Path) -> Path:
    given = os.environ.get("XDG_CACHE_HOME", "")
    cache = Path(given) if given.startswith("/") else Path.home() / ".cache"
    return cache / "homelab-mesh" / "kept" / f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]}.kept"


def _store(entry: Path, content: bytes) -> None:
    from mesh.files import write_atomically

    entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(entry, content, mode=0o600)
    entries = sorted(entry.parent.glob("*.kept"), key=lambda each: each.stat().st_mtime_ns)
    for old in entries[:-_MOST_ENTRIES]:
        old.unlink()


def _sealed(content: bytes) -> bytes:
    import pyrage

    return bytes(pyrage.encrypt(content, [each.to_public() for each in load_identities(identity_path())]))


def _unsealed(entry: Path) -> bytes:
    """The content of an entry. Raises OSError, MeshError or ValueError for one that is not ours, or not whole."""
    import pyrage

    with open(os.open(entry, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:  # noqa: PTH123
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise ValueError("somebody else may have written it")
        content = file.read(_LARGEST)
    try:
        return bytes(pyrage.decrypt(content, load_identities(identity_path())))
    except pyrage.DecryptError as error:
        raise ValueError("not sealed with this identity") from error


def _made_with() -> tuple[Any, ...]:
    """The day, Python, its packages by the time of their folders, and the tool's own files by size and time."""
    packages = tuple((path, os.stat(path).st_mtime_ns) for path in sys.path if path.endswith("-packages") and os.path.isdir(path))  # noqa: PTH112, PTH116
    return _today(), sys.version, packages, tuple(_files_below(str(PROJECT / "mesh")))


def _today() -> str:
    return time.strftime("%Y-%m-%d")


def _files_below(folder: str) -> list[tuple[str, int, int]]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                found += _files_below(entry.path) if entry.name != "__pycache__" else []
            else:
                status = entry.stat()
                found.append((entry.path, status.st_size, status.st_mtime_ns))
    return sorted(found)


def _state(path: str) -> tuple[bytes, int]:
    """A digest of what is at `path`: its mode, a file's content, a folder's names, nothing at all. And when it changed, in ns."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return b"", 0
    if stat.S_ISDIR(status.st_mode):
        content = "\0".join(sorted(name for name in os.listdir(path) if name != "__pycache__")).encode("utf-8", "surrogateescape")  # noqa: PTH208
        changed = 0  # its names are compared, and Python's own __pycache__ changes its time
    elif stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:  # noqa: PTH123
            content = file.read()
        changed = max(status.st_mtime_ns, status.st_ctime_ns)
    else:
        content, changed = b"", 0
    return hashlib.sha256(b"%o\0" % status.st_mode + content).digest(), changed


def _source_of(path: str) -> str:
    """The .py file where Python opened what it had compiled from it."""
    folder, _, name = path.rpartition("/__pycache__/")
    return f"{folder}/{name.partition('.')[0]}.py" if folder and name.endswith(".pyc") else path


def _packed(value: Any) -> Any:
    """Dataclasses of _CLASSES as tuples that begin with an Ellipsis; definitions of services are plain data already."""
    if type(value) in _CLASSES:
        kind = type(value)
        return (..., _CLASSES.index(kind), *(_packed(getattr(value, name)) for name in kind.__slots__))
    if type(value) is tuple:
        return tuple(map(_packed, value))
    if type(value) is dict and value and type(next(iter(value.values()))) in _CLASSES:
        return {key: _packed(each) for key, each in value.items()}
    return value


def _unpacked(value: Any) -> Any:
    if type(value) is tuple:
        if value[:1] == (...,):
            return _CLASSES[value[1]](*map(_unpacked, value[2:]))
        return tuple(map(_unpacked, value))
    if type(value) is dict and value and type(next(iter(value.values()))) is tuple:
        return {key: _unpacked(each) for key, each in value.items()}
    return value
