"""Cards, footprints, Ollama's predictor, splits: the table of known sizes, and what must hold for every model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.hardware import GIB
from mesh.hardware.cards import cards
from mesh.hardware.footprint import (
    KV_BYTES,
    Budget,
    Verdict,
    batch_size,
    footprint,
    kv_bytes,
    predicted,
    split,
    verdict,
)
from mesh.hardware.models import known_model, known_models

# GiB: total with 4k, with 32k f16, with 32k q8_0; Ollama's prediction for 4k, for 32k. Batches of 512 and 1024.
# The totals are within 0.4 % of what llama.cpp plans (bench/results/vram.md; gemma3 there without its vision tower).
TABLE = {
    "llama3.2:3b": (2.39, 5.58, 3.94, 2.32, 5.38),
    "mistral:7b": (4.62, 8.29, 6.42, 4.57, 8.07),
    "llama3.1:8b": (4.92, 8.60, 6.72, 5.08, 8.58),
    "qwen2.5-coder:7b": (4.43, 6.16, 5.34, 4.58, 6.11),
    "deepseek-r1:7b": (4.43, 6.16, 5.34, 4.58, 6.11),
    "qwen2.5-coder:14b": (8.84, 14.26, 11.45, 9.12, 14.37),
    "deepseek-r1:14b": (8.84, 14.26, 11.45, 9.12, 14.37),
    "qwen2.5-coder:32b": (19.28, 26.54, 22.79, 19.49, 26.49),
    "deepseek-r1:32b": (19.28, 26.54, 22.79, 19.49, 26.49),
    "gemma3:12b": (8.43, 10.52, 9.28, 9.00, 18.84),
    "gemma3:27b": (17.29, 19.91, 18.36, 18.75, 36.55),
    "qwen3:8b": (5.21, 9.31, 7.20, 5.43, 9.37),
    "qwen3:14b": (9.00, 13.57, 11.23, 9.26, 13.64),
    "qwen3:30b-a3b": (17.58, 20.35, 18.94, 17.47, 18.78),
    "phi4:14b": (9.09, 11.60, 10.14, 9.21, 11.56),
    "mistral-small:24b": (13.85, 18.51, 16.17, 14.13, 19.60),
    "gpt-oss:20b": (11.97, 12.79, 12.42, 12.98, 13.90),
}
OLDER = {
    "llama3.2:3b": (2.57, 5.88, 4.24),
    "mistral:7b": (4.57, 8.14, 6.27),
    "llama3.1:8b": (5.06, 8.81, 6.94),
    "qwen2.5-coder:7b": (4.59, 6.42, 5.60),
    "qwen2.5-coder:14b": (9.01, 14.56, 11.75),
    "qwen2.5-coder:32b": (19.38, 26.68, 22.93),
    "gemma3:12b": (8.82, 11.23, 10.00),
    "gemma3:27b": (17.63, 20.54, 18.98),
    "qwen3:8b": (5.40, 9.64, 7.53),
    "qwen3:14b": (9.16, 13.83, 11.49),
    "qwen3:30b-a3b": (17.79, 20.71, 19.30),
    "phi4:14b": (9.14, 11.69, 10.22),
    "mistral-small:24b": (13.88, 18.52, 16.17),
    "gpt-oss:20b": (12.27, 13.32, 12.96),
}
"""The same totals as published for engines that reserve the logits of a whole batch: llama.cpp before PR 23861 (June 2026)."""
ROUNDING = 0.011
MODELS = st.sampled_from(sorted(known_models()))
CONTEXTS = st.integers(256, 300_000)


@pytest.mark.parametrize("tag", TABLE)
def test_the_table_of_known_footprints_comes_out(tag: str) -> None:
    arch = known_models()[tag]
    found = (
        footprint(arch, 4096, ubatch=512).total,
        footprint(arch, 32768, ubatch=1024).total,
        footprint(arch, 32768, kv_type="q8_0", ubatch=1024).total,
        predicted(arch, 4096),
        predicted(arch, 32768),
    )
    assert [count / GIB for count in found] == pytest.approx(TABLE[tag], abs=ROUNDING)


@pytest.mark.parametrize("tag", OLDER)
def test_with_the_compute_buffer_of_older_engines_the_published_table_comes_out(tag: str) -> None:
    def total(context: int, ubatch: int, kv_type: str = "f16") -> float:
        need = footprint(arch, context, kv_type=kv_type, ubatch=ubatch)
        return (need.weights + need.kv + 4 * ubatch * (arch.hidden + arch.vocab)) / GIB

    arch = known_models()[tag]
    assert (total(4096, 512), total(32768, 1024), total(32768, 1024, "q8_0")) == pytest.approx(OLDER[tag], abs=ROUNDING)


def test_llama3_8b_is_what_llama_cpp_logged() -> None:
    """CUDA 4403.49 MiB + CPU 281.81 MiB of weights, 124 MiB of compute buffer, 1024 MiB of cache for 8192 tokens."""
    need = footprint(known_models()["llama3.1:8b"], 8192, ubatch=512)
    assert need.ram / 2**20 == pytest.approx(281.81, abs=0.01)
    assert need.compute / 2**20 == pytest.approx(124.0, abs=0.1)
    assert need.weights / 2**20 == pytest.approx(4403.49, rel=0.003)
    assert need.kv == 2**30


def test_the_cache_of_windows_stops_growing_and_that_of_full_layers_does_not() -> None:
    gemma = known_models()["gemma3:12b"]
    grown = kv_bytes(gemma, 65536) - kv_bytes(gemma, 32768)
    assert grown == 2 * gemma.kv_heads * gemma.head_dim * 2 * gemma.full_layers * 32768


def test_the_predictor_is_blind_to_the_kv_type_and_to_head_sizes_that_the_model_states() -> None:
    gemma = known_models()["gemma3:27b"]
    assert predicted(gemma, 32768) > 1.7 * footprint(gemma, 32768, ubatch=1024).total


def test_embeddings_and_some_families_get_one_slot_whatever_the_server_says() -> None:
    nomic, llama = known_models()["nomic-embed-text"], known_models()["llama3.1:8b"]
    assert footprint(nomic, 2048, 4) == footprint(nomic, 2048, 1)
    next_ = replace(llama, arch="qwen3next")
    assert kv_bytes(next_, 4096, 4) == kv_bytes(next_, 4096, 1)
    assert kv_bytes(llama, 4096, 4) == 4 * kv_bytes(llama, 4096, 1)


def test_an_embedding_model_takes_what_was_seen() -> None:
    """llama.cpp plans 216 MiB of weights without the token table, no cache and 104 MiB of buffers."""
    assert footprint(known_models()["nomic-embed-text"], 2048).total / 2**20 == pytest.approx(320, abs=2)


def test_without_flash_attention_long_contexts_take_gigabytes_more() -> None:
    llama = known_models()["llama3.1:8b"]
    assert footprint(llama, 32768, flash=False, ubatch=512).compute > 2 * GIB > footprint(llama, 32768, ubatch=512).compute


@pytest.mark.parametrize(
    ("context", "free_gib", "flash", "batch"),
    [
        (4096, 24, True, 512),
        (8192, 12, True, 1024),
        (8192, 7, True, 512),
        (65536, 20, True, 1024),
        (65536, 24, True, 2048),
        (8192, 12, False, 512),
        (8192, 8, False, 256),
        (4096, 8, False, 512),
    ],
)
def test_the_batch_is_what_ollama_chooses(context: int, free_gib: int, flash: bool, batch: int) -> None:
    """server/sched.go, automaticGenerationBatch: by context, by 75 or 60 % of what is free, by 80 % with the surcharge."""
    assert batch_size(known_models()["llama3.1:8b"], context, free_gib * GIB, flash=flash) == batch


def test_a_12_gb_card_has_ten_and_a_half_gib_for_one_model() -> None:
    budget = Budget.of([cards()["rtx-4070-ti"]])
    assert budget.room / GIB == pytest.approx(10.5, abs=0.1)
    models = known_models()
    assert verdict(footprint(models["qwen2.5-coder:14b"], 4096).total, budget) is Verdict.FITS
    assert verdict(footprint(models["qwen2.5-coder:14b"], 16384).total, budget) is Verdict.SPILLS
    assert verdict(footprint(models["gpt-oss:20b"], 4096).total, budget) is Verdict.SPILLS


def test_a_32b_fits_a_24_gb_card_at_4k_and_not_at_ollamas_own_default() -> None:
    budget, arch = Budget.of([cards()["rtx-3090"]]), known_models()["qwen2.5-coder:32b"]
    assert verdict(footprint(arch, 4096).total, budget) is Verdict.FITS
    assert verdict(footprint(arch, 32768).total, budget) is Verdict.SPILLS
    assert verdict(footprint(arch, 32768, kv_type="q8_0").total, budget) is Verdict.SPILLS


@pytest.mark.parametrize(("spare", "expected"), [(-1, "SPILLS"), (0, "TIGHT"), (GIB // 2 - 1, "TIGHT"), (GIB // 2, "FITS")])
def test_verdicts_begin_where_they_say(spare: int, expected: str) -> None:
    budget = Budget(12 * GIB)
    assert verdict(budget.room - spare, budget) == expected


def test_reserves_residents_and_every_cards_margin_are_taken_off() -> None:
    card = cards()["rtx-3090"]
    alone = Budget.of([card])
    assert alone.room - Budget.of([card], {"desktop": GIB}, {"nomic": GIB}).room == 2 * GIB
    assert Budget.of([card, card]).room == 2 * alone.room
    assert Budget.of([card], {"desktop": 40 * GIB}).room == 0


@given(tag=MODELS, context=CONTEXTS, more=st.integers(0, 50_000), kind=st.sampled_from(sorted(KV_BYTES)))
def test_more_context_never_takes_less(tag: str, context: int, more: int, kind: str) -> None:
    arch = known_models()[tag]
    assert footprint(arch, context + more, kv_type=kind).total >= footprint(arch, context, kv_type=kind).total
    assert predicted(arch, context + more) >= predicted(arch, context)


@given(tag=MODELS, context=CONTEXTS, slots=st.integers(1, 8))
def test_more_slots_never_take_less_and_coarser_caches_never_more(tag: str, context: int, slots: int) -> None:
    arch = known_models()[tag]
    assert footprint(arch, context, slots + 1).total >= footprint(arch, context, slots).total
    by_kind = [kv_bytes(arch, context, slots, kind) for kind in ("f16", "q8_0", "q4_0")]
    assert by_kind == sorted(by_kind, reverse=True)


@given(tag=MODELS, context=CONTEXTS, room=st.integers(0, 2**36), more=st.integers(0, 2**34))
def test_a_split_accounts_for_every_byte_and_more_room_never_puts_more_into_ram(
    tag: str, context: int, room: int, more: int
) -> None:
    arch = known_models()[tag]
    need = footprint(arch, context)
    one, other = split(arch, need, room), split(arch, need, room + more)
    assert one.gpu_bytes + one.cpu_bytes == need.weights
    assert 0 <= one.experts_cpu <= one.cpu_bytes
    assert 0 <= one.layers_gpu <= arch.layers
    assert other.cpu_bytes <= one.cpu_bytes
    assert one.spills == (need.total > room)


def test_a_mixture_of_experts_gives_up_experts_and_keeps_its_attention() -> None:
    arch = known_models()["qwen3:30b-a3b"]
    placed = split(arch, footprint(arch, 4096), 10 * GIB)
    assert placed.experts_cpu == placed.cpu_bytes > 7 * GIB


def test_every_card_and_model_of_the_catalogue_has_numbers_that_can_be() -> None:
    for card in cards().values():
        assert 4 * GIB <= card.vram_bytes <= 200 * GIB
        assert 2e11 < card.bandwidth_bytes_per_s < 1e13
    for arch in known_models().values():
        assert 0 < arch.table_bytes < arch.blob_bytes
        assert arch.full_layers <= arch.layers
    assert known_model("nomic-embed-text:latest") is known_models()["nomic-embed-text"]
