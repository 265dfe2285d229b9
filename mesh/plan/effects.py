"""What becomes of each stack and service: what is made anew or restarts, why, and what that interrupts. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mesh.compile.digest import mounted_paths
from mesh.plan.files import FileChange
from mesh.state.deployment import Rolling, Service, StackRelease
from mesh.state.observed import ObservedContainer, ObservedHost
from mesh.state.plan import Change
from mesh.state.words import shown

Action = Literal["start", "recreate", "restart", "remove"]
Interruption = Literal["none", "rolling", "restart", "start", "stop"]
_ACTIONS: Mapping[str, Action] = {"create": "start", "update": "recreate", "restart": "restart", "remove": "remove"}
_PLAIN = re.compile(
    r"cpus|cpuset|cpu_shares|container_name|hostname|init|ipc|mem_limit|mem_reservation|memswap_limit|network_mode|oom_score_adj"
    r"|pid|pids_limit|platform|privileged|read_only|restart|runtime|scale|shm_size|stop_grace_period|stop_signal|user|working_dir"
)
"""Keys of a service whose values say nothing secret. A command or a label may."""
_LONGEST = 40


@dataclass(frozen=True, slots=True)
class ServiceEffect:
    """One service, or one container that goes. image: what it runs and what it will run, where that changes."""

    name: str
    action: Action
    why: tuple[str, ...]
    image: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class StackEffect:
    """One stack.

    interruption: `none` where no service is touched, `rolling` where they change one after the other and nobody notices, `start`
    where nothing ran, `stop` where the stack goes. seconds: how long its last `up` took, where that is known.
    """

    host: str
    stack: str
    services: tuple[ServiceEffect, ...]
    interruption: Interruption
    seconds: float | None = None


def stack_effect(
    stack: StackRelease | None,
    seen: ObservedHost,
    changes: Sequence[Change],
    files: Sequence[FileChange],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> StackEffect:
    """One stack's changes as effects.

    stack: as the spec has it, None where it goes. files: how its files change. before, after: its Compose file, there and then.
    """
    host, name = changes[0].host, changes[0].stack
    if stack is None:
        gone = tuple(ServiceEffect(each.name, "remove", (each.why,)) for each in changes if each.subject == "container")
        return StackEffect(host, name, gone, "stop" if gone else "none")
    services = {service.name: service for service in stack.services}
    effects: dict[str, ServiceEffect] = {}
    for change in changes:
        if change.subject == "service" and change.name in services:
            effects[change.name] = _service(stack, services[change.name], seen, change, files, before, after)
        elif change.subject == "container":
            effects[change.name] = ServiceEffect(change.name, "remove", (change.why,))
    routes = [change for change in changes if change.subject == "route"]
    if routes:
        live = "its live routes are not those of its file" if len(routes) > 1 else routes[0].why
        for each in stack.rolling.services if stack.rolling else services:
            effects.setdefault(each, ServiceEffect(each, "restart", (live,)))
    record = seen.releases.get(name)
    found = tuple(effects.values())
    return StackEffect(host, name, found, _interruption(stack.rolling, seen, name, found), record.seconds if record else None)


def _service(
    stack: StackRelease,
    service: Service,
    seen: ObservedHost,
    change: Change,
    files: Sequence[FileChange],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> ServiceEffect:
    runs = _container(seen, stack.name, service)
    image = (runs.image, service.image) if runs and runs.image != service.image and "$" not in service.image else None
    phrases = change.why.split("; ")
    if image:
        phrases = [each for each in phrases if not (each.startswith("runs ") and ", should run " in each)]
    mounted = [each for each in files if _takes(service, stack, each.path) and each.reasons]
    said = phrases[0] if phrases else ""
    if mounted and (said.endswith(" changed") or (said.startswith("mounts ") and said.endswith(", which differs"))):
        phrases[:1] = [reason for each in mounted for reason in each.reasons]
    defined = definition_differences(_of(before, service.name), _of(after, service.name))
    if "its definition changed" in phrases and (defined or image):
        phrases.remove("its definition changed")
    phrases += [each for each in defined if each not in phrases]
    return ServiceEffect(service.name, _ACTIONS[change.verb], tuple(dict.fromkeys(phrases)), image)


def _takes(service: Service, stack: StackRelease, path: str) -> bool:
    relative = path.removeprefix(f"{stack.directory}/")
    return any(each in {".", relative} or relative.startswith(f"{each}/") for each in mounted_paths(service.definition, {}))


def _container(seen: ObservedHost, stack: str, service: Service) -> ObservedContainer | None:
    found = [each for each in seen.containers if each.project == stack and each.service == service.name]
    return min(found, key=lambda each: each.name != service.container, default=None)


def _of(project: Mapping[str, Any], service: str) -> Mapping[str, Any]:
    services = project.get("services")
    found = services.get(service) if isinstance(services, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def definition_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One phrase for everything in a service's definition that changes, its image aside. Nothing where one side is not known."""
    if not before or not after:
        return []
    found = []
    for key in sorted({*map(str, before), *map(str, after)} - {"image", "labels", "environment"}):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        plain = _PLAIN.fullmatch(str(key)) and not isinstance(old, list | dict) and not isinstance(new, list | dict)
        found.append(f"{key} {_word(old)} -> {_word(new)}" if plain else f"{key} changed")
    for kind in ("environment", "labels"):
        old, new = _pairs(before.get(kind)), _pairs(after.get(kind))
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name) and name != "mesh.digest":
                found.append(_pair("env" if kind == "environment" else "label", name, old.get(name), new.get(name)))
    return found


def _pair(kind: str, name: str, old: str | None, new: str | None) -> str:
    if new is None or old is None:
        return f"{kind} {name} {'goes' if new is None else 'is new'}"
    words = shown(name, old), shown(name, new)
    if "(hidden)" in words:
        return f"{kind} {name} changed, value hidden"
    return f"{kind} {name} {words[0]} -> {words[1]}"


def _word(value: object) -> str:
    return "unset" if value is None else str(value).lower() if isinstance(value, bool) else str(value)[:_LONGEST]


def _pairs(value: object) -> dict[str, str]:
    """Compose's two ways of writing variables. What is not plain is left out: a host's file may hold anything."""
    if isinstance(value, list):
        return {name: text for name, _, text in (each.partition("=") for each in value if isinstance(each, str))}
    if not isinstance(value, Mapping):
        return {}
    plain = {str(name): text for name, text in value.items() if not isinstance(text, list | dict)}
    return {name: "" if text is None else str(text) for name, text in plain.items()}


def _interruption(rolling: Rolling | None, seen: ObservedHost, stack: str, effects: Sequence[ServiceEffect]) -> Interruption:
    touched = {each.name for each in effects if each.action != "remove"}
    there = {each.service for each in seen.containers if each.project == stack and each.state == "running"}
    if not touched:
        return "none"
    if not touched & there:
        return "start"
    if rolling and touched <= set(rolling.services) and len(there & set(rolling.services)) > 1:
        return "rolling"
    return "restart"
