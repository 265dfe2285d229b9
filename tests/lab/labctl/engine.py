"""The Docker engine under the lab: the machine's own where one answers, else one that the lab starts and stops itself.

The lab's own engine has its own containerd, socket, data and state, all in the lab's cache folder. Its two processes are
known by the path of their configuration file in their command line: no pid file can be stale, and no other engine can be
taken for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from labctl.settings import cache
from labctl.shell import apt_install, follow, run, say, step, tail, unmount_below, wait_until
from mesh.errors import MeshError

MAX_SOCKET_PATH = 100
"""Bytes; Linux allows 107 for a unix socket."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A reachable engine. `socket` is empty for the machine's default one (whatever DOCKER_HOST or the context says)."""

    socket: str = ""

    @property
    def own(self) -> bool:
        return bool(self.socket)

    @property
    def env(self) -> dict[str, str]:
        # The legacy builder everywhere: it needs no plug-in and always sees the engine's own images.
        env = {"DOCKER_BUILDKIT": "0"}
        return env | {"DOCKER_HOST": self.socket, "DOCKER_CONTEXT": ""} if self.own else env

    def docker(
        self,
        *args: str,
        check: bool = True,
        text: str | None = None,
        stdin: IO[bytes] | None = None,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return run(["docker", *args], env=self.env, check=check, text=text, stdin=stdin, timeout=timeout)

    def follow(self, *args: str, stdin: IO[bytes]) -> subprocess.CompletedProcess[str]:
        return follow(["docker", *args], env=self.env, stdin=stdin)

    def answers(self) -> bool:
        try:
            done = self.docker("version", "--format", "{{.Server.Version}}", check=False, timeout=10)
        except MeshError:  # no `docker` installed, or a daemon that hangs
            return False
        return done.returncode == 0 and bool(done.stdout.strip())

    def cgroup_version(self) -> str:
        return self.docker("info", "--format", "{{.CgroupVersion}}").stdout.strip()


def own_engine() -> Engine:
    return Engine(f"unix://{cache()}/docker.sock")


def find() -> Engine | None:
    """The engine the lab is in, or would be in, if one is there. The lab's own comes first: the lab is in it.

    One that was killed counts as there: `ensure` brings it back with its containers.
    """
    if _exec_root().exists():
        return own_engine()
    return Engine() if Engine().answers() else None


def ensure() -> Engine:
    """A reachable engine: the lab's own if it is there, else the machine's, else the lab's own, started now."""
    engine = find()
    if engine is None:
        apt_install({"dockerd": "docker.io", "containerd": "containerd", "docker": "docker-cli"}, "the lab's own Docker engine")
        # Where the package's service starts by itself, that engine is the machine's and is left running at the end.
        engine = Engine() if Engine().answers() else own_engine()
    if engine.own and not (engine.answers() and _pid("containerd")):
        _start(engine)
    return engine


def stop(engine: Engine) -> None:
    """Ends the lab's own engine and what it left in memory; images and volumes stay in the cache."""
    if not engine.own:
        return
    with step("stopping the lab's own Docker engine"):
        for program in ("dockerd", "containerd"):
            _end(program)
        unmount_below(cache())
        for folder in (_exec_root(), _containerd_state()):
            shutil.rmtree(folder, ignore_errors=True)
        for name in ("docker.sock", "containerd.sock", "containerd.sock.ttrpc", "dockerd.pid"):
            (cache() / name).unlink(missing_ok=True)
        _remove_empty_cgroups()


def purge() -> None:
    """Deletes the cache folder: images, volumes, logs. Only after `stop`."""
    unmount_below(cache())
    shutil.rmtree(cache(), ignore_errors=True)


def _exec_root() -> Path:
    """Its presence says that the own engine was started and not stopped in an orderly way since."""
    return cache() / "exec"


def _containerd_state() -> Path:
    return cache() / "containerd-state"


def _config(program: str) -> Path:
    return cache() / {"dockerd": "dockerd.json", "containerd": "containerd.toml"}[program]


def _start(engine: Engine) -> None:
    if os.geteuid() != 0:
        raise MeshError(
            "no Docker engine can be reached",
            where="lab",
            why="starting one takes root",
            mend="start Docker (and be in its group), or run this as root",
        )
    home = cache()
    if len(f"{home}/containerd.sock.ttrpc") > MAX_SOCKET_PATH:
        raise MeshError("the path is too long for a unix socket", where=str(home), mend="set XDG_CACHE_HOME to a shorter path")
    with step(f"starting the lab's own Docker engine in {home}"):
        home.mkdir(parents=True, exist_ok=True)
        _forget_last_boot()
        _exec_root().mkdir(exist_ok=True)
        _boot_file().write_text(_boot())
        _config("containerd").write_text(
            f'version = 2\nroot = "{home}/containerd"\nstate = "{_containerd_state()}"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\n  address = "{home}/containerd.sock"\n'
        )
        settings = {
            "hosts": [engine.socket],
            "containerd": f"{home}/containerd.sock",
            "data-root": f"{home}/docker",
            "exec-root": str(_exec_root()),
            "pidfile": f"{home}/dockerd.pid",
            # The lab has its own network, and builds use the machine's: no default bridge, so no clash with another engine's.
            "bridge": "none",
        }
        _config("dockerd").write_text(json.dumps(settings, indent=2))
        _launch("containerd", ["--config", str(_config("containerd"))], Path(f"{home}/containerd.sock").is_socket)
        _launch("dockerd", ["--config-file", str(_config("dockerd"))], engine.answers)


def _launch(program: str, args: list[str], ready: Callable[[], bool]) -> None:
    log = cache() / f"{program}.log"
    process: subprocess.Popen[bytes] | None = None
    if _pid(program) is None:
        for stale in {"dockerd": ("docker.sock", "dockerd.pid"), "containerd": ("containerd.sock",)}[program]:
            (cache() / stale).unlink(missing_ok=True)
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        with log.open("wb") as out:
            # A session of its own: Ctrl-C at the lab's command must not end the engine under it.
            process = subprocess.Popen(
                [program, *args],
                env={**os.environ, "PATH": path},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def settled() -> bool:
        return (process is not None and process.poll() is not None) or ready()

    up = wait_until(settled, seconds=60, every=0.1)
    if not up or (process is not None and process.poll() is not None):
        raise MeshError(f"{program} did not start", where=str(log), why=tail(log.read_text(errors="replace")))


def _pid(program: str) -> int | None:
    """The running process of the own engine, found by its configuration file among all processes' command lines."""
    wanted = os.fsencode(_config(program))
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            argv = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in argv and Path(os.fsdecode(argv[0])).name == program:
            return int(entry.name)
    return None


def _end(program: str) -> None:
    pid = _pid(program)
    if pid is None:
        return
    for sign, seconds in ((signal.SIGTERM, 30), (signal.SIGKILL, 10)):
        os.kill(pid, sign)
        # A zombie has no command line, so `_pid` does not see it.
        if wait_until(lambda: _pid(program) is None, seconds=seconds, every=0.05):
            return
        say(f"{program} (pid {pid}) did not end on {sign.name}")
    raise MeshError(f"{program} (pid {pid}) cannot be ended", where="lab")


def _remove_empty_cgroups() -> None:
    """On cgroup v1 the hosts' inner containers have their groups beside the hosts' own, and leave them empty behind.

    Only after the own engine ended, which runs only where no other one does: nobody is about to fill them.
    """
    for top in Path("/sys/fs/cgroup").glob("*/docker"):
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _boot_file() -> Path:
    return _exec_root() / "boot"


def _forget_last_boot() -> None:
    """Run-time state of an engine that died with the machine means nothing now; without a reboot it is what brings it back."""
    if _exec_root().exists() and (not _boot_file().exists() or _boot_file().read_text() != _boot()):
        say("the machine was restarted since the lab was last up: dropping the old engine's run-time state")
        unmount_below(cache())
        for folder in (_exec_root(), _containerd_state()):
            shutil.rmtree(folder, ignore_errors=True)
