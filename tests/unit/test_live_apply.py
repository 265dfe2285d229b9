"""The adapter to pyinfra, against a STUB of pyinfra: what it is told, what is heard from it, and how it is interrupted."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from statekit import deployment, ideal, with_host

import mesh.live.apply as adapter
from mesh.live.apply import Deploys, Event, Finished
from mesh.live.holder import this_run
from mesh.state.deployment import Reach
from mesh.state.observed import Observed, Unknown

STUB = """\
import json, os, sys, time
def emit(**event): os.write(int(os.environ["MESH_EVENTS"]), (json.dumps(event) + "\\n").encode())
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Finished, list[Event]]]:
    """Run the adapter with a pyinfra that is this program."""

    def run(program: str, listen: Callable[[Event], None] | None = None) -> tuple[Finished, list[Event]]:
        package = tmp_path / "stub" / "pyinfra"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(STUB + program)
        monkeypatch.setenv("PYTHONPATH", str(package.parent))
        events: list[Event] = []

        def hear(event: Event) -> None:
            events.append(event)
            if listen:
                listen(event)

        inventory: Any = SimpleNamespace(
            dir=tmp_path, reach={name: Reach("10.0.0.1") for name in ("vm", "box")}, root="/opt/mesh", compiled=None
        )
        with Deploys(inventory, run="run1", stacks=["litellm"]) as deploys:
            deploys.connect(["vm"])
            done = deploys.go(Observed(), hear)
        return done, events

    return run


def test_pyinfra_is_called_as_an_operator_would_and_knows_what_to_touch(start: Any, tmp_path: Path) -> None:
    program = """
import pickle
print(sys.argv[1:]); print({k: v for k, v in os.environ.items() if k.startswith("MESH_")})
told = os.fdopen(int(os.environ["MESH_GO"]), "rb")
print(pickle.load(told), pickle.load(told))
"""
    done, _ = start(program)
    arguments, environment, told = done.log
    assert told == f"{ {'vm': Reach('10.0.0.1')} } {(None, Observed())}"
    assert "inventory/homelab.py" in arguments
    assert "deploys/site.py" in arguments
    assert f"'MESH_INVENTORY': '{tmp_path}'" in environment
    assert "'MESH_RUN': 'run1', 'MESH_STACKS': 'litellm'" in environment


def test_events_are_heard_in_order_and_the_exit_code_is_pyinfras(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts: list[str] = []
    monkeypatch.setattr(adapter, "run_script", lambda _target, script: scripts.append(script.splitlines()[-1]) or "")
    program = """
emit(event="started", host="vm", stack="litellm", doing="up")
emit(event="done", host="vm", stack="litellm", doing="up", seconds=1.5)
print("the last words", file=sys.stderr)
sys.exit(1)
"""
    done, events = start(program)
    heard = [(event.kind, event.host, event.subject) for event in events if event.kind != "tick"]
    assert heard == [("started", "vm", "litellm"), ("done", "vm", "litellm")]
    assert done.code == 1
    assert done.log[-1] == "the last words"
    assert scripts[0].startswith("abort"), "a host that failed half-way does not keep its lock"


def test_an_interruption_ends_pyinfra_aborts_on_the_hosts_and_goes_on_up(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts: list[tuple[str, str]] = []
    pids: list[int] = []
    heard: list[Event] = []

    def run_script(target: Any, script: str) -> str | Unknown:
        scripts.append((target.name, script.splitlines()[-1]))
        return "released\n"

    def interrupt(event: Event) -> None:
        heard.append(event)
        if event.kind == "started":
            pids.append(event.data["pid"])
            raise KeyboardInterrupt

    monkeypatch.setattr(adapter, "run_script", run_script)
    with pytest.raises(KeyboardInterrupt):
        start('emit(event="started", host="vm", stack="x", pid=os.getpid()); time.sleep(60)', interrupt)
    assert not Path(f"/proc/{pids[0]}").exists()
    assert [name for name, _ in scripts] == ["vm"]
    assert scripts[0][1].startswith("abort")
    assert heard[-1] == Event("released", "vm")


def test_a_host_that_cannot_be_reached_any_more_is_said_to_keep_its_lock(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Event] = []

    def interrupt(event: Event) -> None:
        heard.append(event)
        if event.kind == "started":
            raise KeyboardInterrupt

    monkeypatch.setattr(adapter, "run_script", lambda *_: Unknown("no route to host"))
    with pytest.raises(KeyboardInterrupt):
        start('emit(event="started", host="vm", stack="x"); time.sleep(60)', interrupt)
    assert "the next apply takes it over" in heard[-1].data["why"]


def test_only_locks_of_runs_that_have_died_are_released(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    living = this_run("living", "t")
    dead = replace(living, run="dead", pid=ended.pid)
    scripts: list[tuple[str, str]] = []
    monkeypatch.setattr(adapter, "run_script", lambda target, script: scripts.append((target.name, script)) or "")
    inventory: Any = SimpleNamespace(
        dir=Path("/inventory"), reach={name: Reach("10.0.0.1") for name in ("vm", "box")}, root="/opt/mesh"
    )
    seen = with_host(with_host(ideal(deployment()), "vm", lock=str(dead)), "box", lock=str(living))
    assert adapter.release_dead_locks(inventory, seen) == [("vm", str(dead))]
    assert [name for name, _ in scripts] == ["vm"]
    assert "\nrun=dead\n" in scripts[0][1]
