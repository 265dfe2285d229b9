"""The gateway's guard: a request gets the route it names, by the chain that the spec gives it, or an error.

LiteLLM runs it once a request, before any provider is called, for every kind of call and after every rewriting of the body
that it does itself. mesh_auth.py has asked the same by then: what only one of the two sees is still refused.
"""

from __future__ import annotations

from typing import Any

from litellm.integrations.custom_logger import CustomLogger
from mesh_policy import check_request


class MeshGuard(CustomLogger):
    """The hook that LiteLLM calls."""

    async def async_pre_call_hook(
        self,
        user_api_key_dict: Any,
        cache: Any,  # noqa: ARG002
        data: dict[str, Any],
        call_type: str,  # noqa: ARG002
    ) -> dict[str, Any]:
        check_request(user_api_key_dict.key_alias, data)
        return data


guard = MeshGuard()
