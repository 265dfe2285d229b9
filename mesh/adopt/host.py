"""What runs on a host and the files that made it, over ssh. It only reads; contents of files stay in memory."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mesh.errors import MeshError
from mesh.live.ssh import Target, run_script
from mesh.state.observed import Unknown

LARGEST = 256 * 1024
"""Bytes of a file that are read: what is larger is no configuration."""
_COMPOSE = "com.docker.compose"
_HEAD = r"""
LC_ALL=C
PATH=$PATH:/usr/local/bin:/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL PATH
say() { printf '\n%s %s\n' "$b" "$*"; }
hex() { printf '%s' "$1" | od -An -v -tx1 | tr -d ' \n'; }
"""
_LIST = r"""
list() {
    ids=$($docker ps -aq --no-trunc 2>&1) || { say failed; printf '%s\n' "$ids"; return; }
    say containers
    [ -z "$ids" ] || $docker inspect --type container --format "$containers" $ids
    say images
    [ -z "$ids" ] || $docker image inspect --format "$images" $($docker inspect --format '{{.Image}}' $ids | sort -u) 2>/dev/null
    for file in "$root"/stacks/*; do
        [ -e "$file" ] || continue
        say stack "$(hex "${file##*/}")"
        cat "$file/.release.json" 2>/dev/null
    done
    say end
}
list </dev/null
"""
_FETCH = r"""
file() { # PATH
    say file "$(hex "$1")"
    if [ -d "$1" ]; then echo folder
    elif [ -f "$1" ]; then
        ls -ldnL -- "$1" | head -n 1
        if [ "$(wc -c <"$1")" -le "$largest" ]; then base64 <"$1"; fi
    fi
}
tree() { # FOLDER: its files too, where it is small and holds nothing but files
    file "$1"
    [ -d "$1" ] || return 0
    [ -z "$(find "$1" ! -type f ! -type d | head -n 1)" ] || return 0
    [ "$(find "$1" | head -n 60 | wc -l)" -lt 60 ] && [ "$(du -sk "$1" | cut -f 1)" -le 512 ] || return 0
    find "$1" -type f | while IFS= read -r each; do file "$each"; done
}
hashes() { # FOLDER PROJECT FILE ENV-FILE...: as Compose reads the file now
    say hashes "$(hex "$2")"
    (
        cd "$1" || exit
        project=$2 compose=$3
        shift 3
        $docker compose -p "$project" -f "$compose" "$@" config --hash '*' 2>/dev/null
    )
}
"""


@dataclass(frozen=True, slots=True)
class FoundContainer:
    """A container of the host. config_hash: Compose's own, of its service."""

    id: str
    name: str
    service: str
    image: str
    image_id: str
    state: str
    config_hash: str
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FoundProject:
    """A Compose project that runs on the host. env_files: those given with --env-file, in place of its .env."""

    name: str
    folder: str
    config_files: tuple[str, ...]
    env_files: tuple[str, ...]
    containers: tuple[FoundContainer, ...]

    def of(self, service: str) -> FoundContainer | None:
        return next((each for each in self.containers if each.service == service), None)


@dataclass(frozen=True, slots=True)
class FoundHost:
    """projects: by name, less what the mesh manages. loose: containers that no Compose made, and why each is not taken.

    digests: `repo@sha256:...` of the images that run, by image id. stacks: folders below the tool's root, and whose they are.
    """

    projects: Mapping[str, FoundProject] = field(default_factory=dict)
    loose: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    stacks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """content: None where it is a folder, or too large. mode: as `ls` prints it."""

    folder: bool
    mode: str = ""
    owner: str = ""
    content: bytes | None = None

    @property
    def text(self) -> str | None:
        """The content where it is text."""
        try:
            return None if self.content is None or b"\0" in self.content else self.content.decode()
        except UnicodeDecodeError:
            return None


def list_host(target: Target, *, root: str, managed: Iterable[str]) -> FoundHost:
    """What runs there. managed: names of the stacks that the spec has on it. Raises MeshError where it cannot be read."""
    template = (
        '{"id":{{json .ID}},"name":{{json .Name}},"labels":{{json .Config.Labels}},"image":{{json .Config.Image}}'
        ',"image_id":{{json .Image}},"state":{{json .State.Status}},"env":{{json .Config.Env}}}'
    )
    settings = {"root": root, "containers": template, "images": '{"id":{{json .ID}},"digests":{{json .RepoDigests}}}'}
    sections = list(_run(target, settings, _LIST))
    texts = {name: text for name, _, text in sections}
    if "failed" in texts:
        raise MeshError("docker does not answer", where=target.name, why=texts["failed"].strip(), mend="start it, and try again")
    projects, loose = _grouped(map(json.loads, texts["containers"].split("\n")[:-1]), frozenset(managed))
    digests = {each["id"]: tuple(each["digests"] or ()) for each in map(json.loads, filter(None, texts["images"].split("\n")))}
    stacks = {argument: _mesh_of(text) for name, argument, text in sections if name == "stack"}
    return FoundHost(projects, loose, digests, stacks)


def _grouped(found: Iterable[Mapping[str, Any]], managed: frozenset[str]) -> tuple[dict[str, FoundProject], dict[str, str]]:
    projects: dict[str, FoundProject] = {}
    loose: dict[str, str] = {}
    for each in sorted(found, key=lambda each: str(each["name"])):
        labels: Mapping[str, str] = each["labels"] or {}
        name, project = str(each["name"]).removeprefix("/"), labels.get(f"{_COMPOSE}.project", "")
        if "mesh.name" in labels or project in managed or labels.get(f"{_COMPOSE}.oneoff", "").lower() == "true":
            continue
        if "com.docker.swarm.service.name" in labels:
            loose[name] = "it belongs to Docker Swarm"
        elif not project:
            loose[name] = "it was started without Compose: write it into a compose.yaml, which `docker run` is a line of"
        else:
            container = FoundContainer(
                id=each["id"],
                name=name,
                service=labels.get(f"{_COMPOSE}.service", ""),
                image=each["image"],
                image_id=each["image_id"],
                state=each["state"],
                config_hash=labels.get(f"{_COMPOSE}.config-hash", ""),
                environment=dict(pair.partition("=")[::2] for pair in each["env"] or ()),
            )
            before = projects.get(project)
            projects[project] = FoundProject(
                project,
                labels.get(f"{_COMPOSE}.project.working_dir", ""),
                _split(labels.get(f"{_COMPOSE}.project.config_files", "")),
                _split(labels.get(f"{_COMPOSE}.project.environment_file", "")),
                (*(before.containers if before else ()), container),
            )
    return projects, loose


def _split(text: str) -> tuple[str, ...]:
    return tuple(each for each in text.split(",") if each)


def _mesh_of(text: str) -> str:
    try:
        return str(json.loads(text)["mesh"]) if text.strip() else ""
    except (ValueError, KeyError, TypeError):
        return "?"


def fetch(target: Target, files: Iterable[str], trees: Iterable[str] = ()) -> dict[str, RemoteFile]:
    """The files and small folders that are there, by absolute path."""
    calls = [f"file {shlex.quote(path)}" for path in files] + [f"tree {shlex.quote(path)}" for path in trees]
    if not calls:
        return {}
    body = _FETCH + "fetch() {\n" + "\n".join(calls) + "\nsay end\n}\nfetch </dev/null\n"
    found: dict[str, RemoteFile] = {}
    for name, path, text in _run(target, {"largest": str(LARGEST)}, body):
        head, _, rest = text.strip().partition("\n")
        if name == "file" and head == "folder":
            found[path] = RemoteFile(folder=True)
        elif name == "file" and head:
            mode, _, owner, *_ = head.split(maxsplit=3)
            found[path] = RemoteFile(False, mode, owner, _decoded(rest, size=head.split()[4]))
    return found


def hashes(target: Target, projects: Iterable[FoundProject]) -> dict[str, dict[str, str]]:
    """Compose's hash of every service, as its file is now: project -> service -> hash. A file that Compose refuses has none."""
    calls = []
    for each in projects:
        env_files = [word for file in each.env_files for word in ("--env-file", file)]
        calls.append(shlex.join(["hashes", each.folder, each.name, each.config_files[0], *env_files]))
    body = _FETCH + "ask() {\n" + "\n".join([*calls, "say end"]) + "\n}\nask </dev/null\n"
    return {
        project: dict(line.split()[:2] for line in text.splitlines() if len(line.split()) == 2)
        for name, project, text in _run(target, {}, body)
        if name == "hashes"
    }


def _decoded(text: str, *, size: str) -> bytes | None:
    """None where it was too large to be sent."""
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error:
        return None
    return content if len(content) == int(size) else None


def _run(target: Target, settings: Mapping[str, str], body: str) -> Iterator[tuple[str, str, str]]:
    """(section, argument, text) of what a script printed. Raises MeshError where it did not get to its end."""
    boundary = f"mesh-{secrets.token_hex(16)}"
    given = {"b": boundary, "docker": target.reach.docker, **settings}
    head = "".join(f"{name}={shlex.quote(value)}\n" for name, value in given.items())
    answer = run_script(target, head + _HEAD + body)
    if isinstance(answer, Unknown):
        raise MeshError("the host cannot be read", where=target.name, why=answer.why, mend=answer.mend)
    sections = []
    for block in f"\n{answer}".split(f"\n{boundary} ")[1:]:
        first, _, text = block.partition("\n")
        name, _, argument = first.strip().partition(" ")
        sections.append((name, bytes.fromhex(argument).decode("utf-8", "surrogateescape"), text))
    if not sections or sections[-1][0] not in {"end", "failed"}:
        raise MeshError("the host's answer was cut short", where=target.name, mend="try again")
    return iter(sections)
