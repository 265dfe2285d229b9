"""What a Compose service asks of the engine, in the terms of `Shape`; what only Compose can know is left out. Pure.

None stands for "not known here": a value with `$`, which Compose fills in, or a service that extends another file's.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from mesh.state.deployment import Service, StackRelease
from mesh.state.observed import ObservedMount
from mesh.state.parse_shape import address, capability

_SIZE = r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?"
_PORT = (
    r"(?:(?P<ip>\[[0-9a-fA-F:.]+\]|[0-9]+(?:\.[0-9]+){3}):)?(?:(?P<host>[0-9]*)(?:-(?P<host_end>[0-9]+))?:)?"
    r"(?P<port>[0-9]+)(?:-(?P<port_end>[0-9]+))?(?:/(?P<protocol>[a-z]+))?"
)
_POLICIES = {"none": "no", "any": "always", "on-failure": "on-failure"}


class WantedShape:
    """The wishes of one service. Every property is what the engine should tell, or None where that is not known here."""

    def __init__(self, stack: StackRelease, service: Service) -> None:
        self.stack = stack
        self.definition: Mapping[str, Any] = service.definition

    @property
    def known(self) -> bool:
        """Whether the definition is all there is."""
        return not any(key in self.definition for key in ("extends", "provider", "use_api_socket", "models"))

    @cached_property
    def _limits(self) -> Mapping[str, Any]:
        return _mapping(_mapping(_mapping(self.definition.get("deploy")).get("resources")).get("limits"))

    def _limit(self, inner: str, outer: str) -> Any:
        return self._limits.get(inner) or self.definition.get(outer)

    @cached_property
    def memory(self) -> int | None:
        return size(self._limit("memory", "mem_limit"))

    @cached_property
    def swap(self) -> int | None:
        """Memory and swap together, where the spec says so; the engine has defaults of its own."""
        return size(self.definition.get("memswap_limit")) if self.definition.get("memswap_limit") else None

    @cached_property
    def cpus(self) -> int | None:
        quota, period = self.definition.get("cpu_quota"), self.definition.get("cpu_period")
        if quota or period:
            return None
        return _scaled(self._limit("cpus", "cpus"), 10**9)

    @cached_property
    def cpu_shares(self) -> int | None:
        return _scaled(self.definition.get("cpu_shares"), 1)

    @cached_property
    def cpuset(self) -> str | None:
        return _literal(self.definition.get("cpuset", ""))

    @cached_property
    def pids(self) -> int | None:
        found = _scaled(self._limit("pids", "pids_limit"), 1)
        return None if found is None else max(found, 0)

    @cached_property
    def restart(self) -> str | None:
        policy = _mapping(self.definition.get("deploy")).get("restart_policy")
        if isinstance(policy, Mapping):
            name, most = _POLICIES.get(str(policy.get("condition", "any"))), policy.get("max_attempts") or 0
            return f"{name}:{most}" if name == "on-failure" and most else name
        written = self.definition.get("restart", "no")
        return "no" if written is False or written is None else _literal(written)

    @cached_property
    def ports(self) -> frozenset[tuple[str, str, str]] | None:
        if "network_mode" in self.definition:
            return None
        found: set[tuple[str, str, str]] = set()
        for entry in self.definition.get("ports") or ():
            read = _long_port(entry) if isinstance(entry, Mapping) else _short_port(str(entry))
            if read is None:
                return None
            found |= set(read)
        return frozenset(found)

    @cached_property
    def networks(self) -> frozenset[str] | None:
        mode = self.definition.get("network_mode")
        if mode is not None:
            return frozenset({mode}) if mode in {"host", "none"} else None
        written = self.definition.get("networks") or ("default",)
        names = {named.key: named.name for named in self.stack.named if named.kind == "network"}
        found = frozenset(names.get(str(key), "$") for key in written)
        return None if "$" in "".join(found) else found

    @cached_property
    def pid_mode(self) -> str | None:
        written = _literal(self.definition.get("pid", ""))
        return None if written and written != "host" else written

    def flag(self, key: str) -> bool | None:
        """`privileged` and `read_only`."""
        written = self.definition.get(key, False)
        return bool(written) if isinstance(written, bool | None) else None

    def capabilities(self, key: str) -> frozenset[str] | None:
        """`cap_add` and `cap_drop`."""
        written = self.definition.get(key) or ()
        return None if any("$" in str(each) for each in written) else frozenset(capability(str(each)) for each in written)

    @cached_property
    def mounts(self) -> tuple[ObservedMount, ...] | None:
        """Volumes and bind mounts that must be there. A source that only Compose knows is `$`; `$` in a target makes it None."""
        if "volumes_from" in self.definition:
            return None
        found = []
        for entry in self.definition.get("volumes") or ():
            mount = self._long_mount(entry) if isinstance(entry, Mapping) else self._short_mount(str(entry))
            if mount is None or "$" in mount.target:
                return None
            found.append(mount)
        return tuple(found)

    @property
    def maybe_mounted(self) -> frozenset[str]:
        """Targets where Compose may mount something more: its own configs and secrets, and memory."""
        found = {posixpath.normpath(str(each).partition(":")[0]) for each in _list(self.definition.get("tmpfs"))}
        for section, folder in (("configs", ""), ("secrets", "/run/secrets")):
            for entry in self.definition.get(section) or ():
                target = (entry.get("target") or entry.get("source", "")) if isinstance(entry, Mapping) else entry
                found.add(str(target) if str(target).startswith("/") else f"{folder}/{target}")
        return frozenset(found)

    def _short_mount(self, text: str) -> ObservedMount | None:
        source, colon, rest = text.partition(":")
        if "$" in text and (not colon or "$" in rest):
            return None
        if not colon:
            return ObservedMount("volume", "$", posixpath.normpath(source), writable=True)
        target, _, mode = rest.partition(":")
        writable = "ro" not in mode.split(",")
        kind = "$" if "$" in source else "bind" if source.startswith((".", "/", "~")) else "volume"
        return ObservedMount(kind, self._source(kind, source), posixpath.normpath(target), writable)

    def _long_mount(self, entry: Mapping[str, Any]) -> ObservedMount | None:
        kind, target, read_only = str(entry.get("type", "volume")), entry.get("target"), entry.get("read_only", False)
        if not isinstance(target, str) or not isinstance(read_only, bool) or kind not in {"bind", "volume", "tmpfs"}:
            return None
        source = "$" if kind == "tmpfs" else self._source(kind, str(entry.get("source") or "$"))
        return ObservedMount(kind, source, posixpath.normpath(target), not read_only)

    def _source(self, kind: str, written: str) -> str:
        """The volume's name, or the path on the host."""
        if "$" in written or written.startswith("~"):
            return "$"
        if kind == "volume":
            return next((each.name for each in self.stack.named if (each.kind, each.key) == ("volume", written)), "$")
        return posixpath.normpath(posixpath.join(self.stack.directory, written))


def size(written: Any) -> int | None:
    """`512m` and 536870912 to bytes, as Compose reads them; nothing is 0."""
    if written is None or written is False:
        return 0
    if isinstance(written, int):
        return written
    match = re.fullmatch(_SIZE, str(written).strip(), re.IGNORECASE)
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " ")) if match else None


def _scaled(written: Any, factor: int) -> int | None:
    if written is None:
        return 0
    try:
        return round(float(written) * factor)
    except (TypeError, ValueError):
        return None


def _literal(written: Any) -> str | None:
    text = "" if written is None else str(written)
    return None if "$" in text else text


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _short_port(text: str) -> list[tuple[str, str, str]] | None:
    match = re.fullmatch(_PORT, text)
    if match is None:
        return None
    ports = _range(match["port"], match["port_end"])
    hosts = _range(match["host"], match["host_end"]) if match["host"] else [""] * len(ports)
    if len(hosts) != len(ports):
        return None  # Compose chooses one of a range
    ip = address((match["ip"] or "").strip("[]"))
    return [(f"{port}/{match['protocol'] or 'tcp'}", ip, host) for port, host in zip(ports, hosts, strict=True)]


def _long_port(entry: Mapping[str, Any]) -> list[tuple[str, str, str]] | None:
    written = f"{entry.get('published') or ''}:{entry.get('target')}/{entry.get('protocol') or 'tcp'}".removeprefix(":")
    read = _short_port(written)
    ip = str(entry.get("host_ip") or "")
    return None if read is None or "$" in ip else [(port, address(ip), host) for port, _, host in read]


def _range(first: str, last: str | None) -> list[str]:
    return [str(port) for port in range(int(first), int(last or first) + 1)]


def ports_in_words(ports: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """`127.0.0.1:80 to 8080/tcp`, one for each."""
    for port, ip, host in ports:
        shown = f"[{ip}]" if ":" in ip else ip or "every address"
        yield f"{shown}:{host or 'any'} to {port}" if ip else f"{host or 'any'} on {shown} to {port}"
