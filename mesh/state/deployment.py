"""Deployment: what every host should be, as plain frozen data. The output of the compiler and the input of everything else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Quoting = Literal["raw", "shell", "dotenv"]


@dataclass(frozen=True, slots=True)
class SecretPart:
    """The place of a secret's value inside a file. The value itself is never part of a Deployment.

    quoting: `raw` puts the bytes as they are, `shell` as one single-quoted shell word, `dotenv` as a value in Compose's .env.
    """

    name: str
    quoting: Quoting = "raw"


Text = tuple[str | SecretPart, ...]
"""A file's content: literal text and the places of secrets."""


@dataclass(frozen=True, slots=True)
class File:
    """One file on a host. `path` is absolute; `mode` is the permission bits; `owner` and `group` are numeric ids."""

    path: str
    text: Text
    mode: int = 0o644
    owner: int = 0
    group: int = 0

    @property
    def secret_names(self) -> tuple[str, ...]:
        return tuple(part.name for part in self.text if isinstance(part, SecretPart))

    def content(self, value_of: Callable[[str], str]) -> bytes:
        """The bytes that land on the host. `value_of` gives a secret's value by name and may raise MeshError.

        Bytes of the operator's files that are not UTF-8 are kept as surrogates in `text`.
        """
        return "".join(
            part if isinstance(part, str) else _quoted(value_of(part.name), part.quoting) for part in self.text
        ).encode("utf-8", "surrogateescape")

    def sha256(self, value_of: Callable[[str], str]) -> str:
        return hashlib.sha256(self.content(value_of)).hexdigest()


def _quoted(value: str, quoting: Quoting) -> str:
    if quoting == "raw":
        return value
    return dotenv_value(value) if quoting == "dotenv" else "'" + value.replace("'", "'\\''") + "'"


def dotenv_value(value: str) -> str:
    """A value as .env has to hold it for Compose to read exactly it: between `'` nothing is special but `'` and a last `\\`."""
    if "'" not in value and not value.endswith("\\"):
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("\n", "\\n")
    return f'"{escaped}"'


@dataclass(frozen=True, slots=True)
class Service:
    """One service of a stack, as drift compares it. `definition` is the Compose service, labels included."""

    name: str
    container: str
    image: str
    digest: str
    environment: Mapping[str, str]
    definition: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Named:
    """A volume or network of a stack: its key in the Compose file, and its name in the engine.

    external: the stack only uses it; somebody else makes it. A name with `$` in it is known to Compose alone.
    """

    kind: Literal["volume", "network"]
    key: str
    name: str
    external: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """An HTTP GET through the published port that must answer below 400 once the stack is up."""

    url: str
    timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class Rolling:
    """Services that are alike, changed one after the other while `before`, which stands before them, sends to the others.

    switch: the command in `before`; with `drain SERVICE` it sends that one nothing new, with `ready SERVICE` it does again.
    """

    services: tuple[str, ...]
    before: str
    switch: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StackRelease:
    """One stack on one host: a Compose project of the same name in `directory`.

    after: names of stacks (on any host) that have to be up first.
    volumes: named volumes with state worth keeping (never deleted).
    named: every volume and network that its Compose file declares, or that Compose makes for it.
    """

    name: str
    kind: str
    directory: str
    files: tuple[File, ...]
    services: tuple[Service, ...]
    probe: Probe | None = None
    after: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    rolling: Rolling | None = None
    named: tuple[Named, ...] = ()


@dataclass(frozen=True, slots=True)
class OllamaModels:
    """The models that an Ollama must hold: tags, by the stack that serves them."""

    stack: str
    container: str
    url: str
    tags: tuple[str, ...]
    on_cards: bool = False
    """Whether it uses the cards of its host."""
    may_spill: tuple[str, ...] = ()
    """Tags that may overflow into RAM."""


@dataclass(frozen=True, slots=True)
class Card:
    """A graphics card that the host must have. reserve: bytes that others than Ollama take on it."""

    name: str
    reserve: int = 0


@dataclass(frozen=True, slots=True)
class Reach:
    """How the laptop reaches a host. key: the private key's file as the spec writes it. docker: the docker command there."""

    address: str
    user: str = "root"
    port: int = 22
    key: str | None = None
    docker: str = "docker"


@dataclass(frozen=True, slots=True)
class HostDeployment:
    """Everything that one host should be."""

    name: str
    address: str
    root: str
    stacks: tuple[StackRelease, ...] = ()
    ollamas: tuple[OllamaModels, ...] = ()
    cards: tuple[Card, ...] = ()


@dataclass(frozen=True, slots=True)
class Gateway:
    """What every live gateway must list: the groups, the fallbacks of each group in order, and the guard that it runs.

    The gateway's router tells both from its memory, not from its file, in one answer:
    `GET <url>/v1/models?include_metadata=true` with the key as bearer; `data[].id` are the groups,
    `data[].metadata.fallbacks` the fallbacks of each (empty where there are none; only groups with some are in `fallbacks`).
    """

    url: str
    key: str
    """Name of the secret that opens the gateway's listing."""
    groups: tuple[str, ...]
    fallbacks: Mapping[str, tuple[str, ...]]
    services: tuple[str, ...] = ()
    """The gateways behind the URL: the header `x-mesh-gateway` of a request picks one, that of the answer says which it was."""
    guard: str = ""
    """sha256 of the guard's code and policy. `GET <url>/mesh/guard` tells which the gateway has loaded, or `none`."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """The whole mesh, compiled."""

    mesh: str
    hosts: Mapping[str, HostDeployment] = field(default_factory=dict)
    gateway: Gateway | None = None

    @property
    def secret_names(self) -> frozenset[str]:
        """Every secret that some file needs."""
        return frozenset(
            name for host in self.hosts.values() for stack in host.stacks for file in stack.files for name in file.secret_names
        )
