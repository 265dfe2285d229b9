"""What apply says while it works: a line for everything that ends, and what is under way.

On a terminal what is under way stands below the lines and moves; elsewhere it is a line of its own after some silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mesh.cli.look import safe
from mesh.cli.output import lively, style
from mesh.live.apply import Event

SILENCE_SECONDS = 5.0
_DONE = {"pull": "image pulled", "up": "up", "back": "rolled back", "down": "down", "model": "model pulled"}
_DOING = {"pull": "pulling image", "up": "coming up", "back": "going back", "down": "going down", "model": "pulling model"}
_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


@dataclass
class Progress:
    """Turns events into lines. `failures` holds what went wrong: where and why.

    silence: seconds after which it says what is under way.
    """

    write: Callable[[str], None]
    now: Callable[[], float] = time.monotonic
    silence: float = SILENCE_SECONDS
    failures: list[tuple[str, str]] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    _running: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)
    _share: dict[tuple[str, str], str] = field(default_factory=dict)
    _spoke: float = 0.0

    def __post_init__(self) -> None:
        self._spoke = self.now()

    def hear(self, event: Event) -> None:
        """One event, in the order in which they happen."""
        key = (event.host, event.subject)
        if event.kind == "started":
            self._running[key] = (str(event.data["doing"]), self.now())
        elif event.kind == "progress":
            self._share[key] = _share(event.data["done"], event.data["total"])
        elif event.kind in {"done", "stopped"}:
            self._running.pop(key, None)
            if event.kind == "done":
                took = f"{event.data['seconds']:.1f} s"
                self._line(event.host, event.subject, style(_DONE[event.data["doing"]], "green"), took)
        elif event.kind == "locked":
            self._line(event.host, "", "", str(event.data["why"]))
        elif event.kind == "released":
            self._line(event.host, "", "stopped; its lock is released", "")
        elif event.kind == "failed":
            self._failed(event)
        if self.now() - self._spoke >= self.silence:
            for line in self.under_way() or ["  ... still working"]:
                self.write(line)
            self._spoke = self.now()

    def _failed(self, event: Event) -> None:
        self._running.pop((event.host, event.subject), None)
        where = f"{event.host}/{event.subject}" if event.subject else event.host
        self.failures.append((where, safe(str(event.data["why"]))))
        self._line(event.host, event.subject, style("failed", "red", "bold"), str(event.data["why"]))
        for line in event.data.get("lines", ()):
            self.write(f"      | {safe(str(line))}")

    def under_way(self) -> list[str]:
        """What is being done now, a line a host."""
        by_host: dict[str, list[str]] = {}
        for (host, subject), (doing, since) in self._running.items():
            share = self._share.get((host, subject), "")
            by_host.setdefault(host, []).append(f"{_short(subject)} {_DOING[doing]} {self.now() - since:.0f} s{share}")
        return [safe(f"  ... {host}: {', '.join(work)}") for host, work in by_host.items()]

    def _line(self, host: str, subject: str, word: str, more: str) -> None:
        self.write(f"  {host:<12} {_short(subject):<28} {word}  {safe(more)}".rstrip())
        self._spoke = self.now()


def _short(subject: str) -> str:
    """An image without its digest."""
    return safe(subject.partition("@sha256:")[0])


def _share(done: int, total: int) -> str:
    """`, 37 % of 4.9 GB`. Both in bytes."""
    unit, name = next(((size, name) for size, name in _UNITS if total >= size), (1, "B"))
    return f", {100 * done // max(total, 1)} % of {total / unit:.1f} {name}"


@contextmanager
def follow() -> Iterator[Progress]:
    """The progress of one run on stdout: a live view on a terminal that can show one, plain lines elsewhere."""
    if not lively():
        yield Progress(lambda line: print(line, flush=True))
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False)
    started = time.monotonic()
    with Live(console=console, auto_refresh=False, transient=True) as live:

        class Shown(Progress):
            def hear(self, event: Event) -> None:
                super().hear(event)
                clock = style(f"  {time.monotonic() - started:.0f} s", "dim")
                live.update(Text.from_ansi("\n".join([*self.under_way(), clock])), refresh=True)

        yield Shown(lambda line: console.print(Text.from_ansi(line), soft_wrap=True), silence=float("inf"))
