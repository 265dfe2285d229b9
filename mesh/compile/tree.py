"""A Deployment as a folder: DIR/<host>/<absolute path on the host>, secrets as placeholders."""

from __future__ import annotations

import shutil
from pathlib import Path

from mesh.errors import MeshError
from mesh.state.deployment import Deployment, File

MARKER = ".homelab-mesh-render"
"""Marks a folder as ours to replace."""


def placeholder(name: str) -> str:
    """What stands in a rendered file for a secret's value."""
    return f"<secret:{name}>"


def tree(deployment: Deployment) -> dict[str, File]:
    """Every file by its path below the output folder, sorted."""
    found = {
        f"{host.name}/{file.path.lstrip('/')}": file
        for host in deployment.hosts.values()
        for stack in host.stacks
        for file in stack.files
    }
    return dict(sorted(found.items()))


def write_tree(deployment: Deployment, out: Path) -> int:
    """Replace `out` by the deployment's files and return how many there are. A folder that is not ours is refused."""
    if out.exists() and not out.is_dir():
        raise MeshError("the output is not a folder", where=str(out), mend="name another one with --out")
    if out.is_dir() and any(out.iterdir()) and not (out / MARKER).is_file():
        raise MeshError(
            "the output folder is not empty, and `mesh render` did not make it",
            where=str(out),
            mend="name another one with --out, or empty it yourself",
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        for child in out.iterdir():
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            else:
                child.unlink()
        (out / MARKER).write_text("Made by `mesh render`, which replaces this folder.\n", encoding="utf-8")
        files = tree(deployment)
        for path, file in files.items():
            target = out / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.content(placeholder))
            target.chmod(file.mode)
    except OSError as error:
        raise MeshError("cannot write the rendered files", where=str(out), why=str(error)) from error
    return len(files)
