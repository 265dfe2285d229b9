"""The double of Ollama: its API, its state, its command, and the symptoms it can pretend."""

import asyncio
import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from mesh.doubles import ollama_cli
from mesh.doubles.ollama import build
from mesh.doubles.ollama_models import TABLE, look_up
from mesh.doubles.ollama_state import Memory, Settings, parse_host, parse_keep_alive
from mesh.doubles.text import embed

PROJECT = Path(__file__).parents[2]
Client = TestClient[Any, Any]
GIB = 1024**3


def run(folder: Path, scenario: Callable[[Client], Awaitable[None]], **settings: Any) -> None:
    async def go() -> None:
        app = build(Settings(folder, pull_seconds=0.0, **settings))
        async with TestClient(TestServer(app, handler_cancellation=True)) as client:
            await scenario(client)

    asyncio.run(go())


async def pull(client: Client, *names: str) -> None:
    for name in names:
        response = await client.post("/api/pull", json={"model": name, "stream": False})
        assert response.status == 200, await response.text()


async def chat(client: Client, model: str = "llama3.2:3b", text: str = "say:a b c", **more: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": False, **more}
    found: dict[str, Any] = await (await client.post("/api/chat", json=body)).json()
    return found


async def loaded(client: Client) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in (await (await client.get("/api/ps")).json())["models"]}


def lines(raw: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw.splitlines()]


def test_it_says_that_it_is_a_double(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        response = await client.get("/")
        text = await response.text()
        assert "Ollama is running" in text
        assert "NOT the real Ollama" in text
        assert response.headers["x-double"] == "ollama"
        await pull(client, "llama3.2:3b")
        assert (await chat(client, text="hi"))["message"]["content"].startswith("[double ollama:llama3.2:3b] hi")

    run(tmp_path, scenario)


def test_a_pull_reports_progress_and_the_model_is_listed_with_digest_and_size(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        seen = lines(await (await client.post("/api/pull", json={"model": "llama3.1:8b"})).text())
        assert seen[0] == {"status": "pulling manifest"}
        assert seen[-1] == {"status": "success"}
        layers = [line for line in seen if "total" in line]
        assert layers[-1]["completed"] == layers[-1]["total"] == 4920738944
        (model,) = (await (await client.get("/api/tags")).json())["models"]
        assert (model["name"], model["details"]["quantization_level"]) == ("llama3.1:8b", "Q4_K_M")
        assert len(model["digest"]) == 64

    run(tmp_path, scenario)


def test_an_unknown_tag_is_an_error_key_inside_a_200_stream(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        response = await client.post("/api/pull", json={"model": "no-such:1b"})
        assert response.status == 200
        assert lines(await response.text())[-1] == {"error": "pull model manifest: file does not exist"}
        assert (await (await client.get("/api/tags")).json())["models"] == []

    run(tmp_path, scenario)


def test_a_pull_that_breaks_off_leaves_no_model(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        await client.post("/_double/fault", json={"fault": "500", "after_tokens": 3})
        seen = lines(await (await client.post("/api/pull", json={"model": "llama3.1:8b"})).text())
        assert "error" in seen[-1]
        assert (await (await client.get("/api/tags")).json())["models"] == []

    run(tmp_path, scenario)


def test_pulled_models_outlive_the_server_and_deleted_ones_do_not(tmp_path: Path) -> None:
    async def first(client: Client) -> None:
        await pull(client, "nomic-embed-text", "mistral:7b")
        assert (await client.delete("/api/delete", json={"model": "mistral:7b"})).status == 200
        assert (await client.delete("/api/delete", json={"model": "mistral:7b"})).status == 404

    async def second(client: Client) -> None:
        names = [model["name"] for model in (await (await client.get("/api/tags")).json())["models"]]
        assert names == ["nomic-embed-text:latest"]

    run(tmp_path, first)
    run(tmp_path, second)


def test_a_model_that_was_not_pulled_is_404(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        for path in ("/api/chat", "/api/generate", "/api/embed", "/api/show", "/v1/chat/completions", "/v1/embeddings"):
            body = {"model": "llama3.1:8b", "messages": [], "input": "x"}
            assert (await client.post(path, json=body)).status == 404, path

    run(tmp_path, scenario)


def test_show_gives_what_vram_arithmetic_needs(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        await pull(client, "gemma3:12b")
        info = (await (await client.post("/api/show", json={"model": "gemma3:12b"})).json())["model_info"]
        assert info["general.architecture"] == "gemma3"
        assert (info["gemma3.block_count"], info["gemma3.attention.head_count_kv"]) == (48, 8)
        assert (info["gemma3.attention.key_length"], info["gemma3.attention.sliding_window"]) == (256, 1024)

    run(tmp_path, scenario)


def test_chat_and_generate_stream_by_default_and_end_with_durations(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        await pull(client, "llama3.2:3b")
        body = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "say:a b c"}], "prompt": "say:a b c"}
        for path in ("/api/chat", "/api/generate"):
            seen = lines(await (await client.post(path, json=body)).text())
            said = [line["message"]["content"] if path == "/api/chat" else line["response"] for line in seen]
            assert "".join(said) == "a b c"
            assert [line["done"] for line in seen] == [False, False, False, True]
            assert seen[-1]["eval_count"] == 3
            assert seen[-1]["eval_duration"] > 0

    run(tmp_path, scenario)


def test_num_ctx_and_keep_alive_of_the_request_win_over_the_servers(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        await pull(client, "llama3.2:3b")
        await chat(client)
        first = (await loaded(client))["llama3.2:3b"]
        assert first["context_length"] == 8192
        said = await chat(client, text="say:x " + "word " * 50, options={"num_ctx": 16}, keep_alive="2h")
        second = (await loaded(client))["llama3.2:3b"]
        assert second["context_length"] == 16
        assert second["size"] < first["size"]
        assert said["prompt_eval_count"] == 16
        assert second["expires_at"] > first["expires_at"]
        await chat(client, keep_alive=0)
        assert await loaded(client) == {}

    run(tmp_path, scenario, context_length=8192)


def test_an_empty_request_preloads(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        await pull(client, "llama3.2:3b")
        body = {"model": "llama3.2:3b", "keep_alive": -1}
        assert (await (await client.post("/api/generate", json=body)).json())["done_reason"] == "load"
        assert (await loaded(client))["llama3.2:3b"]["expires_at"].startswith("2318")

    run(tmp_path, scenario)


def test_a_model_too_big_for_the_card_spills(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        await pull(client, "qwen2.5-coder:32b", "llama3.2:3b")
        await chat(client, "qwen2.5-coder:32b")
        item = (await loaded(client))["qwen2.5-coder:32b"]
        assert 0 < item["size_vram"] < item["size"]
        await chat(client, "llama3.2:3b")
        assert list(await loaded(client)) == ["llama3.2:3b"], "no room beside it: the big one is evicted"

    run(tmp_path, scenario, context_length=4096)


def test_a_lost_gpu_answers_with_nothing_in_vram(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        await pull(client, "llama3.2:3b")
        await chat(client)
        assert (await loaded(client))["llama3.2:3b"]["size_vram"] == 0

    run(tmp_path, scenario, vram_bytes=0)


def test_the_shortest_keep_alive_is_evicted_first(tmp_path: Path) -> None:
    memory = Memory(Settings(tmp_path, max_loaded=2, vram_bytes=80 * GIB))
    memory.use("llama3.1:8b", 4096, "1h", now=0)
    memory.use("mistral:7b", 4096, "1m", now=0)
    memory.use("llama3.2:3b", 4096, None, now=1)
    assert sorted(memory.listing(2)) == ["llama3.1:8b", "llama3.2:3b"]
    assert sorted(memory.listing(302)) == ["llama3.1:8b"]


@pytest.mark.parametrize(("gib", "context"), [(12, 4096), (24, 32768), (48, 262144)])
def test_without_a_set_context_the_card_decides(tmp_path: Path, gib: int, context: int) -> None:
    assert Settings(tmp_path, vram_bytes=gib * GIB).default_context() == context


@pytest.mark.parametrize(("value", "seconds"), [("5m", 300.0), ("1h30m", 5400.0), (20, 20.0), ("0", 0.0), (-1, math.inf)])
def test_keep_alive_is_read_as_ollama_reads_it(value: object, seconds: float) -> None:
    assert parse_keep_alive(value) == seconds


def test_a_nonsense_keep_alive_is_a_400(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        await pull(client, "llama3.2:3b")
        assert "invalid duration" in (await chat(client, keep_alive="soon"))["error"]

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", ("127.0.0.1", 11434)), ("0.0.0.0", ("0.0.0.0", 11434)), ("http://h:1", ("h", 1)), (":99", ("127.0.0.1", 99))],
)
def test_ollama_host_is_read_in_all_its_forms(text: str, expected: tuple[str, int]) -> None:
    assert parse_host(text) == expected


def test_memory_is_near_the_published_table() -> None:
    for tag, context, gib in (("llama3.1:8b", 4096, 5.06), ("qwen2.5-coder:32b", 32768, 26.68), ("gemma3:12b", 32768, 11.23)):
        assert look_up(tag).memory_bytes(context) / GIB == pytest.approx(gib, abs=0.5)
    assert look_up("some-model:13b").blob_bytes == pytest.approx(7.8e9)
    assert look_up("llama3.2").blob_bytes == TABLE[0].blob_bytes


def test_embeddings_on_all_three_paths_agree_and_have_the_models_size(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        await pull(client, "nomic-embed-text")
        body = {"model": "nomic-embed-text", "input": ["a red fox"], "prompt": "a red fox"}
        new = (await (await client.post("/api/embed", json=body)).json())["embeddings"][0]
        old = (await (await client.post("/api/embeddings", json=body)).json())["embedding"]
        openai = (await (await client.post("/v1/embeddings", json=body)).json())["data"][0]["embedding"]
        assert new == old == openai
        assert len(new) == 768
        assert "does not support chat" in (await chat(client, "nomic-embed-text"))["error"]

    run(tmp_path, scenario)


def test_texts_that_share_words_are_nearer_than_texts_that_do_not() -> None:
    def near(a: str, b: str) -> float:
        return sum(x * y for x, y in zip(embed(a, 768), embed(b, 768), strict=True))

    assert near("the backup runs at night", "the backup runs at night") == pytest.approx(1.0)
    assert near("when do backups run", "the backup runs at night") > near("when do backups run", "a recipe for onion soup") + 0.2


def test_a_failing_runner_still_lists_and_a_refusing_server_does_not(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        await pull(client, "llama3.2:3b")
        await client.post("/_double/fault", json={"fault": "500"})
        assert "terminated" in (await chat(client))["error"]
        assert (await client.get("/api/tags")).status == 200
        assert await loaded(client) == {}
        await client.post("/_double/fault", json={"fault": "refused"})
        with pytest.raises(OSError):
            await client.get("/api/tags")

    run(tmp_path, scenario)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """The `ollama` command against its own `ollama serve`, as in the container."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PROJECT),
        "HOME": str(tmp_path_factory.mktemp("home")),
        "OLLAMA_HOST": f"127.0.0.1:{free_port()}",
        "DOUBLE_PULL_SECONDS": "0",
    }

    def call(*args: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "mesh.doubles.ollama_cli", *args]
        return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=20, check=False)

    server = subprocess.Popen(
        [sys.executable, "-m", "mesh.doubles.ollama_cli", "serve"], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    assert "NOT the real service" in server.stderr.readline()
    deadline = time.monotonic() + 10
    while call("list").returncode != 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    yield call
    server.terminate()
    assert server.wait(10) == 0
    server.stderr.close()


def test_the_command_pulls_lists_shows_and_removes(command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert command("pull", "llama3.2:3b").returncode == 0
    header, row = command("list").stdout.splitlines()
    assert header.split() == ["NAME", "ID", "SIZE", "MODIFIED"]
    assert row.split()[0] == "llama3.2:3b"
    assert "2.0 GB" in row
    assert "context length      131072" in command("show", "llama3.2:3b").stdout
    assert command("ps").stdout.split() == ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]
    assert command("rm", "llama3.2:3b").stdout == "deleted 'llama3.2:3b'\n"
    again = command("rm", "llama3.2:3b")
    assert (again.returncode, again.stderr) == (1, "Error: model 'llama3.2:3b' not found\n")


def test_the_command_fails_as_the_real_one_does(command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    failed = command("pull", "no-such:1b")
    assert failed.returncode == 1
    assert failed.stderr.endswith("Error: pull model manifest: file does not exist\n")
    assert command("pull").returncode == 1
    assert "unknown command" in command("explode").stderr
    version = command("--version")
    assert version.stdout.startswith("ollama version is ")
    assert "NOT the real Ollama" in version.stderr


def test_the_command_without_a_server_exits_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{free_port()}")
    with pytest.raises(SystemExit) as exit_:
        ollama_cli.main(["list"])
    assert exit_.value.code == 1
    assert capsys.readouterr().err == "Error: could not connect to ollama server, run 'ollama serve' to start it\n"


def test_a_models_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    environment = {"PYTHONPATH": str(PROJECT), "OLLAMA_MODELS": str(tmp_path / "file" / "models"), "PATH": os.environ["PATH"]}
    line = [sys.executable, "-m", "mesh.doubles", "ollama", "--port", "0"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert "cannot serve" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("size_vram", "text"), [(100, "100% GPU"), (0, "100% CPU"), (75, "25%/75% CPU/GPU")])
def test_ps_says_where_a_model_runs(size_vram: int, text: str) -> None:
    assert ollama_cli.processor(100, size_vram) == text
