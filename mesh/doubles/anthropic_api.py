"""The Anthropic Messages API: messages (whole and streamed), token counts, cache usage, error bodies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesh.doubles.prefix_cache import Block, PrefixCache, Use, block
from mesh.doubles.text import Answer, answer, short_id
from mesh.doubles.wire import Dialect, Frame, Reply, sse

MAX_MARKS = 4
_TYPES = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error", 404: "not_found_error"}
_TEXTS = {
    401: "invalid x-api-key",
    429: "This request would exceed your account's rate limit. Please try again later.",
    529: "Overloaded",
}


def failure(status: int, text: str) -> dict[str, Any]:
    """An error body of this API."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_double"}


def error(kind: str) -> tuple[int, dict[str, Any]]:
    """Status and body with which Anthropic reports a fault."""
    if kind == "context":
        return 400, failure(400, "prompt is too long: 208310 tokens > 200000 maximum")
    if kind == "content_policy":
        return 400, failure(400, "Output blocked by content filtering policy")
    status = int(kind)
    return status, failure(status, f"{_TEXTS.get(status, 'Internal server error')} [double]")


DIALECT = Dialect(error=error, frame=lambda body: sse(body, "error"))


def complaint(body: dict[str, Any], headers: dict[str, str]) -> str | None:
    """What the real API would refuse in a request (the parts that clients get wrong), or None."""
    if "anthropic-version" not in headers:
        return "anthropic-version: header is required"
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        return "messages: Field required"
    marks = sum(1 for item in blocks(body) if item.ttl)
    if marks > MAX_MARKS:
        return f"A maximum of {MAX_MARKS} blocks with cache_control may be provided. Found {marks}."
    return None


def _ttl(payload: Any) -> str | None:
    mark = payload.get("cache_control") if isinstance(payload, dict) else None
    if not isinstance(mark, dict):
        return None
    return "1h" if mark.get("ttl") == "1h" else "5m"


def blocks(body: dict[str, Any]) -> list[Block]:
    """The prompt's content blocks in cache order, with their marks; a top-level `cache_control` marks the last one."""
    parts: list[Any] = list(body.get("tools") or [])
    system = body.get("system")
    parts += system if isinstance(system, list) else [{"type": "text", "text": system}] if system else []
    found = [block(part, _ttl(part)) for part in parts]
    for message in body.get("messages") or []:
        content = message.get("content")
        for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
            inner = block(part, _ttl(part))
            found.append(Block(f"{message.get('role')}:{inner.payload}", inner.tokens, inner.ttl))
    if found and _ttl(body) and not found[-1].ttl:
        found[-1] = Block(found[-1].payload, found[-1].tokens, _ttl(body))
    return found


def count_tokens(body: dict[str, Any]) -> dict[str, Any]:
    """The answer of `/v1/messages/count_tokens`."""
    return {"input_tokens": sum(item.tokens for item in blocks(body))}


def messages(label: str, body: dict[str, Any], cache: PrefixCache, scope: str, now: float) -> Reply:
    """An assistant message, with the cache usage that the request's marks lead to."""
    tools = [str(tool.get("name")) for tool in body.get("tools") or []]
    said = answer(label, body["messages"], tools, body.get("max_tokens"))
    use = cache.observe(scope, blocks(body), now)
    usage = {**_input_usage(use), "output_tokens": said.output_tokens}
    reason = "tool_use" if said.tool else "max_tokens" if said.cut_short else "end_turn"
    content: dict[str, Any] = {"type": "text", "text": said.text}
    if said.tool:
        content = {
            "type": "tool_use",
            "id": short_id("toolu", body),
            "name": said.tool,
            "input": said.call,
        }
    whole = {
        "id": short_id("msg", body),
        "type": "message",
        "role": "assistant",
        "model": body.get("model"),
        "content": [content],
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": usage,
    }
    if not body.get("stream"):
        return Reply(whole)
    return Reply(whole, _events(whole, content, said, reason))


def _input_usage(use: Use) -> dict[str, Any]:
    return {
        "input_tokens": use.fresh,
        "cache_creation_input_tokens": use.written_5m + use.written_1h,
        "cache_read_input_tokens": use.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": use.written_5m,
            "ephemeral_1h_input_tokens": use.written_1h,
        },
        "service_tier": "standard",
    }


def _events(whole: dict[str, Any], content: dict[str, Any], said: Answer, reason: str) -> Iterable[Frame]:
    def event(name: str, token: bool = False, **fields: Any) -> Frame:
        return Frame(sse({"type": name, **fields}, name), token)

    begun = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    empty = {**content, "input": {}} if said.tool else {"type": "text", "text": ""}
    yield event("message_start", message=begun)
    yield event("content_block_start", index=0, content_block=empty)
    yield event("ping")
    if said.tool:
        delta = {"type": "input_json_delta", "partial_json": said.arguments}
        yield event("content_block_delta", token=True, index=0, delta=delta)
    for piece in said.pieces:
        yield event("content_block_delta", token=True, index=0, delta={"type": "text_delta", "text": piece})
    yield event("content_block_stop", index=0)
    yield event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=whole["usage"])
    yield event("message_stop")
