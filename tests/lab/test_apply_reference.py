"""The reference mesh on the lab: applied twice, seen by pyinfra itself, and its secrets nowhere to be seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from labctl import Lab

from mesh.inventory import open_inventory
from mesh.paths import PROJECT
from tests.lab.conftest import Applied

pytestmark = pytest.mark.lab


def test_a_second_apply_finds_nothing_and_does_not_even_load_pyinfra(applied: Applied) -> None:
    command = [sys.executable, "-P", "-X", "importtime", "-m", "mesh", "-C", str(applied.folder), "apply", "-y"]
    done = subprocess.run(command, capture_output=True, text=True, env=applied.env, cwd=PROJECT, check=False)
    assert done.returncode == 0, done.stderr
    assert "nothing to change" in done.stdout
    for module in ("pyinfra", "paramiko", "gevent"):
        assert f" {module}\n" not in done.stderr, module


def test_the_plan_after_an_apply_is_empty_for_programs_too(applied: Applied) -> None:
    done = applied.mesh("plan", "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert (data["changes"], data["unknown"]) == ([], [])


def pyinfra(applied: Applied, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pyinfra", *arguments, "inventory/homelab.py", "deploys/site.py"]
    environment = {**applied.env, "MESH_INVENTORY": str(applied.folder)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=PROJECT, timeout=300, check=False)


def test_pyinfras_own_dry_run_shows_no_change_twice(applied: Applied) -> None:
    for _ in range(2):
        done = pyinfra(applied, "--dry", "--json")
        assert done.returncode == 0, done.stderr
        operations = json.loads(done.stdout)["plan"]
        assert operations
        assert [each["name"] for each in operations if each["hosts_with_change"] or each["hosts_with_conditional_change"]] == []


def test_pyinfra_alone_mends_what_was_broken(lab: Lab, applied: Applied) -> None:
    lab.ssh("nas", "docker rm -f whoami-whoami-1")
    done = pyinfra(applied, "-y")
    assert done.returncode == 0, done.stderr
    assert applied.mesh("drift").returncode == 0


def test_pyinfra_fails_a_host_whose_daemon_is_dead(lab: Lab, applied: Applied) -> None:
    lab.ssh("nas", "systemctl stop docker.socket docker.service")
    try:
        done = pyinfra(applied, "-y")
        assert done.returncode == 1
        assert "Cannot connect to the Docker daemon" in done.stderr
    finally:
        lab.ssh("nas", "systemctl start docker.service")


class Watch:
    """Reads the command lines of every process of this machine, hosts of the lab included, as long as it runs."""

    def __init__(self, values: set[str]) -> None:
        self.values, self.found, self.looks, self._stop = values, set[str](), 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            self.looks += 1
            for process in Path("/proc").iterdir():
                try:
                    line = (process / "cmdline").read_bytes().decode("utf-8", "replace") if process.name.isdigit() else ""
                except OSError:
                    continue
                self.found |= {line[:60] for value in self.values if value in line}


def test_no_secret_shows_in_outputs_plans_compose_files_inspections_or_command_lines(lab: Lab, applied: Applied) -> None:
    store = open_inventory(applied.folder).secrets
    values = {store.value(name) for name in store.names()}
    assert len(values) > 8
    secret_files = "find /opt/mesh -path '*/secrets/*' -type f"
    outputs: dict[str, str] = {}
    lab.ssh("vm-docker", f"for f in $({secret_files}); do echo x >>$f; done; docker rm -f qdrant-qdrant-1")
    with Watch(values) as watch:
        for arguments in (("plan",), ("plan", "--json"), ("drift", "--format", "junit"), ("drift",), ("apply", "-y")):
            done = applied.mesh(*arguments)
            outputs[" ".join(arguments)] = done.stdout + done.stderr
    assert done.returncode == 0, outputs["apply -y"]
    assert watch.looks > 10
    assert watch.found == set()
    lab.ssh("vm-docker", "docker rm -f qdrant-qdrant-1")
    outputs["pyinfra"] = "".join((ran := pyinfra(applied, "-y", "-vvv", "--debug")).stdout + ran.stderr)
    for host in lab.hosts:
        outputs[f"inspect on {host}"] = lab.ssh(host, "docker inspect $(docker ps -aq)").stdout
        outputs[f"files on {host}"] = lab.ssh(host, "find /opt/mesh -type f ! -path '*/secrets/*' -exec cat {} +").stdout
        outputs[f"logs of {host}"] = lab.ssh(
            host, "for c in $(docker ps -aq); do docker logs $c 2>&1; done; journalctl -q -b"
        ).stdout
        loose = lab.ssh(host, f"{secret_files} ! -perm 0400; find /opt/mesh -name secrets -type d ! -perm 0700").stdout
        assert loose == "", "files with secrets are for root alone"
    for where, text in outputs.items():
        assert text.strip(), where
        leaked = {name for name in store.names() if store.value(name) in text}
        assert not leaked, f"{leaked} in {where}"


def test_every_host_gets_only_the_secrets_of_its_own_stacks(lab: Lab, applied: Applied) -> None:
    store = open_inventory(applied.folder).secrets
    for host in ("gpu-box", "nas"):
        text = lab.ssh(host, "find /opt/mesh -type f -exec cat {} +").stdout
        assert not {name for name in store.names() if store.value(name) in text}


def test_the_journal_says_who_applied_what(lab: Lab, applied: Applied) -> None:  # noqa: ARG001
    last = json.loads(lab.ssh("nas", "tail -n 1 /opt/mesh/journal.jsonl").stdout)
    assert last["finished"] is True
    assert last["by"].startswith(f"{os.environ.get('USER', 'root')}@")
