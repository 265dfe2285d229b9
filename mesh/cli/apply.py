"""`mesh apply`: plan, ask, do, verify."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mesh.cli.look import Look, as_error, beside, look, look_again, names, safe, summary, text
from mesh.cli.output import confirm, note, print_error
from mesh.cli.plan import explained
from mesh.errors import EXIT_ERROR, EXIT_OK, MeshError
from mesh.state.observed import ObservedHost
from mesh.state.select import select_hosts

if TYPE_CHECKING:
    from mesh.inventory import Inventory
    from mesh.live.apply import Deploys, Event
    from mesh.live.ssh import Session


def run(folder: Path, *, hosts: Collection[str] = (), stacks: Collection[str] = (), yes: bool = False, diff: bool = False) -> int:
    """Make the hosts what the spec says. 0 they are; 1 something failed or could not be read, whatever else was done."""
    with ExitStack() as running:
        return _run(folder, running, hosts, stacks, yes=yes, diff=diff)


def _run(folder: Path, running: ExitStack, hosts: Collection[str], stacks: Collection[str], *, yes: bool, diff: bool) -> int:
    deploys: Deploys | None = None

    def start(inventory: Inventory) -> Deploys:
        import secrets

        from mesh.live.apply import Deploys

        return running.enter_context(Deploys(inventory, run=secrets.token_hex(6), stacks=stacks))

    def early(inventory: Inventory) -> None:
        """A spec that has changed most likely is something to do: pyinfra loads while the hosts are asked."""
        nonlocal deploys
        if yes and not inventory.as_before:
            deploys = start(inventory)

    seen = look(folder, hosts=hosts, stacks=stacks, meanwhile=early)
    for line in beside(seen.plan):
        note(line)
    for each in seen.plan.unknown:
        print_error(as_error(each))
    if not seen.plan.changes:
        _release(seen)
        if seen.plan.unknown:
            return EXIT_ERROR
        print("nothing to change")
        return EXIT_OK
    hosts = list(dict.fromkeys(change.host for change in seen.plan.changes))
    deploys = deploys or start(seen.inventory)
    deploys.connect(hosts)
    if yes and not diff:  # nobody waits for an explanation
        print(f"{text(seen.plan, seen.deployment)}\n\n{summary(seen.plan)}")
    else:
        print(explained(seen, diff=diff))
    if not yes and not confirm("Apply?", otherwise="read the plan, then run it with -y"):
        note("nothing was changed")
        return EXIT_ERROR
    _release(seen)
    done = _do(seen, deploys, hosts, stacks)
    return EXIT_OK if done and not seen.plan.unknown else EXIT_ERROR


def _release(seen: Look) -> None:
    """Locks of runs that were killed."""
    if any(isinstance(host, ObservedHost) and host.lock for host in seen.observed.hosts.values()):
        from mesh.live.apply import release_dead_locks

        for host, holder in release_dead_locks(seen.inventory, seen.observed):
            print(f"{host}: released the lock of an apply that died ({holder})", flush=True)


def _do(seen: Look, deploys: Deploys, hosts: Collection[str], stacks: Collection[str]) -> bool:
    """Run the deploys and look again. Whether everything is as the spec says now."""
    from mesh.cli.progress import follow
    from mesh.live.ssh import connect

    started = time.monotonic()
    unlocked = {name: host for name, host in seen.observed.hosts.items() if isinstance(host, ObservedHost) and not host.lock}
    print(f"applying to {names(hosts)}", flush=True)
    sessions: dict[str, Session] = {}
    with follow() as progress:

        def hear(event: Event) -> None:
            if event.kind == "ending":  # the look afterwards is connecting meanwhile
                sessions.update(connect(seen.inventory, [event.host]))
            progress.hear(event)

        finished = deploys.go(replace(seen.observed, hosts=unlocked), hear)
    if finished.code and not progress.failures:
        why = safe("\n        ".join(finished.log))
        raise MeshError("pyinfra failed before it got to a stack", why=why, mend="mend what it says; the next apply goes on")
    again = look_again(seen.inventory, select_hosts(seen.deployment, hosts, ()), stacks, sessions)
    failed = sorted({where for where, _ in progress.failures})
    for each in again.plan.unknown:
        print_error(as_error(each))
    if again.plan.changes and not failed:
        print(f"still different after the apply:\n{text(again.plan, again.deployment)}")
    took = f"{time.monotonic() - started:.0f} s"
    if failed:
        print_error(MeshError(f"failed: {', '.join(failed)}", why="see above", mend="mend it and apply again"))
    if failed or again.plan.changes or again.plan.unknown:
        print(f"not done after {took}: {summary(again.plan)} left" if again.plan.changes else f"not done after {took}")
        return False
    print(f"done in {took}: {names(hosts)} verified")
    return True
