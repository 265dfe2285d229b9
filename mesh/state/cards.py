"""Graphics cards as nvidia-smi tells of them: its answers read, and its names matched with the spec's. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.hardware.cards import name_parts

QUERY = "--query-gpu=index,name,uuid,memory.total,memory.used --format=csv,noheader,nounits"
"""Arguments of nvidia-smi that `read_cards` understands the answer to. Memory comes in MiB."""
MIB = 1024**2
_NOMINAL = 0.06
"""nvidia-smi shows up to this share less than a card's nominal memory (an A100 of 80 GB: 79.25 GiB; a 4070 Ti: 11.99)."""


@dataclass(frozen=True, slots=True)
class SeenCard:
    """One card as nvidia-smi lists it. total, used: bytes; None where the driver does not tell."""

    name: str
    uuid: str
    total: int | None
    used: int | None

    def __str__(self) -> str:
        return f"{self.name} ({self.total // MIB} MiB)" if self.total is not None else self.name


@dataclass(frozen=True, slots=True)
class SeenCards:
    """The cards of a host. error: nvidia-smi's own words where it failed, and then there are no cards.

    inside: container -> what nvidia-smi said in it when it failed there. Only containers that could be asked are in it;
    an empty text means that the container sees its cards.
    """

    cards: tuple[SeenCard, ...] = ()
    error: str = ""
    inside: tuple[tuple[str, str], ...] = ()


def read_cards(code: int, text: str) -> SeenCards:
    """What `nvidia-smi QUERY` answered with exit status `code`: `0, NVIDIA GeForce RTX 4070 Ti, GPU-3f1c..., 12282, 1021`."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if code == 124:
        return SeenCards(error="nvidia-smi did not answer: the driver hangs")
    if code in {126, 127}:
        return SeenCards(error="nvidia-smi is not there: is the driver installed?")
    if code:
        return SeenCards(error=" ".join(lines) or f"nvidia-smi ended with {code}")
    found = []
    for line in lines:
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 5 or not cells[0].isdigit():
            return SeenCards(error=f"nvidia-smi answered oddly: {line[:120]}")
        found.append(SeenCard(cells[1], cells[2], _bytes(cells[3]), _bytes(cells[4])))
    return SeenCards(tuple(found)) if found else SeenCards(error="nvidia-smi lists no card")


def _bytes(mebibytes: str) -> int | None:
    """`12282` to bytes; `[N/A]`, `[Not Supported]` and the like to None."""
    return int(mebibytes) * MIB if mebibytes.isdigit() else None


def lost_inside(code: int, text: str) -> str | None:
    """Why a container sees no card: nvidia-smi's own words. Empty where it sees one, None where it cannot be asked.

    It cannot be asked where nvidia-smi is not in it or the container does not run; the diff sees the latter by itself.
    """
    words = " ".join(text.split())
    if code == 0:
        return "" if "GPU " in words else "nvidia-smi lists no card"
    if "NVML" in words or "nvidia-smi has failed" in words.lower() or "No devices" in words or "GPU is lost" in words:
        return words
    return None


def same_card(declared: str, seen: SeenCard) -> bool:
    """Whether the spec's `rtx-3080-10gb` is nvidia-smi's `NVIDIA GeForce RTX 3080` of 10240 MiB."""
    words, size = name_parts(declared)
    others, other_size = name_parts(seen.name)
    if words != others:
        return False
    if size is None or (seen.total is None and other_size is None):
        return True
    if seen.total is None:
        return size == other_size
    nominal = size * 1024**3
    return (1 - _NOMINAL) * nominal <= seen.total <= nominal
