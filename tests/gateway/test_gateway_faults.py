"""What goes wrong at the gateway itself: the client reads a clear error or its answer, and nothing recorded is lost."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .ledgers import last, ledger_of, own_gateway, rows, settled, spent, wait
from .rig import Rig, call, secret_of

PATHS = ["/v1/chat/completions", "/v1/messages", "/v1/responses"]


def state(rig: Rig) -> dict[str, object]:
    found: dict[str, object] = rig.send("GET", "/mesh/ledger", None, secret_of("litellm_master_key")).json
    return found


def start_edited(own: Rig, name: str, edit: Callable[[str], str]) -> None:
    """Start a gateway with one file of its own code changed."""
    folder = own.write("litellm")
    path = folder / "gateway" / name
    path.chmod(0o600)
    path.write_text(edit(path.read_text(encoding="utf-8")), encoding="utf-8")
    argv, env = own.gateway_command(folder, own.ports["litellm"])
    own.start("litellm", argv, env, "/health/liveliness")


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_with_a_full_disk_requests_are_answered_and_nothing_recorded_is_lost(rig: Rig, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, own_gateway(rig, tmp_path / "own", {}, ledger=disk / "ledger.db") as own:
        own.start_gateway()
        assert own.ask("bulk").status == 200
        kept = settled(own, 0, 1)
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(b"x" * 4096)
                file.flush()
        statuses = [own.ask("bulk").status for _ in range(80)]
        assert statuses == [200] * 80
        assert state(own)["ledger"] == "in memory"
        filler.unlink()
        assert wait(lambda: state(own)["ledger"] == "ok" and state(own)["waiting"] == 0)
        after = settled(own, 0, 81)
        assert after[0] == kept[0] and len(after) >= 81
        assert spent(own, "laptop")["cost"] >= sum(row["cost"] for row in after)


def test_a_ledger_that_breaks_while_it_is_used_is_replaced(rig: Rig, tmp_path: Path) -> None:
    with own_gateway(rig, tmp_path, {}) as own:
        own.start_gateway()
        assert own.ask("bulk").status == 200
        settled(own, 0, 1)
        for name in ("ledger.db", "ledger.db-wal"):
            file = ledger_of(own).with_name(name)
            file.write_bytes(b"\xff" * max(file.stat().st_size, 8192))
        for _ in range(5):
            assert own.ask("bulk").status == 200
        own.stop("litellm")
        own.start_gateway()
        assert str(state(own)["corrupt_file"]).startswith("ledger.db.corrupt-") or list(ledger_of(own).parent.glob("*.corrupt-*"))
        before = last(own)
        assert own.ask("bulk").status == 200
        settled(own, before, 1)


def test_a_hook_that_fails_is_an_error_and_reaches_nobody(rig: Rig, tmp_path: Path) -> None:
    with own_gateway(rig, tmp_path, {}) as own:
        start_edited(own, "mesh_guard.py", lambda code: code.replace("exchange = CURRENT.get()", "exchange = 1 // 0", 1))
        for path in PATHS:
            answer = own.ask("bulk", path=path)
            assert answer.status == 500, answer.text
            assert "Traceback" not in answer.text
            assert ("error" in answer.json) and answer.headers["content-type"].startswith("application/json")
    assert rig.cloud_calls() == []


def test_a_failing_account_of_the_cost_charges_what_was_reserved(rig: Rig, tmp_path: Path) -> None:
    with own_gateway(rig, tmp_path, {}) as own:
        start_edited(own, "mesh_guard.py", lambda code: code.replace("exchange.answered(payload)", "exchange.nothing(payload)"))
        assert own.ask("write").status == 200
        (row,) = settled(own, 0, 1, within=30)
        assert row["status"] == 200 and row["cost"] >= 400


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("letters", [1_000_000, 10_000_000])
def test_a_large_prompt_is_answered(rig: Rig, path: str, letters: int) -> None:
    text = "word " * (letters // 5)
    more = {"input": text} if path.endswith("responses") else {"messages": [{"role": "user", "content": text}]}
    answer = rig.ask("private", path=path, **more)
    assert answer.status < 500 and answer.status in (200, 400, 413), answer.text[:500]
    assert rig.cloud_calls() == []


def test_a_body_beyond_the_limit_is_a_413(rig: Rig) -> None:
    body = b'{"model": "bulk", "messages": [{"role": "user", "content": "' + b"x" * (33 * 1024**2) + b'"}]}'
    try:
        answer = call(
            rig.gateway, "POST", "/v1/chat/completions", body, {"authorization": f"Bearer {secret_of('client_ocr_key')}"}
        )
    except (ConnectionError, BrokenPipeError):
        answer = None  # closed while the rest was still on its way
    assert answer is None or (answer.status == 413 and "mesh rule request-body" in answer.text)
    assert rig.cloud_calls() == []
    assert rig.ask("bulk").status == 200


@pytest.mark.parametrize(
    "body",
    [b"{", b"", b"[1]", b"null", b'"text"', b"\xff\xfe", b'{"model": NaN}', b"{" * 100_000, b'{"model": "bulk", "messages": 5}'],
)
@pytest.mark.parametrize("path", PATHS)
def test_a_malformed_body_is_a_400_that_says_so(rig: Rig, path: str, body: bytes) -> None:
    answer = rig.send("POST", path, body, secret_of("client_laptop_key"))
    assert answer.status == 400 and "mesh rule request-body" in answer.text, answer.text
    assert (answer.json.get("type") == "error") == path.endswith("messages")
    assert rig.cloud_calls() == []


@pytest.mark.parametrize("key", [b"one\ntwo", b"one\r\nx-evil: 1", b"\x00", b"\xff" * 20, b"x" * 60_000])
def test_a_strange_key_is_refused_and_the_gateway_lives_on(rig: Rig, key: bytes) -> None:
    with socket.create_connection(("127.0.0.1", rig.ports["litellm"]), timeout=20) as raw:
        raw.sendall(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer " + key + b"\r\nconnection: close\r\n\r\n")
        answer = raw.recv(65536)
    assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 401", b"HTTP/1.1 431"), answer
    assert rig.ask("private").status == 200


def test_a_stored_key_with_a_line_break_stops_the_start(rig: Rig, tmp_path: Path) -> None:
    with own_gateway(rig, tmp_path, {}) as own:
        own.value_of = lambda name: "one\ntwo" if name == "client_ocr_key" else secret_of(name)
        with pytest.raises(AssertionError, match="MESH_KEY_CLIENT_OCR_KEY holds a line break"):
            own.start_gateway()


def test_five_hundred_wrong_keys_cost_no_memory_and_open_nothing(rig: Rig) -> None:
    def resident() -> int:
        status = Path(f"/proc/{rig.processes['litellm'].pid}/status").read_text(encoding="utf-8")
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))

    def wrong(start: int) -> None:
        for turn in range(start, start + 250):
            answer = rig.send("POST", "/v1/chat/completions", {"model": "bulk", "messages": []}, f"sk-wrong-{turn}")
            assert answer.status == 401 and "mesh rule client-key" in answer.text

    before, count = resident(), len(rows(rig))
    wrong(0)
    wrong(250)
    assert resident() - before < 4096, "KiB"
    assert len(rows(rig)) == count
    assert rig.cloud_calls() == []
    assert rig.ask("bulk").status == 200
