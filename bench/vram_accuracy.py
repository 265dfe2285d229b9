"""VRAM as the project predicts it against VRAM as llama.cpp plans it, for every model of the catalogue.

Run: .venv/bin/python bench/vram_accuracy.py --llama-server PATH      Bar: KV exact, the sum within 5 %.

PATH is a llama-server built with -DGGML_RPC=ON, `ggml-rpc-server` beside it (bench/README.md says how). The prediction is
mesh.hardware.footprint with the catalogue's data; the models are sparse files of the same shape (bench/gguf_shapes.py).
Not in the sum: a vision tower inside a blob (the files are text only) and the CUDA context, which no processor has.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gguf_shapes import models, write_sparse
from llama_dry_run import Planned, dry_run, version

from mesh.hardware import MIB
from mesh.hardware.footprint import Footprint, footprint
from mesh.hardware.models import Architecture

CONTEXTS = (4096, 32768)
KV_TYPES = ("f16", "q8_0")
SUM_BAR = 0.05
KV_EXACT_MIB = 0.01
"""The log's own rounding."""
TOWER = {"gemma3:12b", "gemma3:27b"}
"""Blobs with a vision tower, which the text-only file lacks: the tower is what the blob is longer by."""
DISK_LIMIT = 2**20


@dataclass(frozen=True)
class Case:
    """One model as it is loaded."""

    arch: Architecture
    context: int
    kv_type: str
    slots: int
    flash: bool
    tower: int
    need: Footprint
    plan: Planned

    @property
    def predicted(self) -> float:
        return (self.need.total - self.tower) / MIB

    @property
    def planned(self) -> float:
        return self.plan.weights + self.plan.kv + self.plan.compute

    @property
    def off(self) -> float:
        return self.predicted / self.planned - 1

    @property
    def kv_exact(self) -> bool:
        return abs(self.need.kv / MIB - self.plan.kv) <= KV_EXACT_MIB

    def row(self) -> str:
        how = f"{self.context} {self.kv_type}, ubatch {self.need.ubatch}"
        how += f", {self.slots} slots" if self.slots > 1 else ""
        how += "" if self.flash else ", no flash attention"
        weights = (self.need.weights - self.tower) / MIB
        total = f"{self.predicted:.0f} / {self.planned:.0f} | {self.off:+.2%}"
        return (
            f"| {self.arch.tag} | {how} | {weights:.0f} / {self.plan.weights:.0f}"
            f" | {self.need.kv / MIB:.2f} / {self.plan.kv:.2f}{'' if self.kv_exact else ' **differs**'}"
            f" | {self.need.compute / MIB:.1f} / {self.plan.compute:.1f} | {total} |"
        )


def cases(server: Path, folder: Path) -> list[Case]:
    found = []
    for tag, arch in models().items():
        path = folder / f"{tag.replace(':', '-')}.gguf"
        length = write_sparse(arch, path)
        if path.stat().st_blocks * 512 > DISK_LIMIT:
            sys.exit(f"{path}: takes {path.stat().st_blocks * 512} bytes of disk, so {folder} does not keep files sparse")
        tower = max(arch.blob_bytes - length, 0) if tag in TOWER else 0
        contexts = sorted({min(context, arch.max_context) for context in CONTEXTS})
        wanted = [(context, kv_type, 1, True) for context in contexts for kv_type in (("f16",) if arch.encoder else KV_TYPES)]
        if tag in EXTRA:
            wanted += EXTRA[tag]
        for context, kv_type, slots, flash in wanted:
            need = footprint(arch, context, slots, kv_type, flash)
            plan = dry_run(server, path, context=context, kv_type=kv_type, ubatch=need.ubatch, slots=slots, flash=flash)
            found.append(Case(arch, context, kv_type, slots, flash, tower, need, plan))
            print(found[-1].row(), flush=True)
        path.unlink()
    return found


EXTRA: dict[str, list[tuple[int, str, int, bool]]] = {
    "llama3.1:8b": [(8192, "f16", 4, True), (16384, "f16", 1, False), (8192, "q4_0", 1, True)],
    "gemma3:12b": [(8192, "f16", 2, True)],
    "gpt-oss:20b": [(8192, "f16", 4, True)],
}
"""Slots, no flash attention and the smallest cache, on models of each kind: context, KV type, slots, flash attention."""


def main() -> int:
    options = argparse.ArgumentParser(description="Predicted VRAM against what llama.cpp plans.")
    options.add_argument("--llama-server", type=Path, required=True, help="a llama-server built with -DGGML_RPC=ON")
    server = options.parse_args().llama_server.resolve()
    print(f"llama.cpp {version(server)}; MiB, predicted / planned by the engine\n")
    print("| model | context, KV type | weights | KV | compute | sum | off |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        found = cases(server, Path(folder))
    exact = sum(case.kv_exact for case in found)
    worst = max(found, key=lambda case: abs(case.off))
    within = sum(abs(case.off) <= SUM_BAR for case in found)
    print(
        f"\n{len({case.arch.tag for case in found})} models, {len(found)} cases: KV exact in {exact}; sum within 5 % in {within}"
    )
    print(f"worst sum: {worst.arch.tag}, {worst.context} {worst.kv_type}, {worst.off:+.2%}")
    met = exact == within == len(found)
    print("met" if met else "MISSED")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
