"""The double of the cloud APIs behaves as the providers do, fails as it is told to, and says that it is a double."""

import asyncio
import base64
import json
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from mesh.doubles import control, openai_api
from mesh.doubles.cloud import build
from mesh.doubles.prefix_cache import Block, PrefixCache, Use

Client = TestClient[Any, Any]
KEY = {"authorization": "Bearer planted-key"}
ANTHROPIC = {"x-api-key": "planted-key", "anthropic-version": "2023-06-01"}


def run(scenario: Callable[[Client], Awaitable[None]]) -> None:
    async def go() -> None:
        async with TestClient(TestServer(build(), handler_cancellation=True)) as client:
            await scenario(client)

    asyncio.run(go())


def ask(text: str = "hi", model: str = "deepseek-chat", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


async def fault(client: Client, provider: str, **setting: Any) -> None:
    response = await client.post(f"/_double/{provider}/fault", json=setting)
    assert response.status == 200, await response.text()


def events(raw: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in raw.splitlines() if line.startswith("data: {")]


def test_every_answer_says_that_a_double_gave_it() -> None:
    async def scenario(client: Client) -> None:
        for path in ("/", "/groq/v1/models", "/nowhere/at/all"):
            response = await client.get(path, headers=KEY)
            assert response.headers["x-double"] == "cloud"
            assert response.headers["server"] == "homelab-mesh-double/cloud"
        assert "NOT a real provider" in await (await client.get("/")).text()
        body = await (await client.post("/deepseek/v1/chat/completions", json=ask("my words"), headers=KEY)).json()
        text = body["choices"][0]["message"]["content"]
        assert text.startswith("[double deepseek:deepseek-chat] my words")
        assert body["usage"]["prompt_tokens"] == 2

    run(scenario)


@pytest.mark.parametrize("path", ["/deepseek", "/deepseek/v1", "/moonshot/v1", "/groq/openai/v1", "/anything/v1"])
def test_chat_answers_on_every_base_that_litellm_calls(path: str) -> None:
    async def scenario(client: Client) -> None:
        response = await client.post(f"{path}/chat/completions", json=ask("say:exact text"), headers=KEY)
        assert (await response.json())["choices"][0]["message"]["content"] == "exact text"

    run(scenario)


def test_a_wrongly_joined_base_is_not_found() -> None:
    async def scenario(client: Client) -> None:
        for path in ("/anthropic/v1/v1/messages", "/deepseek//chat/completions"):
            assert (await client.post(path, json=ask(), headers=ANTHROPIC)).status == 404

    run(scenario)


def test_groq_answers_carry_the_service_tier_litellm_needs() -> None:
    async def scenario(client: Client) -> None:
        body = await (await client.post("/groq/v1/chat/completions", json=ask(), headers=KEY)).json()
        assert body["service_tier"]

    run(scenario)


def test_a_stream_has_all_tokens_one_finish_and_the_usage_when_asked() -> None:
    async def scenario(client: Client) -> None:
        body = ask("say:one two three", stream=True, stream_options={"include_usage": True})
        raw = await (await client.post("/moonshot/v1/chat/completions", json=body, headers=KEY)).text()
        chunks = events(raw)
        assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]) == "one two three"
        assert [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]][-1] == "stop"
        assert chunks[-1]["usage"]["completion_tokens"] == 3
        assert raw.rstrip().endswith("data: [DONE]")

    run(scenario)


def test_a_tool_is_called_when_the_message_names_an_offered_one() -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]

    async def scenario(client: Client) -> None:
        body = await (
            await client.post("/deepseek/chat/completions", json=ask('tool:weather {"city": "Rome"}', tools=tools), headers=KEY)
        ).json()
        call = body["choices"][0]["message"]["tool_calls"][0]["function"]
        assert (call["name"], json.loads(call["arguments"])) == ("weather", {"city": "Rome"})
        assert body["choices"][0]["finish_reason"] == "tool_calls"
        plain = await (await client.post("/deepseek/chat/completions", json=ask("tool:weather"), headers=KEY)).json()
        assert "tool_calls" not in plain["choices"][0]["message"]

    run(scenario)


def test_a_request_without_a_key_is_refused_as_the_providers_do() -> None:
    async def scenario(client: Client) -> None:
        assert (await client.post("/deepseek/chat/completions", json=ask())).status == 401
        headers = {"anthropic-version": "2023-06-01"}
        response = await client.post("/anthropic/v1/messages", json=ask(max_tokens=5), headers=headers)
        assert (response.status, (await response.json())["error"]["type"]) == (401, "authentication_error")

    run(scenario)


def test_a_model_that_does_not_exist_is_404() -> None:
    async def scenario(client: Client) -> None:
        for path, headers in (("/groq/v1/chat/completions", KEY), ("/anthropic/v1/messages", ANTHROPIC)):
            assert (await client.post(path, json=ask(model="no-such-model"), headers=headers)).status == 404

    run(scenario)


def test_embeddings_are_the_same_as_floats_and_as_base64() -> None:
    floats = openai_api.embeddings({"input": "a fox", "model": "m"}).whole["data"][0]["embedding"]
    coded = openai_api.embeddings({"input": ["a fox"], "model": "m", "encoding_format": "base64"}).whole["data"][0]["embedding"]
    assert len(floats) == 768
    assert struct.unpack("<768f", base64.b64decode(coded)) == pytest.approx(floats, abs=1e-6)


def test_messages_stream_in_anthropics_order_with_usage() -> None:
    async def scenario(client: Client) -> None:
        for path in ("/anthropic/v1/messages", "/deepseek/anthropic/v1/messages"):
            body = ask("say:a b", max_tokens=10, stream=True)
            seen = events(await (await client.post(path, json=body, headers=ANTHROPIC)).text())
            kinds = [event["type"] for event in seen if event["type"] != "ping"]
            assert kinds == [
                "message_start",
                "content_block_start",
                "content_block_delta",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop",
            ]
            assert seen[-2]["usage"]["output_tokens"] == 2

    run(scenario)


def test_tokens_are_counted_without_an_answer() -> None:
    async def scenario(client: Client) -> None:
        body = {**ask("three words here"), "system": "be brief"}
        response = await client.post("/anthropic/v1/messages/count_tokens", json=body, headers=ANTHROPIC)
        assert await response.json() == {"input_tokens": 5}

    run(scenario)


def marked(text: str, ttl: str | None = None) -> dict[str, Any]:
    mark = {"type": "ephemeral", **({"ttl": ttl} if ttl else {})}
    return {"type": "text", "text": text, "cache_control": mark}


def test_a_marked_prefix_is_written_once_and_then_read() -> None:
    async def scenario(client: Client) -> None:
        body = {**ask("new words", max_tokens=5), "system": [marked("a long system prompt", "1h")]}
        usages = []
        for _ in range(2):
            response = await client.post("/anthropic/v1/messages", json=body, headers=ANTHROPIC)
            usages.append((await response.json())["usage"])
        first, second = usages
        assert (first["cache_creation_input_tokens"], first["cache_read_input_tokens"], first["input_tokens"]) == (4, 0, 2)
        assert first["cache_creation"]["ephemeral_1h_input_tokens"] == 4
        assert (second["cache_creation_input_tokens"], second["cache_read_input_tokens"]) == (0, 4)
        other = await client.post("/anthropic/v1/messages", json=body, headers={**ANTHROPIC, "x-api-key": "another"})
        assert (await other.json())["usage"]["cache_read_input_tokens"] == 0

    run(scenario)


def test_without_marks_nothing_is_cached() -> None:
    async def scenario(client: Client) -> None:
        for _ in range(2):
            response = await client.post("/anthropic/v1/messages", json=ask("x y", max_tokens=5), headers=ANTHROPIC)
            usage = (await response.json())["usage"]
            assert (usage["cache_creation_input_tokens"], usage["cache_read_input_tokens"]) == (0, 0)

    run(scenario)


def test_five_marks_are_refused() -> None:
    async def scenario(client: Client) -> None:
        body = {**ask(max_tokens=5), "system": [marked(f"part {number}") for number in range(5)]}
        response = await client.post("/anthropic/v1/messages", json=body, headers=ANTHROPIC)
        assert response.status == 400
        assert "maximum of 4" in await response.text()

    run(scenario)


def test_a_growing_chat_reads_what_the_turn_before_wrote_until_it_expires() -> None:
    cache = PrefixCache()
    first = [Block("s", 10), Block("u1", 5, "5m")]
    assert cache.observe("k", first, now=0) == Use(fresh=0, written_5m=15)
    grown = [Block("s", 10), Block("u1", 5), Block("a1", 3), Block("u2", 2, "5m")]
    assert cache.observe("k", grown, now=100) == Use(read=15, written_5m=5)
    assert cache.observe("k", grown, now=100 + 301) == Use(written_5m=20)


def test_a_prefix_further_back_than_the_look_back_is_not_found() -> None:
    cache = PrefixCache()
    cache.observe("k", [Block("s", 10, "5m")], now=0)
    long = [Block("s", 10), *(Block(f"b{number}", 1) for number in range(20)), Block("end", 1, "5m")]
    assert cache.observe("k", long, now=1).read == 0


def test_deepseek_reports_its_automatic_cache() -> None:
    async def scenario(client: Client) -> None:
        usage: dict[str, int] = {}
        for _ in range(2):
            usage = (await (await client.post("/deepseek/chat/completions", json=ask("a b c"), headers=KEY)).json())["usage"]
        assert (usage["prompt_cache_hit_tokens"], usage["prompt_cache_miss_tokens"]) == (3, 0)

    run(scenario)


@pytest.mark.parametrize(("kind", "status"), [("500", 500), ("429", 429), ("401", 401), ("529", 529), ("context", 400)])
def test_a_fault_gives_its_status_and_only_to_its_provider(kind: str, status: int) -> None:
    async def scenario(client: Client) -> None:
        await fault(client, "deepseek", fault=kind, retry_after=4)
        response = await client.post("/deepseek/chat/completions", json=ask(), headers=KEY)
        assert (response.status, response.headers["retry-after"]) == (status, "4")
        assert (await client.post("/groq/v1/chat/completions", json=ask(), headers=KEY)).status == 200

    run(scenario)


@pytest.mark.parametrize(
    ("path", "kind", "phrase"),
    [
        ("/deepseek/chat/completions", "context", "This model's maximum context length is"),
        ("/moonshot/v1/chat/completions", "context", "exceeded model token limit"),
        ("/groq/v1/chat/completions", "context", "context_length_exceeded"),
        ("/anthropic/v1/messages", "context", "prompt is too long"),
        ("/deepseek/chat/completions", "content_policy", "Content Exists Risk"),
        ("/anthropic/v1/messages", "content_policy", "content filtering policy"),
        ("/anthropic/v1/messages", "529", "overloaded_error"),
    ],
)
def test_an_error_is_worded_as_its_provider_words_it(path: str, kind: str, phrase: str) -> None:
    async def scenario(client: Client) -> None:
        await fault(client, path.split("/")[1], fault=kind)
        assert phrase in await (await client.post(path, json=ask(), headers={**KEY, **ANTHROPIC})).text()

    run(scenario)


def test_a_fault_with_times_ends_by_itself() -> None:
    async def scenario(client: Client) -> None:
        await fault(client, "groq", fault="500", times=2)
        found = [(await client.post("/groq/v1/chat/completions", json=ask(), headers=KEY)).status for _ in range(3)]
        assert found == [500, 500, 200]

    run(scenario)


def test_headers_can_be_set_on_a_healthy_answer() -> None:
    async def scenario(client: Client) -> None:
        await fault(client, "anthropic", headers={"anthropic-ratelimit-unified-5h-utilization": "0.42"})
        response = await client.post("/anthropic/v1/messages", json=ask(max_tokens=5), headers=ANTHROPIC)
        assert (response.status, response.headers["anthropic-ratelimit-unified-5h-utilization"]) == (200, "0.42")

    run(scenario)


def test_refused_is_a_tcp_reset_before_any_byte() -> None:
    async def scenario(client: Client) -> None:
        await fault(client, "moonshot", fault="refused")
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        body = json.dumps(ask()).encode()
        head = f"POST /moonshot/v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()

    run(scenario)


def test_hang_answers_nothing() -> None:
    async def scenario(client: Client) -> None:
        await fault(client, "moonshot", fault="hang")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await client.post("/moonshot/v1/chat/completions", json=ask(), headers=KEY)

    run(scenario)


@pytest.mark.parametrize("tokens", [0, 2])
def test_a_cut_stream_ends_without_its_end_after_so_many_tokens(tokens: int) -> None:
    async def scenario(client: Client) -> None:
        await fault(client, "deepseek", fault="cut", after_tokens=tokens)
        response = await client.post("/deepseek/chat/completions", json=ask("say:a b c d", stream=True), headers=KEY)
        raw = b""
        with pytest.raises(aiohttp.ClientPayloadError):
            async for piece in response.content.iter_any():
                raw += piece
        said = [chunk["choices"][0]["delta"].get("content") for chunk in events(raw.decode())]
        assert [text for text in said if text] == ["a ", "b "][:tokens]

    run(scenario)


def test_a_cut_whole_answer_is_half_an_answer() -> None:
    async def scenario(client: Client) -> None:
        await fault(client, "deepseek", fault="cut")
        response = await client.post("/deepseek/chat/completions", json=ask(), headers=KEY)
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()

    run(scenario)


def test_an_error_after_some_tokens_is_an_event_inside_the_stream() -> None:
    async def scenario(client: Client) -> None:
        await fault(client, "anthropic", fault="529", after_tokens=1)
        body = ask("say:a b c", max_tokens=9, stream=True)
        response = await client.post("/anthropic/v1/messages", json=body, headers=ANTHROPIC)
        seen = events(await response.text())
        assert response.status == 200
        assert [event["type"] for event in seen][-2:] == ["content_block_delta", "error"]

    run(scenario)


@pytest.mark.parametrize(
    "setting", ['{"fault": "explode"}', '{"falt": "500"}', '{"fault": "500", "times": "2"}', "[]", "nonsense"]
)
def test_a_misspelt_fault_is_refused_not_ignored(setting: str) -> None:
    async def scenario(client: Client) -> None:
        response = await client.post("/_double/groq/fault", data=setting)
        assert response.status == 400
        assert "double:" in (await response.json())["error"]

    run(scenario)


def test_every_call_is_remembered_with_its_key_body_and_fault() -> None:
    async def scenario(client: Client) -> None:
        await fault(client, "groq", fault="500")
        await client.post("/groq/v1/chat/completions", json=ask("remember me"), headers=KEY)
        await client.get("/deepseek/no/such/path", headers=KEY)
        found = (await (await client.get("/_double/calls")).json())["calls"]
        assert [(call["provider"], call["path"], call["fault"]) for call in found] == [
            ("groq", "/groq/v1/chat/completions", "500"),
            ("deepseek", "/deepseek/no/such/path", "none"),
        ]
        assert found[0]["headers"]["authorization"] == "Bearer planted-key"
        assert found[0]["body"]["messages"][0]["content"] == "remember me"
        one = (await (await client.get("/_double/calls?provider=groq")).json())["calls"]
        assert len(one) == 1

    run(scenario)


def test_reset_forgets_calls_faults_and_prompt_caches() -> None:
    async def scenario(client: Client) -> None:
        body = {**ask(max_tokens=5), "system": [marked("cached words")]}
        await client.post("/anthropic/v1/messages", json=body, headers=ANTHROPIC)
        await fault(client, "anthropic", fault="500")
        await client.post("/_double/reset")
        assert (await (await client.get("/_double/calls")).json())["calls"] == []
        response = await client.post("/anthropic/v1/messages", json=body, headers=ANTHROPIC)
        assert response.status == 200
        assert (await response.json())["usage"]["cache_read_input_tokens"] == 0

    run(scenario)


def test_remembered_calls_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "KEPT_CALLS", 3)

    async def scenario(client: Client) -> None:
        for number in range(5):
            await client.post("/groq/v1/chat/completions", json=ask(str(number)), headers=KEY)
        found = await (await client.get("/_double/calls")).json()
        assert [call["body"]["messages"][0]["content"] for call in found["calls"]] == ["2", "3", "4"]
        assert found["dropped"] == 2

    run(scenario)
