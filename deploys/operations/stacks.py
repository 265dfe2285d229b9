"""Operations on stacks, in the order of a run: lock, pull, upload, down, up (a wave at a time), finish.

Each yields nothing where there is nothing to do. What they do on the host is in mesh/live/host.sh. A failed stack does not
end the run: it goes back to its previous release, its dependents are left alone, and `finish` fails the host.
"""

# ruff: noqa: ARG001 -- pyinfra hands over `state` with `host`, or neither

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, TypeVar

from gevent.pool import Pool
from pyinfra import host as current_host
from pyinfra.api import FunctionCommand, operation

from deploys.remote import HostLostError, call
from deploys.run import Run
from mesh.errors import MeshError
from mesh.live.holder import Holder
from mesh.live.http import HttpError, status_of
from mesh.secrets.value import redact
from mesh.state.deployment import Probe
from mesh.state.work import HostWork, StackWork, bundle

if TYPE_CHECKING:
    from pyinfra.api import Host, State

WAIT_SECONDS = 300
"""How long a stack may take to become healthy, its images being there already."""
AT_ONCE = 8
"""Commands at the same time on one host. Most of each is waiting for health checks; sshd allows ten sessions a connection."""

T = TypeVar("T")
Commands = Generator[FunctionCommand, None, None]


@operation()
def lock(run: Run, work: HostWork, holder: str, journal: str) -> Commands:
    """Take the host's lock.

    holder: who the host said has it; a run that has provably died gives way.
    journal: bytes of the host's journal when it was looked at, where that was some time ago: no run may have ended since.
    """
    if work.empty:
        current_host.noop("nothing to change")
        return
    yield FunctionCommand(_lock, (run, holder, journal), {})


def _lock(state: State, host: Host, run: Run, holder: str, journal: str) -> bool:
    known = Holder.parse(holder)
    dead = known.run if known and known.dead else ""
    try:
        succeeded, lines = call(host, run, "take_lock", dead, str(run.holder), run.verb, journal)
    except HostLostError as error:
        return _broken(run, host, error)
    if lines:
        run.emit("locked" if succeeded else "failed", host.name, why=lines[-1])
        host.log(lines[-1])
    return succeeded


@operation()
def pull(run: Run, work: HostWork) -> Commands:
    """Pull the images that are not there yet, before anything is stopped."""
    if work.pull:
        yield FunctionCommand(_pull, (run, work), {})


def _pull(state: State, host: Host, run: Run, work: HostWork) -> bool:
    def one(image: str) -> None:
        started = time.monotonic()
        run.emit("started", host.name, image, doing="pull")
        succeeded, lines = call(host, run, "pull", image)
        if succeeded:
            run.emit("done", host.name, image, doing="pull", seconds=time.monotonic() - started)
            return
        why = f"image {image} cannot be pulled: {' '.join(lines)}"
        run.emit("stopped", host.name, image, doing="pull")
        for stack in work.pull[image]:
            run.fail(host, stack, why)

    return _side_by_side(run, host, one, work.pull)


@operation()
def upload(run: Run, work: HostWork) -> Commands:
    """Carry all changed files to the host, in one go, beside what runs."""
    if work.stacks or work.removed:
        yield FunctionCommand(_upload, (run, work), {})


def _upload(state: State, host: Host, run: Run, work: HostWork) -> bool:
    try:
        files = bundle(work, run.inventory.secrets.value, mesh=run.deployment.mesh, at=run.at, by=run.by)
    except MeshError as error:
        run.emit("failed", host.name, why=str(error))
        return False
    try:
        succeeded, lines = call(host, run, "upload", stdin=files)
    except HostLostError as error:
        return _broken(run, host, error)
    if not succeeded:
        run.emit("failed", host.name, why=" ".join(lines))
    return succeeded


@operation()
def down(run: Run, work: HostWork) -> Commands:
    """Bring down the stacks that the spec no longer has. Volumes and data stay."""
    if work.removed:
        yield FunctionCommand(_down, (run, work), {})


def _down(state: State, host: Host, run: Run, work: HostWork) -> bool:
    def one(stack: str) -> None:
        started = time.monotonic()
        run.emit("started", host.name, stack, doing="down")
        succeeded, lines = call(host, run, "down", stack)
        if succeeded:
            run.emit("done", host.name, stack, doing="down", seconds=time.monotonic() - started)
        else:
            run.fail(host, stack, f"cannot be brought down: {' '.join(lines)}")

    return _side_by_side(run, host, one, [removed.name for removed in work.removed])


@operation()
def up(run: Run, work: HostWork, wave: Iterable[str]) -> Commands:
    """Bring up the changed stacks of one wave side by side, wait for their health, and ask each through its published port."""
    todo = [work.stacks[name] for name in wave if name in work.stacks]
    if todo:
        yield FunctionCommand(_up, (run, todo), {})


def _up(state: State, host: Host, run: Run, todo: list[StackWork]) -> bool:
    return _side_by_side(run, host, lambda work: _up_one(host, run, work), todo)


def _up_one(host: Host, run: Run, work: StackWork) -> None:
    stack = work.stack
    waits = [name for name in stack.after if name in run.failed]
    if stack.name in run.failed:
        return
    if waits:
        run.fail(host, stack.name, f"was not touched: it needs {', '.join(waits)}, which failed")
        return
    if work.refused:
        run.fail(host, stack.name, f"was not touched: {work.refused}")
        return
    started = time.monotonic()
    doing = "back" if work.back_to else "up"
    run.emit("started", host.name, stack.name, doing=doing)
    if work.back_to:
        _, lines = call(host, run, "revert", stack.name, str(WAIT_SECONDS), work.back_to)
    else:
        _, lines = call(host, run, "up", stack.name, str(WAIT_SECONDS), *work.recreate)
    outcome = _outcome(lines)
    if outcome == "@up" and stack.probe:
        why = _unanswered(stack.probe)
        if why:
            _, lines = call(host, run, "rollback", stack.name, str(WAIT_SECONDS))
            lines, outcome = [why, *lines], _outcome(lines)
    if outcome == "@up":
        run.emit("done", host.name, stack.name, doing=doing, seconds=time.monotonic() - started)
        return
    ends = {
        "@back": f"did not come up; its {'newer' if work.back_to else 'previous'} release runs again",
        "@stopped": "did not come up, and has no previous release that does: it is stopped",
        "@failed": "did not come up",
    }
    said = [line for line in lines if not line.startswith("@")]
    run.fail(host, stack.name, ends.get(outcome, "did not come up, and the host did not say why"), said, reason=_reason(said))


def _outcome(lines: list[str]) -> str:
    """host.sh's last word. Complaints of the shell, on stderr, may have come after it."""
    return next((line for line in reversed(lines) if line.startswith("@")), "")


def _reason(lines: list[str]) -> str:
    """The line that says it best: Compose's last, before the last words of containers; or that the probe had no answer."""
    words = list(itertools.takewhile(lambda line: not line.startswith("-- "), lines))
    return (words[0] if words and words[0].startswith("http") else words[-1]).strip() if words else ""


def _unanswered(probe: Probe) -> str:
    """Why the stack does not answer through its published port from this machine; empty when it does."""
    end = time.monotonic() + probe.timeout
    while True:
        try:
            status = status_of(probe.url)
            if status < 400:
                return ""
            why = f"it answers {status}"
        except HttpError as error:
            why = f"{error.what} ({error.why})"
        if time.monotonic() > end:
            return f"{probe.url}: {why}, {probe.timeout:.0f} s after its containers were healthy"
        time.sleep(0.5)


@operation()
def finish(run: Run, work: HostWork) -> Commands:
    """Write the journal and release the lock. Fails the host when a stack of its has failed."""
    if not work.empty:
        yield FunctionCommand(_finish, (run, work), {})


def _finish(state: State, host: Host, run: Run, work: HostWork) -> bool:
    run.emit("ending", host.name)
    touched = sorted({*work.stacks, *(removed.name for removed in work.removed), *(each.stack for each in work.ollamas)})
    failed = {name: run.failed[name] for name in touched if name in run.failed}
    entry = {
        "run": run.id,
        "at": run.at,
        "by": run.by,
        "verb": run.verb,
        "seconds": round(time.monotonic() - run.started, 1),
        "finished": True,
        "why": failed,
    }
    try:
        succeeded, lines = call(host, run, "drop_lock", redact(json.dumps(entry)))
    except HostLostError as error:
        return _broken(run, host, error)
    if not succeeded:
        run.emit("failed", host.name, why=f"the lock could not be released: {' '.join(lines)}")
    return succeeded and not failed


def _side_by_side(run: Run, host: Host, work: Callable[[T], None], items: Iterable[T]) -> bool:
    """`work` for every item at the same time, a few at once. False when the connection to the host broke."""
    broken: list[HostLostError] = []

    def guarded(item: T) -> None:
        try:
            work(item)
        except HostLostError as error:
            broken.append(error)

    Pool(AT_ONCE).map(guarded, list(items))
    return not broken or _broken(run, host, broken[0])


def _broken(run: Run, host: Host, error: HostLostError) -> bool:
    """Say that the host is lost to this run. What needs one of its stacks is left alone, on whatever host it is."""
    for stack in run.deployment.hosts[host.name].stacks:
        run.failed.setdefault(stack.name, "the connection to its host broke")
    why = f"the connection broke ({error}); what it was doing there may go on, and the next apply finishes it"
    run.emit("failed", host.name, why=why)
    return False
