"""Ollama: one stack for every provider of kind ollama, of the provider's name."""

from typing import Any

from mesh.compile.stack import Instance, StackKind
from mesh.compile.template import compose_bytes
from mesh.hardware.footprint import ENGINE_MARGIN
from mesh.hardware.placement import foreign, lanes, max_loaded, server_context
from mesh.hardware.schedule import loaded_with, occupied
from mesh.spec.hosts import Host
from mesh.spec.types import FOREVER

DEFAULT_KEEP_ALIVE = "5m"
MIB = 1024**2


def values(instance: Instance) -> dict[str, Any]:
    provider = instance.mesh.ollamas[instance.name]
    host = instance.placement.host
    models = [model for model in instance.mesh.models.values() if model.at == instance.name]
    # Embeddings come by Ollama's OpenAI path, which carries no keep_alive: the server's default is theirs. Chat sends its own.
    keep = [model.keep_alive for model in models if model.kind == "embedding" and model.keep_alive is not None]
    gpu = provider.gpu == "all" and bool(host.gpus)
    # The processor needs flash attention for a quantised cache only; without it it reads prompts faster.
    flash = provider.flash_attention if gpu else provider.kv_cache != "f16"
    return {
        "gpu": gpu,
        # For requests that name no context. Always rendered: Ollama's own default grows with the card.
        "context_length": str(server_context(models)),
        "keep_alive": ("-1" if FOREVER in keep else f"{max(keep)}s") if keep else DEFAULT_KEEP_ALIVE,
        "max_loaded": str(max_loaded(provider, models)),
        "parallel": str(provider.parallel),
        "kv_cache": provider.kv_cache,
        "flash_attention": "1" if flash else "0",
        "fit_target": ",".join(str(-(-target // MIB)) for target in _fit_targets(instance)) if gpu else "",
        # One card, or several by their numbers: in nvidia-smi's order, so that each gets the fit target of its own tenants.
        "device_ids": [str(number) for number in range(len(host.gpus))] if gpu and len(host.gpus) > 1 else [],
        "variables": dict(sorted(provider.env.items())),
        "ram_limit": compose_bytes(_ram_limit(host)),
    }


def _fit_targets(instance: Instance) -> list[int]:
    """Bytes that the engine leaves free on each card: its own margin, the largest projector, and what is kept for others.

    The engine compares it with what is free at the moment. What a tenant has taken already is not free, so that keeping its
    reserve free as well counts it twice: that may push a model into RAM which fits by `mesh check`. But a model that spills
    fills all it may, and would leave nothing for a tenant that comes later. Hence: the reserve is kept free where a model may
    spill, as far as all models that fit still do. Ollama adds nothing for a vision projector where the variable is set.
    """
    gpus = instance.placement.host.gpus
    reserves = [sum(gpu.reserve.values()) for gpu in gpus]
    every = lanes(instance.mesh)
    lane = every.get(instance.name)
    if lane is None:  # a card that the catalogue does not know: nothing can be said about what fits
        return [ENGINE_MARGIN + reserve for reserve in reserves]
    margin = ENGINE_MARGIN + max((wanted.arch.projector_bytes for wanted in lane.wanted.values()), default=0)
    if not lane.spilling:
        return [margin] * len(gpus)
    used = occupied((*foreign(lane, every), *lane.residents), lane.places)
    spares = [
        loaded_with(wanted, used, lane.places).spare
        for name, wanted in lane.wanted.items()
        if name not in lane.resident | lane.spilling
    ]
    spare = max(min(spares, default=max(reserves)), 0) // len(gpus)
    return [margin + min(reserve, spare) for reserve in reserves]


def _ram_limit(host: Host) -> int:
    """Three quarters of the host's RAM, in whole MiB: what does not fit the card is held there."""
    return (host.ram or 16 * 1024**3) * 3 // 4 // 1024**2 * 1024**2


stack = StackKind(
    images={"ollama": "ollama/ollama:0.32.15"},
    port=11434,
    probe="/api/version",
    volumes=("models",),
    values=values,
)
