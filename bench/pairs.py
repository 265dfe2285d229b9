"""Time whole commands in turn (A B A B ...) and print the ratio: a claim holds when the machine's speed drifts."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

Task = Callable[[], None]

# Python keeps its bytecode for an operator; where it is told not to, each run would compile the tool anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def command(argv: Sequence[str], *, ok: tuple[int, ...] = (0,)) -> Task:
    """A task that runs `argv` and insists on one of the exit codes in `ok`: a failing command must not look fast."""

    def run() -> None:
        done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False)
        if done.returncode not in ok:
            sys.exit(f"{' '.join(argv)}: exit {done.returncode}\n{done.stderr.decode(errors='replace')}")

    return run


def seconds(task: Task) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def compare(tasks: dict[str, Task], *, floor: str, runs: int) -> dict[str, float]:
    """Run every task `runs` times in turn after one warm-up; print a Markdown table; return the medians' ratios to `floor`."""
    for task in tasks.values():
        task()
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(runs):
        for name, task in tasks.items():
            times[name].append(seconds(task))
    base = statistics.median(times[floor])
    print(
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {runs} runs in turn after one warm-up\n"
    )
    print("| what | median s | min s | max s | ratio to the floor |")
    print("|---|---|---|---|---|")
    ratios = {}
    for name, values in times.items():
        ratios[name] = statistics.median(values) / base
        print(f"| {name} | {statistics.median(values):.3f} | {min(values):.3f} | {max(values):.3f} | {ratios[name]:.2f} |")
    return ratios
