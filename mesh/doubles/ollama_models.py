"""What the Ollama double knows of models: architecture and sizes, enough for `/api/show`, `/api/tags` and `/api/ps`."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

MIB = 1024 * 1024
BYTES_PER_PARAMETER = 0.6  # Q4_K_M, roughly; for tags that are not in the table


@dataclass(frozen=True)
class Model:
    """One tag. Sizes in bytes; `window` is the sliding window in tokens, `full_layers` the layers without it."""

    tag: str
    arch: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    max_context: int
    vocab: int
    blob_bytes: int
    parameters: str
    quant: str = "Q4_K_M"
    window: int = 0
    full_layers: int = 0
    embedding: bool = False

    @property
    def digest(self) -> str:
        """A made-up manifest digest, the same everywhere."""
        return hashlib.sha256(f"double:{self.tag}".encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes that `/api/tags` shows: the blob and a few KB of template and licence."""
        return self.blob_bytes + 12813

    def memory_bytes(self, num_ctx: int, parallel: int = 1) -> int:
        """Bytes the loaded model takes: weights, f16 KV cache, compute buffer. Arithmetic, not a measurement."""
        ubatch = 512 if num_ctx <= 4096 else 1024
        compute = 4 * ubatch * (self.hidden + self.vocab)
        if self.embedding:
            return self.blob_bytes + compute
        cells = num_ctx * parallel
        per_layer = 2 * self.kv_heads * self.head_dim * 2
        full = self.full_layers if self.window else self.layers
        short = min(cells, -(-(self.window * parallel + ubatch) // 256) * 256) if self.window else 0
        return self.blob_bytes + per_layer * (full * cells + (self.layers - full) * short) + compute

    def details(self) -> dict[str, Any]:
        """The `details` object of the API."""
        return {
            "parent_model": "",
            "format": "gguf",
            "family": self.arch,
            "families": [self.arch],
            "parameter_size": self.parameters,
            "quantization_level": self.quant,
        }

    def info(self) -> dict[str, Any]:
        """The `model_info` object of `/api/show`."""
        known = {
            "block_count": self.layers,
            "context_length": self.max_context,
            "embedding_length": self.hidden,
            "attention.head_count": self.heads,
            "attention.head_count_kv": self.kv_heads,
            "attention.key_length": self.head_dim,
            "attention.value_length": self.head_dim,
            "vocab_size": self.vocab,
        }
        if self.window:
            known["attention.sliding_window"] = self.window
        return {"general.architecture": self.arch, **{f"{self.arch}.{key}": value for key, value in known.items()}}


# tag, arch, layers, hidden, heads, kv_heads, head_dim, max_context, vocab, blob_bytes, parameters
TABLE = (
    Model("llama3.2:3b", "llama", 28, 3072, 24, 8, 128, 131072, 128256, 2019377376, "3.2B"),
    Model("mistral:7b", "llama", 32, 4096, 32, 8, 128, 32768, 32768, 4372811936, "7.2B"),
    Model("llama3.1:8b", "llama", 32, 4096, 32, 8, 128, 131072, 128256, 4920738944, "8.0B"),
    Model("qwen2.5-coder:7b", "qwen2", 28, 3584, 28, 4, 128, 32768, 152064, 4683074048, "7.6B"),
    Model("qwen2.5-coder:14b", "qwen2", 48, 5120, 40, 8, 128, 32768, 152064, 8988110688, "14.8B"),
    Model("qwen2.5-coder:32b", "qwen2", 64, 5120, 40, 8, 128, 32768, 152064, 19851336000, "32.8B"),
    Model("deepseek-r1:7b", "qwen2", 28, 3584, 28, 4, 128, 131072, 152064, 4683073184, "7.6B"),
    Model("deepseek-r1:14b", "qwen2", 48, 5120, 40, 8, 128, 131072, 152064, 8988110000, "14.8B"),
    Model("deepseek-r1:32b", "qwen2", 64, 5120, 40, 8, 128, 131072, 152064, 19851335500, "32.8B"),
    Model("gemma3:12b", "gemma3", 48, 3840, 16, 8, 256, 131072, 262145, 8149180896, "12.2B", "Q4_K_M", 1024, 8),
    Model("gemma3:27b", "gemma3", 62, 5376, 32, 16, 128, 131072, 262145, 17396926848, "27.4B", "Q4_K_M", 1024, 10),
    Model("qwen3:8b", "qwen3", 36, 4096, 32, 8, 128, 40960, 151936, 5225374000, "8.2B"),
    Model("qwen3:14b", "qwen3", 40, 5120, 40, 8, 128, 40960, 151936, 9276184000, "14.8B"),
    Model("qwen3:30b-a3b", "qwen3moe", 48, 2048, 32, 4, 128, 40960, 151936, 18556686000, "30.5B"),
    Model("phi4:14b", "phi3", 40, 5120, 40, 10, 128, 16384, 100352, 9053114500, "14.7B"),
    Model("mistral-small:24b", "llama", 40, 5120, 32, 8, 128, 32768, 131072, 14333908000, "23.6B"),
    Model("gpt-oss:20b", "gptoss", 24, 2880, 64, 8, 64, 131072, 201088, 13793424000, "20.9B", "MXFP4", 128, 12),
    Model("nomic-embed-text:latest", "nomic-bert", 12, 768, 12, 12, 64, 2048, 30522, 274290656, "137M", "F16", embedding=True),
)
_BY_TAG = {model.tag: model for model in TABLE}


def full_name(name: str) -> str:
    """The name with its tag, as Ollama lists it: `latest` where none is given."""
    return name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"


def look_up(name: str) -> Model:
    """The model of a tag; a tag that is not in the table gets sizes guessed from its `<n>b`, 7b where there is none."""
    tag = full_name(name)
    if tag in _BY_TAG:
        return _BY_TAG[tag]
    if tag.endswith(":latest"):
        family = tag.removesuffix("latest")
        for model in TABLE:
            if model.tag.startswith(family):
                return model
    found = re.search(r"(\d+(?:\.\d+)?)b(?![a-z])", tag)
    billions = float(found.group(1)) if found else 7.0
    embedding = "embed" in tag
    blob = int(billions * 1e9 * BYTES_PER_PARAMETER) if not embedding or found else 300 * MIB
    hidden = 768 if embedding else 4096
    return Model(tag, "llama", 32, hidden, 32, 8, 128, 32768, 128256, blob, f"{billions:g}B", embedding=embedding)
