"""Journals of several hosts as runs, and which stacks a rollback takes where."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from mesh.errors import MeshError
from mesh.state.journal import Run, of_stacks, runs
from mesh.state.observed import RecordedRelease, RecordedService
from mesh.state.parse import read_release
from mesh.state.rollback import Kept, of_named, of_run


def line(run: str, at: str, stacks: Mapping[str, Any], **more: Any) -> str:
    return json.dumps({"run": run, "at": at, "by": "op@laptop", "verb": "apply", "finished": True, "stacks": stacks} | more)


def result(was: str, wanted: str, word: str = "up") -> dict[str, Any]:
    return {"result": word, "seconds": 2.5, "from": was, "to": wanted}


def release(name: str, image: str = "i", digest: str = "") -> RecordedRelease:
    return RecordedRelease(name, "t", "op", "closet", {"web": RecordedService(digest or f"d-{name}", "c", image)})


def kept(**stacks: tuple[str, str]) -> Kept:
    """Stacks with the release that runs and the one before it; an empty word for none."""
    now = {name: release(pair[0]) for name, pair in stacks.items() if pair[0]}
    return Kept(now, {name: release(pair[1]) for name, pair in stacks.items() if pair[1]}, frozenset({"i"}))


def journal(*lines: str) -> list[Run]:
    return runs({"vm": lines})


def test_the_parts_of_a_run_on_all_hosts_are_one_run_and_the_latest_is_first() -> None:
    found = runs(
        {
            "vm": [line("a", "2026-01-01T00:00:00Z", {"web": result("", "r1")}, seconds=3.0)],
            "nas": [
                line("a", "2026-01-01T00:00:00Z", {"db": result("", "r1")}, seconds=8.0),
                line("b", "2026-01-02T00:00:00Z", {"db": result("r1", "r2", "back")}, why={"db": "is unhealthy\nand more"}),
            ],
        }
    )
    assert [(run.id, sorted(run.hosts), run.seconds) for run in found] == [("b", ["nas"], None), ("a", ["nas", "vm"], 8.0)]
    back = found[0].hosts["nas"].stacks["db"]
    assert (back.result, back.was, back.wanted, back.why) == ("back", "r1", "r2", "is unhealthy")


def test_what_a_host_wrote_down_later_came_later_whatever_clock_dated_it() -> None:
    found = runs(
        {
            "vm": [
                line("a", "2026-01-01T00:00:00Z", {}),
                line("ahead", "2027-01-01T00:00:00Z", {}),
                line("b", "2026-01-02T00:00:00Z", {}),
            ],
            "nas": [line("b", "2026-01-02T00:00:00Z", {}), line("c", "2026-01-01T12:00:00Z", {})],
        }
    )
    assert [run.id for run in found] == ["b", "ahead", "c", "a"]


def test_a_stack_that_failed_before_the_host_heard_of_it_is_failed() -> None:
    (run,) = journal(line("a", "t", {"ollama": result("", "r1")}, why={"web": "image cannot be pulled", "ollama": "no model"}))
    assert {name: each.result for name, each in run.hosts["vm"].stacks.items()} == {"web": "failed", "ollama": "failed"}


def test_lines_of_the_first_version_are_still_read() -> None:
    old = json.dumps({"run": "a", "at": "t", "by": "op", "stacks": ["db", "web"], "failed": ["web"], "finished": True})
    cut = json.dumps({"run": "b", "at": "u", "by": "op", "finished": False})
    second, first = journal(old, cut)
    assert not second.hosts["vm"].finished
    assert {name: each.result for name, each in first.hosts["vm"].stacks.items()} == {"db": "up", "web": "failed"}


@pytest.mark.parametrize(
    "damaged", ["", "{", "[]", "null", '{"run": "a"}', '{"run": 1, "at": 2, "by": 3, "finished": 1, "why": []}']
)
def test_a_damaged_line_hides_no_other(damaged: str) -> None:
    assert "b" in {run.id for run in journal(damaged, line("b", "t", {}))}


def test_only_what_is_about_the_named_stack_is_shown() -> None:
    found = journal(
        line("a", "t1", {"web": result("", "r1"), "db": result("", "r1")}), line("b", "t2", {"db": result("r1", "r2")})
    )
    (run,) = of_stacks(found, ["web"])
    assert (run.id, list(run.hosts["vm"].stacks)) == ("a", ["web"])


# which stacks go where


def test_the_last_run_that_changed_something_is_taken_back_and_what_it_only_mended_stays() -> None:
    found = journal(
        line("a", "t1", {"web": result("r1", "r2"), "db": result("r5", "r5"), "bad": result("r1", "r2", "back")}),
        line("b", "t2", {"db": result("r5", "r5")}),
    )
    run, rollback = of_run({"vm": kept(web=("r2", "r1"), db=("r5", "r4"), bad=("r1", ""))}, found)
    assert run.id == "a"
    assert [(step.host, step.stack, step.previous.release) for step in rollback.steps] == [("vm", "web", "r1")]


def test_what_another_run_has_changed_since_and_what_is_new_stays_and_is_said() -> None:
    found = journal(line("a", "t", {"web": result("r1", "r2"), "new": result("", "r1")}))
    _, rollback = of_run({"vm": kept(web=("r3", "r2"), new=("r1", ""))}, found, run="a")
    assert rollback.steps == ()
    assert rollback.stays == ("vm/new: it has no previous release", "vm/web: another run has changed it since")


def test_a_stack_that_was_brought_down_comes_back() -> None:
    found = journal(line("a", "t", {"web": result("r1", "", "down")}))
    _, rollback = of_run({"vm": kept(web=("", "r1"))}, found)
    assert [(step.stack, step.current) for step in rollback.steps] == [("web", None)]


def test_a_run_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(MeshError, match="no run zz is in the journals"):
        of_run({}, journal(line("a", "t", {})), run="zz")
    with pytest.raises(MeshError, match="nothing to roll back"):
        of_run({}, journal(line("a", "t", {})))


def test_one_named_stack_without_a_way_back_keeps_the_others_from_going() -> None:
    with pytest.raises(MeshError, match="there is no previous release"):
        of_named({"vm": kept(web=("r2", "r1"), db=("r1", ""))}, ["web", "db"])
    with pytest.raises(MeshError, match="no host has a release of wbe"):
        of_named({"vm": kept(web=("r2", "r1"))}, ["wbe"])


def test_a_step_says_what_restarts_and_which_image_is_gone() -> None:
    same = replace(kept(web=("r2", "r1")), images=frozenset())
    (step,) = of_named({"vm": same}, ["web"]).steps
    assert (step.remade, step.missing_images) == (("web",), ("web",))
    one = Kept({"web": release("r2", digest="d")}, {"web": release("r1", digest="d")}, frozenset({"i"}))
    (step,) = of_named({"vm": one}, ["web"]).steps
    assert (step.remade, step.missing_images) == ((), ())


def test_the_record_tells_who_rolled_back_how_long_it_took_and_how_it_is_probed() -> None:
    data: dict[str, Any] = {"release": "r1", "at": "t", "by": "op", "mesh": "closet", "files": [], "services": {}}
    old = read_release(json.dumps(data))
    assert old
    assert (old.seconds, old.rolled_back, old.probe) == (None, "", None)
    more = {"seconds": 2.25, "rolled_back": {"by": "op@desk", "at": "u"}, "probe": {"url": "http://x/", "timeout": 5.0}}
    new = read_release(json.dumps(data | more))
    assert new
    assert new.probe
    assert (new.seconds, new.rolled_back, new.probe.url) == (2.25, "op@desk u", "http://x/")
