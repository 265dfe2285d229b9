"""Who may ask for what, shown by the real LiteLLM: keys, routes, and the ways around them that are closed."""

from __future__ import annotations

from typing import Any

import pytest

from .rig import Rig, secret_of

PATHS = ["/v1/chat/completions", "/chat/completions", "/v1/messages", "/v1/responses", "/v1/completions"]


@pytest.mark.parametrize("key", [None, "", "wrong", "sk-1234"])
def test_without_a_known_key_nothing_is_served(rig: Rig, key: str | None) -> None:
    for method, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models")):
        answer = rig.send(method, path, {"model": "bulk", "messages": []} if method == "POST" else None, key)
        assert answer.status == 401, answer.text
        assert "mesh rule client-key: " in answer.text
    assert rig.cloud_calls() == []


@pytest.mark.parametrize("path", PATHS)
def test_a_client_is_refused_a_route_that_is_not_its_own(rig: Rig, path: str) -> None:
    more = {"prompt": "hello"} if path == "/v1/completions" else {}
    answer = rig.ask("write", client="ocr", path=path, **more)
    assert answer.status == 403, answer.text
    assert "mesh rule client-routes: client ocr may not use route write; its routes are bulk, embed" in answer.text
    assert rig.cloud_calls() == []


def test_a_client_sees_only_its_own_routes(rig: Rig) -> None:
    answer = rig.send("GET", "/v1/models", None, secret_of("client_ocr_key"))
    assert sorted(each["id"] for each in answer.json["data"]) == ["bulk", "embed"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "model",
    [
        "private,bulk",
        "bulk,private",
        "deepseek/deepseek-chat",
        "deepseek-chat",
        "claude",
        "llama3.1-8b",
        "anthropic/claude-opus-5-5",
    ],
)
def test_only_a_route_can_be_asked_for(rig: Rig, path: str, model: str) -> None:
    more = {"prompt": "hello"} if path == "/v1/completions" else {}
    for client in ("laptop", "ocr"):
        answer = rig.ask(model, client=client, path=path, **more)
        assert answer.status == 403, answer.text
        assert "mesh rule routes-only" in answer.text
    assert rig.cloud_calls() == []


@pytest.mark.parametrize(
    "steering",
    [
        {"fallbacks": ["bulk"]},
        {"fallbacks": [{"private": ["bulk"]}]},
        {"context_window_fallbacks": [{"private": ["bulk"]}]},
        {"content_policy_fallbacks": [{"private": ["bulk"]}]},
        {"api_base": "http://127.0.0.1:1"},
        {"base_url": "http://127.0.0.1:1"},
        {"models": ["bulk"]},
        {"model_list": []},
        {"router_settings_override": {"fallbacks": [{"private": ["bulk"]}]}},
        {"user_config": {"model_list": []}},
    ],
    ids=lambda value: next(iter(value)),
)
@pytest.mark.parametrize("path", PATHS[:4])
def test_a_request_cannot_steer_where_it_goes(rig: Rig, path: str, steering: dict[str, Any]) -> None:
    rig.stop("ollama")
    answer = rig.ask("private", path=path, **steering)
    assert answer.status in (400, 401), answer.text  # 401: LiteLLM's own refusal of a body with an address
    assert rig.cloud_calls() == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/anthropic/v1/models"),
        ("POST", "/anthropic/v1/messages"),
        ("GET", "/v1/model/info"),
        ("GET", "/model/info"),
        ("POST", "/key/generate"),
        ("POST", "/config/update"),
        ("GET", "/get/config/callbacks"),
        ("POST", "/model/new"),
        ("GET", "/health"),
        ("POST", "/v1/batches"),
        ("POST", "/v1/files"),
        ("POST", "/engines/bulk/chat/completions"),
        ("POST", "/openai/deployments/bulk/chat/completions"),
        ("POST", "/utils/transform_request"),
    ],
)
def test_paths_beyond_the_served_ones_are_refused_even_to_the_operator(rig: Rig, method: str, path: str) -> None:
    for key in (secret_of("client_laptop_key"), secret_of("litellm_master_key")):
        answer = rig.send(method, path, {"model": "bulk", "messages": []} if method == "POST" else None, key)
        assert answer.status in (403, 404, 405), (answer.status, answer.text)
    assert rig.cloud_calls() == []


@pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe", b'{"model": ["bulk"]}', b'{"model": {"a": 1}}'])
@pytest.mark.parametrize("path", PATHS[:4])
def test_a_body_that_is_no_request_is_a_clear_error(rig: Rig, path: str, body: bytes) -> None:
    answer = rig.send("POST", path, body, secret_of("client_laptop_key"))
    assert answer.status in (400, 403), (answer.status, answer.text)
    assert rig.cloud_calls() == []


@pytest.mark.parametrize("body", [b"[1]", b'"text"', b"null"])
def test_a_body_that_is_no_object_reaches_nobody(rig: Rig, body: bytes) -> None:
    answer = rig.send("POST", "/v1/chat/completions", body, secret_of("client_laptop_key"))
    assert answer.status >= 400  # 500: LiteLLM itself trips over it before anything of ours is asked
    assert rig.cloud_calls() == []


def test_the_gateway_does_not_start_without_its_guard(rig: Rig, tmp_path: Any) -> None:
    assert rig.exit_code_without(tmp_path, "gateway/mesh_guard.py") not in (None, 0)


def test_the_gateway_does_not_start_without_a_key(rig: Rig, tmp_path: Any) -> None:
    assert rig.exit_code_without(tmp_path, "secrets/env") not in (None, 0)
