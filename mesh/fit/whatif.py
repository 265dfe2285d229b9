"""Another card in a host: what newly fits, how fast, which routes could come in-house, what it would save. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mesh.errors import MeshError
from mesh.fit.verdict import HostFit, ModelFit, fit, loaded_beside, reach
from mesh.fit.volumes import Ledger, Volume, counted, declared
from mesh.hardware import mends
from mesh.hardware.cards import Card, cards, named
from mesh.hardware.models import Architecture, known_models
from mesh.hardware.placement import lanes
from mesh.hardware.schedule import Wanted, loaded_with, occupied
from mesh.hardware.speed import Calibration, Speed, decode_speed
from mesh.spec.mesh import Mesh
from mesh.suggest import Suggester

USABLE = 15.0
"""Tokens a second, with a full context, that one reads along with. Slower is no replacement for a cloud route."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model of the catalogue, not of the spec, that would fit only with the new card. context: the largest that fits."""

    tag: str
    context: int
    speed: Speed


@dataclass(frozen=True, slots=True)
class InHouse:
    """A route to the cloud that could name a model which becomes usable.

    month: what it carries in the cloud, None where nobody says. hours: of the fastest of these models, for writing as many
    tokens (reading the prompts comes on top); kwh: the cards at full load for so long.
    """

    route: str
    now: str
    could: tuple[str, ...]
    month: Volume | None
    hours: float | None
    kwh: float | None


@dataclass(frozen=True, slots=True)
class Swap:
    """Today and then of one host. watts: TDP of all its cards."""

    host: str
    today: HostFit
    then: HostFit
    usable: tuple[str, ...]
    contexts: tuple[tuple[str, int], ...]
    candidates: tuple[Candidate, ...]
    in_house: tuple[InHouse, ...]
    watts: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Ranked:
    """One card of the catalogue in this mesh. fitting: how many of `models` fit. daily: speed of the model most in use."""

    card: Card
    fitting: int
    models: int
    daily: Speed | None
    daily_fits: bool


def parse_swap(mesh: Mesh, text: str) -> tuple[str, tuple[str, ...]]:
    """`gpu-box=rtx-3090`, or `gpu-box=rtx-3090+rtx-3090` for two, to the host and its new cards."""
    host, equals, listed = text.partition("=")
    names = tuple(name.strip() for name in listed.split("+"))
    if not equals or not host or not all(names):
        raise MeshError(f"`{text}` is no swap", where="--swap", mend="write HOST=CARD, such as gpu-box=rtx-3090")
    if host not in mesh.hosts:
        mend = Suggester().mend(host, mesh.hosts, f"the spec has {', '.join(mesh.hosts)}")
        raise MeshError(f"there is no host {host} in the spec", where="--swap", mend=mend)
    for name in names:
        if name not in cards():
            meant = " or ".join(named(name))
            otherwise = "mesh/data/gpus.csv lists the cards that are known"
            mend = f"did you mean {meant}?" if meant else Suggester().mend(name, cards(), otherwise)
            raise MeshError(f"the catalogue has no card {name}", where="--swap", mend=mend)
    return host, names


def with_cards(mesh: Mesh, host: str, names: Sequence[str]) -> Mesh:
    """The mesh with these cards in a host. What is reserved on the first, second, ... card today stays so."""
    from mesh.spec.hosts import Gpu

    old = mesh.hosts[host]
    kept = [old.gpus[n].reserve if n < len(old.gpus) else {} for n in range(len(names))]
    gpus = tuple(Gpu.model_construct(card=name, reserve=dict(reserve)) for name, reserve in zip(names, kept, strict=True))
    return mesh.model_copy(update={"hosts": {**mesh.hosts, host: old.model_copy(update={"gpus": gpus})}})


def swap(mesh: Mesh, host: str, names: Sequence[str], calibration: Calibration, ledger: Ledger | None = None) -> Swap:
    """Today and then. ledger: what the gateway counted; without it, the spec's volumes are what routes carry."""
    other = with_cards(mesh, host, names)
    today, then = _of(fit(mesh, calibration), host), _of(fit(other, calibration), host)
    usable = tuple(name for name in _usable(then) if name not in _usable(today))
    contexts = tuple((model.name, _largest(other, model)) for model in then.models if model.on_card and model.short)
    watts = (_watts(today), _watts(then))
    candidates = _candidates(mesh, other, host, calibration)
    volumes = declared(mesh) if ledger is None else counted(mesh, ledger)
    speeds = {model.name: model.short.tok_s for model in then.models if model.name in usable and model.short}
    in_house = tuple(_in_house(mesh, speeds, dict(contexts), volumes, watts[1]))
    return Swap(host, today, then, usable, contexts, candidates, in_house, watts)


def rank(mesh: Mesh, host: str, calibration: Calibration) -> tuple[Ranked, ...]:
    """Every card of the catalogue in place of the host's: what fits most first, then by speed, then by watts."""
    daily = daily_model(mesh, host)
    ranked = []
    for slug, card in cards().items():
        found = _of(fit(with_cards(mesh, host, [slug] * max(len(mesh.hosts[host].gpus), 1)), calibration), host)
        models = [model for model in found.models if model.verdict is not None]
        used = next((model for model in models if model.name == daily), None)
        fitting = sum(model.on_card for model in models)
        ranked.append(Ranked(card, fitting, len(models), used.short if used else None, bool(used and used.on_card)))
    return tuple(sorted(ranked, key=lambda each: (-each.fitting, -(each.daily.tok_s if each.daily else 0), each.card.tdp_w)))


def daily_model(mesh: Mesh, host: str) -> str | None:
    """The chat model of the host that answers most routes by itself, then as a fallback; None where it has none."""
    here = [
        name
        for name, model in mesh.models.items()
        if model.kind == "chat" and (provider := mesh.ollamas.get(model.at)) and provider.on == host and provider.gpu == "all"
    ]
    first = Counter(route.to for route in mesh.routes.values())
    later = Counter(name for route in mesh.routes.values() for name in route.chain[1:])
    return max(here, key=lambda name: (first[name], later[name]), default=None)


def _of(hosts: Sequence[HostFit], host: str) -> HostFit:
    found = next((each for each in hosts if each.host == host), None)
    if found is None or not any(model.verdict for model in found.models):
        raise MeshError(f"no Ollama of the spec uses cards of {host}", where=f"hosts.{host}", mend="name the host with the card")
    return found


def _usable(host: HostFit) -> list[str]:
    return [model.name for model in host.models if model.on_card and model.full and model.full.tok_s >= USABLE]


def _largest(mesh: Mesh, model: ModelFit) -> int:
    every = lanes(mesh)
    lane = every[model.lane]
    return reach(lane.wanted[model.name], loaded_beside(lane, every, model.name), lane.places)


def _watts(host: HostFit) -> int:
    return sum(place.card.tdp_w for place in host.cards)


def _candidates(mesh: Mesh, other: Mesh, host: str, calibration: Calibration) -> tuple[Candidate, ...]:
    """Models of the catalogue that spill today even with a small context and are usable then."""
    now = next((lane for lane in lanes(mesh).values() if lane.host == host), None)
    then = next(lane for lane in lanes(other).values() if lane.host == host)
    inside = {wanted.arch.tag for wanted in then.wanted.values()}
    example = next(iter(then.wanted.values()))
    found = []
    for tag, arch in known_models().items():
        if arch.encoder or tag in inside:
            continue
        wanted = _as(example, arch)
        if now is not None and mends.fits(wanted, occupied(now.residents, now.places), now.places):
            continue
        used = occupied(then.residents, then.places)
        context = reach(wanted, used, then.places)
        if context < wanted.context:
            continue
        step = loaded_with(wanted, used, then.places)
        assert step.placed is not None
        speed = decode_speed([then.places[n].card for n in step.places], arch, 0, step.placed, calibration)
        found.append(Candidate(tag, context, speed))
    return tuple(found)


def _as(example: Wanted, arch: Architecture) -> Wanted:
    return Wanted(arch.tag, arch, 8192, example.keep_alive, example.parallel, example.kv_type, example.flash)


def _in_house(
    mesh: Mesh, speeds: Mapping[str, float], contexts: Mapping[str, int], volumes: Mapping[str, Volume], watts: int
) -> Iterator[InHouse]:
    """Routes whose first target is in the cloud, with the models that become usable and take the route's context.

    speeds: tokens a second of these models. Whether they answer well enough is not judged.
    """
    for name, route in mesh.routes.items():
        could = tuple(model for model in speeds if contexts[model] >= (route.context or 0))
        if not could or mesh.is_local(route.to):
            continue
        month = volumes.get(name)
        hours = month.tokens_out / max(speeds[model] for model in could) / 3600 if month is not None else None
        yield InHouse(name, route.to, could, month, hours, hours * watts / 1000 if hours is not None else None)
