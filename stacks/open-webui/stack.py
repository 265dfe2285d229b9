"""Open WebUI: the chat page. It knows the gateway and the vector store, and nothing outside the building."""

import re
from typing import Any

from mesh.compile.stack import Instance, StackKind
from mesh.errors import MeshError
from mesh.spec.mesh import Mesh
from mesh.spec.types import SecretRef


def client(instance: Instance) -> str:
    """The spec's client of the stack's name: its key is what the page asks with."""
    if instance.name not in instance.mesh.clients:
        raise MeshError(
            f"stack {instance.name} asks the gateway, and no client has its name",
            where="clients",
            mend=f"declare one: `{instance.name}: {{routes: [...]}}`",
        )
    return instance.name


def routes(instance: Instance, kind: str, *, local: bool = False) -> list[str]:
    """The client's routes to models of that kind, in the spec's order."""
    mesh = instance.mesh
    return [
        name
        for name in mesh.clients[client(instance)].routes
        if mesh.models[mesh.routes[name].to].kind == kind and (mesh.routes[name].privacy == "local" or not local)
    ]


def _one(instance: Instance, found: list[str], what: str) -> str:
    if not found:
        raise MeshError(
            f"stack {instance.name} needs {what} among the routes of client {client(instance)}",
            where=f"clients.{client(instance)}.routes",
            mend="add one there; declare it under `routes:` with `privacy: local` if there is none",
        )
    return found[0]


def _billions(mesh: Mesh, route: str) -> float:
    """Size of a route's model as its tag tells it (`llama3.2:3b`); unknown sizes come last."""
    size = re.search(r"(\d+(?:\.\d+)?)b\b", mesh.models[mesh.routes[route].to].tag or "")
    return float(size[1]) if size else float("inf")


def values(instance: Instance) -> dict[str, Any]:
    local = sorted(routes(instance, "chat", local=True), key=lambda name: _billions(instance.mesh, name))
    return {
        "gateway": f"{instance.the('litellm').url}/v1",
        "qdrant": instance.the("qdrant").url,
        "url": instance.placement.url,
        "admin": f"admin@{instance.mesh.mesh}.internal",
        "default_model": _one(instance, routes(instance, "chat"), "a chat route"),
        # Titles, tags and search queries are made from the user's words: they stay in the building whatever the chat does.
        "task_model": _one(instance, local, "a local chat route"),
        "embedding_model": _one(instance, routes(instance, "embedding", local=True), "a local embedding route"),
    }


def secrets(instance: Instance) -> dict[str, SecretRef]:
    key = instance.mesh.client_key(client(instance))
    return {
        "OPENAI_API_KEY": key,
        "RAG_OPENAI_API_KEY": key,
        "QDRANT_API_KEY": SecretRef("qdrant_api_key"),
        "WEBUI_SECRET_KEY": SecretRef("open_webui_secret_key"),
        "WEBUI_ADMIN_PASSWORD": SecretRef("open_webui_admin_password"),
    }


stack = StackKind(
    images={"open-webui": "ghcr.io/open-webui/open-webui:v0.12.4"},  # never -slim: that one has no Qdrant client
    port=3000,
    probe="/health",
    memory=1536 * 1024**2,
    after=("litellm", "qdrant"),
    volumes=("data",),
    values=values,
    secrets=secrets,
)
