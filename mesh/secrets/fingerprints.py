"""Fingerprints of secrets: what the digests of services hold in place of values."""

from __future__ import annotations

import hashlib
import hmac

SALT = "mesh_salt"
"""Name of the secret that keys the fingerprints."""


def fingerprint(salt: str, name: str, value: str) -> str:
    """16 hexadecimal characters that change with the value and tell nothing about it: HMAC-SHA256, keyed by the salt."""
    return hmac.new(salt.encode(), f"{name}\0{value}".encode(), hashlib.sha256).hexdigest()[:16]
