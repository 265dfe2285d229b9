"""The contract of a stack folder: what its `stack.py` may say. This file is all that a stack author needs to read.

A stack is a folder under stacks/. It holds either

- a plain `compose.yaml`: the mesh adds its labels and leaves the rest as it is; or
- a template `compose.yaml.j2` and a `stack.py` that defines `stack = StackKind(...)`.

Every other file of the folder lands beside compose.yaml on the host, except `stack.py`, README.md and tests.

In the template every `{{ expression }}` is emitted as JSON, which is YAML: write `image: {{ image.qdrant }}` without
quotes, and join strings inside the braces: `{{ bind ~ ":6333" }}`. No value can break out of its place. The template sees:

    name, kind     the stack's name and kind          image     the images by service
    bind, port     address and port to publish on     memory    memory limit, as Compose writes it
    host           the host, as in the spec           with_secrets   entrypoint that loads secrets/env (see `secrets`)
    published      "<bind>:<port>", to put before ":<container port>"

and whatever `values` adds. Under each service of a template lie the defaults of templates/service-defaults.yaml
(hardening, limits, logs, restart); what the template says wins, key by key.

The smallest useful example is stacks/qdrant/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mesh.errors import MeshError
from mesh.spec.hosts import Host
from mesh.spec.mesh import Mesh
from mesh.spec.types import SecretRef
from mesh.state.deployment import Rolling, Text


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one stack is: resolved from the spec and the stack kinds' defaults before anything is rendered."""

    name: str
    kind: str
    host_name: str
    host: Host
    port: int | None

    @property
    def url(self) -> str:
        """Base URL by which the laptop and every other stack reach it."""
        if self.port is None:
            raise MeshError(f"stack {self.name} publishes no port, so nothing can be wired to it", where=f"stacks/{self.kind}")
        address = f"[{self.host.address}]" if ":" in self.host.address else self.host.address
        return f"http://{address}:{self.port}"

    @property
    def bind(self) -> str:
        """Address that ports are published on, as Compose writes it in front of a port."""
        address = str(self.host.bind or self.host.address)
        return f"[{address}]" if ":" in address else address


@dataclass(frozen=True, slots=True)
class Instance:
    """One stack of the spec, as handed to the callables of its StackKind.

    memory: bytes. images: by service, as they will run. placements: every stack of the mesh by name.
    """

    placement: Placement
    mesh: Mesh
    images: Mapping[str, str]
    memory: int
    placements: Mapping[str, Placement]

    @property
    def name(self) -> str:
        return self.placement.name

    def the(self, kind: str) -> Placement:
        """The mesh's one stack of that kind: `instance.the("qdrant").url`."""
        found = [each for each in self.placements.values() if each.kind == kind]
        if len(found) != 1:
            have = f"there are {len(found)}: {', '.join(each.name for each in found)}" if found else "there is none"
            raise MeshError(
                f"stack {self.name} needs exactly one stack of kind {kind}, and {have}",
                where=f"stacks.{self.name}",
                mend=f"declare one under `stacks:`, such as `{kind}: {{on: {self.placement.host_name}}}`",
            )
        return found[0]


def _nothing(_: Instance) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class StackKind:
    """What a kind of stack is. Everything has a default but the images.

    images:  default image of each service, or of several alike services under one name; exact tags only.
    port:    published port where the spec names none.
    probe:   path that must answer below 400 through the published port once the stack is up.
    memory:  memory limit in bytes of the main service where the spec names none (the template places it).
    after:   kinds of stacks that are brought up before it, where they are brought up in the same run.
    volumes: named volumes that hold state worth keeping; apply never deletes them.
    rolling: services that are alike and are changed one after the other, so that one of them always serves.
    values:  more values for the template.
    secrets: environment variables of the containers whose values are secrets. They land in secrets/env (mode 0400), never in
             the container's definition: mount it as `./secrets/env:/run/secrets/env:ro` and set `entrypoint: {{ with_secrets }}`.
    files:   generated files by path below the stack's folder; text, or parts of text and `SecretPart`s (then mode 0400).

    All of it has to follow from the spec and the stack's folder alone: no clock, no environment, no network (docs/kept.md).
    """

    images: Mapping[str, str]
    port: int | None = None
    probe: str | None = None
    memory: int = 512 * 1024**2
    after: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    rolling: Rolling | None = None
    values: Callable[[Instance], Mapping[str, Any]] = field(default=_nothing)
    secrets: Callable[[Instance], Mapping[str, SecretRef]] = field(default=_nothing)
    files: Callable[[Instance], Mapping[str, str | Text]] = field(default=_nothing)
