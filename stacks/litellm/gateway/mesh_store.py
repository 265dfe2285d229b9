"""The ledger's file: an SQLite database that both gateway processes write, opened, checked and, when broken, saved from.

One row a request, never its text. Money is in micro-dollars (millionths of a US dollar), times are in milliseconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

log = logging.getLogger("mesh.ledger")

SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,        -- of arrival, milliseconds since 1970 (UTC)
    client TEXT NOT NULL,
    route TEXT NOT NULL,
    model TEXT,                   -- that answered, by the spec's name; NULL where none did
    tokens_in INTEGER,            -- all of the prompt, cached or not
    tokens_out INTEGER,
    cache_read INTEGER,
    cache_write INTEGER,
    cost INTEGER NOT NULL,        -- micro-dollars; what is reserved while status is NULL
    latency INTEGER,              -- milliseconds until the last byte
    fallbacks INTEGER,            -- models tried before the one that answered
    status INTEGER                -- HTTP; 499: the client left; 0: the gateway died; NULL: not answered yet
);
CREATE INDEX IF NOT EXISTS of_client ON requests (client, time);
CREATE TABLE IF NOT EXISTS spent (
    client TEXT NOT NULL,
    month TEXT NOT NULL,          -- such as 2026-11 (UTC)
    cost INTEGER NOT NULL,        -- micro-dollars of answered requests
    held INTEGER NOT NULL,        -- micro-dollars reserved by requests that run
    PRIMARY KEY (client, month)
) WITHOUT ROWID;
"""
COLUMNS = "time, client, route, model, tokens_in, tokens_out, cache_read, cache_write, cost, latency, fallbacks, status"
INSERT = f"INSERT INTO requests ({COLUMNS}) VALUES ({', '.join('?' * 12)})"
SPEND = """INSERT INTO spent (client, month, cost, held) VALUES (?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET cost = cost + excluded.cost, held = max(held + excluded.held, 0)"""
ABANDONED = 3600
"""Seconds after which an unanswered request is taken for one of a gateway that died."""
Row = tuple[int | str | None, ...]


def month_of(milliseconds: int) -> str:
    """The calendar month, UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m")


@dataclass
class Opened:
    """moved: where a broken file went, if it did. saved: rows taken over from it."""

    moved: Path | None = None
    saved: int = 0


def connect(path: Path, *, durable: bool, patience: float = 2) -> sqlite3.Connection:
    """durable: each commit waits for the disk, and with it all commits before it, also those of other connections.

    patience: seconds to wait while another connection writes. Only durable ones tidy the log of writes up, which takes a while.
    """
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    connection.execute("PRAGMA journal_size_limit = 4194304")
    if not durable:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    try:
        connection.execute("COMMIT")
    except sqlite3.Error:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def prepare(path: Path) -> Opened:
    """A sound file at `path`. A broken one is moved aside, and what can be read of it is taken over.

    Raises OSError or sqlite3.Error where nothing can be written. Processes that start together take turns.
    """
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        opened = Opened()
        if path.exists() and not _sound(path):
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
            opened.moved = path.with_name(f"{path.name}.corrupt-{stamp}")
            for suffix in ("-wal", "-shm", ""):  # the journal goes along: it may hold the last good pages
                with contextlib.suppress(FileNotFoundError):
                    path.with_name(path.name + suffix).rename(f"{opened.moved}{suffix}")
        connection = connect(path, durable=True)
        try:
            connection.executescript(SCHEMA)
            if opened.moved:
                opened.saved = _take_over(opened.moved, connection)
                log.error("mesh ledger: %s was corrupt and is now %s; %d rows saved", path.name, opened.moved.name, opened.saved)
            close_abandoned(connection)
            connection.execute("PRAGMA user_version = 1")  # writes even when nothing changes: shows that it can
        finally:
            connection.close()
        return opened


def _sound(path: Path) -> bool:
    try:
        with contextlib.closing(connect(path, durable=False)) as connection:
            return [row[0] for row in connection.execute("PRAGMA quick_check(1)")] == ["ok"]
    except sqlite3.OperationalError:
        raise  # locked or out of space: nothing is known of the file, so it stays where it is
    except sqlite3.DatabaseError:
        return False


def _take_over(broken: Path, connection: sqlite3.Connection) -> int:
    """Copy the rows that can be read, from both ends up to the broken page, and count the money anew."""
    rows: dict[int, Row] = {}
    sums: list[Row] = []
    with contextlib.suppress(sqlite3.Error), contextlib.closing(connect(broken, durable=False)) as source:
        for order in ("ASC", "DESC"):
            with contextlib.suppress(sqlite3.Error):
                for row in source.execute(f"SELECT id, {COLUMNS} FROM requests NOT INDEXED ORDER BY id {order}"):
                    rows[row[0]] = row[1:]
        with contextlib.suppress(sqlite3.Error):
            sums = list(source.execute("SELECT client, month, cost, held FROM spent"))
    if not rows and not sums:
        return 0
    with transaction(connection):
        connection.executemany(INSERT, [rows[each] for each in sorted(rows)])
        connection.execute(
            """INSERT INTO spent SELECT client, strftime('%Y-%m', time / 1000, 'unixepoch') AS month,
                sum(iif(status IS NULL, 0, cost)), sum(iif(status IS NULL, cost, 0)) FROM requests GROUP BY 1, 2"""
        )
        connection.executemany(  # whichever is more: rows may be lost, and sums too
            "INSERT INTO spent VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET cost = max(cost, excluded.cost)", sums
        )
    return len(rows)


def close_abandoned(connection: sqlite3.Connection) -> None:
    """Requests of a gateway that died cost what was reserved for them: the provider may have answered."""
    before = int((time.time() - ABANDONED) * 1000)
    with transaction(connection):
        found = list(
            connection.execute("SELECT id, time, client, cost FROM requests WHERE status IS NULL AND time < ?", (before,))
        )
        for number, at, client, cost in found:
            connection.execute("UPDATE requests SET status = 0 WHERE id = ?", (number,))
            connection.execute(SPEND, (client, month_of(at), cost, -cost))


def read_spent(path: Path) -> list[tuple[str, str, int, int]]:
    """Client, month, cost, held: what a file says that cannot be written. Empty where it cannot be read either."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return list(connection.execute("SELECT client, month, cost, held FROM spent"))
    return []


def prune(connection: sqlite3.Connection, keep: int) -> int:
    """Delete rows older than `keep` seconds, a thousand at a time so that nobody waits long; how many were."""
    before, gone = int((time.time() - keep) * 1000), 0
    while True:
        oldest = "SELECT id FROM (SELECT id, time FROM requests ORDER BY id LIMIT 1000) WHERE time < ?"
        with transaction(connection):
            count = connection.execute(f"DELETE FROM requests WHERE id IN ({oldest})", (before,)).rowcount
        gone += count
        if count < 1000:
            return gone
