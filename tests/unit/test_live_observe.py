"""What Ollama and the gateway list, against servers on loopback that answer well, badly, or not at all. The servers are STUBS."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from mesh.live.http import HttpError, stream_json
from mesh.live.observe import list_gateway, list_models
from mesh.state.deployment import Gateway, OllamaModels
from mesh.state.observed import ObservedGateway, Unknown


class Stub(BaseHTTPRequestHandler):
    answers: dict[str, tuple[int, str]] = {}
    seen: list[tuple[str, str | None]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization")))
        status, body = self.answers.get(self.path, (404, "not here"))
        self.send_response(status)
        self.send_header("x-mesh-gateway", "litellm-a")
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def stub() -> Iterator[str]:
    Stub.answers, Stub.seen = {}, []
    server = HTTPServer(("127.0.0.1", 0), Stub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def models(url: str) -> dict[str, str] | Unknown:
    return list_models(OllamaModels("ollama", "c", url, ()))


def gateway(url: str) -> ObservedGateway | Unknown:
    return list_gateway(Gateway(url, "key", (), {}), "litellm-a", "sk-planted")


def test_models_are_listed_with_their_digests(stub: str) -> None:
    Stub.answers["/api/tags"] = (200, json.dumps({"models": [{"name": "llama3.1:8b", "digest": "d1"}]}))
    assert models(stub) == {"llama3.1:8b": "d1"}


@pytest.mark.parametrize("body", ["{}", "[]", "null", '{"models": [1]}', "<html>", '{"models": {"a": 1}}'])
def test_something_else_on_ollamas_port_is_unknown_and_not_empty(stub: str, body: str) -> None:
    Stub.answers["/api/tags"] = (200, body)
    assert isinstance(models(stub), Unknown)


def test_an_ollama_that_is_down_is_unknown_with_the_address(stub: str) -> None:
    found = models("http://127.0.0.1:9")
    assert isinstance(found, Unknown)
    assert "127.0.0.1:9" in found.why
    assert isinstance(models(stub), Unknown)


def test_groups_fallbacks_and_guard_are_asked_for_with_the_key(stub: str) -> None:
    data = [{"id": "bulk", "metadata": {"fallbacks": ["llama", "claude"]}}, {"id": "llama", "metadata": {"fallbacks": []}}]
    Stub.answers["/v1/models?include_metadata=true"] = (200, json.dumps({"data": data}))
    Stub.answers["/mesh/guard"] = (200, '{"guard": "d1"}')
    assert gateway(stub) == ObservedGateway(("bulk", "llama"), {"bulk": ("llama", "claude")}, "d1")
    assert Stub.seen == [("/v1/models?include_metadata=true", "Bearer sk-planted"), ("/mesh/guard", "Bearer sk-planted")]


def test_an_answer_of_another_gateway_than_the_one_asked_is_not_taken_for_it(stub: str) -> None:
    Stub.answers["/v1/models?include_metadata=true"] = (200, '{"data": []}')
    found = list_gateway(Gateway(stub, "key", (), {}), "litellm-b", "sk-planted")
    assert isinstance(found, Unknown)
    assert "litellm-b does not answer, litellm-a does" in found.why


@pytest.mark.parametrize("answer", [(401, "no"), (500, "boom"), (200, '{"data": [{"id": "bulk"}]}'), (200, "{}")])
def test_a_gateway_that_refuses_or_answers_oddly_is_unknown_and_the_key_is_not_told(stub: str, answer: tuple[int, str]) -> None:
    Stub.answers["/v1/models?include_metadata=true"] = answer
    found = gateway(stub)
    assert isinstance(found, Unknown)
    assert "sk-planted" not in found.why


def test_a_stream_gives_its_lines_and_a_refused_one_raises(stub: str) -> None:
    Stub.answers["/api/pull"] = (200, '{"status": "pulling"}\n{"status": "success"}\n')
    assert [line["status"] for line in stream_json(f"{stub}/api/pull", {"model": "x"})] == ["pulling", "success"]
    with pytest.raises(HttpError):
        list(stream_json(f"{stub}/nowhere", {}))
