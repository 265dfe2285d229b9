"""Stacks: what runs where. The mesh's own and the operator's."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from mesh.spec.hosts import Port
from mesh.spec.types import Bytes, EnvValue, Name, Secret, Spec


class Stack(Spec):
    """Placement and settings of one stack. `kind` is the folder under stacks/; it defaults to the stack's own name."""

    on: Name
    kind: Name | None = None
    source: str | None = Field(default=None, description="Folder of the operator's own stack, relative to the inventory.")
    port: Port | None = Field(default=None, description="Published port; defaults to the stack's usual one.")
    memory: Bytes | None = Field(default=None, description="Memory limit of the stack's main service.")
    env: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], EnvValue] = Field(
        default_factory=dict,
        description="Variables for an own compose.yaml, as in .env: {TZ: Europe/Berlin, DB_PASSWORD: secret:paperless_db}.",
    )
    secrets: dict[Name, Secret] = Field(
        default_factory=dict,
        description="Files under the stack's secrets/ folder, for an own compose.yaml: {db_password: secret:paperless_db}.",
    )
