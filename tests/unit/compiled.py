"""What the tests of the compiler share: the reference mesh, specs of their own, stack folders of their own."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from mesh.compile.compiler import compile_mesh
from mesh.compile.images import ImageLock
from mesh.compile.library import StackLibrary
from mesh.compile.yamltext import load_compose
from mesh.paths import INVENTORY, STACKS
from mesh.spec.mesh import Mesh
from mesh.state.deployment import Deployment, Service, StackRelease


def fingerprint(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def reference() -> dict[str, Any]:
    """The reference spec as data, to be changed at will."""
    return deepcopy(_reference())


@cache
def _reference() -> dict[str, Any]:
    data: dict[str, Any] = load_compose((INVENTORY / "mesh.yaml").read_text(encoding="utf-8"))
    return data


def compiled(
    data: Mapping[str, Any] | None = None, *, stacks: Path = STACKS, inventory: Path = INVENTORY, lock: ImageLock | None = None
) -> Deployment:
    mesh = Mesh.model_validate(reference() if data is None else data)
    library = StackLibrary.load(stacks, inventory, mesh)
    return compile_mesh(mesh, library, lock or ImageLock(), fingerprint)


def stack(deployment: Deployment, name: str) -> StackRelease:
    return next(each for host in deployment.hosts.values() for each in host.stacks if each.name == name)


def service(deployment: Deployment, name: str, of: str | None = None) -> Service:
    return next(each for each in stack(deployment, of or name).services if each.name == name)


def text(release: StackRelease, path: str) -> str:
    """A file of a release as it lands, with `<name>` for secrets."""
    file = next(each for each in release.files if each.path == f"{release.directory}/{path}")
    return file.content(lambda name: f"<{name}>").decode("utf-8", "surrogateescape")


def plain_mesh(folder: Path, compose: str, files: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """A spec with one stack of the operator's own, `own`, whose folder is made below `folder`."""
    source = folder / "own"
    source.mkdir(parents=True, exist_ok=True)
    (source / "compose.yaml").write_text(compose)
    for path, content in (files or {}).items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(content)
    return {
        "mesh": "small",
        "hosts": {"box": {"address": "192.168.9.9"}},
        "stacks": {"own": {"on": "box", "source": "own"}},
        **more,
    }


@cache
def docker_compose() -> bool:
    """Whether the real `docker compose` is here."""
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
