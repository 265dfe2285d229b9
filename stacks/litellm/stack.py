"""LiteLLM: the gateway that every client passes. Its config.yaml and the guard's policy follow from the spec's routes.

One group a route, with the parameters of the model that answers it; one group a fallback target, reached by fallbacks
alone. Fallback lists are on routes only, so no fallback of a fallback can lead anywhere, and there is no default list.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mesh.compile.gateway import MASTER_KEY, fallback_targets, policy, variable
from mesh.compile.stack import Instance, Placement, StackKind
from mesh.compile.yamltext import dump_compose
from mesh.errors import MeshError
from mesh.spec.mesh import Mesh
from mesh.spec.providers import CloudProvider, Model, OffPeak, OllamaProvider, Rates
from mesh.spec.routes import Route
from mesh.spec.types import FOREVER, SecretRef
from mesh.state.deployment import Rolling

API_BASES = {
    "anthropic": "https://api.anthropic.com",
    "deepseek": "https://api.deepseek.com",  # LiteLLM's own default is the beta path
    "groq": "https://api.groq.com/openai/v1",
    "moonshot": "https://api.moonshot.ai/v1",
    "openai": "https://api.openai.com/v1",
}
"""Without a trailing slash: LiteLLM appends paths as they are."""
GATEWAYS = ("litellm-a", "litellm-b")
GRACE = "5m"
"""How long a gateway that is stopped may take to finish the answers that it is giving."""
COOLDOWN = 30
"""Seconds that a provider which has timed out, or said 429 without a time, is not asked where a fallback can answer."""
DEFAULT_KEEP_ALIVE = 300
"""Seconds, for models that name none: Ollama's own default, said aloud because the server's is set for the embeddings."""


def secrets(instance: Instance) -> dict[str, SecretRef]:
    mesh = instance.mesh
    used = {mesh.models[name].at for route in mesh.routes.values() for name in route.chain}
    providers = [provider for name, provider in mesh.providers.items() if name in used]
    keys = [each.key for each in providers if isinstance(each, CloudProvider) and each.key]
    keys += [mesh.client_key(name) for name in mesh.clients]
    return {variable(key): key for key in (MASTER_KEY, *keys)}


def files(instance: Instance) -> dict[str, str]:
    _refuse_ambiguity(instance.mesh)
    return {
        "gateway/config.yaml": dump_compose(config(instance)),
        "gateway/policy.json": json.dumps(policy(instance.mesh), indent=2, sort_keys=True) + "\n",
    }


def config(instance: Instance) -> dict[str, Any]:
    """LiteLLM's config.yaml as data."""
    mesh = instance.mesh
    groups = {name: route.to for name, route in mesh.routes.items()} | {name: name for name in fallback_targets(mesh)}
    return {
        "model_list": [deployment(group, model, instance) for group, model in groups.items()],
        "router_settings": {
            "num_retries": 0,  # a retry costs seconds; the fallback is there at once
            "fallbacks": _chains(mesh, lambda route: route.chain[1:]),
            # Where a route is in none of its own, LiteLLM tells the client: a longer prompt fits nowhere else either.
            "context_window_fallbacks": _chains(mesh, partial(_larger, mesh)),
            "content_policy_fallbacks": _chains(mesh, partial(_elsewhere, mesh)),
            # The gateway counts tokens itself: Groq's and Moonshot's own errors for a long prompt mean nothing to LiteLLM,
            # and Ollama cuts the prompt off without a word.
            "enable_pre_call_checks": True,
            "cooldown_time": COOLDOWN,
        },
        "litellm_settings": {
            "callbacks": ["mesh_guard.guard"],  # a missing module stops the gateway from starting: no guard, no gateway
            "drop_params": True,
            "num_retries": 0,
            "disable_hf_tokenizer_download": True,  # else a failing Llama waits for a download
            "enable_post_custom_auth_checks": True,  # without it a key's list of routes is not enforced
        },
        "general_settings": {
            "master_key": f"os.environ/{variable(MASTER_KEY)}",
            "custom_auth": "mesh_auth.user_api_key_auth",
            "custom_auth_run_common_checks": True,
            "store_model_in_db": False,
        },
    }


def _chains(mesh: Mesh, targets: Callable[[Route], Sequence[str]]) -> list[dict[str, list[str]]]:
    """A fallback list of LiteLLM's: the targets of each route that has any."""
    return [{name: list(chain)} for name, route in mesh.routes.items() if (chain := targets(route))]


def _larger(mesh: Mesh, route: Route) -> list[str]:
    """Targets that take a longer prompt than the route's own model. One whose context nobody has declared may."""
    context = mesh.models[route.to].context or 0
    return [name for name in route.chain[1:] if (mesh.models[name].context or context + 1) > context]


def _elsewhere(mesh: Mesh, route: Route) -> list[str]:
    """Targets at other providers: the one that refused a prompt refuses it from its other models too."""
    return [name for name in route.chain[1:] if mesh.models[name].at != mesh.models[route.to].at]


def deployment(group: str, name: str, instance: Instance) -> dict[str, Any]:
    """One entry of model_list."""
    mesh, model = instance.mesh, instance.mesh.models[name]
    provider = mesh.providers[model.at]
    info: dict[str, Any] = {"mode": "embedding" if model.kind == "embedding" else "chat"}
    if model.context:
        info["max_input_tokens"] = model.context
    if isinstance(provider, OllamaProvider):
        params, silence = _ollama(model, instance.placements[model.at]), provider.timeout
    else:
        params, silence = _cloud(model, provider, instance), provider.first_token or provider.timeout
    params |= {"timeout": provider.timeout, "stream_timeout": silence, **_costs(model.price)}
    if model.price and model.price.off_peak:
        info["off_peak_pricing"] = _off_peak(model.price.off_peak)
    route = mesh.routes.get(group)
    if route and len(route.chain) > 1:  # while the next one can answer, the limited or dead one is left alone for a while
        info["allowed_fails_policy"] = {"RateLimitErrorAllowedFails": 0, "TimeoutErrorAllowedFails": 0}
    elif route and not mesh.is_local(name):
        params["num_retries"] = 1  # nobody else can answer
    return {"model_name": group, "litellm_params": params, "model_info": info}


def _ollama(model: Model, place: Placement) -> dict[str, Any]:
    if model.kind == "embedding":  # by Ollama's OpenAI path: LiteLLM's own `ollama/` embeddings have no timeout at all
        return {"model": f"hosted_vllm/{model.tag}", "api_base": f"{place.url}/v1", "api_key": "none"}
    keep_alive = DEFAULT_KEEP_ALIVE if model.keep_alive is None else model.keep_alive
    params: dict[str, Any] = {"model": f"ollama_chat/{model.tag}", "api_base": place.url}
    if model.context:
        params["num_ctx"] = model.context
    return {**params, "keep_alive": keep_alive if keep_alive == FOREVER else f"{keep_alive}s"}


def _cloud(model: Model, provider: CloudProvider, instance: Instance) -> dict[str, Any]:
    base = provider.base_url or API_BASES[provider.kind]
    if provider.through:
        base = instance.placements[provider.through].url
    key = f"os.environ/{variable(provider.key)}" if provider.key else "none"
    return {"model": f"{provider.kind}/{model.id}", "api_base": base.rstrip("/"), "api_key": key}


def _off_peak(rates: OffPeak) -> dict[str, Any]:
    """LiteLLM's own form of prices by the hour."""
    found: dict[str, Any] = {"hours_utc": list(rates.windows), **_costs(rates)}
    if rates.weekends:
        found["windows"] = [{"hours_utc": ["00:00-00:00"], "weekdays": ["sat", "sun"]}]  # equal ends: the whole day
    return found


def _costs(price: Rates | None) -> dict[str, float]:
    """US dollars per token."""
    given = (
        ("input_cost_per_token", price.in_ if price else 0.0),
        ("output_cost_per_token", price.out if price else 0.0),
        ("cache_read_input_token_cost", price.cache_read if price else None),
        ("cache_creation_input_token_cost", price.cache_write if price else None),
    )
    return {name: float(f"{per_million / 1e6:.12g}") for name, per_million in given if per_million is not None}


def _refuse_ambiguity(mesh: Mesh) -> None:
    """What `mesh check` finds too: compiled without it, a private prompt could leave or a client pass for another."""
    for name, route in mesh.routes.items():
        if name in fallback_targets(mesh) and route.chain != (name,):
            raise MeshError(
                f"route {name} has the name of a model that other routes fall back to",
                where=f"routes.{name}",
                why="a request falling back to the model would follow the route's own fallbacks",
                mend="rename the route or the model",
            )
        away = [model for model in route.chain if route.privacy == "local" and not mesh.is_local(model)]
        if away:
            raise MeshError(
                f"route {name} is `privacy: local`, and {', '.join(away)} is not in the building",
                where=f"routes.{name}",
                mend="answer it by models of an ollama provider alone",
            )
    owners: dict[str, str] = {}
    for name in mesh.clients:
        other = owners.setdefault(mesh.client_key(name).name, name)
        if other != name:
            raise MeshError(
                f"clients {other} and {name} have the same key, so the gateway cannot tell them apart",
                where=f"clients.{name}.key",
                mend="give each its own secret",
            )


stack = StackKind(
    images={"litellm": "ghcr.io/berriai/litellm:v1.106.2", "front": "haproxy:3.2.24-alpine"},
    port=4000,
    probe="/health/liveliness",
    memory=2 * 1024**3,
    after=("ollama", "caching-proxy"),
    volumes=("ledger",),
    rolling=Rolling(GATEWAYS, before="front", switch=("/bin/sh", "/etc/front/switch")),
    values=lambda _: {"gateways": list(GATEWAYS), "grace": GRACE},
    secrets=secrets,
    files=files,
)
