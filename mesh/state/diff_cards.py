"""The cards of a host and what is in them, compared with the spec. Pure; part of `mesh.state.diff`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mesh.state.cards import MIB, SeenCard, SeenCards, same_card
from mesh.state.deployment import HostDeployment, OllamaModels
from mesh.state.observed import LoadedModel, Observed, ObservedHost, Unknown
from mesh.state.plan import Change, Deviation

CONTEXT = 450 * MIB
"""CUDA context of one loaded model, at most: nvidia-smi counts it, /api/ps does not."""
DRIVER = 300 * MIB
"""What the driver itself holds on a card, at most."""
TOLERANCE = 512 * MIB
"""Below this nobody undeclared is looked for: sizes of /api/ps are themselves good to some 300 MiB."""


def lost_cards(host: HostDeployment, seen: ObservedHost) -> Iterator[Change]:
    """Containers whose card vanished while the host still has it: after `systemctl daemon-reload`, say. A restart mends it."""
    if seen.cards is None or seen.cards.error:
        return
    said = dict(seen.cards.inside)
    for ollama in host.ollamas:
        words = said.get(ollama.container, "")
        if words:
            why = f"its card vanished from the container ({words})"
            yield Change(host.name, ollama.stack, "service", "ollama", "restart", why)


def deviations(host: HostDeployment, seen: ObservedHost, observed: Observed) -> Iterator[Deviation]:
    """Everything about cards that apply cannot mend."""
    loaded = {ollama.stack: observed.loaded.get(ollama.stack) for ollama in host.ollamas if ollama.on_cards}
    if seen.cards is not None:
        yield from _cards(host, seen.cards)
        known = {stack: models for stack, models in loaded.items() if isinstance(models, tuple)}
        if len(known) == len(loaded):
            yield from _undeclared(host, seen.cards, known)
    for ollama in host.ollamas:
        models = loaded.get(ollama.stack)
        if isinstance(models, tuple):
            yield from _spilled(host, ollama, models)


def _cards(host: HostDeployment, seen: SeenCards) -> Iterator[Deviation]:
    if seen.error:
        names = ", ".join(card.name for card in host.cards)
        mend = f"run nvidia-smi on {host.name} and mend what it says; a reboot cures a driver that was just upgraded"
        yield Deviation(host.name, "", "card", names, seen.error, mend)
        return
    left: list[SeenCard] = list(seen.cards)
    missing = []
    for card in host.cards:
        match = next((each for each in left if same_card(card.name, each)), None)
        if match is None:
            missing.append(card)
        else:
            left.remove(match)
    for card in missing:
        there = f"nvidia-smi shows {left.pop(0)}" if left else "nvidia-smi shows no such card"
        mend = f"write the card that is in {host.name} under hosts.{host.name}.gpus: `mesh fit` then says what it holds"
        yield Deviation(host.name, "", "card", card.name, f"is in the spec, and {there}", mend)
    for extra in left:
        mend = f"add it under hosts.{host.name}.gpus, or keep it from Ollama"
        yield Deviation(host.name, "", "card", extra.name, f"nvidia-smi shows {extra}, and the spec has no such card", mend)


def _undeclared(host: HostDeployment, seen: SeenCards, loaded: Mapping[str, tuple[LoadedModel, ...]]) -> Iterator[Deviation]:
    """VRAM that neither a reserve nor a loaded model explains."""
    used = [card.used for card in seen.cards]
    if not used or None in used:
        return
    taken = sum(each or 0 for each in used)
    reserved = sum(card.reserve for card in host.cards)
    inside = [model.size_vram for models in loaded.values() for model in models if model.size_vram]
    engine = len(inside) * CONTEXT + len(seen.cards) * DRIVER
    beyond = taken - reserved - sum(inside) - engine
    if beyond > TOLERANCE:
        why = (
            f"{_gib(taken)} are taken, and the spec explains {_gib(taken - beyond)} (reserves {_gib(reserved)}, loaded models"
            f" {_gib(sum(inside))}, engine and driver {_gib(engine)})"
        )
        mend = (
            f"`nvidia-smi` on {host.name} lists the processes: declare theirs under hosts.{host.name}.gpus reserve, or stop them"
        )
        yield Deviation(host.name, "", "card", "VRAM", why, mend)


def _spilled(host: HostDeployment, ollama: OllamaModels, models: tuple[LoadedModel, ...]) -> Iterator[Deviation]:
    for model in models:
        if model.size_vram >= model.size or model.tag in ollama.may_spill:
            continue
        share = 100 * (model.size - model.size_vram) // model.size
        if model.size_vram:
            why = f"spilled: {share} % of its {_gib(model.size)} is in RAM, at a context of {model.context}"
            mend = "`mesh fit` says what would make it fit; write spill: allowed where slow is good enough"
        else:
            why = f"runs on the processor: none of its {_gib(model.size)} is on the card"
            mend = f"look at the card: nvidia-smi on {host.name}, and in {ollama.container}"
        yield Deviation(host.name, ollama.stack, "model", model.tag, why, mend)


def not_asked(host: HostDeployment, observed: Observed) -> Iterator[tuple[str, Unknown]]:
    """The Ollamas on cards of which /api/ps could not be read, although the Ollama listed its models."""
    for ollama in host.ollamas:
        models = observed.loaded.get(ollama.stack)
        if ollama.on_cards and isinstance(models, Unknown) and not isinstance(observed.models.get(ollama.stack), Unknown):
            yield ollama.stack, models


def _gib(count: int) -> str:
    return f"{count / 1024**3:.1f} GiB"
