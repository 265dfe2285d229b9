"""Volumes and networks of the engine, compared with what the stacks declare. Nothing here is ever for apply to remove. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.state.deployment import HostDeployment, Named, StackRelease
from mesh.state.diff_container import is_anonymous
from mesh.state.observed import ObservedHost, ObservedName
from mesh.state.plan import Deviation


def orphans(host: HostDeployment, seen: ObservedHost) -> Iterator[Deviation]:
    """Volumes and networks of our projects that the spec does not have: left by an earlier release, or made by hand."""
    stacks = {stack.name: stack for stack in host.stacks}
    for each in seen.names:
        stack = stacks.get(each.project)
        if stack is None or _explained(stack, each) or is_anonymous(each.name):
            continue
        if each.kind == "volume":
            mend = f"apply never deletes data: look into it, then `docker volume rm {each.name}` on {host.name}, or ignore it"
        else:
            mend = f"`docker network rm {each.name}` on {host.name}"
        yield Deviation(host.name, stack.name, each.kind, each.name, "is of this project, and not of the spec", mend)


def _explained(stack: StackRelease, each: ObservedName) -> bool:
    declared = [named.name for named in stack.named if named.kind == each.kind]
    return each.name in declared or any("$" in name for name in declared)


def taken(host: HostDeployment, seen: ObservedHost) -> Iterator[str]:
    """What has a name that is ours and was not made for us: to be known before apply meets it."""
    there = {(each.kind, each.name): each for each in seen.names}
    for stack in host.stacks:
        for named in stack.named:
            found = there.get((named.kind, named.name))
            where = f"{host.name}/{stack.name}"
            if found is None:
                if named.external and there and "$" not in named.name:
                    make = f"`docker {named.kind} create {named.name}` on {host.name} before apply"
                    yield f"{where}: the {named.kind} {named.name} is external and not there: {make}"
            elif not named.external and found.project != stack.name and not _used(stack, named, seen):
                yield f"{where}: {_whose(named, found)}"


def not_ours(stack: StackRelease, seen: ObservedHost) -> str:
    """Why apply does not touch the stack: something of somebody else's has a name of its own. Empty when nothing has.

    Compose would use such a volume with all that is in it, and refuses such a network.
    """
    there = {(each.kind, each.name): each for each in seen.names}
    for named in stack.named:
        found = there.get((named.kind, named.name))
        if found and not named.external and found.project != stack.name and not _used(stack, named, seen):
            return _whose(named, found)
    return ""


def _whose(named: Named, found: ObservedName) -> str:
    whose = f"of the project {found.project}" if found.project else "somebody's own"
    mend = "name it differently in compose.yaml, or say `external: true` there if it is meant for this stack"
    return f"the {named.kind} {named.name} is there already and {whose}: apply will not touch the stack; {mend}"


def _used(stack: StackRelease, named: Named, seen: ObservedHost) -> bool:
    """Whether a container of the stack has it already: then it was meant."""
    shapes = [each.shape for each in seen.containers if each.project == stack.name and each.shape]
    if named.kind == "network":
        return any(named.name in shape.networks for shape in shapes)
    return any(mount.source == named.name for shape in shapes for mount in shape.mounts if mount.kind == "volume")
