"""LiteLLM's way in to the mesh: `custom_auth`. Loading it puts the edge around LiteLLM; without it nothing is answered.

LiteLLM imports this module while it starts, with its application built and nothing served yet. A file that is missing, a
key that is not set or a policy that cannot be read stops it there.
"""

from __future__ import annotations

from fastapi import HTTPException, Request
from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth
from litellm.proxy.proxy_server import app
from mesh_edge import Edge
from mesh_exchange import CURRENT
from mesh_keys import fingerprint_of
from mesh_ledger import open_ledger
from mesh_policy import OPERATOR, POLICY, routes_of

if app.middleware_stack is None:
    raise RuntimeError("mesh: LiteLLM has no application to put the edge around; this version of LiteLLM is not supported")
if not isinstance(app.middleware_stack, Edge):
    app.middleware_stack = Edge(app.middleware_stack, open_ledger(POLICY["ledger_keep"]))


async def user_api_key_auth(request: Request, api_key: str) -> UserAPIKeyAuth:  # noqa: ARG001
    """Who asks, as the edge found out. A request that did not pass the edge is nobody's."""
    exchange = CURRENT.get()
    if exchange is None:
        raise HTTPException(401, "mesh rule client-key: the request did not pass the gateway's edge")
    fingerprint = fingerprint_of(exchange.client)
    if exchange.client == OPERATOR:
        return UserAPIKeyAuth(api_key=fingerprint, user_id=OPERATOR, user_role=LitellmUserRoles.PROXY_ADMIN)
    return UserAPIKeyAuth(
        api_key=fingerprint,
        user_id=exchange.client,
        key_alias=exchange.client,
        models=routes_of(exchange.client),
        metadata={"client": exchange.client},
    )
