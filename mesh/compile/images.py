"""Image references, and images.lock: which digest each exact tag had when it was resolved."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from mesh.errors import Location, MeshError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HEADER = """\
# Which digest each image tag had when it was resolved: written by `mesh lock`, read by everything else.
# An image that is missing here is deployed by its tag alone.
"""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """`repo[:tag][@digest]` in its parts; `repo` holds the registry, with its port."""

    repo: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> ImageRef:
        name, _, digest = text.partition("@")
        head, slash, last = name.rpartition("/")
        last, _, tag = last.partition(":")
        return cls(repo=head + slash + last, tag=tag, digest=digest)

    def __str__(self) -> str:
        return self.repo + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


@dataclass(frozen=True, slots=True)
class LockedImage:
    """resolved: the day it was looked up, as `YYYY-MM-DD`."""

    digest: str
    resolved: str


@dataclass(frozen=True, slots=True)
class ImageLock:
    """`repo:tag` -> digest."""

    images: Mapping[str, LockedImage] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def load(cls, path: Path) -> ImageLock:
        """Read images.lock. A file that is not there is an empty lock."""
        try:
            data = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise MeshError(
                "the image lock cannot be read",
                where=Location(str(path)),
                why=str(error),
                mend="run `mesh lock` to write it anew",
            ) from error
        entries = data.get("images") if isinstance(data, dict) else None
        if data is not None and not isinstance(entries, dict):
            raise _malformed(path, "`images:` with one entry an image is missing")
        return cls({str(image): _entry(path, str(image), value) for image, value in (entries or {}).items()})

    def pin(self, image: str) -> str:
        """`repo:tag@digest` where the lock knows the tag, the reference as it is otherwise."""
        locked = self.images.get(image)
        return f"{image}@{locked.digest}" if locked else image

    def with_image(self, image: str, digest: str, resolved: str) -> ImageLock:
        """The lock with one image added or replaced."""
        return ImageLock({**self.images, image: LockedImage(digest, resolved)})

    def dump(self) -> str:
        """The file's text, sorted by image."""
        entries = {name: {"digest": each.digest, "resolved": each.resolved} for name, each in sorted(self.images.items())}
        return _HEADER + yaml.safe_dump({"images": entries}, sort_keys=True, width=200)


def _entry(path: Path, image: str, value: Any) -> LockedImage:
    if not isinstance(value, dict) or not _DIGEST.fullmatch(str(value.get("digest", ""))):
        raise _malformed(path, f"{image} has no `digest: sha256:...` of 64 hexadecimal digits")
    return LockedImage(str(value["digest"]), str(value.get("resolved", "")))


def _malformed(path: Path, why: str) -> MeshError:
    return MeshError("the image lock is malformed", where=Location(str(path)), why=why, mend="run `mesh lock` to write it anew")
