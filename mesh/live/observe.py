"""The whole mesh as it is: every host over ssh, every Ollama and the gateway over HTTP, all at the same time."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from mesh.live.http import HttpError, get_json
from mesh.live.parallel import side_by_side
from mesh.live.ssh import Session
from mesh.state.deployment import Deployment, Gateway, HostDeployment, OllamaModels
from mesh.state.observed import LoadedModel, Observed, ObservedGateway, ObservedHost, Unknown
from mesh.state.parse import parse_host
from mesh.state.script import observe_script

if TYPE_CHECKING:
    from mesh.inventory import Inventory

_KINDS = ("host", "models", "loaded", "gateway")
PICK = "x-mesh-gateway"
"""Header of a request that picks one gateway, and of the answer that says which it was."""


def observe(inventory: Inventory, deployment: Deployment, sessions: Mapping[str, Session], *, secrets: bool = True) -> Observed:
    """Observe what the deployment names. What cannot be read is Unknown with the reason; nothing is raised for it.

    sessions: from `connect`, one for every host of the deployment; each is used up by this.
    secrets: whether files that hold some are hashed.
    """
    ollamas = [ollama for host in deployment.hosts.values() for ollama in host.ollamas]
    wanted = deployment.gateway
    key = inventory.secrets.value(wanted.key) if wanted else ""
    jobs: dict[tuple[str, str], Callable[[], object]] = {
        **{
            ("host", host.name): partial(observe_host, inventory, deployment.mesh, host, sessions[host.name], secrets=secrets)
            for host in deployment.hosts.values()
        },
        **{("models", ollama.stack): partial(list_models, ollama) for ollama in ollamas},
        **{("loaded", ollama.stack): partial(list_loaded, ollama) for ollama in ollamas if ollama.on_cards},
        **({("gateway", name): partial(list_gateway, wanted, name, key) for name in wanted.services} if wanted else {}),
    }
    found = side_by_side(jobs)
    hosts, models, loaded, gateways = ({name: it for (kind, name), it in found.items() if kind == each} for each in _KINDS)
    return Observed(hosts=hosts, models=models, gateways=gateways, loaded=loaded)  # type: ignore[arg-type]


def observe_host(
    inventory: Inventory, mesh: str, host: HostDeployment, session: Session, *, secrets: bool = True
) -> ObservedHost | Unknown:
    """One host in one ssh session."""
    boundary = f"mesh-{os.urandom(16).hex()}"
    docker = inventory.reach[host.name].docker
    answer = session.run(observe_script(host, mesh=mesh, docker=docker, boundary=boundary, hash_secrets=secrets))
    return answer if isinstance(answer, Unknown) else parse_host(host, answer, boundary)


def list_models(ollama: OllamaModels) -> dict[str, str] | Unknown:
    """The tags that an Ollama holds, with their manifest digests."""
    try:
        answer = get_json(f"{ollama.url}/api/tags")
        return {str(model["name"]): str(model.get("digest", "")) for model in answer["models"] or ()}
    except HttpError as error:
        return _unknown(error)
    except (KeyError, TypeError, AttributeError):
        return Unknown(f"{ollama.url}/api/tags does not answer like an Ollama", "is something else on that port?")


def list_loaded(ollama: OllamaModels) -> tuple[LoadedModel, ...] | Unknown:
    """What an Ollama has in memory, and how much of it on its cards."""
    try:
        answer = get_json(f"{ollama.url}/api/ps")
        return tuple(
            LoadedModel(
                str(model["name"]), int(model["size"]), int(model.get("size_vram") or 0), int(model.get("context_length") or 0)
            )
            for model in answer["models"] or ()
        )
    except HttpError as error:
        return _unknown(error)
    except (KeyError, TypeError, ValueError, AttributeError):
        return Unknown(f"{ollama.url}/api/ps does not answer like an Ollama", "is something else on that port?")


def list_gateways(gateway: Gateway, key: str) -> dict[str, ObservedGateway | Unknown]:
    """What each gateway lists, asked at the same time."""
    return side_by_side({service: partial(list_gateway, gateway, service, key) for service in gateway.services})


def list_gateway(gateway: Gateway, service: str, key: str) -> ObservedGateway | Unknown:
    """The groups of one live gateway, the fallbacks of each in order, and the guard that it runs."""
    headers = {"Authorization": f"Bearer {key}", PICK: service}
    try:
        answer: Any = get_json(f"{gateway.url}/v1/models?include_metadata=true", headers=headers, answered_by=(PICK, service))
        listed = {str(group["id"]): tuple(group["metadata"]["fallbacks"] or ()) for group in answer["data"]}
        guard = str(get_json(f"{gateway.url}/mesh/guard", headers=headers, answered_by=(PICK, service))["guard"])
    except HttpError as error:
        return _unknown(error)
    except (KeyError, TypeError, AttributeError):
        return Unknown(f"{gateway.url}/v1/models does not answer like LiteLLM", "is something else on that port?")
    return ObservedGateway(tuple(sorted(listed)), {name: each for name, each in listed.items() if each}, guard)


def _unknown(error: HttpError) -> Unknown:
    return Unknown(f"{error.where}: {error.what}" + (f" ({error.why})" if error.why else ""))
