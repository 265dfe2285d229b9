"""`mesh ask` against a double of the gateway that sends the headers and errors of LiteLLM 1.106.2, as seen on the wire."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from clikit import SMALL_SPEC, Ran

from mesh.secrets.agefile import AgeFile, load_identities

Run = Callable[..., Ran]


class Gateway:
    """A double of the gateway on a loopback port: answers everything with `status`, `headers` and `reply`."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.reply: Any = chat("warm air rises")
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        self.port = 0

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append((request.path, request.headers.get("Authorization", ""), await request.json()))
        if self.reply == "hang":
            await asyncio.sleep(5)
        body = self.reply if isinstance(self.reply, str) else json.dumps(self.reply)
        return web.Response(status=self.status, headers=self.headers, text=body, content_type="application/json")


def chat(text: str | None, tokens: tuple[int, int] = (1000, 2000)) -> dict[str, Any]:
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return {"model": "x", "choices": [{"message": {"role": "assistant", "content": text}}], "usage": usage}


def error(message: str, kind: str, code: int) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": str(code)}}


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    double, loop, started = Gateway(), asyncio.new_event_loop(), threading.Event()

    async def serve() -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", double.handle)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        double.port = runner.addresses[0][1]
        started.set()

    def run() -> None:
        loop.run_until_complete(serve())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(10)
    yield double
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


@pytest.fixture
def inventory(small_inventory: Path, gateway: Gateway, run_mesh: Run) -> Path:
    """The small inventory, its gateway where the double is, with keys."""
    (small_inventory / "mesh.yaml").write_text(SMALL_SPEC.replace("port: 4000", f"port: {gateway.port}"))
    assert run_mesh("secrets", "init", "-C", small_inventory).code == 0
    return small_inventory


def key_of(inventory: Path, identity: Path, client: str) -> str:
    return AgeFile(inventory).open(load_identities(identity))[f"client_{client}_key"].reveal()


def test_the_answer_is_on_stdout_and_the_account_on_stderr(
    inventory: Path, identity: Path, gateway: Gateway, run_mesh: Run
) -> None:
    gateway.headers = {
        "x-litellm-model-group": "bulk",
        "x-litellm-attempted-fallbacks": "0",
        "x-litellm-response-cost": "0.0042",
    }
    ran = run_mesh("ask", "bulk", "why are closets warm?", "-C", inventory)
    assert (ran.code, ran.out) == (0, "warm air rises\n")
    account = " ".join(ran.err.split())
    assert "answered by v3 at deepseek" in account
    assert "fallbacks none" in account
    assert "1000 in, 2000 out" in account
    assert "0.004200 USD" in account
    path, authorization, body = gateway.requests[0]
    assert path == "/v1/chat/completions"
    assert authorization == f"Bearer {key_of(inventory, identity, 'laptop')}"
    assert body == {"model": "bulk", "messages": [{"role": "user", "content": "why are closets warm?"}]}


@pytest.mark.parametrize(("group", "tried"), [("llama", ["v3"]), ("claude", ["v3", "llama"])])
def test_the_fallbacks_tried_are_those_before_the_group_that_answered(
    inventory: Path, gateway: Gateway, run_mesh: Run, group: str, tried: list[str]
) -> None:
    gateway.headers = {"x-litellm-model-group": group, "x-litellm-attempted-fallbacks": "1"}
    ran = run_mesh("ask", "bulk", "hi", "-C", inventory)
    assert f"{', '.join(tried)} failed before" in ran.err
    parsed = json.loads(run_mesh("ask", "bulk", "hi", "--json", "-C", inventory).out)
    assert (parsed["model"], parsed["tried"]) == (group, tried)


def test_the_cost_comes_from_the_gateway_or_else_from_the_specs_prices(inventory: Path, gateway: Gateway, run_mesh: Run) -> None:
    def cost() -> float:
        return float(json.loads(run_mesh("ask", "bulk", "hi", "--json", "-C", inventory).out)["cost_usd"])

    gateway.headers = {"x-litellm-model-group": "bulk", "x-litellm-response-cost": "0.5"}
    assert cost() == 0.5
    gateway.headers = {"x-litellm-model-group": "llama", "x-litellm-response-cost-original": "0.0"}
    assert cost() == 0.0
    gateway.headers = {"x-litellm-model-group": "bulk"}
    assert cost() == pytest.approx((1000 * 0.25 + 2000 * 1.00) / 1e6)
    gateway.headers = {"x-litellm-model-group": "llama"}
    assert cost() == 0.0


def test_an_embedding_route_prints_dimensions_and_the_first_numbers(
    inventory: Path, identity: Path, gateway: Gateway, run_mesh: Run
) -> None:
    gateway.reply = {"data": [{"embedding": [0.5] * 768}], "usage": {"prompt_tokens": 3}}
    ran = run_mesh("ask", "embed", "closets", "-C", inventory)
    assert ran.code == 0
    assert ran.out.startswith("768 dimensions: [0.5000, ")
    path, authorization, body = gateway.requests[0]
    assert (path, body) == ("/v1/embeddings", {"model": "embed", "input": "closets"})
    assert authorization == f"Bearer {key_of(inventory, identity, 'ocr')}", "laptop has no such route, ocr is the first that has"


def test_a_client_can_be_chosen(inventory: Path, identity: Path, gateway: Gateway, run_mesh: Run) -> None:
    run_mesh("ask", "bulk", "hi", "--client", "ocr", "-C", inventory)
    assert gateway.requests[0][1] == f"Bearer {key_of(inventory, identity, 'ocr')}"


def test_a_dash_reads_the_text_from_stdin(
    inventory: Path, gateway: Gateway, run_mesh: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("lines\nof é".encode())))
    assert run_mesh("ask", "bulk", "-", "-C", inventory).code == 0
    assert gateway.requests[0][2]["messages"][0]["content"] == "lines\nof é"


def test_nothing_to_ask_is_an_error_before_anything_is_sent(
    inventory: Path, gateway: Gateway, run_mesh: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_mesh("ask", "bulk", "  ", "-C", inventory).code == 1
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe")))
    assert run_mesh("ask", "bulk", "-", "-C", inventory).code == 1
    assert not gateway.requests


def test_an_answer_cannot_drive_the_terminal(inventory: Path, gateway: Gateway, run_mesh: Run) -> None:
    gateway.reply = chat("\x1b[2Jgone\x07")
    assert not {"\x1b", "\x07"} & set(run_mesh("ask", "bulk", "hi", "-C", inventory).out)


def test_an_empty_answer_is_said_to_be_empty(inventory: Path, gateway: Gateway, run_mesh: Run) -> None:
    gateway.reply = chat(None)
    ran = run_mesh("ask", "bulk", "hi", "-C", inventory)
    assert (ran.code, ran.out) == (0, "\n")
    assert "empty" in ran.err


@pytest.mark.parametrize(
    ("route", "client", "says"),
    [("bluk", None, "did you mean `bulk`"), ("bulk", "lapptop", "did you mean `laptop`"), ("nobody", None, "no client may use")],
)
def test_an_unknown_name_is_an_error_with_the_nearest_and_its_place(
    inventory: Path, gateway: Gateway, run_mesh: Run, route: str, client: str | None, says: str
) -> None:
    ran = run_mesh("ask", route, "hi", *(["--client", client] if client else []), "-C", inventory)
    assert ran.code == 1
    assert says in ran.err
    assert "mesh.yaml:" in ran.err
    assert not gateway.requests


@pytest.mark.parametrize(
    ("status", "reply", "says"),
    [
        (401, error("Authentication Error, unknown key", "auth_error", 401), "does not know the key of laptop"),
        (
            403,
            error("The requested model 'bulk' is not available", "key_model_access_denied", 403),
            "its routes are bulk, private",
        ),
        (422, error("Budget has been exceeded! Max budget: 5", "budget_exceeded", 422), "the budget of laptop is spent"),
        (429, error("litellm.RateLimitError: slow down", "throttling_error", 429), "no model of the route bulk answered (429)"),
        (500, error("Fallback to llama, claude also failed", "internal_server_error", 500), "tried: v3, llama, claude"),
        (502, "<html>bad gateway</html>", "bad gateway"),
        (404, {"detail": "Not Found"}, "answered 404"),
        (200, "not json", "not json"),
        (200, {"choices": []}, "another form"),
        (200, ["x"], "answered 200"),
    ],
)
def test_a_refusal_is_an_error_with_the_gateways_own_words(
    inventory: Path, identity: Path, gateway: Gateway, run_mesh: Run, status: int, reply: Any, says: str
) -> None:
    gateway.status, gateway.reply = status, reply
    ran = run_mesh("ask", "bulk", "hi", "-C", inventory)
    assert (ran.code, ran.out) == (1, "")
    assert says in ran.err
    if isinstance(reply, dict) and "error" in reply:
        assert reply["error"]["message"] in ran.err
    assert key_of(inventory, identity, "laptop") not in ran.said


def test_a_gateway_that_echoes_the_key_does_not_print_it(
    inventory: Path, identity: Path, gateway: Gateway, run_mesh: Run
) -> None:
    key = key_of(inventory, identity, "laptop")
    gateway.status, gateway.reply = 401, error(f"bad key {key}", "auth_error", 401)
    ran = run_mesh("ask", "bulk", "hi", "-C", inventory)
    assert key not in ran.said
    assert "[REDACTED]" in ran.err


def test_a_gateway_that_is_off_or_hangs_is_an_error(inventory: Path, gateway: Gateway, run_mesh: Run) -> None:
    gateway.reply = "hang"
    ran = run_mesh("ask", "bulk", "hi", "--timeout", "1", "-C", inventory)
    assert ran.code == 1
    assert "did not answer within 1 s" in ran.err
    spec = inventory / "mesh.yaml"
    spec.write_text(spec.read_text().replace(f"port: {gateway.port}", "port: 1"))
    ran = run_mesh("ask", "bulk", "hi", "-C", inventory)
    assert ran.code == 1
    assert "http://127.0.0.1:1: the gateway cannot be reached" in ran.err


def test_a_client_without_a_key_is_an_error_that_names_the_secret(inventory: Path, gateway: Gateway, run_mesh: Run) -> None:
    assert run_mesh("secrets", "rm", "client_laptop_key", "-C", inventory).code == 0
    ran = run_mesh("ask", "bulk", "hi", "-C", inventory)
    assert ran.code == 1
    assert "secret:client_laptop_key" in ran.err
    assert not gateway.requests
