"""Bytes of a pull, against a double of a registry on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mesh.errors import MeshError
from mesh.live.parallel import side_by_side
from mesh.registry import pull_size

INDEX = {
    "manifests": [
        {"digest": "sha256:aa", "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": "sha256:bb", "platform": {"os": "linux", "architecture": "arm64"}},
        {"digest": "sha256:cc", "platform": {"os": "unknown", "architecture": "unknown"}},
    ]
}
AMD = {"config": {"size": 1}, "layers": [{"size": 10}, {"size": 100}]}
ARM = {"config": {"size": 2}, "layers": [{"size": 20}]}


class Answers(BaseHTTPRequestHandler):
    found: dict[str, Any] = {}
    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = self.found.get(self.path)
        self.send_response(200 if body is not None else 404)
        self.end_headers()
        self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    Answers.asked = []
    Answers.found = {f"/v2/web/manifests/{name}": each for name, each in {"1": INDEX, "sha256:aa": AMD, "sha256:bb": ARM}.items()}
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("platform", "size"), [("linux/amd64", 111), ("linux/arm64", 22)])
def test_the_size_is_that_of_the_hosts_platform_and_two_questions_are_enough(registry: str, platform: str, size: int) -> None:
    assert pull_size(f"{registry}/web", "1", platform, 5) == size
    assert len(Answers.asked) == 2


def test_an_image_of_one_platform_needs_one_question(registry: str) -> None:
    assert pull_size(f"{registry}/web", "sha256:aa", "linux/amd64", 5) == 111
    assert len(Answers.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"layers": 3}',
        b'{"layers": [{"size": "x"}]}',
        b'{"manifests": []}',
    ],
)
def test_an_answer_that_is_no_manifest_is_an_error(registry: str, body: bytes) -> None:
    Answers.found["/v2/web/manifests/2"] = body
    with pytest.raises(MeshError):
        pull_size(f"{registry}/web", "2", "linux/amd64", 5)


def test_a_missing_image_and_a_platform_that_it_is_not_made_for_are_errors(registry: str) -> None:
    with pytest.raises(MeshError, match="no such tag"):
        pull_size(f"{registry}/web", "9", "linux/amd64", 5)
    with pytest.raises(MeshError, match="not made for linux/riscv64"):
        pull_size(f"{registry}/web", "1", "linux/riscv64", 5)


def test_what_does_not_end_in_time_is_left_out_and_not_waited_for() -> None:
    released = threading.Event()
    found = side_by_side({"slow": lambda: released.wait(30) and 0, "quick": lambda: 1}, 0.2)
    assert found == {"quick": 1}
    released.set()
