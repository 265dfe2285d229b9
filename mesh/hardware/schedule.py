"""What Ollama's scheduler does when models are asked for one after the other: who is loaded where, and who has to go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mesh.hardware.cards import Card
from mesh.hardware.footprint import (
    CUDA_CONTEXT,
    DRIVER,
    ENGINE_MARGIN,
    SURCHARGE,
    Footprint,
    Split,
    Verdict,
    batch_size,
    footprint,
    predicted,
    split,
    verdict_of,
)
from mesh.hardware.models import Architecture

NEVER = 2**62
"""A keep_alive without an end, in seconds: Ollama makes a negative one the longest there is. It is last in line, not pinned."""
_JOIN_PERCENT = 80


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model as the spec asks for it. keep_alive: seconds; negative is for ever. context: tokens of one slot."""

    name: str
    arch: Architecture
    context: int
    keep_alive: int = 300
    parallel: int = 1
    kv_type: str = "f16"
    flash: bool = True

    @property
    def stays(self) -> int:
        return NEVER if self.keep_alive < 0 else self.keep_alive


@dataclass(frozen=True, slots=True)
class Place:
    """A card of the host and what others take of it, in bytes."""

    card: Card
    reserves: int = 0

    @property
    def free(self) -> int:
        """Bytes that the engine sees as free on an idle card."""
        return max(self.card.vram_bytes - DRIVER - self.reserves, 0)


@dataclass(frozen=True, slots=True)
class Step:
    """One request. loaded: it was loaded for this (else it was there). evicted: who had to go, in order.

    believed: the scheduler's prediction with its surcharge; free: what it saw free when it loaded. places: indices of the cards.
    room: what the model may take to be wholly on them.
    """

    name: str
    loaded: bool
    evicted: tuple[str, ...] = ()
    believed: int = 0
    free: int = 0
    ubatch: int = 0
    places: tuple[int, ...] = ()
    room: int = 0
    need: Footprint | None = None
    placed: Split | None = None

    @property
    def spills(self) -> bool:
        return self.placed is not None and self.placed.spills

    @property
    def spare(self) -> int:
        """Bytes that stay free beyond the engine's margin; negative where it spills."""
        return self.room - (self.need.total if self.need else 0)

    @property
    def verdict(self) -> Verdict:
        return verdict_of(self.spare)


@dataclass(slots=True)
class _Loaded:
    wanted: Wanted
    step: Step
    takes: dict[int, int] = field(default_factory=dict)


def simulate(requests: Sequence[Wanted], places: Sequence[Place], max_loaded: int = 0) -> tuple[Step, ...]:
    """What happens when `requests` come one after the other, each idle again before the next.

    A loaded model answers. Else, at max_loaded (0: three a card) one goes first. The first model is loaded whatever its size; a
    further one if the prediction with its surcharge is at most 80 % of what is free, and until then others go: the one with the
    shortest keep_alive first, then by name. One card holds it if the prediction is at most 80 % of what is free there, else all
    cards do. Source: Scheduler.processPending, load, findRunnerToUnload, bestSingleGPUFit in Ollama's server/sched.go.
    """
    limit = max_loaded or 3 * max(len(places), 1)
    loaded: dict[str, _Loaded] = {}
    steps = []
    for request in requests:
        there = loaded.get(request.arch.tag)
        if there is not None and there.wanted.context == request.context:
            steps.append(replace(there.step, name=request.name, loaded=False, evicted=()))
            continue
        evicted = []
        if there is not None:  # another context of the same model: the runner is started anew
            del loaded[request.arch.tag]
            evicted.append(there.wanted.name)
        while len(loaded) >= limit:
            evicted.append(_evict(loaded))
        step = _load(request, places, _used(loaded, places))
        while loaded and step.believed > step.free * _JOIN_PERCENT // 100:
            evicted.append(_evict(loaded))
            step = _load(request, places, _used(loaded, places))
        step = replace(step, evicted=tuple(evicted))
        loaded[request.arch.tag] = _Loaded(request, step, _takes(step, places))
        steps.append(step)
    return tuple(steps)


def occupied(models: Sequence[Wanted], places: Sequence[Place], used: Sequence[int] = ()) -> tuple[int, ...]:
    """Bytes of each card that are taken when all the models are loaded and stay, whatever the scheduler would think of it.

    used: what was taken before.
    """
    used = tuple(used) or (0,) * len(places)
    for model in models:
        used = _plus(used, _takes(_load(model, places, used), places))
    return tuple(used)


def loaded_with(request: Wanted, used: Sequence[int], places: Sequence[Place]) -> Step:
    """The request loaded beside what already takes `used` bytes of each card: the plain arithmetic, nobody is evicted."""
    return _load(request, places, used)


def _plus(used: Sequence[int], takes: Mapping[int, int]) -> tuple[int, ...]:
    return tuple(count + takes.get(n, 0) for n, count in enumerate(used))


def _used(loaded: Mapping[str, _Loaded], places: Sequence[Place]) -> tuple[int, ...]:
    return tuple(sum(each.takes.get(n, 0) for each in loaded.values()) for n in range(len(places)))


def _evict(loaded: dict[str, _Loaded]) -> str:
    victim = min(loaded, key=lambda tag: (loaded[tag].wanted.stays, loaded[tag].wanted.name))
    return loaded.pop(victim).wanted.name


def _load(request: Wanted, places: Sequence[Place], used: Sequence[int]) -> Step:
    """The step as it would be with `used` bytes of each card taken; no decision is taken."""
    arch, context, parallel = request.arch, request.context, request.parallel
    free = [max(place.free - taken, 0) for place, taken in zip(places, used, strict=True)]
    believed = predicted(arch, context, parallel)
    single = [n for n in range(len(places)) if believed <= free[n] * _JOIN_PERCENT // 100]
    chosen = (max(single, key=lambda n: free[n]),) if single else tuple(range(len(places)))
    available = sum(free[n] for n in chosen)
    batch = batch_size(arch, context, available, parallel, request.flash)
    need = footprint(arch, context, parallel, request.kv_type, request.flash, batch)
    context_and_margin = CUDA_CONTEXT + ENGINE_MARGIN
    room = available - len(chosen) * context_and_margin - max(len(chosen) - 1, 0) * need.compute
    surcharge = 0 if arch.encoder else SURCHARGE.get(batch, 0)
    placed = split(arch, need, max(room, 0))
    return Step(request.name, True, (), believed + surcharge, available, batch, chosen, max(room, 0), need, placed)


def _takes(step: Step, places: Sequence[Place]) -> dict[int, int]:
    """Bytes by card that a loaded model takes, its process included; several cards share in proportion to their VRAM."""
    if step.need is None or step.placed is None or not step.places:
        return {}
    on_card = step.need.total - step.placed.cpu_bytes
    total = sum(places[n].card.vram_bytes for n in step.places)
    return {n: CUDA_CONTEXT + max(on_card, 0) * places[n].card.vram_bytes // total for n in step.places}


def evict_each_other(one: Wanted, other: Wanted, residents: Sequence[Wanted], places: Sequence[Place], max_loaded: int) -> bool:
    """Whether asking for the two in turn loads one of them anew every time."""
    steps = simulate((*residents, one, other, one, other), places, max_loaded)
    return steps[-1].loaded and steps[-2].loaded
