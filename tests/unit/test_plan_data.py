"""`mesh plan --json` has the form that docs/plan.md says it has."""

from __future__ import annotations

import json
import re
from typing import Any

from mesh.cli.plan_data import VERSION, plan_data
from mesh.paths import PROJECT
from mesh.plan.effects import ServiceEffect, StackEffect
from mesh.plan.explain import Explanation, Pull
from mesh.plan.files import FileChange
from mesh.plan.risks import Risk
from mesh.plan.textdiff import FileDiff
from mesh.plan.vram import CardRoom, HostRoom
from mesh.secrets.value import Secret
from mesh.state.observed import LoadedModel
from mesh.state.plan import CannotTell, Change, Deviation, Plan

PLAN = Plan(
    (Change("nas", "web", "service", "web", "update", "changed"),),
    (CannotTell("vm", "gone", "look"),),
    ("nas/plex",),
    ("a note",),
    (Deviation("box", "", "card", "x", "why", "mend"),),
)
EVERYTHING = Explanation(
    (StackEffect("nas", "web", (ServiceEffect("web", "recreate", ("why",), ("web:1", "web:2")),), "restart", 4.0),),
    (FileChange("nas", "web", "/x", "update", "why", FileDiff(1, 1, ("-a", "+b"))),),
    (Pull("image", "web:2", ("nas",), 7),),
    (HostRoom("box", (CardRoom("4070", 12, 1, 11, 0),), (LoadedModel("llama", 6, 6, 1),), ("big",)),),
    (Risk("nas", "web", "empty", "what", "mend"),),
    (CannotTell("nas", "why"),),
)


def form(value: Any) -> Any:
    """Keys and types; of a list its first item's."""
    if isinstance(value, dict):
        return {key: form(each) for key, each in value.items()}
    return [form(value[0])] if isinstance(value, list) and value else type(value).__name__


def test_the_document_is_the_one_that_is_described() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", (PROJECT / "docs" / "plan.md").read_text(), re.S)
    described = json.loads(example)
    described["vram"][0]["spilling"] = ["some"]
    assert described["version"] == VERSION
    assert form(json.loads(json.dumps(plan_data(PLAN, EVERYTHING)))) == form(described)


def test_what_is_not_known_is_null_and_not_left_out() -> None:
    less = Explanation(
        (StackEffect("nas", "web", (ServiceEffect("web", "start", ()),), "start"),),
        (FileChange("nas", "web", "/x", "create", "is new"),),
        (Pull("image", "web:2", ("nas",)),),
        (HostRoom("box", (CardRoom("4070", 12, None, 11, 0),), None),),
    )
    data = plan_data(PLAN, less)
    assert data["stacks"][0]["last_seconds"] is None
    assert data["stacks"][0]["services"][0]["image"] is None
    assert data["files"][0]["text"] is None
    assert data["pulls"][0]["bytes"] is None
    assert data["vram"][0]["loaded"] is None
    assert data["vram"][0]["cards"][0]["used"] is None


def test_a_clean_plan_has_every_key_and_nothing_in_it() -> None:
    data = plan_data(Plan(), Explanation())
    assert data.keys() == plan_data(PLAN, EVERYTHING).keys()
    assert data["clean"] is True
    assert not any(each for key, each in data.items() if key not in {"version", "clean"})


def test_a_known_secret_in_a_hosts_words_or_lines_is_taken_out() -> None:
    value = Secret("sk-planted-in-the-document").reveal()
    files = (FileChange("nas", "web", "/x", "update", f"says {value}", FileDiff(1, 0, (f"+{value}\x1b[2J",))),)
    risks = (Risk("nas", "web", "empty", f"what {value}", value),)
    document = json.dumps(plan_data(PLAN, Explanation((), files, (), (), risks, (CannotTell("nas", value),))))
    assert value not in document
    assert "\\u001b" not in document
