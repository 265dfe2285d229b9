"""What of LiteLLM's answers a client may see: no addresses of the mesh, no headers of providers."""

from __future__ import annotations

import re

from mesh_policy import POLICY

_HEADERS = frozenset(
    b"""content-type content-length cache-control retry-after vary x-accel-buffering x-content-type-options
    x-frame-options content-security-policy allow x-litellm-call-id x-litellm-version x-litellm-model-group x-litellm-model-name
    x-litellm-attempted-fallbacks x-litellm-attempted-retries x-litellm-response-cost x-litellm-response-cost-original
    x-litellm-response-duration-ms x-litellm-overhead-duration-ms""".split()
)
"""Response headers that pass. LiteLLM's `x-litellm-model-api-base` and all `llm_provider-*` do not."""
_OWN = re.compile(
    "|".join(f"(?:https?://)?{re.escape(each)}(?::[0-9]+)?" for each in sorted(POLICY["addresses"], key=len, reverse=True))
    or "(?!)"
)
_ANY = re.compile(
    r"(?:https?://)?(?<![0-9.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9.])(?::[0-9]+)?"  # IPv4
    r"|https?://[^\s\"'\\<>)\]]+"  # where LiteLLM quotes an upstream's address
    r"|REDACTED:[0-9]+|ssl:<[^>]*>|<ssl\.[^>]*>"  # what LiteLLM and aiohttp leave of one
)
_TELLS = re.compile(rb'"error"\s*:\s*[{"]|^event: error', re.MULTILINE)


def headers(given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in given if name.lower() in _HEADERS]


def error(body: bytes) -> bytes:
    """The body of an error without any address."""
    text = _OWN.sub("[address]", body.decode("utf-8", errors="replace"))
    return _ANY.sub("[address]", text).encode()


def event(chunk: bytes) -> bytes:
    """A piece of a stream; where it tells of an error, without the mesh's addresses. An answer's own words stay as they are."""
    return error(chunk) if _TELLS.search(chunk) else chunk
