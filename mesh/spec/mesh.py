"""The whole spec."""

from __future__ import annotations

from pydantic import Field

from mesh.secrets.value import Source
from mesh.spec.drift import Drift
from mesh.spec.hosts import Host
from mesh.spec.providers import Model, OllamaProvider, Provider
from mesh.spec.routes import Client, Ledger, Route
from mesh.spec.stacks import Stack
from mesh.spec.types import Name, SecretRef, Spec


class SecretSource(Spec):
    """Where a secret comes from when not from secrets.age. Exactly one of the two."""

    env: str | None = Field(
        default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="An environment variable on the laptop."
    )
    command: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="A command that prints it: [op, read, op://...]."
    )

    @property
    def source(self) -> Source:
        """The same as plain data."""
        return Source(self.env, self.command)


def default_key(client: str) -> SecretRef:
    """The secret that holds the key of a client of this name, unless the client names another."""
    return SecretRef(f"client_{client.replace('-', '_').replace('.', '_')}_key")


class Mesh(Spec):
    """Everything that the mesh is. Every file on every host follows from this and the stack folders."""

    mesh: Name = Field(description="The mesh's name; it is on every label.")
    root: str = Field(
        default="/opt/mesh", pattern=r"^/[A-Za-z0-9/._-]*[A-Za-z0-9]$", description="The tool's folder on every host."
    )
    hosts: dict[Name, Host] = Field(min_length=1)
    providers: dict[Name, Provider] = Field(default_factory=dict)
    models: dict[Name, Model] = Field(default_factory=dict)
    routes: dict[Name, Route] = Field(default_factory=dict)
    clients: dict[Name, Client] = Field(default_factory=dict)
    ledger: Ledger = Ledger()
    stacks: dict[Name, Stack] = Field(default_factory=dict)
    images: dict[Name, str] = Field(
        default_factory=dict, description="Image of a stack's service, in place of the stack's default."
    )
    secrets: dict[str, SecretSource] = Field(default_factory=dict, description="Secrets that do not come from secrets.age.")
    drift: Drift = Drift()

    def client_key(self, client: str) -> SecretRef:
        """The secret that holds the client's key."""
        return self.clients[client].key or default_key(client)

    def is_local(self, model: str) -> bool:
        """Whether the model runs in the building. Raises KeyError for unknown names: call it on a checked spec.

        A tag of Ollama's that ends in `cloud` does not: Ollama hands those on to its own service.
        """
        found = self.models[model]
        return self.providers[found.at].local and not (found.tag or "").endswith("cloud")

    @property
    def ollamas(self) -> dict[str, OllamaProvider]:
        """The Ollama providers by name. Each is a stack of the same name."""
        return {name: provider for name, provider in self.providers.items() if isinstance(provider, OllamaProvider)}
