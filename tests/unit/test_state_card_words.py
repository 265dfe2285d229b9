"""How drift and plan say what apply cannot mend: in every format, and with which exit code. The mesh is made up here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from clikit import Ran
from measurekit import ONE
from statekit import deployment, ideal

from mesh.cli import drift as drift_module
from mesh.cli import plan as plan_module
from mesh.cli.look import Look
from mesh.measure.record import add_measurements
from mesh.state.deployment import Card
from mesh.state.plan import CannotTell, Deviation, Plan
from mesh.state.select import select_stacks

CARD = Deviation("box", "", "card", "rtx-4070-ti", "is in the spec, and nvidia-smi shows no such card", "look into the box")
SPILLED = Deviation("box", "ollama", "model", "llama3.1:8b", "spilled: 20 % of its 10.0 GiB is in RAM", "`mesh fit` says more")
ODD = Plan(deviations=(CARD, SPILLED))
Verb = Callable[..., Ran]


@pytest.fixture
def verb(run_mesh: Verb, small_inventory: Path, monkeypatch: pytest.MonkeyPatch) -> Verb:
    """`verb(plan, "drift", ...)`: the command line, looking at a mesh with that plan."""
    wanted = deployment()
    box = replace(wanted.hosts["box"], cards=(Card("rtx-4070-ti"),))
    wanted = replace(wanted, hosts={**wanted.hosts, "box": box})
    inventory: Any = SimpleNamespace(ignores=())

    def run(plan: Plan, *arguments: str) -> Ran:
        for module in (plan_module, drift_module):
            monkeypatch.setattr(module, "look", lambda _folder, **_: Look(inventory, wanted, ideal(wanted), plan))
        return run_mesh(*arguments, "-C", small_inventory)

    return run


def test_what_apply_cannot_mend_is_drift_and_nothing_to_change(verb: Verb) -> None:
    ran = verb(ODD, "drift")
    assert ran.code == 2
    assert "! box card rtx-4070-ti: is in the spec" in ran.out
    assert "! box/ollama model llama3.1:8b: spilled" in ran.out
    assert "mend: look into the box" in ran.out
    assert "2 findings that apply cannot mend" in ran.out
    plan = verb(ODD, "plan")
    assert plan.code == 0
    assert "nothing to change" in plan.out
    assert "llama3.1:8b: spilled" in plan.err


def test_what_could_not_be_read_counts_for_more(verb: Verb) -> None:
    assert verb(replace(ODD, unknown=(CannotTell("vm", "not reachable"),)), "drift").code == 1


def test_programs_get_it_apart_from_the_changes(verb: Verb) -> None:
    data = json.loads(verb(ODD, "drift", "--format", "json").out)
    assert data["changes"] == []
    assert [each["name"] for each in data["deviations"]] == ["rtx-4070-ti", "llama3.1:8b"]


def test_github_gets_a_warning_each(verb: Verb) -> None:
    lines = verb(ODD, "drift", "--format", "github").out.splitlines()
    assert [line.partition("::")[2].partition(" ")[0] for line in lines] == ["warning", "warning"]


def test_junit_has_a_case_for_the_cards_of_a_host(verb: Verb) -> None:
    root = ElementTree.fromstring(verb(ODD, "drift", "--format", "junit").out)
    (box,) = [suite for suite in root if suite.get("name") == "box"]
    failed = [case.get("name") for case in box if case.find("failure") is not None]
    assert sorted(filter(None, failed)) == ["cards", "ollama"]
    assert box.get("failures") == "2"


def test_of_a_chosen_stack_its_own_and_its_hosts_are_kept() -> None:
    assert select_stacks(ODD, ["whoami"]).deviations == (CARD,)
    assert select_stacks(ODD, ["ollama"]).deviations == (CARD, SPILLED)


def test_a_speed_that_fell_is_a_note_and_no_drift(verb: Verb, small_inventory: Path) -> None:
    add_measurements(small_inventory, [ONE, replace(ONE, taken="2026-11-22T10:00:00Z", tok_s=60.0)])
    ran = verb(Plan(), "drift")
    assert ran.code == 0
    assert "llama3.1:8b wrote 60.0 tok/s on 2026-11-22, 29 % under the 84.0 of 2026-11-20" in ran.err


def test_programs_and_github_get_a_speed_that_fell_as_well(verb: Verb, small_inventory: Path) -> None:
    add_measurements(small_inventory, [ONE, replace(ONE, taken="2026-11-22T10:00:00Z", tok_s=60.0)])
    (note,) = json.loads(verb(Plan(), "drift", "--format", "json").out)["notes"]
    assert "29 % under" in note
    assert "::notice" in verb(Plan(), "drift", "--format", "github").out
    assert json.loads(verb(Plan(), "drift", "--format", "json", "--host", "other").out)["notes"] == []


def test_damaged_measurements_do_not_hide_the_drift(verb: Verb, small_inventory: Path) -> None:
    path = add_measurements(small_inventory, [ONE])
    path.write_text(path.read_text().replace("84.00", "fast"))
    ran = verb(Plan(), "drift")
    assert ran.code == 0
    assert "no speed is compared" in ran.err
