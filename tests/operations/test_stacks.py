"""The operations on stacks: what is called on which host in which order, and what one failure does to the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from fleet import Fleet
from statekit import service, stack

import deploys.operations.stacks as operations
from deploys.remote import HostLostError
from mesh.live.http import HttpError
from mesh.state.deployment import Deployment, HostDeployment, Probe, StackRelease
from mesh.state.observed import ObservedHost
from mesh.state.work import BackTo, HostWork, RemovedStack, StackWork, rollback_work

ONE, TWO = "@fake/one", "@fake/two"
Make = Callable[[Deployment], Fleet]


def release(name: str, **more: object) -> StackRelease:
    return stack(name, (service(name, name),), **more)


def mesh(one: tuple[StackRelease, ...], two: tuple[StackRelease, ...] = ()) -> Deployment:
    hosts = {name: HostDeployment(name, "10.0.0.1", "/opt/mesh", stacks) for name, stacks in ((ONE, one), (TWO, two))}
    return Deployment("closet", hosts)


def all_of(wanted: Deployment, host: str, **more: object) -> HostWork:
    """The work of bringing up every stack of a host."""
    here = wanted.hosts[host]
    stacks = {each.name: StackWork(each, each.files, (), (), (), ()) for each in here.stacks}
    return replace(HostWork(here, {}, (), stacks, ()), **more)  # type: ignore[arg-type]


def add(fleet: Fleet, works: dict[str, HostWork]) -> None:
    """The sequence of deploys/stacks.py."""
    for host, work in works.items():
        fleet.do(operations.lock, host, work, "", "")
        fleet.do(operations.pull, host, work)
        fleet.do(operations.upload, host, work)
        fleet.do(operations.down, host, work)
        for wave in fleet.run.waves:
            fleet.do(operations.up, host, work, wave)
        fleet.do(operations.finish, host, work)


def test_a_host_with_nothing_to_do_is_not_even_locked(fleet: Make) -> None:
    wanted = mesh((release("web"),), ())
    made = fleet(wanted)
    add(made, {ONE: all_of(wanted, ONE), TWO: all_of(wanted, TWO)})
    assert made.go() == set()
    assert made.verbs(ONE) == ["take_lock", "upload", "up web", "drop_lock"]
    assert made.verbs(TWO) == []


def test_no_operation_plans_a_change_where_there_is_none(fleet: Make) -> None:
    wanted = mesh((), ())
    made = fleet(wanted)
    add(made, {ONE: all_of(wanted, ONE), TWO: all_of(wanted, TWO)})
    assert [meta.ops_change for meta in made.state.meta.values()] == [0, 0]


def test_waves_are_waves_of_the_whole_mesh(fleet: Make) -> None:
    wanted = mesh((release("ollama"), release("ui", after=("gateway",))), (release("gateway", after=("ollama",)),))
    made = fleet(wanted)
    add(made, {host: all_of(wanted, host) for host in (ONE, TWO)})
    assert made.go() == set()
    assert [call[2] for call in made.calls if call[1] == "up"] == ["ollama", "gateway", "ui"]


@pytest.mark.parametrize("outcome", ["@back", "@stopped", "@failed", "", "cut short"])
def test_a_stack_that_fails_takes_its_dependents_with_it_on_every_host_and_nothing_else(fleet: Make, outcome: str) -> None:
    wanted = mesh(
        (release("ollama"), release("other")), (release("gateway", after=("ollama",)), release("ui", after=("gateway",)))
    )
    made = fleet(wanted)
    made.answer = lambda _host, call: (True, [outcome] if call[:2] == ("up", "ollama") else ["@up"])
    add(made, {host: all_of(wanted, host) for host in (ONE, TWO)})
    assert made.go() == {ONE, TWO}
    assert [call[2] for call in made.calls if call[1] == "up"] == ["ollama", "other"]
    assert set(made.run.failed) == {"ollama", "gateway", "ui"}
    assert "ollama, which failed" in made.run.failed["gateway"]
    assert [made.verbs(host)[-1] for host in (ONE, TWO)] == ["drop_lock", "drop_lock"], "locks are released all the same"


def test_a_host_whose_lock_is_taken_is_left_alone_and_the_others_go_on(fleet: Make) -> None:
    wanted = mesh((release("web"),), (release("app"),))
    made = fleet(wanted)
    made.answer = lambda host, call: (host != ONE, ["locked by another apply"]) if call[0] == "take_lock" else (True, ["@up"])
    add(made, {host: all_of(wanted, host) for host in (ONE, TWO)})
    assert made.go() == {ONE}
    assert made.verbs(ONE) == ["take_lock"]
    assert made.verbs(TWO) == ["take_lock", "upload", "up app", "drop_lock"]


def test_a_dead_run_on_this_machine_gives_way_and_a_living_or_strange_one_does_not(fleet: Make) -> None:
    import os
    import subprocess

    from mesh.live.holder import this_run

    ended = subprocess.Popen(["true"])
    ended.wait()
    living = this_run("run0", "t")
    for holder, expected in (
        (replace(living, pid=ended.pid), "run0"),
        (living, ""),
        (replace(living, pid=ended.pid, machine="desk/1"), ""),
        ("nonsense", ""),
    ):
        made = fleet(mesh((release("web"),)))
        made.do(operations.lock, ONE, all_of(made.run.deployment, ONE), str(holder), "")
        made.go()
        assert made.calls[0][2] == expected, holder
    assert f"pid {os.getpid()} " in made.calls[0][3]


def test_a_probe_that_nobody_answers_rolls_the_stack_back(fleet: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = mesh((release("web", probe=Probe("http://10.0.0.1:80/", timeout=0)),))
    made = fleet(wanted)

    def refused(url: str) -> int:
        raise HttpError("no answer", where=url, why="Connection refused")

    monkeypatch.setattr(operations, "status_of", refused)
    made.answer = lambda _host, call: (True, ["@back"] if call[0] == "rollback" else ["@up"])
    add(made, {ONE: all_of(wanted, ONE)})
    assert ONE in made.go()
    assert "rollback web" in made.verbs(ONE)
    assert "http://10.0.0.1:80/: no answer" in made.run.failed["web"], "the journal says why"


def test_a_rollback_goes_back_in_the_same_waves_and_the_journal_says_so(fleet: Make) -> None:
    wanted = mesh((release("ollama"), release("ui", after=("gateway",))), (release("gateway", after=("ollama",)),))
    made = fleet(wanted)
    targets = {ONE: {"ui": BackTo("r1"), "gone": BackTo("r2")}, TWO: {"gateway": BackTo("r3")}}
    made.run.rollback = targets
    made.answer = lambda _host, call: (True, ["-- the last words", "@back"] if call[:2] == ("revert", "ui") else ["@up"])
    add(made, {host: rollback_work(wanted.hosts[host], ObservedHost(host), targets[host]) for host in (ONE, TWO)})
    assert made.go() == {ONE}
    assert [call[2::2] for call in made.calls if call[1] == "revert"] == [("gateway", "r3"), ("ui", "r1"), ("gone", "r2")]
    heads = {call[0]: json.loads(call[2]) for call in made.calls if call[1] == "drop_lock"}
    assert {host: (head["verb"], list(head["why"])) for host, head in heads.items()} == {
        ONE: ("rollback", ["ui"]),
        TWO: ("rollback", []),
    }


def test_a_probe_that_answers_with_an_error_is_no_answer(fleet: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = mesh((release("web", probe=Probe("http://10.0.0.1:80/", timeout=0)),))
    made = fleet(wanted)
    monkeypatch.setattr(operations, "status_of", lambda _url: 503)
    add(made, {ONE: all_of(wanted, ONE)})
    assert ONE in made.go()


def test_an_image_that_cannot_be_pulled_leaves_its_stacks_as_they_are(fleet: Make) -> None:
    wanted = mesh((release("web"), release("app")))
    made = fleet(wanted)
    made.answer = lambda _host, call: (False, ["manifest unknown"]) if call[0] == "pull" else (True, ["@up"])
    add(made, {ONE: all_of(wanted, ONE, pull={"registry.lan/web:1.0": ("web",)})})
    assert ONE in made.go()
    assert made.verbs(ONE) == ["take_lock", "pull registry.lan/web:1.0", "upload", "up app", "drop_lock"]
    assert "manifest unknown" in made.run.failed["web"]


def test_removed_stacks_go_down_before_others_come_up(fleet: Make) -> None:
    wanted = mesh((release("web"),))
    made = fleet(wanted)
    add(made, {ONE: all_of(wanted, ONE, removed=(RemovedStack("gone", (), ()),))})
    assert made.go() == set()
    assert made.verbs(ONE) == ["take_lock", "upload", "down gone", "up web", "drop_lock"]


def test_a_broken_connection_fails_the_host_and_keeps_its_lock_for_the_next_run(fleet: Make) -> None:
    wanted = mesh((release("web"),), (release("app"),))
    made = fleet(wanted)

    def answer(host: str, call: tuple[str, ...]) -> tuple[bool, list[str]]:
        if host == ONE and call[0] == "up":
            raise OSError("Socket is closed")
        return True, ["@up"]

    made.answer = answer
    add(made, {host: all_of(wanted, host) for host in (ONE, TWO)})
    assert made.go() == {ONE}
    assert "drop_lock" not in made.verbs(ONE)
    assert made.verbs(TWO)[-1] == "drop_lock"


def test_a_host_that_is_lost_is_said_once_and_what_needs_its_stacks_is_left_alone(fleet: Make) -> None:
    wanted = mesh((release("db"), release("cache")), (release("web", after=("db",)), release("other")))
    made = fleet(wanted)

    def answer(host: str, call: tuple[str, ...]) -> tuple[bool, list[str]]:
        if host == ONE and call[0] == "up":
            raise HostLostError("timed out")
        return True, ["@up"] if call[0] == "up" else []

    made.answer = answer
    add(made, {host: all_of(wanted, host) for host in (ONE, TWO)})
    assert made.go() == {ONE, TWO}
    assert made.verbs(TWO) == ["take_lock", "upload", "up other", "drop_lock"]
    assert [event for event in made.events if event[0] == "failed"] == [("failed", ONE, ""), ("failed", TWO, "web")]


@pytest.mark.parametrize("verb", ["take_lock", "upload", "drop_lock"])
def test_a_host_that_is_lost_between_the_stacks_is_said_too(fleet: Make, verb: str) -> None:
    wanted = mesh((release("web"),))
    made = fleet(wanted)

    def answer(_host: str, call: tuple[str, ...]) -> tuple[bool, list[str]]:
        if call[0] == verb:
            raise HostLostError("timed out")
        return True, ["@up"] if call[0] == "up" else []

    made.answer = answer
    add(made, {ONE: all_of(wanted, ONE)})
    assert made.go() == {ONE}
    assert ("failed", ONE, "") in made.events


def test_a_stack_that_would_use_somebody_elses_volume_is_not_touched(fleet: Make) -> None:
    wanted = mesh((release("web"), release("other")))
    made = fleet(wanted)
    work = all_of(wanted, ONE)
    refused = replace(work.stacks["web"], refused="the volume web_data is there already")
    add(made, {ONE: replace(work, stacks={**work.stacks, "web": refused})})
    assert made.go() == {ONE}
    assert made.verbs(ONE) == ["take_lock", "upload", "up other", "drop_lock"]


def test_complaints_of_the_shell_after_the_outcome_do_not_hide_it(fleet: Make) -> None:
    wanted = mesh((release("web"),))
    made = fleet(wanted)
    made.answer = lambda _host, call: (True, ["@up", "sh: printf: I/O error"] if call[0] == "up" else [])
    add(made, {ONE: all_of(wanted, ONE)})
    assert made.go() == set()
