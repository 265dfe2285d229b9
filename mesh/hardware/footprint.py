"""How much VRAM a model takes, what is free for it, and what Ollama's scheduler believes about both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from mesh.hardware import GIB, MIB
from mesh.hardware.cards import Card
from mesh.hardware.models import Architecture

KV_BYTES: dict[str, float] = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
"""Bytes an element of the cache takes: blocks of 32 with one f16 scale when quantised (ggml's block_q8_0, block_q4_0)."""

ENGINE_MARGIN = 1024 * MIB
"""What llama.cpp's fit leaves free on every card (LLAMA_ARG_FIT_TARGET, in common/fit.cpp)."""
CUDA_CONTEXT = int(0.35 * GIB)
"""What a process takes on the card before it loads anything: 0.3 to 0.45 GiB. Every loaded model is one process."""
DRIVER = int(0.1 * GIB)
"""Nominal VRAM less what the driver offers on a card without a desktop (12282 of 12288 MiB, less the driver's own)."""
ERROR_BAND = int(0.3 * GIB)
"""How far a footprint may be off, either way."""
TIGHT_WITHIN = int(0.5 * GIB)
"""Nearer to the limit than this, a model fits only if the prediction is right."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a model takes on the card, in bytes. ubatch: the batch it was counted with, in tokens.

    ram: what of its file stays in the host's memory anyway (the token table, where it is not the output layer as well).
    """

    weights: int
    kv: int
    compute: int
    projector: int
    ram: int
    ubatch: int

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.compute + self.projector


def round256(tokens: int) -> int:
    """Tokens rounded up to 256, as llama.cpp pads its cache."""
    return -(-tokens // 256) * 256


def slots(arch: Architecture, parallel: int) -> int:
    """Slots that Ollama gives the model: 1 for embedding models and some families whatever the server's setting."""
    return 1 if arch.single_slot else max(parallel, 1)


def kv_bytes(arch: Architecture, context: int, parallel: int = 1, kv_type: str = "f16", ubatch: int = 512) -> int:
    """Bytes of the KV cache.

        sum over layers of kv_heads * (key length + value length) * cells * bytes
        cells of a full layer:    slots * round256(context)
        cells of a window layer:  slots * min(round256(context), round256(window + ubatch))

    Source: llama.cpp src/llama-kv-cache.cpp and llama-kv-cache-iswa.cpp; every slot has a cache of its own. context: tokens
    of one slot; it is capped at the model's maximum, as Ollama does. An encoder has none.
    """
    if arch.encoder:
        return 0
    n = slots(arch, parallel)
    per_cell = n * arch.kv_heads_sum * (arch.head_dim + (arch.value_dim or arch.head_dim)) * KV_BYTES[kv_type]
    cells, windowed = _cells(arch, context, ubatch)
    if not windowed:
        return int(per_cell * cells)
    grows = arch.full_layers / arch.layers
    return int(per_cell * (grows * cells + (1 - grows) * windowed))


def _cells(arch: Architecture, context: int, ubatch: int) -> tuple[int, int]:
    """Cells of one slot in a full layer and in a window layer; 0 where there is no window."""
    cells = round256(min(context, arch.max_context))
    return cells, min(cells, round256(arch.window + ubatch)) if arch.attention == "swa" else 0


def compute_bytes(arch: Architecture, context: int, flash: bool = True, ubatch: int = 512) -> int:
    """Bytes of the compute buffer on the card.

        4 * ubatch * (4*hidden + working width) + 2 * ubatch * cells      f32 inputs and activations, f16 mask of each kind
        4 * ubatch * (4*hidden + queries + keys + values + cells * (1 + heads))     at least, without flash attention

    working width: Architecture.working_width. Measured on llama.cpp b11434 (bench/vram_accuracy.py). Logits are made for one
    token a slot and do not count; engines from before June 2026 reserved them for the whole batch, 4 * ubatch * vocab more.
    """
    cells, windowed = _cells(arch, context, ubatch)
    need = 4 * ubatch * (4 * arch.hidden + arch.working_width) + 2 * ubatch * (cells + windowed)
    if flash:
        return need
    projected = arch.heads * arch.head_dim + arch.kv_heads * (arch.head_dim + (arch.value_dim or arch.head_dim))
    return max(need, 4 * ubatch * (4 * arch.hidden + projected + cells * (1 + arch.heads)))


def footprint(
    arch: Architecture,
    context: int,
    parallel: int = 1,
    kv_type: str = "f16",
    flash: bool = True,
    ubatch: int | None = None,
) -> Footprint:
    """What a model takes on the card: weights + KV + compute + projector.

        weights = blob - token table    the table stays in RAM (llama3 8B logs 4403.49 MiB on the card + 281.81 in RAM)
                = blob                  where the table is the output layer as well (llama3.2, gemma)

    ubatch: tokens a batch; None takes what Ollama would with room to spare (batch_for_context).
    """
    batch = ubatch if ubatch is not None else batch_for_context(arch, context, parallel)
    ram = 0 if arch.tied else arch.table_bytes
    return Footprint(
        weights=max(arch.blob_bytes - ram, 0),
        kv=kv_bytes(arch, context, parallel, kv_type, batch),
        compute=compute_bytes(arch, context, flash, batch),
        projector=arch.projector_bytes,
        ram=ram,
        ubatch=batch,
    )


def predicted(arch: Architecture, context: int, parallel: int = 1) -> int:
    """What Ollama's scheduler believes that the model takes, in bytes. Not what it takes.

        file + 2 * layers * min(kv_heads) * (hidden // heads) * context * slots * 2

    Source: PredictServerVRAM in Ollama's llm/llama_server.go. It knows nothing of the KV type, of windows, or of head sizes
    that the model states, and it decides on evictions and on one card or several.
    """
    tokens = min(context, arch.max_context) * slots(arch, parallel)
    return arch.blob_bytes + 4 * arch.layers * max(arch.kv_heads, 1) * (arch.hidden // arch.heads) * tokens


SURCHARGE = {2048: 2 * GIB, 1024: 768 * MIB}
"""What the scheduler adds to its prediction for a large batch (generationBatchSurcharge in server/sched.go)."""
_HEADROOM_PERCENT = {2048: 60, 1024: 75}


def batch_for_context(arch: Architecture, context: int, parallel: int = 1) -> int:
    """The batch Ollama wishes for: 512 up to 4096 tokens of context, 1024 above, 2048 above 32768. Embeddings: up to 2048."""
    tokens = min(context, arch.max_context) * slots(arch, parallel)
    if arch.encoder:
        return min(2048, tokens)
    return 2048 if tokens > 32768 else 1024 if tokens > 4096 else 512


def batch_size(arch: Architecture, context: int, free: int, parallel: int = 1, flash: bool = True) -> int:
    """The batch (-b and -ub) that Ollama takes with `free` bytes on the cards.

    A batch above 512 is taken only if the prediction is at most 75 % (1024) or 60 % (2048) of what is free, and 80 % with its
    surcharge. Without flash attention: 512, or 256 with at most 8 GiB free and more than 4096 tokens of context.
    Source: automaticGenerationBatch in server/sched.go.
    """
    wished = batch_for_context(arch, context, parallel)
    if arch.encoder:
        return wished
    if not flash:
        return 256 if free <= 8 * GIB and min(context, arch.max_context) * slots(arch, parallel) > 4096 else 512
    believed = predicted(arch, context, parallel)
    for batch in (2048, 1024):
        enough = believed <= free * _HEADROOM_PERCENT[batch] // 100 and believed + SURCHARGE[batch] <= free * 80 // 100
        if batch <= wished and enough:
            return batch
    return 512


@dataclass(frozen=True, slots=True)
class Budget:
    """What one card, or several together, have for a model: everything in bytes.

    total: nominal VRAM. reserves: other tenants by name. residents: models that are loaded already, each with its process.
    context: the processes' own (CUDA) for this model. margin: what the engine leaves free.
    """

    total: int
    reserves: Mapping[str, int] = field(default_factory=dict)
    residents: Mapping[str, int] = field(default_factory=dict)
    driver: int = DRIVER
    context: int = CUDA_CONTEXT
    margin: int = ENGINE_MARGIN

    @property
    def engine_free(self) -> int:
        """What the engine's scheduler sees as free before it loads the model."""
        return max(self.total - self.driver - sum(self.reserves.values()) - sum(self.residents.values()), 0)

    @property
    def room(self) -> int:
        """What the model may take and be wholly on the card; never below 0."""
        return max(self.engine_free - self.context - self.margin, 0)

    @classmethod
    def of(
        cls, cards: Sequence[Card], reserves: Mapping[str, int] | None = None, residents: Mapping[str, int] | None = None
    ) -> Budget:
        """The budget of cards that one model shares: each has its driver, its process and its margin."""
        n = len(cards)
        total = sum(card.vram_bytes for card in cards)
        return cls(total, reserves or {}, residents or {}, DRIVER * n, CUDA_CONTEXT * n, ENGINE_MARGIN * n)


class Verdict(StrEnum):
    """Whether a model is wholly on the card. TIGHT: it is if the prediction is right (its band is +-0.3 GiB)."""

    FITS = "FITS"
    TIGHT = "TIGHT"
    SPILLS = "SPILLS"


def verdict(need: int, budget: Budget) -> Verdict:
    """FITS with half a GiB to spare, TIGHT with less, SPILLS with nothing. need: Footprint.total."""
    return verdict_of(budget.room - need)


def verdict_of(spare: int) -> Verdict:
    """The verdict by the bytes that are left beyond the engine's margin."""
    return Verdict.SPILLS if spare < 0 else Verdict.TIGHT if spare < TIGHT_WITHIN else Verdict.FITS


@dataclass(frozen=True, slots=True)
class Split:
    """Where a model's weights are, in bytes read for a token of a dense model. layers_gpu: whole layers on the card.

    experts_cpu: of cpu_bytes, weights of experts, of which a token reads only a part.
    """

    layers_gpu: int
    layers: int
    gpu_bytes: int
    cpu_bytes: int
    experts_cpu: int = 0

    @property
    def spills(self) -> bool:
        return self.cpu_bytes > 0


def expert_bytes(arch: Architecture) -> int:
    """Bytes of all experts, from active = rest + experts * used / count; 0 for a dense model."""
    if arch.active_bytes is None or not 0 < arch.experts_used < arch.experts:
        return 0
    weights = arch.blob_bytes - (0 if arch.tied else arch.table_bytes)
    share = arch.experts_used / arch.experts
    return min(max(int((weights - arch.active_bytes) / (1 - share)), 0), weights)


def split(arch: Architecture, need: Footprint, room: int) -> Split:
    """Where llama.cpp puts the layers when `room` bytes are there for all of the model.

    Dense: whole layers, from the front, go to RAM with their KV; the output layer stays. Mixture of experts: the experts go,
    layer by layer, and attention and KV stay on the card as long as they fit. Source: llama.cpp common/fit.cpp.
    """
    if need.total <= room:
        return Split(arch.layers, arch.layers, need.weights, 0)
    experts = expert_bytes(arch)
    kept = need.total - experts
    if experts and kept <= room:
        per_layer = experts / arch.layers
        away = min(-int(-(need.total - room) // per_layer), arch.layers)
        gone = int(away * per_layer)
        return Split(arch.layers - away, arch.layers, need.weights - gone, gone, gone)
    output = min(arch.table_bytes, need.weights)
    per_layer = (need.weights - output + need.kv) / arch.layers
    fixed = need.compute + need.projector + output
    on_card = min(max(int((room - fixed) // per_layer), 0), arch.layers) if room > fixed and per_layer else 0
    if on_card == 0:
        return Split(0, arch.layers, 0, need.weights, experts)
    gone = int((need.weights - output) * (arch.layers - on_card) / arch.layers)
    return Split(on_card, arch.layers, need.weights - gone, gone, int(experts * (arch.layers - on_card) / arch.layers))
