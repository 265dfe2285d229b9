"""A change of routes under load on the lab: no request fails, no stream is cut; a change that cannot start harms nobody."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import takewhile
from operator import eq
from pathlib import Path
from typing import Any

import pytest

from mesh.paths import STACKS
from tests.lab import fault, inventory

pytestmark = pytest.mark.lab
GATEWAY = "http://10.88.0.12:4000"
HERE = "10.88.0.1"
"""The machine that the lab runs on, as its hosts see it."""
WORDS = 60
PAUSE = 0.25
"""Seconds between two words of a slow stream: 15 s in all, longer than a gateway takes to start."""
LEAST = 200


class SlowProvider(BaseHTTPRequestHandler):
    """A double of an OpenAI-like API whose streams take their time."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        head = {"id": "slow", "object": "chat.completion.chunk", "created": 1, "model": "double-slow"}
        for number in range(WORDS):
            choice = {"index": 0, "delta": {"role": "assistant", "content": f"w{number} "}, "finish_reason": None}
            self.wfile.write(b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n")
            self.wfile.flush()
            time.sleep(PAUSE)
        end = {"index": 0, "delta": {}, "finish_reason": "stop"}
        self.wfile.write(b"data: " + json.dumps({**head, "choices": [end]}).encode() + b"\n\ndata: [DONE]\n\n")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def slow() -> Iterator[str]:
    server = ThreadingHTTPServer((HERE, 0), SlowProvider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{HERE}:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def overlay(lab: Any, slow: str, **changes: Any) -> dict[str, Any]:
    """The lab's spec with a slow provider behind route `long`, and `changes` of routes."""
    spec = inventory.overlay(lab, inventory.FOLDER)
    spec["providers"] = {**spec["providers"], "moonshot": {"base_url": slow}}
    return spec | {"routes": changes}


@pytest.fixture(scope="module")
def serving(applied: Any, lab: Any, slow: str) -> Iterator[Any]:
    """The reference mesh with the slow provider, up; afterwards the reference again."""
    fault.post("/_double/reset", {})
    inventory.write(lab, spec=overlay(lab, slow))
    done = applied.mesh("apply", "-y", "--stack", "litellm")
    assert done.returncode == 0, done.stdout + done.stderr
    yield applied
    inventory.write(lab)
    applied.mesh("apply", "-y", "--stack", "litellm")


def ask(route: str, key: str, *, stream: bool) -> str:
    """What is wrong with the answer to one request; empty when nothing is."""
    body = {"model": route, "messages": [{"role": "user", "content": "say:all is well"}], "stream": stream}
    request = urllib.request.Request(
        f"{GATEWAY}/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {key}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            text = response.read().decode()
    except urllib.error.HTTPError as error:
        return f"{route}: {error.code} {error.read()[:200]!r}"
    except (OSError, http.client.HTTPException) as error:
        return f"{route}: cut: {error!r}"
    if not stream:
        return "" if json.loads(text)["choices"][0]["message"]["content"] else f"{route}: an empty answer"
    if "data: [DONE]" not in text or '"error"' in text:
        return f"{route}: the stream was cut: ...{text[-200:]}"
    if route == "long" and f"w{WORDS - 1} " not in text:
        return f"{route}: the stream lacks words"
    return ""


@dataclass
class Load:
    """Threads that ask until they are told to stop, and for at least LEAST requests."""

    key: str
    problems: list[str] = field(default_factory=list)
    sent: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Load:
        kinds = [
            ("bulk", False),
            ("bulk", True),
            ("private", False),
            ("fast", True),
            ("long", True),
            ("long", True),
            ("long", True),
        ]
        self.threads = [threading.Thread(target=self._work, args=each, daemon=True) for each in kinds]
        for each in self.threads:
            each.start()
        time.sleep(2)
        return self

    def _work(self, route: str, stream: bool) -> None:
        while not self.stop.is_set() or self.sent < LEAST:
            problem = ask(route, self.key, stream=stream)
            self.sent += 1
            if problem:
                self.problems.append(problem)
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for each in self.threads:
            each.join(90)


def started(lab: Any) -> dict[str, str]:
    """When each container of the stack was started."""
    names = "litellm-front-1 litellm-litellm-a-1 litellm-litellm-b-1"
    lines = lab.ssh("vm-docker", f"docker inspect -f '{{{{.Name}}}} {{{{.State.StartedAt}}}}' {names}").stdout.splitlines()
    return dict(line.split() for line in lines)


def listed(key: str, service: str) -> dict[str, Any]:
    """The groups of one gateway with their fallbacks."""
    request = urllib.request.Request(
        f"{GATEWAY}/v1/models?include_metadata=true", headers={"authorization": f"Bearer {key}", "x-mesh-gateway": service}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.headers["x-mesh-gateway"] == service
        return {each["id"]: each["metadata"]["fallbacks"] for each in json.load(response)["data"]}


def test_routes_change_under_load_and_no_request_fails(serving: Any, lab: Any, slow: str) -> None:
    key, master = (str(serving.secrets.value(name)) for name in ("client_laptop_key", "litellm_master_key"))
    before = started(lab)
    inventory.write(lab, spec=overlay(lab, slow, bulk={"fallback": ["claude", "llama3.1-8b"]}))
    with Load(key) as load:
        begun = time.monotonic()
        done = serving.mesh("apply", "-y", "--stack", "litellm")
        took = time.monotonic() - begun
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"{load.sent} requests during an apply of {took:.0f} s, {len(load.problems)} failed", file=sys.stderr)
    assert load.sent >= LEAST
    assert load.problems == []
    after = started(lab)
    assert {name for name in after if after[name] != before[name]} == {"/litellm-litellm-a-1", "/litellm-litellm-b-1"}
    for service in ("litellm-a", "litellm-b"):
        assert listed(master, service)["bulk"] == ["claude", "llama3.1-8b"]


def test_a_rotated_key_works_when_the_apply_is_done_and_nobody_else_notices(serving: Any) -> None:
    laptop, old = (str(serving.secrets.value(f"client_{name}_key")) for name in ("laptop", "ocr"))
    rotated = serving.mesh("client", "rotate", "ocr", "--quiet")
    assert rotated.returncode == 0, rotated.stderr
    new = rotated.stdout.strip()
    assert ask("bulk", old, stream=False) == "" and " 401 " in ask("bulk", new, stream=False)
    seen: list[tuple[bool, bool]] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(2):  # the client may ask 60 times a minute
            seen.append((ask("bulk", old, stream=False) == "", ask("bulk", new, stream=False) == ""))

    watching = threading.Thread(target=watch, daemon=True)
    with Load(laptop) as load:
        watching.start()
        applied = serving.mesh("apply", "-y", "--stack", "litellm")
        done.set()
        assert " 401 " in ask("bulk", old, stream=False) and ask("bulk", new, stream=False) == ""
        watching.join()
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert load.problems == []
    # Each gateway knows one of the two keys; for a moment both gateways serve, and it depends on which is asked.
    before = len(list(takewhile(partial(eq, (True, False)), seen)))
    alone = len(list(takewhile(partial(eq, (False, True)), reversed(seen))))
    print(f"{len(seen)} looks: {before} with the old key alone, then mixed, {alone} with the new alone", file=sys.stderr)
    assert before >= 3 and alone >= 3
    assert len(seen) - before - alone < len(seen) / 2


def test_a_gateway_killed_under_load_cuts_what_it_was_answering_and_nothing_else(serving: Any, lab: Any) -> None:
    key, master = (str(serving.secrets.value(name)) for name in ("client_laptop_key", "litellm_master_key"))
    pid = "$(docker inspect -f '{{.State.Pid}}' litellm-litellm-a-1)"
    with Load(key) as load:
        lab.ssh("vm-docker", f"kill -9 {pid}")
        time.sleep(1)
        early = len(load.problems)
        time.sleep(6)
    assert early <= len(load.threads)
    for problem in load.problems:  # before the first byte the client reads why; a stream that had begun just ends
        assert "mesh rule gateway-up" in problem or "cut" in problem, problem
    assert len(load.problems) == early, load.problems
    for service in ("litellm-a", "litellm-b"):
        assert wait_until_well(master, service)["ledger"] == "ok"


def wait_until_well(key: str, service: str) -> dict[str, Any]:
    """The state of that gateway's ledger, once it is back."""
    for _ in range(60):
        request = urllib.request.Request(
            f"{GATEWAY}/mesh/ledger", headers={"authorization": f"Bearer {key}", "x-mesh-gateway": service}
        )
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=10) as response:
            if response.headers["x-mesh-gateway"] == service:
                found: dict[str, Any] = json.load(response)
                return found
        time.sleep(1)
    raise AssertionError(f"{service} is not back")


def test_a_gateway_that_cannot_start_is_taken_back_while_the_other_serves(
    serving: Any, lab: Any, slow: str, tmp_path: Path
) -> None:
    """The guard of the new release raises at its import. The second gateway is never touched."""
    key, master = (str(serving.secrets.value(name)) for name in ("client_laptop_key", "litellm_master_key"))
    before, routes = started(lab), listed(master, "litellm-b")
    broken = tmp_path / "broken"
    shutil.copytree(STACKS / "litellm", broken)
    guard = broken / "gateway/mesh_guard.py"
    guard.write_text(guard.read_text() + "\nraise RuntimeError('planted')\n")
    spec = overlay(lab, slow, bulk={"fallback": ["claude"]})
    inventory.write(lab, spec=spec | {"stacks": {"litellm": {"kind": "litellm", "source": str(broken)}}})
    with Load(key) as load:
        done = serving.mesh("apply", "-y", "--stack", "litellm")
    assert done.returncode == 1
    assert "planted" in done.stdout + done.stderr
    assert load.problems == []
    assert started(lab)["/litellm-litellm-b-1"] == before["/litellm-litellm-b-1"]
    for service in ("litellm-a", "litellm-b"):
        assert listed(master, service) == routes
