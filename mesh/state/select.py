"""Parts of a deployment and of a plan: what `--host` and `--stack` leave. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from mesh.errors import MeshError
from mesh.state.deployment import Deployment
from mesh.state.plan import Plan
from mesh.suggest import Suggester


def select_hosts(deployment: Deployment, hosts: Collection[str], stacks: Collection[str]) -> Deployment:
    """The deployment of the named hosts, and of those only that hold one of the named stacks. Empty means all.

    Raises MeshError for a name that is not in the spec. (A stack that is in the spec no longer is removed without `--stack`.)
    """
    known = [stack.name for host in deployment.hosts.values() for stack in host.stacks]
    require_hosts(deployment.hosts, hosts)
    for name in stacks:
        if name not in known:
            mend = Suggester().mend(name, known, f"the spec has {', '.join(known)}")
            raise MeshError(f"there is no stack {name} in the spec", where="--stack", mend=mend)
    chosen = {
        name: host
        for name, host in deployment.hosts.items()
        if (not hosts or name in hosts) and (not stacks or any(stack.name in stacks for stack in host.stacks))
    }
    gateway = any(stack.kind == "litellm" for host in chosen.values() for stack in host.stacks)
    return replace(deployment, hosts=chosen, gateway=deployment.gateway if gateway else None)


def require_hosts(known: Collection[str], hosts: Iterable[str]) -> None:
    """Raises MeshError for a host that is not one of the spec's."""
    for name in hosts:
        if name not in known:
            mend = Suggester().mend(name, known, f"the spec has {', '.join(known)}")
            raise MeshError(f"there is no host {name} in the spec", where="--host", mend=mend)


def select_stacks(plan: Plan, stacks: Collection[str]) -> Plan:
    """The plan of the named stacks; of all when there are none. What is unknown about a whole host stays."""
    if not stacks:
        return plan
    return replace(
        plan,
        changes=tuple(change for change in plan.changes if change.stack in stacks),
        deviations=tuple(each for each in plan.deviations if not each.stack or each.stack in stacks),
        unknown=tuple(each for each in plan.unknown if "/" not in each.where or each.where.partition("/")[2] in stacks),
    )
