"""Who is asking: every client of the mesh has its own key, which opens its routes and nothing else.

LiteLLM calls `user_api_key_auth` for every request but its public health pages. The keys come by environment, from
secrets/env; policy.json beside this file names the variables. A variable that is missing stops the gateway from starting.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request
from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth

POLICY: dict[str, Any] = json.loads((Path(__file__).parent / "policy.json").read_text(encoding="utf-8"))

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


def _refuse(status: int, rule: str, message: str) -> HTTPException:
    return HTTPException(status_code=status, detail={"error": f"mesh rule {rule}: {message}"})


async def user_api_key_auth(request: Request, api_key: str) -> UserAPIKeyAuth:
    """The client that the key belongs to. 401 without a known key, 403 for a path that is not served."""
    given = (api_key or "").removeprefix("Bearer ").encode()
    # All keys are compared, each in constant time: the answer's timing says nothing about which one was near.
    matches = [name for name, key in _CLIENTS.items() if hmac.compare_digest(given, key)]
    master = hmac.compare_digest(given, _MASTER)
    if not given:
        raise _refuse(401, "client-key", "no key was sent; send `Authorization: Bearer <the client's key>`")
    if not matches and not master:
        raise _refuse(401, "client-key", "this key belongs to no client of the mesh")
    path = request.url.path
    if path not in SERVED:
        raise _refuse(403, "served-paths", f"the gateway does not serve {path}")
    fingerprint = hashlib.sha256(given).hexdigest()
    if master:
        return UserAPIKeyAuth(api_key=fingerprint, user_id="mesh", key_alias="mesh", user_role=LitellmUserRoles.PROXY_ADMIN)
    client = matches[0]
    return UserAPIKeyAuth(
        api_key=fingerprint,
        user_id=client,
        key_alias=client,
        models=POLICY["clients"][client]["routes"],
        metadata={"client": client},
    )
