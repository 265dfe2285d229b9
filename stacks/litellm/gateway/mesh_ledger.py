"""The ledger: who asked for what, who answered, what it cost; and with it budgets and requests per minute.

Before a request goes on it gets a row, with what it may cost reserved; both gateway processes see each other's rows, so a
limit holds over both and over restarts. When it is answered, its row is completed by a task that writes twice a second and
waits for the disk: a crash of the machine loses at most the last second.

Where the file cannot be written (disk full, volume gone), requests are answered all the same: they are counted in memory
on top of what was last read, and written when the disk is back.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mesh_store as store
from mesh_policy import Limits, RefusedError

log = logging.getLogger("mesh.ledger")
PERIOD = 0.5
"""Seconds between two writes."""
MOST_WAITING = 50_000
"""Rows kept in memory while the file cannot be written: about 20 MB. Older ones are given up; their money is still counted."""
HOUR = 3600.0


@dataclass
class Entry:
    """A request. time: milliseconds since 1970. reserved, cost: micro-dollars. number: its row, None while it has none."""

    client: str
    route: str
    reserved: int
    time: int
    number: int | None = None
    model: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cost: int | None = None
    latency: int | None = None
    fallbacks: int = 0
    status: int | None = None

    def row(self) -> store.Row:
        tokens = (self.tokens_in, self.tokens_out, self.cache_read, self.cache_write)
        return (self.time, self.client, self.route, self.model, *tokens, self.cost, self.latency, self.fallbacks, self.status)


@dataclass
class Tally:
    """What this process knows of a client without the file. cost, held: micro-dollars of the month; times: milliseconds."""

    month: str = ""
    cost: int = 0
    held: int = 0
    times: deque[int] = field(default_factory=lambda: deque(maxlen=10_000))


class Ledger:
    """One a process. path: the file; keep: seconds that rows are kept, None: for ever."""

    def __init__(self, path: Path, keep: int | None) -> None:
        self.path, self.keep = path, keep
        self.trouble: str | None = "not opened yet"
        self.opened = store.Opened()
        self.given_up = 0
        self._waiting: deque[Entry] = deque()
        self._tallies: dict[str, Tally] = {}
        self._quick: sqlite3.Connection | None = None
        self._asker: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._asking = ThreadPoolExecutor(1, "mesh-ledger-ask")
        self._writing = ThreadPoolExecutor(1, "mesh-ledger-write")
        self._lock = threading.Lock()
        self._opened_at = self._tidy_at = 0.0
        self._inode = 0
        self._task: asyncio.Task[None] | None = None
        self._open()
        atexit.register(self.write)

    async def admit(self, client: str, route: str, reserve: int, limits: Limits) -> Entry:
        """A row for a request. Raises RefusedError (402, 429) when a limit of the client's is reached."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep_writing())
        try:  # it takes a tenth of a millisecond, less than handing it to a thread; that is for when somebody else writes
            return self._admit(client, route, reserve, limits, quick=True)
        except BlockingIOError:
            return await asyncio.get_running_loop().run_in_executor(self._asking, self._admit, client, route, reserve, limits)

    def settle(self, entry: Entry) -> None:
        """The request is over: its row is completed with the next write."""
        with self._lock:
            if entry.number is None:  # counted by this process alone until it is written
                tally = self._tallies.setdefault(entry.client, Tally())
                tally.cost += entry.cost or 0
                tally.held = max(tally.held - entry.reserved, 0)
            self._waiting.append(entry)
            while len(self._waiting) > MOST_WAITING:
                self._waiting.popleft()
                self.given_up += 1

    def health(self) -> dict[str, Any]:
        """State for the operator; no names of clients."""
        size = 0
        with contextlib.suppress(OSError):
            size = self.path.stat().st_size
        return {
            "ledger": "ok" if self.trouble is None else "in memory",
            "trouble": self.trouble,
            "bytes": size,
            "waiting": len(self._waiting),
            "given_up": self.given_up,
            "corrupt_file": self.opened.moved.name if self.opened.moved else None,
            "rows_saved": self.opened.saved,
        }

    def _admit(self, client: str, route: str, reserve: int, limits: Limits, *, quick: bool = False) -> Entry:
        """quick: raise BlockingIOError rather than wait for somebody else's write."""
        entry = Entry(client, route, reserve, int(time.time() * 1000))
        connection = self._quick if quick else self._asker
        if connection is not None and self.trouble is None:
            try:
                with store.transaction(connection):
                    self._check(connection, entry, limits)
                    row = (entry.time, entry.client, entry.route, *(None,) * 5, entry.reserved, None, None, None)
                    entry.number = connection.execute(store.INSERT, row).lastrowid
                    connection.execute(store.SPEND, (entry.client, store.month_of(entry.time), 0, entry.reserved))
                self._remember(entry)
                return entry
            except sqlite3.Error as error:
                entry.number = None
                if quick and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                    raise BlockingIOError from error
                self._failed(error)
        self._check_alone(entry, limits)
        return entry

    def _check(self, connection: sqlite3.Connection, entry: Entry, limits: Limits) -> None:
        """By the file, which both processes write."""
        if limits.rpm:
            asked = "SELECT time FROM requests WHERE client = ? AND time > ? ORDER BY time DESC LIMIT 1 OFFSET ?"
            oldest = connection.execute(asked, (entry.client, entry.time - 60_000, limits.rpm - 1)).fetchone()
            if oldest:
                raise _too_fast(entry, limits.rpm, oldest[0])
        found = connection.execute(
            "SELECT cost, held FROM spent WHERE client = ? AND month = ?", (entry.client, store.month_of(entry.time))
        ).fetchone()
        cost, held = found or (0, 0)
        with self._lock:
            tally = self._tally(entry)
            tally.cost, tally.held = cost, held
        _check_budget(entry, limits, cost, held)

    def _check_alone(self, entry: Entry, limits: Limits) -> None:
        """By what this process has seen."""
        with self._lock:
            tally = self._tally(entry)
            recent = [each for each in tally.times if each > entry.time - 60_000]
            if limits.rpm and len(recent) >= limits.rpm:
                raise _too_fast(entry, limits.rpm, recent[-limits.rpm])
            _check_budget(entry, limits, tally.cost, tally.held)
            tally.held += entry.reserved
        self._remember(entry)

    def _remember(self, entry: Entry) -> None:
        with self._lock:
            self._tally(entry).times.append(entry.time)

    def _tally(self, entry: Entry) -> Tally:
        tally, month = self._tallies.setdefault(entry.client, Tally()), store.month_of(entry.time)
        if tally.month != month:
            tally.month, tally.cost, tally.held = month, 0, 0
        return tally

    async def _keep_writing(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(PERIOD)
            await loop.run_in_executor(self._writing, self.write)

    def write(self) -> None:
        """Write what waits; open the file again when it is gone or was in trouble."""
        if self.trouble is not None or not self._is_ours():
            self._open()
        if self._writer is None:
            return
        with self._lock:
            batch = list(self._waiting)
        try:
            if batch:
                with store.transaction(self._writer) as connection:
                    for entry in batch:
                        _complete(connection, entry)
                with self._lock:
                    for _ in batch:
                        self._waiting.popleft()
            if time.monotonic() > self._tidy_at:
                self._tidy_at = time.monotonic() + HOUR
                store.close_abandoned(self._writer)
                if self.keep is not None:
                    store.prune(self._writer, self.keep)
        except sqlite3.Error as error:
            self._failed(error)

    def _is_ours(self) -> bool:
        """Whether the file under the path is the one that is open."""
        with contextlib.suppress(OSError):
            return self.path.stat().st_ino == self._inode
        return False

    def _open(self) -> None:
        if time.monotonic() - self._opened_at < 2 and self._opened_at:
            return  # a full disk is tried every two seconds, not with every write
        self._opened_at = time.monotonic()
        try:
            opened = store.prepare(self.path)
            self.opened = opened if opened.moved else self.opened
            self._quick = store.connect(self.path, durable=False, patience=0)
            self._asker, self._writer = store.connect(self.path, durable=False), store.connect(self.path, durable=True)
            self._inode = self.path.stat().st_ino
            if self.trouble is not None:
                log.warning("mesh ledger: %s is open", self.path)
            self.trouble = None
        except (OSError, sqlite3.Error) as error:
            self._failed(error)
            with self._lock:
                for client, month, cost, held in store.read_spent(self.path):
                    if client not in self._tallies:
                        self._tallies[client] = Tally(month, cost, held)

    def _failed(self, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        if self.trouble != text:
            log.error("mesh ledger: %s cannot be written (%s); requests are counted in memory", self.path, text)
        self.trouble = text


def _complete(connection: sqlite3.Connection, entry: Entry) -> None:
    month = store.month_of(entry.time)
    if entry.number is not None:
        row = entry.row()[3:]
        changed = connection.execute(
            """UPDATE requests SET model = ?, tokens_in = ?, tokens_out = ?, cache_read = ?, cache_write = ?, cost = ?,
                latency = ?, fallbacks = ?, status = ? WHERE id = ? AND time = ? AND client = ? AND status IS NULL""",
            (*row, entry.number, entry.time, entry.client),
        ).rowcount
        if changed:
            connection.execute(store.SPEND, (entry.client, month, entry.cost, -entry.reserved))
            return
    connection.execute(store.INSERT, entry.row())
    connection.execute(store.SPEND, (entry.client, month, entry.cost, 0))


def _check_budget(entry: Entry, limits: Limits, cost: int, held: int) -> None:
    if limits.budget is None or not entry.reserved:  # what costs nothing is not held back
        return
    said = f"client {entry.client} has a budget of {_dollars(limits.budget)} a month and has spent {_dollars(cost)}"
    if cost >= limits.budget:
        at = datetime.fromtimestamp(entry.time / 1000, UTC)
        renewal = datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)
        seconds = int((renewal - at).total_seconds()) + 1
        raise RefusedError(402, "client-budget", f"{said}; it renews on {renewal:%Y-%m-%d} at 00:00 UTC", seconds)
    if cost + held >= limits.budget:
        raise RefusedError(429, "client-budget", f"{said}; {_dollars(held)} more is held for its requests that still run", 5)


def _dollars(micros: int) -> str:
    return f"${micros / 1e6:.2f}" if micros >= 1_000_000 else f"${micros / 1e6:.4f}"


def _too_fast(entry: Entry, rpm: int, oldest: int) -> RefusedError:
    seconds = max((oldest + 60_000 - entry.time + 999) // 1000, 1)
    return RefusedError(
        429, "client-rpm", f"client {entry.client} may ask {rpm} times a minute; the next is in {seconds} s", seconds
    )


def open_ledger(keep: int | None) -> Ledger:
    """The gateway's ledger: $MESH_LEDGER, or the volume of its stack."""
    return Ledger(Path(os.environ.get("MESH_LEDGER") or "/var/lib/mesh/ledger.db"), keep)
