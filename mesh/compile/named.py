"""The engine's own names of a stack's volumes and networks, as Compose makes them up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from mesh.state.deployment import Named

_SECTIONS: tuple[tuple[str, Literal["volume", "network"]], ...] = (("volumes", "volume"), ("networks", "network"))


def named_objects(stack: str, project: Mapping[str, Any]) -> tuple[Named, ...]:
    """Every volume and network that the Compose project declares, and the network that it has by default."""
    return tuple(_named(stack, project))


def _named(stack: str, project: Mapping[str, Any]) -> Iterator[Named]:
    for section, kind in _SECTIONS:
        declared = project.get(section) or {}
        for key, written in declared.items():
            entry = written if isinstance(written, Mapping) else {}
            external = entry.get("external")
            older = external.get("name") if isinstance(external, Mapping) else None
            name = entry.get("name") or older or (key if external else f"{stack}_{key}")
            yield Named(kind, str(key), str(name), bool(external))
    if "default" not in (project.get("networks") or {}):
        yield Named("network", "default", f"{stack}_default")
