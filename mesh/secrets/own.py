"""Which secrets a mesh has: those it makes for itself, and what refers to each by name."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from mesh.secrets.fingerprints import SALT
from mesh.spec.mesh import Mesh
from mesh.spec.types import SecretRef

OF_THE_MESH = {
    SALT: "fingerprints of secrets in labels",
    "litellm_master_key": "litellm: its administration",
    "qdrant_api_key": "qdrant and its users",
    "open_webui_secret_key": "open-webui: sessions",
    "open_webui_admin_password": "open-webui: the first login",
}
"""Secrets of the mesh itself, whatever the spec says: by name, what each is for."""


def own_secrets(mesh: Mesh) -> dict[str, str]:
    """The secrets that the mesh makes for itself and what each is for: nobody but the mesh hands them out."""
    keys = {mesh.client_key(name).name: f"clients.{name}" for name in mesh.clients}
    return {name: use for name, use in {**OF_THE_MESH, **keys}.items() if name not in mesh.secrets}


def generate(name: str) -> str:
    """A new value of at least 144 bits. Keys of the gateway and its clients start with `sk-`, as their libraries expect."""
    if name == "open_webui_admin_password":
        return secrets.token_urlsafe(18)
    return ("sk-" if name == "litellm_master_key" or name not in OF_THE_MESH else "") + secrets.token_hex(24)


def uses(mesh: Mesh) -> dict[str, list[str]]:
    """For every secret that the spec or the mesh itself needs: where it is used, as dotted paths into the spec."""
    found: dict[str, list[str]] = {name: [use] for name, use in own_secrets(mesh).items()}
    for path, ref in _references(mesh, ""):
        found.setdefault(ref.name, []).append(path)
    return found


def _references(value: object, path: str) -> Iterator[tuple[str, SecretRef]]:
    if isinstance(value, SecretRef):
        yield path, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _references(getattr(value, name), f"{path}.{name}" if path else name)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _references(item, f"{path}.{key}")
