"""What the observing script printed -> ObservedHost, or Unknown with the host's own words. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mesh.state.cards import SeenCards, lost_inside, read_cards
from mesh.state.deployment import HostDeployment, Probe
from mesh.state.observed import (
    ObservedContainer,
    ObservedFile,
    ObservedHost,
    ObservedName,
    RecordedRelease,
    RecordedService,
    Unknown,
)
from mesh.state.parse_shape import read_shape
from mesh.state.script import version

CONFIG_HASH = "com.docker.compose.config-hash"
SYMLINK = "symlink"
"""In place of a file's hash: something else lies where a file should be."""


class _UnreadableError(Exception):
    """The output is not what the script prints."""


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    argument: str
    text: str

    @property
    def lines(self) -> list[str]:
        return [line for line in self.text.split("\n") if line]


def parse_host(host: HostDeployment, text: str, boundary: str) -> ObservedHost | Unknown:
    """The host as the script saw it. Anything missing or odd makes it Unknown: nothing is ever assumed to be absent."""
    sections = list(_sections(text, boundary))
    if not sections or sections[-1].name != "end":
        last = sections[-1].name if sections else "the beginning"
        return Unknown(
            f"the host's answer was cut short after {last}", "try again; if it stays, run the same command with ssh -v"
        )
    try:
        for section in sections:
            trouble = _trouble(host, section)
            if trouble:
                return trouble
        return _observed(host, sections)
    except (_UnreadableError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        return Unknown(f"its answer makes no sense: {error}", "please report this with the host's docker version")


def _trouble(host: HostDeployment, section: _Section) -> Unknown | None:
    """What the script itself found wrong."""
    if section.name == "failed":
        return _docker_failed(host, section)
    if section.name == "limited" and section.argument != version():
        mend = f"`mesh host trust {host.name} --read-only` with your own key gives it this one's"
        return Unknown("its observer for limited keys is of another version of the mesh", mend)
    if section.name == "lacking":
        words = " ".join(section.lines) or "no output"
        return Unknown(f"docker compose does not work: {words}", f"install the Compose v2 plugin on {host.name}")
    if section.name == "denied":
        folder = _unhex(section.argument)
        return Unknown(f"no permission to read {folder}", "let the ssh user be root, or one who may run `sudo -n`")
    return None


def _sections(text: str, boundary: str) -> Iterator[_Section]:
    for block in f"\n{text}".split(f"\n{boundary} ")[1:]:
        head, _, body = block.partition("\n")
        name, _, argument = head.strip().partition(" ")
        yield _Section(name, argument, body)


def _docker_failed(host: HostDeployment, section: _Section) -> Unknown:
    """Docker's own words, and what they mean."""
    words = " ".join(section.lines) or f"docker ended with {section.argument} and without a word"
    if section.argument in {"126", "127"}:
        mend = f"install Docker Engine with Compose v2 on {host.name}, or set hosts.{host.name}.docker to where docker is"
    elif "permission denied" in words.lower():
        mend = "let the ssh user be root, one of the group docker, or one who may run `sudo -n`"
    elif "daemon" in words.lower():
        mend = f"start the Docker daemon on {host.name} (systemctl start docker) and look at its log (journalctl -u docker)"
    else:
        mend = f"run `docker ps` on {host.name} and mend what it says"
    return Unknown(words, mend)


def _observed(host: HostDeployment, sections: list[_Section]) -> ObservedHost:
    last = {section.name: section for section in sections}
    if "containers" not in last:
        raise _UnreadableError("the section of containers is missing")
    containers = tuple(sorted(map(_container, map(json.loads, last["containers"].lines)), key=lambda found: found.name))
    ids = {container.image: container.image_id for container in containers if container.image_id}
    held = {section.argument for section in sections if section.name == "held"}
    journal = f"{host.root}/journal.jsonl"
    sizes = [
        int(line.split()[4]) for each in sections if each.name == "files" for line in each.lines if line.endswith(f" {journal}")
    ]
    return ObservedHost(
        name=host.name,
        files={path: file for path, file in _files(sections).items() if path != journal},
        journal=sum(sizes),
        containers=containers,
        images=_images(host, map(json.loads, last["images"].lines if "images" in last else ()))
        | {reference: ids[reference] for reference in sorted(held) if reference in ids},
        releases={
            _unhex(section.argument): release
            for section in sections
            if section.name == "release" and (release := read_release(section.text))
        },
        cards=_cards(sections),
        names=tuple(
            ObservedName(kind, name, project)
            for section in sections
            if section.name == "names"
            for kind, name, project in map(json.loads, section.lines)
        ),
        lock=last["lock"].text.strip() or "unknown" if "lock" in last else "",
    )


def _cards(sections: Iterable[_Section]) -> SeenCards | None:
    """What nvidia-smi told on the host and in the containers; None where it was not asked."""
    found: SeenCards | None = None
    inside = []
    for section in sections:
        if section.name == "cards":
            found = read_cards(int(section.argument), section.text)
        elif section.name == "inside":
            code, _, box = section.argument.partition(" ")
            said = lost_inside(int(code), section.text)
            inside += [(_unhex(box), said)] if said is not None else []
    return found and replace(found, inside=tuple(inside))


def _unhex(digits: str) -> str:
    return bytes.fromhex(digits).decode("utf-8", "surrogateescape")


def _files(sections: Iterable[_Section]) -> dict[str, ObservedFile]:
    hashes: dict[str, str] = {}
    listed: dict[str, str] = {}
    for section in sections:
        if section.name == "hashes":
            hashes |= {path: digest for digest, _, path in (line.partition("  ") for line in section.lines)}
        elif section.name == "files":
            listed |= {line[line.index(" /") + 1 :].partition(" -> ")[0]: line for line in section.lines}
        elif section.name == "odd":
            path, (line, *rest) = _unhex(section.argument), section.lines
            listed[path] = line
            if rest:
                hashes[path] = rest[0].partition(" ")[0]
    return {path: _file(line, hashes.get(path, "")) for path, line in sorted(listed.items())}


def _file(line: str, sha256: str) -> ObservedFile:
    """One line of `ls -ldn`: `-rw-r--r-- 1 0 0 ...`."""
    permissions, _, owner, group, *_ = line.split(maxsplit=4)
    digest = SYMLINK if permissions.startswith("l") else sha256
    return ObservedFile(digest, _mode(permissions[1:10]), int(owner), int(group))


def _mode(letters: str) -> int:
    """`rwsr-xr-t` to permission bits."""
    mode = 0
    for index, letter in enumerate(letters):
        if letter in "rwxst":
            mode |= 1 << (8 - index)
        if letter in "sStT":
            mode |= {2: 0o4000, 5: 0o2000, 8: 0o1000}[index]
    return mode


def _container(data: Mapping[str, Any]) -> ObservedContainer:
    labels: Mapping[str, str] = data.get("labels") or {}
    return ObservedContainer(
        id=data["id"],
        name=data["name"].removeprefix("/"),
        project=data["project"] or "",
        service=data["service"] or "",
        image=data["image"],
        image_id=data.get("image_id", ""),
        state=data["state"],
        health=data.get("health", ""),
        labels=labels,
        environment=tuple(data.get("env") or ()),
        config_hash=labels.get(CONFIG_HASH, ""),
        shape=read_shape(data) if "memory" in data else None,
    )


def _images(host: HostDeployment, found: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Which of the deployment's references are present, by id."""
    ids = {_familiar(name): str(image["id"]) for image in found for name in (*(image["tags"] or ()), *(image["digests"] or ()))}
    references = sorted({service.image for stack in host.stacks for service in stack.services})
    return {reference: ids[name] for reference in references if (name := _familiar(reference)) in ids}


def _familiar(reference: str) -> str:
    """A reference as Docker lists it: Docker Hub's own prefix left out, `name@digest` without the tag, `latest` spelt out."""
    for prefix in ("docker.io/library/", "docker.io/"):
        reference = reference.removeprefix(prefix)
    name, _, digest = reference.partition("@")
    folder, slash, last = name.rpartition("/")
    bare, _, tag = last.partition(":")
    return f"{folder}{slash}{bare}@{digest}" if digest else f"{folder}{slash}{bare}:{tag or 'latest'}"


def read_release(text: str) -> RecordedRelease | None:
    """`.release.json`; None when somebody damaged it, which is the same as an apply that did not finish."""
    try:
        data = json.loads(text)
        services = {
            name: RecordedService(service["digest"], service["config_hash"], service["image_id"])
            for name, service in data["services"].items()
        }
        back, probe, took = data.get("rolled_back"), data.get("probe"), data.get("seconds")
        return RecordedRelease(
            data["release"],
            data["at"],
            data["by"],
            data["mesh"],
            services,
            tuple(data["files"]),
            float(took) if isinstance(took, int | float) and took >= 0 else None,
            f"{back['by']} {back['at']}" if back else "",
            Probe(probe["url"], probe["timeout"]) if probe else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
