"""The spec as the hardware model sees it: cards and their tenants, models with the settings that Ollama really gets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mesh.hardware.cards import cards, recognise
from mesh.hardware.footprint import ENGINE_MARGIN
from mesh.hardware.models import Architecture, known_model
from mesh.hardware.schedule import Place, Wanted
from mesh.hardware.speed import Calibration, Measured, read_bytes, reference_rows
from mesh.measure.record import Measurement
from mesh.spec.hosts import Host
from mesh.spec.mesh import Mesh
from mesh.spec.providers import Model, OllamaProvider
from mesh.spec.types import FOREVER

DEFAULT_CONTEXT = 4096
"""Tokens, where no model of the Ollama says more. Never Ollama's own default: that grows with the card (the swap trap)."""
DEFAULT_KEEP_ALIVE = 300
"""Seconds; Ollama's own."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What an Ollama is given. context: tokens where a request names none. keep_alive: seconds, FOREVER for ever.

    fit_targets: bytes that the engine leaves free, card by card: its own margin and the other tenants' reserve.
    """

    on_cards: bool
    context: int
    parallel: int
    max_loaded: int
    keep_alive: int
    kv_type: str
    flash: bool
    fit_targets: tuple[int, ...]


def settings(mesh: Mesh, name: str) -> Settings:
    """The settings of the Ollama provider `name`."""
    provider = mesh.ollamas[name]
    host = mesh.hosts[provider.on]
    models = [model for model in mesh.models.values() if model.at == name]
    chat = [model.context for model in models if model.kind == "chat" and model.context]
    # Embeddings come by Ollama's OpenAI path, which carries no keep_alive: the server's default is theirs. Chat sends its own.
    keep = [model.keep_alive for model in models if model.kind == "embedding" and model.keep_alive is not None]
    on_cards = provider.gpu != "none" and bool(host.gpus)
    targets = tuple(ENGINE_MARGIN + sum(gpu.reserve.values()) for gpu in host.gpus) if on_cards else ()
    return Settings(
        on_cards=on_cards,
        # For requests that name no context: never more than what any model was promised and counted with.
        context=min(chat, default=DEFAULT_CONTEXT),
        parallel=1,
        max_loaded=sum(model.resident for model in models) + 1,
        keep_alive=(FOREVER if FOREVER in keep else max(keep)) if keep else DEFAULT_KEEP_ALIVE,
        kv_type="f16",
        flash=on_cards and all(cards()[gpu.card].flash_attention for gpu in host.gpus if gpu.card in cards()),
        fit_targets=targets,
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of an Ollama. wanted: None where nothing is known about its architecture."""

    name: str
    model: Model
    wanted: Wanted | None

    @property
    def allowed(self) -> bool:
        return self.model.spill is not None


@dataclass(frozen=True, slots=True)
class Lane:
    """One Ollama: its models, on the cards of its host or on the processor."""

    name: str
    settings: Settings
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """One host with its Ollamas. places: the cards that are known; unknown: names of those that are not."""

    host: str
    places: tuple[Place, ...]
    reserves: tuple[Mapping[str, int], ...]
    lanes: tuple[Lane, ...]
    unknown: tuple[str, ...] = ()


def layouts(mesh: Mesh) -> tuple[Layout, ...]:
    """Every host that has cards or runs an Ollama."""
    return tuple(_layout(mesh, name, host) for name, host in mesh.hosts.items() if host.gpus or _of(mesh, name))


def _of(mesh: Mesh, host: str) -> dict[str, OllamaProvider]:
    return {name: provider for name, provider in mesh.ollamas.items() if provider.on == host}


def _layout(mesh: Mesh, name: str, host: Host) -> Layout:
    known = [gpu for gpu in host.gpus if gpu.card in cards()]
    return Layout(
        host=name,
        places=tuple(Place(cards()[gpu.card], sum(gpu.reserve.values())) for gpu in known),
        reserves=tuple(gpu.reserve for gpu in known),
        lanes=tuple(_lane(mesh, each) for each in _of(mesh, name)),
        unknown=tuple(gpu.card for gpu in host.gpus if gpu.card not in cards()),
    )


def _lane(mesh: Mesh, name: str) -> Lane:
    given = settings(mesh, name)
    entries = [Entry(key, model, _wanted(key, model, given)) for key, model in mesh.models.items() if model.at == name]
    return Lane(name, given, tuple(entries))


def architecture(model: Model) -> Architecture | None:
    """What is known about a model of an Ollama."""
    return known_model(model.tag) if model.tag else None


def _wanted(name: str, model: Model, given: Settings) -> Wanted | None:
    arch = architecture(model)
    if arch is None:
        return None
    context = model.context or (arch.max_context if model.kind == "embedding" else given.context)
    keep_alive = model.keep_alive if model.keep_alive is not None else given.keep_alive
    return Wanted(name, arch, context, keep_alive, given.parallel, given.kv_type, given.flash)


def calibration(measurements: Iterable[Measurement]) -> Calibration:
    """The operator's own measurements, and the reference homelab's where there is none of the same model on the same card.

    Doubles measured nothing and are left out, and so are runs on a card or of a model that the catalogue does not know.
    Of several measurements of one model on one card the latest counts: drivers and engines change.
    """
    own: dict[tuple[str, str, bool], Measured] = {}
    for each in sorted(measurements, key=lambda each: each.taken):
        row = None if each.double else _row(each)
        if row is not None:
            own[row.card, row.model, row.spilled] = row
    theirs = [row for row in reference_rows() if not any(row.card == mine.card and _same(row, mine) for mine in own.values())]
    return Calibration((*own.values(), *theirs))


def _same(one: Measured, other: Measured) -> bool:
    return one.layers == other.layers and abs(one.file_bytes - other.file_bytes) <= 0.01 * other.file_bytes


def _row(each: Measurement) -> Measured | None:
    card = recognise(each.card)
    arch = known_model(each.model)
    if card is None or arch is None:
        return None
    return Measured(
        card=card.slug,
        model=each.model,
        layers=arch.layers,
        file_bytes=arch.blob_bytes,
        read_bytes=read_bytes(arch),
        tok_s=each.tok_s,
        context=each.tokens,
        engine=f"{each.engine} {each.version}, {each.taken[:10]}",
        spilled=each.spilled,
        moe=arch.active_bytes is not None,
        source=f"mesh bench on {each.host}",
    )
