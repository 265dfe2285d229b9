"""Architectures of models: from the spec, from a live Ollama, from a GGUF header, or from mesh/data/models.csv."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any, Literal

from mesh.paths import DATA

Attention = Literal["full", "swa", "bidirectional", "encoder-decoder"]
Source = Literal["the spec", "the live Ollama", "the GGUF header", "the catalogue"]

SINGLE_SLOT = frozenset(
    [
        "mllama",
        "qwen3vl",
        "qwen3vlmoe",
        "qwen35",
        "qwen35moe",
        "qwen3next",
        "lfm2",
        "lfm2moe",
        "nemotron_h",
        "nemotron_h_moe",
        "nemotron_h_omni",
    ]
)
"""Families that Ollama serves with one slot whatever OLLAMA_NUM_PARALLEL says (server/sched.go, Scheduler.load)."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What of a model decides how much VRAM it takes and how fast it answers.

    arch: the GGUF name (llama, qwen2, gemma3). kv_heads: the fewest of any layer. head_dim, value_dim: length of one key, of
    one value of one head; not always hidden / heads. kv_heads_by_layer: where they differ (else empty).
    blob_bytes: the model's file. table_bytes: the token table in it. tied: the table is the output layer as well.
    attention: swa has full_layers layers that grow with the context and others that stop at `window` tokens.
    active_bytes: weights read for a token of a mixture of experts, None for a dense model; experts, experts_used: how many.
    projector_bytes: a vision projector in a file of its own (one inside the blob is counted there).
    feed_forward: length of the feed-forward layer, or of one expert's; 0 is unknown and counted as is usual for `hidden`.
    """

    tag: str
    arch: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    max_context: int
    vocab: int
    tied: bool
    blob_bytes: int
    quant: str
    table_bytes: int
    attention: Attention = "full"
    window: int = 0
    full_layers: int = 0
    active_bytes: int | None = None
    experts: int = 0
    experts_used: int = 0
    value_dim: int = 0
    kv_heads_by_layer: tuple[int, ...] = ()
    projector_bytes: int = 0
    feed_forward: int = 0
    source: Source = "the catalogue"

    @property
    def kv_heads_sum(self) -> int:
        """KV heads of all layers together."""
        return sum(self.kv_heads_by_layer) or self.layers * self.kv_heads

    @property
    def encoder(self) -> bool:
        """It has no cache that grows with the context (embedding models)."""
        return self.attention in ("bidirectional", "encoder-decoder")

    @property
    def layered(self) -> bool:
        """Whether more than its size is known."""
        return self.head_dim > 0

    @property
    def working_width(self) -> int:
        """Elements for a token that the widest step of a layer holds at once.

        Dense: gate, up and their product. Experts: the same for every expert used, or their outputs twice and the sum.
        """
        if self.experts:
            each = self.feed_forward or self.hidden
            return max(3 * self.experts_used * each, (2 * self.experts_used + 1) * self.hidden)
        return 3 * (self.feed_forward or 4 * self.hidden)

    @property
    def single_slot(self) -> bool:
        """Ollama gives it one slot whatever the server's setting is."""
        return self.encoder or self.arch in SINGLE_SLOT


def canonical(tag: str) -> str:
    """A tag without what Ollama adds by itself: `nomic-embed-text:latest` is nomic-embed-text."""
    return tag.removesuffix(":latest").removeprefix("registry.ollama.ai/").removeprefix("library/")


def table_bytes(vocab: int, hidden: int, quant: str) -> int:
    """Bytes of the token table: 4.5 bits a weight in files of 4-bit K quants, 16 in gpt-oss and unquantised ones.

    Source: the load log of llama3 8B (281.81 MiB on the processor = 128256 * 4096 * 4.5 / 8).
    """
    return int(vocab * hidden * _TABLE_BITS.get(quant.upper(), 4.5) / 8)


_TABLE_BITS = {"MXFP4": 16, "F16": 16, "BF16": 16, "F32": 32, "Q8_0": 8.5, "Q6_K": 6.5625, "Q5_K_M": 5.5, "Q4_0": 4.5}
"""Bits a weight of the table by the file's quantisation; K quants of 4 bits keep it at 4.5."""


@cache
def known_models() -> Mapping[str, Architecture]:
    """Every model of the catalogue by Ollama tag."""
    with (DATA / "models.csv").open(encoding="utf-8", newline="") as file:
        return MappingProxyType({row["ollama_tag"]: _of_row(row) for row in csv.DictReader(file)})


def known_model(tag: str) -> Architecture | None:
    """What the catalogue knows about a tag; None for a stranger."""
    return known_models().get(canonical(tag))


def family(tag: str) -> str:
    """The part of a tag that its sizes share: `qwen2.5-coder` of qwen2.5-coder:32b."""
    return canonical(tag).partition(":")[0]


def _of_row(row: Mapping[str, str]) -> Architecture:
    vocab, hidden, layers = int(row["vocab"]), int(row["hidden"]), int(row["layers"])
    experts = re.search(r"(\d+) experts, (\d+) active", row["moe_active_info"])
    kinds: dict[str, Attention] = {
        "full": "full",
        "swa": "swa",
        "bidirectional": "bidirectional",
        "encoder-decoder": "encoder-decoder",
    }
    return Architecture(
        tag=row["ollama_tag"],
        arch=row["arch"],
        layers=layers,
        hidden=hidden,
        feed_forward=int(row["feed_forward"]),
        heads=int(row["heads"]),
        kv_heads=int(row["kv_heads"]),
        head_dim=int(row["head_dim"]),
        max_context=int(row["max_context"]),
        vocab=vocab,
        tied=row["tied_embeddings"] != "false",
        blob_bytes=int(row["blob_bytes"]),
        quant=row["quant"],
        table_bytes=table_bytes(vocab, hidden, row["quant"]),
        attention=kinds[row["attention_kind"]],
        window=int(row["sliding_window"] or 0),
        full_layers=int(row["full_attention_layers"] or layers),
        active_bytes=int(row["moe_active_bytes_per_token"]) if row["moe_active_bytes_per_token"] else None,
        experts=int(experts[1]) if experts else 0,
        experts_used=int(experts[2]) if experts else 0,
    )


def weights_only(tag: str, blob_bytes: int) -> Architecture:
    """A model of which only the size is known: it is counted without its cache and buffers."""
    return Architecture(
        tag=tag, arch="", layers=32, hidden=0, heads=1, kv_heads=1, head_dim=0, max_context=2**31, vocab=0, tied=True,
        blob_bytes=blob_bytes, quant="", table_bytes=0, source="the spec",
    )  # fmt: skip


def from_spec(
    tag: str,
    known: Architecture | None,
    *,
    weights: int | None = None,
    projector: int | None = None,
    numbers: Mapping[str, Any] | None = None,
) -> Architecture | None:
    """What the spec says, laid over what is known otherwise; None where together they do not make a model.

    weights, projector: bytes. numbers: the fields of `architecture:` that are given.
    """
    given = dict(numbers or {})
    if isinstance(given.get("kv_heads"), tuple):
        given |= by_layer(given["kv_heads"])
    elif "kv_heads" in given:
        given["kv_heads_by_layer"] = ()
    if weights is None and projector is None and not given:
        return known
    if known is None or not known.layered:
        size = weights if weights is not None else known.blob_bytes if known is not None else None
        if size is None:
            return None
        if not {"layers", "hidden", "heads"} <= given.keys():
            return replace(weights_only(tag, size), projector_bytes=projector or 0)
        known = replace(
            weights_only(tag, size),
            kv_heads=given["heads"],
            head_dim=max(given["hidden"] // given["heads"], 1),
            full_layers=given["layers"],
            tied=False,
        )
    if weights is not None:
        given["blob_bytes"] = weights
    if projector is not None:
        given["projector_bytes"] = projector
    found = replace(known, **given, source="the spec")
    if "table_bytes" not in given:
        found = replace(found, table_bytes=table_bytes(found.vocab, found.hidden, found.quant))
    if found.experts and "active_bytes" not in given and (known.experts, known.blob_bytes) != (found.experts, found.blob_bytes):
        found = replace(found, active_bytes=active_bytes(found))
    if found.encoder:
        return found
    windowed = 0 < found.full_layers < found.layers and found.window > 0
    return replace(found, attention="swa" if windowed else "full")


def by_layer(heads: tuple[int, ...]) -> dict[str, Any]:
    """The fields of KV heads that differ by layer. Layers without any (a state in place of a cache) count as none."""
    return {"kv_heads": min((each for each in heads if each), default=1), "kv_heads_by_layer": heads if any(heads) else ()}


EXPERTLESS = 0.06
"""Of a mixture's weights, what is no expert: 4 to 8 % in qwen3:30b-a3b and gpt-oss:20b. Tensors say it exactly."""


def active_bytes(arch: Architecture) -> int:
    """Weights that a mixture of experts reads for a token, estimated: all that is no expert, and of the experts those used."""
    weights = max(arch.blob_bytes - (0 if arch.tied else arch.table_bytes), 0)
    return int(weights * (EXPERTLESS + (1 - EXPERTLESS) * arch.experts_used / arch.experts))


def from_show(tag: str, answer: Mapping[str, Any], blob_bytes: int) -> Architecture:
    """The architecture in an answer of Ollama's POST /api/show; blob_bytes is the size that GET /api/tags gives.

    Raises ArchitectureError (a MeshError) where the answer lacks what is needed.
    """
    from mesh.hardware.metadata import architecture_of, listed_sizes, with_tensors

    info = answer.get("model_info")
    details = answer.get("details")
    quant = details.get("quantization_level", "") if isinstance(details, dict) else ""
    found = architecture_of(info if isinstance(info, dict) else {}, tag=tag, blob_bytes=blob_bytes, quant=str(quant))
    return replace(with_tensors(found, listed_sizes(answer.get("tensors"))), source="the live Ollama")
