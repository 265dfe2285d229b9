"""What the gateway serves: its groups (one a route, one a fallback target) and who falls back to whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mesh.compile.stack import Placement
from mesh.spec.mesh import Mesh
from mesh.spec.types import SecretRef
from mesh.state.deployment import Gateway

MASTER_KEY = SecretRef("litellm_master_key")


def fallback_targets(mesh: Mesh) -> tuple[str, ...]:
    """Models that some route falls back to, sorted: each is a group of its own, which only fallbacks reach."""
    return tuple(sorted({model for route in mesh.routes.values() for model in route.chain[1:]}))


def expected_gateway(mesh: Mesh, placements: Mapping[str, Placement]) -> Gateway | None:
    """What the live gateway must list; None for a mesh without one."""
    place = next((each for each in placements.values() if each.kind == "litellm"), None)
    if place is None:
        return None
    return Gateway(
        url=place.url,
        key=MASTER_KEY.name,
        groups=tuple(sorted({*mesh.routes, *fallback_targets(mesh)})),
        fallbacks={name: route.chain[1:] for name, route in sorted(mesh.routes.items()) if len(route.chain) > 1},
    )


def variable(secret: SecretRef) -> str:
    """The container's variable of a secret. Never a provider's usual name: LiteLLM would send that one unasked."""
    return f"MESH_KEY_{secret.name.upper()}"


def policy(mesh: Mesh) -> dict[str, Any]:
    """What mesh_auth.py and mesh_guard.py enforce: who may ask for what. Keys are named, never written."""
    return {
        "master": variable(MASTER_KEY),
        "clients": {
            name: {"key": variable(mesh.client_key(name)), "routes": sorted(client.routes)}
            for name, client in mesh.clients.items()
        },
        "routes": sorted(mesh.routes),
    }
