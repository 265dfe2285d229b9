"""Models that Ollama's scheduler would keep unloading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

from mesh.hardware import gib
from mesh.hardware.mends import LEAST_CONTEXT
from mesh.hardware.placement import Lane
from mesh.hardware.schedule import Wanted, evict_each_other, simulate
from mesh.rules.rule import Context, Problem, rule

_MOST = 24
"""Models of one Ollama that are tried in pairs; the time grows with the square."""


@rule("vram-resident-evicted", "warning")
def residents_stay_loaded(context: Context) -> Iterator[Problem]:
    """A resident model is unloaded when another one is asked for, although both would fit.

    Ollama decides by a prediction that takes the whole file and an f16 cache by hidden / heads, and wants it within 80 % of what
    is free; `keep_alive: forever` puts a model last in line, but does not pin it. A model with `spill: allowed` does this
    anyway, which `vram-spill` says.
    """
    for lane in context.lanes.values():
        if not lane.residents or len(lane.wanted) > _MOST:
            continue
        for name, wanted in lane.wanted.items():
            if name in lane.resident | lane.spilling:
                continue
            step = simulate((*lane.residents, wanted), lane.places, lane.max_loaded)[-1]
            gone = [each for each in step.evicted if each in lane.resident]
            if gone and not step.spills:
                message = (
                    f"models.{name}: loading it unloads {', '.join(gone)}, which is resident: Ollama believes that it takes"
                    f" {gib(step.believed)}, and wants that within 80 % of what is free"
                )
                size = _keeping(wanted, lane)
                fewer = f"write context: {size}" if size else "choose a smaller model"
                mend = f"{fewer}, or give {gone[0]} an Ollama of its own"
                yield Problem(("models", name, "tag"), message, mend)


def _keeping(wanted: Wanted, lane: Lane) -> int:
    """The largest power-of-two context with which no resident has to go; 0 for none."""
    size = 1 << (wanted.context - 1).bit_length() - 1
    while size >= LEAST_CONTEXT:
        tried = replace(wanted, context=size)
        if not simulate((*lane.residents, tried), lane.places, lane.max_loaded)[-1].evicted:
            return size
        size //= 2
    return 0


@rule("vram-thrash", "warning")
def routes_do_not_evict_each_other(context: Context) -> Iterator[Problem]:
    """Two routes lead to models that cannot be loaded at the same time: asked in turn, each answer begins with a load.

    Found by simulating Ollama's scheduler with what the spec makes of it. Models with `spill: allowed` are left out: they take
    the card for themselves, and you allowed it.
    """
    for lane in context.lanes.values():
        daily: dict[str, str] = {}
        for route, spec in context.mesh.routes.items():
            if spec.to in lane.wanted and spec.to not in lane.resident | lane.spilling:
                daily.setdefault(spec.to, route)
        models = [lane.wanted[name] for name in list(daily)[:_MOST]]
        pairs = [
            (one, other)
            for one, other in combinations(models, 2)
            if evict_each_other(one, other, lane.residents, lane.places, lane.max_loaded)
        ]
        if pairs:
            one, other = pairs[0]
            routes = " and ".join(f"{daily[each.name]} ({each.name})" for each in (one, other))
            more = f", and {len(pairs) - 1} more pairs" if len(pairs) > 1 else ""
            message = (
                f"providers.{lane.provider}: routes {routes} evict each other{more}: asked in turn, each loads its model anew"
            )
            yield Problem(("providers", lane.provider), message, _together(lane, one, other), on_key=True)


def _together(lane: Lane, one: Wanted, other: Wanted) -> str:
    """What keeps both loaded: one more slot, with the contexts as they are or shorter."""
    slots = max(lane.max_loaded, len(lane.residents) + 2)
    extra = f"max_loaded: {slots} on providers.{lane.provider}" if slots != lane.max_loaded else ""
    size = max(one.context, other.context)
    while size >= LEAST_CONTEXT:
        pair = [replace(each, context=min(size, each.context)) for each in (one, other)]
        steps = simulate((*lane.residents, *pair, *pair), lane.places, slots)
        if not any(step.evicted or step.spills for step in steps):
            shorter = [
                f"context: {each.context} for {each.name}" for each, old in zip(pair, (one, other), strict=True) if each != old
            ]
            return "both stay loaded with " + " and ".join([*([extra] if extra else []), *shorter])
        size = 1 << (size - 1).bit_length() - 1
    return "no context keeps both loaded: let the routes share one model, or give one of them a lane without a card"
