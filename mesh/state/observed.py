"""Observed: what every host is, in the same shape as a Deployment. Facts fill it; nothing here does I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mesh.state.cards import SeenCards
from mesh.state.deployment import Probe


@dataclass(frozen=True, slots=True)
class ObservedFile:
    """A file below the mesh's root on a host."""

    sha256: str
    """Empty for a file that the deployment does not name: only its name matters."""
    mode: int
    owner: int
    group: int


@dataclass(frozen=True, slots=True)
class ObservedMount:
    """Something mounted in a container. kind: bind, volume or tmpfs. source: a volume's name, or a path on the host."""

    kind: str
    source: str
    target: str
    writable: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """What the engine holds a container to: limits, restarts, ports, mounts, networks and rights.

    memory, swap: bytes; 0 is no limit. cpus: billionths of a processor. pids: None where the kernel counts none.
    restart: `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:3`. ports: (container's, address, host's).
    """

    memory: int = 0
    swap: int = 0
    cpus: int = 0
    cpu_shares: int = 0
    cpuset: str = ""
    pids: int | None = None
    restart: str = "no"
    ports: frozenset[tuple[str, str, str]] = frozenset()
    mounts: tuple[ObservedMount, ...] = ()
    networks: frozenset[str] = frozenset()
    network_mode: str = ""
    pid_mode: str = ""
    privileged: bool = False
    read_only: bool = False
    cap_add: frozenset[str] = frozenset()
    cap_drop: frozenset[str] = frozenset()
    security: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ObservedContainer:
    """A container of a managed project, or a foreign one (then no label, environment and health is filled)."""

    id: str
    name: str
    project: str
    service: str
    image: str
    """The reference it was made from."""
    image_id: str
    state: str
    """running, exited, created, restarting, paused, dead"""
    health: str
    """healthy, unhealthy, starting, or empty when the container has no health check"""
    labels: Mapping[str, str] = field(default_factory=dict)
    environment: tuple[str, ...] = ()
    """NAME=value pairs as the engine lists them."""
    config_hash: str = ""
    """Compose's own hash of the service (label com.docker.compose.config-hash)."""
    shape: Shape | None = None
    """None for a foreign container."""


@dataclass(frozen=True, slots=True)
class ObservedName:
    """A volume or network of the engine. project: of its Compose label; empty for one that Compose did not make."""

    kind: Literal["volume", "network"]
    name: str
    project: str


@dataclass(frozen=True, slots=True)
class RecordedService:
    """What the last successful apply wrote down about a service."""

    digest: str
    config_hash: str
    image_id: str


@dataclass(frozen=True, slots=True)
class RecordedRelease:
    """`.release.json` of a stack."""

    release: str
    at: str
    by: str
    mesh: str
    """Whose release it is: two meshes may share a host."""
    services: Mapping[str, RecordedService] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    """Paths of the files it wrote, relative to the stack's folder: those the spec no longer has are cleared away."""
    seconds: float | None = None
    """That its last `up` took, health included."""
    rolled_back: str = ""
    """Who took the stack back to it and when, as `by at`; empty for a release that was applied."""
    probe: Probe | None = None
    """How it is asked whether it answers."""


@dataclass(frozen=True, slots=True)
class ObservedHost:
    """One host, from one round trip."""

    name: str
    files: Mapping[str, ObservedFile] = field(default_factory=dict)
    containers: tuple[ObservedContainer, ...] = ()
    images: Mapping[str, str] = field(default_factory=dict)
    """Image reference -> id, of the images present that the deployment names."""
    releases: Mapping[str, RecordedRelease] = field(default_factory=dict)
    lock: str = ""
    """Who holds the apply lock and since when; empty when nobody does."""
    journal: int = 0
    """Bytes of its journal, which grows with every run that ends."""
    cards: SeenCards | None = None
    """What nvidia-smi told; None where it was not asked."""
    names: tuple[ObservedName, ...] = ()
    """Every volume and network of the engine."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that could not be read. Never to be confused with "there is nothing"."""

    why: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory, as /api/ps lists it. size, size_vram: bytes; it spilled where size_vram < size. context: tokens."""

    tag: str
    size: int
    size_vram: int
    context: int


@dataclass(frozen=True, slots=True)
class ObservedGateway:
    """One live gateway's own list of groups and fallbacks, and the digest of the guard that it runs."""

    groups: tuple[str, ...]
    fallbacks: Mapping[str, tuple[str, ...]]
    guard: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """The whole mesh as it is."""

    hosts: Mapping[str, ObservedHost | Unknown] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, str] | Unknown] = field(default_factory=dict)
    """Ollama stack -> tag -> manifest digest"""
    gateways: Mapping[str, ObservedGateway | Unknown] = field(default_factory=dict)
    """Service that is a gateway -> what it lists"""
    loaded: Mapping[str, tuple[LoadedModel, ...] | Unknown] = field(default_factory=dict)
    """Ollama stack -> what it has in memory; only those that use cards are asked"""
