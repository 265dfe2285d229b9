"""history, rollback and prune as the operator meets them. What the hosts answer is made up here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clikit import Ran

from mesh.live.apply import Event, Finished
from mesh.state.observed import Unknown

Verb = Callable[..., Ran]
UNREACHABLE = Unknown("not reachable: No route to host", "is it on?")


def entry(run: str, at: str, stacks: dict[str, Any], **more: Any) -> str:
    return json.dumps({"run": run, "at": at, "by": "op@laptop", "verb": "apply", "finished": True, "stacks": stacks} | more)


WEB = {"web": {"result": "up", "seconds": 3.2, "from": "r1", "to": "r2"}}
BACK = {"web": {"result": "back", "seconds": 9.0, "from": "r2", "to": "r3"}}
LINES = ["journal " + entry("a1", "t1", WEB), "journal " + entry("b2", "t2", BACK, why={"web": "unhealthy \x1b[2J"}), "end"]


def release(name: str, mesh: str = "closet") -> str:
    return json.dumps(
        {"release": name, "mesh": mesh, "at": "t", "by": "op", "files": [], "services": {}, "probe": None, "seconds": 3.0}
    )


@pytest.fixture
def host(run_mesh: Verb, small_inventory: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """`host(answer, "history", ...)`: the command line, with that answer of every host to whatever it is asked."""

    def run(answer: list[str] | Unknown, *arguments: str) -> Ran:
        monkeypatch.setattr("mesh.live.kept._one", lambda *_, **__: answer)
        return run_mesh(*arguments, "-C", small_inventory)

    return run


def test_the_latest_run_is_first_with_its_reason_and_nothing_moves_the_cursor(host: Verb) -> None:
    ran = host(LINES, "history")
    assert ran.code == 0
    first, *_ = ran.out.splitlines()
    assert "b2 by op@laptop" in first
    assert "unhealthy \\x1b[2J" in ran.out
    assert "r1 -> r2" in ran.out
    assert "b2" not in host(LINES, "history", "--stack", "other").out
    (run,) = json.loads(host(LINES, "history", "--json", "-n", "1").out)["runs"]
    assert run["run"] == "b2"


def test_a_host_that_cannot_be_read_is_said_and_exits_1(host: Verb) -> None:
    ran = host(UNREACHABLE, "history")
    assert ran.code == 1
    assert "cannot tell what is there" in ran.err


def test_a_mistyped_host_is_an_error(host: Verb) -> None:
    for verb in ("history", "rollback", "prune"):
        ran = host(["end"], verb, "--host", "nowhere")
        assert (ran.code, "there is no host nowhere" in ran.err) == (1, True), verb


@pytest.fixture
def rolled(host: Verb, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Ran, list[Any]]]:
    """A rollback of what the hosts record, with pyinfra ending as told."""

    def run(answer: list[str] | Unknown, *arguments: str, events: tuple[Event, ...] = ()) -> tuple[Ran, list[Any]]:
        calls: list[Any] = []

        class Stub:
            def __init__(self, *_: Any, rollback: Any, **__: Any) -> None:
                self.rollback = rollback

            def __enter__(self) -> Stub:
                return self

            def __exit__(self, *_: object) -> None: ...

            def connect(self, hosts: Any) -> None:
                assert list(hosts) == list(self.rollback)

            def go(self, _: Any, listen: Callable[[Event], None]) -> Finished:
                calls.append(self.rollback)
                for event in events:
                    listen(event)
                return Finished(int(bool(events)), ())

        monkeypatch.setattr("mesh.live.apply.Deploys", Stub)
        return host(answer, "rollback", *arguments), calls

    return run


def mesh_name(folder: Path) -> str:
    from mesh.inventory import open_inventory

    return open_inventory(folder).mesh.mesh


def test_a_rollback_shows_both_releases_and_does_it(rolled: Any, small_inventory: Path) -> None:
    mesh = mesh_name(small_inventory)
    answer = [f"stacks web {release('r2', mesh)}", f"previous web {release('r1', mesh)}", *LINES]
    ran, calls = rolled(answer, "--stack", "web", "-y")
    assert ran.code == 0, ran.err
    assert "from r2, applied by op at t" in ran.out
    assert {name: each.release for of in calls[0].values() for name, each in of.items()} == {"web": "r1"}
    ran, calls = rolled(answer, "--stack", "web")
    assert (ran.code, calls) == (1, []), "without a terminal and without -y nothing happens"
    failed = Event("failed", "box", "web", {"why": "did not come up; its newer release runs again"})
    ran, _ = rolled(answer, "-y", events=(failed,))
    assert ran.code == 1
    assert "failed: box/web" in ran.err


def test_releases_of_another_mesh_are_not_taken_anywhere(rolled: Any) -> None:
    ran, calls = rolled(
        [f"stacks web {release('r2', 'other')}", f"previous web {release('r1', 'other')}", *LINES], "--stack", "web", "-y"
    )
    assert (ran.code, calls) == (1, [])


def test_a_host_that_cannot_be_read_keeps_everything_where_it_is(rolled: Any) -> None:
    ran, calls = rolled(UNREACHABLE, "-y")
    assert (ran.code, calls) == (1, [])


PRUNABLE = [
    "image sha256:0123456789abcdef 25000000 own.lan/web:1",
    "network id1 gone gone_default",
    "files /opt/mesh/previous/web.extra",
]


def test_prune_shows_what_goes_and_goes_no_further_without_a_yes(host: Verb) -> None:
    ran = host(PRUNABLE, "prune")
    assert ran.code == 1
    assert "own.lan/web:1  25 MB" in ran.out
    assert "no terminal" in ran.err
    assert host([], "prune").out == "nothing to prune\n"
    assert host(UNREACHABLE, "prune").code == 1


def test_what_docker_does_not_give_up_is_said_and_exits_1(host: Verb) -> None:
    ran = host([*PRUNABLE, "kept image own.lan/web:1: in use"], "prune", "-y")
    assert ran.code == 1
    assert "in use" in ran.out
    assert host([*PRUNABLE, "removed 3"], "prune", "-y").code == 0
