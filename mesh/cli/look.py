"""What plan, apply and drift have in common: open, check, observe, compare; and how differences are written.

Before the hosts are being connected to, nothing is imported that is not needed for it: ssh takes longer than all the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesh.cli.output import harmless, style
from mesh.errors import MeshError
from mesh.inventory import Inventory, open_to_act
from mesh.live.ssh import Session, connect
from mesh.secrets.value import redact

if TYPE_CHECKING:
    from mesh.state.deployment import Deployment
    from mesh.state.observed import Observed
    from mesh.state.plan import CannotTell, Change, Plan, Verb

SIGNS: Mapping[Verb, tuple[str, str]] = {
    "create": ("+", "green"),
    "update": ("~", "yellow"),
    "restart": ("~", "yellow"),
    "remove": ("-", "red"),
}
_WORDS: Mapping[Verb, str] = {"create": "to create", "update": "to update", "restart": "to restart", "remove": "to remove"}


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the mesh. `deployment` is what --host and --stack leave of it."""

    inventory: Inventory
    deployment: Deployment
    observed: Observed
    plan: Plan


def look(
    folder: Path,
    *,
    hosts: Collection[str],
    stacks: Collection[str],
    secrets: bool = True,
    meanwhile: Callable[[Inventory], None] | None = None,
) -> Look:
    """Open the inventory and compare the mesh with it. Raises SpecInvalid when the spec has errors.

    secrets: whether their values may be asked for. Without them files with secrets are compared by mode and owner, and the
    gateways are not asked. meanwhile: called while the hosts are being connected to.
    """
    inventory = open_to_act(folder)
    sessions = connect(inventory, hosts)
    try:
        if meanwhile:
            meanwhile(inventory)
        from mesh.state.select import select_hosts

        deployment = inventory.checked_deployment() if secrets else inventory.sealed_deployment()
        return _compare(inventory, select_hosts(deployment, hosts, stacks), stacks, sessions, secrets=secrets)
    finally:
        for session in sessions.values():
            session.close()


def look_again(inventory: Inventory, deployment: Deployment, stacks: Collection[str], sessions: Mapping[str, Session]) -> Look:
    """Compare what is there now with an open inventory. sessions: those to hosts of the deployment that are connected already."""
    missing = deployment.hosts.keys() - sessions.keys()
    return _compare(inventory, deployment, stacks, {**sessions, **(connect(inventory, missing) if missing else {})})


def _compare(
    inventory: Inventory,
    deployment: Deployment,
    stacks: Collection[str],
    sessions: Mapping[str, Session],
    *,
    secrets: bool = True,
) -> Look:
    from mesh.live.observe import observe
    from mesh.state.diff import diff
    from mesh.state.select import select_stacks

    observed = observe(inventory, deployment, sessions, secrets=secrets)
    plan = select_stacks(diff(deployment, observed, inventory.secrets.value), stacks)
    return Look(inventory, deployment, observed, plan)


def text(plan: Plan, deployment: Deployment) -> str:
    """The changes by host and stack, a line each with its reason. Empty for none."""
    lines: list[str] = []
    for host, of_host in groupby(plan.changes, key=lambda change: change.host):
        lines.append(style(f"{host} ({deployment.hosts[host].address})", "bold"))
        for stack, of_stack in groupby(of_host, key=lambda change: change.stack):
            lines.append(f"  {safe(stack)}")
            lines += [f"    {line}" for line in _change_lines(list(of_stack), f"{deployment.hosts[host].root}/stacks/{stack}/")]
    return "\n".join(lines)


def _change_lines(changes: list[Change], directory: str) -> Iterator[str]:
    names = [safe(change.name).removeprefix(directory) for change in changes]
    names = [short_image(name) if change.subject == "image" else name for name, change in zip(names, changes, strict=True)]
    width = min(max(map(len, names)), 44)
    for change, name in zip(changes, names, strict=True):
        sign, colour = SIGNS[change.verb]
        yield f"{style(sign, colour)} {change.subject:<9} {name:<{width}}  {safe(change.why)}"


def short_image(reference: str) -> str:
    name, at, digest = reference.partition("@sha256:")
    return f"{name}@{digest[:8]}" if at else name


def summary(plan: Plan) -> str:
    """`7 changes on 2 hosts: 5 to create, 2 to update`."""
    verbs = Counter(change.verb for change in plan.changes)
    hosts = len({change.host for change in plan.changes})
    parts = ", ".join(f"{verbs[verb]} {words}" for verb, words in _WORDS.items() if verbs[verb])
    return f"{count(len(plan.changes), 'change')} on {count(hosts, 'host')}: {parts}"


def odd_lines(plan: Plan) -> Iterator[str]:
    """What is not as the spec says and apply cannot mend: two lines each, the second what to do."""
    for each in plan.deviations:
        where = f"{each.host}/{each.stack}" if each.stack else each.host
        yield safe(f"{style('!', 'red')} {where} {each.subject} {each.name}: {each.why}")
        yield safe(f"    mend: {each.mend}")


def beside(plan: Plan, most: int = 6) -> Iterator[str]:
    """What is worth knowing and nothing would change: notes, and containers that are not the mesh's, `most` of a host by name."""
    yield from map(safe, plan.notes)
    for host, names in groupby(plan.foreign, key=lambda name: name.partition("/")[0]):
        theirs = [name.partition("/")[2] for name in names]
        shown = ", ".join(theirs[:most]) + (f" and {len(theirs) - most} more" if len(theirs) > most else "")
        are = "that is not the mesh's and stays as it is" if len(theirs) == 1 else "that are not the mesh's and stay as they are"
        line = f"{host} also runs {count(len(theirs), 'container')} {are}"
        yield safe(f"{line}: {shown}" if most else line)


def ignored_by_drift(seen: Look) -> Iterator[str]:
    """What is in the plan although drift is silent about it: an ignore changes nothing of what apply does."""
    ignores = seen.inventory.ignores
    if not ignores:
        return
    from mesh.state.ignores import sift

    for each in sift(seen.plan, ignores, date.today()).ignored:
        where = "/".join(filter(None, (each.found.host, each.found.stack)))
        yield safe(f"drift ignores {where} {each.found.subject} {each.found.name} until {each.by.until}: {each.by.reason}")


def as_error(unknown: CannotTell) -> MeshError:
    """One thing that could not be read, as the operator sees it."""
    return MeshError("cannot tell what is there", where=unknown.where, why=safe(unknown.why), mend=unknown.mend)


def as_data(plan: Plan) -> dict[str, Any]:
    """The plan for programs. Names and reasons only: no value of a secret is ever part of a Plan."""
    changes = [
        {
            "host": change.host,
            "stack": change.stack,
            "subject": change.subject,
            "name": change.name,
            "verb": change.verb,
            "why": safe(change.why),
        }
        for change in plan.changes
    ]
    unknown = [{"where": each.where, "why": safe(each.why), "mend": each.mend} for each in plan.unknown]
    deviations = [
        {
            "host": each.host,
            "stack": each.stack,
            "subject": each.subject,
            "name": safe(each.name),
            "why": safe(each.why),
            "mend": safe(each.mend),
        }
        for each in plan.deviations
    ]
    notes = list(map(safe, plan.notes))
    return {"changes": changes, "deviations": deviations, "unknown": unknown, "foreign": list(plan.foreign), "notes": notes}


def safe(text: str) -> str:
    """Words of hosts and programs: no control characters, no value of a secret."""
    return harmless(redact(text))


def count(number: int, word: str) -> str:
    """`1 host`, `3 hosts`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def names(items: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(items))
