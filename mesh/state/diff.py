"""diff(Deployment, Observed) -> Plan: the one comparison that plan, apply and drift read. Pure, in a stable order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from mesh.state.deployment import Deployment, Gateway, HostDeployment, OllamaModels
from mesh.state.diff_cards import deviations, lost_cards, not_asked
from mesh.state.diff_names import orphans, taken
from mesh.state.diff_stack import StackDiff, kept_back
from mesh.state.observed import Observed, ObservedContainer, ObservedGateway, ObservedHost, Unknown
from mesh.state.plan import CannotTell, Change, Deviation, Plan
from mesh.state.release import release_id

NAME_LABEL = "mesh.name"


def diff(deployment: Deployment, observed: Observed, value_of: Callable[[str], str]) -> Plan:
    """Everything that is not as the deployment says.

    value_of: a secret's value by name, to compare the hashes of files; it may raise MeshError.
    A host, an Ollama or a gateway that could not be read yields CannotTell, and no changes of its own.
    """
    changes: list[Change] = []
    unknown: list[CannotTell] = []
    foreign: list[str] = []
    notes: list[str] = []
    odd: list[Deviation] = []
    for name, host in deployment.hosts.items():
        seen = observed.hosts.get(name, Unknown("it was not looked at"))
        if isinstance(seen, Unknown):
            unknown.append(CannotTell(name, seen.why, seen.mend))
            continue
        for stack in host.stacks:
            changes += StackDiff(host, stack, seen, value_of).changes()
        changes += _not_in_spec(deployment, host, seen)
        changes += lost_cards(host, seen)
        odd += [*deviations(host, seen, observed), *orphans(host, seen)]
        notes += [*taken(host, seen), *_kept_back(host, seen)]
        unknown += [
            CannotTell(f"{name}/{stack}", f"what it has loaded cannot be listed: {it.why}", it.mend)
            for stack, it in not_asked(host, observed)
        ]
        foreign += [f"{name}/{container.name}" for container in _foreign(deployment, host, seen)]
        notes += _rolled_back(host, seen)
        if seen.lock:
            notes.append(f"{name}: an apply holds the lock ({seen.lock})")
    broken = {(change.host, change.stack) for change in changes if change.subject == "service"}
    for host in deployment.hosts.values():
        for ollama in host.ollamas:
            models = observed.models.get(ollama.stack, Unknown("it was not asked"))
            _models(host, ollama, models, broken, observed, changes, unknown, notes)
    if deployment.gateway:
        _gateway(deployment, deployment.gateway, observed, broken, changes, unknown)
    return Plan(_ordered(deployment, changes), tuple(unknown), tuple(foreign), tuple(notes), tuple(odd))


def _kept_back(host: HostDeployment, seen: ObservedHost) -> Iterator[str]:
    """Files whose content was not compared, because their hashes were not asked for or not told."""
    files = [file for stack in host.stacks for file in stack.files]
    unseen = sum(1 for file in files if (there := seen.files.get(file.path)) and kept_back(file, there))
    if unseen:
        yield f"{host.name}: of {unseen} {'file' if unseen == 1 else 'files'} with secrets only mode and owner were compared"


def ours(deployment: Deployment, host: HostDeployment, container: ObservedContainer) -> bool:
    """Whether the tool may change a container: it is in a managed project, or carries the mesh's name."""
    managed = {stack.name for stack in host.stacks}
    return container.project in managed or container.labels.get(NAME_LABEL) == deployment.mesh


def _rolled_back(host: HostDeployment, seen: ObservedHost) -> Iterator[str]:
    for stack in host.stacks:
        record = seen.releases.get(stack.name)
        if record and record.rolled_back and record.release != release_id(stack):
            by, _, at = record.rolled_back.partition(" ")
            yield f"{host.name}/{stack.name} was rolled back by {by} at {at}: apply takes it forward again"


def _foreign(deployment: Deployment, host: HostDeployment, seen: ObservedHost) -> Iterator[ObservedContainer]:
    return (container for container in seen.containers if not ours(deployment, host, container))


def _not_in_spec(deployment: Deployment, host: HostDeployment, seen: ObservedHost) -> Iterator[Change]:
    """Containers and folders of stacks that were the mesh's and are no longer in the spec, or not on this host."""
    managed = {stack.name for stack in host.stacks}
    elsewhere = {stack.name: other.name for other in deployment.hosts.values() for stack in other.stacks}
    for container in seen.containers:
        if container.project not in managed and ours(deployment, host, container):
            stack = container.project or container.name
            why = f"stack {stack} is on {elsewhere[stack]} now" if stack in elsewhere else f"stack {stack} is not in the spec"
            yield Change(host.name, stack, "container", container.name, "remove", f"{why}; its volumes stay")
    for stack in sorted(name for name, record in seen.releases.items() if name not in managed and record.mesh == deployment.mesh):
        folder = f"{host.root}/stacks/{stack}"
        why = f"stack {stack} is not on this host in the spec; its files move to {host.root}/previous/{stack}"
        yield Change(host.name, stack, "file", folder, "remove", why)


def _models(
    host: HostDeployment,
    ollama: OllamaModels,
    models: Mapping[str, str] | Unknown,
    broken: set[tuple[str, str]],
    observed: Observed,
    changes: list[Change],
    unknown: list[CannotTell],
    notes: list[str],
) -> None:
    if isinstance(observed.hosts.get(host.name), Unknown | None):
        return
    if (host.name, ollama.stack) in broken:
        if not _has_container(observed, host.name, ollama.stack):
            changes += [
                Change(host.name, ollama.stack, "model", tag, "create", "is pulled unless its volume holds it")
                for tag in ollama.tags
            ]
        return
    if isinstance(models, Unknown):
        unknown.append(CannotTell(f"{host.name}/{ollama.stack}", f"its models cannot be listed: {models.why}", models.mend))
        return
    changes += [
        Change(host.name, ollama.stack, "model", tag, "create", f"{ollama.stack} does not hold it")
        for tag in ollama.tags
        if tag not in models
    ]
    extra = sorted(set(models) - set(ollama.tags))
    if extra:
        notes.append(f"{host.name}/{ollama.stack} holds models that the spec does not name: {', '.join(extra)}")


def _has_container(observed: Observed, host: str, stack: str) -> bool:
    seen = observed.hosts.get(host)
    return isinstance(seen, ObservedHost) and any(container.project == stack for container in seen.containers)


def _gateway(
    deployment: Deployment,
    gateway: Gateway,
    observed: Observed,
    broken: set[tuple[str, str]],
    changes: list[Change],
    unknown: list[CannotTell],
) -> None:
    host, stack = _gateway_stack(deployment)
    if isinstance(observed.hosts.get(host), Unknown | None) or (host, stack) in broken:
        return  # the host says so already; or the gateway starts anew, from its file
    for service in gateway.services:
        live = observed.gateways.get(service) or Unknown("it was not asked")
        if isinstance(live, Unknown):
            unknown.append(CannotTell(f"{host}/{stack}", f"the routes of {service} cannot be listed: {live.why}", live.mend))
        else:
            changes += _routes(host, stack, service, gateway, live)


def _routes(host: str, stack: str, service: str, gateway: Gateway, live: ObservedGateway) -> Iterator[Change]:
    if live.guard != gateway.guard:
        runs = "no guard" if live.guard in {"", "none"} else "another guard or policy than the spec's"
        yield Change(host, stack, "route", service, "update", f"the live {service} runs {runs}")
    for group in sorted(set(gateway.groups) | set(live.groups)):
        wanted, has = gateway.fallbacks.get(group, ()), live.fallbacks.get(group, ())
        if group not in live.groups:
            yield Change(host, stack, "route", group, "create", f"the live {service} does not list it")
        elif group not in gateway.groups:
            yield Change(host, stack, "route", group, "remove", f"the live {service} lists it, the spec does not")
        elif wanted != has:
            why = f"the live {service} falls back to {_chain(has)}, the spec says {_chain(wanted)}"
            yield Change(host, stack, "route", group, "update", why)


def _chain(targets: tuple[str, ...]) -> str:
    return ", then ".join(targets) or "nothing"


def _gateway_stack(deployment: Deployment) -> tuple[str, str]:
    """Host and stack of the gateway."""
    for host in deployment.hosts.values():
        for stack in host.stacks:
            if stack.kind == "litellm":
                return host.name, stack.name
    raise ValueError("a deployment with a gateway has a stack of kind litellm")


def _ordered(deployment: Deployment, changes: list[Change]) -> tuple[Change, ...]:
    """By host, then stack in the deployment's order (stacks that go first come first), then as found."""
    hosts = {name: place for place, name in enumerate(deployment.hosts)}
    stacks = {(host.name, stack.name): place for host in deployment.hosts.values() for place, stack in enumerate(host.stacks)}
    return tuple(sorted(changes, key=lambda change: (hosts[change.host], stacks.get((change.host, change.stack), -1))))
