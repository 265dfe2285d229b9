"""The drill through a Docker engine, with a stand-in for `docker`: what lands, what is heard, and what is left."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from drillkit import reference, stage

from mesh.cli.drill import as_data, text
from mesh.drill.container import Containers
from mesh.drill.run import Drill
from mesh.drill.verdict import Verdict
from mesh.errors import MeshError

FAKE = """#!/bin/sh
# A stand-in for `docker`: NOT the real one. Writes down how it was called; its driver says what it is told to.
echo "$@" >>"{log}"
case "$*" in
*" up "*) ls -R "$7" >>"{log}"; exit {up} ;;
*" run "*) cat >/dev/null; {run} ;;
esac
"""
END = """echo '{"event": "ready", "seconds": 1}'; echo '{"event": "end", "unmarked": []}'"""


def engine(folder: Path, *, up: int = 0, run: str = END) -> tuple[Containers, Path]:
    log, docker = folder / "log", folder / "docker"
    docker.write_text(FAKE.replace("{log}", str(log)).replace("{up}", str(up)).replace("{run}", run))
    docker.chmod(0o755)
    return Containers("here", ["sh", "-s"], str(docker), reference()[1], f"test-{os.getpid()}"), log


def left(place: Containers) -> bool:
    return Path("/tmp", place.project).exists()


def test_the_stage_is_brought_up_played_and_taken_down(tmp_path: Path) -> None:
    place, log = engine(tmp_path)
    heard: list[dict[str, Any]] = []
    place.perform(stage(), {"requests": []}, heard.append)
    assert [each["event"] for each in heard] == ["ready", "end"]
    said = log.read_text()
    assert f"--project-name {place.project}" in said
    assert "config.yaml" in said and "inside.py" in said and "haproxy.cfg" in said
    assert f"ps -aq --filter label=com.docker.compose.project={place.project}" in said
    assert not left(place)


def test_an_engine_that_cannot_start_the_gateway_is_a_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    place, log = engine(tmp_path, up=1)
    with pytest.raises(MeshError, match="the gateway did not start"):
        place.perform(stage(), {"requests": []}, lambda _: None)
    assert f"ps -aq --filter label=com.docker.compose.project={place.project}" in log.read_text()
    assert not left(place)


def test_a_drill_that_breaks_off_is_no_green(tmp_path: Path) -> None:
    place, _ = engine(tmp_path, run="""echo '{"event": "ready", "seconds": 1}'""")
    with pytest.raises(MeshError, match="the drill broke off"):
        place.perform(stage(), {"requests": []}, lambda _: None)
    assert not left(place)


def test_an_interrupted_drill_leaves_nothing(tmp_path: Path) -> None:
    place, log = engine(tmp_path, run="""echo '{"event": "ready", "seconds": 1}'; sleep 20""")

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.perform(stage(), {"requests": []}, interrupt)
    assert f"label=com.docker.compose.project={place.project}" in log.read_text()
    assert not left(place)


SHELF = """#!/bin/sh
# A stand-in for `docker`: NOT the real one. Its engine holds one container and one network a project of {shelf}.
echo "$@" >>"{log}"
case "$*" in
*--format*) ls "{shelf}" ;;
"ps -aq --filter"*) cat "{shelf}/${4##*=}" 2>/dev/null ;;
"rm --force"*) rm "{shelf}/$4" ;;
*" run "*) cat >/dev/null; {run} ;;
esac
"""


def began(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().split(" ")[21]


def test_the_next_drill_removes_what_a_killed_one_left_and_nothing_of_one_that_runs(tmp_path: Path) -> None:
    place, log = engine(tmp_path)
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    names = {each: f"mesh-drill-test-{os.getpid()}-{each}" for each in ("killed", "zombie", "reused", "folderless", "running")}
    for each in (*names.values(), "litellm"):
        (shelf / each).write_text(each)
    ended, unwaited = subprocess.Popen(["true"]), subprocess.Popen(["true"])
    ended.wait()
    os.waitid(os.P_PID, unwaited.pid, os.WEXITED | os.WNOWAIT)
    processes = {
        "killed": (ended.pid, "1"),
        "zombie": (unwaited.pid, began(unwaited.pid)),
        "running": (os.getpid(), began(os.getpid())),
    }
    for each, (pid, since) in {**processes, "reused": (os.getpid(), "1")}.items():
        Path("/tmp", names[each]).mkdir()
        Path("/tmp", names[each], "pid").write_text(f"{pid} {since}\n")
    try:
        fake = SHELF.replace("{log}", str(log)).replace("{shelf}", str(shelf)).replace("{run}", END)
        (tmp_path / "docker").write_text(fake)
        place.perform(stage(), {"requests": []}, lambda _: None)
        assert {each.name for each in shelf.iterdir()} == {names["running"], "litellm"}
        assert not Path("/tmp", names["killed"]).exists() and Path("/tmp", names["running"]).exists()
    finally:
        unwaited.wait()
        for each in names.values():
            shutil.rmtree(Path("/tmp", each), ignore_errors=True)


def test_a_drill_that_is_interrupted_ends_what_it_runs_there(tmp_path: Path) -> None:
    ready = """echo '{"event": "ready", "seconds": 1}'"""
    place, log = engine(tmp_path, run=f"""trap 'echo told >>{tmp_path / "log"}; exit' TERM; {ready}; sleep 30 & wait""")

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.perform(stage(), {"requests": []}, interrupt)
    assert "told" in log.read_text()
    assert not left(place)


def test_an_engine_without_the_images_is_told_from_one_with_them(tmp_path: Path) -> None:
    place, log = engine(tmp_path)
    assert place.has_images()
    assert "image inspect ghcr.io/berriai/litellm" in log.read_text()
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 1\n")
    assert not place.has_images()


def verdict(name: str, *wrong: str, leak: str | None = None) -> Verdict:
    return Verdict(name, "bulk", "chat: 500", "llama3.1-8b answers", wrong, 200, 1.0, ("bulk",), "it is next", leak)


def test_the_table_says_what_is_red_and_what_was_promised() -> None:
    found = Drill("here", ("addresses",), 2, [verdict("a"), verdict("b", "asked nobody")], seconds=9, start=5)
    said = text(found)
    assert not found.green
    assert "red  b: chat: 500" in said
    assert "promised: llama3.1-8b answers, because it is next" in said
    assert "exchanged on the stage, and nothing else:\n  addresses" in said
    assert as_data(found)["version"] == 1 and as_data(found)["red"] == 1


def test_a_case_that_was_not_played_is_not_green() -> None:
    assert Drill("here", (), 1, [verdict("a")]).green
    assert not Drill("here", (), 2, [verdict("a")], missing=1).green
