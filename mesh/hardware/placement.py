"""The spec's models and cards in the terms of the arithmetic: what each Ollama is asked to hold, and where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mesh.hardware.cards import cards
from mesh.hardware.models import Architecture, canonical, from_spec, known_model
from mesh.hardware.schedule import Place, Wanted
from mesh.spec.hosts import Host
from mesh.spec.mesh import Mesh
from mesh.spec.providers import Model, OllamaProvider

DEFAULT_CONTEXT = 4096
"""Tokens of a model whose context nobody says: what is rendered is never the engine's own default, which grows with VRAM."""
DEFAULT_KEEP_ALIVE = 300
"""Seconds; Ollama's own default (5m)."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One Ollama that uses cards. places: the host's cards. wanted: its models by name, as far as they are known.

    unknown: names of models without a size. resident, spilling: names by what the spec says of them.
    """

    provider: str
    host: str
    places: tuple[Place, ...]
    max_loaded: int
    wanted: Mapping[str, Wanted]
    unknown: tuple[str, ...]
    resident: frozenset[str]
    spilling: frozenset[str]

    @property
    def residents(self) -> tuple[Wanted, ...]:
        return tuple(self.wanted[name] for name in self.wanted if name in self.resident)


def architecture(model: Model, live: Mapping[str, Architecture] | None = None) -> Architecture | None:
    """What is known about a model: the spec over a live Ollama over a GGUF header over the catalogue; None where nothing is.

    live: by tag, from POST /api/show or a GGUF header; `source` of what comes back says which it was.
    """
    if model.tag is None:
        return None
    tag = canonical(model.tag)
    known = (live or {}).get(tag) or known_model(tag)
    numbers = model.architecture.model_dump(exclude_none=True) if model.architecture is not None else None
    return from_spec(tag, known, weights=model.weights, projector=model.projector, numbers=numbers)


def server_context(models: Iterable[Model]) -> int:
    """OLLAMA_CONTEXT_LENGTH of a server with these models: never more than what any of them was promised and counted with."""
    return min((model.context for model in models if model.kind == "chat" and model.context), default=DEFAULT_CONTEXT)


def max_loaded(provider: OllamaProvider, models: Iterable[Model]) -> int:
    """OLLAMA_MAX_LOADED_MODELS: what the spec says, else the resident models and one more."""
    return provider.max_loaded or sum(model.resident for model in models) + 1


def context_of(model: Model, arch: Architecture, default: int) -> int:
    """Tokens that Ollama runs a model with. default: the server's, which embeddings always get (their API carries none)."""
    wished = model.context if model.context and model.kind == "chat" else default
    return min(wished, arch.max_context)


def places_of(host: Host) -> tuple[Place, ...] | None:
    """The host's cards; None where it has none or one is not in the catalogue."""
    known = cards()
    if not host.gpus or any(gpu.card not in known for gpu in host.gpus):
        return None
    return tuple(Place(known[gpu.card], sum(gpu.reserve.values())) for gpu in host.gpus)


def wanted(name: str, model: Model, provider: OllamaProvider, arch: Architecture, default: int) -> Wanted:
    """A model as its Ollama is asked for it."""
    keep = DEFAULT_KEEP_ALIVE if model.keep_alive is None else model.keep_alive
    context = context_of(model, arch, default)
    return Wanted(name, arch, context, keep, provider.parallel, provider.kv_cache, provider.flash_attention)


def lanes(mesh: Mesh, live: Mapping[str, Architecture] | None = None) -> dict[str, Lane]:
    """Every Ollama that uses cards which the catalogue knows, by provider. References that dangle are left out."""
    found = {}
    for name, provider in mesh.ollamas.items():
        host = mesh.hosts.get(provider.on)
        places = places_of(host) if host is not None and provider.gpu == "all" else None
        if places is None:
            continue
        models = {key: model for key, model in mesh.models.items() if model.at == name and model.tag is not None}
        default = server_context(models.values())
        known = {key: arch for key, model in models.items() if (arch := architecture(model, live)) is not None}
        found[name] = Lane(
            provider=name,
            host=provider.on,
            places=places,
            max_loaded=max_loaded(provider, models.values()),
            wanted={key: wanted(key, models[key], provider, arch, default) for key, arch in known.items()},
            unknown=tuple(key for key in models if key not in known),
            resident=frozenset(key for key, model in models.items() if model.resident),
            spilling=frozenset(key for key, model in models.items() if model.spill is not None),
        )
    return found


def foreign(lane: Lane, every: Mapping[str, Lane]) -> tuple[Wanted, ...]:
    """What other Ollamas hold on the same host's cards in the worst case: their residents and of each its largest other model."""
    found: list[Wanted] = []
    for other in every.values():
        if other.host != lane.host or other.provider == lane.provider:
            continue
        found += other.residents
        demand = [each for key, each in other.wanted.items() if key not in other.resident | other.spilling]
        found += sorted(demand, key=lambda each: each.arch.blob_bytes)[-1:]
    return tuple(found)
