"""Pulling models: an error inside a stream that began well, a model that is not listed afterwards, nothing ever deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fleet import Fleet

import deploys.operations.ollama as operations
from mesh.state.deployment import Deployment, HostDeployment, OllamaModels
from mesh.state.observed import Unknown

ONE = "@fake/one"
OLLAMA = OllamaModels("ollama", "ollama-ollama-1", "http://10.0.0.1:11434", ("llama3.1:8b", "mistral:7b"))
Make = Callable[[Deployment], Fleet]


@pytest.fixture
def pulled(fleet: Make, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[set[str], Fleet]]:
    """Run the operation against an Ollama that holds `held` and streams `stream` for every pull."""

    def run(held: dict[str, str] | Unknown, stream: list[dict[str, Any]], keeps: bool = True) -> tuple[set[str], Fleet]:
        made = fleet(Deployment("closet", {ONE: HostDeployment(ONE, "10.0.0.1", "/opt/mesh", (), (OLLAMA,))}))
        store = dict(held) if isinstance(held, dict) else held

        def stream_json(_url: str, body: dict[str, Any], **_: Any) -> Iterator[dict[str, Any]]:
            if keeps and isinstance(store, dict):
                store[body["model"]] = "digest"
            yield from stream

        monkeypatch.setattr(operations, "stream_json", stream_json)
        monkeypatch.setattr(operations, "list_models", lambda _ollama: store)
        made.do(operations.models, ONE, [OLLAMA])
        made.go()
        return {stack for event, _, stack in made.events if event == "done"}, made

    return run


GOOD = [{"status": "pulling manifest"}, {"status": "pulling", "total": 10, "completed": 5}, {"status": "success"}]


def test_only_what_is_missing_is_pulled(pulled: Callable[..., tuple[set[str], Fleet]]) -> None:
    done, made = pulled({"llama3.1:8b": "d", "mine": "d"}, GOOD)
    assert done == {"mistral:7b"}
    assert made.run.failed == {}


def test_an_error_inside_the_stream_fails_the_stack(pulled: Callable[..., tuple[set[str], Fleet]]) -> None:
    done, made = pulled({}, [{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}])
    assert done == set()
    assert "file does not exist" in made.run.failed["ollama"]


def test_a_stream_that_breaks_off_is_not_a_success(pulled: Callable[..., tuple[set[str], Fleet]]) -> None:
    assert "ended with pulling manifest" in pulled({}, GOOD[:1])[1].run.failed["ollama"]


def test_a_model_that_is_not_listed_afterwards_was_not_pulled(pulled: Callable[..., tuple[set[str], Fleet]]) -> None:
    assert "does not list it" in pulled({}, GOOD, keeps=False)[1].run.failed["ollama"]


def test_an_ollama_that_does_not_answer_fails_the_stack(pulled: Callable[..., tuple[set[str], Fleet]]) -> None:
    assert "refused" in pulled(Unknown("refused"), GOOD)[1].run.failed["ollama"]
