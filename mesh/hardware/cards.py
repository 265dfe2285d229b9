"""Graphics cards: mesh/data/gpus.csv."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from mesh.paths import DATA


@dataclass(frozen=True, slots=True)
class Card:
    """A graphics card as its vendor publishes it.

    slug: the name in the spec, rtx-4070-ti. vram_bytes: nominal, a little more than nvidia-smi shows.
    compute_capability: CUDA's; None for AMD.
    """

    name: str
    slug: str
    vendor: str
    vram_bytes: int
    bandwidth_bytes_per_s: float
    tdp_w: int
    compute_capability: float | None

    @property
    def stacked_memory(self) -> bool:
        """HBM: the speed model does not hold there (an A100 reads 50 % high), so nothing is promised on it."""
        return self.bandwidth_bytes_per_s > 1.85e12

    @property
    def flash_attention(self) -> bool:
        """Whether Ollama turns flash attention on by itself: CUDA from 6.0 less 7.2, and AMD (Ollama's ml/device.go)."""
        return self.compute_capability is None or (self.compute_capability >= 6.0 and self.compute_capability != 7.2)


def slug_of(name: str) -> str:
    """A card's name as the spec writes it: `RTX 4070 Ti` is rtx-4070-ti."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


@cache
def cards() -> Mapping[str, Card]:
    """Every known card by slug."""
    found = {}
    with (DATA / "gpus.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            slug = slug_of(row["name"])
            capability = float(row["compute_capability"]) if row["compute_capability"] else None
            bandwidth = float(row["mem_bandwidth_gb_s"]) * 1e9
            found[slug] = Card(row["name"], slug, row["vendor"], int(row["vram_bytes"]), bandwidth, int(row["tdp_w"]), capability)
    return MappingProxyType(found)


_MAKERS_WORDS = {"nvidia", "geforce", "generation", "graphics", "quadro", "amd", "radeon", "tesla"}
_FORM = re.compile(r"^(pcie|nvl|sxm\d?|hbm\d?e?)$")
_SIZE = re.compile(r"^(\d+)gi?b$")


def name_parts(name: str) -> tuple[frozenset[str], int | None]:
    """What tells a card from others in whatever way its name is written: its own words, and its GB where the name has them.

    `NVIDIA GeForce RTX 3080`, `RTX 3080 10GB` and rtx-3080-10gb have the same words; makers, form and size are no part of them.
    """
    spaced = re.sub(r"\b(rtx|gtx|rx)(?=\d)", r"\1 ", name.lower())
    spaced = re.sub(r"(?<=\d)(ti|super|xtx|xt)(super)?\b", r" \1 \2", spaced)
    words = [word for word in re.split(r"[^a-z0-9]+", spaced) if word]
    sizes = [int(found[1]) for word in words if (found := _SIZE.match(word))]
    own = frozenset(word for word in words if not (word in _MAKERS_WORDS or _FORM.match(word) or _SIZE.match(word)))
    return own, sizes[0] if sizes else None


def named(name: str) -> tuple[str, ...]:
    """Slugs of the cards that a name can mean: none, one, or sisters that differ in their VRAM alone."""
    words, size = name_parts(name)
    found = []
    for slug in cards() if words else ():
        others, other_size = name_parts(slug)
        if words == others and (size is None or other_size is None or size == other_size):
            found.append(slug)
    return tuple(found)
