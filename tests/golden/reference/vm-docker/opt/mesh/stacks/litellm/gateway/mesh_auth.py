"""Who is asking: every client of the mesh has its own key, which opens its routes and nothing else.

LiteLLM calls `user_api_key_auth` for every request but its public health pages. The keys come by environment, from
secrets/env; policy.json names the variables. A variable that is missing stops the gateway from starting.
"""

from __future__ import annotations

import hashlib
import hmac
import os

from fastapi import Request
from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth
from litellm.proxy.common_utils.http_parsing_utils import _read_request_body
from mesh_policy import POLICY, check_request, refuse, routes_of

SERVED = frozenset(
    prefix + path
    for prefix in ("", "/v1")
    for path in ("/chat/completions", "/completions", "/embeddings", "/messages", "/models", "/responses")
)
"""Paths that a key opens. LiteLLM has hundreds more, and some go straight to a provider."""


def _key(variable: str) -> bytes:
    value = os.environ.get(variable, "")
    if not value:
        raise RuntimeError(f"mesh: {variable} is not set, so a key of the gateway is missing (secrets/env)")
    return value.encode()


_MASTER = _key(POLICY["master"])
_CLIENTS = {name: _key(client["key"]) for name, client in POLICY["clients"].items()}


def client_of(key: str) -> str | None:
    """The client that a key belongs to, None for the operator's. Raises 401 for any other."""
    given = key.removeprefix("Bearer ").encode()
    if not given:
        raise refuse(401, "client-key", "no key was sent; send `Authorization: Bearer <the client's key>`")
    # All keys are compared, each in constant time: the answer's timing says nothing about which one was near.
    matches: list[str | None] = [name for name, each in (*_CLIENTS.items(), (None, _MASTER)) if hmac.compare_digest(given, each)]
    if not matches:
        raise refuse(401, "client-key", "this key belongs to no client of the mesh")
    return matches[0]


async def user_api_key_auth(request: Request, api_key: str) -> UserAPIKeyAuth:
    """The client that the key belongs to. 401 without a known key, 403 for what the key does not open."""
    client = client_of(api_key or "")
    if request.url.path not in SERVED:
        raise refuse(403, "served-paths", f"the gateway does not serve {request.url.path}")
    if request.method == "POST":
        check_request(client, await _read_request_body(request))
    # LiteLLM writes the key that it is given here to logs: it gets a hash.
    fingerprint = hashlib.sha256(api_key.encode()).hexdigest()
    if client is None:
        return UserAPIKeyAuth(api_key=fingerprint, user_id="mesh", user_role=LitellmUserRoles.PROXY_ADMIN)
    return UserAPIKeyAuth(
        api_key=fingerprint, user_id=client, key_alias=client, models=routes_of(client), metadata={"client": client}
    )
