"""GGUF metadata keys, as a header or POST /api/show has them, to an Architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

from mesh.errors import MeshError
from mesh.hardware.models import EXPERTLESS, Architecture, Attention, table_bytes

_MOST = {"layers": 4096, "hidden": 2**20, "heads": 2**16, "kv_heads": 2**16, "head_dim": 2**16, "max_context": 2**31}
"""Larger is no model but a header that lies."""


BLOCKS: dict[int, tuple[int, int, str]] = {
    0: (1, 4, "F32"), 1: (1, 2, "F16"), 2: (32, 18, "Q4_0"), 3: (32, 20, "Q4_1"), 6: (32, 22, "Q5_0"), 7: (32, 24, "Q5_1"),
    8: (32, 34, "Q8_0"), 9: (32, 36, "Q8_1"), 10: (256, 84, "Q2_K"), 11: (256, 110, "Q3_K"), 12: (256, 144, "Q4_K"),
    13: (256, 176, "Q5_K"), 14: (256, 210, "Q6_K"), 15: (256, 292, "Q8_K"), 16: (256, 66, "IQ2_XXS"), 17: (256, 74, "IQ2_XS"),
    18: (256, 98, "IQ3_XXS"), 19: (256, 50, "IQ1_S"), 20: (32, 18, "IQ4_NL"), 21: (256, 110, "IQ3_S"), 22: (256, 82, "IQ2_S"),
    23: (256, 136, "IQ4_XS"), 24: (1, 1, "I8"), 25: (1, 2, "I16"), 26: (1, 4, "I32"), 27: (1, 8, "I64"), 28: (1, 8, "F64"),
    29: (256, 56, "IQ1_M"), 30: (1, 2, "BF16"), 34: (256, 54, "TQ1_0"), 35: (256, 66, "TQ2_0"), 39: (32, 17, "MXFP4"),
}  # fmt: skip
"""ggml type -> (elements of a block, bytes of a block, name), from ggml's ggml_type and type traits."""


class ArchitectureError(MeshError):
    """The metadata does not describe a model that can be counted with."""

    def __init__(self, tag: str, why: str) -> None:
        super().__init__(
            f"the metadata of `{tag}` cannot be used",
            why=why,
            mend="write its numbers under `architecture:` of the model, or use another file",
        )


def architecture_of(info: Mapping[str, Any], *, tag: str, blob_bytes: int, quant: str = "") -> Architecture:
    """An architecture from metadata such as `llama.block_count`. Raises ArchitectureError naming the key that is wrong.

    tied is guessed by the family: metadata alone does not say, the tensors do (with_tensors).
    """
    arch = info.get("general.architecture")
    if not isinstance(arch, str) or not arch:
        raise ArchitectureError(tag, "general.architecture is missing")
    if not isinstance(blob_bytes, int) or not 0 < blob_bytes < 2**50:
        raise ArchitectureError(tag, f"its size is {blob_bytes!r} bytes")

    def number(key: str, name: str, default: int | None = None) -> int:
        value = info.get(f"{arch}.{key}", default)
        if isinstance(value, list | tuple):
            found = [each for each in value if isinstance(each, int) and each > 0]
            value = min(found) if found else None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MOST[name]:
            raise ArchitectureError(tag, f"{arch}.{key} is {str(value)[:40] if value is not None else 'missing'}")
        return value

    layers = number("block_count", "layers")
    hidden = number("embedding_length", "hidden")
    heads = number("attention.head_count", "heads")
    kv_heads = number("attention.head_count_kv", "kv_heads", heads)
    head_dim = number("attention.key_length", "head_dim", max(hidden // heads, 1))
    value_dim = number("attention.value_length", "head_dim", head_dim)
    listed = info.get(f"{arch}.attention.head_count_kv")
    by_layer = tuple(each for each in listed if _is_heads(each)) if isinstance(listed, list | tuple) else ()
    window = _optional(info, f"{arch}.attention.sliding_window", _MOST["max_context"])
    full = _full_layers(info, arch, layers)
    causal = info.get(f"{arch}.attention.causal", True)
    attention: Attention = "bidirectional" if causal is False or "bert" in arch else "swa" if window and full < layers else "full"
    vocab = _vocab(info, arch)
    experts, used = _optional(info, f"{arch}.expert_count", 65536), _optional(info, f"{arch}.expert_used_count", 65536)
    moe = 0 < used < experts
    table = table_bytes(vocab, hidden, quant)
    weights = max(blob_bytes - table, 0)
    active = int(weights * (EXPERTLESS + (1 - EXPERTLESS) * used / experts)) if moe else None
    return Architecture(
        tag=tag,
        arch=arch,
        layers=layers,
        hidden=hidden,
        feed_forward=_feed_forward(info, arch, moe),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        max_context=number("context_length", "max_context"),
        vocab=vocab,
        tied=arch.startswith("gemma"),
        blob_bytes=blob_bytes,
        quant=quant,
        table_bytes=table,
        attention=attention,
        window=window if attention == "swa" else 0,
        full_layers=full if attention == "swa" else layers,
        active_bytes=active,
        experts=experts if moe else 0,
        experts_used=used if moe else 0,
        value_dim=value_dim if value_dim != head_dim else 0,
        kv_heads_by_layer=by_layer if len(by_layer) == layers and any(by_layer) and len(set(by_layer)) > 1 else (),
    )


def _is_heads(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST["kv_heads"]


def with_tensors(arch: Architecture, sizes: Mapping[str, int]) -> Architecture:
    """The architecture with what the tensors (bytes by name) say: the token table, tied embeddings, the active experts."""
    if "token_embd.weight" not in sizes:
        return arch
    tied = "output.weight" not in sizes and not arch.encoder
    table = sizes["token_embd.weight"]
    experts = sum(size for name, size in sizes.items() if "_exps" in name)
    active = arch.active_bytes
    if arch.experts and experts:
        active = sum(sizes.values()) - experts - (0 if tied else table) + experts * arch.experts_used // arch.experts
    return replace(arch, tied=tied, table_bytes=table, active_bytes=active)


def listed_sizes(tensors: Any) -> dict[str, int]:
    """Bytes by name of the tensors that POST /api/show lists; nothing where one of them cannot be counted."""
    kinds = {name: (block, size) for block, size, name in BLOCKS.values()}
    sizes = {}
    for each in tensors if isinstance(tensors, list) else ():
        entry: Mapping[str, Any] = each if isinstance(each, dict) else {}
        name, kind, shape = entry.get("name"), entry.get("type"), entry.get("shape") or ()
        known = kinds.get(kind) if isinstance(kind, str) else None
        whole = isinstance(shape, list) and 0 < len(shape) <= 4 and all(type(n) is int and 0 < n < 2**40 for n in shape)
        if not isinstance(name, str) or known is None or not whole:
            return {}
        sizes[name] = min(-(-prod(shape) // known[0]) * known[1], 2**50)
    return sizes


def _feed_forward(info: Mapping[str, Any], arch: str, moe: bool) -> int:
    """Length of the feed-forward layer (the longest, where layers differ), or of one expert's; 0 where it is not stated."""
    for key in ("expert_feed_forward_length", "feed_forward_length") if moe else ("feed_forward_length",):
        value = info.get(f"{arch}.{key}")
        listed = value if isinstance(value, list | tuple) else [value]
        lengths = [
            each for each in listed if isinstance(each, int) and not isinstance(each, bool) and 0 < each <= _MOST["hidden"]
        ]
        if lengths:
            return max(lengths)
    return 0


def _optional(info: Mapping[str, Any], key: str, most: int) -> int:
    value = info.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most else 0


_EVERY = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "gptoss": 2, "gpt-oss": 2, "cohere2": 4, "llama4": 4}
"""One layer in so many sees the whole context, in families whose metadata does not say (llama.cpp src/llama-model.cpp)."""


def _full_layers(info: Mapping[str, Any], arch: str, layers: int) -> int:
    """Layers that grow with the context: by the pattern in the metadata, else by the family's; all where neither is known."""
    pattern = info.get(f"{arch}.attention.sliding_window_pattern")
    if isinstance(pattern, list | tuple) and pattern:
        windowed = [bool(each) for each in pattern][:layers]
        return max(layers - sum(windowed), 0)
    every = pattern if isinstance(pattern, int) and not isinstance(pattern, bool) and 0 < pattern <= layers else _EVERY.get(arch)
    return layers // every if every else layers


def _vocab(info: Mapping[str, Any], arch: str) -> int:
    given = _optional(info, f"{arch}.vocab_size", 2**24)
    if given:
        return given
    tokens = info.get("tokenizer.ggml.tokens")
    return len(tokens) if isinstance(tokens, list | tuple) else tokens if isinstance(tokens, int) and 0 < tokens < 2**24 else 0
