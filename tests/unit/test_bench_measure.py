"""`mesh bench` against the double of Ollama: what is measured, what is recorded, and what is never recorded."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from clikit import SMALL_SPEC, Ran
from measurekit import ONE

from mesh.doubles.ollama import build
from mesh.doubles.ollama_state import Settings
from mesh.errors import MeshError
from mesh.measure.record import add_measurements, read_measurements, slowed
from mesh.measure.speed import measure

Run = Callable[..., Ran]
GIB = 1024**3


class Server:
    """The double of Ollama on a loopback port, with llama3.1:8b pulled. `honest` makes it hide that it is a double."""

    def __init__(self, folder: Path, vram: int) -> None:
        self.folder, self.vram, self.port, self.honest = folder, vram, 0, True
        self.seen: list[dict[str, Any]] = []

    def app(self) -> web.Application:
        @web.middleware
        async def note(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
            if request.path == "/api/version" and not self.honest:
                return web.json_response({"version": "0.32.15"})
            if request.method == "POST":
                self.seen.append(await request.json())
            answer: web.StreamResponse = await handler(request)
            return answer

        app = build(Settings(self.folder, vram_bytes=self.vram, pull_seconds=0.0))
        app.middlewares.append(note)
        return app

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    double = Server(tmp_path / "models", getattr(request, "param", 12 * GIB))
    loop, started = asyncio.new_event_loop(), threading.Event()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "homelab-mesh-double.json").write_text(json.dumps({"llama3.1:8b": "2026-01-01"}))

    async def serve() -> None:
        runner = web.AppRunner(double.app(), shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        double.port = runner.addresses[0][1]
        started.set()

    def run() -> None:
        loop.run_until_complete(serve())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(10)
    yield double
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


@pytest.fixture
def inventory(small_inventory: Path, server: Server) -> Path:
    spec = SMALL_SPEC.replace("on: box, gpu: none", f"on: box, gpu: none, port: {server.port}")
    (small_inventory / "mesh.yaml").write_text(spec)
    return small_inventory


def of(server: Server, **more: Any) -> Any:
    settings: dict[str, Any] = {"num_ctx": 4096, "keep_alive": 60, "runs": 2, "tokens": 32, "progress": lambda _: None}
    return measure(server.url, "llama3.1:8b", **{**settings, **more})


def test_speed_is_what_ollamas_own_clock_says(server: Server) -> None:
    speed = of(server)
    assert speed.tok_s == pytest.approx(100.0, rel=0.01)
    assert speed.prompt_tok_s == pytest.approx(1000.0, rel=0.01)
    assert speed.load_s == pytest.approx(1.5)
    assert speed.size == speed.size_vram > 0
    assert speed.runs == 2


@pytest.mark.parametrize("server", [3 * GIB], indirect=True)
def test_a_model_that_spilled_is_measured_as_such(server: Server) -> None:
    speed = of(server)
    assert speed.tok_s == pytest.approx(4.0, rel=0.01)
    assert speed.size_vram < speed.size


def test_the_model_is_loaded_as_the_gateway_loads_it_and_no_prompt_is_read_twice(server: Server) -> None:
    of(server, runs=3)
    assert {each["options"]["num_ctx"] for each in server.seen} == {4096}
    assert {each["keep_alive"] for each in server.seen} == {60}
    starts = [each["prompt"][:2] for each in server.seen]
    assert len(set(starts)) == len(starts) == 4


def test_a_model_that_is_not_pulled_says_what_to_do(server: Server) -> None:
    with pytest.raises(MeshError, match="does not hold mistral:7b") as caught:
        measure(server.url, "mistral:7b", num_ctx=None, keep_alive=None, runs=1, tokens=32, progress=lambda _: None)
    assert "mesh apply" in caught.value.mend


def test_a_double_is_never_recorded_unless_forced_and_then_marked(inventory: Path, run_mesh: Run) -> None:
    ran = run_mesh("bench", "-C", inventory)
    assert ran.code == 0
    assert "a test double" in ran.out
    assert "nothing recorded" in ran.err
    assert read_measurements(inventory) == ()
    assert run_mesh("bench", "llama", "--force", "-C", inventory).code == 0
    (kept,) = read_measurements(inventory)
    assert kept.double
    assert (kept.model, kept.num_ctx, kept.card, kept.engine, kept.version) == ("llama3.1:8b", 8192, "cpu", "ollama", "0.32.15")


def test_what_was_measured_is_recorded_with_engine_version_card_and_date(inventory: Path, server: Server, run_mesh: Run) -> None:
    server.honest = False
    add_measurements(inventory, [ONE])
    ran = run_mesh("bench", "llama3.1:8b", "--runs", "1", "--json", "-C", inventory)
    assert ran.code == 0
    told = json.loads(ran.out)
    assert (told["version"], told["recorded"]) == (1, 1)
    assert told["measurements"][0]["name"] == "llama"
    before, now = read_measurements(inventory)
    assert before == ONE
    assert not now.double
    assert now.taken.startswith("20")
    assert "run 1 of 1" in ran.err


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lama", "did you mean `llama`"),
        ("nomic", "embedding model"),
        ("claude", "does not run in the mesh"),
    ],
)
def test_a_model_that_cannot_be_measured_is_refused_with_the_reason(inventory: Path, run_mesh: Run, name: str, says: str) -> None:
    ran = run_mesh("bench", name, "-C", inventory)
    assert ran.code == 1
    assert says in ran.err


def test_what_was_measured_before_an_interrupt_is_kept(
    inventory: Path, server: Server, run_mesh: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.honest = False
    text = (inventory / "mesh.yaml").read_text()
    (inventory / "mesh.yaml").write_text(text.replace("  nomic:", '  slow: {at: ollama, tag: "mistral:7b"}\n  nomic:'))

    def interrupted(url: str, tag: str, **settings: Any) -> Any:
        if tag == "mistral:7b":
            raise KeyboardInterrupt
        return measure(url, tag, **settings)

    monkeypatch.setattr("mesh.cli.bench.measure", interrupted)
    ran = run_mesh("bench", "--runs", "1", "-C", inventory)
    assert ran.code == 130
    assert [each.model for each in read_measurements(inventory)] == ["llama3.1:8b"]


def test_a_damaged_file_is_said_before_anything_is_measured(inventory: Path, server: Server, run_mesh: Run) -> None:
    path = add_measurements(inventory, [ONE])
    path.write_text(path.read_text().replace("84.00", "fast"))
    assert run_mesh("bench", "-C", inventory).code == 1
    assert server.seen == []


def test_an_ollama_that_is_down_is_an_error(small_inventory: Path, run_mesh: Run) -> None:
    (small_inventory / "mesh.yaml").write_text(SMALL_SPEC.replace("gpu: none", "gpu: none, port: 9"))
    ran = run_mesh("bench", "-C", small_inventory)
    assert ran.code == 1
    assert "box/ollama: its Ollama cannot be asked" in ran.err


# the file


def test_measurements_come_back_as_they_were_written(tmp_path: Path) -> None:
    two = replace(ONE, model='odd,"name"', double=True, card="")
    add_measurements(tmp_path, [ONE])
    add_measurements(tmp_path, [two])
    assert read_measurements(tmp_path) == (ONE, two)


@pytest.mark.parametrize(
    ("old", "new"), [("84.00", "fast"), ("84.00", "-1.00"), ("84.00", "nan"), (",no", ",perhaps"), (",3,no", "")]
)
def test_a_damaged_line_is_an_error_with_its_place(tmp_path: Path, old: str, new: str) -> None:
    path = add_measurements(tmp_path, [ONE])
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(MeshError) as caught:
        read_measurements(tmp_path)
    assert caught.value.where == f"{path}:2"


def test_a_speed_20_percent_under_the_best_is_named_and_doubles_and_other_cards_are_not() -> None:
    later = replace(ONE, taken="2026-11-22T10:00:00Z", tok_s=60.0)
    assert list(slowed([ONE, later])) == [(later, ONE)]
    assert list(slowed([ONE, replace(later, tok_s=70.0)])) == []
    assert list(slowed([ONE, replace(later, double=True)])) == []
    assert list(slowed([ONE, replace(later, card="NVIDIA GeForce RTX 3060")])) == []
    assert list(slowed([ONE, later, replace(ONE, taken="2026-11-23T10:00:00Z")])) == []
