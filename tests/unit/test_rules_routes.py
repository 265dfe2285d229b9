"""Chains of fallbacks, privacy and money."""

from __future__ import annotations

from pathlib import Path

import pytest
from specs import findings, said


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        (
            "routes: {bulk: {fallback: [v4, llama]}}",
            "2: error[fallback-repeats]: routes.bulk: `v4` is the route's own `to`, so it cannot stand in for it"
            " | remove it from `fallback`",
        ),
        (
            "routes: {bulk: {fallback: [llama, claude, llama]}}",
            "2: error[fallback-repeats]: routes.bulk: `llama` is in `fallback` twice | remove one of the two",
        ),
        (
            "routes: {bulk: {fallback: [private]}}",
            "2: error[fallback-route]: routes.bulk: `private` is a route; a fallback target is a model"
            " | name its models: llama, mistral",
        ),
        (
            "routes: {bulk: {fallback: [nomic]}}",
            "2: error[fallback-mixed]: routes.bulk: `v4` is a model for chat, `nomic` one for embedding"
            " | remove `nomic`, or name a model for chat",
        ),
        (
            "models: {other: {at: ollama, tag: nomic-embed-text, kind: embedding}}\nroutes: {embed: {fallback: [other]}}",
            "3: error[fallback-embedding]: routes.embed: vectors of `other` do not compare with those of `nomic`"
            " | remove `fallback`: an embedding route errors rather than change its model",
        ),
    ],
)
def test_a_target_that_cannot_stand_in_is_refused(tmp_path: Path, overlay: str, expected: str) -> None:
    assert said(findings(tmp_path, overlay)) == [expected]


def test_a_model_may_be_fallback_and_overflow_of_one_route(tmp_path: Path) -> None:
    assert findings(tmp_path, "routes: {bulk: {fallback: [llama], overflow: [llama]}}") == []


def test_routes_that_fall_back_to_each_other_are_a_cycle_and_each_is_named_once(tmp_path: Path) -> None:
    overlay = "routes:\n  a: {to: llama, fallback: [b]}\n  b: {to: llama, overflow: [c]}\n  c: {to: llama, fallback: [a]}\n"
    cycles = [each for each in findings(tmp_path, overlay) if each.rule == "fallback-cycle"]
    assert said(cycles) == [
        "3: error[fallback-cycle]: routes.a: its fallbacks come back to it: a -> b -> c -> a | take `a` out of the chain of `c`"
    ]


def test_a_route_that_falls_back_to_itself_is_a_cycle(tmp_path: Path) -> None:
    found = findings(tmp_path, "routes: {a: {to: llama, fallback: [a]}}")
    assert [each.message for each in found if each.rule == "fallback-cycle"] == [
        "routes.a: its fallbacks come back to it: a -> a"
    ]


def test_two_routes_to_the_same_end_are_no_cycle(tmp_path: Path) -> None:
    overlay = (
        "routes: {a: {to: llama, fallback: [b, c]}, b: {to: llama, fallback: [d]}, c: {to: llama, fallback: [d]}, d: {to: llama}}"
    )
    assert {each.rule for each in findings(tmp_path, overlay)} == {"fallback-route"}


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        (
            "routes: {private: {fallback: [mistral, claude]}}",
            "2: error[privacy-leak]: routes.private is private, but private -> claude leaves the building: it is at `anthropic`"
            " | remove `claude`, name a model of an Ollama, or drop `privacy: local`",
        ),
        (
            "routes: {private: {to: v4}}",
            "2: error[privacy-leak]: routes.private is private, but private -> v4 leaves the building: it is at `deepseek`"
            " | remove `v4`, name a model of an Ollama, or drop `privacy: local`",
        ),
        (
            "routes: {private: {overflow: [v4]}}",
            "2: error[privacy-leak]: routes.private is private, but private -> v4 leaves the building: it is at `deepseek`"
            " | remove `v4`, name a model of an Ollama, or drop `privacy: local`",
        ),
        (
            'models: {mistral: {tag: "gpt-oss:120b-cloud", weights: 1GB}}',
            "18: error[privacy-leak]: routes.private is private, but private -> mistral leaves the building: it is at `ollama`,"
            " by Ollama's cloud | remove `mistral`, name a model of an Ollama, or drop `privacy: local`",
        ),
    ],
)
def test_a_private_route_that_reaches_a_cloud_is_refused(tmp_path: Path, overlay: str, expected: str) -> None:
    assert said(findings(tmp_path, overlay)) == [expected]


def test_a_private_route_leaks_through_the_fallbacks_of_its_fallback(tmp_path: Path) -> None:
    overlay = "routes: {private: {fallback: [a]}, a: {to: llama, fallback: [b]}, b: {to: mistral, overflow: [claude]}}"
    leaks = [each for each in findings(tmp_path, overlay) if each.rule == "privacy-leak"]
    assert [each.message for each in leaks] == [
        "routes.private is private, but private -> a -> b -> claude leaves the building: it is at `anthropic`"
    ]


def test_a_base_url_in_the_building_does_not_make_a_cloud_provider_private(tmp_path: Path) -> None:
    overlay = "providers: {deepseek: {base_url: http://192.168.1.9}}\nroutes: {private: {to: v4}}"
    assert [each.rule for each in findings(tmp_path, overlay)] == ["privacy-leak"]


def test_a_client_without_a_budget_that_reaches_a_paid_model_is_warned_of(tmp_path: Path) -> None:
    overlay = "clients: {laptop: {budget: null}}"
    assert said(findings(tmp_path, overlay)) == [
        "2: warning[budget-missing]: clients.laptop has no budget and reaches v4, claude, which cost money"
        " | add budget: 10 USD/month, or take those routes away"
    ]


@pytest.mark.parametrize(
    "overlay",
    [
        "clients: {laptop: {budget: null, routes: [private, embed]}}",
        "clients: {laptop: {budget: null, routes: [bulk]}}\n"
        "models: {v4: {price: {in: 0, out: 0}}}\nproviders: {anthropic: {plan: {price: 100 EUR/month, window: 5h}}}",
    ],
)
def test_local_free_and_flat_models_need_no_budget(tmp_path: Path, overlay: str) -> None:
    assert findings(tmp_path, overlay) == []


def test_a_budget_in_another_currency_is_refused(tmp_path: Path) -> None:
    assert said(findings(tmp_path, "clients: {laptop: {budget: 20 EUR/month}}")) == [
        "2: error[budget-currency]: clients.laptop: a budget in EUR cannot be counted, because prices are in USD"
        " | write it in dollars: 20 USD/month"
    ]


def test_required_retrieval_is_refused_while_nothing_enforces_it(tmp_path: Path) -> None:
    overlay = "routes: {archive: {to: llama, privacy: local, retrieval: required}}"
    assert said(findings(tmp_path, overlay)) == [
        "2: error[retrieval-not-enforced]: routes.archive: this version cannot enforce `retrieval: required`, so it refuses"
        " the route | drop `retrieval: required`, or the route"
    ]


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        (
            "models: {v4: {context: 131072}, claude: {context: 1000000}}\nroutes: {bulk: {context: 32768}}",
            "error[route-context]: routes.bulk promises 32768 tokens, and `llama` takes 16384"
            " | remove `llama`, declare its context, or promise less",
        ),
        (
            "models: {mistral: {context: null}}\nroutes: {private: {context: 8192}}",
            "error[route-context]: routes.private promises 8192 tokens, and `mistral` declares no context"
            " | remove `mistral`, declare its context, or promise less",
        ),
        (
            "routes: {private: {availability: promised}}",
            "warning[route-availability]: routes.private promises availability, and everything that answers it is at ollama"
            " | add a fallback elsewhere, or drop `availability: promised`",
        ),
        (
            "models: {v4: {price: null}}",
            "error[price-missing]: models.v4 has no price, so what its answers cost cannot be counted"
            " | add price: {in: USD, out: USD} for a million tokens",
        ),
    ],
)
def test_what_a_route_promises_its_whole_chain_keeps(tmp_path: Path, overlay: str, expected: str) -> None:
    assert expected in [each.partition(": ")[2] for each in said(findings(tmp_path, overlay))]


def test_a_chain_with_a_second_place_keeps_its_promise_of_availability(tmp_path: Path) -> None:
    assert findings(tmp_path, "routes: {bulk: {availability: promised}}") == []


def test_flat_plans_need_no_price(tmp_path: Path) -> None:
    overlay = "models: {claude: {price: null}}\nproviders: {anthropic: {plan: {price: 100 USD/month, window: 5h}}}"
    assert findings(tmp_path, overlay) == []
