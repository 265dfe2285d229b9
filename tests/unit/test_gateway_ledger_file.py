"""The ledger's file by itself: its size, its age, and what happens when it is broken or cannot be written."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mesh.paths import STACKS

CODE = STACKS / "litellm" / "gateway"
BYTES = 140
"""A request in the ledger, at most; docs/gateway.md says so."""
KEEP = 400 * 86400
"""Seconds."""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """mesh_ledger, imported as the gateway does: beside a policy.json."""
    folder = tmp_path_factory.mktemp("code")
    for name in ("mesh_ledger", "mesh_store", "mesh_policy"):
        shutil.copy(CODE / f"{name}.py", folder)
    (folder / "policy.json").write_text(json.dumps({"clients": {}, "routes": []}))
    sys.path.insert(0, str(folder))
    import mesh_ledger  # type: ignore[import-not-found]

    yield mesh_ledger
    sys.path.remove(str(folder))
    for name in ("mesh_ledger", "mesh_store", "mesh_policy"):
        sys.modules.pop(name, None)


def fill(ledger: Any, modules: Any, count: int, cost: int = 100, client: str = "claude-code") -> None:
    for _ in range(count):
        entry = ledger._admit(client, "write", 250, modules.Limits())
        entry.model, entry.tokens_in, entry.tokens_out, entry.cache_read, entry.cache_write = "claude", 24000, 900, 22000, 1800
        entry.cost, entry.latency, entry.fallbacks, entry.status = cost, 4321, 0, 200
        ledger.settle(entry)
    ledger.write()


def rows(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        return int(connection.execute("SELECT count(*) FROM requests").fetchone()[0])


def spent(path: Path) -> tuple[int, int]:
    with sqlite3.connect(path) as connection:
        found: tuple[int, int] = connection.execute("SELECT sum(cost), sum(held) FROM spent").fetchone()
        return found


def test_a_request_takes_at_most_the_stated_number_of_bytes(modules: Any, tmp_path: Path) -> None:
    ledger = modules.Ledger(tmp_path / "ledger.db", KEEP)
    for _ in range(20):
        fill(ledger, modules, 500)
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    measured = ledger.path.stat().st_size / 10_000
    print(f"{measured:.0f} bytes a request")
    assert 40 < measured <= BYTES


@pytest.mark.parametrize(("keep", "left"), [(KEEP, 100), (402 * 86400, 2500), (None, 2500)])
def test_rows_older_than_the_spec_keeps_are_pruned_and_their_money_stays(
    modules: Any, tmp_path: Path, keep: int | None, left: int
) -> None:
    ledger = modules.Ledger(tmp_path / "ledger.db", keep)
    fill(ledger, modules, 2500)
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("UPDATE requests SET time = time - 401 * 86400000 WHERE id <= 2400")
    ledger._tidy_at = 0.0
    ledger.write()
    assert rows(ledger.path) == left
    assert spent(ledger.path) == (250_000, 0)


@pytest.mark.parametrize("damage", ["header", "middle", "all"])
def test_a_corrupt_ledger_is_moved_aside_and_what_can_be_read_counts_on(modules: Any, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "ledger.db"
    ledger = modules.Ledger(path, KEEP)
    fill(ledger, modules, 2000)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = path.stat().st_size
    with path.open("r+b") as file:
        start, length = {"header": (0, 100), "middle": (size // 2 // 4096 * 4096, 8192), "all": (0, size)}[damage]
        file.seek(start)
        file.write(os.urandom(length))
    again = modules.Ledger(path, KEEP)
    health = again.health()
    assert health["ledger"] == "ok" and str(health["corrupt_file"]).startswith("ledger.db.corrupt-20")
    assert (tmp_path / str(health["corrupt_file"])).stat().st_size == size
    if damage == "middle":
        assert 500 < health["rows_saved"] < 2000
        assert spent(path)[0] == 200_000  # the sums were whole
    fill(again, modules, 1)
    assert rows(path) == health["rows_saved"] + 1


def test_the_other_gateway_follows_when_a_corrupt_ledger_is_replaced(modules: Any, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    first = modules.Ledger(path, KEEP)
    fill(first, modules, 10)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.write_bytes(b"no database" * 1000)
    second = modules.Ledger(path, KEEP)
    first._opened_at = 0.0
    first.write()
    fill(first, modules, 5)
    fill(second, modules, 5)
    assert rows(path) == 10


def test_a_request_waits_aside_while_the_other_gateway_writes_and_the_gateway_goes_on(modules: Any, tmp_path: Path) -> None:
    ledger = modules.Ledger(tmp_path / "ledger.db", KEEP)
    other = sqlite3.connect(ledger.path, isolation_level=None)

    async def admitted() -> int:
        waiting = asyncio.create_task(ledger.admit("ocr", "bulk", 250, modules.Limits()))
        await asyncio.sleep(0.05)
        assert not waiting.done(), "the loop runs, and the request is not let by unrecorded"
        other.execute("COMMIT")
        return int((await waiting).number)

    other.execute("BEGIN IMMEDIATE")
    assert asyncio.run(admitted()) == 1
    assert (ledger.trouble, spent(ledger.path)) == (None, (0, 250))


def test_requests_in_memory_count_for_the_budget_and_are_written_later(modules: Any, tmp_path: Path) -> None:
    ledger = modules.Ledger(tmp_path / "gone" / "ledger.db", KEEP)
    assert ledger.health()["ledger"] == "in memory"
    limits = modules.Limits(budget=1000)
    for _ in range(10):
        entry = ledger._admit("ocr", "bulk", 250, limits)
        entry.cost, entry.status = 100, 200
        ledger.settle(entry)
    with pytest.raises(modules.RefusedError, match=r"has spent \$0.0010; it renews on") as refused:
        ledger._admit("ocr", "bulk", 250, limits)
    assert refused.value.status == 402
    (tmp_path / "gone").mkdir()
    ledger._opened_at = 0.0
    ledger.write()
    assert rows(ledger.path) == 10
    assert spent(ledger.path) == (1000, 0)


def test_a_limit_in_memory_counts_requests_per_minute(modules: Any, tmp_path: Path) -> None:
    ledger = modules.Ledger(tmp_path / "gone" / "ledger.db", KEEP)
    for _ in range(3):
        ledger._admit("ocr", "bulk", 0, modules.Limits(rpm=3))
    with pytest.raises(modules.RefusedError) as refused:
        ledger._admit("ocr", "bulk", 0, modules.Limits(rpm=3))
    assert refused.value.status == 429


def test_what_a_dead_gateway_reserved_is_spent_after_an_hour(modules: Any, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = modules.Ledger(path, KEEP)
    ledger._admit("ocr", "bulk", 250, modules.Limits())
    assert spent(path) == (0, 250)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE requests SET time = time - 3601000")
    modules.Ledger(path, KEEP)
    assert spent(path) == (250, 0)


FULL = """
    import resource, signal, sys, pathlib
    sys.path.insert(0, sys.argv[1])
    import mesh_ledger
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = pathlib.Path(sys.argv[2])
    ledger = mesh_ledger.Ledger(path, 400 * 86400)
    limits = mesh_ledger.Limits(budget=40_000)
    def ask():
        entry = ledger._admit("ocr", "bulk", 100, limits)
        entry.cost, entry.status = 100, 200
        ledger.settle(entry)
    for _ in range(100):
        ask()
    ledger.write()
    kept = path.stat().st_size
    wal = path.with_name(path.name + "-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal + 8192, resource.RLIM_INFINITY))
    for _ in range(200):
        ask()
    ledger.write()
    assert ledger.health()["ledger"] == "in memory", ledger.health()
    refused = 0
    for _ in range(200):
        try:
            ask()
        except mesh_ledger.RefusedError as error:
            assert error.status in (402, 429), error
            refused += 1
    assert refused >= 90, refused  # the budget is for 400 of the 500
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    ledger._opened_at = 0.0
    ledger.write()
    assert ledger.health()["ledger"] == "ok", ledger.health()
    print(refused)
"""


def test_a_full_disk_refuses_nobody_loses_nothing_and_the_budget_holds(modules: Any, tmp_path: Path) -> None:  # noqa: ARG001
    path = tmp_path / "ledger.db"
    code = [sys.executable, "-c", textwrap.dedent(FULL), str(Path(sys.modules["mesh_ledger"].__file__ or "").parent), str(path)]
    done = subprocess.run(code, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    answered = 500 - int(done.stdout)
    assert rows(path) == answered
    assert spent(path)[0] == answered * 100
