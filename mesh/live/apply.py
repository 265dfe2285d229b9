"""The adapter to pyinfra: runs deploys/site.py in a process of its own and hears how it goes.

The command is what an operator would type, `pyinfra inventory/homelab.py deploys/site.py`. A process of its own because
pyinfra wants the interpreter patched by gevent from the start; and so that nothing of it is imported when there is nothing
to do.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import IO, Any

from mesh.inventory import Inventory
from mesh.live.holder import Holder
from mesh.live.parallel import side_by_side
from mesh.live.remote import Remote
from mesh.live.ssh import Target, run_script
from mesh.paths import DEPLOYS, INVENTORY, PROJECT
from mesh.state.deployment import Deployment
from mesh.state.observed import Observed, ObservedHost, Unknown
from mesh.state.work import BackTo

TICK_SECONDS = 1.0
_PATIENCE_SECONDS = 10
"""How long an interrupted pyinfra may take to end before it is killed."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on a host. `kind`: started, progress, done, stopped, failed, locked; `tick` for a second's silence.

    subject: a stack, an image or a model, as `doing` says; empty for the host itself.
    """

    kind: str
    host: str = ""
    subject: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finished:
    """How pyinfra ended, and the last of what it wrote."""

    code: int
    log: tuple[str, ...]


def run_deploys(
    inventory: Inventory,
    deployment: Deployment,
    *,
    run: str,
    hosts: Collection[str],
    stacks: Collection[str] = (),
    rollback: Mapping[str, Mapping[str, BackTo]] | None = None,
    listen: Callable[[Event], None],
) -> Finished:
    """Apply to the named hosts, or take stacks back (host -> stack -> its release to go back to).

    An interruption ends the work on the hosts and releases their locks before it goes on up.
    """
    read, write = os.pipe()
    environment = os.environ | {
        "MESH_INVENTORY": str(inventory.dir.resolve()),
        "MESH_RUN": run,
        "MESH_STACKS": ",".join(stacks),
        "MESH_EVENTS": str(write),
        "MESH_ROLLBACK": json.dumps(rollback or {}, default=asdict),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])),
    }
    limits = [word for host in hosts for word in ("--limit", host)]
    command = [sys.executable, "-m", "pyinfra", "-y", *limits, str(INVENTORY / "homelab.py"), str(DEPLOYS / "site.py")]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env=environment,
            pass_fds=[write],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for us alone to handle: pyinfra would end with exit code 0
        )
        os.close(write)
        try:
            with os.fdopen(read, "rb") as events:
                for event in _events(events):
                    listen(event)
            return Finished(process.wait(), _tail(log))
        except BaseException:
            _stop(process)
            _abort(inventory, deployment, run, hosts, listen)
            raise


def _events(pipe: IO[bytes]) -> Iterator[Event]:
    """Events as they come, and a tick for each second without one. Ends when the other side does."""
    pending = b""
    while True:
        ready, _, _ = select.select([pipe], [], [], TICK_SECONDS)
        if not ready:
            yield Event("tick")
            continue
        chunk = os.read(pipe.fileno(), 65536)
        if not chunk:
            return
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            data = json.loads(line)
            yield Event(data.pop("event"), data.pop("host"), data.pop("stack"), data)


def _tail(log: IO[bytes]) -> tuple[str, ...]:
    log.seek(0)
    return tuple(log.read().decode("utf-8", "replace").splitlines()[-60:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End pyinfra and whatever it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        try:
            process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def _abort(
    inventory: Inventory, deployment: Deployment, run: str, hosts: Collection[str], listen: Callable[[Event], None]
) -> None:
    """End what the run still does on its hosts and release its locks. What cannot be reached is taken over by the next apply."""
    answers = side_by_side({name: partial(_end_run, inventory, deployment, name, run) for name in hosts})
    for name, answer in answers.items():
        if isinstance(answer, Unknown):
            why = f"its lock may still be held ({answer.why}); the next apply takes it over"
            listen(Event("failed", name, data={"why": why}))
        else:
            listen(Event("released", name))


def release_dead_locks(inventory: Inventory, deployment: Deployment, observed: Observed) -> list[tuple[str, str]]:
    """End what runs that have provably died left on the hosts. Host and holder of every lock that is free again."""
    holders = {
        name: holder
        for name, host in observed.hosts.items()
        if isinstance(host, ObservedHost) and (holder := Holder.parse(host.lock)) and holder.dead
    }
    answers = side_by_side({name: partial(_end_run, inventory, deployment, name, each.run) for name, each in holders.items()})
    return [(name, str(holders[name])) for name, answer in answers.items() if not isinstance(answer, Unknown)]


def _end_run(inventory: Inventory, deployment: Deployment, host: str, run: str) -> str | Unknown:
    """Stop a run on one host from outside, whatever it is doing, and release its lock."""
    spec = inventory.mesh.hosts[host]
    script = Remote(deployment.hosts[host].root, spec.docker, run).script("abort")
    return run_script(Target(host, spec, inventory.dir), script)
