"""Data at risk: what stays behind, what starts empty, what a new version may not open. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mesh.compile.images import ImageRef
from mesh.plan.looked import Looked, Mount, Volume
from mesh.state.deployment import Deployment, HostDeployment, Service, StackRelease
from mesh.state.observed import ObservedContainer, ObservedHost
from mesh.state.plan import Change

Kind = Literal["leaves", "moves", "empty", "driver", "version", "unnamed"]
_UNNAMED = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Risk:
    """Something that the operator should know of data before applying.

    kind: `leaves` data of a stack that goes stays on the host; `moves` data does not follow the stack to its new host; `empty`
    a service gets another, empty place; `driver` a volume's driver or options differ; `version` another major version, or an
    older one, opens the data; `unnamed` nothing will find an unnamed volume again. what, mend: sentences.
    """

    host: str
    stack: str
    kind: Kind
    what: str
    mend: str = ""


def risks(
    everything: Deployment,
    host: HostDeployment,
    seen: ObservedHost,
    looked: Looked,
    changes: Mapping[str, list[Change]],
    after: Mapping[str, Mapping[str, Any]],
) -> Iterator[Risk]:
    """The risks of one host's changes.

    everything: the deployment of all hosts, to tell a stack that moves. changes: by stack. after: by stack, its Compose file.
    """
    stacks = {stack.name: stack for stack in host.stacks}
    for name, theirs in changes.items():
        stack = stacks.get(name)
        if stack is None:
            yield from _leaving(everything, host, seen, looked, name)
            continue
        touched = {each.name for each in theirs if each.subject == "service" and each.verb in {"create", "update"}}
        for service in stack.services:
            if service.name in touched:
                yield from _changing(host, stack, service, seen, looked, after.get(name, {}))
        gone = {each.name for each in theirs if each.subject == "container"}
        for container in seen.containers:
            if container.name in gone:
                yield from _unnamed(host, name, container, looked)


def _leaving(everything: Deployment, host: HostDeployment, seen: ObservedHost, looked: Looked, name: str) -> Iterator[Risk]:
    containers = [each for each in seen.containers if each.project == name or (not each.project and each.name == name)]
    mounts = [mount for each in containers for mount in looked.mounts.get(each.name, ())]
    volumes = {mount.source for mount in mounts if mount.kind == "volume" and not _UNNAMED.fullmatch(mount.source)}
    volumes |= {volume.name for volume in looked.volumes.values() if volume.project == name}
    volumes = {each for each in volumes if not _UNNAMED.fullmatch(each)}
    folders = {mount.source for mount in mounts if mount.kind == "bind" and mount.writable and not _system(mount.source)}
    places = [*(f"volume {each}" for each in sorted(volumes)), *sorted(folders)]
    elsewhere = next((each.name for each in everything.hosts.values() for stack in each.stacks if stack.name == name), "")
    if places and elsewhere and elsewhere != host.name:
        what = f"{name} moves to {elsewhere} and its data does not follow: {', '.join(places)} stay on {host.name}"
        yield Risk(host.name, name, "moves", what, f"copy them to {elsewhere} before, or it starts without them")
    elif places:
        yield Risk(
            host.name, name, "leaves", f"{name} goes, and its data stays: {', '.join(places)}", "delete it by hand, if ever"
        )
    for container in containers:
        yield from _unnamed(host, name, container, looked)


def _system(path: str) -> bool:
    """Places of the host that are no service's data."""
    return (
        path.endswith(".sock")
        or path in {"/", "/etc/localtime", "/etc/timezone"}
        or path.startswith(("/proc", "/sys", "/dev", "/run"))
    )


def _unnamed(host: HostDeployment, stack: str, container: ObservedContainer, looked: Looked) -> Iterator[Risk]:
    for mount in looked.mounts.get(container.name, ()):
        if mount.kind == "volume" and _UNNAMED.fullmatch(mount.source):
            what = (
                f"{container.name} goes: its {mount.target} stays in the unnamed volume {mount.source[:12]}, which nothing uses"
            )
            yield Risk(host.name, stack, "unnamed", what, f"copy it, if it matters: docker volume inspect {mount.source[:12]}")


def _changing(
    host: HostDeployment, stack: StackRelease, service: Service, seen: ObservedHost, looked: Looked, project: Mapping[str, Any]
) -> Iterator[Risk]:
    own = {file.path for file in stack.files}
    container = next((each for each in seen.containers if each.project == stack.name and each.service == service.name), None)
    if container is None:
        return
    has = {mount.target: mount for mount in looked.mounts.get(container.name, ()) if mount.writable}
    gets = {mount.target: mount for mount in wanted_mounts(stack, service, project)}
    stateful = False
    for target, old in has.items():
        if old.kind not in {"volume", "bind"} or old.source in own or _system(old.source):
            continue
        stateful = True
        new = gets.get(target)
        if new is None:
            if _UNNAMED.fullmatch(old.source):
                continue
            what = f"{service.name} no longer has {_place(old)} at {target}: what is in it stays, and is not used"
            yield Risk(host.name, stack.name, "empty", what)
        elif (old.kind, old.source) != (new.kind, new.source):
            filled = new.kind == "volume" and new.source in looked.volumes
            state = (
                "which is there already" if filled else "which starts empty" if new.kind == "volume" else "as it is on the host"
            )
            what = f"{service.name} gets {_place(new)} at {target}, {state}, in place of {_place(old)}, which stays"
            yield Risk(host.name, stack.name, "empty", what, "copy the data before, if it matters")
        elif new.kind == "volume":
            yield from _driver(host, stack, looked.volumes.get(new.source), project)
    if stateful:
        yield from _version(host, stack, service, container)


def _place(mount: Mount) -> str:
    if _UNNAMED.fullmatch(mount.source):
        return f"the unnamed volume {mount.source[:12]}"
    return f"volume {mount.source}" if mount.kind == "volume" else mount.source


def wanted_mounts(stack: StackRelease, service: Service, project: Mapping[str, Any]) -> Iterator[Mount]:
    """What the service will have mounted, in Docker's terms. project: its Compose file."""
    for entry in service.definition.get("volumes") or ():
        if isinstance(entry, Mapping):
            kind, source, target = str(entry.get("type", "")), str(entry.get("source") or ""), str(entry.get("target", ""))
            writable = not entry.get("read_only")
        else:
            words = str(entry).split(":")
            source, target = (words[0], words[1]) if len(words) > 1 else ("", words[0])
            kind = "bind" if source.startswith((".", "/", "~")) else "volume"
            writable = "ro" not in (words[2].split(",") if len(words) > 2 else ())
        if "$" in source or (kind == "volume" and not source):
            continue
        if kind == "bind":
            source = posixpath.normpath(posixpath.join(stack.directory, source))
        elif kind == "volume":
            source = volume_name(stack.name, source, project)
        yield Mount(kind, source, posixpath.normpath(target), writable)


def volume_name(stack: str, key: str, project: Mapping[str, Any]) -> str:
    """What Docker calls a volume of the Compose file: `name:` as it is, any other with the project before it."""
    declared = (project.get("volumes") or {}).get(key) or {}
    if not isinstance(declared, Mapping):
        return f"{stack}_{key}"
    external = declared.get("external")
    name = declared.get("name") or (external.get("name") if isinstance(external, Mapping) else None)
    return str(name or (key if external else f"{stack}_{key}"))


def _driver(host: HostDeployment, stack: StackRelease, there: Volume | None, project: Mapping[str, Any]) -> Iterator[Risk]:
    for key, declared in (project.get("volumes") or {}).items():
        if there is None or not isinstance(declared, Mapping) or volume_name(stack.name, str(key), project) != there.name:
            continue
        if declared.get("external"):
            continue
        driver = str(declared.get("driver") or "local")
        options = {str(name): str(value) for name, value in (declared.get("driver_opts") or {}).items()}
        if (driver, options) != (there.driver, dict(there.options)):
            what = f"volume {there.name} keeps its driver and options ({there.driver}), whatever the spec says now"
            yield Risk(host.name, stack.name, "driver", what, "copy its data, remove it by hand, and apply again")


def _version(host: HostDeployment, stack: StackRelease, service: Service, container: ObservedContainer) -> Iterator[Risk]:
    old, new = ImageRef.parse(container.image), ImageRef.parse(service.image)
    before, after = _VERSION.match(old.tag), _VERSION.match(new.tag)
    if old.repo.rpartition("/")[2] != new.repo.rpartition("/")[2] or not before or not after:
        return
    was, will = ([int(each or 0) for each in found.groups()] for found in (before, after))
    if was[0] != will[0]:
        word = f"another major version ({old.tag} -> {new.tag}) opens its data"
    elif will < was:
        word = f"an older version ({old.tag} -> {new.tag}) opens data that a newer one wrote"
    else:
        return
    yield Risk(
        host.name, stack.name, "version", f"{service.name}: {word}", "read its release notes, and have a backup, before applying"
    )
