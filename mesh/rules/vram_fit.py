"""What has to fit the cards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mesh.hardware import gib, mends
from mesh.hardware.footprint import Split, Verdict
from mesh.hardware.placement import Lane, foreign
from mesh.hardware.schedule import Step, Wanted, loaded_with, occupied, simulate
from mesh.hardware.speed import Calibration, Speed, decode_speed, reference_rows
from mesh.rules.rule import Context, Problem, rule

_MOST_RESIDENTS = 8
"""Resident models of one Ollama that are tried one by one as the one in the way; the time grows with the square."""


@dataclass(frozen=True, slots=True)
class _Case:
    """A model and what is loaded beside it in the worst case. used: bytes of each card."""

    name: str
    wanted: Wanted
    lane: Lane
    names: tuple[str, ...]
    used: tuple[int, ...]

    @property
    def step(self) -> Step:
        return loaded_with(self.wanted, self.used, self.lane.places)


def _cases(context: Context) -> Iterator[_Case]:
    """Every model that uses cards: a resident one beside those before it, another one beside all residents."""
    for lane in context.lanes.values():
        every = foreign(lane, context.lanes)
        names, used = [each.name for each in every], occupied(every, lane.places)
        for resident in lane.residents:
            case = _Case(resident.name, resident, lane, tuple(names), used)
            yield case
            names.append(resident.name)
            used = occupied((resident,), lane.places, used)
        for name, wanted in lane.wanted.items():
            if name not in lane.resident:
                yield _Case(name, wanted, lane, tuple(names), used)


def _tenants(context: Context, case: _Case) -> str:
    """`nomic-embed, desktop and the engine's margin`: what shares the cards with the model."""
    reserved = [tenant for gpu in context.mesh.hosts[case.lane.host].gpus for tenant in gpu.reserve]
    named = [*case.names[:5], *(["others"] if len(case.names) > 5 else []), *dict.fromkeys(reserved)]
    return f"{', '.join(named)} and the engine's margin" if named else "the engine's margin"


def _takes(case: _Case, step: Step) -> str:
    need = step.need
    assert need is not None
    parts = f"weights {gib(need.weights)}, cache {gib(need.kv)}, buffers {gib(need.compute + need.projector)}"
    return f"with {case.wanted.context} tokens it takes {gib(need.total)} ({parts})"


def _cards(case: _Case) -> str:
    return f"{case.lane.host}'s {' + '.join(place.card.name for place in case.lane.places)}"


def _speed(case: _Case, step: Step, placed: Split | None = None) -> Speed:
    """Short-context speed with the reference rows, where they apply."""
    on = [case.lane.places[n].card for n in step.places]
    split = placed or step.placed
    assert split is not None
    return decode_speed(on, case.wanted.arch, 0, split, Calibration(reference_rows()), kv_type=case.wanted.kv_type)


def _lane_without_a_card(context: Context, case: _Case) -> str:
    """The mend by the processor: an Ollama that is there already, or one that could be on the host with the most RAM."""
    arch = case.wanted.arch
    slow = decode_speed((), arch, 0, Split(0, arch.layers, 0, max(arch.blob_bytes, 1)))
    about = f"on the processor, about {slow.tok_s:.1f} tok/s"
    for name, provider in context.ollamas.items():
        if provider.gpu == "none":
            return f"at: {name} ({about})"
    hosts = {name: host.ram for name, host in context.mesh.hosts.items() if host.ram and host.ram > 1.5 * arch.blob_bytes}
    if not hosts:
        return ""
    host = max(hosts, key=lambda name: hosts[name] or 0)
    return f"add providers.ollama-cpu: {{kind: ollama, on: {host}, port: 11435, gpu: none}} and at: ollama-cpu ({about})"


def _mends(context: Context, case: _Case, step: Step) -> str:
    """Everything that would do, each tried by the same arithmetic."""
    places = case.lane.places
    offered = []
    if size := mends.largest_context(case.wanted, case.used, places):
        offered.append(f"context: {size} (the largest that fits)")
    if kind := mends.kv_types(case.wanted, case.used, places):
        offered.append(f"kv_cache: {kind} on providers.{case.lane.provider}")
    if (arch := mends.sibling(case.wanted, case.used, places)) is not None:
        offered.append(f'tag: "{arch.tag}"')
    if resident := _resident_in_the_way(context, case):
        offered.append(f"resident: false for {resident}")
    if lane := _lane_without_a_card(context, case):
        offered.append(lane)
    ram = context.mesh.hosts[case.lane.host].ram
    if step.placed is None or ram is None or step.placed.cpu_bytes <= ram * 3 // 4:
        offered.append(f"spill: allowed (about {_speed(case, step).tok_s:.1f} tok/s)")
    return "; or ".join(offered) or "choose a smaller model"


def _resident_in_the_way(context: Context, case: _Case) -> str:
    """The smallest resident model without which this one fits beside all the others; empty for none."""
    beside = [each for each in case.lane.residents if each.name in case.names]
    if len(beside) > _MOST_RESIDENTS:
        return ""
    for resident in sorted(beside, key=lambda each: each.arch.blob_bytes):
        others = [each for each in beside if each is not resident]
        used = occupied((*foreign(case.lane, context.lanes), *others), case.lane.places)
        if mends.fits(case.wanted, used, case.lane.places):
            return resident.name
    return ""


@rule("vram-exceeded", "error")
def models_fit_the_cards(context: Context) -> Iterator[Problem]:
    """A model does not fit the cards beside all resident models, the other tenants' reserves and the engine's margin.

    Then Ollama puts layers into RAM, and 84 tokens a second become 4. What it takes is weights, KV cache at its full context and
    buffers, by docs/vram.md, right within 0.3 GiB. A resident model is counted beside the residents before it; another one
    beside all residents and, where several Ollamas share a card, the largest model of each other one. Every mend was tried.
    """
    for case in _cases(context):
        step = case.step
        if step.verdict is Verdict.SPILLS and case.name not in case.lane.spilling:
            message = (
                f"models.{case.name}: {_takes(case, step)}, and {_cards(case)} has {gib(step.room)} for it"
                f" beside {_tenants(context, case)}"
            )
            yield Problem(("models", case.name, "tag"), message, _mends(context, case, step))


@rule("vram-tight", "warning")
def models_fit_with_something_to_spare(context: Context) -> Iterator[Problem]:
    """A model fits, but with less than half a GiB to spare. The arithmetic is right within 0.3 GiB: it may spill after all."""
    for case in _cases(context):
        step = case.step
        if step.verdict is Verdict.TIGHT and case.name not in case.lane.spilling:
            message = (
                f"models.{case.name}: {_takes(case, step)}, {gib(step.spare)} less than {_cards(case)} has for it;"
                " the prediction is right within 0.3 GiB"
            )
            size = _comfortable(case)
            mend = f"context: {size} leaves half a GiB" if size else "`mesh fit` after the first start shows whether it spilled"
            yield Problem(("models", case.name, "tag"), message, mend)


def _comfortable(case: _Case) -> int:
    """The largest power-of-two context below the model's own with which it fits with half a GiB to spare; 0 for none."""
    size = 1 << (case.wanted.context - 1).bit_length() - 1
    while size >= mends.LEAST_CONTEXT:
        if loaded_with(replace(case.wanted, context=size), case.used, case.lane.places).verdict is Verdict.FITS:
            return size
        size //= 2
    return 0


@rule("vram-spill", "notice")
def spilling_models_are_named(context: Context) -> Iterator[Problem]:
    """A model with `spill: allowed` does not fit: part of it will be in RAM, and slow. You allowed it, so it is only said."""
    for case in _cases(context):
        step = case.step
        if step.verdict is not Verdict.SPILLS or case.name not in case.lane.spilling:
            continue
        placed = step.placed
        assert placed is not None
        evicted = simulate((*case.lane.residents, case.wanted), case.lane.places, case.lane.max_loaded)[-1].evicted
        also = f"; loading it unloads {', '.join(evicted)}" if evicted else ""
        message = (
            f"models.{case.name}: {_takes(case, step)}, and {_cards(case)} has {gib(step.room)} for it: {placed.layers_gpu} of"
            f" {placed.layers} layers stay on the card, about {_speed(case, step)}{also}"
        )
        larger = mends.vram_needed(case.wanted, case.used, case.lane.places)
        card = f"a card of {gib(larger)} would hold it" if larger else "no card of the catalogue would hold it"
        yield Problem(("models", case.name, "spill"), message, f"nothing, if slow is good enough; {card}")
