"""The real LiteLLM on the lab's vm-docker, as applied: who answers when a provider is down, and what never answers.

The providers are doubles; the gateway, its configuration and the way through the published port are the real ones.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import fault

pytestmark = pytest.mark.lab
GATEWAY = "http://10.88.0.12:4000"
QUESTION = "what is in my diary?"


class Answer:
    """Status, headers and JSON body of one request to the gateway."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers = status, headers
        self.body: dict[str, Any] = json.loads(body or b"{}")

    @property
    def text(self) -> str:
        return str(self.body["choices"][0]["message"]["content"])

    @property
    def group(self) -> str | None:
        return self.headers.get("x-litellm-model-group")


@pytest.fixture(scope="module")
def key(applied: Any) -> str:
    """The laptop's key for the applied mesh."""
    return str(applied.secrets.value("client_laptop_key"))


def post(path: str, body: dict[str, Any], key: str) -> Answer:
    request = urllib.request.Request(
        GATEWAY + path, json.dumps(body).encode(), {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return Answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())


def chat(route: str, key: str, **more: Any) -> Answer:
    return post("/v1/chat/completions", {"model": route, "messages": [{"role": "user", "content": QUESTION}], **more}, key)


@pytest.fixture(autouse=True)
def healthy_providers(applied: Any) -> Iterator[None]:  # noqa: ARG001
    """Every test begins and ends with healthy doubles, and an empty list of seen calls."""
    fault.post("/_double/reset", {})
    yield
    fault.post("/_double/reset", {})


@pytest.fixture
def ollama_down(lab: Any) -> Iterator[None]:
    """Ollama's container is stopped: its port refuses connections, as a crashed engine's does."""
    lab.ssh("gpu-box", "docker stop -t 1 ollama-ollama-1")
    yield
    lab.ssh("gpu-box", "docker start ollama-ollama-1")
    lab.ssh("gpu-box", "until [ $(docker inspect -f '{{.State.Health.Status}}' ollama-ollama-1) = healthy ]; do sleep 0.2; done")


def test_a_healthy_route_is_answered_by_its_own_model(key: str) -> None:
    answer = chat("bulk", key)
    assert answer.status == 200
    assert answer.group == "bulk"
    assert "double deepseek:deepseek-chat" in answer.text


@pytest.mark.parametrize("kind", ["refused", "500", "429", "401"])
def test_deepseek_down_is_answered_by_the_local_model(key: str, kind: str) -> None:
    fault.set_fault("deepseek", kind)
    answer = chat("bulk", key)
    assert answer.status == 200
    assert answer.group == "llama3.1-8b"
    assert "double ollama" in answer.text


def test_deepseek_and_ollama_down_are_answered_by_claude(key: str, ollama_down: None) -> None:  # noqa: ARG001
    fault.set_fault("deepseek", "refused")
    answer = chat("bulk", key)
    assert answer.status == 200
    assert answer.group == "claude"
    assert "double anthropic:claude" in answer.text


def test_claude_is_reached_through_the_caching_proxy(key: str, lab: Any) -> None:
    answer = chat("write", key)
    assert answer.status == 200
    assert "double anthropic:claude" in answer.text
    lab.ssh("vm-docker", "docker stop -t 1 caching-proxy-caching-proxy-1")
    try:
        assert chat("write", key).group == "kimi-k2"
    finally:
        lab.ssh("vm-docker", "docker start caching-proxy-caching-proxy-1")


def test_private_route_with_ollama_down_is_an_error_and_no_cloud_double_is_called(key: str, ollama_down: None) -> None:  # noqa: ARG001
    answer = chat("private", key)
    assert answer.status >= 500
    assert fault.calls() == []


@pytest.mark.parametrize(
    "leak",
    [
        {"fallbacks": ["bulk"]},
        {"fallbacks": ["claude"]},
        {"context_window_fallbacks": [{"private": ["claude"]}]},
        {"model": "private,bulk"},
        {"model": "deepseek/deepseek-chat"},
        {"model": "claude"},
        {"api_base": "http://10.88.0.3:9000/deepseek"},
    ],
    ids=json.dumps,
)
def test_a_client_cannot_steer_a_private_prompt_to_the_cloud(key: str, ollama_down: None, leak: dict[str, Any]) -> None:  # noqa: ARG001
    answer = chat("private", key, **leak)
    assert 400 <= answer.status < 600
    assert fault.calls() == []


def test_embeddings_have_the_declared_dimensions(key: str) -> None:
    answer = post("/v1/embeddings", {"model": "embed", "input": "closets get warm"}, key)
    assert answer.status == 200
    assert len(answer.body["data"][0]["embedding"]) == 768


def test_embeddings_with_ollama_down_are_an_error(key: str, ollama_down: None) -> None:  # noqa: ARG001
    answer = post("/v1/embeddings", {"model": "embed", "input": "closets get warm"}, key)
    assert answer.status >= 500
    assert fault.calls() == []


def test_a_clients_key_opens_its_own_routes_only(applied: Any) -> None:
    ocr = str(applied.secrets.value("client_ocr_key"))
    assert chat("bulk", ocr).status == 200
    refused = chat("write", ocr)
    assert refused.status == 403
    assert "ocr" in json.dumps(refused.body)


def test_an_unknown_key_is_refused(applied: Any) -> None:  # noqa: ARG001
    assert chat("bulk", "sk-not-a-key-of-this-mesh").status == 401


def test_ask_names_who_answered_and_the_fallbacks_tried(applied: Any) -> None:
    fault.set_fault("deepseek", "refused")
    done = applied.mesh("ask", "bulk", QUESTION, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert "double ollama" in told["answer"]
    assert told["model"] == "llama3.1-8b"
    assert told["tried"] == ["deepseek-v3"]
