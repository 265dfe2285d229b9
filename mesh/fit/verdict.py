"""Each host's verdicts: what takes the VRAM, which model fits, how fast it is. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mesh.fit.layout import Entry, Lane, Layout
from mesh.hardware.footprint import (
    CUDA_CONTEXT,
    DRIVER,
    ENGINE_MARGIN,
    Budget,
    Footprint,
    Split,
    Verdict,
    footprint,
    verdict,
)
from mesh.hardware.models import Architecture
from mesh.hardware.schedule import Place, Step, Wanted, simulate
from mesh.hardware.speed import Calibration, Speed, decode_speed

PartKind = Literal["driver", "reserve", "resident", "model", "margin", "free"]
SLOW_DISK, FAST_DISK = 0.5e9, 3e9
"""Bytes/s that a model is read with: a SATA SSD, an NVMe SSD. Where nothing was measured the truth is between."""
_STEP = 1024
"""Contexts are tried in steps of this many tokens."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something that takes VRAM. size: bytes."""

    name: str
    kind: PartKind
    size: int


@dataclass(frozen=True, slots=True)
class Bar:
    """What takes one card's VRAM with its residents and the largest other model that fits. over: bytes more than there are."""

    card: str
    total: int
    parts: tuple[Part, ...]
    over: int = 0


@dataclass(frozen=True, slots=True)
class ModelFit:
    """One model on one host.

    verdict: None on the processor, or where nothing is known about the model (then need and speeds are None as well).
    spare: bytes left to the limit, negative where it spills. short, full: speed with an empty context and with a full one.
    load: seconds, from and to. context_that_fits: the largest, where this one does not (0: none does). evicts: residents that
    Ollama's scheduler would unload for it.
    """

    name: str
    tag: str
    lane: str
    context: int
    resident: bool
    allowed: bool
    verdict: Verdict | None = None
    need: Footprint | None = None
    spare: int = 0
    placed: Split | None = None
    short: Speed | None = None
    full: Speed | None = None
    load: tuple[float, float] = (0.0, 0.0)
    context_that_fits: int | None = None
    evicts: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the spec may stand as it is: it fits, or may spill, or runs where there is no card to fit."""
        return self.verdict is not Verdict.SPILLS or self.allowed


@dataclass(frozen=True, slots=True)
class HostFit:
    """One host."""

    host: str
    cards: tuple[Place, ...]
    bars: tuple[Bar, ...]
    models: tuple[ModelFit, ...]
    unknown: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return all(model.fits for model in self.models) and not any(bar.over for bar in self.bars)


def fit_host(layout: Layout, calibration: Calibration) -> HostFit:
    """Everything about one host."""
    residents = [
        entry.wanted
        for lane in layout.lanes
        if lane.settings.on_cards
        for entry in lane.entries
        if entry.model.resident and entry.wanted
    ]
    models = [_fit(layout, lane, entry, residents, calibration) for lane in layout.lanes for entry in lane.entries]
    return HostFit(layout.host, layout.places, _bars(layout, residents, models), tuple(models), layout.unknown)


def _fit(layout: Layout, lane: Lane, entry: Entry, residents: Sequence[Wanted], calibration: Calibration) -> ModelFit:
    wanted, model = entry.wanted, entry.model
    plain = ModelFit(entry.name, model.tag or "", lane.name, 0, model.resident, entry.allowed)
    if wanted is None:
        return plain
    plain = replace(plain, context=min(wanted.context, wanted.arch.max_context), load=_load_seconds(wanted.arch))
    if not lane.settings.on_cards or not layout.places:
        return _on_processor(plain, wanted, calibration)
    others = [each for each in residents if each.name != wanted.name]
    found, spare, step = judge(wanted, others, layout.places, lane.settings.max_loaded)
    assert step.need is not None
    assert step.placed is not None
    on = [layout.places[n].card for n in step.places]
    short, full = (
        decode_speed(on, wanted.arch, tokens, step.placed, calibration, kv_type=wanted.kv_type) for tokens in (0, plain.context)
    )
    spills = found is Verdict.SPILLS
    return replace(
        plain,
        verdict=found,
        need=step.need,
        spare=spare,
        placed=step.placed,
        short=None if wanted.arch.encoder else short,
        full=None if wanted.arch.encoder else full,
        context_that_fits=largest_context(wanted, others, layout.places, lane.settings.max_loaded) if spills else None,
        evicts=tuple(name for name in step.evicted if any(each.name == name for each in others)),
    )


def judge(wanted: Wanted, residents: Sequence[Wanted], places: Sequence[Place], max_loaded: int) -> tuple[Verdict, int, Step]:
    """The verdict with all residents loaded, the bytes to spare, and what the scheduler really does.

    The two differ where the scheduler, which predicts crudely, would rather unload a resident: that is no room won, because
    the resident comes back with the next request.
    """
    steps = simulate((*residents, wanted), places, max_loaded)
    step = steps[-1]
    assert step.need is not None
    there = {
        each.name: each.need.total + CUDA_CONTEXT * len(each.places)
        for each in steps[:-1]
        if each.need is not None and set(each.places) & set(step.places)
    }
    on = [places[n] for n in step.places]
    reserves = {str(n): place.reserves for n, place in enumerate(on)}
    budget = Budget.of([place.card for place in on], reserves, there)
    need = step.need.total + (len(on) - 1) * step.need.compute
    return verdict(need, budget), budget.engine_free - budget.context - budget.margin - need, step


def largest_context(wanted: Wanted, residents: Sequence[Wanted], places: Sequence[Place], max_loaded: int) -> int:
    """The largest context, in steps of 1024 tokens, with which the model does not spill; 0 where even the smallest does."""
    low, high = 0, wanted.arch.max_context // _STEP
    while low < high:
        middle = (low + high + 1) // 2
        found, _, _ = judge(replace(wanted, context=middle * _STEP), residents, places, max_loaded)
        low, high = (low, middle - 1) if found is Verdict.SPILLS else (middle, high)
    return low * _STEP


def _on_processor(plain: ModelFit, wanted: Wanted, calibration: Calibration) -> ModelFit:
    need = footprint(wanted.arch, wanted.context, wanted.parallel, wanted.kv_type, wanted.flash)
    placed = Split(0, wanted.arch.layers, 0, need.weights)
    if wanted.arch.encoder:
        return replace(plain, need=need, placed=placed)
    short, full = (decode_speed((), wanted.arch, tokens, placed, calibration) for tokens in (0, plain.context))
    return replace(plain, need=need, placed=placed, short=short, full=full)


def _load_seconds(arch: Architecture) -> tuple[float, float]:
    return arch.blob_bytes / FAST_DISK, arch.blob_bytes / SLOW_DISK


def _bars(layout: Layout, residents: Sequence[Wanted], models: Sequence[ModelFit]) -> tuple[Bar, ...]:
    """Of every card. A model on several cards is shared by their VRAM."""
    if not layout.places:
        return ()
    most = max((lane.settings.max_loaded for lane in layout.lanes if lane.settings.on_cards), default=0)
    steps = simulate(residents, layout.places, most)
    extra = max(
        (each for each in models if each.verdict in (Verdict.FITS, Verdict.TIGHT) and not each.resident and each.need),
        key=lambda each: each.need.total if each.need else 0,
        default=None,
    )
    wanted = {entry.name: entry.wanted for lane in layout.lanes for entry in lane.entries if entry.wanted}
    last = simulate((*residents, wanted[extra.name]), layout.places, most)[-1] if extra else None
    bars = []
    for number, place in enumerate(layout.places):
        parts = [Part("driver", "driver", DRIVER)]
        parts += [Part(name, "reserve", size) for name, size in layout.reserves[number].items()]
        parts += [Part(step.name, "resident", _share(step, number, layout.places)) for step in steps]
        if last:
            parts.append(Part(last.name, "model", _share(last, number, layout.places)))
        parts.append(Part("margin", "margin", ENGINE_MARGIN))
        parts = [part for part in parts if part.size]
        free = place.card.vram_bytes - sum(part.size for part in parts)
        bars.append(Bar(place.card.name, place.card.vram_bytes, (*parts, Part("free", "free", max(free, 0))), max(-free, 0)))
    return tuple(bars)


def _share(step: Step, number: int, places: Sequence[Place]) -> int:
    if step.need is None or number not in step.places:
        return 0
    total = sum(places[n].card.vram_bytes for n in step.places)
    return CUDA_CONTEXT + step.need.total * places[number].card.vram_bytes // total
