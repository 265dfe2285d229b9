"""What Ollama is told: contexts, the KV type, variables."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.hardware import gib
from mesh.hardware.cards import cards
from mesh.hardware.models import canonical
from mesh.hardware.placement import architecture, server_context
from mesh.rules.rule import Context, Problem, rule
from mesh.spec.providers import Model


def _models(context: Context) -> Iterator[tuple[str, Model]]:
    """The models of every Ollama, with a card or without."""
    for name, model in context.mesh.models.items():
        if model.at in context.ollamas and model.tag is not None:
            yield name, model


@rule("context-exceeds-model", "error")
def contexts_are_within_the_models(context: Context) -> Iterator[Problem]:
    """A model is to have a longer context than it was made for. Ollama would cut it to the model's own and not say so."""
    for name, model in _models(context):
        arch = architecture(model)
        if arch is not None and model.context is not None and model.context > arch.max_context:
            message = (
                f"models.{name}: `{model.tag}` has at most {arch.max_context} tokens of context, not {model.context}"
                f" (from {arch.source})"
            )
            yield Problem(("models", name, "context"), message, f"write context: {arch.max_context}")


@rule("context-default", "notice")
def contexts_are_written(context: Context) -> Iterator[Problem]:
    """A model of an Ollama has no `context`, so it gets the one that is said here; it is always rendered.

    Left to itself, Ollama chooses by the card: 4096 tokens below 23 GiB of VRAM, 32768 from there, 262144 from 47 GiB. A model
    that fits a 12 GB card may then spill on a 24 GB one.
    """
    for name, model in _models(context):
        if model.context is None and model.kind == "chat":
            beside = [other for _, other in _models(context) if other.at == model.at]
            arch, tokens = architecture(model), server_context(beside)
            got = min(tokens, arch.max_context) if arch is not None else tokens
            message = f"models.{name}: it has no `context`, and is counted and run with {got} tokens"
            yield Problem(("models", name), message, f"write context: {got}, or what its routes need", on_key=True)


@rule("context-differs", "error")
def a_model_has_one_context(context: Context) -> Iterator[Problem]:
    """Two models of the spec are the same tag of one Ollama with different contexts.

    Ollama holds one runner for a tag: with every request that names another context it is unloaded and loaded anew, which takes
    seconds. Write one model and use it in all routes.
    """
    first: dict[tuple[str, str], tuple[str, Model]] = {}
    for name, model in _models(context):
        if model.kind == "embedding":  # their API carries no context: they always have the server's
            continue
        identity = (model.at, canonical(model.tag or ""))
        other, known = first.setdefault(identity, (name, model))
        if known.context != model.context:
            longest = max(known.context or 0, model.context or 0)
            said = [f"{each.context} tokens" if each.context else "no context" for each in (model, known)]
            message = (
                f"models.{name}: `{model.tag}` has {said[0]} here and {said[1]} in models.{other}:"
                f" {model.at} would load it anew at every switch"
            )
            yield Problem(
                ("models", name), message, f"write context: {longest} for both, or use {other} in the routes", on_key=True
            )


@rule("ollama-kv-cache", "error")
def a_quantised_cache_has_flash_attention(context: Context) -> Iterator[Problem]:
    """A quantised KV cache (`kv_cache: q8_0` or q4_0) needs flash attention, which is off or not there on the card."""
    for name, provider in context.ollamas.items():
        if provider.kv_cache == "f16":
            continue
        if not provider.flash_attention:
            message = f"providers.{name}: kv_cache: {provider.kv_cache} needs flash attention, which is off"
            yield Problem(("providers", name, "kv_cache"), message, "write flash_attention: true, or kv_cache: f16")
        host = context.mesh.hosts.get(provider.on)
        for gpu in host.gpus if host is not None and provider.gpu == "all" else ():
            card = cards().get(gpu.card)
            if card is not None and not card.flash_attention:
                message = f"providers.{name}: kv_cache: {provider.kv_cache} needs flash attention, which {card.name} does not do"
                yield Problem(("providers", name, "kv_cache"), message, "write kv_cache: f16")


_DEAD = {
    "OLLAMA_NEW_ENGINE": "Ollama reads it no more since 0.30",
    "OLLAMA_MULTIUSER_CACHE": "Ollama reads it no more since 0.30",
    "OLLAMA_NEW_ESTIMATES": "Ollama reads it no more since 0.13",
    "OLLAMA_MAX_VRAM": "Ollama reads it no more",
    "OLLAMA_GPU_OVERHEAD": "since Ollama 0.30 it keeps nothing free: it is not handed on to the runner",
}
_DEAD_MENDS = {
    "OLLAMA_MAX_VRAM": "remove it; what others need is hosts.HOST.gpus[].reserve",
    "OLLAMA_GPU_OVERHEAD": "remove it; what others need is hosts.HOST.gpus[].reserve, as in reserve: {desktop: SIZE}",
}
_OWNED = {
    "OLLAMA_CONTEXT_LENGTH": "models.*.context",
    "OLLAMA_KEEP_ALIVE": "models.*.keep_alive",
    "OLLAMA_MAX_LOADED_MODELS": "max_loaded",
    "OLLAMA_NUM_PARALLEL": "parallel",
    "OLLAMA_FLASH_ATTENTION": "flash_attention",
    "LLAMA_ARG_FLASH_ATTN": "flash_attention",
    "OLLAMA_KV_CACHE_TYPE": "kv_cache",
    "LLAMA_ARG_CACHE_TYPE_K": "kv_cache",
    "LLAMA_ARG_CACHE_TYPE_V": "kv_cache",
    "LLAMA_ARG_CTX_SIZE": "models.*.context",
    "LLAMA_ARG_FIT": "models.*.spill",
    "LLAMA_ARG_FIT_TARGET": "hosts.HOST.gpus[].reserve",
    "NVIDIA_VISIBLE_DEVICES": "gpu",
    "CUDA_VISIBLE_DEVICES": "gpu",
    "OLLAMA_HOST": "port",
    "OLLAMA_NO_CLOUD": "a cloud provider",
    "OLLAMA_MODELS": "the stack's volume",
}


@rule("ollama-variable", "error")
def variables_of_ollama_do_something(context: Context) -> Iterator[Problem]:
    """A variable under `env:` of an Ollama does nothing any more, or is one that the spec itself decides.

    Dead since Ollama 0.30 or before: OLLAMA_NEW_ENGINE, OLLAMA_MULTIUSER_CACHE, OLLAMA_NEW_ESTIMATES, OLLAMA_MAX_VRAM. And
    OLLAMA_GPU_OVERHEAD keeps no VRAM free any more: the reserves of the card do.
    """
    for name, provider in context.ollamas.items():
        for variable, value in provider.env.items():
            path = ("providers", name, "env", variable)
            if variable in _DEAD:
                mend = _DEAD_MENDS.get(variable, "remove it")
                if variable == "OLLAMA_GPU_OVERHEAD" and value.isdecimal() and 0 < int(value) < 2**40:
                    mend = mend.replace("SIZE", f"{int(value) / 2**20:.0f}MiB").replace("HOST", provider.on)
                yield Problem(path, f"providers.{name}: {variable} does nothing: {_DEAD[variable]}", mend, on_key=True)
            elif variable in _OWNED:
                message = f"providers.{name}: {variable} is written from the spec, and would be there twice"
                yield Problem(path, message, f"remove it; what decides it is `{_OWNED[variable]}`", on_key=True)


@rule("ram-exceeded", "warning")
def the_host_has_the_ram(context: Context) -> Iterator[Problem]:
    """What a model keeps in RAM is more than the host has: an Ollama without a card, or a model that spills."""
    for name, model in _models(context):
        provider = context.ollamas[model.at]
        host, arch = context.mesh.hosts.get(provider.on), architecture(model)
        if host is None or host.ram is None or arch is None or provider.gpu == "all":
            continue
        if arch.blob_bytes > host.ram * 3 // 4:
            message = f"models.{name}: its {gib(arch.blob_bytes)} are more than three quarters of {provider.on}'s {gib(host.ram)}"
            yield Problem(("models", name, "tag"), message, "choose a smaller model, or a host with more RAM")
