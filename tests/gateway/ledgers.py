"""Pieces for tests of the gateway's ledger and limits: a gateway of its own with other clients, and what its ledger holds."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mesh.spec.types import Money

from .rig import Rig, deployment_of, free_port


@contextlib.contextmanager
def own_gateway(rig: Rig, folder: Path, limits: dict[str, dict[str, Any]], **more: Any) -> Iterator[Rig]:
    """A second gateway beside the rig's doubles. limits: by client, `budget` in US dollars a month, `rpm`. Not started yet."""
    clients = {
        name: client.model_copy(
            update={"budget": Money(each["budget"], "USD") if "budget" in each else None, "rpm": each.get("rpm")}
        )
        for name, client in rig.mesh.clients.items()
        for each in (limits.get(name, {}),)
    }
    mesh = rig.mesh.model_copy(update={"clients": clients})
    folder.mkdir(parents=True, exist_ok=True)
    own = Rig(folder, {**rig.ports, "litellm": free_port()}, mesh, deployment_of(mesh), rig.litellm, **more)
    try:
        yield own
    finally:
        for name in list(own.processes):
            own.stop(name)


def ledger_of(rig: Rig) -> Path:
    return rig.ledger or rig.folder / "litellm" / "ledger.db"


def query(rig: Rig, sql: str, *values: Any) -> list[dict[str, Any]]:
    with contextlib.closing(sqlite3.connect(f"file:{ledger_of(rig)}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql, values)]


def rows(rig: Rig, after: int = 0) -> list[dict[str, Any]]:
    return query(rig, "SELECT * FROM requests WHERE id > ? ORDER BY id", after)


def last(rig: Rig) -> int:
    """Number of the newest row, 0 for none."""
    return max((row["id"] for row in rows(rig)), default=0)


def settled(rig: Rig, after: int, count: int, within: float = 20.0) -> list[dict[str, Any]]:
    """The rows after `after` once there are `count` and none is open."""
    found: list[dict[str, Any]] = []

    def done() -> bool:
        found[:] = rows(rig, after)
        return len(found) >= count and all(row["status"] is not None for row in found)

    assert wait(done, within), found
    return found


def wait(condition: Callable[[], bool], within: float = 20.0) -> bool:
    """Whether the condition came true within so many seconds."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def spent(rig: Rig, client: str) -> dict[str, int]:
    """Micro-dollars of the client: `cost` of what is answered, `held` for what runs."""
    return query(rig, "SELECT sum(cost) AS cost, sum(held) AS held FROM spent WHERE client = ?", client)[0]
