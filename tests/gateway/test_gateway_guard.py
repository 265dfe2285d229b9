"""Every way out of the building that is known, tried at the real LiteLLM: refused before any provider is called."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesh.compile.yamltext import dump_compose, load_compose

from .ledgers import own_gateway
from .rig import Rig, call, secret_of

PATHS = ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/completions", "/v1/embeddings"]
AWAY = ["bulk", "claude", "deepseek/deepseek-chat"]


def private(path: str, **more: Any) -> dict[str, Any]:
    """A request of a local-only route."""
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 20}
    if path.endswith(("/responses", "/embeddings")):
        asked = {"input": "hello"}
    elif path.endswith("/completions") and "chat" not in path:
        asked = {"prompt": "hello", "max_tokens": 20}
    return {"model": "embed" if path.endswith("/embeddings") else "private", **asked, **more}


def key(client: str = "laptop") -> dict[str, str]:
    return {"authorization": f"Bearer {secret_of(f'client_{client}_key')}"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "steering",
    [
        {"extra_body": {"fallbacks": AWAY}},
        {"extra_headers": {"x-litellm-fallbacks": "bulk"}},
        {"litellm_params": {"fallbacks": AWAY}},
        {"litellm_metadata": {"model_group": "bulk"}},
        {"router_settings_override": {"default_fallbacks": AWAY}},
        {"default_fallbacks": AWAY},
        {"model_group": "bulk"},
        {"custom_llm_provider": "deepseek"},
        {"deployment_id": "deepseek-v3"},
        {"specific_deployment": True},
        {"mock_testing_fallbacks": True},
        {"previous_response_id": "resp_bGl0ZWxsbTpjdXN0b21fbGxtX3Byb3ZpZGVyOmRlZXBzZWVr"},
        {"conversation": "conv_1"},
        {"mcp_servers": [{"type": "url", "url": "https://example.org", "name": "x"}]},
        {"vertex_project": "x"},
        {"azure_ad_token": "x"},
        {"disable_fallbacks": False},
        {"proxy_server_request": {"body": {"model": "bulk"}}},
    ],
    ids=lambda value: next(iter(value)),
)
def test_a_field_that_steers_is_refused(rig: Rig, path: str, steering: dict[str, Any]) -> None:
    answer = rig.send("POST", path, private(path, **steering), secret_of("client_laptop_key"))
    assert answer.status == 400, answer.text
    assert "mesh rule client-steering" in answer.text
    assert rig.cloud_calls() == []


@pytest.mark.parametrize("path", PATHS[:3])
@pytest.mark.parametrize(
    "hidden",
    [
        {"metadata": {"fallbacks": AWAY, "model_group": "bulk", "user_id": "me"}},
        {"metadata": {"tags": ["deepseek"], "router_settings_override": {"fallbacks": AWAY}}},
        {"num_retries": 3, "timeout": 60, "caching": True},
        {"options": {"model": "bulk"}, "tags": ["bulk"]},
    ],
    ids=["metadata", "tags", "settings", "unknown"],
)
def test_what_is_not_known_is_left_out_and_steers_nothing(rig: Rig, path: str, hidden: dict[str, Any]) -> None:
    answer = rig.send("POST", path, private(path, **hidden), secret_of("client_laptop_key"))
    assert answer.status == 200, answer.text
    if "metadata" not in hidden or "user_id" not in hidden["metadata"]:
        assert answer.headers["x-mesh-dropped"] == ", ".join(sorted(hidden))
    rig.stop("ollama")
    assert rig.send("POST", path, private(path, **hidden), secret_of("client_laptop_key")).status >= 500
    assert rig.cloud_calls() == []


@pytest.mark.parametrize("path", [*PATHS, "/v1/models"])
@pytest.mark.parametrize(
    "query", ["model=bulk", "fallbacks=bulk", "api_base=http://127.0.0.1:1", "beta=true&model=bulk", "%6dodel=bulk"]
)
def test_a_query_parameter_steers_nothing(rig: Rig, path: str, query: str) -> None:
    method = "GET" if path == "/v1/models" else "POST"
    answer = rig.send(method, f"{path}?{query}", private(path) if method == "POST" else None, secret_of("client_laptop_key"))
    assert answer.status == 400 and "mesh rule client-steering" in answer.text, answer.text
    assert rig.cloud_calls() == []


def test_the_query_that_claude_code_sends_is_taken(rig: Rig) -> None:
    assert rig.send("POST", "/v1/messages?beta=true", private("/v1/messages"), secret_of("client_laptop_key")).status == 200


@pytest.mark.parametrize(
    "header",
    [
        {"x-litellm-fallbacks": "bulk"},
        {"x-litellm-model": "bulk"},
        {"x-litellm-tags": "deepseek"},
        {"x-litellm-num-retries": "9"},
        {"x-litellm-api-key": "sk-other"},
        {"llm_provider-authorization": "x"},
        {"x-mcp-servers": "all"},
        {"x-pass-through": "1"},
    ],
    ids=lambda value: next(iter(value)),
)
def test_a_client_s_header_steers_nothing_and_reaches_no_provider(rig: Rig, header: dict[str, str]) -> None:
    sent = {**key(), **header, "x-app": "planted-header", "cookie": "planted-header", "anthropic-beta": "oauth-2025-04-20"}
    for path in PATHS[:3]:
        assert call(rig.gateway, "POST", path, private(path, model="bulk"), sent).status == 200
        assert call(rig.gateway, "POST", path, private(path), sent).status == 200
    for seen in (*rig.cloud_calls(), *rig.ollama_calls()):
        told = json.dumps(seen["headers"])
        assert "planted-header" not in told and "oauth-2025" not in told, seen
        assert secret_of("client_laptop_key") not in seen["headers"].get("authorization", "")
        assert not {name for name in seen["headers"] if name.startswith(("x-litellm", "x-mcp", "x-pass", "llm_provider"))}


@pytest.mark.parametrize("path", PATHS[:3])
@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.org/x.png"}},
        {"type": "image_url", "image_url": "http://127.0.0.1:1/x.png"},
        {"type": "input_image", "image_url": "https://example.org/x.png"},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/x.png"}},
        {"type": "document", "source": {"type": "url", "url": "https://example.org/x.pdf"}},
        {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "image", "source": {"url": "https://example.org"}}]},
        {"type": "file", "file": {"file_id": "bGl0ZWxsbV9wcm94eTp0YXJnZXRfbW9kZWxfbmFtZXMsYnVsaw"}},
    ],
)
def test_nothing_is_fetched_for_a_private_request(rig: Rig, path: str, part: dict[str, Any]) -> None:
    asked = private(path)
    asked["input" if path.endswith("responses") else "messages"] = [{"role": "user", "content": [part]}]
    answer = rig.send("POST", path, asked, secret_of("client_laptop_key"))
    assert answer.status == 400 and "mesh rule " in answer.text, answer.text
    assert rig.cloud_calls() == []


def test_an_address_in_words_or_in_a_tool_s_arguments_is_only_words(rig: Rig) -> None:
    told = [
        {"role": "user", "content": [{"type": "text", "text": "https://example.org"}]},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "1", "name": "get", "input": {"url": "https://example.org"}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "done"}]},
    ]
    assert rig.ask("private", path="/v1/messages", messages=told).status == 200


@pytest.mark.parametrize("tool", ["mcp", "web_search_20250305", "web_search_preview", "file_search", "code_interpreter"])
def test_a_private_request_has_no_tools_that_run_elsewhere(rig: Rig, tool: str) -> None:
    for path in PATHS[:3]:
        answer = rig.send("POST", path, private(path, tools=[{"type": tool, "name": "x"}]), secret_of("client_laptop_key"))
        assert answer.status == 400 and "mesh rule " in answer.text, answer.text
    assert rig.cloud_calls() == []


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "text/plain"])
def test_only_json_is_taken(rig: Rig, kind: str) -> None:
    body = b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nbulk\r\n--x--\r\n'
    for path in PATHS:
        answer = call(rig.gateway, "POST", path, body, {**key(), "content-type": kind})
        assert answer.status == 415 and "mesh rule request-body" in answer.text, answer.text
    assert rig.cloud_calls() == []


@pytest.mark.parametrize(
    "path",
    [
        "/openai/deployments/bulk/chat/completions",
        "/engines/bulk/chat/completions",
        "/openai/v1/chat/completions",
        "/openai_passthrough/v1/chat/completions",
        "/anthropic/v1/messages",
        "/vertex_ai/v1/projects/x/models/y:generateContent",
        "/gemini/v1beta/models/x:generateContent",
        "/bedrock/model/x/invoke",
        "/azure/chat/completions",
        "/cohere/v1/chat",
        "/mistral/v1/chat/completions",
        "/groq/v1/chat/completions",
        "/v1/batches",
        "/v1/files",
        "/v1/fine_tuning/jobs",
        "/v1/assistants",
        "/v1/threads",
        "/v1/vector_stores",
        "/v1/realtime/client_secrets",
        "/v1/audio/transcriptions",
        "/v1/images/generations",
        "/v1/moderations",
        "/v1/rerank",
        "/v1/responses/compact",
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1/../v1/chat/completions",
        "/v1/chat%2Fcompletions/x",
        "/V1/chat/completions",
        "/mcp",
        "/mcp/",
        "/mcp-rest/tools/call",
        "/a2a/x/message/send",
        "/queue/chat/completions",
        "/v1/models/bulk",
        "/models/bulk:generateContent",
        "/config/update",
        "/key/generate",
        "/test",
    ],
)
def test_a_path_that_is_no_route_is_not_served(rig: Rig, path: str) -> None:
    for who in ("client_laptop_key", "litellm_master_key"):
        for method in ("POST", "GET", "PUT", "PATCH", "DELETE"):
            answer = rig.send(method, path, private(path) if method == "POST" else None, secret_of(who))
            assert answer.status == 403 and "mesh rule served-paths" in answer.text, (method, answer.text)
    assert rig.cloud_calls() == []


@pytest.mark.parametrize("path", ["/v1/realtime?model=bulk", "/realtime?model=bulk", "/v1/responses", "/vertex_ai/live"])
def test_websockets_are_refused(rig: Rig, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", rig.ports["litellm"], timeout=20)
    upgrade = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    connection.request("GET", path, headers={**key(), **upgrade, "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="})
    assert connection.getresponse().status == 403
    connection.close()
    assert rig.cloud_calls() == []


@pytest.fixture(scope="module")
def seeded(_rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A gateway whose configuration leads private requests out: a mistake that only the guard can stop."""
    with own_gateway(_rig, tmp_path_factory.mktemp("seeded"), {}) as own:
        folder = own.write("litellm")
        path = folder / "gateway" / "config.yaml"
        config = load_compose(path.read_text(encoding="utf-8"))
        settings = config["router_settings"]
        away = ["deepseek-v3", "claude", "kimi-k2"]
        lists = [each for each in settings["fallbacks"] if not set(each) & {"private", "tidy", "embed"}]
        settings |= {"fallbacks": [*lists, {"private": away}, {"embed": away}], "default_fallbacks": away}
        path.chmod(0o600)
        path.write_text(dump_compose(config), encoding="utf-8")
        own.write = lambda name: folder  # type: ignore[method-assign,assignment]  # noqa: ARG005
        own.start_gateway()
        yield own


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", ["private", "tidy", "embed"])
@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_configuration_leads_no_private_request_out(rig: Rig, seeded: Rig, path: str, route: str, stream: bool) -> None:
    rig.stop("ollama")
    asked = private(path, model=route, **({"stream": True} if stream and not path.endswith("embeddings") else {}))
    answer = seeded.send("POST", path, asked, secret_of("client_laptop_key"))
    assert answer.status >= 400, answer.text
    assert rig.cloud_calls() == []


def test_the_seeded_mistake_is_one(rig: Rig, seeded: Rig) -> None:
    """Other routes do follow that configuration: the test above would not pass by a broken one."""
    rig.stop("ollama")
    rig.fault("deepseek", "500")
    assert seeded.ask("bulk").status == 200
    assert "anthropic" in [each["provider"] for each in rig.cloud_calls()]


def told(rig: Rig) -> list[str]:
    """Everything that no client may read."""
    ports = [str(rig.ports[name]) for name in ("ollama", "cloud", "caching-proxy")]
    return ["127.0.0.1", "localhost", "planted", "SSLContext", "Traceback", *(f":{port}" for port in ports)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", PATHS[:4])
@pytest.mark.parametrize("route", ["private", "bulk", "write"])
def test_no_answer_tells_an_address(rig: Rig, path: str, route: str, stream: bool) -> None:
    answers = [rig.send("POST", path, private(path, model=route, stream=stream), secret_of("client_laptop_key"))]
    assert answers[0].status == 200 or path == "/v1/completions"  # there, who stands in for a model that rests is a 404
    rig.stop("ollama")
    rig.stop("caching-proxy")
    rig.fault("deepseek", "refused")
    rig.fault("moonshot", "500")
    answers.append(rig.send("POST", path, private(path, model=route, stream=stream), secret_of("client_laptop_key")))
    rig.start_proxy()
    assert answers[1].status >= 400 or stream, answers[1].text
    for answer in answers:
        everything = answer.text + json.dumps(answer.headers)
        assert not [each for each in told(rig) if each in everything], everything
        assert not {name for name in answer.headers if name.startswith("llm_provider") or name == "x-litellm-model-api-base"}


def test_a_stream_that_breaks_tells_no_address(rig: Rig) -> None:
    for path in PATHS[:3]:
        rig.fault("anthropic", "cut", after_tokens=4)
        answer = rig.send("POST", path, private(path, model="write", stream=True), secret_of("client_laptop_key"))
        assert not [each for each in told(rig) if each in answer.text], answer.text


def test_addresses_that_the_model_speaks_of_stay_in_its_answer(rig: Rig) -> None:
    said = "ping 10.1.2.3:80 and http://example.org"
    for stream in (False, True):
        answer = rig.ask("private", messages=[{"role": "user", "content": said}], stream=stream)
        assert "10.1.2.3:80" in answer.text


@pytest.mark.parametrize("missing", ["mesh_edge.py", "mesh_auth.py", "mesh_request.py", "policy.json"])
def test_without_a_file_of_the_guard_there_is_no_gateway(rig: Rig, tmp_path: Path, missing: str) -> None:
    assert rig.exit_code_without(tmp_path, f"gateway/{missing}") != 0


def test_the_gateway_tells_the_operator_which_guard_it_runs(rig: Rig) -> None:
    assert rig.deployment.gateway is not None
    answer = rig.send("GET", "/mesh/guard", None, secret_of("litellm_master_key"))
    assert answer.json == {"guard": rig.deployment.gateway.guard}
    assert rig.send("GET", "/mesh/guard", None, secret_of("client_laptop_key")).status == 403
