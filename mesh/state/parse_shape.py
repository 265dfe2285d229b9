"""What `docker inspect` told of a container's limits, ports, mounts, networks and rights -> Shape. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mesh.state.observed import ObservedMount, Shape

_EVERYWHERE = {"", "0.0.0.0"}
_PERIOD = 100_000
"""Microseconds; the engine's own CpuPeriod."""


def read_shape(data: Mapping[str, Any]) -> Shape:
    """The fields of one container of the script's answer. Defaults of the engine and their other spellings become one."""
    quota = data["quota"] or 0
    return Shape(
        memory=data["memory"] or 0,
        swap=data["swap"] or 0,
        cpus=data["cpus"] or (quota * 10**9 // (data["period"] or _PERIOD) if quota > 0 else 0),
        cpu_shares=data["shares"] or 0,
        cpuset=data["cpuset"] or "",
        pids=data["pids"],
        restart=_restart(data["restart"] or {}),
        ports=frozenset(_ports(data["ports"] or {})),
        mounts=tuple(sorted(map(_mount, data["mounts"][:-1]), key=lambda mount: mount.target)),
        networks=frozenset(data["networks"][:-1]),
        network_mode=data["network_mode"] or "",
        pid_mode=data["pid_mode"] or "",
        privileged=bool(data["privileged"]),
        read_only=bool(data["read_only"]),
        cap_add=frozenset(map(capability, data["cap_add"] or ())),
        cap_drop=frozenset(map(capability, data["cap_drop"] or ())),
        security=frozenset(data["security"] or ()),
    )


def capability(name: str) -> str:
    """`cap_net_admin` and `NET_ADMIN` are one."""
    return name.upper().removeprefix("CAP_")


def _restart(policy: Mapping[str, Any]) -> str:
    name, most = policy.get("Name") or "no", policy.get("MaximumRetryCount") or 0
    return f"{name}:{most}" if name == "on-failure" and most else str(name)


def _ports(bindings: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for port, each in bindings.items():
        found: list[Mapping[str, str]] = each or [{}]
        for binding in found:
            yield port, address(binding.get("HostIp") or ""), str(binding.get("HostPort") or "")


def address(text: str) -> str:
    """Every IPv4 address is the empty text, however it is written."""
    return "" if text in _EVERYWHERE else text


def _mount(entry: Any) -> ObservedMount:
    kind, name, source, target, writable = entry
    return ObservedMount(kind, name if kind == "volume" else source, target, writable)
