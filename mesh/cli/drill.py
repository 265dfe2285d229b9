"""`mesh drill`: the rendered gateway beside doubles, every fault and every leak, compared with what the spec promises."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from mesh.cli.output import harmless, note, style, table
from mesh.drill.places import choose
from mesh.drill.run import Drill, drill
from mesh.errors import EXIT_ERROR, EXIT_OK
from mesh.findings import SpecInvalid
from mesh.inventory import open_inventory
from mesh.validate import validate

if TYPE_CHECKING:
    from mesh.drill.verdict import Verdict

VERSION = 1
"""Of the JSON document."""
EVERY = 5.0
"""Seconds between two lines of progress where there is no terminal."""
SHOWN = 40
"""Red cases that are written out; --json has all."""


def run(folder: Path, *, on: str, litellm: str | None, hang_limit: float, as_json: bool) -> int:
    """Drill, print the table (or JSON). 0 green, 1 red."""
    inventory = open_inventory(folder)
    errors = [each for each in validate(inventory) if each.severity == "error" and each.rule != "secret-missing"]
    if errors:
        raise SpecInvalid(errors)
    deployment = inventory.deployment(preview=True)
    place = choose(inventory, deployment, on=on, litellm=litellm)
    note(f"drilling on {place.name}; nothing of the live gateway is touched")
    progress = _Progress()
    found = drill(inventory.mesh, deployment, place, hang_limit=hang_limit, seed=token_hex(8), progress=progress.hear)
    progress.end()
    if as_json:
        print(json.dumps(as_data(found), indent=2, ensure_ascii=False))
    else:
        print(text(found))
    return EXIT_OK if found.green else EXIT_ERROR


class _Progress:
    """How far it is: one line that changes on a terminal, a line every few seconds elsewhere."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self.said = 0.0

    def hear(self, found: Drill) -> None:
        now = time.monotonic()
        if now - self.said < (0.2 if self.live else EVERY):
            return
        self.said = now
        words = (
            f"{len(found.verdicts)} of {found.total} cases, {len(found.red)} red" if found.start else "the gateway is starting"
        )
        print(f"\r{words}\x1b[K" if self.live else words, end="" if self.live else "\n", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def text(found: Drill) -> str:
    """The table: a row a route and a kind of leak; then every red case, and what was exchanged."""
    groups: dict[str, list[Verdict]] = defaultdict(list)
    for each in found.verdicts:
        groups[each.subject if each.leak is None else f"leaks: {each.leak}"].append(each)
    rows = []
    for name, verdicts in groups.items():
        red = sum(bool(each.wrong) for each in verdicts)
        slowest = max(each.seconds for each in verdicts)
        mark = style("red", "red", "bold") if red else style("green", "green")
        rows.append((name, str(len(verdicts)), str(red), f"{slowest:.1f} s", mark))
    lines = [table(rows, ("WHAT", "CASES", "RED", "SLOWEST", ""))]
    for each in found.red[:SHOWN]:
        lines.append(f"{style('red', 'red', 'bold')}  {harmless(each.id)}: {harmless(each.what)}")
        lines += [f"     {harmless(wrong)}" for wrong in each.wrong]
        lines.append(f"     promised: {each.promised}{f', because {each.why}' if each.why else ''}")
    if len(found.red) > SHOWN:
        lines.append(f"and {len(found.red) - SHOWN} more red cases: --json has them all")
    if found.missing:
        lines.append(f"{style('red', 'red', 'bold')}  {found.missing} cases were not played to their end")
    lines += ["exchanged on the stage, and nothing else:", *(f"  {each}" for each in found.exchanged)]
    if not found.front:
        lines.append("not drilled here: the front proxy (it runs in its own container)")
    word = style("green", "green", "bold") if found.green else style("red", "red", "bold")
    times = f"{found.seconds:.0f} s, of which the gateway took {found.start:.0f} to start"
    lines.append(f"{word}: {len(found.verdicts)} cases, {len(found.red)} red, {times}")
    return "\n".join(lines)


def as_data(found: Drill) -> dict[str, Any]:
    """The drill for programs."""
    return {
        "version": VERSION,
        "green": found.green,
        "where": found.where,
        "front": found.front,
        "seconds": round(found.seconds, 1),
        "start_seconds": found.start,
        "cases": len(found.verdicts),
        "red": len(found.red),
        "missing": found.missing,
        "exchanged": list(found.exchanged),
        "verdicts": [asdict(each) for each in found.verdicts],
    }
