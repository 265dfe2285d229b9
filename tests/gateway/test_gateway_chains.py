"""Which fallback the real LiteLLM takes for what: long prompts, refused prompts, limits, timeouts, no fallback at all."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from .rig import Rig, litellm_command, running


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A gateway of this module's own: the shared one must not be left with groups that are cooled down."""
    litellm = litellm_command()
    with running(tmp_path_factory.mktemp("chains"), litellm) as rig:
        yield rig


@pytest.fixture
def chains(own: Rig) -> Rig:
    own.reset()
    return own


def words(count: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": "closet " * count}]


def asked(rig: Rig) -> list[str]:
    """The providers that were called, in order."""
    return [str(call["provider"]) for call in rig.cloud_calls()]


def test_a_prompt_too_long_for_the_first_model_goes_to_a_larger_one_without_a_wasted_call(chains: Rig) -> None:
    answer = chains.ask("bulk", messages=words(140_000))
    assert answer.status == 200, answer.text
    assert answer.headers["x-litellm-model-group"] == "claude"
    assert asked(chains) == ["anthropic"]
    assert [call for call in chains.ollama_calls() if call["path"] == "/api/chat"] == []


def test_a_prompt_too_long_for_the_whole_chain_is_an_error_that_says_so(chains: Rig) -> None:
    answer = chains.ask("fast", messages=words(140_000))
    assert answer.status == 400, answer.text
    assert asked(chains) == []


def test_a_fallback_that_would_cut_the_prompt_off_is_passed_over(chains: Rig) -> None:
    chains.fault("deepseek", "500")
    answer = chains.ask("bulk", messages=words(30_000))
    assert answer.headers.get("x-litellm-model-group") == "claude", answer.text
    assert [call for call in chains.ollama_calls() if call["path"] == "/api/chat"] == []


def test_a_long_prompt_on_a_private_route_is_an_error_and_stays_in(chains: Rig) -> None:
    answer = chains.ask("private", messages=words(30_000))
    assert answer.status == 400, answer.text
    assert asked(chains) == []


@pytest.mark.parametrize("provider", ["deepseek", "moonshot", "groq", "anthropic"])
def test_a_prompt_that_one_provider_refuses_is_answered_by_another(chains: Rig, provider: str) -> None:
    route = {"deepseek": "bulk", "moonshot": "long", "groq": "fast", "anthropic": "write"}[provider]
    chains.fault(provider, "content_policy")
    answer = chains.ask(route)
    assert answer.status == 200, answer.text
    assert answer.headers["x-litellm-model-group"] == chains.mesh.routes[route].chain[1]


def test_a_limited_provider_is_left_alone_for_as_long_as_it_says(chains: Rig) -> None:
    chains.fault("moonshot", "429", retry_after=4, times=1)
    assert chains.ask("long").headers["x-litellm-model-group"] == "claude"
    assert chains.ask("long").headers["x-litellm-model-group"] == "claude"
    assert asked(chains).count("moonshot") == 1
    time.sleep(5)
    assert chains.ask("long").headers["x-litellm-model-group"] == "long"


def test_a_hanging_provider_costs_its_timeout_once(chains: Rig) -> None:
    chains.fault("groq", "hang")
    begun = time.monotonic()
    assert chains.ask("fast").headers["x-litellm-model-group"] == "llama3.1-8b"
    slow = time.monotonic() - begun
    assert slow >= 3
    assert chains.ask("fast").headers["x-litellm-model-group"] == "llama3.1-8b"
    assert asked(chains).count("groq") == 1


def test_an_answer_of_500_does_not_rest_the_provider(chains: Rig) -> None:
    chains.fault("deepseek", "500", times=1)
    assert chains.ask("reason").headers["x-litellm-model-group"] == "claude"
    assert chains.ask("reason").headers["x-litellm-model-group"] == "reason"


def test_a_private_route_is_never_rested_after_a_failure(chains: Rig) -> None:
    chains.stop("ollama")
    assert chains.ask("tidy").status >= 500
    chains.reset()
    assert chains.ask("tidy").status == 200
