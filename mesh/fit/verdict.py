"""Each host's verdicts: what takes the VRAM, which model fits, how fast it is. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mesh.hardware import mends
from mesh.hardware.cards import cards
from mesh.hardware.footprint import CUDA_CONTEXT, DRIVER, ENGINE_MARGIN, Footprint, Split, Verdict, footprint
from mesh.hardware.models import Architecture
from mesh.hardware.placement import Lane, architecture, foreign, lanes, server_context
from mesh.hardware.placement import wanted as wanted_of
from mesh.hardware.schedule import Place, Step, Wanted, loaded_with, occupied, simulate
from mesh.hardware.speed import BANDS, Calibration, Speed, decode_speed
from mesh.spec.mesh import Mesh
from mesh.spec.providers import Model

PartKind = Literal["driver", "reserve", "resident", "model", "margin", "free"]
SLOW_DISK, FAST_DISK = 0.5e9, 3e9
"""Bytes/s that a model is read with: a SATA SSD, an NVMe SSD. The truth is between, and in the page cache it is faster."""


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

    @property
    def on_card(self) -> bool:
        return self.verdict in (Verdict.FITS, Verdict.TIGHT)


@dataclass(frozen=True, slots=True)
class HostFit:
    """One host. cards: those of the spec. unknown: names of cards that the catalogue does not have; then nothing is judged."""

    host: str
    cards: tuple[Place, ...]
    bars: tuple[Bar, ...]
    models: tuple[ModelFit, ...]
    unknown: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return all(model.fits for model in self.models) and not any(bar.over for bar in self.bars) and not self.unknown


def fit(mesh: Mesh, calibration: Calibration) -> tuple[HostFit, ...]:
    """Every host that has cards or runs an Ollama. The spec must be valid."""
    every = lanes(mesh)
    return tuple(
        _host(mesh, name, every, calibration)
        for name, host in mesh.hosts.items()
        if host.gpus or any(provider.on == name for provider in mesh.ollamas.values())
    )


def _host(mesh: Mesh, host: str, every: Mapping[str, Lane], calibration: Calibration) -> HostFit:
    gpus = mesh.hosts[host].gpus
    known = tuple(Place(cards()[gpu.card], sum(gpu.reserve.values())) for gpu in gpus if gpu.card in cards())
    models = []
    for name, provider in mesh.ollamas.items():
        if provider.on == host:
            models += [_model(mesh, name, key, every, calibration) for key, model in mesh.models.items() if model.at == name]
    found = HostFit(host, known, (), tuple(models), tuple(gpu.card for gpu in gpus if gpu.card not in cards()))
    if found.unknown or not known:
        return found
    reserves = tuple(gpu.reserve for gpu in gpus)
    here = [lane for lane in every.values() if lane.host == host]
    return replace(found, bars=_bars(known, reserves, here, models))


def _model(mesh: Mesh, provider: str, name: str, every: Mapping[str, Lane], calibration: Calibration) -> ModelFit:
    model = mesh.models[name]
    plain = ModelFit(name, model.tag or "", provider, model.context or 0, model.resident, model.spill is not None)
    lane = every.get(provider)
    if lane is not None and name in lane.wanted:
        wanted = lane.wanted[name]
        return _judged(_described(plain, wanted), lane, wanted, loaded_beside(lane, every, name), calibration)
    if lane is None and mesh.ollamas[provider].gpu == "none":
        arch = architecture(model)
        return _on_processor(mesh, plain, model, arch, calibration) if arch else plain
    return plain


def _described(plain: ModelFit, wanted: Wanted) -> ModelFit:
    size = wanted.arch.blob_bytes
    return replace(plain, context=wanted.context, load=(size / FAST_DISK, size / SLOW_DISK))


def loaded_beside(lane: Lane, every: Mapping[str, Lane], name: str) -> tuple[int, ...]:
    """Bytes of each card that are taken when `name` is loaded, in the worst case.

    Other Ollamas hold their residents and their largest model; a resident comes after the residents before it, another model
    after all of them.
    """
    used = occupied(foreign(lane, every), lane.places)
    for resident in lane.residents:
        if resident.name == name:
            break
        used = occupied((resident,), lane.places, used)
    return used


def _judged(plain: ModelFit, lane: Lane, wanted: Wanted, used: Sequence[int], calibration: Calibration) -> ModelFit:
    """The plain arithmetic with all residents loaded decides; what the scheduler would rather do is only told.

    Where it, predicting crudely, unloads a resident there is no room won: the resident comes back with the next request.
    """
    step = loaded_with(wanted, used, lane.places)
    assert step.placed is not None
    real = simulate((*lane.residents, wanted), lane.places, lane.max_loaded)[-1]
    spills = step.verdict is Verdict.SPILLS
    found = replace(
        plain,
        verdict=step.verdict,
        need=step.need,
        spare=step.spare,
        placed=step.placed,
        context_that_fits=mends.largest_context(wanted, used, lane.places) if spills else None,
        evicts=tuple(name for name in real.evicted if name in lane.resident and name != wanted.name),
    )
    if wanted.arch.encoder or not wanted.arch.layered:
        return found
    on = [lane.places[n].card for n in step.places]
    short, full = (
        decode_speed(on, wanted.arch, tokens, step.placed, calibration, kv_type=wanted.kv_type) for tokens in (0, wanted.context)
    )
    return replace(found, short=short, full=_carried(full))


def _carried(full: Speed) -> Speed:
    """The speed with a full context, never surer than the plain model: what was measured was measured with a short one."""
    band = BANDS["modelled"]
    return replace(full, low=min(full.low, full.tok_s * (1 - band)), high=max(full.high, full.tok_s * (1 + band)))


def reach(wanted: Wanted, used: Sequence[int], places: Sequence[Place]) -> int:
    """The largest context of the model, up to its maximum, with which it does not spill; 0 for none."""
    return mends.largest_context(replace(wanted, context=wanted.arch.max_context + 256), used, places)


def _on_processor(mesh: Mesh, plain: ModelFit, model: Model, arch: Architecture, calibration: Calibration) -> ModelFit:
    provider = mesh.ollamas[model.at]
    default = server_context(each for each in mesh.models.values() if each.at == model.at)
    wanted = wanted_of(plain.name, model, provider, arch, default)
    need = footprint(arch, wanted.context, wanted.parallel, wanted.kv_type, wanted.flash)
    placed = Split(0, arch.layers, 0, need.weights)
    found = replace(_described(plain, wanted), need=need, placed=placed)
    if arch.encoder:
        return found
    short, full = (decode_speed((), arch, tokens, placed, calibration) for tokens in (0, wanted.context))
    return replace(found, short=short, full=full)


def _bars(
    places: Sequence[Place], reserves: Sequence[Mapping[str, int]], here: Sequence[Lane], models: Sequence[ModelFit]
) -> tuple[Bar, ...]:
    """Of every card: reserves, all residents, and the largest other model that fits, shared by VRAM where it is on several."""
    steps: list[tuple[Step, PartKind]] = []
    used = occupied((), places)
    for wanted in (each for lane in here for each in lane.residents):
        steps.append((loaded_with(wanted, used, places), "resident"))
        used = occupied((wanted,), places, used)
    demand = [each for each in models if each.on_card and not each.resident and each.need]
    if demand:
        most = max(demand, key=lambda each: each.need.total if each.need else 0)
        wanted = next(lane.wanted[most.name] for lane in here if most.name in lane.wanted)
        steps.append((loaded_with(wanted, used, places), "model"))
    bars = []
    for number, place in enumerate(places):
        parts = [Part("driver", "driver", DRIVER)]
        parts += [Part(name, "reserve", size) for name, size in reserves[number].items()]
        parts += [Part(step.name, kind, size) for step, kind in steps if (size := _share(step, number, places))]
        parts.append(Part("margin", "margin", ENGINE_MARGIN))
        free = place.card.vram_bytes - sum(part.size for part in parts)
        bars.append(Bar(place.card.name, place.card.vram_bytes, (*parts, Part("free", "free", max(free, 0))), max(-free, 0)))
    return tuple(bars)


def _share(step: Step, number: int, places: Sequence[Place]) -> int:
    """Bytes of a model, with its process, on one card."""
    if step.need is None or number not in step.places:
        return 0
    total = sum(places[n].card.vram_bytes for n in step.places)
    return CUDA_CONTEXT + step.need.total * places[number].card.vram_bytes // total
