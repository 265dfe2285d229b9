"""What the rendered gateway does with requests, shown by the real LiteLLM."""

from __future__ import annotations

import pytest

from .rig import Rig, secret_of


def test_the_real_litellm_lists_exactly_the_compiled_groups_and_fallbacks(rig: Rig) -> None:
    expected = rig.deployment.gateway
    assert expected is not None
    answer = rig.send("GET", "/v1/models?include_metadata=true", None, secret_of(expected.key))
    assert answer.status == 200, answer.text
    listed = {each["id"]: tuple(each.get("metadata", {}).get("fallbacks") or ()) for each in answer.json["data"]}
    assert tuple(sorted(listed)) == expected.groups
    assert {name: chain for name, chain in listed.items() if chain} == dict(expected.fallbacks)


def group(answer: object) -> str:
    """The group that answered, as the gateway says it."""
    headers: dict[str, str] = answer.headers  # type: ignore[attr-defined]
    return headers.get("x-litellm-model-group", "")


@pytest.mark.parametrize("route", ["bulk", "reason", "long", "fast", "write", "code", "private", "tidy"])
def test_every_chat_route_is_answered_by_its_own_model(rig: Rig, route: str) -> None:
    answer = rig.ask(route)
    assert answer.status == 200, answer.text
    assert group(answer) == route
    assert answer.headers.get("x-litellm-attempted-fallbacks") == "0"


def test_embeddings_come_from_the_local_model(rig: Rig) -> None:
    answer = rig.ask("embed", path="/v1/embeddings")
    assert answer.status == 200, answer.text
    assert len(answer.json["data"][0]["embedding"]) == 768
    assert rig.cloud_calls() == []


@pytest.mark.parametrize("fault", ["500", "429", "401", "refused", "hang"])
def test_a_failing_provider_falls_back_to_the_local_model(rig: Rig, fault: str) -> None:
    rig.fault("deepseek", fault)
    answer = rig.ask("bulk")
    assert answer.status == 200, answer.text
    assert group(answer) == "llama3.1-8b"


def test_claude_answers_when_deepseek_and_the_local_model_are_down(rig: Rig) -> None:
    rig.fault("deepseek", "500")
    rig.stop("ollama")
    answer = rig.ask("bulk")
    assert answer.status == 200, answer.text
    assert group(answer) == "claude"
    assert "anthropic" in [call["provider"] for call in rig.cloud_calls()]


@pytest.mark.parametrize("route", ["private", "tidy", "code"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_private_route_with_ollama_down_is_an_error_not_a_cloud_answer(rig: Rig, route: str, path: str) -> None:
    rig.stop("ollama")
    answer = rig.ask(route, path=path)
    assert answer.status >= 400, answer.text
    assert rig.cloud_calls() == []


def test_embeddings_with_ollama_down_are_an_error(rig: Rig) -> None:
    rig.stop("ollama")
    answer = rig.ask("embed", path="/v1/embeddings")
    assert answer.status >= 400, answer.text
    assert rig.cloud_calls() == []


def test_claude_is_reached_through_the_caching_proxy(rig: Rig) -> None:
    rig.stop("caching-proxy")
    try:
        assert group(rig.ask("write")) == "kimi-k2"
        assert "anthropic" not in [call["provider"] for call in rig.cloud_calls()]
    finally:
        rig.start_proxy()
    assert group(rig.ask("write")) == "write"


def test_the_declared_prices_make_the_cost(rig: Rig) -> None:
    answer = rig.ask("fast")
    usage = answer.json["usage"]
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    price = rig.mesh.models["groq-llama-3.3-70b"].price
    assert price is not None
    expected = ((usage["prompt_tokens"] - cached) * price.in_ + usage["completion_tokens"] * price.out) / 1e6
    assert float(answer.headers["x-litellm-response-cost"]) == pytest.approx(expected, rel=0.02)


def test_ollama_gets_the_declared_context_and_keep_alive(rig: Rig) -> None:
    rig.ask("private")
    calls = rig.ollama_calls()
    sent = next(each["body"] for each in calls if each["path"] == "/api/chat")
    assert sent["options"]["num_ctx"] == rig.mesh.models["llama3.1-8b"].context
    assert sent["keep_alive"] == f"{rig.mesh.models['llama3.1-8b'].keep_alive}s"
