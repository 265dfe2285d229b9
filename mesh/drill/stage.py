"""The stage: the rendered gateway with every provider's address exchanged for a double's, made-up keys, and nothing else.

What is exchanged is listed in `Stage.exchanged`, and the drill prints it. Pure: no I/O; the made-up keys come from outside.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from mesh.compile.yamltext import dump_compose, load_compose
from mesh.drill.promise import timeout
from mesh.errors import MeshError
from mesh.spec.mesh import Mesh
from mesh.spec.providers import CloudProvider
from mesh.state.deployment import Deployment, Service, StackRelease

CONFIG = "gateway/config.yaml"
POLICY = "gateway/policy.json"
KIND = "litellm"
OLLAMA_PREFIXES = ("ollama", "ollama_chat", "hosted_vllm")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the rendered model_list. local: its address is an Ollama of the mesh's own."""

    group: str
    plays: str
    model: str
    port: int
    local: bool
    key: str
    """Name of the secret that goes to this provider, '' for none."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that the gateway needs on the stage. files: by path below the stack's folder."""

    release: StackRelease
    files: Mapping[str, bytes]
    entries: tuple[Entry, ...]
    secrets: Mapping[str, str]
    shown: Mapping[str, float]
    """By model: the factor of its provider's timeouts, where the drill cannot wait so long."""
    exchanged: tuple[str, ...]
    front: bool = False
    """Whether the front proxy stands before the gateway, as on the host."""

    def __post_init__(self) -> None:
        if not self.entries:
            raise MeshError("the gateway has no models, so there is nothing to drill", where="routes")


def gateway_release(deployment: Deployment) -> tuple[str, StackRelease]:
    """The gateway's stack and the name of its host."""
    for host in deployment.hosts.values():
        for release in host.stacks:
            if release.kind == KIND:
                return host.name, release
    raise MeshError("the mesh has no gateway", where="stacks", mend="declare it under `stacks:`: litellm: {on: HOST}")


def gateway_service(release: StackRelease) -> Service:
    """The service that runs LiteLLM; of two alike the first."""
    found = [each for each in release.services if "litellm" in (each.definition.get("command") or [])]
    if not found:
        raise MeshError("no service of the gateway's stack runs `litellm`", where=release.directory)
    return found[0]


def made_up(name: str, seed: str) -> str:
    """A key that no provider knows, the same for one drill."""
    return f"sk-drill-{hashlib.sha256(f'{seed}:{name}'.encode()).hexdigest()[:32]}"


def build_stage(
    mesh: Mesh,
    deployment: Deployment,
    *,
    doubles: str,
    first_port: int,
    hang_limit: float,
    seed: str,
    front: bool = False,
    edit: Callable[[dict[str, Any]], None] | None = None,
) -> Stage:
    """doubles: host name of the doubles as the gateway sees it; one port an entry, from `first_port`.

    edit: changes the rendered configuration before it goes on the stage; tests seed their mistakes by it.
    """
    _, release = gateway_release(deployment)
    secrets = {name: made_up(name, seed) for file in release.files for name in file.secret_names}
    files = {_relative(release, file.path): file.content(secrets.__getitem__) for file in release.files}
    config = load_compose(files[CONFIG].decode())
    if edit:
        edit(config)
    shown = {model: hang_limit / timeout(mesh, model) for model in mesh.models if timeout(mesh, model) > hang_limit}
    local = {urlsplit(each.url).netloc for host in deployment.hosts.values() for each in host.ollamas}
    entries = []
    moved: dict[str, str] = {}
    scaled: dict[str, str] = {}
    for number, item in enumerate(config["model_list"]):
        params = item["litellm_params"]
        prefix, _, model = str(params["model"]).partition("/")
        plays = "ollama" if prefix in OLLAMA_PREFIXES else prefix
        old = urlsplit(str(params.get("api_base") or ""))
        inside = plays == "ollama" and old.netloc in local and not model.endswith("cloud")
        port = first_port + number
        entries.append(Entry(item["model_name"], plays, model, port, inside, _key(mesh, item["model_name"])))
        own = "" if plays == "ollama" else f"/{plays}"
        params["api_base"] = f"http://{doubles}:{port}{own}{old.path.removeprefix(_own_path(mesh, item['model_name']))}"
        if inside:
            moved[f"http://{doubles}:{port}"] = f"{old.scheme}://{old.netloc}"
        of_spec = _model(mesh, item["model_name"])
        if of_spec in shown:
            for name in ("timeout", "stream_timeout"):
                if name in params:
                    params[name] = round(params[name] * shown[of_spec], 3)
            provider = mesh.models[of_spec].at
            scaled[provider] = (
                f"timeouts of {provider} x {shown[of_spec]:.3g} ({timeout(mesh, of_spec):g} s is shown as {hang_limit:g} s)"
            )
    # A provider that answered 401 or 429 is left alone for a while: right on the host, but here hundreds of cases share it.
    config.setdefault("router_settings", {})["disable_cooldowns"] = True
    files[POLICY] = _policy(files[POLICY], moved)
    files[CONFIG] = dump_compose(config).encode()
    exchanged = (
        "model_list[].litellm_params.api_base: a double for each entry (a caching proxy before a provider is left out, "
        "and so is the path of a base_url in the spec)",
        "policy.json local_bases: the addresses of the doubles that play the mesh's own Ollamas",
        "secrets/env: made-up keys in place of all secrets",
        "router_settings.disable_cooldowns: true, so that no case changes the next one",
        *(f"model_list[].litellm_params.timeout and stream_timeout: {each}" for each in scaled.values()),
    )
    return Stage(release, files, tuple(entries), secrets, shown, exchanged, front)


def _policy(content: bytes, moved: Mapping[str, str]) -> bytes:
    """The guard's policy, with each Ollama that it knows by the doubles that play it."""
    policy = json.loads(content)
    policy["local_bases"] = sorted(double for double, real in moved.items() if real in policy["local_bases"])
    return json.dumps(policy, indent=2, sort_keys=True).encode()


def _relative(release: StackRelease, path: str) -> str:
    return str(PurePosixPath(path).relative_to(release.directory))


def _model(mesh: Mesh, group: str) -> str:
    """The spec's model behind a group: a route's own, or the fallback target of that name."""
    return mesh.routes[group].to if group in mesh.routes else group


def _provider(mesh: Mesh, group: str) -> CloudProvider | None:
    """The cloud provider behind a group, by the spec."""
    model = mesh.models.get(_model(mesh, group))
    provider = mesh.providers[model.at] if model else None
    return provider if isinstance(provider, CloudProvider) else None


def _own_path(mesh: Mesh, group: str) -> str:
    """The path of the operator's own `base_url`: the doubles have each provider's API where the provider has it."""
    provider = _provider(mesh, group)
    return urlsplit(provider.base_url or "").path.rstrip("/") if provider and not provider.through else ""


def _key(mesh: Mesh, group: str) -> str:
    """By the spec, not by the rendered file, which may be wrong."""
    provider = _provider(mesh, group)
    return provider.key.name if provider and provider.key else ""
