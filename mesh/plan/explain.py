"""A plan explained: everything that `mesh plan` says beyond the plain differences. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from mesh.compile.yamltext import ComposeLoader
from mesh.plan.effects import StackEffect, stack_effect
from mesh.plan.files import FileChange, file_changes, holds_secrets, variables
from mesh.plan.looked import Looked
from mesh.plan.mask import is_private
from mesh.plan.risks import Risk, risks
from mesh.plan.script import Ask
from mesh.plan.vram import HostRoom
from mesh.state.deployment import Deployment, HostDeployment, StackRelease
from mesh.state.observed import Observed, ObservedHost
from mesh.state.plan import CannotTell, Change, Plan

COMPOSE_FILE = "compose.yaml"
_ASKS = re.compile(r"[+-]\s*(num_ctx|keep_alive|OLLAMA_\w+)\b")
"""Lines of a diff that are about what an Ollama holds."""


@dataclass(frozen=True, slots=True)
class Pull:
    """An image or a model that has to be pulled. size: bytes to move, None where nobody could tell, and then why."""

    kind: Literal["image", "model"]
    name: str
    hosts: tuple[str, ...]
    size: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a plan means. unread: hosts of which the texts, mounts and volumes could not be read, so that less is said of them."""

    stacks: tuple[StackEffect, ...] = ()
    files: tuple[FileChange, ...] = ()
    pulls: tuple[Pull, ...] = ()
    vram: tuple[HostRoom, ...] = ()
    risks: tuple[Risk, ...] = ()
    unread: tuple[CannotTell, ...] = ()


def by_stack(plan: Plan, host: str) -> dict[str, list[Change]]:
    """A host's changes, by stack in the plan's order."""
    found: dict[str, list[Change]] = {}
    for change in plan.changes:
        if change.host == host:
            found.setdefault(change.stack, []).append(change)
    return found


def to_ask(host: HostDeployment, seen: ObservedHost, plan: Plan, value_of: Callable[[str], str]) -> Ask | None:
    """What a second look at a host has to find out; None where nothing of it changes."""
    changes = by_stack(plan, host.name)
    if not changes:
        return None
    stacks = {stack.name: stack for stack in host.stacks}
    texts: set[str] = set()
    secrets: set[str] = set()
    names: set[str] = set()
    for name, theirs in changes.items():
        stack = stacks.get(name)
        wanted = {file.path: file for file in stack.files} if stack else {}
        for change in theirs:
            file, there = wanted.get(change.name), seen.files.get(change.name)
            if change.subject != "file" or change.verb != "update" or file is None or there is None or stack is None:
                continue
            if there.sha256 == file.sha256(value_of):
                continue
            if not holds_secrets(file.path, stack.directory):
                texts.add(file.path)
            elif variables(file):
                secrets.add(file.path)
                names |= variables(file)
    containers = [each.name for each in seen.containers if each.project in changes or each.name in changes]
    return Ask(texts, secrets, names, containers)


def explain(
    everything: Deployment,
    deployment: Deployment,
    observed: Observed,
    plan: Plan,
    looked: Mapping[str, Looked],
    *,
    nonce: str,
    value_of: Callable[[str], str],
    redact: Callable[[str], str],
) -> tuple[tuple[StackEffect, ...], tuple[FileChange, ...], tuple[Risk, ...]]:
    """Effects, files and risks.

    everything: the deployment of all hosts; `deployment` is what --host and --stack leave. looked: what the second look found, by
    host. nonce: what it hashed with. redact: takes the values of known secrets out of a text.
    """
    effects: list[StackEffect] = []
    files: list[FileChange] = []
    found: list[Risk] = []
    for host in deployment.hosts.values():
        seen = observed.hosts.get(host.name)
        changes = by_stack(plan, host.name)
        if not isinstance(seen, ObservedHost) or not changes:
            continue
        there = looked.get(host.name, Looked())
        stacks = {stack.name: stack for stack in host.stacks}
        then = {name: _wanted_project(stacks[name]) for name in changes if name in stacks}
        for name, theirs in changes.items():
            stack = stacks.get(name)
            changed = tuple(file_changes(stack, seen, theirs, there, nonce, value_of, redact))
            files += changed
            before = _found_project(stack, seen, there) if stack else {}
            effects.append(stack_effect(stack, seen, theirs, changed, before, then.get(name, {})))
        found += risks(everything, host, seen, there, changes, then)
    return tuple(effects), tuple(files), tuple(found)


def pulls(plan: Plan, kind: Literal["image", "model"]) -> dict[str, tuple[str, ...]]:
    """Images or models that have to be pulled, and the hosts that need each."""
    found: dict[str, tuple[str, ...]] = {}
    for change in plan.changes:
        if change.subject == kind and change.verb == "create" and change.host not in found.get(change.name, ()):
            found[change.name] = (*found.get(change.name, ()), change.host)
    return found


def concerned(deployment: Deployment, changes: Iterable[Change], files: Iterable[FileChange]) -> frozenset[str]:
    """Hosts of which something changes that their cards hold: an Ollama on them, its models, or how the gateway asks it."""
    stacks = {ollama.stack: host.name for host in deployment.hosts.values() for ollama in host.ollamas if ollama.on_cards}
    found = {stacks[change.stack] for change in changes if change.stack in stacks}
    asked = any(_ASKS.match(line) for file in files if file.diff for line in file.diff.lines)
    return frozenset(stacks.values() if asked else found)


def _wanted_project(stack: StackRelease) -> Mapping[str, Any]:
    file = next((each for each in stack.files if each.path == f"{stack.directory}/{COMPOSE_FILE}"), None)
    return _project("".join(part for part in file.text if isinstance(part, str))) if file else {}


def _found_project(stack: StackRelease, seen: ObservedHost, looked: Looked) -> Mapping[str, Any]:
    """The Compose file on the host, where it differs and nobody hides it."""
    path = f"{stack.directory}/{COMPOSE_FILE}"
    found, there = looked.files.get(path), seen.files.get(path)
    if found is None or found.data is None or is_private(None, there.mode if there else None):
        return {}
    return _project(found.data.decode("utf-8", "replace"))


def _project(text: str) -> Mapping[str, Any]:
    """A Compose file as data; empty where it is none."""
    try:
        found = yaml.load(text, Loader=ComposeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}
