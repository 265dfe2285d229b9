"""What the gateway serves: its groups (one a route, one a fallback target) and who falls back to whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from mesh.compile.stack import Placement
from mesh.errors import MeshError
from mesh.spec.mesh import Mesh
from mesh.spec.providers import CloudProvider
from mesh.spec.types import FOREVER, SecretRef
from mesh.state.deployment import Gateway

MASTER_KEY = SecretRef("litellm_master_key")
OPERATOR = "operator"
"""Who asks with the master key, in the gateway's ledger."""


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
    """What the gateway's own modules (stacks/litellm/gateway) enforce. Keys are named, never written. Times are in seconds.

    Raises MeshError for a client that has the operator's name. Budgets are in micro-dollars a calendar month.
    """
    if OPERATOR in mesh.clients:
        raise MeshError(
            f"client {OPERATOR} has the name that the gateway gives to whoever holds the master key",
            where=f"clients.{OPERATOR}",
            mend="rename the client",
        )
    hosts = {name: str(host.address) for name, host in mesh.hosts.items()}
    bases = {f"http://{_bracketed(hosts[each.on])}:{each.port}" for each in mesh.ollamas.values() if each.on in hosts}
    return {
        "master": variable(MASTER_KEY),
        "clients": {name: _client(mesh, name) for name in mesh.clients},
        "routes": sorted(mesh.routes),
        "answers": {name: route.to for name, route in mesh.routes.items()},
        "local_only": sorted(name for name, route in mesh.routes.items() if route.privacy == "local"),
        "local_bases": sorted(bases),
        "local_tags": sorted({str(model.tag) for name, model in mesh.models.items() if mesh.is_local(name)}),
        "prices": {name: _dearest(mesh, route.chain) for name, route in mesh.routes.items()},
        "addresses": sorted({*hosts.values(), *_own_bases(mesh)}),
        "ledger_keep": None if mesh.ledger.keep == FOREVER else mesh.ledger.keep,
    }


def _client(mesh: Mesh, name: str) -> dict[str, Any]:
    client = mesh.clients[name]
    limits = {"budget": client.budget and round(client.budget.amount * 1e6), "rpm": client.rpm}
    return {"key": variable(mesh.client_key(name)), "routes": sorted(client.routes), **limits}


def _dearest(mesh: Mesh, chain: tuple[str, ...]) -> list[float]:
    """US dollars for a million tokens in and out: the highest of all models that may answer."""
    prices = [mesh.models[name].price for name in chain]
    ins = [max(price.in_, price.cache_write or 0) for price in prices if price]
    return [max(ins, default=0.0), max((price.out for price in prices if price), default=0.0)]


def _own_bases(mesh: Mesh) -> set[str]:
    """Addresses that the operator wrote for providers: hosts of their `base_url`."""
    urls = [provider.base_url for provider in mesh.providers.values() if isinstance(provider, CloudProvider)]
    return {host for host in (urlsplit(url).hostname for url in urls if url) if host}


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
