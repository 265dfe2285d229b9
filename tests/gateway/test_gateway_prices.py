"""What a request costs by the hour, and what a retry costs: at the real LiteLLM, in its ledger."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mesh.spec.providers import OffPeak, Price

from .ledgers import last, own_gateway, settled
from .rig import Rig, deployment_of

QUIET = {"in": 0.1, "out": 0.2}
DEAR = {"in": 1000.0, "out": 3000.0}
"""US dollars for a million tokens: a token is 1000 micro-dollars and more, so that no rounding hides a difference."""


def window(start: int, end: int) -> str:
    """Hours of the day in UTC, counted from now."""
    now = datetime.now(UTC)
    return "-".join((now + timedelta(hours=hours)).strftime("%H:%M") for hours in (start, end))


@pytest.fixture(scope="module")
def priced(_rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A gateway for whose DeepSeek it is a quiet hour now, for Kimi it will be in three hours, and Groq has nobody after it."""

    def at(mesh: Any, name: str, off_peak: dict[str, Any]) -> Any:
        price = Price.model_validate({**DEAR, "off_peak": {**QUIET, **off_peak}})
        return mesh.models[name].model_copy(update={"price": price})

    with own_gateway(_rig, tmp_path_factory.mktemp("priced"), {}) as own:
        mesh = own.mesh
        models = {
            **mesh.models,
            "deepseek-v3": at(mesh, "deepseek-v3", {"windows": [window(-2, 2)]}),
            "kimi-k2": at(mesh, "kimi-k2", {"windows": [window(3, 5)]}),
        }
        alone = {**mesh.routes, "fast": mesh.routes["fast"].model_copy(update={"fallback": ()})}
        own.mesh = mesh.model_copy(update={"models": models, "routes": alone})
        own.deployment = deployment_of(own.mesh)
        own.start_gateway()
        yield own


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize(("route", "model", "quiet"), [("bulk", "deepseek-v3", True), ("long", "kimi-k2", False)])
@pytest.mark.usefixtures("rig")
def test_a_quiet_hour_costs_its_own_price_and_any_other_the_usual(
    priced: Rig, path: str, route: str, model: str, quiet: bool
) -> None:
    before = last(priced)
    assert priced.ask(route, path=path).status == 200
    (row,) = settled(priced, before, 1)
    price = priced.mesh.models[model].price
    assert price is not None and isinstance(price.off_peak, OffPeak)
    rates = price.off_peak if quiet else price
    expected = row["tokens_in"] * rates.in_ + row["tokens_out"] * rates.out
    assert row["model"] == model and expected > 0
    assert row["cost"] == pytest.approx(expected, abs=2)


def asked(rig: Rig) -> list[str]:
    return [str(call["provider"]) for call in rig.cloud_calls()]


@pytest.mark.parametrize("fault", ["500", "429"])
def test_a_model_that_nobody_stands_in_for_is_asked_once_more_and_charged_once(rig: Rig, priced: Rig, fault: str) -> None:
    before = last(priced)
    rig.fault("groq", fault, times=1)
    answer = priced.ask("fast")
    assert answer.status == 200, answer.text
    assert asked(rig) == ["groq", "groq"]
    (row,) = settled(priced, before, 1)
    assert (row["model"], row["status"], row["fallbacks"]) == ("groq-llama-3.3-70b", 200, 0)
    one = row["tokens_in"] * 0.59 + row["tokens_out"] * 0.79
    assert row["cost"] == pytest.approx(one, abs=2)


def test_one_more_time_is_once(rig: Rig, priced: Rig) -> None:
    before = last(priced)
    rig.fault("groq", "500")
    assert priced.ask("fast").status == 500
    assert asked(rig) == ["groq", "groq"]
    (row,) = settled(priced, before, 1)
    assert (row["model"], row["cost"]) == (None, 0)


def test_a_model_that_another_stands_in_for_is_asked_once(rig: Rig, priced: Rig) -> None:
    rig.fault("deepseek", "500", times=1)
    answer = priced.ask("bulk")
    assert answer.headers["x-litellm-model-group"] == "llama3.1-8b", answer.text
    assert asked(rig) == ["deepseek"]
