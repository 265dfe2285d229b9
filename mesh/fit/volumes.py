"""What routes carry in a month: declared in the spec, or counted by the gateway's ledger. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mesh.spec.mesh import Mesh

MONTH_DAYS = 30.0


@dataclass(frozen=True, slots=True)
class Volume:
    """A month of one route on models in the cloud. tokens_in, tokens_out: tokens. usd: None where no price is known."""

    tokens_in: float
    tokens_out: float
    usd: float | None


@dataclass(frozen=True, slots=True)
class Counted:
    """Requests of one route that one model answered. cost: US dollars, by the prices of their day."""

    route: str
    model: str
    requests: int
    tokens_in: int
    tokens_out: int
    cost: float


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the gateway counted in the last `days` days, at most 30; fewer where its oldest request is younger."""

    days: float
    counted: tuple[Counted, ...]


def declared(mesh: Mesh) -> dict[str, Volume]:
    """By route, what the spec says that it carries, all of it on the route's first model."""
    found = {}
    for name, route in mesh.routes.items():
        if route.volume is not None and not mesh.is_local(route.to):
            price, volume = mesh.models[route.to].price, route.volume
            usd = (volume.in_ * price.in_ + volume.out * price.out) / 1e6 if price is not None else None
            found[name] = Volume(volume.in_, volume.out, usd)
    return found


def counted(mesh: Mesh, ledger: Ledger) -> Mapping[str, Volume]:
    """By route, what went to models in the cloud, as of a month; 0 for a route that nobody asked.

    A ledger younger than a month is scaled up; one younger than a day is taken as a day, which is more likely too low.
    """
    scale = MONTH_DAYS / max(ledger.days, 1.0)
    local = {name for name in mesh.models if mesh.is_local(name)}
    found = {}
    for name in mesh.routes:
        rows = [row for row in ledger.counted if row.route == name and row.model not in local]
        found[name] = Volume(
            scale * sum(row.tokens_in for row in rows),
            scale * sum(row.tokens_out for row in rows),
            scale * sum(row.cost for row in rows),
        )
    return found
