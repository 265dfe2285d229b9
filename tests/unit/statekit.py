"""A small deployment, what a host looks like when it is exactly so, and a stub of docker. Shared by the tests of the state."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

from mesh.state.deployment import (
    Deployment,
    File,
    Gateway,
    HostDeployment,
    OllamaModels,
    SecretPart,
    Service,
    StackRelease,
)
from mesh.state.observed import (
    Observed,
    ObservedContainer,
    ObservedFile,
    ObservedGateway,
    ObservedHost,
    RecordedRelease,
    RecordedService,
    Unknown,
)
from mesh.state.release import release_id

SECRET = "sk-planted-0123456789abcdef"


def value_of(name: str) -> str:
    return f"{SECRET}-{name}"


def service(stack: str, name: str, *, image: str = "", mounts: tuple[str, ...] = (), **more: object) -> Service:
    return Service(
        name=name,
        container=f"{stack}-{name}-1",
        image=image or f"registry.lan/{name}:1.0",
        digest=f"digest-{stack}-{name}",
        environment={"LEVEL": "info", "PORT": "80"},
        definition={"image": image, "volumes": [f"./{mount}:/etc/{mount}:ro" for mount in mounts], **more},
    )


def stack(
    name: str, services: tuple[Service, ...], files: tuple[File, ...] = (), *, root: str = "/opt/mesh", **more: object
) -> StackRelease:
    folder = f"{root}/stacks/{name}"
    compose = File(f"{folder}/compose.yaml", (f"services of {name}\n",))
    own = tuple(replace(file, path=f"{folder}/{file.path}") for file in files)
    return StackRelease(name, str(more.pop("kind", name)), folder, (compose, *own), services, **more)  # type: ignore[arg-type]


def deployment(root: str = "/opt/mesh") -> Deployment:
    """Two hosts: a gateway with config and secrets and a database beside it; an Ollama and a plain stack."""
    gateway = stack(
        "litellm",
        (service("litellm", "litellm", mounts=("config.yaml", "secrets/env")),),
        (File("config.yaml", ("model_list: []\n",)), File("secrets/env", ("KEY=", SecretPart("key", "shell"), "\n"), 0o400)),
        root=root,
        after=("ollama",),
    )
    database = stack("qdrant", (service("qdrant", "qdrant", mounts=("data",)), service("qdrant", "backup")), root=root)
    ollama = stack("ollama", (service("ollama", "ollama"),), root=root)
    plain = stack("whoami", (service("whoami", "whoami"),), root=root)
    url = "http://10.0.0.1:11434"
    models = OllamaModels("ollama", "ollama-ollama-1", url, ("llama3.1:8b", "nomic-embed-text:latest"))
    return Deployment(
        "closet",
        {
            "vm": HostDeployment("vm", "10.0.0.2", root, (database, gateway)),
            "box": HostDeployment("box", "10.0.0.1", root, (ollama, plain), (models,)),
        },
        Gateway("http://10.0.0.2:4000", "key", ("bulk", "claude"), {"bulk": ("claude",)}, ("litellm-a", "litellm-b"), "d1"),
    )


def image_id(image: str) -> str:
    return f"sha256:id-of-{image}"


def container(of: StackRelease, each: Service, mesh: str = "closet") -> ObservedContainer:
    return ObservedContainer(
        id=f"id-{each.container}",
        name=each.container,
        project=of.name,
        service=each.name,
        image=each.image,
        image_id=image_id(each.image),
        state="running",
        health="healthy",
        labels={"mesh.name": mesh, "mesh.stack": of.name, "mesh.digest": each.digest},
        environment=("PATH=/bin", *(f"{name}={value}" for name, value in each.environment.items())),
        config_hash=f"config-{each.name}",
    )


def ideal(wanted: Deployment) -> Observed:
    """What a look at the mesh gives right after a successful apply."""
    hosts = {}
    for host in wanted.hosts.values():
        files = {
            file.path: ObservedFile(file.sha256(value_of), file.mode, file.owner, file.group)
            for each in host.stacks
            for file in each.files
        }
        files |= {f"{each.directory}/.release.json": ObservedFile("", 0o644, 0, 0) for each in host.stacks}
        hosts[host.name] = ObservedHost(
            host.name,
            files,
            tuple(container(each, one, wanted.mesh) for each in host.stacks for one in each.services),
            {one.image: image_id(one.image) for each in host.stacks for one in each.services},
            {each.name: _recorded(each) for each in host.stacks},
        )
    models = {each.stack: dict.fromkeys(each.tags, "sha256:m") for host in wanted.hosts.values() for each in host.ollamas}
    gateways: dict[str, ObservedGateway | Unknown] = {}
    if wanted.gateway:
        listed = ObservedGateway(wanted.gateway.groups, wanted.gateway.fallbacks, wanted.gateway.guard)
        gateways = dict.fromkeys(wanted.gateway.services, listed)
    return Observed(hosts, models, gateways)


def _recorded(each: StackRelease) -> RecordedRelease:
    services = {one.name: RecordedService(one.digest, f"config-{one.name}", image_id(one.image)) for one in each.services}
    files = tuple(file.path.removeprefix(f"{each.directory}/") for file in each.files)
    return RecordedRelease(release_id(each), "2026-01-02T03:04:05Z", "op@laptop", "closet", services, files)


def with_host(seen: Observed, name: str, **changes: object) -> Observed:
    """The observation with some fields of one host replaced."""
    host = seen.hosts[name]
    assert isinstance(host, ObservedHost)
    return replace(seen, hosts={**seen.hosts, name: replace(host, **changes)})  # type: ignore[arg-type]


STUB = """\
#!/bin/sh
# A STUB of docker for tests: it answers from files, and is no Docker.
here={here}
printf '%s\\n' "$*" >>"$here/calls"
case "$*" in
"compose version"*) [ ! -e "$here/no-compose" ] || {{ echo "docker: 'compose' is not a docker command." >&2; exit 1; }} ;;
version) [ ! -e "$here/away" ] || {{ rm "$here/away"; exit 1; }} ;;
"ps -aq"*) cat "$here/ids" 2>/dev/null || : ;;
"ps -a --no-trunc"*)
    [ ! -e "$here/dead" ] || {{ cat "$here/dead" >&2; exit 1; }}
    for id in $(cat "$here/ids" 2>/dev/null); do case $id in *@*) echo "$id" ;; *) echo "$id@unnamed" ;; esac; done ;;
"ps -q "*)
    for service in "$here"/state-*; do
        case "$*" in *"service=${{service##*/state-}}") echo "${{service##*/}}" ;; esac
    done ;;
"inspect --format {{{{.State.Status"*) for word; do :; done; cat "$here/$word" ;;
"inspect --type container"*)
    if [ -e "$here/vanish" ]; then rm "$here/vanish"; echo 'Error: No such container: gone' >&2; exit 1; fi
    cat "$here/containers" ;;
"inspect --format {{{{.Name"*) echo "/web-web-1 exited  1" ;;
"inspect --format"*) printf '%s\\n' '"web":{{"digest":"d","config_hash":"c","image_id":"i"}}' '' ;;
"image inspect"*) cat "$here/images" 2>/dev/null; exit 1 ;;
"compose "*" up "*)
    [ ! -e "$here/slow" ] || sleep 20
    for word; do case $word in */compose.yaml) file=$word ;; esac; done
    ! grep -q bad "$file" || {{ echo 'container web-web-1 is unhealthy' >&2; exit 1; }} ;;
"logs "*) echo 'the last words of web' ;;
"pull "*) [ ! -e "$here/no-pull" ] || {{ echo 'manifest unknown' >&2; exit 1; }} ;;
esac
"""


def stub_docker(folder: Path) -> Path:
    """A docker that answers from files in its folder; `calls` there lists how it was called."""
    folder.mkdir(parents=True, exist_ok=True)
    docker = folder / "docker"
    docker.write_text(STUB.format(here=folder))
    docker.chmod(docker.stat().st_mode | stat.S_IXUSR)
    return docker


def environment(shell: list[str], folder: Path) -> dict[str, str]:
    """The environment of a test's shell. With BusyBox every command is BusyBox's own, as on a NAS; else what this machine has."""
    if shell[0] != "busybox":
        return dict(os.environ)
    applets = folder / "applets"
    if not applets.exists():
        applets.mkdir()
        subprocess.run(["busybox", "--install", "-s", applets], check=True)
    return {**os.environ, "PATH": str(applets)}


def inspected(**fields: object) -> str:
    """One line of the script's `docker inspect`."""
    return json.dumps({"id": "abc", "name": "/x", "project": None, "service": None, "image": "x", "state": "running"} | fields)
