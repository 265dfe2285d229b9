"""VRAM before and after, for hosts where something about their models changes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mesh.fit.verdict import Bar, HostFit
from mesh.hardware.footprint import Verdict
from mesh.state.cards import SeenCard, same_card
from mesh.state.deployment import HostDeployment
from mesh.state.observed import LoadedModel, Observed, ObservedHost


@dataclass(frozen=True, slots=True)
class CardRoom:
    """One card. Bytes throughout. used: taken now, as the driver says, None where it does not.

    needed: by the spec at the worst, which is the reserves, the driver, the engine's margin, the resident models and the largest
    other one. over: what that is more than the card has.
    """

    card: str
    size: int
    used: int | None
    needed: int
    over: int


@dataclass(frozen=True, slots=True)
class HostRoom:
    """One host's cards before and after. loaded: the models in memory now, None where an Ollama could not tell.

    spilling: models of the spec that will not fit beside the residents, and are allowed not to.
    """

    host: str
    cards: tuple[CardRoom, ...]
    loaded: tuple[LoadedModel, ...] | None
    spilling: tuple[str, ...] = ()


def host_room(host: HostDeployment, fit: HostFit, observed: Observed) -> HostRoom:
    """Before, as the host's driver and Ollamas tell; after, as the spec is counted (docs/vram.md)."""
    lists = [observed.loaded.get(ollama.stack) for ollama in host.ollamas if ollama.on_cards]
    loaded: tuple[LoadedModel, ...] | None = ()
    for each in lists:
        loaded = (*loaded, *each) if loaded is not None and isinstance(each, tuple) else None
    seen = observed.hosts.get(host.name)
    cards = seen.cards.cards if isinstance(seen, ObservedHost) and seen.cards else ()
    spilling = tuple(model.name for model in fit.models if model.verdict is Verdict.SPILLS)
    return HostRoom(host.name, tuple(_rooms(fit.bars, cards)), loaded, spilling)


def _rooms(bars: Iterable[Bar], cards: Iterable[SeenCard]) -> Iterator[CardRoom]:
    left = list(cards)
    for bar in bars:
        match = next((card for card in left if same_card(bar.card, card)), None)
        if match is not None:
            left.remove(match)
        needed = sum(part.size for part in bar.parts if part.kind != "free")
        yield CardRoom(bar.card, bar.total, match.used if match else None, needed, bar.over)
