"""Blocking work side by side. Daemon threads: an interrupted command never waits for a host that hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")


def side_by_side(jobs: Mapping[K, Callable[[], T]]) -> dict[K, T]:
    """Every job's result, by key. The first exception of a job is raised once all have ended."""
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
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return {key: results[key] for key in jobs}
