"""What the rules know besides the spec: stack folders, images.lock, names of secrets, the catalogue, the date. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from mesh.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class Published:
    """A port that a stack publishes on its host. `address` is empty for the one that the mesh binds to."""

    port: int
    address: str = ""
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True)
class StackFacts:
    """What the folder of one stack of the spec says about it.

    images: by service, the spec's own choice already in it. ports: by what publishes them, less the spec's own `port`.
    """

    kind: str
    images: Mapping[str, str]
    ports: tuple[Published, ...] = ()


@dataclass(frozen=True, slots=True)
class World:
    """kinds: names of the folders under stacks/.
    stacks: by name, an Ollama provider's too; one whose folder could not be read is missing.

    secret_names: every secret that has a value; None where that cannot be known here.
    needed_secrets: what the stacks need besides what the spec names: secret -> the stack.
    locked: image references that images.lock has a digest for.
    """

    kinds: frozenset[str]
    stacks: Mapping[str, StackFacts]
    secret_names: frozenset[str] | None
    needed_secrets: Mapping[str, str]
    locked: frozenset[str]
    catalogue: Catalogue
    today: date
