"""inventory/measurements.csv: one line a measurement, what was measured and on what. The predictions are calibrated with it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from mesh.errors import Location, MeshError
from mesh.files import exclusive, write_atomically

FILE = "measurements.csv"
SLOWER = 0.8
"""A speed below this share of the best recorded one is worth a word."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One model measured once, as the median of its runs.

    taken: UTC, ISO 8601. engine, version: ollama, 0.32.15. card: as nvidia-smi says; `cpu` without one, empty where it could
    not be asked; several are joined by ` + `. num_ctx: context it was loaded with. tokens: in context when half was written.
    tok_s: written, prompt_tok_s: read, tokens a second. load_s: seconds to load it, 0 where it was loaded. size, size_vram: bytes
    as /api/ps says. double: a test double answered, so nothing was measured at all.
    """

    taken: str
    host: str
    stack: str
    engine: str
    version: str
    card: str
    model: str
    num_ctx: int
    tokens: int
    tok_s: float
    prompt_tok_s: float
    load_s: float
    size: int
    size_vram: int
    runs: int
    double: bool

    @property
    def spilled(self) -> bool:
        return self.size_vram < self.size and self.card != "cpu"


_COLUMNS = tuple(field.name for field in fields(Measurement))


def read_measurements(inventory: Path) -> tuple[Measurement, ...]:
    """Every measurement of the inventory, oldest first; none where there is no file. Raises MeshError for a damaged line."""
    path = inventory / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise MeshError("the measurements cannot be read", where=str(path), why=str(error)) from None
    reader = csv.DictReader(io.StringIO(text))
    found = []
    for row in reader:
        try:
            found.append(_of_row(row))
        except (KeyError, TypeError, ValueError) as error:
            raise MeshError(
                "the line is no measurement",
                where=Location(str(path), reader.line_num),
                why=str(error),
                mend="remove the line, or the file: `mesh bench` writes it anew",
            ) from None
    return tuple(found)


def _of_row(row: dict[str, str]) -> Measurement:
    return Measurement(
        taken=row["taken"],
        host=row["host"],
        stack=row["stack"],
        engine=row["engine"],
        version=row["version"],
        card=row["card"],
        model=row["model"],
        num_ctx=int(row["num_ctx"]),
        tokens=int(row["tokens"]),
        tok_s=_positive(row["tok_s"]),
        prompt_tok_s=float(row["prompt_tok_s"]),
        load_s=float(row["load_s"]),
        size=int(row["size"]),
        size_vram=int(row["size_vram"]),
        runs=int(row["runs"]),
        double={"yes": True, "no": False}[row["double"]],
    )


def _positive(text: str) -> float:
    if not 0 < float(text) < 1e6:
        raise ValueError(f"{text} is no speed in tokens a second")
    return float(text)


def add_measurements(inventory: Path, new: Iterable[Measurement]) -> Path:
    """Write them under those that are there; returns the file."""
    with exclusive(inventory, lambda: None):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for each in (*read_measurements(inventory), *new):
            writer.writerow({True: "yes", False: "no"}[cell] if isinstance(cell, bool) else _cell(cell) for cell in astuple(each))
        write_atomically(inventory / FILE, text.getvalue().encode())
    return inventory / FILE


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def slowed(measurements: Iterable[Measurement]) -> Iterator[tuple[Measurement, Measurement]]:
    """(latest, best) of every model whose latest speed is 20 % or more under its best on the same host, card and context.

    Doubles are left out. Runs that spilled are compared with all: a model that began to spill is what this is for.
    """
    by_key: dict[tuple[str, str, str, str, int], list[Measurement]] = {}
    for each in measurements:
        if not each.double:
            by_key.setdefault((each.host, each.stack, each.card, each.model, each.num_ctx), []).append(each)
    for found in by_key.values():
        best, latest = max(found, key=lambda each: each.tok_s), max(found, key=lambda each: each.taken)
        if latest.tok_s <= SLOWER * best.tok_s:
            yield latest, best
