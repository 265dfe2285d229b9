"""The operator's own compose.yaml as data, its variables replaced: what Compose will make of it on the host.

What the mesh cannot deploy is refused here, with the place in the file and the reason. Values of secrets are not known
here: where one stands, the data has a mark with its name.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from mesh.compile import dotenv
from mesh.compile.interpolate import InterpolationError, interpolate, variables
from mesh.compile.library import PLAIN, StackFolder
from mesh.compile.yamltext import ComposeLoader
from mesh.errors import Location, MeshError
from mesh.spec.types import SecretRef

ENV = ".env"
_MARK = re.compile("\0([a-z0-9_]+)\0")
_SHELL = frozenset({"HOME", "PATH", "PWD", "SHELL", "USER", "LOGNAME", "HOSTNAME", "LANG"})
"""Variables that the host's shell has as well: they win over .env, and differ between a login and an apply."""
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True)
class PlainProject:
    """data: the file with variables replaced, and services that `extends` others of the file filled in.

    variables: what .env will hold on the host, by name; secrets as marks. files: text of the folder's env files, replaced.
    """

    data: Mapping[str, Any]
    variables: Mapping[str, str]
    env_files: Mapping[str, str]

    def uses(self, service: str) -> dict[str, Any]:
        """What makes a service besides its own definition: the sections that it names, and its env files' values."""
        definition = self.data["services"][service]
        found: dict[str, Any] = {}
        for section in ("networks", "configs", "secrets", "volumes"):
            declared = self.data.get(section) or {}
            named = {name: declared[name] for name in _named(definition.get(section)) if declared.get(name)}
            if named:
                found[section] = named
        env_files = {path: self.env_files[path] for path in env_file_paths(definition) if path in self.env_files}
        if any("$" in each or "\0" in each for each in env_files.values()):
            found["env_file"] = env_files
        return found


def marked(name: str) -> str:
    """What stands for a secret's value."""
    return f"\0{name}\0"


def secrets_in(text: str) -> tuple[str, ...]:
    """Names of the secrets whose values are in a text."""
    return tuple(_MARK.findall(text))


def replaced(value: Any, of: Callable[[str], str]) -> Any:
    """The data with every mark replaced."""
    if isinstance(value, str):
        return _MARK.sub(lambda match: of(match[1]), value) if "\0" in value else value
    if isinstance(value, dict):
        return {key: replaced(each, of) for key, each in value.items()}
    return [replaced(each, of) for each in value] if isinstance(value, list) else value


def read_project(folder: StackFolder, given: Mapping[str, str | SecretRef]) -> PlainProject:
    """The project. given: the spec's `env:` of the stack. Raises MeshError, with line and column where there is one."""
    return _Reader(folder, given).read()


def env_file_paths(definition: Mapping[str, Any]) -> Iterator[str]:
    """Env files of a service that are below the stack's folder, by their normal path."""
    for path, _ in _env_files(definition):
        if path and not path.startswith(("/", "~")):
            yield posixpath.normpath(path)


def _env_files(definition: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """(path, whether it has to be there)"""
    entries = definition.get("env_file")
    for entry in entries if isinstance(entries, list) else [entries] if entries else []:
        if isinstance(entry, Mapping):
            yield str(entry.get("path", "")), entry.get("required", True) is not False
        else:
            yield str(entry), True


def _named(value: Any) -> Iterator[str]:
    for entry in value if isinstance(value, list | dict) else ():
        source = entry.get("source", "") if isinstance(entry, Mapping) else entry
        yield str(source).partition(":")[0]


def place_in(folder: StackFolder, *path: str | int) -> Location:
    """Where in the folder's compose.yaml the key at the end of the path is, or as far as it goes."""
    return _place(_nodes(folder.compose), str(folder.path / PLAIN), path)


def _nodes(text: str) -> yaml.Node:
    root = yaml.compose(text, Loader=ComposeLoader)
    assert root is not None
    return root


def _place(root: yaml.Node, file: str, path: tuple[str | int, ...]) -> Location:
    node, mark = root, root.start_mark
    for part in path:
        if isinstance(node, yaml.MappingNode) and (entry := _entry(node, str(part))):
            key, node = entry
            mark = key.start_mark
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            mark = node.start_mark
        else:
            break
    return Location(file, mark.line + 1, mark.column + 1)


class _Reader:
    """One file on its way to a PlainProject."""

    def __init__(self, folder: StackFolder, given: Mapping[str, str | SecretRef]) -> None:
        self.folder, self.given = folder, given
        self.file = str(folder.path / PLAIN)
        self.raw = folder.parsed()
        self.root = _nodes(folder.compose)

    def read(self) -> PlainProject:
        self._refuse_duplicates(self.root, set())
        self._refuse_unsupported()
        known = self._variables()
        data = self._interpolated(known)
        for name in data["services"]:
            data["services"][name] = self._extended(data["services"], name, ())
        env_files = self._env_file_texts(data, known)
        profiles = set(filter(None, (each.strip() for each in known.get("COMPOSE_PROFILES", "").split(","))))
        for definition in data["services"].values():
            if profiles & set(map(str, definition.get("profiles") or ())) or "*" in profiles:
                definition.pop("profiles", None)
            _pass_through(definition, known)
            _count(definition)
        return PlainProject(data, known, env_files)

    # places

    def _fail(self, what: str, *path: str | int, why: str = "", mend: str = "") -> MeshError:
        return MeshError(what, where=_place(self.root, self.file, path), why=why, mend=mend)

    def _place_of(self, text: str) -> Location:
        """Of the first scalar with this text."""
        waiting, seen = [self.root], set()
        while waiting:
            node = waiting.pop()
            if isinstance(node, yaml.ScalarNode) and node.value == text:
                return Location(self.file, node.start_mark.line + 1, node.start_mark.column + 1)
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, yaml.MappingNode):
                waiting += [value for _, value in reversed(node.value)]
            elif isinstance(node, yaml.SequenceNode):
                waiting += reversed(node.value)
        return Location(self.file)

    # what is refused

    def _refuse_duplicates(self, node: yaml.Node, seen: set[int]) -> None:
        if id(node) in seen:
            return
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            first: dict[str, yaml.Node] = {}
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                    if key.value in first:
                        where = Location(self.file, key.start_mark.line + 1, key.start_mark.column + 1)
                        line = first[key.value].start_mark.line + 1
                        raise MeshError(
                            f"the key `{key.value}` is there twice; the first is at line {line}",
                            where=where,
                            why="Compose refuses such a file",
                            mend="keep one of them",
                        )
                    first[key.value] = key
                self._refuse_duplicates(value, seen)
        elif isinstance(node, yaml.SequenceNode):
            for each in node.value:
                self._refuse_duplicates(each, seen)

    def _refuse_unsupported(self) -> None:
        if self.raw.get("include"):
            raise self._fail(
                "`include:` is not supported",
                "include",
                why="the services of the other file would run without the mesh's labels and pinned images",
                mend="write one file: `docker compose config --no-interpolate` prints it, or make it a stack of its own",
            )
        for name, service in self.raw["services"].items():
            self._refuse_in_service(name, service)
        for section in ("configs", "secrets"):
            for name, declared in (self.raw.get(section) or {}).items():
                if (declared or {}).get("external"):
                    raise self._fail(
                        f"{section}.{name} is external, which only Docker Swarm has",
                        *(section, name, "external"),
                        mend=f"give it a file, or the stack's `secrets:` in the spec: secrets/{name}",
                    )

    def _refuse_in_service(self, name: str, service: Mapping[str, Any]) -> None:
        at = ("services", name)
        if service.get("build"):
            raise self._fail(
                f"services.{name} is built, which the mesh does not do",
                *(*at, "build"),
                why="a host runs what a registry holds under an exact name: nothing is built on it, so nothing can differ there",
                mend="build it elsewhere, push it to a registry, and write its `image:` in place of `build:`",
            )
        extends = service.get("extends")
        if isinstance(extends, Mapping) and extends.get("file"):
            raise self._fail(
                f"services.{name} extends a service of another file, which is not supported",
                *(*at, "extends"),
                why="what it takes from there could not be pinned, compared or explained",
                mend="copy the service into this file, or use an anchor (`<<: *name`)",
            )
        if service.get("deploy") is not None and not isinstance(service["deploy"], Mapping):
            raise self._fail(f"`services.{name}.deploy` is not a mapping", *(*at, "deploy"))
        if not extends and not service.get("image"):
            raise self._fail(f"services.{name} has no image", *at, mend="write `image: NAME:TAG`")

    # variables

    def _variables(self) -> dict[str, str]:
        known = {name: marked(each.name) if isinstance(each, SecretRef) else each for name, each in self.given.items()}
        text = self.folder.files[ENV].text if ENV in self.folder.files else ""
        where = str(self.folder.path / ENV)
        for each in dotenv.assignments(text, where):
            if each.key in self.given:
                place = Location(where, each.line, 1)
                raise MeshError(
                    f"{each.key} is in .env and in the spec's `env:` of the stack", where=place, mend="keep one of the two"
                )
        return {**known, **dotenv.parse(text, where, known.get)}

    def _lookup(self, known: Mapping[str, str]) -> Callable[[str], str | None]:
        def lookup(name: str) -> str | None:
            if name in _SHELL:
                raise InterpolationError(f"`{name}` is a variable of the host's shell, which differs and wins over .env")
            return known.get(name)

        return lookup

    def _interpolated(self, known: Mapping[str, str]) -> dict[str, Any]:
        lookup = self._lookup(known)

        def walk(value: Any) -> Any:
            if isinstance(value, str):
                return self._scalar(value, lookup)
            if isinstance(value, dict):
                return {key: walk(each) for key, each in value.items()}
            return [walk(each) for each in value] if isinstance(value, list) else value

        return {key: value if str(key).startswith("x-") else walk(value) for key, value in self.raw.items()}

    def _scalar(self, text: str, lookup: Callable[[str], str | None]) -> str:
        if "$" not in text:
            return text
        try:
            return interpolate(text, lookup)
        except InterpolationError as error:
            name = next(iter(variables(text)), "")
            mend = f"give it under `env:` of the stack in the spec, in .env, or as a default: ${{{name}:-}}" if name else ""
            mend = "write the value itself, or use a variable of another name" if name in _SHELL else mend
            raise MeshError(str(error), where=self._place_of(text), mend=mend) from None

    # services

    def _extended(self, services: Mapping[str, Any], name: str, path: tuple[str, ...]) -> dict[str, Any]:
        """A service with what it `extends` below it, as Compose merges the two."""
        service = dict(services[name])
        extends = service.pop("extends", None)
        if not extends:
            return service
        base = str(extends.get("service", "") if isinstance(extends, Mapping) else extends)
        if base not in services or base in (*path, name):
            what = "extends itself" if base in services else f"extends `{base}`, and there is no such service"
            raise self._fail(f"services.{name} {what}", "services", name, "extends")
        below = self._extended(services, base, (*path, name))
        for key in ("depends_on", "links", "volumes_from", "network_mode"):
            below.pop(key, None)
        return {**below, **{key: _merged(below.get(key), each) for key, each in service.items()}}

    def _env_file_texts(self, data: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, str]:
        texts: dict[str, str] = {}
        for name, definition in data["services"].items():
            for index, (path, required) in enumerate(_env_files(definition)):
                normal = posixpath.normpath(path)
                if path.startswith(("/", "~")) or normal in texts:
                    continue
                at = ("services", name, "env_file", index)
                if normal.startswith(".."):
                    raise self._fail(
                        f"{path} is outside of the stack's folder", *at, mend="put it in, or write the host's absolute path"
                    )
                if normal == ENV and (normal in self.folder.files or self.given):
                    texts[normal] = "".join(f"{key}={value}\n" for key, value in known.items())
                elif normal in self.folder.files:
                    values = dotenv.parse(self.folder.files[normal].text, str(self.folder.path / normal), known.get)
                    texts[normal] = "".join(f"{key}={value}\n" for key, value in values.items())
                elif required:
                    raise self._fail(
                        f"services.{name} reads {path}, which is not in the stack's folder",
                        *at,
                        mend=f"put it at {self.folder.path / normal}, or mark it `required: false`",
                    )
        return texts


def _entry(node: yaml.MappingNode, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    for key, value in node.value:
        if key.value == name and key.tag != _MERGE:
            return key, value
    for key, value in node.value:
        if key.tag == _MERGE:
            for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if isinstance(source, yaml.MappingNode) and (found := _entry(source, name)):
                    return found
    return None


def _merged(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **{key: _merged(below.get(key), each) for key, each in above.items()}}
    if isinstance(below, list) and isinstance(above, list):
        return [*below, *(each for each in above if each not in below)]
    return above


def _pass_through(definition: dict[str, Any], known: Mapping[str, str]) -> None:
    """`- NAME` and `NAME:` hand on the variable of .env, where it has one."""
    environment = definition.get("environment")
    if isinstance(environment, list):
        definition["environment"] = [
            f"{each}={known[each]}" if isinstance(each, str) and each in known else each for each in environment
        ]
    elif isinstance(environment, dict):
        definition["environment"] = {
            key: known[key] if each is None and key in known else each for key, each in environment.items()
        }


def _count(definition: dict[str, Any]) -> None:
    """How many containers, as a number: a variable gives text."""
    deploy = definition.get("deploy")
    if isinstance(deploy, dict) and isinstance(deploy.get("replicas"), str) and deploy["replicas"].isdecimal():
        definition["deploy"] = {**deploy, "replicas": int(deploy["replicas"])}
    if isinstance(definition.get("scale"), str) and definition["scale"].isdecimal():
        definition["scale"] = int(definition["scale"])
