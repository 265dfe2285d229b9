"""What of a request's body reaches LiteLLM: the fields that ask for an answer, never one that says where it comes from.

Each path has its list of fields. A field that could steer a request is refused; any other field that is not on the list
is taken out and named in the response header `x-mesh-dropped`. The body is written anew from what is left, so LiteLLM
reads exactly what was checked here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from mesh_policy import RefusedError, check_model, is_local_only

_ANY = "model stream temperature top_p tools tool_choice metadata user service_tier"
_CHAT = f"""{_ANY} messages stream_options n stop max_tokens max_completion_tokens presence_penalty frequency_penalty logit_bias
    logprobs top_logprobs parallel_tool_calls functions function_call response_format seed reasoning_effort modalities prediction
    verbosity thinking top_k safety_identifier prompt_cache_key web_search_options"""
_MESSAGES = f"""{_ANY} messages system max_tokens stop_sequences top_k thinking output_config output_format context_management
    cache_control speed"""
_RESPONSES = f"""{_ANY} input instructions max_output_tokens max_tool_calls parallel_tool_calls reasoning text truncation include
    top_logprobs safety_identifier prompt_cache_key stream_options store"""
_COMPLETIONS = """model stream stream_options temperature top_p prompt suffix max_tokens n stop presence_penalty frequency_penalty
    logit_bias logprobs seed user echo best_of"""
_PATHS = {
    "/chat/completions": (_CHAT, "messages"),
    "/messages": (_MESSAGES, "messages"),
    "/messages/count_tokens": (_MESSAGES, "messages"),
    "/responses": (_RESPONSES, "input"),
    "/embeddings": ("model input dimensions encoding_format user", "input"),
    "/completions": (_COMPLETIONS, "prompt"),
}
SERVED = {prefix + path: (frozenset(names.split()), main) for prefix in ("", "/v1") for path, (names, main) in _PATHS.items()}
"""By path: the fields that may pass, and the one that must be there."""

STEERING = frozenset(
    [
        "fallbacks",
        "context_window_fallbacks",
        "content_policy_fallbacks",
        "default_fallbacks",
        "disable_fallbacks",
        "models",
        "model_list",
        "model_group",
        "router_settings_override",
        "user_config",
        "api_base",
        "base_url",
        "api_key",
        "api_version",
        "organization",
        "extra_body",
        "extra_headers",
        "extra_query",
        "litellm_params",
        "litellm_metadata",
        "litellm_credential_name",
        "custom_llm_provider",
        "deployment_id",
        "specific_deployment",
        "provider",
        "proxy_server_request",
        "mock_response",
        "mock_testing_fallbacks",
        "previous_response_id",
        "conversation",
        "prompt_id",
        "prompt_variables",
        "container",
        "mcp_servers",
        "vector_store_ids",
        "guardrails",
        "cache",
        "route",
    ]
)
"""Fields by which a request could choose its provider, its key, its address, or go on from something kept elsewhere."""
_PREFIXES = ("azure_", "aws_", "vertex_", "mock_", "litellm_", "x-litellm")
MAX_BODY = 32 * 1024**2
"""Bytes. A long context is 4 MiB of text; the rest is room for pictures."""
_TEXT = frozenset(
    ["text", "input_text", "output_text", "tool_use", "function_call", "tool_call", "thinking", "redacted_thinking", "refusal"]
)
"""Parts of a message that hold words or a tool's arguments: an address in them is only words."""


@dataclass(frozen=True)
class Asked:
    """A checked request. body: for LiteLLM. letters: characters of text, without pictures. most_out: tokens, or None."""

    route: str
    body: bytes
    dropped: tuple[str, ...]
    letters: int
    most_out: int | None
    answers: int


def check(client: str, path: str, raw: bytes) -> Asked:
    """The request as it may go on. Raises RefusedError, naming what is wrong."""
    try:
        given = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, "request-body", f"the body is not JSON: {str(error)[:120]}") from None
    if not isinstance(given, dict):
        raise RefusedError(400, "request-body", "the body is JSON, but no object; it needs `model` and a question")
    refuse_steering(given)
    route = check_model(client, given.get("model"))
    fields, main = SERVED[path]
    if not isinstance(given.get(main), str | list) or (main == "messages" and not isinstance(given[main], list)):
        raise RefusedError(400, "request-body", f"the body has no `{main}` to answer")
    kept = {name: value for name, value in given.items() if name in fields}
    if "metadata" in kept:  # Anthropic's user_id says whose conversation it is; LiteLLM would read more out of it
        found = kept.pop("metadata")
        if isinstance(found, dict) and isinstance(found.get("user_id"), str):
            kept["metadata"] = {"user_id": found["user_id"]}
    _check_tools(route, kept.get("tools"))
    pictures = sum(_check_part(route, part) for name in ("messages", "input", "system") for part in _parts(kept.get(name)))
    most = next((kept[name] for name in ("max_tokens", "max_completion_tokens", "max_output_tokens") if name in kept), None)
    return Asked(
        route,
        orjson.dumps(kept),
        tuple(sorted(name for name in given if name not in kept))[:20],
        max(len(raw) - pictures, 0),
        most if isinstance(most, int) and most > 0 else None,
        kept["n"] if isinstance(kept.get("n"), int) and kept["n"] > 0 else 1,
    )


def refuse_steering(body: Mapping[str, Any]) -> None:
    """Raise RefusedError for a field by which the request would choose where it goes."""
    found = sorted(str(name)[:40] for name in body if name in STEERING or str(name).startswith(_PREFIXES))
    if found:
        raise RefusedError(
            400, "client-steering", f"the spec says where a request goes, not its body: remove {', '.join(found[:5])}"
        )


def _check_tools(route: str, tools: object) -> None:
    for tool in tools if isinstance(tools, list) else ():
        kind = str(tool.get("type") or "function") if isinstance(tool, dict) else "?"
        if kind.startswith("mcp"):
            raise RefusedError(400, "client-steering", "the gateway calls no MCP servers: remove the tool of type mcp")
        if is_local_only(route) and kind not in ("function", "custom"):
            raise RefusedError(
                400, "private-tools", f"route {route} stays in the building: a tool of type {kind[:40]} runs elsewhere"
            )


def _parts(content: object) -> Iterator[dict[str, Any]]:
    """Every part of every message, those within a tool's result too."""
    for each in content if isinstance(content, list) else ():
        if isinstance(each, dict):
            yield each
            if isinstance(each.get("content"), list):
                yield from _parts(each["content"])


def _check_part(route: str, part: Mapping[str, Any]) -> int:
    """Characters of pictures and files in a part of a message. Raises RefusedError for one that would be fetched."""
    if part.get("type") in _TEXT:
        return 0
    size = 0
    for name, value in _strings({key: value for key, value in part.items() if key not in ("content", "role", "type")}):
        if name == "file_id":
            raise RefusedError(400, "client-steering", "the gateway keeps no files: send the content itself, not a file_id")
        if value.startswith("data:") or name in ("data", "file_data"):
            size += len(value)
        elif is_local_only(route) and ("://" in value[:20] or value.startswith("//")):
            raise RefusedError(
                400, "private-fetch", f"route {route} stays in the building, so nothing is fetched for it: send data:"
            )
    return size


def _strings(value: object, name: str = "", depth: int = 8) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield name, value
    elif depth and isinstance(value, dict):
        for key, each in value.items():
            yield from _strings(each, key, depth - 1)
    elif depth and isinstance(value, list):
        for each in value:
            yield from _strings(each, name, depth - 1)
