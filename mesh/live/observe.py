"""The whole mesh as it is: every host over ssh, every Ollama and the gateway over HTTP, all at the same time."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from mesh.live.http import HttpError, get_json
from mesh.live.ssh import Target, run_script
from mesh.state.deployment import Deployment, Gateway, HostDeployment, OllamaModels
from mesh.state.observed import Observed, ObservedGateway, ObservedHost, Unknown
from mesh.state.parse import parse_host
from mesh.state.script import observe_script

if TYPE_CHECKING:
    from mesh.inventory import Inventory


def observe(inventory: Inventory, deployment: Deployment) -> Observed:
    """Observe what the deployment names. What cannot be read is Unknown with the reason; nothing is raised for it."""
    ollamas = [ollama for host in deployment.hosts.values() for ollama in host.ollamas]
    wanted = deployment.gateway
    with ThreadPoolExecutor(max_workers=len(deployment.hosts) + len(ollamas) + 1) as pool:
        hosts = {name: pool.submit(observe_host, inventory, deployment.mesh, host) for name, host in deployment.hosts.items()}
        models = {ollama.stack: pool.submit(list_models, ollama) for ollama in ollamas}
        gateway = pool.submit(list_gateway, wanted, inventory.secrets.value(wanted.key)) if wanted else None
        return Observed(
            hosts={name: found.result() for name, found in hosts.items()},
            models={stack: found.result() for stack, found in models.items()},
            gateway=gateway.result() if gateway else None,
        )


def observe_host(inventory: Inventory, mesh: str, host: HostDeployment) -> ObservedHost | Unknown:
    """One host in one ssh session."""
    spec = inventory.mesh.hosts[host.name]
    boundary = f"mesh-{secrets.token_hex(16)}"
    script = observe_script(host, mesh=mesh, docker=spec.docker, boundary=boundary)
    answer = run_script(Target(host.name, spec, inventory.dir), script)
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


def list_gateway(gateway: Gateway, key: str) -> ObservedGateway | Unknown:
    """The groups of the live gateway and the fallbacks of each, in order."""
    try:
        answer: Any = get_json(f"{gateway.url}/v1/models?include_metadata=true", headers={"Authorization": f"Bearer {key}"})
        listed = {str(group["id"]): tuple(group["metadata"]["fallbacks"] or ()) for group in answer["data"]}
    except HttpError as error:
        return _unknown(error)
    except (KeyError, TypeError, AttributeError):
        return Unknown(f"{gateway.url}/v1/models does not answer like LiteLLM", "is something else on that port?")
    return ObservedGateway(tuple(sorted(listed)), {name: fallbacks for name, fallbacks in listed.items() if fallbacks})


def _unknown(error: HttpError) -> Unknown:
    return Unknown(f"{error.where}: {error.what}" + (f" ({error.why})" if error.why else ""))
