"""The gateway's guard: a request gets the route it names, by the chain that the spec gives it, or an error.

It runs once a request, before any provider is called, for every kind of call. What it refuses could take a prompt of a
private route to a provider that the spec does not name for it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger

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
        "mock_response",
        "model_list",
        "models",
        "router_settings_override",
        "user_config",
    }
)
"""Keys of a request's body by which a client could choose where it goes."""


def _refuse(status: int, rule: str, message: str) -> HTTPException:
    return HTTPException(status_code=status, detail={"error": f"mesh rule {rule}: {message}"})


class MeshGuard(CustomLogger):  # type: ignore[misc]  # litellm is installed in the gateway's image, not here
    """The hook that LiteLLM calls."""

    async def async_pre_call_hook(
        self,
        user_api_key_dict: Any,
        cache: Any,  # noqa: ARG002
        data: dict[str, Any],
        call_type: str,  # noqa: ARG002
    ) -> dict[str, Any]:
        client = getattr(user_api_key_dict, "key_alias", None) or "unknown"
        steering = sorted(STEERING & {key for key, value in data.items() if value is not None})
        if steering:
            raise _refuse(
                400, "client-steering", f"the spec says where a request goes, not its body: remove {', '.join(steering)}"
            )
        model = data.get("model")
        if not isinstance(model, str) or model not in POLICY["routes"]:
            raise _refuse(
                403, "routes-only", f"`{model}` is not a route of this mesh; the routes are {', '.join(POLICY['routes'])}"
            )
        allowed = POLICY["clients"].get(client, {}).get("routes", ()) if client != "mesh" else POLICY["routes"]
        if model not in allowed:
            raise _refuse(403, "client-routes", f"client {client} may not use route {model}; its routes are {', '.join(allowed)}")
        return data


guard = MeshGuard()
