"""`mesh drill` in containers, on a real engine: green, red for a planted mistake, and nothing left, however it ends."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from labctl import engine

from mesh.drill.container import PREFIX
from mesh.drill.places import choose
from mesh.drill.run import Drill, drill
from mesh.inventory import open_inventory
from mesh.paths import PROJECT
from tests.lab import inventory
from tests.lab.conftest import Applied

pytestmark = pytest.mark.lab
HOST = "vm-docker"
LABEL = "label=com.docker.compose.project"
LEFT = f"""
for kind in container network volume; do
    docker $kind ls $([ $kind = container ] && echo -a) --filter {LABEL} --format '{{{{.Label "com.docker.compose.project"}}}}'
done | grep '^{PREFIX}'
ls /tmp/{PREFIX}*/pid 2>/dev/null
"""
"""What any drill has left there; fails on nothing left."""


@pytest.fixture(params=["host", "local"])
def place(
    request: pytest.FixtureRequest, applied: Any, lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """The gateway's host, or this machine with the lab's own engine as its Docker."""
    folder = applied.folder
    if request.param == "local":
        folder = inventory.write(lab, tmp_path / "local", spec=by_local_images(lab, tmp_path / "local"))
        own = engine.find()
        assert own is not None
        for name, value in own.env.items():
            monkeypatch.setenv(name, value)
    found = Place(request.param, lab, Applied(folder, applied.identity))
    yield found
    assert found.left() == ""


def by_local_images(lab: Any, folder: Path) -> dict[str, Any]:
    """The lab's spec with images as the engine under the lab has them: it cannot pull from the lab's registry."""
    folder.mkdir()
    spec = inventory.overlay(lab, folder)
    images = {service: f"homelab-mesh-lab/{each.rpartition('/')[2]}" for service, each in spec["images"].items()}
    return spec | {"images": images}


class Place:
    """Where a drill is played, and what it leaves there. on: `host` or `local`."""

    def __init__(self, on: str, lab: Any, applied: Any) -> None:
        self.on, self.lab, self.applied = on, lab, applied
        self.opened = open_inventory(applied.folder)
        self.deployment = self.opened.deployment(preview=True)

    def run(self, script: str) -> str:
        if self.on == "host":
            return str(self.lab.ssh(HOST, script, check=False).stdout).strip()
        return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False).stdout.strip()

    def left(self, within: float = 0.0) -> str:
        """What is left, once nothing is or the seconds are over."""
        until = time.monotonic() + within
        while (found := self.run(LEFT)) and time.monotonic() < until:
            time.sleep(0.5)
        return found

    def play(self, only: str, edit: Callable[[dict[str, Any]], None] | None = None) -> Drill:
        """The cases whose id matches."""
        where = choose(self.opened, self.deployment, on=self.on, litellm=None)
        taken = lambda each: re.search(only, each) is not None  # noqa: E731
        return drill(self.opened.mesh, self.deployment, where, hang_limit=6, seed="lab", edit=edit, only=taken)

    def start(self) -> subprocess.Popen[bytes]:
        """`mesh drill` as an operator calls it. SIGINT ends it, also where this test runs in the background."""
        command = [sys.executable, "-P", "-m", "mesh", "-C", str(self.applied.folder), "drill", "--on", self.on, "--json"]
        env = {**os.environ, **self.applied.env}
        heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, cwd=PROJECT, env=env, preexec_fn=heard)  # noqa: PLW1509


def red(found: Drill) -> dict[str, str]:
    return {each.id: "; ".join(each.wrong) for each in found.red}


def test_every_case_of_the_reference_is_green_through_the_front(place: Place) -> None:
    done = place.start()
    said, notes = done.communicate(timeout=300)
    found = json.loads(said)
    print(f"{place.on}: {found['cases']} cases in {found['seconds']} s, {found['start_seconds']} to start", file=sys.stderr)
    assert [f"{each['id']}: {each['wrong']}" for each in found["verdicts"] if each["wrong"]] == []
    assert (done.returncode, found["green"], found["front"], found["missing"]) == (0, True, True, 0), notes
    assert found["cases"] > 1800


def test_a_planted_mistake_is_red(place: Place) -> None:
    def mistake(config: dict[str, Any]) -> None:
        next(each["fast"] for each in config["router_settings"]["fallbacks"] if "fast" in each).append("claude")

    found = red(place.play(r"^fast/chat/(none|all-down)$", mistake))
    assert found["fast/chat/all-down"].startswith("asked fast > llama3.1-8b > claude, not fast > llama3.1-8b")
    assert found["listing"] == "fast falls back to llama3.1-8b > claude, not to llama3.1-8b"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_interrupted_drill_leaves_nothing(place: Place, number: int) -> None:
    running = place.start()
    after = random.uniform(0.3, 12)
    time.sleep(after)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130, f"{number}: after {after:.2f} s"
    assert place.left() == "", f"after {after:.2f} s"


def test_a_drill_that_is_killed_ends_by_itself_there(place: Place) -> None:
    running = place.start()
    assert wait(lambda: place.run(f"docker ps -q --filter name={PREFIX}").count("\n") >= 2)
    running.kill()
    running.communicate()
    assert place.left(within=30) == ""


def test_what_is_left_of_a_machine_that_died_is_removed_by_the_next_drill(place: Place) -> None:
    running = place.start()
    assert wait(lambda: place.run(f"docker ps -q --filter name={PREFIX}").count("\n") >= 2)
    place.run(f"kill -9 $(cut -d' ' -f1 /tmp/{PREFIX}*/pid)")
    running.kill()
    running.communicate()
    assert place.left() != ""
    assert place.play(r"^tidy/chat/none$").green


def wait(condition: Callable[[], bool], within: float = 60.0) -> bool:
    until = time.monotonic() + within
    while not condition() and time.monotonic() < until:
        time.sleep(0.2)
    return condition()
