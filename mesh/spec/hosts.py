"""Hosts and the cards in them."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Annotated

from pydantic import Field

from mesh.spec.types import Bytes, CardName, Name, Spec
from mesh.state.deployment import Reach

Port = Annotated[int, Field(ge=1, le=65535)]


class Gpu(Spec):
    """One card. What else lives on it is declared, because the engine cannot see it coming."""

    card: CardName = Field(description="The card's name in the catalogue, such as rtx-4070-ti.")
    reserve: dict[Name, Bytes] = Field(
        default_factory=dict, description="VRAM that other tenants of the card take, by tenant: {desktop: 500MiB}."
    )


class Ssh(Spec):
    """How the laptop reaches the host. The user's own ssh configuration applies as well."""

    user: str = Field(default="root", pattern=r"^[a-z_][a-z0-9_-]{0,31}$")
    port: Port = 22
    key: str | None = Field(default=None, description="Private key file; relative paths start at the inventory folder.")


class Host(Spec):
    """A machine in the closet."""

    address: str = Field(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$",
        description="IP address or DNS name that the laptop and the other hosts use.",
    )
    bind: IPv4Address | None = Field(
        default=None, description="Address that published ports are bound to; needed when `address` is a name."
    )
    ssh: Ssh = Ssh()
    ram: Bytes | None = None
    gpus: tuple[Gpu, ...] = ()
    docker: str = Field(
        default="docker", pattern=r"^[A-Za-z0-9/._-]+$", description="The docker command, for a NAS that keeps it elsewhere."
    )

    @property
    def reach(self) -> Reach:
        """How to get there."""
        return Reach(self.address, self.ssh.user, self.ssh.port, self.ssh.key, self.docker)
