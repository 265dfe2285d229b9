"""The gateway's guard inside LiteLLM: what the edge let in is asked again, and every single deployment before it is called.

The second line of defence. LiteLLM rewrites requests, falls back and translates between APIs on its own; whatever it comes
to, a request of a local-only route reaches no deployment outside the building.
"""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger
from mesh_exchange import CURRENT
from mesh_policy import RefusedError, check_model, is_local_only, stays_inside

NEVER = frozenset(
    [
        "fallbacks",
        "context_window_fallbacks",
        "content_policy_fallbacks",
        "default_fallbacks",
        "models",
        "model_list",
        "router_settings_override",
        "user_config",
        "api_base",
        "base_url",
        "api_key",
    ]
)
"""Fields that the edge refuses, and that LiteLLM itself sets for no request before this hook."""


class MeshGuard(CustomLogger):
    """The hooks that LiteLLM calls."""

    async def async_pre_call_hook(
        self,
        user_api_key_dict: Any,  # noqa: ARG002
        cache: Any,  # noqa: ARG002
        data: dict[str, Any],
        call_type: str,  # noqa: ARG002
    ) -> dict[str, Any]:
        exchange = CURRENT.get()
        if exchange is None or exchange.route is None:
            raise HTTPException(403, "mesh rule served-paths: the request did not pass the gateway's edge")
        try:
            check_model(exchange.client, data.get("model"))
        except RefusedError as refused:
            raise HTTPException(refused.status, str(refused)) from refused
        if data["model"] != exchange.route or any(data.get(name) is not None for name in NEVER):
            raise HTTPException(403, "mesh rule client-steering: the request is no longer the one that was let in")
        return data

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> dict[str, Any] | None:  # noqa: ARG002
        """Runs for each deployment in its turn, fallbacks too; an error here keeps the request from that deployment."""
        exchange = CURRENT.get()
        if exchange is None or exchange.route is None:
            raise PermissionError("mesh rule served-paths: a provider is called by the gateway's own routes alone")
        if is_local_only(exchange.route) and not stays_inside(kwargs.get("api_base"), kwargs.get("model")):
            raise PermissionError(f"mesh rule privacy: route {exchange.route} stays in the building")
        metadata = kwargs.get("litellm_metadata") or kwargs.get("metadata") or {}
        exchange.turn(str(metadata.get("model_group") or ""))
        return None

    async def async_log_success_event(self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any) -> None:  # noqa: ARG002
        exchange = CURRENT.get()
        payload = kwargs.get("standard_logging_object")
        if exchange is not None and payload:
            exchange.answered(payload)


guard = MeshGuard()
