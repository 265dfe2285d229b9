"""Whose key it is. The keys come by environment, from secrets/env; a missing one stops the gateway from starting."""

from __future__ import annotations

import hashlib
import hmac
import os

from mesh_policy import OPERATOR, POLICY, RefusedError


def _digest(variable: str) -> bytes:
    value = os.environ.get(variable, "").strip()  # a header's value has no blanks around it either
    if not value:
        raise RuntimeError(f"mesh: {variable} is not set, so a key of the gateway is missing (secrets/env)")
    if any(each in value for each in "\r\n\0"):
        raise RuntimeError(f"mesh: the key in {variable} holds a line break, so no client can send it: store it anew in one line")
    return hashlib.sha256(value.encode()).digest()


_DIGESTS = {OPERATOR: _digest(POLICY["master"])} | {name: _digest(each["key"]) for name, each in POLICY["clients"].items()}


def client_of(headers: list[tuple[bytes, bytes]]) -> str:
    """The client that the request's key belongs to. Raises RefusedError (401) for any other.

    Every key is compared, each in constant time and by its digest: the time of the answer says nothing about which was
    near, nor how long they are. Nothing is remembered of a wrong key.
    """
    given = next((value for name, value in headers if name.lower() == b"authorization"), b"").strip()
    if given[:7].lower() == b"bearer ":
        given = given[7:].strip()
    given = given or next((value for name, value in headers if name.lower() == b"x-api-key"), b"").strip()
    if not given:
        raise RefusedError(401, "client-key", "no key was sent; send `Authorization: Bearer <the client's key>`")
    digest = hashlib.sha256(given).digest()
    found = [name for name, each in _DIGESTS.items() if hmac.compare_digest(digest, each)]
    if not found:
        raise RefusedError(401, "client-key", "this key belongs to no client of the mesh")
    return found[0]


def fingerprint_of(client: str) -> str:
    """What LiteLLM gets in place of the key: it writes it to its log."""
    return hashlib.sha256(_DIGESTS[client]).hexdigest()
