"""The drill on this machine's loopback, with an installed LiteLLM: no container, the rendered command and files."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mesh.drill.stage import Stage, gateway_service
from mesh.errors import MeshError
from mesh.paths import PROJECT

HOST = "127.0.0.1"
_END = 10.0
"""Seconds that a stopped process may take before it is killed."""

Hear = Callable[[dict[str, Any]], None]


def free_ports(count: int) -> int:
    """The first of so many consecutive ports that are free now."""
    for start in range(21000, 31000, 200):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(start, start + count):
                    stack.enter_context(socket.socket()).bind((HOST, port))
            except OSError:
                continue
        return start
    raise MeshError(f"no {count} free ports in a row on this machine", where=HOST)


class Loopback:
    """A `Place` on this machine, for an installed LiteLLM."""

    doubles = listen = HOST
    front = False

    def __init__(self, litellm: str) -> None:
        self.litellm, self.name = litellm, f"this machine, {litellm}"
        self.port = free_ports(200)
        self.first_port = self.port + 1

    @property
    def gateway(self) -> str:
        return f"http://{HOST}:{self.port}"

    def perform(self, stage: Stage, script: Mapping[str, Any], hear: Hear) -> None:
        perform(self.litellm, stage, script, self.port, hear)


def perform(litellm: str, stage: Stage, script: Mapping[str, Any], port: int, hear: Hear) -> None:
    """Start the gateway with `litellm`, play the script, hand every event to `hear`, stop everything."""
    with tempfile.TemporaryDirectory(prefix="mesh-drill-") as temporary:
        folder = Path(temporary)
        for path, content in stage.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        argv, env = _command(stage, folder, litellm, port)
        log = folder / "gateway.log"
        with log.open("wb") as out, _inside(litellm) as driver, _running(argv, env, folder, out, driver):
            listen(driver, json.dumps(script).encode(), hear, lambda: log.read_text(errors="replace"))


def _command(stage: Stage, folder: Path, litellm: str, port: int) -> tuple[list[str], dict[str, str]]:
    """The rendered entrypoint, command and environment, with this machine's paths, address and port."""
    definition = gateway_service(stage.release).definition
    moved: dict[str, str] = {}
    for volume in definition.get("volumes", []):
        source, target = str(volume).split(":")[:2]
        path = folder / source if source.startswith("./") else folder / "volumes" / source.strip("/").replace("/", "_")
        if not path.exists():
            path.mkdir(parents=True)
        moved[target] = str(path)

    def move(word: str, *, quoted: bool = False) -> str:
        for target, path in moved.items():
            word = word.replace(target, shlex.quote(path) if quoted else path)
        return word

    exact = {"litellm": litellm, "0.0.0.0": HOST, "4000": str(port)}
    entrypoint = [move(word, quoted=True) for word in definition.get("entrypoint", [])]
    command = [exact.get(word, move(word)) for word in definition["command"]]
    env = {name: move(str(value)) for name, value in definition.get("environment", {}).items()}
    env["MESH_LEDGER"] = str(folder / "ledger.db")
    return [*entrypoint, *command], {"PATH": f"{Path(litellm).parent}:/usr/bin:/bin", **env, "HOME": str(folder)}


@contextlib.contextmanager
def _running(argv: list[str], env: dict[str, str], folder: Path, out: Any, driver: subprocess.Popen[bytes]) -> Iterator[None]:
    """The gateway. When it ends by itself, the driver ends too."""
    process = subprocess.Popen(argv, env=env, cwd=folder, stdout=out, stderr=out, start_new_session=True)

    def follow() -> None:
        process.wait()
        driver.kill()

    threading.Thread(target=follow, daemon=True).start()
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _inside(litellm: str) -> Iterator[subprocess.Popen[bytes]]:
    """The driver, by the Python of the LiteLLM installation: it has aiohttp."""
    python = Path(litellm).parent / "python3"
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    argv = [str(python) if python.exists() else "python3", "-m", "mesh.drill.inside"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(argv, env=env, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for end in (process.stdout, process.stderr):
            if end:
                end.close()


def listen(process: subprocess.Popen[bytes], script: bytes, hear: Hear, log: Callable[[], str]) -> None:
    """Give the driver its script and hear its events to the end. Raises MeshError when the end does not come."""
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(script)
        process.stdin.close()
    seen = set()
    for line in process.stdout:
        event = json.loads(line)
        seen.add(event["event"])
        hear(event)
    if "end" not in seen or "not-ready" in seen:
        words = process.stderr.read().decode("utf-8", "replace").strip() or log().strip()
        raise MeshError(
            "the drill broke off" if "ready" in seen else "the gateway did not start",
            where="drill",
            why="\n        ".join(words.splitlines()[-12:]) or "no reason given",
            mend="mesh drift says whether it runs as rendered on its host",
        )
