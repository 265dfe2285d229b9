"""The words of `mesh fit`: a card, the bar of what takes its VRAM, a verdict, a speed with its range."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence

from mesh.cli.output import style
from mesh.fit.verdict import Bar, HostFit, ModelFit, PartKind
from mesh.hardware import GIB, gib
from mesh.hardware.footprint import ERROR_BAND, Verdict
from mesh.hardware.speed import Speed

_WIDTH = 64
"""Characters of a bar."""
_LETTERS: dict[PartKind, str] = {"driver": "d", "reserve": "r", "resident": "R", "model": "#", "margin": "-", "free": "."}
_COLOURS: dict[PartKind, str] = {
    "driver": "dim",
    "reserve": "yellow",
    "resident": "cyan",
    "model": "green",
    "margin": "dim",
    "free": "dim",
}
VERDICTS = {Verdict.FITS: "green", Verdict.TIGHT: "yellow", Verdict.SPILLS: "red"}


def dump(data: object) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False)


def promise() -> str:
    return f"sizes are right within {gib(ERROR_BAND)}; of ten speeds nine are within the range that stands with them"


def cards_of(host: HostFit) -> str:
    known = [
        f"{place.card.name} ({place.card.vram_bytes / GIB:.0f} GiB, {place.card.bandwidth_bytes_per_s / 1e9:.0f} GB/s,"
        f" {place.card.tdp_w} W)"
        for place in host.cards
    ]
    return " + ".join(known) or "no card, models run on the processor"


def bar_lines(bar: Bar) -> Iterator[str]:
    """The bar, and under it what its letters are."""
    widths = _widths([part.size for part in bar.parts], bar.total)
    letters = "".join(
        style(_block(part.kind) * width, _COLOURS[part.kind]) for part, width in zip(bar.parts, widths, strict=True)
    )
    yield f"[{letters}] {gib(bar.total)}"
    names = {"margin": "the engine's margin"}
    yield "  ".join(
        f"{style(_block(part.kind), _COLOURS[part.kind])} {names.get(part.kind, part.name)} {part.size / GIB:.1f}"
        for part in bar.parts
    )
    if bar.over:
        yield style(f"{gib(bar.over)} more than the card has", "red")


def _block(kind: PartKind) -> str:
    """A letter in a pipe; a block on a terminal that can show it, where the colour tells the parts apart."""
    if not style("", "dim") or "utf" not in (sys.stdout.encoding or "").lower():
        return _LETTERS[kind]
    return "░" if kind == "free" else "█"


def _widths(sizes: Sequence[int], total: int) -> list[int]:
    """Characters for each part: as many together as the bar has (at most), at least one for what is not nothing."""
    whole = max(total, sum(sizes), 1)
    widths = [max(round(size * _WIDTH / whole), 1) if size else 0 for size in sizes]
    while sum(widths) > _WIDTH:
        widths[widths.index(max(widths))] -= 1
    if widths and sizes[-1]:
        widths[-1] += _WIDTH - sum(widths)
    return widths


def verdict_of(model: ModelFit) -> str:
    if model.verdict is None:
        return "processor" if model.need else "unknown"
    return f"{model.verdict.value}{', allowed' if model.verdict is Verdict.SPILLS and model.allowed else ''}"


def speed_of(speed: Speed | None) -> str:
    if speed is None:
        return "-"
    digits = 1 if speed.tok_s < 10 else 0
    return f"{speed.tok_s:.{digits}f} ({speed.low:.{digits}f} to {speed.high:.{digits}f})"
