"""/v1/messages/count_tokens at the real LiteLLM: the gateway counts by itself, and no provider sees the prompt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .ledgers import last
from .rig import Rig, secret_of

COUNT = "/v1/messages/count_tokens"
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CONVERSATION: list[dict[str, Any]] = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is in this picture?"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}},
        ],
    },
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "let me look", "signature": "x"},
            {"type": "tool_use", "id": "t1", "name": "bash", "input": {"command": "ls"}},
        ],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "a list of files"}]},
]
TOOLS = [{"name": "bash", "description": "Run a command.", "input_schema": {"type": "object", "properties": {}}}]


@pytest.fixture
def unasked(rig: Rig) -> Iterator[Rig]:
    """The gateway; afterwards no provider has been asked anything."""

    def chats() -> int:
        return len([each for each in rig.ollama_calls() if each["path"].startswith("/api/chat")])

    before = chats()
    yield rig
    assert rig.cloud_calls() == []
    assert chats() == before


@pytest.mark.parametrize("route", ["write", "bulk", "long", "fast", "private", "tidy"])
def test_tokens_are_counted_for_every_route_without_asking_anybody(unasked: Rig, route: str) -> None:
    before = last(unasked)
    answer = unasked.ask(route, path=COUNT, messages=[{"role": "user", "content": "closet " * 1000}])
    assert answer.status == 200, answer.text
    assert list(answer.json) == ["input_tokens"]
    assert 900 < answer.json["input_tokens"] < 2500
    assert last(unasked) == before, "nothing is charged, so there is no row"


def test_all_that_claude_code_sends_is_counted(unasked: Rig) -> None:
    path, key = f"{COUNT}?beta=true", secret_of("client_claude_code_key")
    bare = unasked.send("POST", path, {"model": "write", "messages": CONVERSATION}, key)
    more = {"system": [{"type": "text", "text": "You write code. " * 20}], "tools": TOOLS, "thinking": {"type": "adaptive"}}
    full = unasked.send("POST", path, {"model": "write", "messages": CONVERSATION, **more}, key)
    assert (bare.status, full.status) == (200, 200), bare.text + full.text
    assert full.json["input_tokens"] > bare.json["input_tokens"] + 80


def test_a_count_needs_a_key_and_a_route_of_the_client_s_own(unasked: Rig) -> None:
    body = {"model": "write", "messages": CONVERSATION}
    assert unasked.send("POST", COUNT, body, "wrong").status == 401
    foreign = unasked.send("POST", COUNT, body, secret_of("client_ocr_key"))
    assert foreign.status == 403 and foreign.json["type"] == "error" and "mesh rule client-routes" in foreign.text
    steered = unasked.send("POST", COUNT, {**body, "api_base": "http://127.0.0.1:1"}, secret_of("client_laptop_key"))
    assert steered.status == 400 and "mesh rule client-steering" in steered.text


def test_messages_that_cannot_be_counted_are_a_400(unasked: Rig) -> None:
    for messages in ([5], [{"role": "user", "content": 5}], [None], ["text"], [{"role": "user", "content": [{"type": 7}]}]):
        answer = unasked.send("POST", COUNT, {"model": "write", "messages": messages}, secret_of("client_laptop_key"))
        assert answer.status in (200, 400), answer.text
        assert "Traceback" not in answer.text
