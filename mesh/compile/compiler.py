"""compile_mesh: the spec, the stack folders and the image lock in, the Deployment out. Pure: no I/O, no clock, no randomness."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from mesh.compile.digest import guard_digest, service_digest
from mesh.compile.gateway import expected_gateway
from mesh.compile.images import ImageLock
from mesh.compile.library import PLAIN, StackFolder, StackLibrary
from mesh.compile.named import named_objects
from mesh.compile.plain import edit_plain
from mesh.compile.plain_project import ENV, place_in, replaced, secrets_in
from mesh.compile.stack import Instance, Placement
from mesh.compile.template import escape_dollars, render_template
from mesh.compile.tree import placeholder
from mesh.compile.yamltext import dump_compose
from mesh.errors import MeshError
from mesh.spec.mesh import Mesh
from mesh.spec.types import SecretRef
from mesh.state.deployment import (
    Card,
    Deployment,
    File,
    Gateway,
    HostDeployment,
    OllamaModels,
    Probe,
    Rolling,
    SecretPart,
    Service,
    StackRelease,
    Text,
    dotenv_value,
)

SECRETS_ENV = "secrets/env"
DIGEST = "mesh.digest"
GATEWAY = "litellm"
"""Kind of the stack that is the gateway."""
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}")


def compile_mesh(mesh: Mesh, library: StackLibrary, lock: ImageLock, fingerprint: Callable[[str], str]) -> Deployment:
    """The whole mesh.

    fingerprint: a keyed hash of a secret's value by the secret's name; it goes into the digests, the value never does.
    The spec must have passed `mesh check`: names that resolve to nothing raise KeyError.
    """
    placements = library.placements(mesh)
    releases = {name: _Compilation(mesh, library, lock, fingerprint, placements, name).release() for name in placements}
    hosts = {
        name: HostDeployment(
            name=name,
            address=host.address,
            root=mesh.root,
            stacks=tuple(releases[each.name] for each in placements.values() if each.host_name == name),
            ollamas=tuple(_models(mesh, placements[each]) for each, it in mesh.ollamas.items() if it.on == name),
            cards=tuple(Card(gpu.card, sum(gpu.reserve.values())) for gpu in host.gpus),
        )
        for name, host in mesh.hosts.items()
    }
    return Deployment(mesh=mesh.mesh, hosts=hosts, gateway=_gateway(mesh, placements, releases.values()))


def _gateway(mesh: Mesh, placements: Mapping[str, Placement], releases: Iterable[StackRelease]) -> Gateway | None:
    """What the live gateways must list, and the guard that they must run."""
    gateway = expected_gateway(mesh, placements)
    if gateway is None:
        return None
    release = next(each for each in releases if each.kind == GATEWAY)
    services = release.rolling.services if release.rolling else ()
    return replace(gateway, services=services, guard=guard_digest(release.files))


def _models(mesh: Mesh, place: Placement) -> OllamaModels:
    models = [model for model in mesh.models.values() if model.at == place.name]
    tags = {_full_tag(model.tag) for model in models if model.tag}
    spill = {_full_tag(model.tag) for model in models if model.tag and model.spill is not None}
    on_cards = mesh.ollamas[place.name].gpu != "none" and bool(place.host.gpus)
    container = container_name(place.name, "ollama")
    return OllamaModels(place.name, container, place.url, tuple(sorted(tags)), on_cards, tuple(sorted(spill)))


def _full_tag(tag: str) -> str:
    """As Ollama lists it: `nomic-embed-text` is `nomic-embed-text:latest`."""
    return tag if ":" in tag.rpartition("/")[2] else f"{tag}:latest"


def container_name(stack: str, service: str) -> str:
    """Compose's own naming of the one container of a service."""
    return f"{stack}-{service}-1"


class _Compilation:
    """One stack on its way to a StackRelease."""

    def __init__(
        self,
        mesh: Mesh,
        library: StackLibrary,
        lock: ImageLock,
        fingerprint: Callable[[str], str],
        placements: Mapping[str, Placement],
        name: str,
    ) -> None:
        self.mesh, self.library, self.fingerprint, self.placements, self.name = mesh, library, fingerprint, placements, name
        self.folder: StackFolder = library.folders[name]
        self.defaults = library.defaults
        self.place = placements[name]
        self.directory = f"{mesh.root}/stacks/{name}"
        self.images = {service: lock.pin(image) for service, image in library.images(mesh, name).items()}
        if "." in name:
            raise MeshError(
                f"a stack cannot be called {name}",
                where=f"stacks.{name}",
                why="its name is the name of a Compose project, which may hold lower case letters, digits, - and _ only",
            )

    def release(self) -> StackRelease:
        return self._own() if self.folder.contract else self._plain()

    def _own(self) -> StackRelease:
        contract = self.folder.contract
        assert contract is not None
        declared = self.mesh.stacks.get(self.name)
        if declared and (declared.env or declared.secrets):
            raise MeshError(
                f"stack {self.name} is of the kind {self.place.kind}, which takes neither `env:` nor `secrets:`",
                where=f"stacks.{self.name}",
                why="they are for a plain compose.yaml of your own",
                mend=f"remove them; what {self.place.kind} needs is in its stack.py",
            )
        memory = (declared.memory if declared else None) or contract.memory
        instance = Instance(self.place, self.mesh, self.images, memory, self.placements)
        secrets: Mapping[str, SecretRef] = self._asked("secrets", contract.secrets, instance)
        files = self._folder_files()
        files |= {path: self._file(path, text) for path, text in self._asked("files", contract.files, instance).items()}
        if secrets:
            env: list[str | SecretPart] = []
            for variable, secret in sorted(secrets.items()):
                env += [f"{variable}=", SecretPart(secret.name, "shell"), "\n"]
            files[SECRETS_ENV] = self._file(SECRETS_ENV, tuple(env))
        project = render_template(self.folder, instance, self._asked("values", contract.values, instance), self.defaults)
        for name, definition in project["services"].items():
            if definition.get("image") not in self.images.values():
                raise MeshError(
                    f"service {name} has no image of the stack's",
                    where=str(self.folder.path / "stack.py"),
                    mend="add it to `images=`, and write `image: {{ image.NAME }}` in the template",
                )
            definition["labels"] = {**definition.get("labels", {}), **self._labels()}
            definition["labels"][DIGEST] = service_digest(definition, project, files, self.fingerprint)
        project = {"name": self.name, **{key: value for key, value in project.items() if key != "name"}}
        files[PLAIN] = self._file(PLAIN, _banner(self.folder) + dump_compose(escape_dollars(project)))
        after = tuple(each.name for each in self.placements.values() if each.kind in contract.after)
        probe = Probe(self.place.url + contract.probe) if contract.probe and self.place.port else None
        return self._release(files, project, probe, after, contract.volumes, contract.rolling)

    def _asked(self, what: str, function: Callable[[Instance], Mapping[str, Any]], instance: Instance) -> Mapping[str, Any]:
        """The answer of a callable of the stack's contract. It is the stack author's code: its errors are theirs to read."""
        try:
            return function(instance)
        except MeshError:
            raise
        except Exception as error:
            raise MeshError(
                f"`{what}` of the stack's contract fails",
                where=str(self.folder.path / "stack.py"),
                why=f"{self.name}: {type(error).__name__}: {error}",
                mend="correct stack.py, or what it reads from the spec",
            ) from error

    def _plain(self) -> StackRelease:
        files = self._folder_files()
        declared = self.mesh.stacks[self.name]
        for name, secret in declared.secrets.items():
            files[f"secrets/{name}"] = self._file(f"secrets/{name}", (SecretPart(secret.name),))
        if declared.env:
            files[ENV] = self._variables(declared.env, files.get(ENV))
        plain = self.library.plain(self.mesh, self.name)
        self._refuse_lost_files(plain.data, files)
        labels: dict[str, dict[str, str]] = {}
        services: dict[str, dict[str, Any]] = {}
        for name, written in plain.data["services"].items():
            definition = {**written, "labels": {**_pairs(written.get("labels")), **self._labels()}}
            definition["image"] = self.images[name]
            counted, uses = (replaced(each, self._fingerprint_mark) for each in (definition, plain.uses(name)))
            digest = definition["labels"][DIGEST] = service_digest(counted, plain.data, files, self.fingerprint, uses)
            labels[name] = {**self._labels(), DIGEST: digest}
            services[name] = definition
        text = edit_plain(self.folder, self.name, self.images, labels)
        files[PLAIN] = self._file(PLAIN, _banner(self.folder) + text)
        volumes = tuple(str(name) for name in plain.data.get("volumes") or {})
        return self._release(files, {**plain.data, "services": services}, None, (), volumes)

    def _fingerprint_mark(self, secret: str) -> str:
        return f"\0{self.fingerprint(secret)}\0"

    def _variables(self, given: Mapping[str, str | SecretRef], own: File | None) -> File:
        """.env on the host: the spec's variables, then the folder's own .env, which may use them."""
        text: list[str | SecretPart] = []
        for name, value in given.items():
            part = SecretPart(value.name, "dotenv") if isinstance(value, SecretRef) else dotenv_value(value)
            text += [f"{name}=", part, "\n"]
        whole = (*text, *(own.text if own else ()))
        secret = any(isinstance(part, SecretPart) for part in whole)
        return File(f"{self.directory}/{ENV}", whole, 0o400 if secret else 0o600)

    def _refuse_lost_files(self, project: Mapping[str, Any], files: Mapping[str, File]) -> None:
        """Files that `configs:` and `secrets:` take from the folder have to be in it."""
        for section in ("configs", "secrets"):
            for name, declared in (project.get(section) or {}).items():
                path = str((declared or {}).get("file", ""))
                if path and not path.startswith(("/", "~")) and posixpath.normpath(path) not in files:
                    mend = f"put it at {self.folder.path / path}"
                    if section == "secrets":
                        mend += ", or give it in the spec: `secrets: {NAME: secret:...}` becomes secrets/NAME"
                    what = f"{section}.{name} is {path}, which is not in the stack's folder"
                    raise MeshError(what, where=place_in(self.folder, section, name, "file"), mend=mend)

    def _release(
        self,
        files: Mapping[str, File],
        project: Mapping[str, Any],
        probe: Probe | None,
        after: tuple[str, ...],
        volumes: tuple[str, ...],
        rolling: Rolling | None = None,
    ) -> StackRelease:
        services = tuple(
            Service(
                name=name,
                container=str(definition.get("container_name") or container_name(self.name, name)),
                image=str(definition.get("image") or f"{self.name}-{name}"),
                digest=definition["labels"][DIGEST],
                environment=_environment(definition.get("environment"), literal=self.folder.contract is not None),
                definition=replaced(definition, placeholder),
            )
            for name, definition in project["services"].items()
            if not definition.get("profiles")  # Compose leaves those down
        )
        ordered = tuple(files[path] for path in sorted(files))
        named = named_objects(self.name, project)
        return StackRelease(self.name, self.place.kind, self.directory, ordered, services, probe, after, volumes, rolling, named)

    def _labels(self) -> dict[str, str]:
        return {"mesh.name": self.mesh.mesh, "mesh.stack": self.name}

    def _folder_files(self) -> dict[str, File]:
        return {path: File(f"{self.directory}/{path}", (each.text,), each.mode) for path, each in self.folder.files.items()}

    def _file(self, path: str, text: str | Text) -> File:
        """A generated file. One that holds a secret is readable by root alone, and so is everything under secrets/."""
        parts = (text,) if isinstance(text, str) else text
        secret = any(isinstance(part, SecretPart) for part in parts)
        return File(f"{self.directory}/{path}", parts, 0o400 if secret else 0o644)


def _banner(folder: StackFolder) -> str:
    return f"# Made by homelab-mesh from stacks/{folder.path.name}: edits made here are drift, and the next apply undoes them.\n"


def _pairs(value: Any) -> dict[str, str]:
    """Compose's two ways of writing labels and variables, as one mapping of strings."""
    if isinstance(value, list):
        return {key: text for key, _, text in (str(each).partition("=") for each in value)}
    return {str(key): _as_compose_prints(each) for key, each in (value or {}).items()}


def _as_compose_prints(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _environment(value: Any, *, literal: bool) -> dict[str, str]:
    """What the container's environment must show. Of a plain file only what Compose passes on as it is written.

    It prints floats and dates in a way of its own. Values of secrets are not known: the digest tells when one changes.
    """
    if isinstance(value, list):
        known = {key: text for key, given, text in (str(each).partition("=") for each in value) if given}
    else:
        known = {str(key): _as_compose_prints(each) for key, each in (value or {}).items() if each is not None}
    if literal:
        return known
    plain = {key for key, each in value.items() if not isinstance(each, float)} if isinstance(value, Mapping) else set(known)
    return {key: text for key, text in known.items() if key in plain and not secrets_in(text) and not _DATE.match(text)}
