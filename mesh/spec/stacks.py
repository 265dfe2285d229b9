"""Stacks: what runs where. The mesh's own and the operator's."""

from __future__ import annotations

from pydantic import Field

from mesh.spec.hosts import Port
from mesh.spec.types import Bytes, Name, Secret, Spec


class Stack(Spec):
    """Placement and settings of one stack. `kind` is the folder under stacks/; it defaults to the stack's own name."""

    on: Name
    kind: Name | None = None
    source: str | None = Field(default=None, description="Folder of the operator's own stack, relative to the inventory.")
    port: Port | None = Field(default=None, description="Published port; defaults to the stack's usual one.")
    memory: Bytes | None = Field(default=None, description="Memory limit of the stack's main service.")
    secrets: dict[Name, Secret] = Field(
        default_factory=dict,
        description="Files under the stack's secrets/ folder, for an own compose.yaml: {db_password: secret:paperless_db}.",
    )
