"""The second look as a whole: when it is taken, and what is left where nobody answers. Sessions are STUBS."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from statekit import deployment, ideal, value_of, with_host

from mesh.live import contents
from mesh.live.contents import explanation
from mesh.state.deployment import Reach
from mesh.state.diff import diff
from mesh.state.observed import Observed, Unknown
from mesh.state.plan import CannotTell, Plan

WANTED = deployment()
Look = Callable[..., tuple[contents.Explanation, list[str]]]


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Look:
    """`look(observed, answer)`: the explanation, and the hosts that were asked. answer: what a script's output is made of."""

    def run(seen: Observed, answer: Callable[[str], str | Unknown]) -> tuple[contents.Explanation, list[str]]:
        asked: list[str] = []

        def connect(_: Any, hosts: Collection[str]) -> dict[str, Any]:
            asked.extend(hosts)
            return {name: SimpleNamespace(run=answer) for name in hosts}

        monkeypatch.setattr(contents, "connect", connect)
        inventory: Any = SimpleNamespace(
            secrets=SimpleNamespace(value=value_of),
            checked_deployment=lambda: WANTED,
            reach={name: Reach("10.0.0.1") for name in WANTED.hosts},
        )
        plan = diff(WANTED, seen, value_of) if seen.hosts else Plan()
        return explanation(inventory, WANTED, seen, plan), asked

    return run


def nothing(script: str) -> str:
    """A host without anything, in the script's own form."""
    found = re.search(r"^b=(\S+)$", script, re.M)
    assert found is not None
    return f"banner\n{found[1]} platform\nlinux/arm64\n{found[1]} end\n"


def test_where_nothing_changes_nobody_is_asked(look: Look) -> None:
    assert look(ideal(WANTED), nothing) == (contents.Explanation(), [])


def test_only_hosts_with_changes_are_asked(look: Look) -> None:
    found, asked = look(with_host(ideal(WANTED), "vm", containers=()), nothing)
    assert asked == ["vm"]
    assert {each.stack for each in found.stacks} == {"qdrant", "litellm"}


def test_a_host_that_does_not_answer_a_second_time_is_named_and_the_rest_is_still_said(look: Look) -> None:
    found, _ = look(with_host(ideal(WANTED), "vm", containers=()), lambda _: Unknown("no answer within 60 s", "look"))
    assert found.unread == (CannotTell("vm", "no answer within 60 s", "look"),)
    assert found.stacks


def test_an_image_is_asked_for_on_the_hosts_platform_and_a_registry_that_fails_leaves_the_size_unknown(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pull_size(repo: str, _: str, platform: str, seconds: float) -> int:
        assert (platform, seconds) == ("linux/arm64", contents.REGISTRY_SECONDS)
        if repo.endswith("backup"):
            raise contents.MeshError("the registry cannot be reached", why="no route")
        return 7

    monkeypatch.setattr("mesh.registry.pull_size", pull_size)
    found, _ = look(with_host(ideal(WANTED), "vm", containers=(), images={}), nothing)
    sizes = {each.name: (each.size, each.why) for each in found.pulls}
    assert sizes["registry.lan/qdrant:1.0"] == (7, "")
    assert sizes["registry.lan/backup:1.0"] == (None, "the registry cannot be reached: no route")


def test_a_registry_that_hangs_is_not_waited_for(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    released = threading.Event()
    monkeypatch.setattr("mesh.registry.pull_size", lambda *_: released.wait(60))
    monkeypatch.setattr(contents, "SIZES_SECONDS", 0.05)
    found, _ = look(with_host(ideal(WANTED), "box", containers=(), images={}), nothing)
    released.set()
    assert {(each.size, each.why) for each in found.pulls if each.kind == "image"} == {
        (None, "the registry did not answer in time")
    }


def test_models_to_pull_have_the_catalogues_size(look: Look) -> None:
    found, _ = look(replace(ideal(WANTED), models={"ollama": {}}), nothing)
    sizes = {each.name: each.size or 0 for each in found.pulls}
    assert sizes["llama3.1:8b"] > 4 * 1024**3
