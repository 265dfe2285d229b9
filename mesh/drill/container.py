"""The drill in containers: the gateway's own images on an internal network of their own, on its host or on this machine.

A project of its own name in a folder of its own; nothing of the live gateway is read or touched. The doubles run in the
gateway's image, which has Python and aiohttp. Everything is removed at the end, also when the operator interrupts; what a
killed drill left, the next one removes.
"""

from __future__ import annotations

import base64
import io
import json
import shlex
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mesh.compile.template import escape_dollars
from mesh.compile.yamltext import dump_compose
from mesh.drill.loopback import Hear, listen
from mesh.drill.stage import Stage, gateway_release, gateway_service
from mesh.errors import MeshError
from mesh.paths import PROJECT
from mesh.state.deployment import Deployment, Service

CODE = ("mesh/drill/__init__.py", "mesh/drill/inside.py", "mesh/doubles")
"""What the driver needs of the project. mesh/__init__.py is not among it: the folder is then a package without one."""
PREFIX = "mesh-drill-"
NETWORK = "stage"
DRIVER = "drill"
DOUBLES = "doubles"

_SHELL = """\
set -u
umask 077
docker={docker} project={project} dir=/tmp/{project}
named() {{ printf 'label=com.docker.compose.project=%s' "$1"; }}
remove() {{
    ids=$("$docker" ps -aq --filter "$(named "$1")")
    [ -z "$ids" ] || "$docker" rm --force --volumes $ids
    for kind in network volume; do
        ids=$("$docker" $kind ls --quiet --filter "$(named "$1")")
        [ -z "$ids" ] || "$docker" $kind rm $ids
    done
    rm -rf "/tmp/$1"
}} >/dev/null 2>&1
field() {{ cut -d ' ' -f "$2" "/proc/$1/stat" 2>/dev/null; }}
lives() {{
    read -r pid began 2>/dev/null <"/tmp/$1/pid" || return 1
    [ -d /proc/self ] || {{ kill -0 "$pid" 2>/dev/null; return; }}
    [ "$(field "$pid" 22)" = "$began" ] && [ "$(field "$pid" 3)" != Z ]
}}
"""
"""`lives`: whether the drill of that project still runs. A number can belong to another process by now, so when it began counts
too; one that nobody has waited for (Z) does not live. Any user can look into /proc; macOS has none."""
_SWEEP = """\
label='{{{{.Label "com.docker.compose.project"}}}}'
{{
    "$docker" ps -a --format "$label"
    "$docker" network ls --format "$label"
    "$docker" volume ls --format "$label"
    for each in /tmp/{prefix}*/pid; do [ ! -e "$each" ] || basename "$(dirname "$each")"; done
}} 2>/dev/null | sort -u | grep '^{prefix}' | while read -r old; do lives "$old" || remove "$old"; done
"""
"""Removes what a drill left that was killed, and its machine with it. A drill that still runs is left alone."""
_SCRIPT = """\
compose() {{
    exec "$docker" compose --ansi never --project-name "$project" --project-directory "$dir" --file "$dir/compose.yaml" "$@"
}}
job=
clean() {{ trap '' HUP INT TERM PIPE; [ -z "$job" ] || {{ kill "$job"; wait "$job"; }} 2>/dev/null; remove "$project"; }}
mkdir "$dir" || exit 1
trap clean EXIT
trap 'exit 1' HUP INT TERM PIPE
echo "$$ $(field $$ 22)" >"$dir/pid"
base64 -d <<'MESH_END' | tar xzf - -C "$dir" || exit 1
{bundle}
MESH_END
compose up --detach --pull never --quiet-pull {services} >"$dir/up.log" 2>&1 & job=$!
wait "$job" || {{ job=; tail -n 12 "$dir/up.log" >&2; exit 1; }}
compose run --rm --no-TTY --no-deps --use-aliases {driver} <"$dir/script.json" 2>"$dir/driver.log" & job=$!
wait "$job" || tail -n 12 "$dir/driver.log" >&2
job=
(compose logs --no-log-prefix --tail 12 {gateway}) >&2
"""
"""What takes its time runs in the background: a shell hears a signal at once while it waits, and only then. `exec`, so that
the process to end is Compose itself."""
_END = """\
if lives "$project"; then
    kill "$pid"
    tries=0
    while lives "$project" && [ $tries -lt 60 ]; do tries=$((tries + 1)); sleep 0.5; done
fi
remove "$project"
"""


class Containers:
    """A `Place` with a Docker engine. argv: a command that runs a script from stdin as root there."""

    doubles = DOUBLES
    listen = "0.0.0.0"
    first_port = 9000

    def __init__(self, name: str, argv: Sequence[str], docker: str, deployment: Deployment, seed: str) -> None:
        self.name, self.argv, self.docker = name, list(argv), docker
        self.project = f"{PREFIX}{seed}"
        _, release = gateway_release(deployment)
        self.service = gateway_service(release)
        self.fronts = [each for each in release.services if each.definition.get("ports") and each is not self.service]
        self.front = bool(self.fronts)

    @property
    def images(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each.image for each in (self.service, *self.fronts)))

    @property
    def gateway(self) -> str:
        entry = (self.fronts or [self.service])[0]
        port = str(entry.definition["ports"][0]).rpartition(":")[2].partition("/")[0]
        return f"http://{entry.name}:{port}"

    def has_images(self) -> bool:
        """Whether the engine answers and holds every image. Raises MeshError when there is no way to it."""
        return not self._run(f"{shlex.quote(self.docker)} image inspect {shlex.join(self.images)} >/dev/null 2>&1").returncode

    def perform(self, stage: Stage, script: Mapping[str, Any], hear: Hear) -> None:
        text = (
            self._shell()
            + _SWEEP.format(prefix=PREFIX)
            + _SCRIPT.format(
                bundle=base64.encodebytes(self.bundle(stage, script)).decode(),
                services=shlex.join(each.name for each in (self.service, *self.fronts)),
                driver=DRIVER,
                gateway=self.service.name,
            )
        )
        pipe = subprocess.PIPE
        process = subprocess.Popen(self.argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        try:
            listen(process, text.encode(), hear, str)
            process.wait(60)
        except BaseException:
            self._run(self._shell() + _END)
            process.kill()
            raise

    def _shell(self) -> str:
        return _SHELL.format(docker=shlex.quote(self.docker), project=self.project)

    def _run(self, script: str) -> subprocess.CompletedProcess[str]:
        # A session of its own: the operator's Ctrl-C must not reach what cleans up after it.
        return subprocess.run(
            self.argv, input=script, text=True, capture_output=True, check=False, timeout=120, start_new_session=True
        )

    def bundle(self, stage: Stage, script: Mapping[str, Any]) -> bytes:
        """A tar of all that the stage needs there."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as tar:

            def add(name: str, content: bytes, mode: int = 0o644) -> None:
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), mode
                tar.addfile(entry, io.BytesIO(content))

            folders = {str(parent) for path in stage.files for parent in Path(path).parents if str(parent) != "."}
            for folder in sorted({*folders, "code", "code/mesh", "code/mesh/drill", "code/mesh/doubles"}):
                entry = tarfile.TarInfo(folder)  # the folder above is closed to others; containers that are not root look in here
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            for path, content in stage.files.items():
                if path != "compose.yaml":
                    add(path, content)
            for file in _code():
                add(f"code/{file.relative_to(PROJECT).as_posix()}", file.read_bytes())
            add("compose.yaml", dump_compose(escape_dollars(self.compose())).encode())
            add("script.json", json.dumps(script).encode())
        return out.getvalue()

    def compose(self) -> dict[str, Any]:
        """The Compose project: the rendered services without what `_staged` leaves out, and the driver beside them."""
        volumes: dict[str, dict[str, Any]] = {}
        services = {each.name: _staged(each, volumes) for each in (self.service, *self.fronts)}
        kept = ("read_only", "security_opt", "cap_drop", "tmpfs", "pids_limit", "logging")
        services[DRIVER] = {
            "image": self.service.image,
            "entrypoint": ["python3", "-m", "mesh.drill.inside"],
            "environment": {"PYTHONPATH": "/drill", "PYTHONDONTWRITEBYTECODE": "1"},
            "volumes": ["./code:/drill:ro"],
            "profiles": [DRIVER],
            "networks": {NETWORK: {"aliases": [DOUBLES]}},
            **{key: value for key, value in self.service.definition.items() if key in kept},
        }
        return {"name": self.project, "services": services, "networks": {NETWORK: {"internal": True}}, "volumes": volumes}


def _staged(service: Service, volumes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    # Without health checks, since the driver asks by itself: `start_interval` needs an engine that this machine may not have.
    left_out = ("ports", "labels", "restart", "networks", "healthcheck")
    definition = {key: value for key, value in service.definition.items() if key not in left_out}
    mounts = []
    for number, volume in enumerate(definition.get("volumes", [])):
        source, rest = str(volume).split(":", 1)
        if not source.startswith("./"):  # state of the live gateway, such as its ledger: here it begins empty
            source = f"{service.name}-{number}"
            volumes[source] = {}
        mounts.append(f"{source}:{rest}")
    return {**definition, "volumes": mounts, "networks": [NETWORK], "stop_grace_period": "1s"}


def _code() -> list[Path]:
    found: list[Path] = []
    for name in CODE:
        path = PROJECT / name
        found += sorted(path.glob("*.py")) if path.is_dir() else [path]
    return found


def missing(place: Containers) -> MeshError:
    """Why it cannot be played there."""
    return MeshError(
        "the gateway's images are not there",
        where=place.name,
        why=", ".join(place.images),
        mend=f"mesh apply brings them to the gateway's host; or {place.docker} pull them; or --with a `litellm` of your own",
    )
