"""plan, drift and apply as the operator meets them: exit codes, formats, what is said. The mesh itself is made up here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from clikit import Ran
from statekit import deployment, ideal

from mesh.cli import apply as apply_module
from mesh.cli import drift as drift_module
from mesh.cli import plan as plan_module
from mesh.cli.look import Look, text
from mesh.live.apply import Event, Finished
from mesh.plan.explain import Explanation
from mesh.secrets.value import Secret
from mesh.spec.drift import Ignore
from mesh.state.plan import CannotTell, Change, Plan

CHANGE = Change("vm", "litellm", "service", "litellm", "update", "config.yaml changed")
UNKNOWN = CannotTell("box", "not reachable: No route to host", "is it on?")
CLEAN, DIFFERS, BLIND = Plan(), Plan((CHANGE,)), Plan((), (UNKNOWN,))
BOTH = Plan((CHANGE,), (UNKNOWN,))
Verb = Callable[..., Ran]


IGNORES: list[Ignore] = []
"""What the spec of the next `verb` ignores."""


def seen(plan: Plan) -> Look:
    inventory: Any = SimpleNamespace(ignores=tuple(each.entry for each in IGNORES))
    return Look(inventory, deployment(), ideal(deployment()), plan)


@pytest.fixture
def verb(run_mesh: Verb, small_inventory: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """`verb(plan, "drift", ...)`: the command line, looking at a mesh with that plan."""

    def run(plan: Plan, *arguments: str) -> Ran:
        for module in (plan_module, drift_module, apply_module):
            monkeypatch.setattr(module, "look", lambda _folder, **_: seen(plan))
        monkeypatch.setattr("mesh.live.contents.explanation", lambda *_: Explanation())
        return run_mesh(*arguments, "-C", small_inventory)

    return run


# plan and drift


@pytest.mark.parametrize("name", ["plan", "drift"])
@pytest.mark.parametrize(("plan", "code"), [(CLEAN, 0), (DIFFERS, 2), (BLIND, 1), (BOTH, 1)])
def test_what_could_not_be_read_counts_for_more_than_what_differs(verb: Verb, name: str, plan: Plan, code: int) -> None:
    ran = verb(plan, name)
    assert ran.code == code
    assert ("config.yaml changed" in ran.out) == bool(plan.changes)
    assert ("box: cannot tell what is there" in ran.err) == bool(plan.unknown)
    assert ("is it on?" in ran.err) == bool(plan.unknown)


@pytest.mark.parametrize("name", ["plan", "drift"])
def test_a_host_that_cannot_be_read_is_never_called_clean(verb: Verb, name: str) -> None:
    out = verb(BLIND, name).out
    assert "nothing" not in out
    assert "no drift" not in out


@pytest.mark.parametrize("arguments", [("plan", "--json"), ("drift", "--format", "json")])
def test_json_is_one_document_with_the_same_changes(verb: Verb, arguments: tuple[str, ...]) -> None:
    data = json.loads(verb(BOTH, *arguments).out)
    assert data["changes"] == [
        {
            "host": "vm",
            "stack": "litellm",
            "subject": "service",
            "name": "litellm",
            "verb": "update",
            "why": "config.yaml changed",
        }
    ]
    assert data["unknown"][0]["where"] == "box"


def test_github_gets_one_annotation_a_line_whatever_the_reason_holds(verb: Verb) -> None:
    odd = replace(CHANGE, why="line one\nline two 100%::error::x")
    lines = verb(Plan((odd,), (UNKNOWN,)), "drift", "--format", "github").out.splitlines()
    assert lines[0].startswith("::warning title=drift on vm/litellm::service litellm line one%0Aline two 100%25")
    assert [line.split(" ")[0] for line in lines] == ["::warning", "::error"]


def test_junit_is_xml_whatever_the_reason_holds(verb: Verb) -> None:
    odd = replace(CHANGE, why="<&> \x00\x1b[31m ]]>")
    root = ElementTree.fromstring(verb(Plan((odd,), (UNKNOWN,)), "drift", "--format", "junit").out)
    assert (root.get("tests"), root.get("failures"), root.get("errors"), root.get("skipped")) == ("3", "1", "1", "0")
    assert all(len(list(case)) <= 1 for case in root.iter("testcase")), "a case has one outcome"
    suites = {suite.get("name"): suite for suite in root}
    assert suites["vm"].get("failures") == "1"
    assert suites["box"].get("errors") == "1"
    assert [case.get("name") for case in suites["vm"]] == ["qdrant", "litellm"]


SERVICE = Change("vm", "litellm", "service", "litellm", "update", "memory limit is 1 GiB, should be none; is privileged")


@pytest.fixture
def ignore(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`ignore("vm/litellm/service litellm", days=30, why="memory*")`: an entry of the spec."""
    monkeypatch.setitem(globals(), "IGNORES", [])

    def add(what: str, *, days: int = 30, why: str = "*") -> None:
        until = date.today() + timedelta(days=days)
        IGNORES.append(Ignore(what=what, why=why, reason="the card is lent out", until=until))

    return add


def test_what_is_ignored_is_counted_and_listed_on_demand(verb: Verb, ignore: Callable[..., None]) -> None:
    ignore("vm/litellm/service *")
    ran = verb(Plan((SERVICE,)), "drift")
    assert (ran.code, "no drift" in ran.out) == (0, True)
    assert "1 ignored until" in ran.err
    assert "the card is lent out" in ran.err
    assert "memory limit" not in ran.err
    assert "memory limit" in verb(Plan((SERVICE,)), "drift", "-v").err


def test_an_ignore_that_has_ended_hides_nothing_and_is_said(verb: Verb, ignore: Callable[..., None]) -> None:
    ignore("vm/litellm/service litellm", days=-1)
    ran = verb(Plan((SERVICE,)), "drift")
    assert ran.code == 2
    assert "hides nothing any more" in ran.err


def test_an_ignore_counts_until_the_end_of_its_last_day(verb: Verb, ignore: Callable[..., None]) -> None:
    ignore("vm/litellm/service litellm", days=0)
    assert verb(Plan((SERVICE,)), "drift").code == 0


def test_an_ignore_of_one_reason_does_not_hide_another(verb: Verb, ignore: Callable[..., None]) -> None:
    ignore("vm/litellm/service litellm", why="memory limit*")
    assert verb(Plan((SERVICE,)), "drift").code == 2
    only = replace(SERVICE, why="memory limit is 1 GiB, should be none")
    assert verb(Plan((only,)), "drift").code == 0


def test_an_ignore_that_nothing_is_like_is_noted_where_all_was_looked_at(verb: Verb, ignore: Callable[..., None]) -> None:
    ignore("vm/litellm/model *")
    assert "nothing is like `vm/litellm/model *`" in verb(CLEAN, "drift").err
    assert "nothing is like" not in verb(BLIND, "drift").err
    assert "nothing is like" not in verb(CLEAN, "drift", "--host", "vm").err


def test_every_format_tells_what_is_ignored(verb: Verb, ignore: Callable[..., None]) -> None:
    ignore("vm/litellm/service litellm")
    data = json.loads(verb(Plan((SERVICE,)), "drift", "--format", "json").out)
    assert data["changes"] == []
    assert data["ignored"][0]["reason"] == "the card is lent out"
    assert verb(Plan((SERVICE,)), "drift", "--format", "github").out.startswith("::notice title=ignored until")
    junit = ElementTree.fromstring(verb(Plan((SERVICE,)), "drift", "--format", "junit").out)
    assert junit.get("skipped") == "1"
    assert junit.get("failures") == "0"


def test_plan_shows_what_drift_ignores_and_says_so(verb: Verb, ignore: Callable[..., None]) -> None:
    ignore("vm/litellm/service litellm")
    ran = verb(Plan((SERVICE,)), "plan")
    assert ran.code == 2
    assert "memory limit" in ran.out
    assert "drift ignores vm/litellm service litellm until" in ran.err


def test_a_value_of_a_secret_in_a_hosts_words_is_taken_out(verb: Verb) -> None:
    value = Secret("sk-planted-in-the-words-of-a-host").reveal()
    plan = Plan((replace(CHANGE, why=f"says {value}"),), (replace(UNKNOWN, why=f"says {value}"),), (), (f"note {value}",))
    for arguments in (
        ("plan",),
        ("plan", "--json"),
        *(("drift", "--format", each) for each in ("text", "json", "github", "junit")),
    ):
        ran = verb(plan, *arguments)
        assert value not in ran.out + ran.err, arguments


def test_colours_reach_a_terminal_and_a_hosts_control_characters_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    shown = text(Plan((replace(CHANGE, why="\x1b[2J"),)), deployment())
    assert "\x1b[33m~\x1b[0m" in shown
    assert "\x1b[2J" not in shown


def test_foreign_containers_are_named_and_said_to_stay(verb: Verb) -> None:
    err = verb(replace(CLEAN, foreign=tuple(f"vm/c{number}" for number in range(8))), "drift").err
    assert "vm also runs 8 containers" in err
    assert "and 2 more" in err


# apply


@pytest.fixture
def applied(verb: Verb, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Ran, list[dict[str, Any]]]]:
    """Apply a plan with pyinfra ending as told, events as told, and the plan afterwards as told."""

    def run(
        plan: Plan, *arguments: str, code: int = 0, events: tuple[Event, ...] = (), after: Plan = CLEAN
    ) -> tuple[Ran, list[dict[str, Any]]]:
        calls: list[dict[str, Any]] = []

        class Stub:
            def __init__(self, *_: Any, **more: Any) -> None:
                self.more = more

            def __enter__(self) -> Stub:
                return self

            def __exit__(self, *_: object) -> None: ...

            def connect(self, hosts: list[str]) -> None:
                self.more["hosts"] = hosts

            def go(self, _: Any, listen: Callable[[Event], None]) -> Finished:
                calls.append(self.more)
                for event in events:
                    listen(event)
                return Finished(code, ("pyinfra: the last words",))

        def again(*given: Any) -> Look:
            calls[0]["connected"] = given[-1]
            return seen(after)

        monkeypatch.setattr("mesh.live.apply.Deploys", Stub)
        monkeypatch.setattr(apply_module, "look_again", again)
        return verb(plan, "apply", *arguments), calls

    return run


Apply = Callable[..., tuple[Ran, list[dict[str, Any]]]]
FAILED = Event("failed", "vm", "litellm", {"why": "did not come up; its previous release runs again", "lines": ["boom"]})


def test_nothing_to_change_does_nothing(applied: Apply) -> None:
    ran, calls = applied(CLEAN, "-y")
    assert (ran.code, ran.out, calls) == (0, "nothing to change\n", [])


def test_a_plan_is_applied_to_its_hosts_and_verified(applied: Apply) -> None:
    ran, calls = applied(DIFFERS, "-y", "--stack", "litellm")
    assert ran.code == 0
    assert "done in" in ran.out
    assert calls[0]["hosts"] == ["vm"]
    assert calls[0]["stacks"] == ("litellm",)


def test_the_look_afterwards_connects_while_the_run_ends(applied: Apply, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.live.ssh.connect", lambda _, hosts: dict.fromkeys(hosts, "connected"))
    _, calls = applied(DIFFERS, "-y", events=(Event("ending", "vm"),))
    assert calls[0]["connected"] == {"vm": "connected"}


@pytest.mark.parametrize(("as_before", "yes", "early"), [(False, True, True), (True, True, False), (False, False, False)])
def test_pyinfra_loads_during_the_look_only_where_a_changed_spec_is_applied_without_a_question(
    monkeypatch: pytest.MonkeyPatch, as_before: bool, yes: bool, early: bool
) -> None:
    happened: list[str] = []

    class Stub:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def __enter__(self) -> None:
            happened.append("started")

        def __exit__(self, *_: object) -> None:
            happened.append("ended")

    def look(_folder: Path, *, meanwhile: Callable[[Any], None], **_: Any) -> Look:
        meanwhile(SimpleNamespace(as_before=as_before))
        happened.append("looked")
        return seen(CLEAN)

    monkeypatch.setattr("mesh.live.apply.Deploys", Stub)
    monkeypatch.setattr(apply_module, "look", look)
    assert apply_module.run(Path(), yes=yes) == 0
    assert happened == (["started", "looked", "ended"] if early else ["looked"])


def test_without_a_terminal_and_without_y_nothing_happens(applied: Apply) -> None:
    ran, calls = applied(DIFFERS)
    assert (ran.code, calls) == (1, [])
    assert "no terminal" in ran.err


def test_a_host_that_cannot_be_read_makes_the_run_fail_although_the_others_are_applied(applied: Apply) -> None:
    ran, calls = applied(BOTH, "-y")
    assert ran.code == 1
    assert calls
    assert "box: cannot tell what is there" in ran.err
    assert applied(BLIND, "-y")[0].code == 1


def test_a_stack_that_failed_is_named_with_its_last_lines(applied: Apply) -> None:
    ran, _ = applied(DIFFERS, "-y", code=1, events=(FAILED,), after=DIFFERS)
    assert ran.code == 1
    assert "its previous release runs again" in ran.out
    assert "| boom" in ran.out
    assert "failed: vm/litellm" in ran.err


def test_what_still_differs_afterwards_is_a_failure(applied: Apply) -> None:
    ran, _ = applied(DIFFERS, "-y", after=DIFFERS)
    assert ran.code == 1
    assert "still different after the apply" in ran.out


def test_a_host_that_is_gone_afterwards_is_a_failure(applied: Apply) -> None:
    assert applied(DIFFERS, "-y", after=BLIND)[0].code == 1


def test_a_pyinfra_that_fails_on_its_own_is_quoted(applied: Apply) -> None:
    ran, _ = applied(DIFFERS, "-y", code=1)
    assert ran.code == 1
    assert "pyinfra: the last words" in ran.err
