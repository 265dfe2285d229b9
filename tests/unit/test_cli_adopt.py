"""`mesh adopt` from end to end, on a host that is this machine: its scripts run in sh, against a stub of docker."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clikit import Ran

from mesh.adopt import host as adopt_host
from mesh.adopt import write as adopt_write
from mesh.inventory import open_inventory
from mesh.live.ssh import Target
from mesh.state.diff import diff
from mesh.state.observed import Observed, ObservedContainer, ObservedFile, ObservedHost, Unknown
from mesh.state.parse import read_release

Run = Callable[..., Ran]
DIGEST = f"sha256:{'1' * 64}"
COMPOSE = """\
services:
  web: # mine
    image: nginx:1.29.1
    environment: {PASSWORD: hunter2-hunter2}
    volumes: [./data:/data]
"""
STUB = """#!/bin/sh
case "$*" in
"ps -aq"*) echo one ;;
*"image inspect"*) cat "$(dirname "$0")/images" ;;
*"{{.Image}}"*) echo sha256:img ;;
*"config --hash"*) echo "web hash" ;;
*inspect*) cat "$(dirname "$0")/containers" ;;
esac
"""


class Closet:
    """An inventory whose one host is this machine."""

    def __init__(self, folder: Path, inventory: Path) -> None:
        self.folder, self.inventory, self.root, self.home = folder, inventory, folder / "opt", folder / "srv" / "app"
        docker = folder / "docker"
        docker.write_text(STUB)
        docker.chmod(0o755)
        (inventory / "mesh.yaml").write_text(
            f"mesh: closet # my mesh\nroot: {self.root}\nhosts:\n  box: {{address: 127.0.0.1, docker: {docker}}}\n"
        )
        (self.home / "data").mkdir(parents=True)
        (self.home / "compose.yaml").write_text(COMPOSE)
        self.labels = {
            "com.docker.compose.project": "app",
            "com.docker.compose.service": "web",
            "com.docker.compose.config-hash": "hash",
            "com.docker.compose.project.working_dir": str(self.home),
            "com.docker.compose.project.config_files": str(self.home / "compose.yaml"),
        }
        self.runs()
        (folder / "images").write_text(json.dumps({"id": "sha256:img", "digests": [f"nginx@{DIGEST}"]}) + "\n")

    def runs(self, **labels: str) -> None:
        container = {
            "id": "one",
            "name": "/app-web-1",
            "labels": self.labels | labels,
            "image": "nginx:1.29.1",
            "image_id": "sha256:img",
            "state": "running",
            "env": ["PASSWORD=hunter2-hunter2"],
        }
        (self.folder / "containers").write_text(json.dumps(container) + "\n")

    @property
    def observed(self) -> ObservedHost:
        """The host after the adoption: the files and the record that are there, and the container as it ran before."""
        stacks = self.root / "stacks"
        files = {}
        for path in stacks.rglob("*"):
            if path.is_file():
                import hashlib

                mode = stat.S_IMODE(path.stat().st_mode)
                files[str(path)] = ObservedFile(hashlib.sha256(path.read_bytes()).hexdigest(), mode, 0, 0)
        release = read_release((stacks / "app/.release.json").read_text())
        assert release is not None
        container = ObservedContainer(
            "one", "app-web-1", "app", "web", "nginx:1.29.1", "sha256:img", "running", "", self.labels, (), "hash"
        )
        return ObservedHost("box", files, (container,), {f"nginx:1.29.1@{DIGEST}": "sha256:img"}, {"app": release})


def here(_: Target, script: str) -> str | Unknown:
    done = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, check=False, timeout=30)
    return Unknown(done.stderr) if done.returncode else done.stdout


@pytest.fixture
def closet(tmp_path: Path, small_inventory: Path, run_mesh: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Closet]:
    monkeypatch.setattr(adopt_host, "run_script", here)
    monkeypatch.setattr(adopt_write, "run_script", here)
    found = Closet(tmp_path, small_inventory)
    ran = run_mesh("secrets", "init", "-C", small_inventory)
    assert ran.code == 0, ran.err
    yield found


def plan(closet: Closet, seen: ObservedHost) -> list[tuple[str, str, str]]:
    inventory = open_inventory(closet.inventory)
    found = diff(inventory.deployment(), Observed({"box": seen}), inventory.secrets.value)
    return [(each.subject, each.name, each.why) for each in found.changes]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_plan_after_it_is_empty(closet: Closet, run_mesh: Run) -> None:
    ran = run_mesh("adopt", "box", "-y", "-C", closet.inventory)
    assert ran.code == 0, ran.said
    assert "hunter2" not in ran.said
    assert run_mesh("check", "-C", closet.inventory).code == 0
    assert plan(closet, closet.observed) == []
    spec = (closet.inventory / "mesh.yaml").read_text()
    assert spec.startswith("mesh: closet # my mesh\n")
    assert "  app: {on: box, source: stacks/app, env: {PASSWORD: secret:app_password}}" in spec.replace('"', "")
    assert open_inventory(closet.inventory).secrets.value("app_password") == "hunter2-hunter2"
    assert (closet.root / "stacks/app/.env").stat().st_mode & 0o777 == 0o400
    assert not (closet.root / "lock").exists()


def test_a_change_makes_the_adopted_container_anew_and_a_hand_made_one_is_not_taken_for_it(closet: Closet, run_mesh: Run) -> None:
    run_mesh("adopt", "box", "-y", "-C", closet.inventory)
    seen = closet.observed
    other = replace(seen.containers[0], config_hash="another")
    assert [each[:2] for each in plan(closet, replace(seen, containers=(other,)))] == [("service", "web")]
    stopped = replace(seen.containers[0], state="exited")
    assert [each[:2] for each in plan(closet, replace(seen, containers=(stopped,)))] == [("service", "web")]
    file = closet.inventory / "stacks/app/compose.yaml"
    file.write_text(file.read_text().replace("/data]", "/data2]"))
    assert ("service", "web") in [each[:2] for each in plan(closet, seen)]


def test_another_file_of_the_stack_brings_the_labels_to_all_of_it(closet: Closet, run_mesh: Run) -> None:
    run_mesh("adopt", "box", "-y", "-C", closet.inventory)
    seen = closet.observed
    (closet.inventory / "stacks/app/notes.txt").write_text("x")
    assert [(subject, name) for subject, name, _ in plan(closet, seen)] == [
        ("file", f"{closet.root}/stacks/app/notes.txt"),
        ("service", "web"),
    ]


def test_a_dry_run_writes_nothing(closet: Closet, run_mesh: Run) -> None:
    before = contents(closet.inventory)
    ran = run_mesh("adopt", "box", "--dry-run", "-C", closet.inventory)
    assert ran.code == 0, ran.said
    assert "PASSWORD -> secret:app_password" in ran.out
    assert contents(closet.inventory) == before
    assert not closet.root.exists()


@pytest.mark.parametrize("step", ["write_lock", "_write", "write_host", "write_inventory"])
def test_cut_short_anywhere_the_next_run_does_it(
    closet: Closet, run_mesh: Run, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    import mesh.cli.adopt as verb

    class Killed(BaseException):
        pass

    whole: Any = getattr(verb, step)

    def cut(*arguments: Any) -> None:
        whole(*arguments) if step == "write_host" else None
        raise Killed

    spec = (closet.inventory / "mesh.yaml").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(verb, step, cut)
        with pytest.raises(Killed):
            verb.run(closet.inventory, "box", stacks=(), dry_run=False, yes=True)
    assert (closet.inventory / "mesh.yaml").read_bytes() == spec
    assert list(closet.inventory.glob("stacks/*")) == []
    ran = run_mesh("adopt", "box", "-y", "-C", closet.inventory)
    assert ran.code == 0, ran.said
    assert plan(closet, closet.observed) == []


def test_a_second_run_finds_nothing_new(closet: Closet, run_mesh: Run) -> None:
    run_mesh("adopt", "box", "-y", "-C", closet.inventory)
    before = contents(closet.inventory)
    ran = run_mesh("adopt", "box", "-y", "-C", closet.inventory)
    assert (ran.code, ran.out.strip()) == (0, "nothing to adopt on box")
    assert contents(closet.inventory) == before


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda closet: (closet.home / "compose.yaml").unlink(), "is gone"),
        (lambda closet: (closet.home / "compose.yaml").write_text("services: {web: {build: .}}"), "build:"),
        (lambda closet: (closet.home / "compose.yaml").write_text("services: {web: ["), "not valid YAML"),
        (lambda closet: closet.runs(**{"com.docker.compose.project.config_files": "/a,/b"}), "2 files"),
        (lambda closet: closet.runs(**{"com.docker.swarm.service.name": "x"}), "Swarm"),
        (lambda closet: closet.runs(**{"com.docker.compose.project": ""}), "without Compose"),
        (lambda closet: (closet.root / "stacks/app").mkdir(parents=True), "is there already"),
    ],
)
def test_what_cannot_be_adopted_is_left_with_the_reason(
    closet: Closet, run_mesh: Run, change: Callable[[Closet], object], why: str
) -> None:
    change(closet)
    ran = run_mesh("adopt", "box", "-y", "-C", closet.inventory)
    assert ran.code == 0, ran.said
    assert why in ran.out
    assert "nothing to adopt" in ran.out


def test_a_container_of_the_mesh_is_not_found(closet: Closet, run_mesh: Run) -> None:
    closet.runs(**{"mesh.name": "other"})
    assert run_mesh("adopt", "box", "-C", closet.inventory).out.strip() == "nothing to adopt on box"


def test_mistakes_of_the_operator_are_said(closet: Closet, run_mesh: Run) -> None:
    ran = run_mesh("adopt", "bos", "-C", closet.inventory)
    assert (ran.code, "no host bos" in ran.err, "box" in ran.err) == (1, True, True)
    ran = run_mesh("adopt", "box", "--stack", "ap", "-C", closet.inventory)
    assert (ran.code, "no project ap" in ran.err, "app" in ran.err) == (1, True, True)


def test_what_its_services_read_has_to_be_there(closet: Closet, run_mesh: Run) -> None:
    (closet.home / "compose.yaml").write_text("services: {web: {image: 'nginx:1.29.1', env_file: gone.env}}\n")
    ran = run_mesh("adopt", "box", "-y", "-C", closet.inventory)
    assert (ran.code, "nothing to adopt" in ran.out, "gone.env, which is not in" in ran.out) == (0, True, True)
    (closet.home / ".web.env").write_text("A=b\n")
    (closet.home / "compose.yaml").write_text("services: {web: {image: 'nginx:1.29.1', env_file: .web.env}}\n")
    ran = run_mesh("adopt", "box", "-y", "-C", closet.inventory)
    assert ran.code == 0, ran.said
    assert plan(closet, closet.observed) == []
