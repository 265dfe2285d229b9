"""What a plan means for one host: images to pull, files to carry, stacks to bring up or down. Pure."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from graphlib import CycleError, TopologicalSorter

from mesh.errors import MeshError
from mesh.state.deployment import Deployment, File, HostDeployment, OllamaModels, Probe, StackRelease
from mesh.state.diff_names import not_ours
from mesh.state.observed import ObservedHost
from mesh.state.plan import Change, Plan
from mesh.state.release import release_id


@dataclass(frozen=True, slots=True)
class StackWork:
    """One stack to bring up. Paths are relative to the stack's folder.

    files: to write. stale: to put aside. keep: written by the tool and there now, so part of the previous release.
    recreate: services to make anew although Compose would see no difference. extra: containers to remove.
    back_to: the release to go back to, which the host has kept; then there is nothing to write. Empty for the spec's release.
    refused: why it is left alone all the same. Empty for a stack that is brought up.
    """

    stack: StackRelease
    files: tuple[File, ...]
    stale: tuple[str, ...]
    keep: tuple[str, ...]
    recreate: tuple[str, ...]
    extra: tuple[str, ...]
    back_to: str = ""
    refused: str = ""


@dataclass(frozen=True, slots=True)
class BackTo:
    """The release that a stack is to go back to, and how it was probed."""

    release: str
    probe: Probe | None = None


@dataclass(frozen=True, slots=True)
class RemovedStack:
    """A stack that the spec no longer has on this host."""

    name: str
    keep: tuple[str, ...]
    extra: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostWork:
    """Everything to do on one host."""

    host: HostDeployment
    pull: Mapping[str, tuple[str, ...]]
    """Image -> the stacks that need it"""
    removed: tuple[RemovedStack, ...]
    stacks: Mapping[str, StackWork]
    ollamas: tuple[OllamaModels, ...]
    """Those whose models have to be looked at once they are up."""

    @property
    def empty(self) -> bool:
        return not (self.pull or self.removed or self.stacks or self.ollamas)


def host_work(host: HostDeployment, seen: ObservedHost, plan: Plan) -> HostWork:
    """The plan's changes of one host, as work."""
    changes = [change for change in plan.changes if change.host == host.name]
    named = {stack.name: stack for stack in host.stacks}
    by_stack: dict[str, list[Change]] = {}
    for change in changes:
        by_stack.setdefault(change.stack, []).append(change)
    pull: dict[str, tuple[str, ...]] = {}
    for change in changes:
        if change.subject == "image":
            pull[change.name] = (*pull.get(change.name, ()), change.stack)
    stacks = {
        name: _stack_work(named[name], seen, theirs)
        for name, theirs in by_stack.items()
        if name in named and any(change.subject != "model" for change in theirs)
    }
    return HostWork(
        host,
        pull,
        tuple(_removed(host, name, seen, theirs) for name, theirs in by_stack.items() if name not in named),
        stacks,
        tuple(ollama for ollama in host.ollamas if ollama.stack in by_stack),
    )


def rollback_work(host: HostDeployment, seen: ObservedHost, targets: Mapping[str, BackTo]) -> HostWork:
    """Going back to releases that the host has kept, as work. A stack that has left the spec goes back without its order."""
    named = {stack.name: stack for stack in host.stacks}
    stacks = {}
    for name, target in targets.items():
        directory = f"{host.root}/stacks/{name}"
        stack = replace(named.get(name, StackRelease(name, "", directory, (), ())), probe=target.probe)
        keep = _written(directory, seen, name, ())
        stacks[name] = StackWork(stack, (), (), keep, (), (), back_to=target.release)
    return HostWork(host, {}, (), stacks, ())


def _stack_work(stack: StackRelease, seen: ObservedHost, changes: Iterable[Change]) -> StackWork:
    files = {change.name: change.verb for change in changes if change.subject == "file"}
    services = [change for change in changes if change.subject == "service"]
    again = {change.name for change in services if change.verb == "restart"}
    for service in stack.services:
        same = [c for c in seen.containers if c.project == stack.name and c.labels.get("mesh.digest") == service.digest]
        if same and any(change.name == service.name and change.verb == "update" for change in services):
            again.add(service.name)
    if any(change.subject == "route" for change in changes):
        again |= set(stack.rolling.services) if stack.rolling else {service.name for service in stack.services}
    return StackWork(
        stack,
        tuple(file for file in stack.files if file.path in files),
        tuple(_relative(stack.directory, path) for path, verb in files.items() if verb == "remove"),
        _written(stack.directory, seen, stack.name, [file.path for file in stack.files]),
        tuple(service.name for service in stack.services if service.name in again),
        tuple(change.name for change in changes if change.subject == "container"),
        refused=not_ours(stack, seen),
    )


def _removed(host: HostDeployment, name: str, seen: ObservedHost, changes: Iterable[Change]) -> RemovedStack:
    directory = f"{host.root}/stacks/{name}"
    return RemovedStack(
        name,
        _written(directory, seen, name, [f"{directory}/compose.yaml"]),
        tuple(change.name for change in changes if change.subject == "container"),
    )


def _written(directory: str, seen: ObservedHost, stack: str, own: Iterable[str]) -> tuple[str, ...]:
    """Files of the tool that are there now."""
    record = seen.releases.get(stack)
    recorded = {f"{directory}/{path}" for path in record.files} if record else set()
    return tuple(sorted(_relative(directory, path) for path in recorded | (set(own) & set(seen.files))))


def _relative(directory: str, path: str) -> str:
    return path.removeprefix(f"{directory}/")


def waves(deployment: Deployment) -> tuple[tuple[str, ...], ...]:
    """All stacks of the mesh in the order of their `after`: each wave needs only the ones before it."""
    after = {stack.name: set(stack.after) for host in deployment.hosts.values() for stack in host.stacks}
    sorter = TopologicalSorter({name: needs & after.keys() for name, needs in after.items()})
    found = []
    try:
        sorter.prepare()
    except CycleError as error:
        raise MeshError("stacks wait for each other in a circle", why=" after ".join(error.args[1])) from None
    while sorter.is_active():
        ready = sorter.get_ready()
        found.append(tuple(sorted(ready)))
        sorter.done(*ready)
    return tuple(found)


def bundle(work: HostWork, value_of: Callable[[str], str], *, mesh: str, at: str, by: str) -> str:
    """The one upload: a tar in base64 with the changed files and the lists that host.sh works through.

    mesh: its name. at: when, in ISO 8601. by: who applies. Values of secrets are in it, so it must only ever go through stdin.
    """
    buffer = io.BytesIO()
    moment = int(datetime.fromisoformat(at).timestamp())
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, each in work.stacks.items():
            folder = f"new/work/{name}"
            _add(tar, moment, f"{folder}/keep", _lines(each.keep))
            _add(tar, moment, f"{folder}/stale", _lines(each.stale))
            _add(tar, moment, f"{folder}/extra", _lines(each.extra))
            if each.stack.rolling:
                rolling = each.stack.rolling
                lines = [" ".join((rolling.before, *rolling.switch)), *rolling.services]
                _add(tar, moment, f"{folder}/rolling", _lines(lines))
            if each.back_to:
                told = json.dumps({"by": by, "at": at})
                _add(tar, moment, f"{folder}/rolled_back", f',"rolled_back":{told}'.encode())
            else:
                _add(tar, moment, f"{folder}/release", _release_head(each.stack, mesh, at, by).encode())
            for file in each.files:
                path = f"new/stacks/{name}/{_relative(each.stack.directory, file.path)}"
                _add(tar, moment, path, file.content(value_of), file.mode, file.owner, file.group)
        for removed in work.removed:
            _add(tar, moment, f"new/work/{removed.name}/keep", _lines(removed.keep))
            _add(tar, moment, f"new/work/{removed.name}/extra", _lines(removed.extra))
    return base64.encodebytes(buffer.getvalue()).decode()


def _add(tar: tarfile.TarFile, moment: int, path: str, content: bytes, mode: int = 0o600, owner: int = 0, group: int = 0) -> None:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mtime = len(content), moment
    entry.mode, entry.uid, entry.gid = mode, owner, group
    tar.addfile(entry, io.BytesIO(content))


def _lines(paths: Iterable[str]) -> bytes:
    for path in paths:
        if "\n" in path:
            raise MeshError("a file name with a line break cannot be handled", where=repr(path), mend="rename the file")
    return "".join(f"{path}\n" for path in paths).encode("utf-8", "surrogateescape")


def _release_head(stack: StackRelease, mesh: str, at: str, by: str) -> str:
    """`.release.json` up to the services, which host.sh adds from what runs."""
    head = {
        "release": release_id(stack),
        "mesh": mesh,
        "at": at,
        "by": by,
        "files": [_relative(stack.directory, file.path) for file in stack.files],
        "probe": {"url": stack.probe.url, "timeout": stack.probe.timeout} if stack.probe else None,
    }
    return json.dumps(head)[:-1] + ',"services":{\n'
