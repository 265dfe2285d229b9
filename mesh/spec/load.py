"""Loading: an inventory folder to a `Mesh` and the places of everything in it. Whatever is wrong is a SpecInvalid."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from mesh.errors import Location
from mesh.findings import SpecInvalid, shown
from mesh.spec.mesh import Mesh
from mesh.spec.source import SourceMap
from mesh.spec.yaml_source import MAX_BYTES, Node, fail, parse_yaml, plain_data

SPEC_NAMES = ("mesh.yaml", "mesh.yml", "mesh.py")
_LONGEST_CHAIN = 16


@dataclass(frozen=True, slots=True)
class LoadedSpec:
    """A spec that is well-formed. Whether it makes sense is for the rules to say."""

    mesh: Mesh
    source: SourceMap


def load_spec(inventory: Path, content: bytes | None = None) -> LoadedSpec:
    """The spec in the folder: mesh.yaml, or mesh.py that defines `mesh`. Raises SpecInvalid with all that is wrong.

    content: of mesh.yaml, in place of what is in the file: an edit that is looked at before it is written.
    """
    file = spec_file(inventory)
    if file.suffix == ".py":
        from mesh.spec.python_source import load_python

        mesh = load_python(file, read_bounded(file))
        return LoadedSpec(mesh, SourceMap(Location(str(file))))
    data, keys, values = plain_data(load_tree(file, content))
    source = SourceMap(Location(str(file)), keys, values)
    try:
        return LoadedSpec(Mesh.model_validate(data), source)
    except ValidationError as error:
        from mesh.spec.problems import findings_of

        raise SpecInvalid(findings_of(error, Mesh, source.locate)) from None


def spec_file(inventory: Path) -> Path:
    """The one file in the folder that is the spec. Raises SpecInvalid where there is none, or more than one."""
    if not inventory.is_dir():
        what = "is not a folder" if inventory.exists() else "does not exist"
        mend = "give the folder that holds mesh.yaml: mesh -C DIR"
        fail("spec-missing", f"the inventory {what}", Location(str(inventory)), mend)
    found = [inventory / name for name in SPEC_NAMES if os.path.lexists(inventory / name)]
    if not found:
        fail("spec-missing", "there is no mesh.yaml (or mesh.py) in the inventory", Location(str(inventory)), "write one there")
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        fail("spec-ambiguous", f"the inventory has {names}, and only one can be the spec", Location(str(found[0])), "keep one")
    return found[0]


def read_bounded(file: Path) -> bytes:
    """The bytes of an ordinary file of at most MAX_BYTES. Raises SpecInvalid for anything else."""
    where = Location(str(file))
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not an ordinary file"
            fail("spec-missing", f"{file.name} is {kind}", where, "put a text file there")
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        fail("spec-missing", "the file does not exist", where, "correct the path, or write the file")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        fail("spec-missing", f"the file cannot be read: {shown(reason)}", where, "correct the path or the permissions")
    if len(content) > MAX_BYTES:
        fail(
            "spec-limit",
            f"the file is larger than {MAX_BYTES // 2**20} MiB",
            where,
            "a spec is a few hundred lines: is this one?",
        )
    return content


def load_tree(file: Path, content: bytes | None = None) -> Node:
    """The YAML of a file (or `content` in its place), laid over the files that it `extends`."""
    layers: list[Node] = []
    seen: list[str] = []
    at = Location(str(file))
    while True:
        identity = os.path.realpath(file)
        if identity in seen:
            fail(
                "spec-extends",
                f"`extends` comes back to {file.name}",
                at,
                "a file cannot extend itself, directly or by way of others",
            )
        if len(seen) >= _LONGEST_CHAIN:
            fail("spec-extends", f"more than {_LONGEST_CHAIN} files extend each other", at, "merge some of them")
        seen.append(identity)
        if layers:
            content = _read_extended(file, at)
        layer = parse_yaml(read_bounded(file) if content is None else content, str(file))
        layers.append(layer)
        assert isinstance(layer.value, dict)
        entry = layer.value.pop("extends", None)
        if entry is None:
            break
        at = entry[1].at
        if not isinstance(entry[1].value, str) or "\0" in entry[1].value:
            fail("spec-extends", "`extends` takes the path of one YAML file", at, "write extends: ../base/mesh.yaml")
        file = Path(os.path.normpath(file.parent / entry[1].value))
    tree = layers.pop()
    while layers:
        tree = overlaid(tree, layers.pop())
    return tree


def _read_extended(file: Path, at: Location) -> bytes:
    """As read_bounded, but what is wrong with the path is said where the path is written."""
    try:
        return read_bounded(file)
    except SpecInvalid as error:
        problem = error.findings[0]
        fail("spec-extends", f"`extends` names {shown(str(file), 200)}: {problem.message}", at, problem.mend)


def overlaid(base: Node, overlay: Node) -> Node:
    """Mappings merge key by key; anything else replaces; null deletes what the base has."""
    if not isinstance(base.value, dict) or not isinstance(overlay.value, dict):
        return overlay
    merged = dict(base.value)
    for key, (at, node) in overlay.value.items():
        below = base.value.get(key)
        if below is None:
            merged[key] = (at, node)
        elif node.value is None:
            del merged[key]
        else:
            merged[key] = (at, overlaid(below[1], node))
    return Node(merged, overlay.at)
