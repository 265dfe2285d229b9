"""Sparse GGUF files: every header field and tensor of a known model is there, its weights are a hole in the file.

llama.cpp plans its memory from the shapes alone, so such a file (up to 20 GB long, some 100 KB on the disk) makes it plan
what it would for the real one. The shapes are those of mesh/data/models.csv; the mix of quantisations is that of
`llama-quantize ... Q4_K_M` (llama.cpp src/llama-quant.cpp); gpt-oss has its published mix: experts MXFP4, the rest bf16.
Files are text only: no vision tower, and no vocabulary.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh.hardware.metadata import BLOCKS
from mesh.hardware.models import Architecture, known_models

ALIGNMENT = 32

# Of ggml_type, and of GGUF value types.
F32, F16, Q4_K, Q5_K, Q6_K, BF16, MXFP4 = 0, 1, 12, 13, 14, 30, 39
UINT32, FLOAT32, BOOL, STRING = 4, 6, 7, 8

ENGINE_NAMES = {"gptoss": "gpt-oss"}
"""llama.cpp's name of an architecture, where Ollama has its own."""


@dataclass(frozen=True)
class Tensor:
    """One tensor's name, dimensions (innermost first) and ggml type."""

    name: str
    dims: tuple[int, ...]
    kind: int

    @property
    def bytes(self) -> int:
        elements, size, _ = BLOCKS[self.kind]
        if self.dims[0] % elements:
            raise ValueError(f"{self.name}: rows of {self.dims[0]} do not divide into blocks of {elements}")
        return math.prod(self.dims) // elements * size


def models() -> Mapping[str, Architecture]:
    """The models of the catalogue that llama.cpp runs, by tag."""
    return {tag: arch for tag, arch in known_models().items() if arch.attention != "encoder-decoder"}


def more_bits(layer: int, layers: int) -> int:
    """Q6_K in the layers that Q4_K_M spends more on: the first and last eighth and every third between."""
    first = layers // 8
    return Q6_K if layer < first or layer >= 7 * layers // 8 or (layer - first) % 3 == 2 else Q4_K


def tensors(arch: Architecture) -> Iterator[Tensor]:
    """All tensors of a model."""
    hidden, vocab, ff = arch.hidden, arch.vocab, arch.feed_forward
    if arch.encoder:
        yield from nomic(arch, ff)
        return
    plain, table, out = (BF16, BF16, BF16) if arch.quant == "MXFP4" else (Q4_K, Q6_K if arch.tied else Q4_K, Q6_K)
    yield Tensor("token_embd.weight", (hidden, vocab), table)
    yield Tensor("output_norm.weight", (hidden,), F32)
    if not arch.tied:
        yield Tensor("output.weight", (hidden, vocab), out)
    for layer in range(arch.layers):
        for tensor in attention(arch, layer, plain):
            yield Tensor(f"blk.{layer}.{tensor.name}", tensor.dims, tensor.kind)
        for tensor in feed_forward(arch, layer, ff):
            yield Tensor(f"blk.{layer}.{tensor.name}", tensor.dims, tensor.kind)


def attention(arch: Architecture, layer: int, plain: int) -> Iterator[Tensor]:
    hidden, queries, keys = arch.hidden, arch.heads * arch.head_dim, arch.kv_heads * arch.head_dim
    yield Tensor("attn_norm.weight", (hidden,), F32)
    if arch.arch == "phi3":
        yield Tensor("attn_qkv.weight", (hidden, queries + 2 * keys), Q5_K)
    else:
        yield Tensor("attn_q.weight", (hidden, queries), plain)
        yield Tensor("attn_k.weight", (hidden, keys), plain)
        yield Tensor("attn_v.weight", (hidden, keys), values_kind(arch, layer, plain))
    if arch.arch in ("qwen2", "gptoss"):
        for letter, length in (("q", queries), ("k", keys), ("v", keys)):
            yield Tensor(f"attn_{letter}.bias", (length,), F32)
    if arch.arch in ("qwen3", "qwen3moe", "gemma3"):
        yield Tensor("attn_q_norm.weight", (arch.head_dim,), F32)
        yield Tensor("attn_k_norm.weight", (arch.head_dim,), F32)
    yield Tensor("attn_output.weight", (queries, hidden), plain)
    if arch.arch == "gptoss":
        yield Tensor("attn_output.bias", (hidden,), F32)
        yield Tensor("attn_sinks.weight", (arch.heads,), F32)
    if arch.arch in ("gptoss", "gemma3"):
        yield Tensor("post_attention_norm.weight", (hidden,), F32)


def values_kind(arch: Architecture, layer: int, plain: int) -> int:
    """Quantisation of attn_v. Ollama's own builds of the dense qwen3 keep it at f16: only so do the published sizes come out."""
    if arch.arch == "qwen3":
        return F16
    return plain if plain == BF16 else more_bits(layer, arch.layers)


def feed_forward(arch: Architecture, layer: int, ff: int) -> Iterator[Tensor]:
    hidden, experts = arch.hidden, arch.experts
    if arch.arch != "gptoss":
        yield Tensor("ffn_norm.weight", (hidden,), F32)
    if arch.arch == "gemma3":
        yield Tensor("post_ffw_norm.weight", (hidden,), F32)
    if experts:
        kind, down = (MXFP4, MXFP4) if arch.quant == "MXFP4" else (Q4_K, more_bits(layer, arch.layers))
        yield Tensor("ffn_gate_inp.weight", (hidden, experts), F32)
        yield Tensor("ffn_gate_exps.weight", (hidden, ff, experts), kind)
        yield Tensor("ffn_up_exps.weight", (hidden, ff, experts), kind)
        yield Tensor("ffn_down_exps.weight", (ff, hidden, experts), down)
        if arch.arch == "gptoss":
            yield Tensor("ffn_gate_inp.bias", (experts,), F32)
            yield Tensor("ffn_gate_exps.bias", (ff, experts), F32)
            yield Tensor("ffn_up_exps.bias", (ff, experts), F32)
            yield Tensor("ffn_down_exps.bias", (hidden, experts), F32)
        return
    if arch.arch == "phi3":
        yield Tensor("ffn_up.weight", (hidden, 2 * ff), Q4_K)
    else:
        yield Tensor("ffn_gate.weight", (hidden, ff), Q4_K)
        yield Tensor("ffn_up.weight", (hidden, ff), Q4_K)
    yield Tensor("ffn_down.weight", (ff, hidden), more_bits(layer, arch.layers))


def nomic(arch: Architecture, ff: int) -> Iterator[Tensor]:
    hidden = arch.hidden
    yield Tensor("token_embd.weight", (hidden, arch.vocab), F16)
    yield Tensor("token_types.weight", (hidden, 2), F32)
    yield Tensor("token_embd_norm.weight", (hidden,), F32)
    yield Tensor("token_embd_norm.bias", (hidden,), F32)
    for layer in range(arch.layers):
        yield Tensor(f"blk.{layer}.attn_qkv.weight", (hidden, 3 * hidden), F16)
        yield Tensor(f"blk.{layer}.attn_output.weight", (hidden, hidden), F16)
        yield Tensor(f"blk.{layer}.ffn_gate.weight", (hidden, ff), F16)
        yield Tensor(f"blk.{layer}.ffn_up.weight", (hidden, ff), F16)
        yield Tensor(f"blk.{layer}.ffn_down.weight", (ff, hidden), F16)
        for norm in ("attn_output_norm", "layer_output_norm"):
            yield Tensor(f"blk.{layer}.{norm}.weight", (hidden,), F32)
            yield Tensor(f"blk.{layer}.{norm}.bias", (hidden,), F32)


def metadata(arch: Architecture) -> dict[str, tuple[int, int | float | str | bool]]:
    """The header's keys with GGUF value types: as little as llama.cpp insists on."""
    name, ff = ENGINE_NAMES.get(arch.arch, arch.arch), arch.feed_forward
    keys: dict[str, tuple[int, int | float | str | bool]] = {
        "general.architecture": (STRING, name),
        "general.name": (STRING, f"{arch.tag}, shape only, no weights"),
        "tokenizer.ggml.model": (STRING, "none"),
        f"{name}.vocab_size": (UINT32, arch.vocab),
        f"{name}.context_length": (UINT32, arch.max_context),
        f"{name}.embedding_length": (UINT32, arch.hidden),
        f"{name}.block_count": (UINT32, arch.layers),
        f"{name}.feed_forward_length": (UINT32, ff),
        f"{name}.attention.head_count": (UINT32, arch.heads),
        f"{name}.attention.head_count_kv": (UINT32, arch.kv_heads),
        f"{name}.attention.key_length": (UINT32, arch.head_dim),
        f"{name}.attention.value_length": (UINT32, arch.head_dim),
        f"{name}.rope.dimension_count": (UINT32, arch.head_dim),
        f"{name}.attention.layer_norm_rms_epsilon": (FLOAT32, 1e-5),
    }
    if arch.window:
        keys[f"{name}.attention.sliding_window"] = (UINT32, arch.window)
    if arch.experts:
        keys[f"{name}.expert_count"] = (UINT32, arch.experts)
        keys[f"{name}.expert_used_count"] = (UINT32, arch.experts_used)
        keys[f"{name}.expert_feed_forward_length"] = (UINT32, ff)
    if arch.encoder:
        keys["tokenizer.ggml.token_type_count"] = (UINT32, 2)
        keys[f"{name}.attention.layer_norm_epsilon"] = (FLOAT32, 1e-12)
        keys[f"{name}.attention.causal"] = (BOOL, False)
        keys[f"{name}.pooling_type"] = (UINT32, 1)
    return keys


def write_sparse(arch: Architecture, path: Path) -> int:
    """Write the model's file with a hole for its weights; its apparent size in bytes."""
    parts, offset, count = [], 0, 0
    for tensor in tensors(arch):
        dims = struct.pack(f"<{len(tensor.dims)}Q", *tensor.dims)
        parts.append(text(tensor.name) + struct.pack("<I", len(tensor.dims)) + dims + struct.pack("<IQ", tensor.kind, offset))
        offset += -(-tensor.bytes // ALIGNMENT) * ALIGNMENT
        count += 1
    keys = metadata(arch)
    head = b"GGUF" + struct.pack("<IQQ", 3, count, len(keys))
    head += b"".join(text(key) + struct.pack("<I", kind) + value(kind, held) for key, (kind, held) in keys.items())
    head += b"".join(parts)
    head += bytes(-len(head) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + offset)
    return len(head) + offset


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(kind: int, held: int | float | str | bool) -> bytes:
    if kind == STRING:
        return text(str(held))
    return struct.pack({UINT32: "<I", FLOAT32: "<f", BOOL: "<?"}[kind], held)
