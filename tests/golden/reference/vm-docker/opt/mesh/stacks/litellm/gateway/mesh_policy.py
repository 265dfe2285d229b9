"""What the gateway allows, read from policy.json beside this file: clients, their routes, and the one way to refuse.

The compiler writes policy.json from the spec. mesh_auth.py asks who is there, mesh_guard.py what is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import HTTPException

POLICY: dict[str, Any] = json.loads((Path(__file__).parent / "policy.json").read_text(encoding="utf-8"))

STEERING = frozenset(
    {
        "api_base",
        "api_key",
        "base_url",
        "content_policy_fallbacks",
        "context_window_fallbacks",
        "default_fallbacks",
        "fallbacks",
        "model_list",
        "models",
        "router_settings_override",
        "user_config",
    }
)
"""Keys of a request's body by which a client could choose where it goes."""


def refuse(status: int, rule: str, message: str) -> HTTPException:
    """The error that the client gets; it names the rule."""
    return HTTPException(status_code=status, detail=f"mesh rule {rule}: {message}")


def routes_of(client: str | None) -> list[str]:
    """The routes of a client, None being the operator, who may use all."""
    routes: list[str] = POLICY["routes"] if client is None else POLICY["clients"][client]["routes"]
    return routes


def check_request(client: str | None, body: Mapping[str, Any]) -> None:
    """Raise unless the request names one route of the client's and leaves it to the spec where it goes."""
    steering = sorted(STEERING & {key for key, value in body.items() if value is not None})
    if steering:
        raise refuse(400, "client-steering", f"the spec says where a request goes, not its body: remove {', '.join(steering)}")
    model, routes = body.get("model"), routes_of(client)
    if model not in POLICY["routes"]:
        raise refuse(403, "routes-only", f"{_short(model)} is not a route of this mesh; yours are {', '.join(routes)}")
    if model not in routes:
        raise refuse(403, "client-routes", f"client {client} may not use route {model}; its routes are {', '.join(routes)}")


def _short(value: object) -> str:
    return repr(value)[:80]
