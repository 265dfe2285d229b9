"""A pyinfra run on `@fake` hosts: the operations are pyinfra's own kind, the hosts answer what a test says."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api import Config, Inventory, State
from pyinfra.api.connect import connect_all
from pyinfra.api.operation import add_op
from pyinfra.api.operations import run_ops

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))

import deploys.operations.stacks as operations
from deploys.run import Run
from mesh.state.deployment import Deployment, Reach


@dataclass
class Fleet:
    """Hosts of one run. `answer(host, call)` gives success and lines of each call of host.sh; what is called is recorded."""

    run: Run
    state: State
    answer: Callable[[str, tuple[str, ...]], tuple[bool, list[str]]] = lambda _host, call: (
        True,
        ["@up"] if call[0] == "up" else [],
    )
    calls: list[tuple[str, ...]] = field(default_factory=list)
    events: list[tuple[str, str, str]] = field(default_factory=list)

    def call(self, host: Any, _run: Run, *words: str, stdin: str = "") -> tuple[bool, list[str]]:
        self.calls.append((host.name, *words))
        assert stdin == "" or words == ("upload",)
        return self.answer(host.name, words)

    def verbs(self, host: str) -> list[str]:
        return [
            " ".join(call[1:3]) if call[1] in {"up", "rollback", "down", "pull"} else call[1]
            for call in self.calls
            if call[0] == host
        ]

    def do(self, operation: Any, host: str, *arguments: Any) -> None:
        target = self.state.inventory.get_host(host)
        add_op(self.state, operation, self.run, *arguments, host=target, name=f"{host} {operation.__name__}")

    def go(self) -> set[str]:
        """Run what was added; the names of the hosts that failed."""
        from pyinfra.api.exceptions import PyinfraError

        try:
            run_ops(self.state)
        except PyinfraError as error:
            assert "No hosts remaining" in str(error)
        return {host.name for host in self.state.failed_hosts}


def make_fleet(monkeypatch: pytest.MonkeyPatch, wanted: Deployment, responses: Mapping[str, Any] | None = None) -> Fleet:
    """A run over the hosts of a deployment, connected. responses: what `@fake` answers to pyinfra's own commands."""
    hosts = {name: Reach("10.0.0.1") for name in wanted.hosts}
    inventory: Any = SimpleNamespace(
        reach=hosts,
        secrets=SimpleNamespace(value=lambda name: f"value-of-{name}"),
        deployment=lambda **_: wanted,
        checked_deployment=lambda: wanted,
    )
    run = Run(inventory, "run1", frozenset(), "2026-01-02T03:04:05Z")
    names = [(name, {"fake_delay": 0, "fake_delay_jitter": 0, "fake_responses": dict(responses or {})}) for name in wanted.hosts]
    state = State(Inventory((names, {})), Config())
    connect_all(state)
    made = Fleet(run, state)
    monkeypatch.setattr(operations, "call", made.call)
    monkeypatch.setattr(Run, "emit", lambda _self, event, host, stack="", **_: made.events.append((event, host, stack)))
    return made
