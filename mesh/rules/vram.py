"""The cards of the spec, and the models whose numbers nobody knows."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.hardware import gib
from mesh.hardware.cards import cards, named
from mesh.hardware.models import known_models
from mesh.hardware.placement import architecture
from mesh.rules.rule import Context, Problem, rule

_PLAUSIBLE = 64 * 2**20
"""Bytes; nobody reserves less of a card, so a size of which a thousandth is less was no mistaken unit."""


@rule("card-unknown", "error")
def cards_are_in_the_catalogue(context: Context) -> Iterator[Problem]:
    """The catalogue (mesh/data/gpus.csv) has no such card, so nothing can be said about what fits it."""
    for name, host in context.mesh.hosts.items():
        for index, gpu in enumerate(host.gpus):
            if gpu.card not in cards():
                meant = " or ".join(f"`{slug}`" for slug in named(gpu.card))
                otherwise = "write it as in mesh/data/gpus.csv, in lower case with dashes"
                mend = f"did you mean {meant}?" if meant else context.suggest.mend(gpu.card, [*cards()], otherwise)
                path = ("hosts", name, "gpus", index, "card")
                message = f"hosts.{name}: the catalogue has no card `{gpu.card}`"
                yield Problem(path, message, mend)


@rule("card-missing", "error")
def an_ollama_with_a_gpu_has_one(context: Context) -> Iterator[Problem]:
    """An Ollama is to use the cards of its host, and the host has none. It would run on the processor, ten times slower."""
    for name, provider in context.ollamas.items():
        host = context.mesh.hosts.get(provider.on)
        if host is not None and provider.gpu == "all" and not host.gpus:
            message = f"providers.{name}: it is to use the cards of {provider.on}, which has none"
            yield Problem(("providers", name, "on"), message, f"declare `gpus:` on {provider.on}, or write gpu: none")


@rule("card-reserve", "error")
def reserves_are_smaller_than_the_card(context: Context) -> Iterator[Problem]:
    """The other tenants of a card are said to take all of it, or more than there is. Mostly a unit that is wrong."""
    for name, host in context.mesh.hosts.items():
        for index, gpu in enumerate(host.gpus):
            card, taken = cards().get(gpu.card), sum(gpu.reserve.values())
            if card is None or taken < card.vram_bytes:
                continue
            tenant = max(gpu.reserve, key=lambda each: gpu.reserve[each])
            wrong = gpu.reserve[tenant]
            decimal = wrong % 10**9 == 0
            meant, size = (wrong // 1000, f"{wrong // 10**9}MB") if decimal else (wrong // 1024, f"{wrong // 2**30}MiB")
            mend = f"did you mean {tenant}: {size}?" if _PLAUSIBLE <= meant < card.vram_bytes else "write less"
            message = f"hosts.{name}: {gib(taken)} of {card.name} are reserved for others, and it has {gib(card.vram_bytes)}"
            yield Problem(("hosts", name, "gpus", index, "reserve"), message, mend)


@rule("model-size-unknown", "warning")
def sizes_of_models_are_known(context: Context) -> Iterator[Problem]:
    """The catalogue (mesh/data/models.csv) does not know the model, so it is missing from every sum of VRAM.

    With `weights:` it is counted without its cache; with `architecture:` (layers, hidden, heads, ...) it is counted in full.
    """
    for lane in context.lanes.values():
        for name in lane.unknown:
            tag = context.mesh.models[name].tag
            message = f"models.{name}: the size of `{tag}` is not known, so VRAM is summed without it"
            near = context.suggest.nearest(tag or "", [*known_models()], 0.85)
            describe = f"`mesh fit --describe {lane.provider}:{tag}` prints what to add"
            other = f"did you mean `{near}`? else " if near else ""
            mend = f"{other}{describe}; or add weights: 4.9GB, as `ollama list` shows"
            yield Problem(("models", name, "tag"), message, mend)


@rule("model-numbers", "error")
def the_numbers_of_a_model_make_sense(context: Context) -> Iterator[Problem]:
    """The numbers under `architecture:` contradict each other or what is known: more experts used than there are, say."""
    for name, model in context.mesh.models.items():
        block = model.architecture
        arch = architecture(model) if block is not None and model.at in context.ollamas else None
        if block is None or arch is None:
            continue
        wrong = ""
        if arch.kv_heads_by_layer and len(arch.kv_heads_by_layer) != arch.layers:
            wrong = f"kv_heads lists {len(arch.kv_heads_by_layer)} layers, and there are {arch.layers}"
        elif arch.layered and max(arch.kv_heads_by_layer, default=0) > arch.heads:
            wrong = f"kv_heads lists {max(arch.kv_heads_by_layer)}, which are more than heads {arch.heads}"
        elif arch.layered and arch.kv_heads > arch.heads:
            wrong = f"kv_heads {arch.kv_heads} are more than heads {arch.heads}"
        elif arch.full_layers > arch.layers:
            wrong = f"full_layers {arch.full_layers} are more than layers {arch.layers}"
        elif arch.experts_used > arch.experts:
            wrong = f"experts_used {arch.experts_used} are more than experts {arch.experts}"
        elif not arch.layered:
            wrong = "without layers, hidden and heads the cache cannot be counted"
        if wrong:
            mend = f"`ollama show --verbose {model.tag}` lists them"
            yield Problem(("models", name, "architecture"), f"models.{name}: {wrong}", mend)
