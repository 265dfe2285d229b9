"""Ollama: one stack for every provider of kind ollama, of the provider's name."""

from typing import Any

from mesh.compile.stack import Instance, StackKind
from mesh.compile.template import compose_bytes
from mesh.spec.hosts import Host
from mesh.spec.types import FOREVER

ENGINE_MARGIN = 1024
"""MiB that llama.cpp's fit leaves free on every card by default."""
DEFAULT_CONTEXT = 4096
DEFAULT_KEEP_ALIVE = "5m"


def values(instance: Instance) -> dict[str, Any]:
    provider = instance.mesh.ollamas[instance.name]
    host = instance.placement.host
    models = [model for model in instance.mesh.models.values() if model.at == instance.name]
    chat = [model.context for model in models if model.kind == "chat" and model.context]
    # Embeddings come by Ollama's OpenAI path, which carries no keep_alive: the server's default is theirs. Chat sends its own.
    keep = [model.keep_alive for model in models if model.kind == "embedding" and model.keep_alive is not None]
    gpu = provider.gpu == "all" and bool(host.gpus)
    return {
        "gpu": gpu,
        # For requests that name no context: never more than what any model was promised and counted with.
        "context_length": str(min(chat, default=DEFAULT_CONTEXT)),
        "keep_alive": ("-1" if FOREVER in keep else f"{max(keep)}s") if keep else DEFAULT_KEEP_ALIVE,
        "max_loaded": str(sum(model.resident for model in models) + 1),
        "fit_target": ",".join(str(ENGINE_MARGIN + sum(card.reserve.values()) // 1024**2) for card in host.gpus) if gpu else "",
        "ram_limit": compose_bytes(_ram_limit(host)),
    }


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
