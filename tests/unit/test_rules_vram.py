"""What fits the cards, what Ollama is told, and who is unloaded for whom: findings and the mends that were computed for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from specs import findings, said

from mesh.findings import Finding, SpecInvalid


def of(found: list[Finding], rule: str) -> list[Finding]:
    return [each for each in found if each.rule == rule]


def test_a_model_that_does_not_fit_is_refused_with_mends_that_fit(tmp_path: Path) -> None:
    overlay = 'models: {big: {at: ollama, tag: "qwen2.5-coder:14b", context: 32768}}'
    (error,) = of(findings(tmp_path, overlay), "vram-exceeded")
    assert error.severity == "error"
    assert error.message == (
        "models.big: with 32768 tokens it takes 14.1 GiB (weights 8.0 GiB, cache 6.0 GiB, buffers 0.1 GiB),"
        " and gpu-box's RTX 4070 Ti has 9.4 GiB for it beside nomic, desktop and the engine's margin"
    )
    assert error.mend.startswith("context: 6912 (the largest that fits); or ")
    assert 'tag: "qwen2.5-coder:7b"' in error.mend
    assert "spill: allowed (about " in error.mend


def test_the_offered_context_fits_and_the_next_does_not(tmp_path: Path) -> None:
    def at(context: int) -> list[Finding]:
        overlay = f'models: {{big: {{at: ollama, tag: "qwen2.5-coder:14b", context: {context}}}}}'
        return of(findings(tmp_path, overlay), "vram-exceeded")

    assert at(6912) == []
    assert at(6912 + 256) != []


def test_a_coarser_cache_is_offered_where_it_is_enough_and_it_is(tmp_path: Path) -> None:
    model = 'models: {big: {at: ollama, tag: "qwen2.5-coder:14b", context: 8192}}'
    (error,) = of(findings(tmp_path, model), "vram-exceeded")
    assert "kv_cache: q8_0 on providers.ollama" in error.mend
    assert of(findings(tmp_path, f"{model}\nproviders: {{ollama: {{kv_cache: q8_0}}}}"), "vram-exceeded") == []


def test_a_lane_without_a_card_is_offered_by_name_where_there_is_one(tmp_path: Path) -> None:
    overlay = (
        "providers: {batch: {kind: ollama, on: vm-docker, gpu: none}}\n"
        'models: {big: {at: ollama, tag: "qwen2.5-coder:32b", context: 4096}}'
    )
    (error,) = of(findings(tmp_path, overlay), "vram-exceeded")
    assert "at: batch (on the processor, about 2." in error.mend
    overlay = 'hosts: {vm-docker: {ram: 64GiB}}\nmodels: {big: {at: ollama, tag: "qwen2.5-coder:32b", context: 4096}}'
    (error,) = of(findings(tmp_path, overlay), "vram-exceeded")
    assert "add providers.ollama-cpu: {kind: ollama, on: vm-docker, port: 11435, gpu: none}" in error.mend


def test_a_model_that_may_spill_passes_and_its_speed_is_said(tmp_path: Path) -> None:
    overlay = 'models: {big: {at: ollama, tag: "qwen2.5-coder:32b", context: 4096, spill: allowed}}'
    (notice,) = findings(tmp_path, overlay)
    assert (notice.rule, notice.severity) == ("vram-spill", "notice")
    assert "of 64 layers stay on the card, about 3.9 tok/s (3.5 to 4.3); loading it unloads nomic" in notice.message
    assert notice.mend == "nothing, if slow is good enough; a card of 24.0 GiB would hold it"


def test_residents_count_all_and_others_only_the_largest(tmp_path: Path) -> None:
    apart = "models: {a: {at: ollama, tag: x, weights: 8GiB}, b: {at: ollama, tag: y, weights: 8GiB}}"
    assert of(findings(tmp_path, f"{apart}"), "vram-exceeded") == []
    both = "models: {a: {at: ollama, tag: x, weights: 6GiB, resident: true}, b: {at: ollama, tag: y, weights: 6GiB}}"
    assert [each.path[1] for each in of(findings(tmp_path, both), "vram-exceeded")] == ["llama", "mistral", "b"]


def test_two_ollamas_of_one_card_are_counted_together(tmp_path: Path) -> None:
    overlay = (
        "providers: {second: {kind: ollama, on: gpu-box, port: 11500}}\n"
        'models: {other: {at: second, tag: "qwen3:8b", context: 4096}}'
    )
    assert {each.path[1] for each in of(findings(tmp_path, overlay), "vram-exceeded")} == {"llama", "mistral", "other"}


def test_a_model_with_little_to_spare_is_warned_of_with_the_context_that_leaves_more(tmp_path: Path) -> None:
    overlay = 'models: {big: {at: ollama, tag: "qwen2.5-coder:14b", context: 6144}}'
    (warning,) = of(findings(tmp_path, overlay), "vram-tight")
    assert warning.severity == "warning"
    assert "0.2 GiB less than gpu-box's RTX 4070 Ti has for it; the prediction is right within 0.3 GiB" in warning.message
    assert warning.mend == "context: 4096 leaves half a GiB"
    assert of(findings(tmp_path, overlay.replace("6144", "4096")), "vram-tight") == []


def test_a_model_whose_size_nobody_knows_is_warned_of_unless_the_spec_says_it(tmp_path: Path) -> None:
    unknown = "models: {odd: {at: ollama, tag: odd, context: 4096}}"
    assert said(findings(tmp_path, unknown)) == [
        "2: warning[model-size-unknown]: models.odd: the size of `odd` is not known, so VRAM is summed without it"
        " | `mesh fit --describe ollama:odd` prints what to add; or add weights: 4.9GB, as `ollama list` shows"
    ]
    assert findings(tmp_path, "models: {odd: {at: ollama, tag: odd, context: 4096, weights: 1GB}}") == []


def test_a_strangers_cache_is_counted_by_the_numbers_that_the_spec_gives(tmp_path: Path) -> None:
    block = "architecture: {layers: 64, hidden: 8192, heads: 64, vocab: 128000}"
    overlay = f"models: {{odd: {{at: ollama, tag: odd, context: 8192, weights: 6GB, {block}}}}}"
    (error,) = of(findings(tmp_path, overlay), "vram-exceeded")
    assert "cache 16.0 GiB" in error.message


def test_numbers_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    block = "architecture: {layers: 32, hidden: 4096, heads: 32, kv_heads: 64}"
    overlay = f"models: {{odd: {{at: ollama, tag: odd, context: 4096, weights: 1GB, {block}}}}}"
    (error,) = of(findings(tmp_path, overlay), "model-numbers")
    assert error.message == "models.odd: kv_heads 64 are more than heads 32"


def test_kv_heads_by_layer_are_counted_as_they_are(tmp_path: Path) -> None:
    """Half of 64 layers have no cache, and half of the others as many heads as before: a quarter of 16 GiB, and an eighth."""
    block = f"architecture: {{layers: 64, hidden: 8192, heads: 64, vocab: 128000, kv_heads: {[0, 64, 0, 32] * 16}}}"
    overlay = f"models: {{odd: {{at: ollama, tag: odd, context: 8192, weights: 6GB, {block}}}}}"
    (error,) = of(findings(tmp_path, overlay), "vram-exceeded")
    assert "cache 6.0 GiB" in error.message


@pytest.mark.parametrize(
    ("heads", "says"),
    [
        ("[8, 8]", "models.odd: kv_heads lists 2 layers, and there are 32"),
        (str([8, 64] * 16), "models.odd: kv_heads lists 64, which are more than heads 32"),
    ],
)
def test_kv_heads_by_layer_that_contradict_the_model_are_refused(tmp_path: Path, heads: str, says: str) -> None:
    block = f"architecture: {{layers: 32, hidden: 4096, heads: 32, kv_heads: {heads}}}"
    overlay = f"models: {{odd: {{at: ollama, tag: odd, context: 4096, weights: 1GB, {block}}}}}"
    (error,) = of(findings(tmp_path, overlay), "model-numbers")
    assert error.message == says


@pytest.mark.parametrize("heads", ["0", "[]", "[0, 0]", "[8, many]", "-1", "8.5", "true", "[99999999]"])
def test_kv_heads_that_cannot_be_are_refused_with_an_example(tmp_path: Path, heads: str) -> None:
    overlay = f"models: {{odd: {{at: ollama, tag: odd, weights: 1GB, architecture: {{kv_heads: {heads}}}}}}}"
    with pytest.raises(SpecInvalid) as caught:
        findings(tmp_path, overlay)
    (error,) = caught.value.findings
    assert "is not a number of KV heads" in error.message
    assert "one for every layer" in error.mend


def test_an_ollama_without_a_gpu_takes_no_part_in_the_sum(tmp_path: Path) -> None:
    batch = "providers: {batch: {kind: ollama, on: gpu-box, port: 11435, gpu: none}}"
    assert findings(tmp_path, f'{batch}\nmodels: {{big: {{at: batch, tag: "qwen3:30b-a3b", context: 4096}}}}') == []


def test_a_larger_card_never_makes_a_context_grow_by_itself(tmp_path: Path) -> None:
    """Ollama's own default is 4096 tokens below 23 GiB of VRAM and 32768 from there: the 32B would spill on the larger card."""
    models = 'big: {at: ollama, tag: "qwen2.5-coder:32b"}, llama: {context: 8192}, mistral: {context: 8192}'
    overlay = f"hosts: {{gpu-box: {{gpus: [{{card: rtx-3090}}]}}}}\nmodels: {{{models}}}"
    found = findings(tmp_path, overlay)
    assert of(found, "vram-exceeded") == []
    (notice,) = of(found, "context-default")
    assert notice.message == "models.big: it has no `context`, and is counted and run with 8192 tokens"
    explicit = overlay.replace('"qwen2.5-coder:32b"', '"qwen2.5-coder:32b", context: 32768')
    assert of(findings(tmp_path, explicit), "vram-exceeded") != []


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        (
            "models: {mistral: {context: 65536}}",
            "2: error[context-exceeds-model]: models.mistral: `mistral:7b` has at most 32768 tokens of context, not 65536"
            " (from the catalogue) | write context: 32768",
        ),
        (
            'models: {again: {at: ollama, tag: "mistral:7b", context: 8192}}',
            "2: error[context-differs]: models.again: `mistral:7b` has 8192 tokens here and 16384 tokens in models.mistral:"
            " ollama would load it anew at every switch | write context: 16384 for both, or use mistral in the routes",
        ),
        (
            "hosts: {gpu-box: {gpus: [{card: rtx-4070-ti, reserve: {desktop: 500GiB}}]}}",
            "2: error[card-reserve]: hosts.gpu-box: 500.0 GiB of RTX 4070 Ti are reserved for others, and it has 12.0 GiB"
            " | did you mean desktop: 500MiB?",
        ),
        (
            "providers: {ollama: {kv_cache: q8_0, flash_attention: false}}",
            "2: error[ollama-kv-cache]: providers.ollama: kv_cache: q8_0 needs flash attention, which is off"
            " | write flash_attention: true, or kv_cache: f16",
        ),
        (
            'providers: {ollama: {env: {OLLAMA_NEW_ENGINE: "1"}}}',
            "2: error[ollama-variable]: providers.ollama: OLLAMA_NEW_ENGINE does nothing: Ollama reads it no more since 0.30"
            " | remove it",
        ),
        (
            'providers: {ollama: {env: {OLLAMA_GPU_OVERHEAD: "524288000"}}}',
            "2: error[ollama-variable]: providers.ollama: OLLAMA_GPU_OVERHEAD does nothing: since Ollama 0.30 it keeps nothing"
            " free: it is not handed on to the runner"
            " | remove it; what others need is hosts.gpu-box.gpus[].reserve, as in reserve: {desktop: 500MiB}",
        ),
        (
            'providers: {ollama: {env: {OLLAMA_CONTEXT_LENGTH: "8192"}}}',
            "2: error[ollama-variable]: providers.ollama: OLLAMA_CONTEXT_LENGTH is written from the spec,"
            " and would be there twice | remove it; what decides it is `models.*.context`",
        ),
    ],
)
def test_what_the_engine_would_not_do_is_refused(tmp_path: Path, overlay: str, expected: str) -> None:
    assert expected in said(findings(tmp_path, overlay))


@pytest.mark.parametrize("variable", ["OLLAMA_MULTIUSER_CACHE", "OLLAMA_NEW_ESTIMATES", "OLLAMA_MAX_VRAM"])
def test_variables_that_ollama_reads_no_more_are_refused(tmp_path: Path, variable: str) -> None:
    found = findings(tmp_path, f'providers: {{ollama: {{env: {{{variable}: "1"}}}}}}')
    assert [each.rule for each in found] == ["ollama-variable"]


def test_other_variables_of_ollama_are_the_operators(tmp_path: Path) -> None:
    assert findings(tmp_path, 'providers: {ollama: {env: {OLLAMA_DEBUG: "1"}}}') == []


def test_two_routes_that_evict_each_other_are_named_and_the_mend_ends_it(tmp_path: Path) -> None:
    overlay = "routes: {quick: {to: mistral}}"
    (warning,) = findings(tmp_path, overlay)
    assert warning.rule == "vram-thrash"
    assert "routes private (llama) and quick (mistral) evict each other" in warning.message
    large = "models: {mistral: {tag: 'phi4:14b', context: 4096}}"
    (hopeless,) = of(findings(tmp_path, f"{overlay}\n{large}"), "vram-thrash")
    assert "no context keeps both loaded" in hopeless.mend
    small = 'models: {mistral: {tag: "llama3.2:3b"}}'
    (warning,) = findings(tmp_path, f"{overlay}\n{small}")
    assert warning.mend == (
        "both stay loaded with max_loaded: 3 on providers.ollama and context: 8192 for llama and context: 8192 for mistral"
    )
    mended = (
        "providers: {ollama: {max_loaded: 3}}\nmodels: {mistral: {tag: 'llama3.2:3b', context: 8192}, llama: {context: 8192}}"
    )
    mended += f"\n{overlay}"
    assert findings(tmp_path, mended) == []


def test_a_resident_that_the_crude_predictor_unloads_is_named(tmp_path: Path) -> None:
    """gemma3:12b at 16k takes 9 GiB of the 24, and Ollama believes 13 and a half."""
    overlay = (
        'hosts: {gpu-box: {gpus: [{card: rtx-4060-ti-16gb}]}}\nmodels: {wide: {at: ollama, tag: "gemma3:12b", context: 16384}}'
    )
    (warning,) = of(findings(tmp_path, overlay), "vram-resident-evicted")
    assert "models.wide: loading it unloads nomic, which is resident: Ollama believes that it takes 13." in warning.message
    assert warning.mend.startswith("write context: 8192, or ")
    assert of(findings(tmp_path, overlay.replace("16384", "8192")), "vram-resident-evicted") == []


@pytest.mark.parametrize("size", ["12 gb", "12G", "12Gb", "12g"])
def test_a_unit_that_could_mean_two_things_is_refused_with_both(tmp_path: Path, size: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        findings(tmp_path, f"hosts: {{gpu-box: {{ram: {size}}}}}")
    assert caught.value.mend == "write 12GiB (12884901888 bytes) or 12GB (12000000000 bytes)"


def test_gib_and_gb_are_both_accepted_and_differ(tmp_path: Path) -> None:
    def refused(reserve: str) -> bool:
        overlay = f"hosts: {{gpu-box: {{gpus: [{{card: rtx-4070-ti, reserve: {{desktop: {reserve}}}}}]}}}}"
        return bool(of(findings(tmp_path, overlay), "card-reserve"))

    assert not refused("12GB")
    assert refused("12GiB")


def test_a_hostile_number_of_models_is_still_answered(tmp_path: Path) -> None:
    many = ", ".join(f"m{n}: {{at: ollama, tag: x{n}, weights: 8GiB, context: 4096, resident: true}}" for n in range(400))
    assert len(of(findings(tmp_path, f"models: {{{many}}}"), "vram-exceeded")) >= 399


def test_a_model_that_one_card_cannot_hold_fits_two(tmp_path: Path) -> None:
    model = 'models: {big: {at: ollama, tag: "mistral-small:24b", context: 4096}}'
    assert of(findings(tmp_path, model), "vram-exceeded") != []
    two = "hosts: {gpu-box: {gpus: [{card: rtx-4070-ti, reserve: {desktop: 500MiB}}, {card: rtx-3060-12gb}]}}"
    assert of(findings(tmp_path, f"{two}\n{model}"), "vram-exceeded") == []


def test_a_lane_without_a_card_needs_the_ram(tmp_path: Path) -> None:
    batch = "providers: {batch: {kind: ollama, on: vm-docker, gpu: none}}\nhosts: {vm-docker: {ram: 16GiB}}"
    (warning,) = findings(tmp_path, f'{batch}\nmodels: {{big: {{at: batch, tag: "qwen2.5-coder:32b", context: 4096}}}}')
    assert warning.rule == "ram-exceeded"
    assert warning.message == "models.big: its 18.5 GiB are more than three quarters of vm-docker's 16.0 GiB"


def refused(folder: Path, overlay: str) -> Finding:
    with pytest.raises(SpecInvalid) as caught:
        findings(folder, overlay)
    (error,) = caught.value.findings
    return error


@pytest.mark.parametrize(
    ("written", "mend"),
    [
        ("NVIDIA GeForce RTX 4070 Ti", "write `rtx-4070-ti`: lower case, with dashes"),
        ("RTX 2060", "write `rtx-2060-6gb` or `rtx-2060-12gb`: lower case, with dashes"),
        ("My Card 9000", "write `my-card-9000`: lower case, with dashes"),
    ],
)
def test_a_card_written_as_nvidia_smi_does_is_refused_with_its_name_here(tmp_path: Path, written: str, mend: str) -> None:
    error = refused(tmp_path, f"hosts: {{gpu-box: {{gpus: [{{card: {written}}}]}}}}")
    assert f"`{written}` is not a card's name in the catalogue" in error.message
    assert error.mend == mend


@pytest.mark.parametrize(
    ("written", "mend"), [("rtx-3080", "`rtx-3080-10gb`"), ("rtx-2060", "`rtx-2060-6gb` or `rtx-2060-12gb`")]
)
def test_a_card_without_its_size_is_its_sisters_and_not_another_number(tmp_path: Path, written: str, mend: str) -> None:
    (error,) = of(findings(tmp_path, f"hosts: {{gpu-box: {{gpus: [{{card: {written}}}]}}}}"), "card-unknown")
    assert error.mend == f"did you mean {mend}?"


@pytest.mark.parametrize(("size", "mend"), [("500GiB", "500MiB?"), ("500GB", "500MB?"), ("13GB", "write less")])
def test_a_reserve_larger_than_the_card_is_a_mistaken_unit_where_that_is_likely(tmp_path: Path, size: str, mend: str) -> None:
    overlay = f"hosts: {{gpu-box: {{gpus: [{{card: rtx-4070-ti, reserve: {{desktop: {size}}}}}]}}}}"
    (error,) = of(findings(tmp_path, overlay), "card-reserve")
    assert error.mend.endswith(mend)


def test_a_context_with_a_k_is_refused_with_both_readings(tmp_path: Path) -> None:
    error = refused(tmp_path, "models: {mistral: {context: 16k}}")
    assert (error.message, error.mend) == (
        "models.mistral.context: `16k` is not a number of tokens",
        "write 16384 (or 16000, if that was meant)",
    )


def test_a_variable_that_cannot_be_one_is_refused_with_its_pattern(tmp_path: Path) -> None:
    error = refused(tmp_path, 'providers: {ollama: {env: {ollama_debug: "1"}}}')
    assert error.message == "providers.ollama.env.ollama_debug is not a name that can be used"
    assert "[A-Z]" in error.mend


def test_a_mistyped_tag_is_asked_about(tmp_path: Path) -> None:
    (warning,) = of(findings(tmp_path, 'models: {llama: {tag: "lama3.1:8b"}}'), "model-size-unknown")
    assert warning.mend.startswith("did you mean `llama3.1:8b`?")


def test_the_resident_that_is_in_the_way_is_named_and_without_it_the_model_fits(tmp_path: Path) -> None:
    overlay = "models: {mistral: {resident: true, context: 32768}, llama: {context: 16384}, nomic: {resident: true}}"
    (error,) = [each for each in of(findings(tmp_path, overlay), "vram-exceeded") if "models.llama:" in each.message]
    assert "resident: false for mistral" in error.mend
    assert of(findings(tmp_path, overlay.replace("mistral: {resident: true, ", "mistral: {")), "vram-exceeded") == []


def test_what_the_hosts_ram_does_not_hold_either_is_not_offered_to_spill(tmp_path: Path) -> None:
    overlay = "hosts: {gpu-box: {ram: 64GiB}}\nmodels: {odd: {at: ollama, tag: odd, context: 4096, weights: 4TB}}"
    (error,) = of(findings(tmp_path, overlay), "vram-exceeded")
    assert "spill" not in error.mend
