"""The lab's images: each folder of tests/lab/images with a Dockerfile, built when its content was not built before.

An image's tag is a hash of all that made it: the folder, the further folders its build.toml names, and its base image.
Where a container registry can be reached, the vendor's image takes the place of a stand-in that names it.

build.toml (optional):
    context = ["../../../../mesh/doubles"]     # further folders for the build context, relative to this one, under their names
    vendor = "ghcr.io/x/y:v1"       # the image this one stands in for
    registry = false                # the lab's machines themselves: not offered by the lab's registry
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labctl.bases import ensure_base, offline, pull, registry_in_reach
from labctl.engine import Engine
from labctl.pipconf import IN_BUILD, build_files
from labctl.settings import IMAGES, PREFIX
from labctl.shell import say, step, tail
from mesh.errors import MeshError

FROM = re.compile(rf"^FROM\s+{PREFIX}/([\w.-]+)(?::(\S+))?", re.MULTILINE | re.IGNORECASE)
MANIFEST = "build.toml"
KEYS = {"context", "registry", "vendor"}


@dataclass(frozen=True, slots=True)
class Image:
    name: str
    tag: str
    """First 12 hex digits of the content hash."""
    registry: bool

    @property
    def local(self) -> str:
        return f"{PREFIX}/{self.name}:{self.tag}"


def names() -> list[str]:
    return sorted(path.parent.name for path in IMAGES.glob("*/Dockerfile"))


def ensure_images(engine: Engine, wanted: list[str], known: dict[str, Image] | None = None) -> dict[str, Image]:
    """The images by name, each built if this content of it is not there yet; those they are built from come along.

    `known` are taken as they are: a file that changes meanwhile must not give one run two versions of an image.
    """
    known = dict(known or {})
    for name in wanted:
        _ensure(engine, name, known)
    return known


def _ensure(engine: Engine, name: str, known: dict[str, Image]) -> Image:
    if name in known:
        return known[name]
    folder = IMAGES / name
    dockerfile = folder / "Dockerfile"
    if not dockerfile.is_file():
        raise MeshError(f"no image {name!r}", where=str(IMAGES), mend=f"one of {', '.join(names())}")
    manifest = _manifest(folder)
    files = dict(_files(folder, manifest))
    built = Image(name, _hash(files, _bases(engine, dockerfile, known)), bool(manifest.get("registry", True)))
    known[name] = _vendors(engine, built, manifest) or built
    if known[name] is built and not _held(engine, built):
        _build(engine, built, files)
    return known[name]


def _held(engine: Engine, image: Image) -> bool:
    return engine.docker("image", "inspect", image.local, check=False).returncode == 0


def _vendors(engine: Engine, built: Image, manifest: dict[str, Any]) -> Image | None:
    """The vendor's image if it is here, or can be had and no stand-in was built before: a lab does not change under its user."""
    source = manifest.get("vendor")
    if not source or offline():
        return None
    image = replace(built, tag=hashlib.sha256(source.encode()).hexdigest()[:12])
    if _held(engine, image):
        return image
    if _held(engine, built) or not registry_in_reach() or not pull(engine, source, image.local):
        return None
    return image


def remove_all(engine: Engine) -> None:
    """The lab's images, of this and of older versions, base images too."""
    listed = engine.docker("images", "--quiet", "--filter", f"reference={PREFIX}/*").stdout.split()
    if listed:
        engine.docker("rmi", "--force", *sorted(set(listed)), check=False)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.exists():
        return {}
    manifest = tomllib.loads(path.read_text())
    if unknown := manifest.keys() - KEYS:
        raise MeshError(
            f"unknown keys {', '.join(sorted(unknown))}", where=str(path), mend=f"known are {', '.join(sorted(KEYS))}"
        )
    return manifest


def _bases(engine: Engine, dockerfile: Path, known: dict[str, Image]) -> list[str]:
    """What stands for each base image in the hash; makes the bases on the way."""
    found = []
    for name, tag in FROM.findall(dockerfile.read_text()):
        if name == "debian":
            found.append(ensure_base(engine, tag.removesuffix("-slim")))
        else:
            base = _ensure(engine, name, known)
            engine.docker("tag", base.local, f"{PREFIX}/{name}:latest")
            found.append(base.tag)
    return found


def _files(folder: Path, manifest: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """Path in the build context -> file."""
    for root, prefix in [(folder, ""), *((source, f"{source.name}/") for source in _further(folder, manifest))]:
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path != folder / MANIFEST:
                yield prefix + path.relative_to(root).as_posix(), path


def _further(folder: Path, manifest: dict[str, Any]) -> Iterator[Path]:
    for relative in manifest.get("context", []):
        source = (folder / relative).resolve()
        if not source.is_dir():
            raise MeshError(f"the further context {relative!r} is not a folder", where=str(folder / MANIFEST))
        yield source


def _hash(files: dict[str, Path], bases: list[str]) -> str:
    digest = hashlib.sha256("\0".join(bases).encode())
    for name, path in files.items():
        executable = bool(path.stat().st_mode & 0o100)
        digest.update(f"\0{name}\0{executable}\0{hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return digest.hexdigest()[:12]


def _build(engine: Engine, image: Image, files: dict[str, Path]) -> None:
    with step(f"building image {image.name}"), build_files() as extra, tempfile.TemporaryFile() as context:
        _write_context(context, files, extra)
        context.seek(0)
        # Builds use the machine's network: what the machine reaches (indexes, proxies, its own loopback), the build reaches.
        built = engine.follow(
            "build", "--network", "host", "--force-rm", "--build-arg", f"PIP_CONFIG_FILE={IN_BUILD}/pip.conf",
            "--tag", image.local, "-", stdin=context,
        )  # fmt: skip
        if built.returncode:
            raise MeshError(
                f"image {image.name} cannot be built",
                where=str(IMAGES / image.name / "Dockerfile"),
                why=_end_of(built.stdout),
                mend="read the last lines above; the Debian archive and PyPI must be reachable",
            )
    size = int(engine.docker("image", "inspect", "--format", "{{.Size}}", image.local).stdout)
    say(f"image {image.name} is {size / 1e6:.0f} MB")


def _end_of(output: str) -> str:
    """The end of a build's output without colours, progress bars and the builder's word on its own future."""
    noise = re.compile(
        r"\x1b\[[0-9;]*m|^DEPRECATED: .*|^\s*BuildKit is currently.*|^\s*environment-variable\.|.*━━━.*", re.MULTILINE
    )
    return tail("\n".join(line[:300] for line in noise.sub("", output).splitlines() if line.strip()), 20)


def _write_context(out: Any, files: dict[str, Path], extra: dict[str, bytes]) -> None:
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, path in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = path.stat().st_size
            entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            with path.open("rb") as content:
                tar.addfile(entry, content)
        for name, data in extra.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.mode = 0o644
            tar.addfile(entry, io.BytesIO(data))
