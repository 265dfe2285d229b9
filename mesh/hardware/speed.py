"""How many tokens a second: t = bytes read / (efficiency * bandwidth) + a little for every layer; and measured rows."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from mesh.hardware.cards import Card, cards, slug_of
from mesh.hardware.footprint import KV_BYTES, Split
from mesh.hardware.models import Architecture
from mesh.paths import DATA

EFFICIENCY = 0.868
"""Share of the published bandwidth that decoding reaches."""
EXPERT_EFFICIENCY = 0.702
"""The same of a mixture of experts, whose weights are read in many small pieces."""
LAYER_SECONDS = 61.8e-6
"""Overhead of one layer for one token. All three: fitted (log error, soft-L1, a row weighs 1/sqrt(rows of its card)) on the
148 rows of decode_speed.csv that are wholly on one of 25 cards; bench/speed_accuracy.py shows the error on cards left out."""
RAM_BANDWIDTH = 45e9
"""Bytes/s that decoding reads from the host's memory: 44 to 48 GB/s implied by four spilled models on an RTX 2080 host whose
memory does 102 GB/s, 40 to 47 by the operator's 32B. A host with one spilled row measured uses that."""

BANDS = {"measured": 0.10, "anchored": 0.15, "calibrated": 0.20, "modelled": 0.20}
"""Half width of the range by what a speed rests on: 90 % of rows are within 20 % on a card that was left out of the fit."""
SPILL_BAND, SPILL_MEASURED_BAND, UNSURE_BAND = 0.35, 0.15, 0.50
"""Of a spilled model on a host without, and with, a spilled row; of what the model is not made for (experts in RAM, HBM, no
card)."""
SAME_SPLIT = 0.15
"""Of a model's weights: a spilled row with so much more or less on the card is of another context, or of other tenants."""
_ASSUMED_SHARE = 0.75
"""Of the card's VRAM, what a spilled row that does not say it had there as weights."""

Basis = Literal["measured", "anchored", "calibrated", "modelled"]


@dataclass(frozen=True, slots=True)
class Measured:
    """One measured speed. card: slug. context: tokens in it. gpu_bytes: weights on the card, where the row says.

    read_bytes: weights read for a token when all of them are on the card.
    """

    card: str
    model: str
    layers: int
    file_bytes: int
    read_bytes: int
    tok_s: float
    context: int
    engine: str
    spilled: bool
    moe: bool
    source: str
    gpu_bytes: int | None = None

    def of(self, arch: Architecture) -> bool:
        """Whether it is the same model in the same quantisation: as many layers, and a file of the same size within 1 %."""
        return self.layers == arch.layers and abs(self.file_bytes - arch.blob_bytes) <= 0.01 * arch.blob_bytes


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second with an honest range. basis: what it rests on; note: what the reader should know besides."""

    tok_s: float
    low: float
    high: float
    basis: Basis
    note: str = ""

    def __str__(self) -> str:
        digits = 1 if self.tok_s < 10 else 0
        return f"{self.tok_s:.{digits}f} tok/s ({self.low:.{digits}f} to {self.high:.{digits}f})"


@cache
def measured_rows() -> tuple[Measured, ...]:
    """Every row of mesh/data/decode_speed.csv."""
    with (DATA / "decode_speed.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            Measured(
                card=slug_of(row["gpu"]),
                model=row["model"],
                layers=int(row["layers"]),
                file_bytes=int(row["file_bytes"]),
                read_bytes=int(row["read_bytes_per_token"]),
                tok_s=float(row["tok_s"]),
                context=int(row["ctx"]),
                engine=row["engine"],
                spilled=row["spill"] == "1",
                moe=row["moe"] == "1",
                source=row["source"],
            )
            for row in csv.DictReader(file)
        )


def reference_rows() -> tuple[Measured, ...]:
    """The rows of the reference homelab itself: Ollama on its own card."""
    return tuple(row for row in measured_rows() if row.source.startswith("the operator's own"))


@dataclass(frozen=True)
class Calibration:
    """Rows measured on the mesh itself: they win over the model, and correct it where they are near.

    The same model on the same card: its ratio of measured to modelled time. The same model on another card: that ratio,
    carried over (six pairs of cards: 3 to 7 % off in the middle). Another model: the median ratio of all rows.
    """

    rows: tuple[Measured, ...] = ()

    def ratio(self, arch: Architecture, card: str | None) -> tuple[float, Basis, str]:
        """(measured / modelled time, what that rests on, a note) for a model that is wholly on `card`."""
        whole = [row for row in self.rows if not row.spilled and row.card in cards()]
        same = [row for row in whole if row.of(arch)]
        here = [row for row in same if row.card == card]
        if here:
            return median(map(_ratio, here)), "measured", f"measured on {cards()[here[0].card].name} with {here[0].engine}"
        if same:
            return median(map(_ratio, same)), "anchored", f"measured on {cards()[same[0].card].name}, carried over"
        if whole:
            return median(map(_ratio, whole)), "calibrated", ""
        return 1.0, "modelled", ""

    @property
    def ram_bandwidth(self) -> float | None:
        """Bytes/s of the host's memory that the spilled dense rows imply (median); None without such rows."""
        implied = [_implied_ram(row) for row in self.rows if row.spilled and not row.moe and row.card in cards()]
        return median(implied) if implied else None

    def spilled(self, arch: Architecture, card: str | None, placed: Split) -> Measured | None:
        """The row of the same model spilling on the same card with about as much of it there; it is taken as it is."""
        reads = read_bytes(arch)
        on_card = reads * placed.gpu_bytes / max(placed.gpu_bytes + placed.cpu_bytes, 1)
        rows = [
            row
            for row in self.rows
            if row.spilled
            and row.card == card
            and row.of(arch)
            and (row.gpu_bytes is None or abs(row.gpu_bytes - on_card) <= SAME_SPLIT * reads)
        ]
        return rows[-1] if rows else None


def median(values: Iterable[float]) -> float:
    """The middle value. The standard library's imports fractions and random numbers: `mesh check` need not wait for them."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


PLAIN = Calibration()


def token_seconds(
    gpu_bytes: float,
    bandwidth: float,
    layers: int,
    cpu_bytes: float = 0,
    ram_bandwidth: float = RAM_BANDWIDTH,
    *,
    efficiency: float = EFFICIENCY,
    layer_seconds: float = LAYER_SECONDS,
) -> float:
    """Seconds for a token: gpu_bytes / (efficiency * bandwidth) + cpu_bytes / ram_bandwidth + layer_seconds * layers."""
    on_card = gpu_bytes / (efficiency * bandwidth) if gpu_bytes else 0.0
    return on_card + cpu_bytes / ram_bandwidth + layer_seconds * layers


def efficiency_of(experts: bool) -> float:
    """Share of the bandwidth that a model reaches: a mixture of experts, or a dense one."""
    return EXPERT_EFFICIENCY if experts else EFFICIENCY


def _ratio(row: Measured) -> float:
    bandwidth = cards()[row.card].bandwidth_bytes_per_s
    return 1 / row.tok_s / token_seconds(row.read_bytes, bandwidth, row.layers, efficiency=efficiency_of(row.moe))


def _implied_ram(row: Measured) -> float:
    """Bytes/s of host memory from a spilled row: what is in RAM / (measured time less the card's part)."""
    card = cards()[row.card]
    there = row.gpu_bytes if row.gpu_bytes is not None else int(_ASSUMED_SHARE * card.vram_bytes)
    left = 1 / row.tok_s - token_seconds(min(there, row.read_bytes), card.bandwidth_bytes_per_s, row.layers)
    bandwidth = max(row.read_bytes - there, 0) / left if left > 0 else 0.0
    return bandwidth if math.isfinite(bandwidth) and bandwidth > 1e9 else RAM_BANDWIDTH


def read_bytes(arch: Architecture) -> int:
    """Weights read for a token: the file less the token table (untied), or all of it, or the active part of the experts."""
    if arch.active_bytes is not None:
        return arch.active_bytes
    return arch.blob_bytes - (0 if arch.tied else arch.table_bytes)


def kv_read_bytes(arch: Architecture, tokens: int, kv_type: str = "f16") -> float:
    """Bytes of cache read for a token with `tokens` in the context. Windows are read no further than they reach."""
    if arch.encoder:
        return 0.0
    per_token = arch.kv_heads_sum * (arch.head_dim + (arch.value_dim or arch.head_dim)) * KV_BYTES[kv_type]
    tokens = min(tokens, arch.max_context)
    if arch.attention != "swa":
        return per_token * tokens
    grows = arch.full_layers / arch.layers
    return per_token * (grows * tokens + (1 - grows) * min(tokens, arch.window))


def decode_speed(
    on: Sequence[Card],
    arch: Architecture,
    tokens: int,
    placed: Split,
    calibration: Calibration = PLAIN,
    *,
    kv_type: str = "f16",
    ram_bandwidth: float | None = None,
) -> Speed:
    """Tokens a second with `tokens` in the context and the weights placed as `placed` says.

    on: the cards that hold it, layer after layer in proportion to their VRAM (each token passes them one by one); none for
    the processor alone. ram_bandwidth: bytes/s of the host's memory where known; else a spilled row's, else RAM_BANDWIDTH.
    """
    ram = ram_bandwidth or calibration.ram_bandwidth or RAM_BANDWIDTH
    total = placed.gpu_bytes + placed.cpu_bytes
    used = arch.experts_used / arch.experts if arch.experts else 1.0
    in_ram = placed.cpu_bytes - placed.experts_cpu + placed.experts_cpu * used
    reads = read_bytes(arch)
    on_card = max(reads - in_ram, 0.0) if placed.gpu_bytes else 0.0
    in_ram = min(in_ram, reads) if placed.gpu_bytes else reads
    cache_read = kv_read_bytes(arch, tokens, kv_type)
    # The cache lives with its layer; of a mixture of experts, all of it stays on the card while the attention does.
    moved = 0.0 if not placed.cpu_bytes else 1.0 if not placed.gpu_bytes else placed.cpu_bytes / total
    moved = 0.0 if placed.experts_cpu and placed.experts_cpu == placed.cpu_bytes else moved
    bandwidth = _combined(on)
    seconds = token_seconds(
        on_card + cache_read * (1 - moved),
        bandwidth,
        arch.layers,
        in_ram + cache_read * moved,
        ram_bandwidth=ram,
        efficiency=efficiency_of(arch.active_bytes is not None),
    )
    card = on[0].slug if len(on) == 1 else None
    if placed.spills:
        return _spilled_speed(arch, card, placed, seconds, tokens, calibration)
    ratio, basis, note = calibration.ratio(arch, card)
    band = BANDS[basis]
    if any(each.stacked_memory for each in on) and basis != "measured":
        band, note = UNSURE_BAND, "the model of speed does not hold on HBM cards"
    return _speed(1 / (seconds * ratio), band, basis, note)


def _spilled_speed(
    arch: Architecture, card: str | None, placed: Split, seconds: float, tokens: int, calibration: Calibration
) -> Speed:
    known = calibration.spilled(arch, card, placed)
    if known is not None:
        # Its split is not known, so it is taken to be today's; only the cache that is read grows with the context.
        short = seconds - LAYER_SECONDS * arch.layers
        longer = short / max(short - _cache_seconds(arch, tokens), 1e-9) if tokens else 1.0
        return _speed(known.tok_s / min(longer, 10.0), BANDS["measured"], "measured", f"measured with {known.engine}")
    if placed.experts_cpu or not placed.gpu_bytes:
        note = "experts in RAM" if placed.gpu_bytes else "on the processor"
        return _speed(1 / seconds, UNSURE_BAND, "modelled", note)
    if calibration.ram_bandwidth is not None:
        return _speed(1 / seconds, SPILL_MEASURED_BAND, "calibrated", "from another spilled model on the host")
    return _speed(1 / seconds, SPILL_BAND, "modelled", "")


def _cache_seconds(arch: Architecture, tokens: int) -> float:
    """Seconds of a spilled token's time that reading the cache takes at most: all of it from RAM."""
    return kv_read_bytes(arch, tokens) / RAM_BANDWIDTH


def _combined(on: Sequence[Card]) -> float:
    """Bandwidth of several cards passed one after the other: total / sum(share / bandwidth), shares by VRAM."""
    if not on:
        return 1.0
    total = sum(card.vram_bytes for card in on)
    return total / sum(card.vram_bytes / card.bandwidth_bytes_per_s for card in on)


def _speed(tok_s: float, band: float, basis: Basis, note: str) -> Speed:
    return Speed(tok_s, tok_s * (1 - band), tok_s * (1 + band), basis, note)
