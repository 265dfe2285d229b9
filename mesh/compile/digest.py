"""Digest of a service: everything that made it. Equal digests mean that nothing has to restart."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from mesh.state.deployment import File, SecretPart


def mounted_paths(definition: Mapping[str, Any], compose: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths below the stack's folder that a service takes content from, sorted: bind mounts, env files, configs, secrets."""
    found = {posixpath.normpath(path) for path in _sources(definition, compose) if _relative(path)}
    return tuple(sorted(found))


def _sources(definition: Mapping[str, Any], compose: Mapping[str, Any]) -> Iterator[str]:
    for volume in _list(definition.get("volumes")):
        if isinstance(volume, Mapping):
            if volume.get("type") == "bind":
                yield str(volume.get("source", ""))
        elif ":" in str(volume):
            source = str(volume).split(":", 1)[0]
            if source.startswith("."):
                yield source
    for entry in _list(definition.get("env_file")):
        yield str(entry.get("path", "") if isinstance(entry, Mapping) else entry)
    for section in ("configs", "secrets"):
        declared = compose.get(section) or {}
        for entry in _list(definition.get(section)):
            name = str(entry.get("source", "") if isinstance(entry, Mapping) else entry)
            yield str((declared.get(name) or {}).get("file", ""))
    build = definition.get("build")
    if build:
        yield str(build.get("context", ".") if isinstance(build, Mapping) else build)
    extends = definition.get("extends")
    if isinstance(extends, Mapping):
        yield str(extends.get("file", ""))


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _relative(path: str) -> bool:
    return bool(path) and not path.startswith(("/", "~")) and "$" not in path and "://" not in path


def service_digest(
    definition: Mapping[str, Any],
    compose: Mapping[str, Any],
    files: Mapping[str, File],
    fingerprint: Callable[[str], str],
    uses: Mapping[str, Any] | None = None,
) -> str:
    """sha256, in hexadecimal.

    definition: the service as in the Compose file, without its own digest label.
    files: the stack's files by path relative to its folder. uses: what else makes the service, as data.
    fingerprint: a keyed hash of a secret's value, by the secret's name.
    """
    hasher = hashlib.sha256(json.dumps(definition, sort_keys=True, default=str).encode("utf-8", "surrogateescape"))
    if uses:
        hasher.update(json.dumps(uses, sort_keys=True, default=str).encode("utf-8", "surrogateescape"))
    taken = mounted_paths(definition, compose)
    for path, file in sorted(files.items()):
        if any(each in (".", path) or path.startswith(each + "/") for each in taken):
            content = "".join(
                f"\0{fingerprint(part.name)}\0{part.quoting}\0" if isinstance(part, SecretPart) else part for part in file.text
            )
            hasher.update(f"\0{path}\0{file.mode:o}\0{content}".encode("utf-8", "surrogateescape"))
    return hasher.hexdigest()


def guard_digest(files: Iterable[File]) -> str:
    """sha256 of the gateway's guard, its code and its policy, in hexadecimal: what a gateway tells that it has loaded.

    Over `NAME NUL sha256(CONTENT)` of each mesh_*.py and of policy.json in the folder gateway/, in the order of their names.
    """
    named = {file.path.rpartition("/gateway/")[2]: file for file in files if "/gateway/" in file.path}
    hasher = hashlib.sha256()
    for name, file in sorted(named.items()):
        if (name.startswith("mesh_") and name.endswith(".py")) or name == "policy.json":
            hasher.update(name.encode() + b"\0" + hashlib.sha256(file.content(_no_secret)).digest())
    return hasher.hexdigest()


def _no_secret(name: str) -> str:
    raise ValueError(f"the guard's files hold no secrets, and {name} is one")
