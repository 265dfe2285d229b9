"""StackLibrary: every stack folder that a spec uses, read once. The compiler's only input besides the spec and the lock."""

from __future__ import annotations

import importlib.util
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mesh.compile.stack import Placement, StackKind
from mesh.compile.yamltext import load_compose
from mesh.errors import Location, MeshError
from mesh.paths import TEMPLATES
from mesh.spec.mesh import Mesh

if TYPE_CHECKING:
    from mesh.compile.plain_project import PlainProject

PLAIN = "compose.yaml"
TEMPLATE = "compose.yaml.j2"
CONTRACT = "stack.py"
_LARGEST = 16 * 1024**2
"""Bytes that a stack folder may hold: it is configuration. State belongs in a volume."""
_MOST_NODES = 100_000
_KINDS: dict[type, str] = {list: "a list", dict: "a mapping", str: "text"}
_SERVICE_SHAPES: dict[str, tuple[type, ...]] = {
    "configs": (list,),
    "env_file": (list, str),
    "environment": (list, dict),
    "image": (str,),
    "labels": (list, dict),
    "secrets": (list,),
    "volumes": (list,),
}


@dataclass(frozen=True, slots=True)
class FolderFile:
    """A file that lands beside compose.yaml. Bytes that are not UTF-8 survive as surrogates."""

    text: str
    mode: int


@dataclass(frozen=True, slots=True)
class StackFolder:
    """One folder, as read. `contract` is None for a plain compose.yaml; `compose` is then its text, the template's otherwise."""

    path: Path
    contract: StackKind | None
    compose: str
    files: Mapping[str, FolderFile]

    def parsed(self) -> dict[str, Any]:
        """A plain compose.yaml as data: services are mappings, and what the compiler reads of them has Compose's types."""
        where = str(self.path / PLAIN)
        try:
            data = load_compose(self.compose)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = Location(where, mark.line + 1, mark.column + 1) if mark else Location(where)
            raise MeshError("not valid YAML", where=place, why=str(error.problem or error.context)) from error
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise MeshError("not valid YAML", where=where, why=str(error)) from error
        if not _bounded(data):
            raise MeshError(
                f"the file has more than {_MOST_NODES} values once its aliases are followed", where=where, mend="write it plainly"
            )
        services = data.get("services") if isinstance(data, dict) else None
        if not isinstance(services, dict) or not services or not all(isinstance(each, dict) for each in services.values()):
            raise MeshError("it holds no services", where=where, mend="write a mapping `services:` of services")
        for at, value, kinds in _shapes(data):
            if value is not None and not isinstance(value, kinds):
                names = " or ".join(_KINDS[kind] for kind in kinds)
                raise MeshError(f"`{at}` is not {names}", where=where, mend="`docker compose config` says more")
        return dict(data)


def _bounded(data: Any) -> bool:
    """Whether the data is finite and of a sane size with every alias followed: no recursion, no bomb."""
    waiting, seen = [data], 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if seen + len(waiting) > _MOST_NODES:
            return False
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return True


def _shapes(data: dict[str, Any]) -> Iterator[tuple[str, Any, tuple[type, ...]]]:
    for section in ("configs", "secrets", "volumes"):
        yield section, data.get(section), (dict,)
    for section in ("configs", "secrets"):
        declared = data.get(section)
        for name, each in declared.items() if isinstance(declared, dict) else ():
            yield f"{section}.{name}", each, (dict,)
    for name, service in data["services"].items():
        for key, kinds in _SERVICE_SHAPES.items():
            yield f"services.{name}.{key}", service.get(key), kinds


@dataclass(frozen=True, slots=True)
class StackLibrary:
    """folders: by the name of the stack in the spec. defaults: templates/service-defaults.yaml."""

    folders: Mapping[str, StackFolder]
    defaults: Mapping[str, Any]
    _plain: dict[str, PlainProject] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, stacks_dir: Path, inventory_dir: Path, mesh: Mesh, *, templates: Path = TEMPLATES) -> StackLibrary:
        """Read the folder of every stack of the spec, and of Ollama for its providers."""
        folders: dict[str, StackFolder] = {}
        kinds: dict[str, StackFolder] = {}

        def of_kind(kind: str, used_by: str) -> StackFolder:
            if kind not in kinds:
                if not (stacks_dir / kind).is_dir():
                    raise _no_folder(stacks_dir, kind, used_by)
                kinds[kind] = _read_folder(stacks_dir / kind)
            return kinds[kind]

        for name in mesh.ollamas:
            folders[name] = of_kind("ollama", f"providers.{name}")
        for name, stack in mesh.stacks.items():
            if stack.source is not None:
                folders[name] = _read_folder(inventory_dir / stack.source)
            else:
                folders[name] = of_kind(stack.kind or name, f"stacks.{name}")
        text = (templates / "service-defaults.yaml").read_text(encoding="utf-8")
        return cls(folders, load_compose(text))

    def placements(self, mesh: Mesh) -> dict[str, Placement]:
        """Where every stack is and on which port: the Ollama providers' first, then the spec's stacks, in its order."""
        found = {name: Placement(name, "ollama", each.on, mesh.hosts[each.on], each.port) for name, each in mesh.ollamas.items()}
        for name, stack in mesh.stacks.items():
            contract = self.folders[name].contract
            port = stack.port or (contract.port if contract else None)
            found[name] = Placement(name, stack.kind or name, stack.on, mesh.hosts[stack.on], port)
        return found

    def plain(self, mesh: Mesh, stack: str) -> PlainProject:
        """The project of a stack of the operator's own, its variables replaced."""
        if stack not in self._plain:
            from mesh.compile.plain_project import read_project

            self._plain[stack] = read_project(self.folders[stack], mesh.stacks[stack].env)
        return self._plain[stack]

    def images(self, mesh: Mesh, stack: str) -> dict[str, str]:
        """Image of each service of a stack before pinning: the spec's `images:`, else the stack's own."""
        folder = self.folders[stack]
        if folder.contract:
            own = dict(folder.contract.images)
        else:
            services = self.plain(mesh, stack).data["services"]
            own = {str(name): str(each["image"]) for name, each in services.items() if each.get("image")}
        return {service: mesh.images.get(f"{stack}.{service}") or mesh.images.get(service) or own[service] for service in own}


def _read_folder(path: Path) -> StackFolder:
    plain, template = path / PLAIN, path / TEMPLATE
    if not path.is_dir():
        raise MeshError("the stack's folder does not exist", where=str(path), mend="correct `source:`, or create it")
    if plain.is_file() == template.is_file():
        have = "it holds both" if plain.is_file() else "it holds neither"
        raise MeshError(
            f"a stack folder needs either {PLAIN} or {TEMPLATE}", where=str(path), why=have, mend="keep exactly one of the two"
        )
    if plain.is_file():
        return StackFolder(path, None, _text(plain), _extra_files(path))
    return StackFolder(path, _contract(path), _text(template), _extra_files(path))


def _contract(path: Path) -> StackKind:
    """Run the folder's stack.py. It is the operator's own code, so its errors are shown as they are."""
    file = path / CONTRACT
    mend = f"{CONTRACT} has to define `stack = StackKind(...)`; see mesh/compile/stack.py"
    if not file.is_file():
        raise MeshError(f"{TEMPLATE} without {CONTRACT}", where=str(path), mend=mend)
    spec = importlib.util.spec_from_file_location(f"mesh_stack_{path.name.replace('-', '_').replace('.', '_')}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except MeshError:
        raise
    except Exception as error:
        raise MeshError(f"{CONTRACT} fails", where=str(file), why=f"{type(error).__name__}: {error}", mend=mend) from error
    contract = getattr(module, "stack", None)
    if not isinstance(contract, StackKind):
        raise MeshError(f"{CONTRACT} defines no `stack`", where=str(file), mend=mend)
    return contract


def _extra_files(path: Path) -> dict[str, FolderFile]:
    """The files that land beside compose.yaml, by relative path."""
    found: dict[str, FolderFile] = {}
    total = 0
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = sorted(each for each in subfolders if not each.startswith((".", "__pycache__")) and each != "tests")
        for name in sorted(names):
            file = Path(folder) / name
            relative = file.relative_to(path).as_posix()
            hidden = name.startswith(".")
            variables = hidden and (name.endswith(".env") or name.startswith(".env."))
            if relative in (PLAIN, TEMPLATE, CONTRACT, "README.md") or (hidden and not variables):
                continue
            info = file.lstat()
            if not stat.S_ISREG(info.st_mode):
                raise MeshError(
                    "a stack folder may hold only plain files", where=str(file), mend="replace the link or device by a file"
                )
            total += info.st_size
            if total > _LARGEST:
                raise MeshError(
                    f"the stack folder holds more than {_LARGEST // 1024**2} MiB",
                    where=str(path),
                    mend="keep data in a volume; the folder is for configuration",
                )
            mode = 0o600 if variables else 0o755 if info.st_mode & 0o100 else 0o644
            found[relative] = FolderFile(file.read_bytes().decode("utf-8", "surrogateescape"), mode)
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MeshError("the stack's Compose file cannot be read", where=Location(str(path)), why=str(error)) from error


def _no_folder(stacks_dir: Path, kind: str, used_by: str) -> MeshError:
    import difflib

    known = sorted(each.name for each in stacks_dir.iterdir() if each.is_dir()) if stacks_dir.is_dir() else []
    near = difflib.get_close_matches(kind, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
    return MeshError(
        f"there is no stack folder {kind}",
        where=used_by,
        mend=f"{hint} A stack of your own: `source: FOLDER` beside the inventory, or {stacks_dir / kind}/{PLAIN}",
    )
