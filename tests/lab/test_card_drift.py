"""Drift and bench on the card of the lab. nvidia-smi and Ollama are stubs: this proves the decision, not the driver."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from labctl import Lab

from mesh.measure.record import read_measurements
from tests.lab.conftest import Applied

pytestmark = pytest.mark.lab
OLLAMA = "http://10.88.0.11:11434"
CARD = "NVIDIA GeForce RTX 4070 Ti, 12282 MiB"


class Box:
    """The host with the card."""

    def __init__(self, lab: Lab, applied: Applied) -> None:
        self.lab, self.applied = lab, applied

    def sh(self, command: str) -> str:
        ssh = ["ssh", "-F", str(self.lab.ssh_config), "gpu-box", command]
        return subprocess.run(ssh, capture_output=True, text=True, check=True, timeout=60).stdout

    def ask(self, path: str, body: dict[str, Any]) -> None:
        request = urllib.request.Request(OLLAMA + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=30).read()

    def drift(self) -> tuple[int, dict[str, Any]]:
        done = self.applied.mesh("drift", "--format", "json")
        found: dict[str, Any] = json.loads(done.stdout)
        return done.returncode, found


@pytest.fixture
def box(lab: Lab, applied: Applied) -> Iterator[Box]:
    found = Box(lab, applied)
    yield found
    found.sh(f"echo '{CARD}' >/etc/lab/card; rm -f /etc/lab/vram-used")
    found.ask("/api/generate", {"model": "llama3.1:8b", "keep_alive": 0, "stream": False})


def only(found: dict[str, Any]) -> dict[str, Any]:
    assert found["changes"] == []
    (each,) = found["deviations"]
    answer: dict[str, Any] = each
    return answer


def test_the_card_of_the_spec_is_no_drift(box: Box) -> None:
    code, found = box.drift()
    assert (code, found["changes"], found["deviations"], found["unknown"]) == (0, [], [], [])


def test_another_card_is_drift(box: Box) -> None:
    box.sh("echo 'NVIDIA GeForce RTX 3060, 12288 MiB' >/etc/lab/card")
    code, found = box.drift()
    assert code == 2
    assert "nvidia-smi shows NVIDIA GeForce RTX 3060 (12288 MiB)" in only(found)["why"]


def test_vram_that_nobody_declared_is_drift(box: Box) -> None:
    box.sh("echo 9000 >/etc/lab/vram-used")
    code, found = box.drift()
    assert code == 2
    assert only(found)["name"] == "VRAM"


def test_a_model_that_spilled_is_drift_and_one_that_may_is_not(box: Box) -> None:
    box.ask("/api/generate", {"model": "qwen2.5-coder:32b", "keep_alive": 0, "stream": False, "prompt": "hi"})
    box.ask("/api/generate", {"model": "llama3.1:8b", "stream": False, "options": {"num_ctx": 65536}})
    code, found = box.drift()
    assert code == 2
    assert (only(found)["subject"], only(found)["name"]) == ("model", "llama3.1:8b")


def test_a_card_that_vanished_from_the_container_is_drift_and_apply_restarts_it(box: Box) -> None:
    box.sh("docker exec ollama-ollama-1 touch /tmp/nvml-broken")
    code, found = box.drift()
    assert code == 2
    (change,) = found["changes"]
    assert (change["stack"], change["verb"]) == ("ollama", "restart")
    assert "Failed to initialize NVML: Unknown Error" in change["why"]
    done = box.applied.mesh("apply", "-y")
    assert done.returncode == 0, done.stdout + done.stderr
    assert box.drift()[0] == 0


def test_bench_measures_the_double_and_records_nothing(box: Box) -> None:
    done = box.applied.mesh("bench", "llama3.2-3b", "--runs", "1")
    assert done.returncode == 0, done.stderr
    assert "a test double" in done.stdout
    assert read_measurements(box.applied.folder) == ()
