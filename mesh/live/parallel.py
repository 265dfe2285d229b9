"""Blocking work side by side. Daemon threads: an interrupted command never waits for a host that hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")


def side_by_side(jobs: Mapping[K, Callable[[], T]], seconds: float | None = None) -> dict[K, T]:
    """Every job's result, by key. The first exception of a job is raised once all have ended.

    seconds: how long to wait for all of them together. What has not ended by then is left to itself and missing from the answer.
    """
    results: dict[K, T] = {}
    errors: list[BaseException] = []

    def work(key: K, job: Callable[[], T]) -> None:
        try:
            results[key] = job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=item, daemon=True) for item in jobs.items()]
    for thread in threads:
        thread.start()
    end = None if seconds is None else time.monotonic() + seconds
    for thread in threads:
        thread.join(None if end is None else max(end - time.monotonic(), 0))
    if errors:
        raise errors[0]
    done = dict(results)
    return {key: done[key] for key in jobs if key in done}
