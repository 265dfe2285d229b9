"""The adapter to pyinfra: runs deploys/site.py in a process of its own and hears how it goes.

The command is what an operator would type, `pyinfra inventory/homelab.py deploys/site.py`. A process of its own because
pyinfra wants the interpreter patched by gevent from the start; and so that nothing of it is imported when there is nothing
to do.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import IO, Any

from mesh.inventory import Inventory
from mesh.live.holder import Holder
from mesh.live.parallel import side_by_side
from mesh.live.remote import Remote
from mesh.live.ssh import Target, run_script
from mesh.paths import DEPLOYS, INVENTORY, PROJECT
from mesh.state.observed import Observed, ObservedHost, Unknown
from mesh.state.work import BackTo

TICK_SECONDS = 1.0
_PATIENCE_SECONDS = 10
"""How long an interrupted pyinfra may take to end before it is killed."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on a host. `kind`: started, progress, done, stopped, failed, locked, ending; `tick` for a second's
    silence.

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


class Deploys:
    """One run of the deploys, or of taking stacks back (host -> stack -> its release to go back to).

    pyinfra starts at once and loads; from `connect` on it connects, while the operator reads the plan; nothing is done before
    `go`. Use it with `with`: what has not begun by then never begins.
    """

    def __init__(
        self,
        inventory: Inventory,
        *,
        run: str,
        stacks: Collection[str] = (),
        rollback: Mapping[str, Mapping[str, BackTo]] | None = None,
    ) -> None:
        self._inventory, self._run = inventory, run
        self._hosts: Collection[str] = ()
        self._events, events = os.pipe()
        go, sign = os.pipe()
        environment = os.environ | {
            "MESH_INVENTORY": str(inventory.dir.resolve()),
            "MESH_RUN": run,
            "MESH_STACKS": ",".join(stacks),
            "MESH_EVENTS": str(events),
            "MESH_GO": str(go),
            "MESH_ROLLBACK": json.dumps(rollback or {}, default=asdict),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])),
        }
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pyinfra", "-y", str(INVENTORY / "homelab.py"), str(DEPLOYS / "site.py")],
            cwd=PROJECT,
            env=environment,
            pass_fds=[events, go],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is for us alone to handle: pyinfra would end with exit code 0
        )
        os.close(events)
        os.close(go)
        self._sign = os.fdopen(sign, "wb")
        self._listens = False

    def __enter__(self) -> Deploys:
        return self

    def __exit__(self, *_: object) -> None:
        _stop(self._process)
        self._log.close()
        with suppress(BrokenPipeError):
            self._sign.close()
        if not self._listens:
            os.close(self._events)

    def connect(self, hosts: Collection[str]) -> None:
        """Name the hosts, to which pyinfra connects then."""
        self._hosts = hosts
        self._tell({name: self._inventory.reach[name] for name in hosts})

    def _tell(self, what: object) -> None:
        with suppress(BrokenPipeError):  # it has died: its log says why
            pickle.dump(what, self._sign)
            self._sign.flush()

    def go(self, observed: Observed, listen: Callable[[Event], None]) -> Finished:
        """Do the work. observed: what the plan was made from; hosts that are not in it are looked at again.

        An interruption ends the work on the hosts and releases their locks before it goes on up.
        """
        self._listens = True
        try:
            self._tell((self._inventory.compiled, observed))
            with os.fdopen(self._events, "rb") as events:
                for event in _events(events):
                    listen(event)
            finished = Finished(self._process.wait(), _tail(self._log))
            if finished.code:  # a host that failed half-way still has its lock
                self._abort(listen)
            return finished
        except BaseException:
            _stop(self._process)
            self._abort(listen)
            raise

    def _abort(self, listen: Callable[[Event], None]) -> None:
        """End what the run still does on its hosts and release its locks. The next apply takes over what cannot be reached."""
        answers = side_by_side({name: partial(_end_run, self._inventory, name, self._run) for name in self._hosts})
        for name, answer in answers.items():
            if isinstance(answer, Unknown):
                why = f"its lock may still be held ({answer.why}); the next apply takes it over"
                listen(Event("failed", name, data={"why": why}))
            elif "released" in answer:
                listen(Event("released", name))


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


def release_dead_locks(inventory: Inventory, observed: Observed) -> list[tuple[str, str]]:
    """End what runs that have provably died left on the hosts. Host and holder of every lock that is free again."""
    holders = {
        name: holder
        for name, host in observed.hosts.items()
        if isinstance(host, ObservedHost) and (holder := Holder.parse(host.lock)) and holder.dead
    }
    answers = side_by_side({name: partial(_end_run, inventory, name, each.run) for name, each in holders.items()})
    return [(name, str(holders[name])) for name, answer in answers.items() if not isinstance(answer, Unknown)]


def _end_run(inventory: Inventory, host: str, run: str) -> str | Unknown:
    """Stop a run on one host from outside, whatever it is doing, and release its lock."""
    reach = inventory.reach[host]
    script = Remote(inventory.root, reach.docker, run).script("abort")
    return run_script(Target(host, reach, inventory.dir), script)
