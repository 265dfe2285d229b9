"""Tokens of a prompt, counted in the gateway: /v1/messages/count_tokens, by which Claude Code measures its context.

LiteLLM's own path would ask Anthropic where a route's model is Claude, past the guard and the route's chain. Counting here
asks nobody, for any route alike; so it is an estimate, with LiteLLM's tokenizer and not the provider's.
"""

from __future__ import annotations

import asyncio

import litellm
import orjson


async def tokens_of(body: bytes) -> int:
    """Input tokens of a checked request in Anthropic's form. Counted in a thread: a long prompt holds nobody else up."""
    return await asyncio.to_thread(_count, body)


def _count(body: bytes) -> int:
    asked = orjson.loads(body)
    system = [{"role": "system", "content": asked["system"]}] if asked.get("system") else []
    counted: int = litellm.token_counter(
        model="",  # no model's own tokenizer: that could be one to download
        messages=[*system, *asked["messages"]],
        tools=asked.get("tools"),
        use_default_image_token_count=True,  # else a picture is fetched to measure it
    )
    return counted
