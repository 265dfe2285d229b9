"""What the spec says is what an Ollama gets: its variables, its cards, and what the engine leaves free."""

from __future__ import annotations

from typing import Any

import pytest
from compiled import compiled, reference, service

MIB = 1024**2


def environment(data: dict[str, Any], of: str = "ollama") -> dict[str, str]:
    found: dict[str, str] = service(compiled(data), "ollama", of=of).definition["environment"]
    return found


def changed(**provider: Any) -> dict[str, Any]:
    data = reference()
    data["providers"]["ollama"] |= provider
    return data


@pytest.mark.parametrize(
    ("provider", "variable", "value"),
    [
        ({}, "OLLAMA_NUM_PARALLEL", "1"),
        ({"parallel": 4}, "OLLAMA_NUM_PARALLEL", "4"),
        ({}, "OLLAMA_KV_CACHE_TYPE", "f16"),
        ({"kv_cache": "q8_0"}, "OLLAMA_KV_CACHE_TYPE", "q8_0"),
        ({}, "OLLAMA_FLASH_ATTENTION", "1"),
        ({"flash_attention": False}, "OLLAMA_FLASH_ATTENTION", "0"),
        ({}, "OLLAMA_MAX_LOADED_MODELS", "2"),
        ({"max_loaded": 5}, "OLLAMA_MAX_LOADED_MODELS", "5"),
        ({}, "OLLAMA_NO_CLOUD", "1"),
        ({"env": {"OLLAMA_DEBUG": "1"}}, "OLLAMA_DEBUG", "1"),
        ({"env": {"OLLAMA_ORIGINS": 'a: "b"\n$c'}}, "OLLAMA_ORIGINS", 'a: "b"\n$c'),
        ({}, "OLLAMA_CONTEXT_LENGTH", "8192"),
        ({}, "OLLAMA_KEEP_ALIVE", "-1"),
    ],
)
def test_a_setting_of_the_spec_reaches_ollama(provider: dict[str, Any], variable: str, value: str) -> None:
    assert environment(changed(**provider))[variable] == value


def test_a_quantised_cache_on_the_processor_brings_flash_attention_and_only_then() -> None:
    assert environment(changed(gpu="none"))["OLLAMA_FLASH_ATTENTION"] == "0"
    assert environment(changed(gpu="none", kv_cache="q8_0"))["OLLAMA_FLASH_ATTENTION"] == "1"


def test_several_cards_are_handed_over_by_number_in_nvidia_smis_order() -> None:
    data = reference()
    data["hosts"]["gpu-box"]["gpus"] = [{"card": "rtx-3090", "reserve": {"desktop": "500MiB"}}, {"card": "rtx-3060-12gb"}]
    definition = service(compiled(data), "ollama").definition
    (device,) = definition["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "device_ids": ["0", "1"], "capabilities": ["gpu"]}
    assert definition["environment"]["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert definition["environment"]["LLAMA_ARG_FIT_TARGET"] == "1524,1024"


def test_reserves_are_kept_free_of_a_model_that_may_spill() -> None:
    assert environment(reference())["LLAMA_ARG_FIT_TARGET"] == str(1024 + 500 + 600)


def test_where_nothing_may_spill_a_reserve_that_is_taken_already_is_not_counted_twice() -> None:
    data = reference()
    del data["models"]["qwen2.5-coder-32b"]
    del data["routes"]["code"]
    for client in data["clients"].values():
        client["routes"] = [route for route in client["routes"] if route != "code"]
    assert environment(data)["LLAMA_ARG_FIT_TARGET"] == "1024"


def test_a_reserve_is_kept_free_only_as_far_as_the_models_that_fit_still_do() -> None:
    data = reference()
    data["models"]["llama3.1-8b"]["context"] = 28672
    target = int(environment(data)["LLAMA_ARG_FIT_TARGET"])
    assert 1024 < target < 1024 + 500 + 600


def test_a_card_that_the_catalogue_does_not_know_gets_margin_and_reserves() -> None:
    data = reference()
    data["hosts"]["gpu-box"]["gpus"] = [{"card": "gtx-1", "reserve": {"desktop": "500MiB"}}]
    assert environment(data)["LLAMA_ARG_FIT_TARGET"] == "1524"
