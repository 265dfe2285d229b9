"""`mesh rollback`: back to the previous release of a stack, or of all stacks that a run changed."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from mesh.cli.look import as_error, count, names, safe
from mesh.cli.output import confirm, note, print_error, style
from mesh.errors import EXIT_ERROR, EXIT_OK, MeshError
from mesh.inventory import Inventory, open_inventory
from mesh.live.kept import read_releases
from mesh.state.journal import runs
from mesh.state.observed import Observed, Unknown
from mesh.state.plan import CannotTell
from mesh.state.rollback import Rollback, Step, of_named, of_run
from mesh.state.select import require_hosts
from mesh.state.work import BackTo

if TYPE_CHECKING:
    from mesh.live.apply import Deploys


def run(folder: Path, *, hosts: Collection[str] = (), stacks: Collection[str] = (), run_id: str = "", yes: bool = False) -> int:
    """Take stacks back. 0 all of them run their previous release; 1 something failed, or there was nothing to go back to."""
    if run_id and stacks:
        raise MeshError("--stack and --run cannot be used together", mend="name stacks, or a run")
    inventory = open_inventory(folder)
    require_hosts(inventory.mesh.hosts, hosts)
    rollback = _wanted(inventory, [name for name in inventory.mesh.hosts if not hosts or name in hosts], stacks, run_id)
    for line in rollback.stays:
        note(safe(f"stays as it is: {line}"))
    if not rollback.steps:
        raise MeshError("nothing can be rolled back", why="see above", mend="mesh history shows what was applied")
    import secrets

    from mesh.live.apply import Deploys

    targets = {
        host: {step.stack: BackTo(step.previous.release, step.previous.probe) for step in steps}
        for host, steps in groupby(rollback.steps, key=lambda step: step.host)
    }
    run = secrets.token_hex(6)
    with Deploys(inventory, run=run, rollback=targets) as deploys:
        deploys.connect(list(targets))
        print("\n".join(_text(inventory, rollback)))
        if not yes and not confirm("Roll back?", otherwise="read what it does, then run it with -y"):
            note("nothing was changed")
            return EXIT_ERROR
        return EXIT_OK if _do(deploys, rollback, list(targets)) else EXIT_ERROR


def _wanted(inventory: Inventory, hosts: Collection[str], stacks: Collection[str], run_id: str) -> Rollback:
    """What the hosts' records say. A host that cannot be read is an error: half a rollback is not what was asked for."""
    answers = read_releases(inventory, hosts)
    for host, each in answers.items():
        if isinstance(each, Unknown):
            print_error(as_error(CannotTell(host, each.why, each.mend)))
    known = {host: each for host, each in answers.items() if not isinstance(each, Unknown)}
    if len(known) < len(answers):
        mend = f"mend it, or name the others: {' '.join(f'--host {name}' for name in known)}" if known else "mend it"
        raise MeshError("cannot tell what would have to go back", why="nothing was rolled back", mend=mend)
    kept = {host: each for host, (each, _) in known.items()}
    if stacks:
        return of_named(kept, stacks)
    chosen, rollback = of_run(kept, runs({host: lines for host, (_, lines) in known.items()}), run=run_id, hosts=hosts)
    note(safe(f"what {chosen.verb} {chosen.id} changed, by {chosen.by} at {chosen.at}:"))
    return rollback


def _text(inventory: Inventory, rollback: Rollback) -> Iterator[str]:
    for host, steps in groupby(rollback.steps, key=lambda step: step.host):
        yield style(f"{host} ({inventory.mesh.hosts[host].address})", "bold")
        for step in steps:
            yield from (safe(f"  {line}") for line in _step_lines(inventory, step))
    yield ""
    yield f"{count(len(rollback.steps), 'stack')} to roll back; data in volumes and folders stays as it is"


def _step_lines(inventory: Inventory, step: Step) -> Iterator[str]:
    yield step.stack
    if step.current:
        yield f"  from {step.current.release}, applied by {step.current.by} at {step.current.at}"
    else:
        yield "  it is down, and comes up again"
    yield f"  to   {step.previous.release}, applied by {step.previous.by} at {step.previous.at}"
    if step.remade:
        took = f"; it took {step.previous.seconds:.0f} s to come up" if step.previous.seconds is not None else ""
        yield f"  restarts {', '.join(step.remade)}{took}"
    if step.missing_images:
        yield f"  has to pull the image of {', '.join(step.missing_images)} again"
    if step.stack not in inventory.mesh.stacks:
        yield "  it is not in the spec: the next apply brings it down again"


def _do(deploys: Deploys, rollback: Rollback, hosts: Collection[str]) -> bool:
    from mesh.cli.progress import follow

    started = time.monotonic()
    print(f"rolling back on {names(hosts)}", flush=True)
    with follow() as progress:
        finished = deploys.go(Observed(), progress.hear)
    if finished.code and not progress.failures:
        why = safe("\n        ".join(finished.log))
        raise MeshError("pyinfra failed before it got to a stack", why=why, mend="mend what it says, and try again")
    took = f"{time.monotonic() - started:.0f} s"
    failed = sorted({where for where, _ in progress.failures})
    if failed:
        print_error(MeshError(f"failed: {', '.join(failed)}", why="see above", mend="mesh history says what runs now"))
        print(f"not done after {took}")
        return False
    print(f"done in {took}: {count(len(rollback.steps), 'stack')} back at the previous release")
    note("mesh apply goes forward to the spec again; change the spec if it should not")
    return True
