"""Budgets and requests per minute at the real LiteLLM: before a provider is called, over restarts and over two gateways."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from .ledgers import ledger_of, own_gateway, settled, spent, wait
from .rig import Answer, Rig

BUDGET = 5000
"""Micro-dollars. A request on `write` costs 324 of them, and 20 tokens more than that are reserved."""
SPENT = (
    r"mesh rule client-budget: client open-webui has a budget of \$0\.0050 a month and has spent \$0\.00\d\d; "
    r"it renews on \d{4}-\d\d-01 at 00:00 UTC"
)
LIMITS = {"laptop": {"budget": BUDGET / 1e6}, "ocr": {"rpm": 3}, "open-webui": {"budget": BUDGET / 1e6}}


@pytest.fixture(scope="module")
def pair(_rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Rig]]:
    """Two gateways on one ledger."""
    folder = tmp_path_factory.mktemp("pair")
    with (
        own_gateway(_rig, folder / "a", LIMITS, ledger=folder / "ledger.db") as first,
        own_gateway(_rig, folder / "b", LIMITS, ledger=folder / "ledger.db") as second,
    ):
        first.start_gateway()
        second.start_gateway()
        yield [first, second]


def ask_all(gateways: list[Rig], count: int, client: str) -> list[Answer]:
    with ThreadPoolExecutor(25) as pool:
        return list(pool.map(lambda turn: gateways[turn % len(gateways)].ask("write", client=client), range(count)))


def test_a_hundred_requests_at_once_over_two_gateways_stay_within_the_budget(rig: Rig, pair: list[Rig]) -> None:
    answers = ask_all(pair, 100, "laptop")
    statuses = {answer.status for answer in answers}
    assert statuses <= {200, 402, 429} and 200 in statuses
    assert len([call for call in rig.cloud_calls() if call["provider"] == "anthropic"]) == sum(a.status == 200 for a in answers)
    assert wait(lambda: spent(pair[0], "laptop")["held"] == 0)
    while pair[0].ask("write").status == 200:
        assert wait(lambda: spent(pair[0], "laptop")["held"] == 0)
    cost = spent(pair[0], "laptop")["cost"]
    assert BUDGET <= cost < BUDGET + 600  # at most one request more than the budget


def test_a_spent_budget_is_a_402_that_says_who_what_and_when_it_renews(rig: Rig, pair: list[Rig]) -> None:
    spend(pair[0], "open-webui")
    rig.reset()
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses"):
        for gateway in pair:
            answer = gateway.ask("write", client="open-webui", path=path)
            assert answer.status == 402, answer.text
            assert re.search(SPENT, answer.text), answer.text
            assert int(answer.headers["retry-after"]) > 0
            assert (answer.json["type"] == "error") if path == "/v1/messages" else ("code" in answer.json["error"])
    assert rig.cloud_calls() == []
    local = pair[0].ask("private", client="open-webui")
    assert local.status == 200, local.text  # what costs nothing goes on


def test_a_budget_holds_over_a_restart(rig: Rig, pair: list[Rig]) -> None:
    spend(pair[0], "open-webui")
    pair[0].processes["litellm"].kill()
    pair[0].processes.pop("litellm").wait()
    pair[0].start_gateway()
    rig.reset()
    assert pair[0].ask("write", client="open-webui").status == 402
    assert rig.cloud_calls() == []


def test_requests_per_minute_hold_over_two_gateways(rig: Rig, pair: list[Rig]) -> None:
    statuses = [pair[turn % 2].ask("bulk", client="ocr").status for turn in range(3)]
    assert statuses == [200, 200, 200]
    rig.reset()
    answer = pair[1].ask("bulk", client="ocr")
    assert answer.status == 429, answer.text
    assert "mesh rule client-rpm: client ocr may ask 3 times a minute; the next is in" in answer.text
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert rig.cloud_calls() == []
    assert pair[0].ask("private", client="laptop").status == 200  # another client's limit is its own


def spend(gateway: Rig, client: str) -> None:
    """Ask until the client's budget is spent."""
    while gateway.ask("write", client=client).status == 200:
        assert wait(lambda: spent(gateway, client)["held"] == 0)
    assert ledger_of(gateway).exists() and settled(gateway, 0, 1)
