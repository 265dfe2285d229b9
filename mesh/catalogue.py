"""What is known about cloud models and images: mesh/data/catalogue.yaml, overlaid by the operator's inventory/catalogue.yaml."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from mesh.errors import Location
from mesh.findings import SpecInvalid
from mesh.paths import DATA
from mesh.spec.load import load_tree, overlaid
from mesh.spec.providers import CloudKind, Price
from mesh.spec.source import SourceMap
from mesh.spec.types import Spec
from mesh.spec.yaml_source import plain_data


def _day(value: Any) -> Any:
    return date.min if value is True else value


class CloudModel(Spec):
    """One model id (or a pattern with `*`) at a kind of provider."""

    context: int | None = Field(default=None, ge=256, description="Context length in tokens.")
    price: Price | None = None
    retired: Annotated[date, BeforeValidator(_day)] | None = Field(
        default=None, description="The day it stops answering; `true` where it has and the day is not known (date.min)."
    )
    successor: str | None = None
    source: str | None = None


class BadVersion(Spec):
    """Why a version is refused, since when that is known, and where it is written."""

    why: str
    since: date | None = None
    source: str | None = None

    def __str__(self) -> str:
        beside = ", ".join(filter(None, (f"since {self.since}" if self.since else "", self.source)))
        return f"{self.why} ({beside})" if beside else self.why


class ImageAdvice(Spec):
    """What is known about the versions of an image."""

    floor: Annotated[str, Field(pattern=r"^\d+(\.\d+)*$")] | None = Field(default=None, description="Lowest safe version.")
    below: BadVersion | None = Field(default=None, description="Why versions below the floor are refused.")
    bad: dict[str, BadVersion] = Field(default_factory=dict, description="Version (or a pattern with `*`) and why it is refused.")


class CatalogueFile(Spec):
    """The form of catalogue.yaml."""

    as_of: date
    source: str
    models: dict[CloudKind, dict[str, CloudModel]] = Field(default_factory=dict)
    images: dict[str, ImageAdvice] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What is known about the ids of cloud models and the versions of images."""

    models: Mapping[CloudKind, Mapping[str, CloudModel]]
    images: Mapping[str, ImageAdvice]

    @classmethod
    def load(cls, inventory: Path) -> Catalogue:
        """Read mesh/data and, where there is one, the inventory's catalogue.yaml. Raises SpecInvalid for what is wrong in it."""
        known = _known_clouds(inventory / "catalogue.yaml")
        return cls(known.models, known.images)

    def cloud_model(self, kind: CloudKind, model: str) -> CloudModel | None:
        """What is known about an id: the exact entry, else the longest pattern that matches."""
        known = self.models.get(kind, {})
        if model in known:
            return known[model]
        patterns = [pattern for pattern in known if "*" in pattern and fnmatch.fnmatchcase(model, pattern)]
        return known[max(patterns, key=len)] if patterns else None


def _known_clouds(override: Path) -> CatalogueFile:
    tree = load_tree(DATA / "catalogue.yaml")
    if override.exists():
        tree = overlaid(tree, load_tree(override))
    data, keys, values = plain_data(tree)
    try:
        return CatalogueFile.model_validate(data)
    except ValidationError as error:
        from mesh.spec.problems import findings_of

        source = SourceMap(Location(str(override)), keys, values)
        raise SpecInvalid(findings_of(error, CatalogueFile, source.locate)) from None
