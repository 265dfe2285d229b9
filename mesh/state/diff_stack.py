"""One stack on one host: its files, its services, and containers that do not belong."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from functools import cached_property

from mesh.compile.digest import mounted_paths
from mesh.state.deployment import File, HostDeployment, Service, StackRelease
from mesh.state.diff_container import shape_differences
from mesh.state.observed import ObservedContainer, ObservedFile, ObservedHost
from mesh.state.parse import SYMLINK
from mesh.state.plan import Change, Subject, Verb
from mesh.state.release import release_id
from mesh.state.words import environment_differences, short

RELEASE_FILE = ".release.json"
COMPOSE_FILE = "compose.yaml"
DIGEST_LABEL = "mesh.digest"
_ONE_OFF = "com.docker.compose.oneoff"


class StackDiff:
    """The comparison of one stack. `changes()` is the result; the rest are its parts."""

    def __init__(self, host: HostDeployment, stack: StackRelease, seen: ObservedHost, value_of: Callable[[str], str]) -> None:
        self.host, self.stack, self.seen, self.value_of = host, stack, seen, value_of
        self.record = seen.releases.get(stack.name)
        self.as_applied = self.record is not None and self.record.release == release_id(stack)
        """Whether the last successful apply was of this very release: what differs now was changed on the host."""

    def changes(self) -> list[Change]:
        """All differences of the stack, files first."""
        found = [*self._file_changes(), *self._extra_files()]
        services = [change for service in self.stack.services if (change := self._service_change(service))]
        extra = list(self._extra_containers())
        if found or services or extra:
            services += self._adopted_remade({change.name for change in services})
        found += [*self._missing_images(services), *services, *extra]
        if not found and not self.as_applied:
            why = "is missing" if self.record is None else "names another release"
            found.append(self._change("file", self._path(RELEASE_FILE), "update", f"{why}: the last apply did not finish"))
        return found

    def _change(self, subject: Subject, name: str, verb: Verb, why: str) -> Change:
        return Change(self.host.name, self.stack.name, subject, name, verb, why)

    def _path(self, relative: str) -> str:
        return f"{self.stack.directory}/{relative}"

    def _relative(self, path: str) -> str:
        return path.removeprefix(f"{self.stack.directory}/")

    # files

    @cached_property
    def _differing(self) -> dict[str, str]:
        """Why each file differs, by relative path."""
        found = {}
        for file in self.stack.files:
            why = self._why_file(file, self.seen.files.get(file.path))
            if why:
                found[self._relative(file.path)] = why
        return found

    def _why_file(self, file: File, seen: ObservedFile | None) -> str:
        if seen is None:
            return "is missing" if self.as_applied else "is new"
        if seen.sha256 == SYMLINK:
            return "is a symbolic link now, not a file"
        if not kept_back(file, seen) and seen.sha256 != file.sha256(self.value_of):
            return "was edited on the host" if self.as_applied else "changes with the spec"
        if seen.mode != file.mode:
            return f"has mode {seen.mode:04o}, should have {file.mode:04o}"
        if (seen.owner, seen.group) != (file.owner, file.group):
            return f"belongs to {seen.owner}:{seen.group}, should belong to {file.owner}:{file.group}"
        return ""

    def _file_changes(self) -> Iterator[Change]:
        for path, why in self._differing.items():
            verb: Verb = "create" if self._path(path) not in self.seen.files else "update"
            yield self._change("file", self._path(path), verb, why)

    def extra_files(self) -> tuple[str, ...]:
        """Relative paths of files in the stack's folder that are not the spec's, not the tool's and not a service's data."""
        expected = {file.path for file in self.stack.files} | {self._path(RELEASE_FILE)}
        written = set(self.record.files) if self.record else set()
        extra = [
            self._relative(path)
            for path in self.seen.files
            if path.startswith(f"{self.stack.directory}/") and path not in expected
        ]
        return tuple(path for path in extra if path in written or not self._is_data(path))

    def _is_data(self, path: str) -> bool:
        return any(_covers(mount, path) for service in self.stack.services for mount in self._mounts(service))

    def _extra_files(self) -> Iterator[Change]:
        written = set(self.record.files) if self.record else set()
        for path in self.extra_files():
            why = "is left from an earlier release" if path in written else "is not of the spec: somebody put it there"
            kept = f"; it moves to {self.host.root}/previous/{self.stack.name}.extra"
            yield self._change("file", self._path(path), "remove", why + kept)

    # services

    def _mounts(self, service: Service) -> tuple[str, ...]:
        return mounted_paths(service.definition, {})

    def containers(self, service: Service) -> list[ObservedContainer]:
        """The containers of a service, the one with the expected name first."""
        found = [
            container
            for container in self.seen.containers
            if container.project == self.stack.name and container.service == service.name and not _one_off(container)
        ]
        return sorted(found, key=lambda container: (container.name != service.container, container.name))

    def _service_change(self, service: Service) -> Change | None:
        wanted = _replicas(service)
        found = self.containers(service)
        if len(found) < wanted:
            why = "has no container" if not found else f"has {len(found)} containers, should have {wanted}"
            return self._change("service", service.name, "create", why)
        for container in found[:wanted]:
            remade = self._why_remade(service, container)
            if remade:
                return self._change("service", service.name, "update", "; ".join(remade))
            restarted = self._why_restarted(service, container)
            if restarted:
                return self._change("service", service.name, "restart", "; ".join(restarted))
        return None

    def _why_remade(self, service: Service, container: ObservedContainer) -> list[str]:
        """Reasons to make the container anew."""
        why: list[str] = []
        changed = [path for path in self._differing if any(_covers(mount, path) for mount in self._mounts(service))]
        if self.adopted(service, container):
            return why
        digest = container.labels.get(DIGEST_LABEL)
        if digest is None:
            why.append("its container was not made by the mesh")
        elif digest != service.digest:
            if self.as_applied:
                why.append("its container was made from another release")
            else:
                why.append(f"{_names(changed)} changed" if changed else "its definition changed")
        interpolated = "$" in service.image
        if not interpolated and container.image != service.image:
            why.append(f"runs {container.image}, should run {service.image}")
        elif not interpolated and container.image_id != self.seen.images.get(service.image, container.image_id):
            why.append(f"runs {short(container.image_id)}, and {service.image} is {short(self.seen.images[service.image])} here")
        why += environment_differences(service.environment, container.environment)
        if container.shape is not None:
            why += shape_differences(self.stack, service, container.shape, self.seen)
        if not why and self.as_applied and self.record:
            recorded = self.record.services.get(service.name)
            if recorded and recorded.config_hash != container.config_hash:
                why.append("was recreated by hand: its definition is not the one that was applied")
        return why

    def adopted(self, service: Service, container: ObservedContainer) -> bool:
        """Whether it runs as `mesh adopt` found it: without our labels, but what it was made from is what is wanted."""
        recorded = self.record.services.get(service.name) if self.record else None
        return (
            recorded is not None
            and DIGEST_LABEL not in container.labels
            and (recorded.digest, recorded.config_hash, recorded.image_id)
            == (service.digest, container.config_hash, container.image_id)
        )

    def _adopted_remade(self, changed: set[str]) -> Iterator[Change]:
        """Any change of the stack brings the labels to its adopted containers, which makes them anew."""
        for service in self.stack.services:
            if service.name not in changed and any(self.adopted(service, each) for each in self.containers(service)):
                why = "was adopted as it ran, and is made anew once, with the mesh's labels"
                yield self._change("service", service.name, "update", why)

    def _why_restarted(self, service: Service, container: ObservedContainer) -> list[str]:
        """Reasons to start it again as it is."""
        changed = [path for path in self._differing if any(_covers(mount, path) for mount in self._mounts(service))]
        if changed:
            return [f"mounts {_names(changed)}, which differs"]
        if container.state == "running":
            return ["is unhealthy"] if container.health == "unhealthy" else []
        if container.state == "exited" and self._runs_once(service):
            return []
        return ["is restarting over and over" if container.state == "restarting" else f"is not running ({container.state})"]

    def _runs_once(self, service: Service) -> bool:
        """Whether it is a job that ends: another service of the stack waits for it to complete."""
        for other in self.stack.services:
            waits = other.definition.get("depends_on")
            if isinstance(waits, dict) and (waits.get(service.name) or {}).get("condition") == "service_completed_successfully":
                return True
        return False

    def _missing_images(self, services: list[Change]) -> Iterator[Change]:
        """Images to pull, for the services that are made anew."""
        remade = {change.name for change in services if change.verb in {"create", "update"}}
        missing = dict.fromkeys(
            service.image
            for service in self.stack.services
            if service.name in remade and service.image not in self.seen.images and "$" not in service.image
        )
        for image in missing:
            yield self._change("image", image, "create", "has to be pulled")

    def extra_containers(self) -> list[ObservedContainer]:
        """Containers of the stack's project that the spec does not explain."""
        explained = {
            container.id
            for service in self.stack.services
            for container in self.containers(service)[: max(_replicas(service), 1)]
        }
        return [
            container
            for container in self.seen.containers
            if container.project == self.stack.name and container.id not in explained
        ]

    def _extra_containers(self) -> Iterator[Change]:
        for container in self.extra_containers():
            service = container.service or "no service"
            known = any(service == each.name for each in self.stack.services)
            why = "is one too many of its service" if known else f"is in this project ({service}), and not of the spec"
            yield self._change("container", container.name, "remove", why)


def kept_back(file: File, seen: ObservedFile) -> bool:
    """Whether its hash was not told: a limited key does not get those of files that hold secrets."""
    return not seen.sha256 and bool(file.secret_names or not seen.mode & 0o004)


def _covers(mount: str, path: str) -> bool:
    return mount in {".", path} or path.startswith(f"{posixpath.normpath(mount)}/")


def _one_off(container: ObservedContainer) -> bool:
    return container.labels.get(_ONE_OFF, "").lower() == "true"


def _replicas(service: Service) -> int:
    """How many containers the service should have: none where it waits for a profile."""
    definition = service.definition
    if definition.get("profiles"):
        return 0
    deploy = definition.get("deploy")
    count = definition.get("scale", (deploy or {}).get("replicas", 1) if isinstance(deploy, dict) else 1)
    return count if isinstance(count, int) else 1


def _names(paths: list[str]) -> str:
    shown = [path for path in paths if path != COMPOSE_FILE] or paths
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
