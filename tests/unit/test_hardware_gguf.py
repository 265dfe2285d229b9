"""GGUF headers and /api/show: what they say, and that one that lies costs an error and neither memory nor time."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.errors import MeshError
from mesh.hardware.gguf import MOST_HEADER, GgufError, Reader, file_reader, from_gguf, read_header
from mesh.hardware.metadata import ArchitectureError
from mesh.hardware.models import Architecture, from_show, from_spec, known_model

F32, F16, Q4_K, Q6_K = 0, 1, 12, 14
LLAMA: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.embedding_length": 512,
    "llama.attention.head_count": 8,
    "llama.attention.head_count_kv": 2,
    "llama.context_length": 8192,
    "tokenizer.ggml.tokens": [f"t{n}" for n in range(1024)],
}
TENSORS = [
    ("token_embd.weight", (512, 1024), Q4_K),
    ("blk.0.attn_q.weight", (512, 512), Q4_K),
    ("blk.1.attn_q.weight", (512, 512), Q6_K),
    ("output.weight", (512, 1024), Q6_K),
]


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(item: Any) -> bytes:
    if isinstance(item, bool):
        return struct.pack("<I?", 7, item)
    if isinstance(item, int):
        return struct.pack("<II", 4, item)
    if isinstance(item, str):
        return struct.pack("<I", 8) + text(item)
    kind, body = (8, b"".join(map(text, item))) if isinstance(item[0], str) else (4, struct.pack(f"<{len(item)}I", *item))
    return struct.pack("<IIQ", 9, kind, len(item)) + body


def gguf(metadata: dict[str, Any] = LLAMA, tensors: list[tuple[str, tuple[int, ...], int]] = TENSORS) -> bytes:
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    parts += [text(key) + value(item) for key, item in metadata.items()]
    for name, shape, kind in tensors:
        parts.append(text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, 0))
    return b"".join(parts)


def reader(data: bytes) -> Reader:
    return lambda offset, length: data[offset : offset + length]


def read(data: bytes) -> Architecture:
    return from_gguf(reader(data), "mine", "mine.gguf")


def test_a_header_says_what_the_model_is() -> None:
    arch = read(gguf())
    assert (arch.arch, arch.layers, arch.hidden, arch.heads, arch.kv_heads) == ("llama", 2, 512, 8, 2)
    assert (arch.head_dim, arch.max_context, arch.vocab) == (64, 8192, 1024)
    assert arch.table_bytes == 512 * 1024 // 256 * 144
    assert not arch.tied
    assert arch.quant == "Q6_K"
    assert arch.source == "the GGUF header"


def test_a_file_without_an_output_layer_has_tied_embeddings() -> None:
    assert read(gguf(tensors=TENSORS[:-1])).tied


def test_experts_are_counted_by_their_tensors() -> None:
    metadata = LLAMA | {"llama.expert_count": 8, "llama.expert_used_count": 2}
    arch = read(gguf(metadata, [*TENSORS, ("blk.0.ffn_gate_exps.weight", (512, 512, 8), Q4_K)]))
    experts = 512 * 512 * 8 // 256 * 144
    dense = 512 * 512 // 256 * (144 + 210) + 512 * 1024 // 256 * 210
    assert arch.active_bytes == dense + experts * 2 // 8


def test_head_sizes_windows_and_kv_heads_by_layer_are_taken_as_stated() -> None:
    metadata = LLAMA | {
        "llama.attention.key_length": 128,
        "llama.attention.head_count_kv": [2, 4],
        "llama.attention.sliding_window": 256,
        "llama.attention.sliding_window_pattern": [1, 0],
    }
    arch = read(gguf(metadata))
    assert (arch.head_dim, arch.kv_heads, arch.kv_heads_sum) == (128, 2, 6)
    assert (arch.attention, arch.window, arch.full_layers) == ("swa", 256, 1)


def test_a_local_file_is_read_and_only_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf() + b"\0" * 10_000_000)
    asked: list[tuple[int, int]] = []
    local = file_reader(path)

    def counting(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return local(offset, length)

    assert from_gguf(counting, "mine").layers == 2
    assert sum(length for _, length in asked) <= 2 * 2**20


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match="cannot be read") as caught:
        read_header(file_reader(tmp_path / "none.gguf"))
    assert caught.value.where.endswith("none.gguf")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "the file ends within its header"),
        (b"GGML" + b"\0" * 40, "it does not begin with GGUF"),
        (b"<!DOCTYPE html><html>" * 10, "it does not begin with GGUF"),
        (b"GGUF" + struct.pack("<I", 1) + b"\0" * 40, "it has version 1"),
        (b"GGUF" + struct.pack(">I", 3) + b"\0" * 40, "little-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 1), "it claims 1152921504606846976 tensors"),
        (b"GGUF" + struct.pack("<Iqq", 3, -1, 1), "it claims -1 tensors"),
        (b"GGUF" + struct.pack("<Iqq", 3, 1, -5), "it claims -5 keys"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62), "bytes in a key"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IQ", 8, 2**40), "bytes in a text"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<I", 77), "the unknown type 77"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 4, 2**50), "elements in an array"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9, "nested"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("t") + struct.pack("<I", 99), "99 dimensions"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("t") + struct.pack("<IqIQ", 1, -7, 0, 0), "it claims -7 elements"),
        (gguf(tensors=[("t", (2**40, 2**40), F32)]), "claims"),
        (gguf(tensors=[("t", (1,), 200)]), "the unknown type 200"),
        (gguf()[:-3], "the file ends within its header"),
    ],
)
def test_a_header_that_lies_is_an_error_that_says_so(data: bytes, why: str) -> None:
    with pytest.raises(GgufError) as caught:
        read(data)
    assert why in str(caught.value)
    assert caught.value.mend


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"general.architecture": 3}, "general.architecture"),
        ({"llama.block_count": 0}, "llama.block_count is 0"),
        ({"llama.block_count": 2**31}, "llama.block_count"),
        ({"llama.embedding_length": "wide"}, "llama.embedding_length is wide"),
        ({"llama.attention.head_count": True}, "llama.attention.head_count"),
        ({"llama.context_length": 0}, "llama.context_length"),
    ],
)
def test_metadata_that_makes_no_model_names_the_key(change: dict[str, Any], key: str) -> None:
    with pytest.raises(ArchitectureError) as caught:
        read(gguf(LLAMA | change))
    assert key in str(caught.value)


def test_a_header_never_costs_more_than_its_bound() -> None:
    asked = 0

    def endless(offset: int, length: int) -> bytes:
        nonlocal asked
        asked += length
        start = b"GGUF" + struct.pack("<IQQ", 3, 0, 4096)
        entry = text("k" * 60_000) + struct.pack("<IB", 0, 1)
        return (start + entry * 1200)[offset : offset + length] if offset < MOST_HEADER else b""

    with pytest.raises(GgufError, match="more than 64 MiB"):
        read_header(endless)
    assert asked <= MOST_HEADER


@given(st.binary(max_size=400))
def test_any_bytes_are_an_architecture_or_an_error_for_the_operator(data: bytes) -> None:
    for start in (b"", b"GGUF\x03\0\0\0"):
        with pytest.raises(MeshError):
            read(start + data)


@settings(max_examples=300)
@given(data=st.data())
def test_a_header_with_bytes_changed_is_an_architecture_or_an_error_for_the_operator(data: st.DataObject) -> None:
    broken = bytearray(gguf(LLAMA | {"tokenizer.ggml.tokens": ["a", "b"]}))
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read(bytes(broken[: data.draw(st.integers(len(broken) // 2, len(broken)))]))
    except MeshError:
        return
    assert found.layers > 0


SHOW: dict[str, Any] = {
    "details": {"quantization_level": "Q4_K_M"},
    "model_info": {
        "general.architecture": "gemma3",
        "gemma3.block_count": 48,
        "gemma3.embedding_length": 3840,
        "gemma3.attention.head_count": 16,
        "gemma3.attention.head_count_kv": 8,
        "gemma3.attention.key_length": 256,
        "gemma3.attention.value_length": 256,
        "gemma3.attention.sliding_window": 1024,
        "gemma3.context_length": 131072,
        "gemma3.vocab_size": 262145,
        "tokenizer.ggml.tokens": None,
    },
}


def test_a_live_ollama_says_the_same_as_the_catalogue() -> None:
    known = known_model("gemma3:12b")
    assert known is not None
    live = from_show("gemma3:12b", SHOW, known.blob_bytes)
    assert (live.head_dim, live.window, live.full_layers) == (known.head_dim, known.window, known.full_layers)
    assert live.tied == known.tied
    assert live.source == "the live Ollama"


def test_tensors_that_a_live_ollama_lists_are_counted() -> None:
    tensors = [{"name": "token_embd.weight", "type": "Q6_K", "shape": [3840, 262144]}]
    live = from_show("gemma3:12b", SHOW | {"tensors": tensors}, 8_149_180_896)
    assert live.tied
    assert live.table_bytes == 3840 * 262144 // 256 * 210
    untied = [*tensors, {"name": "output.weight", "type": "F16", "shape": [3840, 262144]}]
    assert not from_show("gemma3:12b", SHOW | {"tensors": untied}, 8_149_180_896).tied
    for wrong in ([{}], [{"name": "token_embd.weight", "type": "X", "shape": [1]}], "none", [{"name": "a", "shape": [-1]}]):
        assert from_show("gemma3:12b", SHOW | {"tensors": wrong}, 8_149_180_896).tied


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_any_answer_of_api_show_is_an_architecture_or_an_error_for_the_operator(answer: Any) -> None:
    with pytest.raises(MeshError):
        from_show("x", {"model_info": answer}, 10**9)


@given(key=st.sampled_from(sorted(SHOW["model_info"])), wrong=st.none() | st.integers() | st.text() | st.lists(st.integers()))
def test_one_wrong_key_of_api_show_is_an_architecture_or_an_error_for_the_operator(key: str, wrong: Any) -> None:
    try:
        found = from_show("x", {"model_info": SHOW["model_info"] | {key: wrong}}, 10**9)
    except MeshError:
        return
    assert found.layers > 0
    assert found.head_dim > 0


def test_the_spec_wins_over_everything_and_says_so() -> None:
    known = known_model("llama3.1:8b")
    found = from_spec("llama3.1:8b", known, weights=6 * 10**9, numbers={"max_context": 4096})
    assert found is not None
    assert known is not None
    assert (found.blob_bytes, found.max_context, found.layers) == (6 * 10**9, 4096, known.layers)
    assert found.source == "the spec"
    assert from_spec("llama3.1:8b", known) is known
    assert from_spec("stranger", None) is None
