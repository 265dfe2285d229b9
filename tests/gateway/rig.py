"""The real LiteLLM on loopback with the configuration that the compiler renders, beside doubles of Ollama and of the clouds.

The gateway runs the rendered command with the rendered files and secrets; only addresses and ports are this machine's.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mesh.compile.compiler import compile_mesh
from mesh.compile.images import ImageLock
from mesh.compile.library import StackLibrary
from mesh.compile.yamltext import load_compose
from mesh.paths import INVENTORY, PROJECT, STACKS
from mesh.spec.mesh import Mesh
from mesh.state.deployment import Deployment, StackRelease

START = 90.0
"""Seconds that the gateway may take to start on a busy machine."""


@cache
def litellm_command() -> str:
    """The real LiteLLM's command: $MESH_LITELLM, else what `bin/env.sh gateway` installs the first time."""
    given = os.environ.get("MESH_LITELLM")
    install = [PROJECT / "bin" / "env.sh", "gateway"]
    return given or subprocess.run(install, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def secret_of(name: str) -> str:
    """A planted value; it holds what a shell or YAML could trip over."""
    return f"planted '$HOME \" `id` {name}"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


def call(url: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
    try:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, data, {"content-type": "application/json", **(headers or {})})
        response = connection.getresponse()
        return Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, response.read())
    finally:
        connection.close()


def reference_mesh(ports: dict[str, int], *, timeout: str = "3s", inventory: Path = INVENTORY) -> Mesh:
    """The reference homelab (or an inventory made from it) with everything on loopback."""
    data = load_compose((inventory / "mesh.yaml").read_text(encoding="utf-8"))
    for host in data["hosts"].values():
        host["address"] = "127.0.0.1"
    data["providers"]["ollama"] |= {"port": ports["ollama"], "timeout": timeout}
    for name in ("deepseek", "moonshot", "groq", "anthropic"):
        path = {"moonshot": "/moonshot/v1", "groq": "/groq/openai/v1"}.get(name, f"/{name}")
        data["providers"][name] |= {"base_url": f"http://127.0.0.1:{ports['cloud']}{path}", "timeout": timeout}
    for name in ("litellm", "caching-proxy"):
        data["stacks"][name]["port"] = ports[name]
    return Mesh.model_validate(data)


@dataclass
class Rig:
    """Running processes by name, and where they answer. value_of: the value of a secret by name."""

    folder: Path
    ports: dict[str, int]
    mesh: Mesh
    deployment: Deployment
    litellm: str
    value_of: Callable[[str], str] = secret_of
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ledger: Path | None = None
    """The ledger's file where it is not the gateway's own."""

    @property
    def gateway(self) -> str:
        return f"http://127.0.0.1:{self.ports['litellm']}"

    @property
    def cloud(self) -> str:
        return f"http://127.0.0.1:{self.ports['cloud']}"

    def release(self, name: str) -> StackRelease:
        return next(stack for host in self.deployment.hosts.values() for stack in host.stacks if stack.name == name)

    def start(self, name: str, argv: list[str], env: dict[str, str], ready: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen(argv, env=env, stdout=log, stderr=log, cwd=self.folder)
        url, until = f"http://127.0.0.1:{self.ports[name]}", time.monotonic() + START
        while self.processes[name].poll() is None and time.monotonic() < until:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if call(url, "GET", ready).status < 400:
                    return
            time.sleep(0.1)
        raise AssertionError(f"{name} did not start:\n{(self.folder / f'{name}.log').read_text(errors='replace')[-4000:]}")

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def start_double(self, name: str) -> None:
        env = {**os.environ, "PYTHONPATH": str(PROJECT), "OLLAMA_MODELS": str(self.folder / "models")}
        argv = [sys.executable, "-m", "mesh.doubles", name, "--host", "127.0.0.1", "--port", str(self.ports[name])]
        self.start(name, argv, env, "/")

    def write(self, name: str) -> Path:
        """The stack's files in a folder of their own, with the planted secrets."""
        release = self.release(name)
        for file in release.files:
            target = self.folder / name / Path(file.path).relative_to(release.directory)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.content(self.value_of))
            target.chmod(file.mode)
        return self.folder / name

    def start_proxy(self) -> None:
        definition = self.release("caching-proxy").services[0].definition
        env = {**os.environ, **definition["environment"], "HOST": "127.0.0.1", "PORT": str(self.ports["caching-proxy"])}
        self.start("caching-proxy", [sys.executable, str(self.write("caching-proxy") / "proxy.py")], env, "/health")

    def gateway_command(self, folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
        """The rendered command through the rendered entrypoint, with this machine's paths and port."""
        definition = self.release("litellm").services[0].definition
        secrets = shlex.quote(str(folder / "secrets/env"))
        entrypoint = [each.replace("/run/secrets/env", secrets) for each in definition["entrypoint"]]
        moved = {"/etc/litellm/config.yaml": str(folder / "gateway/config.yaml"), "litellm": self.litellm}
        moved |= {"0.0.0.0": "127.0.0.1", "4000": str(port)}
        command = [*entrypoint, *(moved.get(each, each) for each in definition["command"])]
        own = {"PYTHONPATH": str(folder / "gateway"), "MESH_LEDGER": str(self.ledger or folder / "ledger.db")}
        path = f"{Path(self.litellm).parent}:/usr/bin:/bin"
        return command, {"PATH": path, "HOME": str(folder), **definition["environment"], **own}

    def start_gateway(self) -> None:
        argv, env = self.gateway_command(self.write("litellm"), self.ports["litellm"])
        self.start("litellm", argv, env, "/health/liveliness")

    def exit_code_without(self, folder: Path, missing: str) -> int:
        """Exit code of a second gateway that lacks one of its files."""
        copy = folder / "litellm"
        shutil.copytree(self.folder / "litellm", copy)
        (copy / missing).chmod(0o600)
        (copy / missing).write_text("") if missing.startswith("secrets/") else (copy / missing).unlink()
        argv, env = self.gateway_command(copy, free_port())
        return subprocess.run(argv, env=env, cwd=copy, capture_output=True, timeout=START, check=False).returncode

    def ask(self, route: str, *, client: str = "laptop", path: str = "/v1/chat/completions", **more: Any) -> Answer:
        body: dict[str, Any] = {"model": route, **more}
        if path.endswith("embeddings") or path.endswith("responses"):
            body.setdefault("input", "hello")
        else:
            body.setdefault("messages", [{"role": "user", "content": "hello"}])
            body.setdefault("max_tokens", 20)
        return self.send("POST", path, body, self.value_of(self.mesh.client_key(client).name))

    def send(self, method: str, path: str, body: Any, key: str | None) -> Answer:
        return call(self.gateway, method, path, body, {"authorization": f"Bearer {key}"} if key is not None else {})

    def fault(self, provider: str, kind: str, **more: Any) -> None:
        answer = call(self.cloud, "POST", f"/_double/{provider}/fault", {"fault": kind, **more})
        assert answer.status == 200, answer.text

    def cloud_calls(self) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = call(self.cloud, "GET", "/_double/calls").json["calls"]
        return calls

    def ollama_calls(self) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = call(f"http://127.0.0.1:{self.ports['ollama']}", "GET", "/_double/calls").json["calls"]
        return calls

    def reset(self) -> None:
        assert call(self.cloud, "POST", "/_double/reset", {}).status == 200
        if "ollama" not in self.processes:
            self.start_double("ollama")


def deployment_of(mesh: Mesh) -> Deployment:
    """What the spec compiles to."""
    library = StackLibrary.load(STACKS, INVENTORY, mesh)
    return compile_mesh(mesh, library, ImageLock(), lambda name: hashlib.sha256(name.encode()).hexdigest())


@contextlib.contextmanager
def running(folder: Path, litellm: str) -> Iterator[Rig]:
    """All of it up, and down again."""
    ports = {name: free_port() for name in ("ollama", "cloud", "litellm", "caching-proxy")}
    mesh = reference_mesh(ports)
    deployment = deployment_of(mesh)
    rig = Rig(folder, ports, mesh, deployment, litellm)
    try:
        rig.start_double("cloud")
        rig.start_double("ollama")
        ollama = next(each for host in deployment.hosts.values() for each in host.ollamas)
        for tag in ollama.tags:
            assert call(ollama.url, "POST", "/api/pull", {"model": tag, "stream": False}).status == 200
        rig.start_proxy()
        rig.start_gateway()
        yield rig
    finally:
        for name in reversed(list(rig.processes)):
            rig.stop(name)
