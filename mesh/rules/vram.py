"""What has to fit the cards."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.rules.rule import Context, Problem, rule
from mesh.spec.hosts import Host
from mesh.spec.providers import Model

_GIB = 2**30


def _gib(count: float) -> str:
    return f"{count / _GIB:.1f} GiB"


def _on_cards(context: Context) -> dict[str, dict[str, list[tuple[str, Model]]]]:
    """Models by host and Ollama provider, for the providers that use the cards of their host."""
    found: dict[str, dict[str, list[tuple[str, Model]]]] = {name: {} for name in context.mesh.hosts}
    for name, provider in context.ollamas.items():
        if provider.gpu == "all" and provider.on in found:
            found[provider.on][name] = []
    for name, model in context.mesh.models.items():
        at = context.ollamas.get(model.at)
        if at is not None and model.at in found.get(at.on, ()):
            found[at.on][model.at].append((name, model))
    return found


def _weight(context: Context, model: Model) -> int | None:
    """Bytes of the model's weights; None where they are not known."""
    if model.weights is not None:
        return model.weights
    return context.world.catalogue.weight_of(model.tag) if model.tag else None


def _cards(context: Context, host: Host) -> int | None:
    """Bytes of all cards of the host; None where one is unknown or there is none."""
    cards = [context.world.catalogue.cards.get(gpu.card) for gpu in host.gpus]
    known = [card.vram for card in cards if card is not None]
    return sum(known) if known and len(known) == len(cards) else None


@rule("card-unknown", "error")
def cards_are_in_the_catalogue(context: Context) -> Iterator[Problem]:
    """The catalogue (mesh/data/gpus.csv) has no such card, so nothing can be said about what fits it."""
    known = context.world.catalogue.cards
    for name, host in context.mesh.hosts.items():
        for index, gpu in enumerate(host.gpus):
            if gpu.card not in known:
                mend = context.suggest.mend(gpu.card, known, "write it as in mesh/data/gpus.csv, in lower case with dashes")
                path = ("hosts", name, "gpus", index, "card")
                yield Problem(path, f"hosts.{name}: the catalogue has no card `{gpu.card}`", mend)


@rule("card-missing", "error")
def an_ollama_with_a_gpu_has_one(context: Context) -> Iterator[Problem]:
    """An Ollama is to use the cards of its host, and the host has none. It would run on the processor, ten times slower."""
    for name, provider in context.ollamas.items():
        host = context.mesh.hosts.get(provider.on)
        if host is not None and provider.gpu == "all" and not host.gpus:
            message = f"providers.{name}: it is to use the cards of {provider.on}, which has none"
            yield Problem(("providers", name, "on"), message, f"declare `gpus:` on {provider.on}, or write gpu: none")


@rule("model-size-unknown", "warning")
def sizes_of_models_are_known(context: Context) -> Iterator[Problem]:
    """The catalogue (mesh/data/models.csv) does not know the model, so it is missing from every sum of VRAM."""
    for name, model in context.mesh.models.items():
        provider = context.ollamas.get(model.at)
        if provider is not None and provider.gpu == "all" and model.tag and _weight(context, model) is None:
            message = f"models.{name}: the size of `{model.tag}` is not known, so VRAM is summed without it"
            yield Problem(("models", name, "tag"), message, "add weights: 4.9GB, the size that `ollama list` shows")


@rule("vram-exceeded", "error")
def models_fit_the_cards(context: Context) -> Iterator[Problem]:
    """The weights of all resident models, the largest other model and the reserves of other tenants exceed the host's cards.

    A model that is allowed to overflow into RAM (`spill: allowed`) is left out. This is the plain sum of weights: context and
    buffers come on top.
    """
    on_cards = _on_cards(context)
    for name, host in context.mesh.hosts.items():
        total = _cards(context, host)
        if total is None:
            continue
        parts = [(sum(sum(gpu.reserve.values()) for gpu in host.gpus), "reserved for others")]
        for models in on_cards[name].values():
            sized = [(weight, key, model) for key, model in models if (weight := _weight(context, model)) is not None]
            parts += [(weight, key) for weight, key, model in sized if model.resident]
            on_demand = [(weight, key) for weight, key, model in sized if not model.resident and model.spill is None]
            parts += [max(on_demand)] if on_demand else []
        need = sum(size for size, _ in parts)
        if need > total:
            what = " + ".join(f"{key} {_gib(size)}" for size, key in parts if size)
            message = f"hosts.{name}: {what} = {_gib(need)}, and the cards have {_gib(total)}"
            mend = "choose a smaller model, make one not resident, or write spill: allowed where slow is good enough"
            yield Problem(("hosts", name, "gpus"), message, mend, on_key=True)


@rule("vram-spill", "notice")
def spilling_models_are_named(context: Context) -> Iterator[Problem]:
    """A model with `spill: allowed` does not fit: part of it will be in RAM, and slow. You allowed it, so it is only said."""
    on_cards = _on_cards(context)
    for name, host in context.mesh.hosts.items():
        total = _cards(context, host)
        if total is None:
            continue
        reserved = sum(sum(gpu.reserve.values()) for gpu in host.gpus)
        for models in on_cards[name].values():
            resident = sum(_weight(context, model) or 0 for _, model in models if model.resident and model.spill is None)
            for key, model in models:
                weight, room = _weight(context, model), total - reserved - resident
                if model.spill is not None and weight is not None and weight > room:
                    message = (
                        f"models.{key}: of {_gib(weight)} at most {_gib(max(room, 0))} fit the card; the rest is in RAM, and slow"
                    )
                    yield Problem(("models", key, "spill"), message, "nothing, if slow is good enough; a larger card otherwise")
