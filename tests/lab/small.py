"""A small mesh of its own on the lab's hosts: plain stacks of the tiny image, in a root of its own, beside the reference mesh.

Tests break it, remove it and kill runs of it without touching the reference mesh; to each the other's containers are foreign.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from labctl import Lab

from mesh.compile.images import ImageRef
from mesh.paths import PROJECT
from mesh.secrets.agefile import IDENTITY_VARIABLE
from tests.lab import inventory

ROOT = "/opt/small"
HEALTH = {"test": ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/"], "interval": "1s", "retries": 3}
NO_SUCH_ADDRESS = "10.88.0.99"


@dataclass
class Small:
    """Its inventory in a folder of the test, and `mesh` as an operator calls it."""

    lab: Lab
    folder: Path
    stacks: dict[str, str] = field(default_factory=dict)
    """Stack -> host"""
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    """Stack -> file below secrets/ -> the secret in it"""
    volumes: dict[str, list[str]] = field(default_factory=dict)
    """Stack -> its named volumes"""
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def image(self) -> str:
        tiny = ImageRef.parse(self.lab.images()["tiny"])
        return f"{tiny.repo}:{tiny.tag}"

    def stack(self, name: str, host: str, *, files: dict[str, str] | None = None, **service: Any) -> None:
        """Declare a stack, or change it: one service `web` of the tiny image, and files beside its compose.yaml."""
        folder = self.folder / "own" / name
        folder.mkdir(parents=True, exist_ok=True)
        web = {"image": self.image, "init": True, "healthcheck": HEALTH, "restart": "unless-stopped", **service}
        web = {key: value for key, value in web.items() if value is not None}
        volumes = {"volumes": {each: {} for each in self.volumes[name]}} if name in self.volumes else {}
        (folder / "compose.yaml").write_text(yaml.safe_dump({"services": {"web": web}} | volumes))
        for path, text in (files or {}).items():
            (folder / path).write_text(text)
        self.stacks[name] = host
        self.write()

    def drop(self, name: str) -> None:
        del self.stacks[name]
        self.write()

    def write(self) -> None:
        key = os.path.relpath(self.lab.key, self.folder)
        hosts = {name: {"address": host.address, "ssh": {"key": key}} for name, host in self.lab.hosts.items()}
        spec = {
            "mesh": "small",
            "root": ROOT,
            "hosts": {name: host | self.hosts.get(name, {}) for name, host in hosts.items()},
            "stacks": {
                name: {"on": host, "source": f"own/{name}"} | ({"secrets": self.secrets[name]} if name in self.secrets else {})
                for name, host in self.stacks.items()
            },
        }
        inventory.write(self.lab, self.folder, identity=self.identity, spec=spec)

    @property
    def identity(self) -> Path:
        return self.folder / "identity.txt"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`mesh ARGUMENTS`, started; the caller waits for it."""
        command = [sys.executable, "-P", "-m", "mesh", "-C", str(self.folder), *arguments]
        environment = {**os.environ, IDENTITY_VARIABLE: str(self.identity)}
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL, text=True, env=environment, cwd=PROJECT
        )

    def mesh(self, *arguments: str) -> tuple[int, str]:
        """Exit code, and stdout and stderr together."""
        process = self.start(*arguments)
        try:
            stdout, stderr = process.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=60)
            raise AssertionError(f"mesh {arguments} did not end: {stdout}{stderr}") from None
        return process.returncode, stdout + stderr

    def apply(self, *arguments: str) -> str:
        code, output = self.mesh("apply", "-y", *arguments)
        assert code == 0, output
        return output

    def sh(self, host: str, command: str) -> str:
        return str(self.lab.ssh(host, command).stdout)

    def until(self, host: str, command: str, seconds: float = 60.0) -> None:
        """Wait until a command succeeds on a host."""
        wait(lambda: self.lab.ssh(host, command, check=False).returncode == 0, seconds, command)

    def clean(self) -> None:
        """Nothing of it stays on the hosts, nor any volume that nobody uses: those of a test would be drift in the next."""
        ours = "docker ps -aq --filter label=mesh.name=small"
        volumes = "docker volume ls -q --filter dangling=true --filter label=com.docker.compose.project"
        for host in self.lab.hosts:
            self.sh(host, f'ids=$({ours}); [ -z "$ids" ] || docker rm -f -v $ids >/dev/null; rm -rf {ROOT}')
            self.sh(
                host, f'docker network prune -f >/dev/null; ids=$({volumes}); [ -z "$ids" ] || docker volume rm $ids >/dev/null'
            )


@contextmanager
def fresh(lab: Lab, folder: Path) -> Iterator[Small]:
    """One with nothing declared and nothing on the hosts, before and after. folder: does not exist yet."""
    lab.up()
    mesh = Small(lab, folder)
    folder.mkdir()
    mesh.clean()
    try:
        yield mesh
    finally:
        mesh.clean()


def wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.2)
