"""What the gateway allows, read from policy.json beside this file: clients, their routes and limits, what is local.

The compiler writes policy.json from the spec; see mesh/compile/gateway.py. Nothing else of the gateway reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
POLICY: dict[str, Any] = json.loads((_HERE / "policy.json").read_text(encoding="utf-8"))
OPERATOR = "operator"
"""Who asks with the master key. No client can have the name: the compiler refuses it."""


@dataclass
class RefusedError(Exception):
    """A request that ends here; the client reads the rule and the message. retry_after: seconds."""

    status: int
    rule: str
    message: str
    retry_after: int | None = field(default=None)

    def __str__(self) -> str:
        return f"mesh rule {self.rule}: {self.message}"


@dataclass(frozen=True)
class Limits:
    """Of one client. budget: micro-dollars a calendar month (UTC). rpm: requests in any 60 seconds. None: no limit."""

    budget: int | None = None
    rpm: int | None = None


def _loaded() -> str:
    """sha256 over the name and the sha256 of each file of the guard, as mesh/compile/digest.py counts it for the spec."""
    hasher = hashlib.sha256()
    for file in sorted([*_HERE.glob("mesh_*.py"), _HERE / "policy.json"]):
        hasher.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return hasher.hexdigest()


LOADED = _loaded()
"""What this gateway started with; files that change under it afterwards are not loaded."""


def routes_of(client: str) -> list[str]:
    """The routes of a client; the operator may use all."""
    routes: list[str] = POLICY["routes"] if client == OPERATOR else POLICY["clients"][client]["routes"]
    return routes


def limits_of(client: str) -> Limits:
    found: Mapping[str, Any] = POLICY["clients"].get(client, {})
    return Limits(found.get("budget"), found.get("rpm"))


def is_local_only(route: str) -> bool:
    return route in POLICY["local_only"]


def check_model(client: str, model: object) -> str:
    """The route that is asked for. Raises RefusedError unless it is one, and one of the client's."""
    routes = routes_of(client)
    if not isinstance(model, str) or model not in POLICY["routes"]:
        raise RefusedError(403, "routes-only", f"{repr(model)[:80]} is not a route of this mesh; yours are {', '.join(routes)}")
    if model not in routes:
        raise RefusedError(403, "client-routes", f"client {client} may not use route {model}; its routes are {', '.join(routes)}")
    return model


def stays_inside(api_base: object, model: object) -> bool:
    """Whether a deployment is an Ollama of the mesh with a model that the building runs itself."""
    base, name = str(api_base or ""), str(model or "")
    inside = any(base == each or base.startswith(f"{each}/") for each in POLICY["local_bases"])
    return inside and (name in POLICY["local_tags"] or name.partition("/")[2] in POLICY["local_tags"])
