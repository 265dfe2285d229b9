"""The ledger, written by the real LiteLLM: one row a request, with who answered and what it cost, never what was said."""

from __future__ import annotations

import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .ledgers import last, ledger_of, own_gateway, query, rows, settled, spent, wait
from .rig import Rig, secret_of

SAID = "the-words-of-the-prompt"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/completions"])
@pytest.mark.parametrize(("route", "model"), [("write", "claude"), ("bulk", "deepseek-v3"), ("private", "llama3.1-8b")])
def test_a_request_is_one_row(rig: Rig, path: str, stream: bool, route: str, model: str) -> None:
    before = last(rig)
    more = {"prompt": SAID} if path == "/v1/completions" else {}
    answer = rig.ask(route, path=path, stream=stream, **more)
    assert answer.status == 200, answer.text
    (row,) = settled(rig, before, 1)
    assert (row["client"], row["route"], row["model"], row["status"], row["fallbacks"]) == ("laptop", route, model, 200, 0)
    assert row["latency"] >= 1
    price = rig.mesh.models[model].price
    if path == "/v1/completions" and stream:  # LiteLLM counts no tokens here: it costs what was reserved
        assert (row["cost"] > 0) == (price is not None)
        return
    assert row["tokens_in"] >= 1 and row["tokens_out"] >= 1
    expected = (row["tokens_in"] - row["cache_read"]) * price.in_ + row["tokens_out"] * price.out if price else 0
    assert row["cost"] == pytest.approx(expected, abs=3)


def test_an_embedding_is_one_row(rig: Rig) -> None:
    before = last(rig)
    assert rig.ask("embed", path="/v1/embeddings", client="ocr").status == 200
    (row,) = settled(rig, before, 1)
    assert (row["client"], row["route"], row["model"], row["cost"]) == ("ocr", "embed", "nomic-embed", 0)


def test_the_row_names_the_model_that_answered_after_fallbacks(rig: Rig) -> None:
    rig.fault("deepseek", "500")
    rig.stop("ollama")
    before = last(rig)
    assert rig.ask("bulk").status == 200
    (row,) = settled(rig, before, 1)
    assert (row["model"], row["fallbacks"], row["status"]) == ("claude", 2, 200)
    assert row["cost"] > 0


def test_a_request_that_nobody_answered_costs_nothing(rig: Rig) -> None:
    rig.fault("deepseek", "500")
    rig.fault("anthropic", "500")
    rig.stop("ollama")
    before = last(rig)
    assert rig.ask("bulk").status >= 400
    (row,) = settled(rig, before, 1)
    assert (row["model"], row["cost"], row["fallbacks"]) == (None, 0, 2)
    assert row["status"] >= 400


def test_cached_tokens_are_counted_apart(rig: Rig) -> None:
    text = [{"type": "text", "text": "long " * 6000, "cache_control": {"type": "ephemeral"}}]
    before = last(rig)
    for _ in range(2):
        answer = rig.ask("write", path="/v1/messages", system=text)
        assert answer.status == 200, answer.text
    first, second = settled(rig, before, 2)
    assert first["cache_write"] > 1000 and first["cache_read"] == 0
    assert second["cache_read"] > 1000 and second["cache_write"] == 0
    assert second["cost"] < first["cost"]


def test_nothing_that_was_said_or_answered_is_in_the_ledger(rig: Rig) -> None:
    before = last(rig)
    answer = rig.ask("bulk", messages=[{"role": "user", "content": SAID}], user=SAID, metadata={"user_id": SAID})
    assert SAID in answer.text  # the double repeats it
    rig.ask("bulk", client="ocr", path="/v1/messages", messages=[{"role": "user", "content": SAID}], stream=True)
    settled(rig, before, 2)
    for file in ledger_of(rig).parent.glob("ledger*"):
        assert SAID.encode() not in file.read_bytes(), file
        assert secret_of("client_laptop_key").encode() not in file.read_bytes(), file


def test_a_client_that_leaves_is_charged_what_was_reserved(rig: Rig) -> None:
    rig.fault("anthropic", "none", delay_ms=2000)
    before = last(rig)
    leave_while_it_answers(rig, "write")
    (row,) = settled(rig, before, 1)
    assert row["status"] == 499
    assert row["cost"] > 0


def leave_while_it_answers(rig: Rig, route: str) -> None:
    body = json.dumps({"model": route, "max_tokens": 20, "stream": True, "messages": [{"role": "user", "content": "hello"}]})
    connection = http.client.HTTPConnection("127.0.0.1", rig.ports["litellm"])
    headers = {"authorization": f"Bearer {secret_of('client_laptop_key')}", "content-type": "application/json"}
    connection.request("POST", "/v1/messages", body, headers)
    time.sleep(0.5)
    connection.close()


def test_a_killed_gateway_loses_nothing_recorded_and_goes_on_counting(rig: Rig, tmp_path: Path) -> None:
    with own_gateway(rig, tmp_path, {"laptop": {"budget": 10}}) as own:
        own.start_gateway()
        answered: list[int] = []
        stop = threading.Event()

        def load() -> None:
            while not stop.is_set():
                try:
                    answered.append(own.ask("bulk").status)
                except OSError:
                    return

        with ThreadPoolExecutor(6) as pool:
            for _ in range(6):
                pool.submit(load)
            assert wait(lambda: len(answered) > 60)
            own.processes["litellm"].kill()
            stop.set()
        own.processes.pop("litellm").wait()
        kept = rows(own)
        assert len(kept) >= answered.count(200)  # also what was answered in the last second: its row was there before
        money = spent(own, "laptop")
        own.start_gateway()
        assert own.ask("bulk").status == 200
        after = settled(own, kept[-1]["id"], 1)
        assert rows(own)[: len(kept)] == kept
        assert spent(own, "laptop")["cost"] == money["cost"] + after[0]["cost"]
        assert query(own, "PRAGMA integrity_check")[0]["integrity_check"] == "ok"
