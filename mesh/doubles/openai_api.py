"""The OpenAI-style API: chat completions, embeddings, model list, error bodies."""

from __future__ import annotations

import base64
import struct
import time
from collections.abc import Iterable
from typing import Any

from mesh.doubles.text import Answer, answer, embed, flat, short_id, words
from mesh.doubles.wire import Dialect, Frame, Reply, sse

EMBEDDING_DIMENSIONS = 768

_INVALID = "invalid_request_error"
# Error bodies as users of the providers pasted them into public issues (README.md, "Where the error bodies come from").
_CONTEXT: dict[str, dict[str, Any]] = {
    "deepseek": {
        "message": "This model's maximum context length is 131072 tokens. However, you requested 131134 tokens (122942 in "
        "the messages, 8192 in the completion). Please reduce the length of the messages or completion.",
        "type": _INVALID,
        "param": None,
        "code": _INVALID,
    },
    "moonshot": {
        "message": "Invalid request: Your request exceeded model token limit: 262144 (requested: 269030)",
        "type": _INVALID,
    },
    "groq": {
        "message": "Please reduce the length of the messages or completion.",
        "type": _INVALID,
        "param": "messages",
        "code": "context_length_exceeded",
    },
}
_CONTEXT_OPENAI = {
    "message": "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens. "
    "Please reduce the length of the messages.",
    "type": _INVALID,
    "param": "messages",
    "code": "context_length_exceeded",
}
_POLICY: dict[str, dict[str, Any]] = {
    "deepseek": {"message": "Content Exists Risk", "type": _INVALID, "param": None, "code": _INVALID},
    "moonshot": {
        "message": "The request was rejected because it was considered high risk",
        "type": "content_filter",
        "param": "prompt",
        "code": 400,
    },
}
_POLICY_OPENAI = {
    "message": "Your request was rejected as a result of our safety system.",
    "type": _INVALID,
    "param": None,
    "code": "content_policy_violation",
}


def error(provider: str, kind: str) -> tuple[int, dict[str, Any]]:
    """Status and body with which this provider reports a fault."""
    if kind == "context":
        return 400, {"error": _CONTEXT.get(provider, _CONTEXT_OPENAI)}
    if kind == "content_policy":
        return 400, {"error": _POLICY.get(provider, _POLICY_OPENAI)}
    status = int(kind)
    type_, code, text = {
        401: ("authentication_error", "invalid_api_key", "Incorrect API key provided"),
        429: ("rate_limit_error", "rate_limit_exceeded", "Rate limit reached"),
        529: ("overloaded_error", "overloaded", "The engine is currently overloaded, please try again later"),
    }.get(status, ("server_error", "internal_error", "The server had an error while processing your request"))
    return status, {"error": {"message": f"{text} [double {provider}]", "type": type_, "param": None, "code": code}}


def dialect(provider: str) -> Dialect:
    """How an OpenAI-style provider fails, inside a stream too."""
    return Dialect(error=lambda kind: error(provider, kind), frame=sse)


def not_found(model: str) -> tuple[int, dict[str, Any]]:
    """The answer to a model that the provider does not have."""
    text = f"The model `{model}` does not exist or you do not have access to it."
    return 404, {"error": {"message": text, "type": _INVALID, "param": None, "code": "model_not_found"}}


def chat(label: str, body: dict[str, Any], usage: dict[str, Any] | None = None, extra: dict[str, Any] | None = None) -> Reply:
    """A chat completion; `usage` and `extra` are added to the token counts and to the answer's top level."""
    model = str(body.get("model"))
    tools = [tool["function"]["name"] for tool in body.get("tools") or [] if isinstance(tool.get("function"), dict)]
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    said = answer(label, body.get("messages") or [], tools, limit)
    counts = {
        "prompt_tokens": said.prompt_tokens,
        "completion_tokens": said.output_tokens,
        "total_tokens": said.prompt_tokens + said.output_tokens,
        **(usage or {}),
    }
    head = {"id": short_id("chatcmpl", body), "created": int(time.time()), "model": model, **(extra or {})}
    reason = "tool_calls" if said.tool else "length" if said.cut_short else "stop"
    message: dict[str, Any] = {"role": "assistant", "content": None if said.tool else said.text}
    if said.tool:
        message["tool_calls"] = [_call(said, body)]
    if "reason" in model or "-r1" in model:
        message["reasoning_content"] = f"[double {label}] no reasoning took place"
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    whole = {**head, "object": "chat.completion", "choices": [choice], "usage": counts}
    if not body.get("stream"):
        return Reply(whole)
    with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    return Reply(whole, _chunks(head, message, said, reason, counts if with_usage else None))


def _call(said: Answer, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": short_id("call", body),
        "type": "function",
        "function": {"name": said.tool, "arguments": said.arguments},
    }


def _chunks(
    head: dict[str, Any], message: dict[str, Any], said: Answer, reason: str, usage: dict[str, Any] | None
) -> Iterable[Frame]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse({**head, "object": "chat.completion.chunk", "choices": [choice]})

    yield Frame(chunk({"role": "assistant", "content": ""}))
    if "reasoning_content" in message:
        yield Frame(chunk({"reasoning_content": message["reasoning_content"]}), token=True)
    for piece in said.pieces:
        yield Frame(chunk({"content": piece}), token=True)
    for number, call in enumerate(message.get("tool_calls", [])):
        yield Frame(chunk({"tool_calls": [{"index": number, **call}]}), token=True)
    yield Frame(chunk({}, reason))
    if usage is not None:
        yield Frame(sse({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}))
    yield Frame(sse("[DONE]"))


def inputs(body: dict[str, Any]) -> list[str]:
    """The texts of an embedding request: one, a list, or (as some clients send) lists of token numbers."""
    given = body.get("input")
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and given and all(isinstance(item, int) for item in given):
        return [" ".join(map(str, given))]
    if isinstance(given, list):
        return [" ".join(map(str, item)) if isinstance(item, list) else flat(item) for item in given]
    return []


def embeddings(body: dict[str, Any], default_dimensions: int = EMBEDDING_DIMENSIONS) -> Reply:
    """Embeddings of the request's texts, as floats or (the OpenAI client's default) as base64 of float32."""
    texts = inputs(body)
    dimensions = int(body.get("dimensions") or default_dimensions)
    data = []
    for index, text in enumerate(texts):
        vector: list[float] | str = embed(text, dimensions)
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    tokens = sum(words(text) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Reply({"object": "list", "data": data, "model": body.get("model"), "usage": usage})


def models(ids: Iterable[str], owner: str) -> dict[str, Any]:
    """The answer of `/v1/models`."""
    data = [{"id": name, "object": "model", "created": 0, "owned_by": owner} for name in ids]
    return {"object": "list", "data": data}
