"""apply when its own process, its stacks or its files fail: nothing is lost, the old serves, the next apply converges."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from labctl import Lab

from tests.lab.faults import STACKS, all_at, converges, declare, failed, fails, serving
from tests.lab.small import ROOT, Small, fresh, wait

pytestmark = pytest.mark.lab
KILLS = 10
PROBE_PORT = 18099
STACK_WITH_PROBE = """\
from mesh.compile.stack import StackKind

stack = StackKind(images={{"web": "{image}"}}, port={port}, probe="{path}")
"""
TEMPLATE = """\
services:
  web:
    image: {{ image.web }}
    init: true
    ports: [{{ published ~ ":8080" }}]
    healthcheck: {test: [CMD, "true"], interval: 1s}
"""


@pytest.fixture(scope="module")
def running(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    with fresh(lab, tmp_path_factory.mktemp("faults") / "inventory") as mesh:
        yield mesh


@pytest.fixture
def small(running: Small) -> Small:
    """Everything at round 1, whatever the test before it left."""
    converges(running, 1)
    return running


def test_an_apply_killed_at_ten_random_points_loses_nothing_and_the_next_one_finishes(small: Small) -> None:
    """Every second time the next apply is killed as well, and half the time only the process the operator sees is."""
    seed = int(os.environ.get("MESH_SEED") or random.randrange(10**6))
    print(f"MESH_SEED={seed} repeats it")
    chance = random.Random(seed)
    started = time.monotonic()
    declare(small, 2)
    small.apply()
    whole = time.monotonic() - started
    for kill in range(1, KILLS + 1):
        before, number = serving(small), 2 + kill
        declare(small, number)
        _kill_after(small, chance.uniform(0.1, whole), alone=chance.random() < 0.5)
        allowed = {name: {before.get(name, number), number} for name in STACKS}
        wait(lambda: _within(serving(small), allowed), 30, f"after kill {kill} all serve, one of {allowed}")  # noqa: B023
        if kill % 2 == 0:
            converges(small, number)


def _within(now: dict[str, int], allowed: dict[str, set[int]]) -> bool:
    return now.keys() == allowed.keys() and all(now[name] in allowed[name] for name in now)


def _kill_after(mesh: Small, seconds: float, *, alone: bool) -> None:
    """alone: not what the process started. That ends by itself, and is waited for."""
    process = mesh.start("apply", "-y")
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False).stdout.split()
        process.kill()
        for pid in children if not alone else []:
            subprocess.run(["kill", "-9", pid], check=False, capture_output=True)
        wait(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in children), 90, "the end of what it started")
    finally:
        process.communicate()


def test_two_laptops_at_once_never_work_on_one_host_together(small: Small) -> None:
    folder = small.folder.with_name("second")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(small.folder, folder)
    second = Small(small.lab, folder)
    declare(small, 2)
    declare(second, 3)
    processes = [small.start("apply", "-y"), second.start("apply", "-y")]
    said = ["".join(process.communicate(timeout=120)) for process in processes]
    codes = [process.returncode for process in processes]
    assert 1 in codes, said
    for code, output in zip(codes, said, strict=True):
        assert code in {0, 1}, output
        if code:
            failed(code, output)
            assert "locked by another apply: " in output or "another run has ended here since this one looked" in output, output
    now = serving(small)
    assert now["one"] == now["two"] in {2, 3}, "a host is one laptop's or the other's"
    assert now["three"] == now["four"] in {2, 3}
    converges(small, 2)


def test_no_image_no_health_and_no_answer_keep_the_old_release_and_the_others_go_on(small: Small) -> None:
    """An image that does not exist, a container that never gets healthy, a healthy one whose probe fails: in one apply."""
    folder = small.folder / "own" / "probed"
    _probed(small, "/")
    small.stacks["probed"] = "nas"
    try:
        small.write()
        small.apply()
        asked = "docker ps -q --no-trunc --filter name=probed-web-1"
        assert small.sh("nas", asked)
        repo = small.image.rpartition(":")[0]
        sick = {"test": ["CMD", "false"], "interval": "1s", "retries": 2}
        declare(small, 2, one={"image": f"{repo}:0.0.0-nowhere"}, three={"healthcheck": sick})
        _probed(small, "/nowhere")
        output = fails(small)
        assert "cannot be pulled" in output
        assert f"{repo}:0.0.0-nowhere" in output
        assert "three-web-1 is unhealthy" in output
        assert "/nowhere: it answers 404" in output
        assert output.count("its previous release runs again") == 2
        assert "failed: nas/one, nas/probed, vm-docker/three" in output
        assert serving(small) == all_at(2, one=1, three=1)
        assert small.sh("nas", asked)
        _probed(small, "/")
        converges(small, 2)
    finally:
        small.stacks.pop("probed", None)
        shutil.rmtree(folder)
        small.write()


def _probed(mesh: Small, path: str) -> None:
    folder = mesh.folder / "own" / "probed"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stack.py").write_text(STACK_WITH_PROBE.format(image=mesh.image, port=PROBE_PORT, path=path))
    (folder / "compose.yaml.j2").write_text(TEMPLATE + f"    environment: {{PROBE: '{path}'}}\n")


def test_a_file_that_cannot_be_replaced_leaves_the_old_release_serving(small: Small) -> None:
    """Immutable where the file system knows that; else a mount stands on the file, which keeps it in its place just as well."""
    page = f"{ROOT}/stacks/one/page.html"
    small.sh("nas", f"chattr +i {page} 2>/dev/null || {{ mount --bind {page} {page} && mount -o remount,ro,bind {page}; }}")
    try:
        declare(small, 2)
        output = fails(small)
        assert "its files could not be put in place" in output
        assert page in output
        assert "its previous release runs again" in output
        assert serving(small) == all_at(2, one=1)
        assert small.sh("nas", f"cat {page}") == "page 1\n"
    finally:
        small.sh("nas", f"chattr -i {page} 2>/dev/null || umount {page}")
    converges(small, 2)


def test_a_volume_of_somebody_elses_with_our_name_is_not_used(small: Small) -> None:
    small.sh(
        "vm-docker", "docker volume create three_data && echo theirs >$(docker volume inspect -f '{{.Mountpoint}}' three_data)/f"
    )
    try:
        small.volumes["three"] = ["data"]
        mounts = ["./page.html:/www/page.html:ro", "data:/data"]
        declare(small, 2, three={"volumes": mounts})
        output = fails(small)
        assert "vm-docker/three" in output
        assert "the volume three_data is there already and somebody's own" in output
        assert "name it differently in compose.yaml" in output
        assert serving(small) == all_at(2, three=1)
        compose = small.folder / "own" / "three" / "compose.yaml"
        data = yaml.safe_load(compose.read_text())
        compose.write_text(yaml.safe_dump(data | {"volumes": {"data": {"name": "small-three"}}}))
        small.apply()
        assert serving(small) == all_at(2)
        assert small.sh("vm-docker", "cat $(docker volume inspect -f '{{.Mountpoint}}' three_data)/f") == "theirs\n"
    finally:
        small.volumes.pop("three", None)
        declare(small, 3)
        small.apply()
        small.sh("vm-docker", "docker volume rm -f three_data small-three")
    converges(small, 3)
