"""apply when things go wrong, on real hosts: unreachable, dead daemon, interrupted, killed, unhealthy, removed, moved."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from labctl import Lab

from tests.lab.small import NO_SUCH_ADDRESS, ROOT, Small, fresh, wait

pytestmark = pytest.mark.lab
SLOW = {"test": ["CMD", "test", "-e", "/ready"], "interval": "1s", "retries": 100}
"""Healthy once somebody makes /ready in the container."""


@pytest.fixture
def small(lab: Lab, tmp_path: Path) -> Iterator[Small]:
    with fresh(lab, tmp_path / "inventory") as mesh:
        yield mesh


def test_an_unreachable_host_does_not_keep_the_others_from_being_applied(small: Small) -> None:
    small.hosts["gpu-box"] = {"address": NO_SUCH_ADDRESS}
    small.stack("one", "gpu-box")
    small.stack("two", "nas")
    code, output = small.mesh("apply", "-y")
    assert code == 1
    assert "gpu-box: cannot tell what is there" in output
    assert "not reachable" in output
    assert "nas verified" in output
    assert "two-web-1" in small.sh("nas", "docker ps --format '{{.Names}}'")
    code, output = small.mesh("drift")
    assert code == 1, "a host that cannot be read is not a host without drift"


def test_a_changed_host_key_stops_everything_about_that_host(small: Small) -> None:
    small.stack("one", "nas")
    known = small.folder / "known_hosts"
    address, other = small.lab.hosts["nas"].address, small.lab.hosts["vm-docker"].address
    keys = [line.split(maxsplit=1)[1] for line in known.read_text().splitlines() if other in line.split()[0].split(",")]
    known.write_text("".join(f"{address} {key}\n" for key in keys))
    code, output = small.mesh("apply", "-y", "--host", "nas")
    assert code == 1
    assert "host key has changed" in output
    assert "mesh host trust nas" in output


def test_a_dead_daemon_is_an_error_that_names_it_and_never_an_empty_host(small: Small) -> None:
    small.stack("one", "nas")
    small.stack("two", "vm-docker")
    small.apply()
    small.sh("nas", "systemctl stop docker.socket docker.service")
    try:
        small.stack("two", "vm-docker", environment={"ROUND": "2"})
        code, output = small.mesh("apply", "-y")
        assert code == 1
        assert "nas: cannot tell what is there" in output
        assert "Cannot connect to the Docker daemon" in output
        assert "has no container" not in output
        assert "vm-docker verified" in output
        assert small.mesh("plan")[0] == 1
        assert small.mesh("drift")[0] == 1
    finally:
        small.sh("nas", "systemctl start docker.service")


def test_an_interrupted_apply_releases_its_lock_and_the_next_one_finishes(small: Small) -> None:
    small.stack("slow", "nas", healthcheck=SLOW)
    process = small.start("apply", "-y")
    small.until("nas", "docker ps --format '{{.Names}}' | grep -q slow-web-1")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stdout + stderr
    assert "lock is released" in stdout
    assert small.sh("nas", f"ls {ROOT}").split() == ["journal.jsonl", "stacks"]
    assert json.loads(small.sh("nas", f"tail -n 1 {ROOT}/journal.jsonl"))["finished"] is False
    assert small.mesh("drift")[0] == 2, "a half-finished apply is drift"
    _ready_soon(small, "slow-web-1")
    small.apply()
    assert small.mesh("drift")[0] == 0


def test_a_killed_apply_is_ended_and_finished_by_the_next_one(small: Small) -> None:
    small.stack("dying", "nas", healthcheck=SLOW)
    process = small.start("apply", "-y")
    small.until("nas", "docker ps --format '{{.Names}}' | grep -q dying-web-1")
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout.split()
    for pid in (str(process.pid), *children):
        subprocess.run(["kill", "-9", pid], check=True)
    process.communicate(timeout=30)
    killed = small.sh("nas", f"cat {ROOT}/lock/holder").strip()
    second = small.start("apply", "-y")
    wait(
        lambda: second.poll() is not None or killed not in small.sh("nas", f"cat {ROOT}/lock/holder || true"), 60, "the takeover"
    )
    _ready_soon(small, "dying-web-1")
    stdout, stderr = second.communicate(timeout=120)
    assert second.returncode == 0, stdout + stderr
    assert f"released the lock of an apply that died ({killed})" in stdout
    assert small.mesh("drift")[0] == 0


def test_a_host_that_somebody_else_applies_is_refused_and_says_who(small: Small) -> None:
    small.stack("one", "nas")
    small.sh("nas", f"mkdir -p {ROOT}/lock && echo 'run9 other@desk since today pid 1 on desk' >{ROOT}/lock/holder")
    code, output = small.mesh("apply", "-y")
    assert code == 1
    assert "locked by another apply: run9 other@desk" in output
    assert small.sh("nas", "docker ps -aq --filter label=mesh.name=small") == ""


def _ready_soon(small: Small, container: str) -> None:
    """Make the slow stack healthy once the next apply has it up again."""
    script = f"for i in $(seq 100); do docker exec {container} touch /ready; sleep 0.2; done"
    small.sh("nas", f"nohup sh -c '{script}' >/dev/null 2>&1 </dev/null &")


def test_a_release_that_is_not_healthy_goes_back_and_the_run_says_which_and_why(small: Small) -> None:
    small.stack("web", "nas", environment={"ROUND": "1"})
    small.stack("fine", "nas")
    small.apply()
    broken = ["sh", "-c", "echo the last words; exit 7"]
    small.stack("web", "nas", environment={"ROUND": "2"}, command=broken)
    small.stack("fine", "nas", environment={"ROUND": "2"})
    code, output = small.mesh("apply", "-y")
    assert code == 1
    assert "its previous release runs again" in output
    assert "the last words" in output
    assert "failed: nas/web" in output
    environment = "docker inspect --format '{{.Config.Env}} {{.State.Status}}' "
    assert "ROUND=1" in small.sh("nas", f"{environment} web-web-1")
    assert "running" in small.sh("nas", f"{environment} web-web-1")
    assert "ROUND=2" in small.sh("nas", f"{environment} fine-web-1"), "the stack beside it is applied all the same"
    results = json.loads(small.sh("nas", f"tail -n 1 {ROOT}/journal.jsonl"))["stacks"]
    assert {name: each["result"] for name, each in results.items()} == {"web": "back", "fine": "up"}
    assert small.mesh("drift")[0] == 2


def test_an_image_that_cannot_be_pulled_stops_nothing(small: Small) -> None:
    small.stack("web", "nas")
    small.apply()
    before = small.sh("nas", "docker ps -q --no-trunc --filter name=web-web-1")
    repo = small.image.rpartition(":")[0]
    small.stack("web", "nas", image=f"{repo}:0.0.0-nowhere")
    code, output = small.mesh("apply", "-y")
    assert code == 1
    assert "cannot be pulled" in output
    assert small.sh("nas", "docker ps -q --no-trunc --filter name=web-web-1") == before


def test_a_stack_that_left_the_spec_is_brought_down_and_keeps_its_volume(small: Small) -> None:
    small.stack("keep", "nas")
    folder = small.folder / "own" / "gone"
    small.stack("gone", "nas", volumes=["small-data:/data"])
    compose = (folder / "compose.yaml").read_text()
    (folder / "compose.yaml").write_text(compose + "volumes: {small-data: {name: small-data}}\n")
    small.apply()
    small.drop("gone")
    output = small.apply()
    assert "stack gone is not in the spec" in output
    assert small.sh("nas", "docker ps -a --filter label=mesh.stack=gone -q") == ""
    assert "small-data" in small.sh("nas", "docker volume ls -q")
    assert small.mesh("drift")[0] == 0


def test_a_stack_that_moves_runs_on_the_new_host_alone(small: Small) -> None:
    small.stack("web", "nas")
    small.apply()
    small.stack("web", "vm-docker")
    output = small.apply()
    assert "stack web is on vm-docker now" in output
    assert small.sh("nas", "docker ps -aq --filter label=mesh.name=small") == ""
    assert small.sh("vm-docker", "docker ps -q --filter label=mesh.name=small")


def test_a_user_who_is_not_root_applies_by_sudo(small: Small) -> None:
    key = small.hosts.setdefault("nas", {})
    key["ssh"] = {"user": "ops", "key": str(small.lab.key)}
    small.stack("web", "nas", files={"page.html": "hello\n"}, volumes=["./page.html:/www/page.html:ro"])
    small.apply()
    assert small.sh("nas", f"stat -c '%U %a' {ROOT}/stacks/web/page.html").split() == ["root", "644"]
    assert small.mesh("drift")[0] == 0


def test_apply_without_a_terminal_and_without_y_changes_nothing(small: Small) -> None:
    small.stack("web", "nas")
    code, output = small.mesh("apply")
    assert code == 1
    assert "no terminal" in output
    assert small.sh("nas", "docker ps -aq --filter label=mesh.name=small") == ""


def test_only_the_named_stack_is_applied(small: Small) -> None:
    small.stack("one", "nas")
    small.stack("two", "nas")
    small.apply("--stack", "one")
    assert small.sh("nas", "docker ps --filter label=mesh.name=small --format '{{.Names}}'").split() == ["one-web-1"]
    assert small.mesh("drift", "--stack", "one")[0] == 0
    assert small.mesh("drift")[0] == 2
