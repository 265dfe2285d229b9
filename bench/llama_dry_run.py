"""What llama.cpp itself says a model would take, from `llama-server`'s own dry run: nothing of the model is loaded.

`llama-server` first plans its memory without allocating it (--fit, on by default; Ollama >= 0.30 starts it the same way) and logs
weights, KV cache and compute buffer of every device. A processor-only build has no device but the host, so an RPC server on
loopback stands for the card: all layers are offloaded to it, as to CUDA. The server is ended before it begins to load.
"""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

SECONDS = 60
"""A dry run takes a tenth of one."""


@dataclass(frozen=True)
class Planned:
    """What the engine plans for the card, in MiB (weights are logged in whole MiB). cells: of a slot, of each kind of layer."""

    weights: float
    kv: float
    compute: float
    cells: tuple[int, ...]


def version(server: Path) -> str:
    done = subprocess.run([server, "--version"], capture_output=True, text=True, check=True, timeout=SECONDS)
    found = re.search(r"version: (.+)", done.stdout + done.stderr)
    return found[1] if found else "unknown"


@contextmanager
def card(server: Path) -> Iterator[str]:
    """The address of an RPC server that stands for the card. It serves one client at a time: one per dry run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [server.with_name("ggml-rpc-server"), "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{argv[0]} does not listen; build llama.cpp with -DGGML_RPC=ON") from None
                time.sleep(0.02)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def dry_run(server: Path, model: Path, *, context: int, kv_type: str, ubatch: int, slots: int = 1, flash: bool = True) -> Planned:
    """Start the server as Ollama does (-c context*slots -np slots -b ubatch -ub ubatch) and read its plan."""
    with card(server) as address:
        argv = [server, "-m", model, "-c", context * slots, "-np", slots, "-b", ubatch, "-ub", ubatch, "-ngl", 99]
        argv += ["-fa", "on" if flash else "off", "-ctk", kv_type, "-ctv", kv_type, "--rpc", address, "--no-warmup", "-v"]
        argv += ["--host", "127.0.0.1", "--port", 0]
        process = subprocess.Popen(list(map(str, argv)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        watchdog = Timer(SECONDS, process.kill)
        watchdog.start()
        try:
            return read(process)
        finally:
            watchdog.cancel()
            process.kill()
            process.wait()


def read(process: subprocess.Popen[str]) -> Planned:
    kv, compute, cells = 0.0, 0.0, []
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"size = +([\d.]+) MiB \( *(\d+) cells", line):
            kv += float(found[1])
            cells.append(int(found[2]))
        elif found := re.search(r"RPC0\S* compute buffer size = +([\d.]+) MiB", line):
            compute = float(found[1])
        elif found := re.search(r"- RPC0 .*\(\s*\d+ = +(\d+) \+ +\d+ \+ +\d+\)", line):
            return Planned(float(found[1]), kv, compute, tuple(cells))
    raise RuntimeError("llama-server ended without a plan; run it by hand with -v to see why")
