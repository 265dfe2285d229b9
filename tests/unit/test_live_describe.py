"""A model nobody knows: its numbers from a file, from the web by ranges, or from a live Ollama, as lines for the spec."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_hardware_gguf import LLAMA, Q4_K, SHOW, TENSORS, gguf

from mesh.errors import MeshError
from mesh.hardware.footprint import footprint
from mesh.hardware.placement import architecture
from mesh.live.describe import as_yaml, describe, of_ollama
from mesh.spec.mesh import Mesh
from mesh.spec.providers import Model

WEIGHTS = 12_000_000


class Double(http.server.BaseHTTPRequestHandler):
    """A double of a file server with ranges and of an Ollama's /api/tags and /api/show. It holds no model."""

    sent = 0

    def do_GET(self) -> None:
        if self.path == "/api/tags":
            self.answer(200, json.dumps({"models": [{"name": "gemma3:12b", "size": 8_149_190_253}]}).encode())
        elif self.path == "/moved.gguf":
            self.send_response(302)
            self.send_header("Location", "/m.gguf")
            self.end_headers()
        elif self.path == "/m.gguf":
            first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            data = (gguf() + bytes(WEIGHTS))[first : last + 1]
            type(self).sent += len(data)
            self.answer(206, data)
        else:
            self.answer(404, b"{}")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, json.dumps(SHOW).encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Double)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()


def no_mesh() -> Mesh:
    raise AssertionError("the spec is not needed")


@pytest.mark.parametrize("name", ["m.gguf", "moved.gguf"])
def test_a_header_on_the_web_is_read_by_ranges_and_the_weights_stay_there(server: str, name: str) -> None:
    Double.sent = 0
    assert describe(f"{server}/{name}", no_mesh).layers == 2
    assert Double.sent < WEIGHTS / 5


def test_an_address_without_a_file_is_an_error_that_says_what_was_answered(server: str) -> None:
    with pytest.raises(MeshError, match="404"):
        describe(f"{server}/none.gguf", no_mesh)


def test_a_live_ollama_is_asked_for_the_model_and_its_size(server: str) -> None:
    found = of_ollama(server, "gemma3:12b")
    assert (found.source, found.blob_bytes, found.window) == ("the live Ollama", 8_149_190_253, 1024)
    with pytest.raises(MeshError, match="no model `other`"):
        of_ollama(server, "other")


def test_something_that_is_neither_a_file_nor_an_ollama_is_an_error_with_the_choices() -> None:
    mesh = Mesh.model_validate(
        {"mesh": "m", "hosts": {"a": {"address": "10.0.0.1"}}, "providers": {"olla": {"kind": "ollama", "on": "a"}}}
    )
    with pytest.raises(MeshError, match="PROVIDER:TAG with one of olla"):
        describe("stranger:7b", lambda: mesh)


@pytest.mark.parametrize(
    ("more", "tensors"),
    [
        ({}, TENSORS),
        (
            {"llama.expert_count": 8, "llama.expert_used_count": 2},
            [*TENSORS, ("blk.0.ffn_gate_exps.weight", (512, 512, 8), Q4_K)],
        ),
        ({"llama.attention.sliding_window": 256, "llama.attention.sliding_window_pattern": 2}, TENSORS),
        ({"llama.attention.causal": False}, TENSORS),
        ({"llama.attention.head_count_kv": [0, 2]}, TENSORS),
    ],
)
def test_what_is_printed_makes_the_same_model_in_the_spec(tmp_path: Path, more: dict[str, Any], tensors: Any) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(gguf(LLAMA | more, tensors))
    found = describe(str(path), no_mesh)
    written = architecture(Model.model_validate({"at": "ollama", "tag": "mine", **yaml.safe_load(as_yaml(found))}))
    assert written is not None
    assert footprint(written, 4096) == footprint(found, 4096)
    assert (written.active_bytes, written.experts_used, written.full_layers) == (
        found.active_bytes,
        found.experts_used,
        found.full_layers,
    )
    assert written.source == "the spec"
