"""Where each value of the spec was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mesh.errors import Location
from mesh.findings import Path


@dataclass(frozen=True, slots=True)
class SourceMap:
    """The places of keys and values. A spec in Python has none of its own: everything is at `file`."""

    file: Location
    keys: Mapping[Path, Location] = field(default_factory=dict)
    values: Mapping[Path, Location] = field(default_factory=dict)

    def locate(self, path: Path, *, key: bool = False) -> Location:
        """Where `path` is written, or the nearest thing around it that is.

        A scalar or list is found at its value; a mapping at its key, which is where a reader looks for it.
        key: find the key of a scalar, too.
        """
        first, second = (self.keys, self.values) if key else (self.values, self.keys)
        while path:
            place = first.get(path) or second.get(path)
            if place is not None:
                return place
            path = path[:-1]
        return self.file
