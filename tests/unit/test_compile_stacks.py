"""What the mesh's own stacks make of a spec."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from compiled import compiled, reference, service, stack, text

from mesh.errors import MeshError


def gateway_config(data: dict[str, Any] | None = None) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(text(stack(compiled(data), "litellm"), "gateway/config.yaml"))
    return config


def group(config: dict[str, Any], name: str) -> dict[str, Any]:
    (entry,) = [each for each in config["model_list"] if each["model_name"] == name]
    params: dict[str, Any] = entry["litellm_params"]
    return params


# Ollama


def test_a_host_with_a_card_gives_it_to_ollama() -> None:
    definition = service(compiled(), "ollama").definition
    assert definition["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    ]
    assert definition["environment"]["LLAMA_ARG_FIT_TARGET"] == str(1024 + 500 + 600)
    assert "CUDA_VISIBLE_DEVICES" not in definition["environment"]


@pytest.mark.parametrize("host", ["gpu-box", "vm-docker"])
def test_an_ollama_without_a_card_sees_none_even_beside_one(host: str) -> None:
    data = reference()
    data["providers"]["ollama-cpu"] = {"kind": "ollama", "on": host, "gpu": "none", "port": 11435}
    definition = service(compiled(data), "ollama", of="ollama-cpu").definition
    assert "deploy" not in definition
    assert definition["environment"]["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert definition["environment"]["CUDA_VISIBLE_DEVICES"] == "-1"
    assert definition["ports"][0].endswith(":11435:11434")


def test_a_larger_card_does_not_change_the_context() -> None:
    before = service(compiled(), "ollama").environment["OLLAMA_CONTEXT_LENGTH"]
    data = reference()
    data["hosts"]["gpu-box"]["gpus"] = [{"card": "rtx-3090"}]
    assert service(compiled(data), "ollama").environment["OLLAMA_CONTEXT_LENGTH"] == before == "8192"


def test_embeddings_keep_their_model_loaded_as_declared() -> None:
    assert service(compiled(), "ollama").environment["OLLAMA_KEEP_ALIVE"] == "-1"
    data = reference()
    data["models"]["nomic-embed"]["keep_alive"] = "15m"
    assert service(compiled(data), "ollama").environment["OLLAMA_KEEP_ALIVE"] == "900s"


def test_each_ollama_holds_the_models_that_the_spec_puts_there() -> None:
    data = reference()
    data["providers"]["ollama-cpu"] = {"kind": "ollama", "on": "vm-docker", "gpu": "none"}
    data["models"]["small"] = {"at": "ollama-cpu", "tag": "qwen3:0.6b"}
    hosts = compiled(data).hosts
    (card,), (cpu,) = hosts["gpu-box"].ollamas, hosts["vm-docker"].ollamas
    assert cpu.tags == ("qwen3:0.6b",)
    assert "nomic-embed-text:latest" in card.tags
    assert (card.container, card.url) == ("ollama-ollama-1", "http://192.168.1.20:11434")
    assert (cpu.stack, cpu.container, cpu.url) == ("ollama-cpu", "ollama-cpu-ollama-1", "http://192.168.1.21:11434")


# LiteLLM


def test_there_is_a_group_for_each_route_and_each_fallback_target_and_no_other() -> None:
    data = reference()
    config = gateway_config(data)
    targets = {name for route in data["routes"].values() for name in (*route.get("fallback", ()), *route.get("overflow", ()))}
    assert sorted(each["model_name"] for each in config["model_list"]) == sorted({*data["routes"], *targets})


def test_fallbacks_are_on_routes_only_and_there_is_no_default() -> None:
    data = reference()
    config = gateway_config(data)
    listed = {name: chain for entry in config["router_settings"]["fallbacks"] for name, chain in entry.items()}
    assert listed.keys() <= data["routes"].keys()
    assert listed["bulk"] == ["llama3.1-8b", "claude"]
    assert "default_fallbacks" not in json.dumps(config)
    assert config["router_settings"]["num_retries"] == 0


def test_local_chat_sends_the_declared_context_and_keep_alive() -> None:
    params = group(gateway_config(), "private")
    assert params["model"] == "ollama_chat/llama3.1:8b"
    assert (params["num_ctx"], params["keep_alive"]) == (16384, "1800s")
    assert params["api_base"] == "http://192.168.1.20:11434"


def test_embeddings_take_the_path_that_honours_its_timeout() -> None:
    params = group(gateway_config(), "embed")
    assert params["model"] == "hosted_vllm/nomic-embed-text"
    assert params["api_base"] == "http://192.168.1.20:11434/v1"
    assert params["timeout"] == 120


def test_a_provider_behind_a_stack_is_reached_through_it() -> None:
    data = reference()
    data["providers"]["anthropic"]["base_url"] = "http://10.0.0.9:9000/anthropic/"
    deployment = compiled(data)
    assert group(gateway_config(data), "write")["api_base"] == "http://192.168.1.21:4010"
    assert service(deployment, "caching-proxy").environment["UPSTREAM"] == "http://10.0.0.9:9000/anthropic"


@pytest.mark.parametrize("url", ["http://10.0.0.9:9000/deepseek", "http://10.0.0.9:9000/deepseek/"])
def test_an_own_base_url_never_ends_in_a_slash(url: str) -> None:
    data = reference()
    data["providers"]["deepseek"]["base_url"] = url
    assert group(gateway_config(data), "bulk")["api_base"] == "http://10.0.0.9:9000/deepseek"


def test_prices_are_dollars_a_token_and_local_models_are_free() -> None:
    config = gateway_config()
    claude = group(config, "write")
    assert claude["input_cost_per_token"] == 4e-06
    assert claude["output_cost_per_token"] == 2e-05
    assert claude["cache_read_input_token_cost"] == 2e-07
    assert claude["cache_creation_input_token_cost"] == 5e-06
    assert group(config, "private")["output_cost_per_token"] == 0


def test_keys_are_named_in_the_configuration_and_never_by_a_providers_usual_name() -> None:
    deployment = compiled()
    env = text(stack(deployment, "litellm"), "secrets/env")
    provided = {line.split("=")[0] for line in env.splitlines()}
    config = text(stack(deployment, "litellm"), "gateway/config.yaml")
    asked = {word.removeprefix("os.environ/") for word in config.split() if word.startswith("os.environ/")}
    assert asked <= provided
    assert all(name.startswith("MESH_KEY_") for name in provided)


def test_a_provider_that_no_route_uses_gives_the_gateway_no_key() -> None:
    data = reference()
    data["providers"]["spare"] = {"kind": "openai", "key": "secret:spare_api_key"}
    assert "spare_api_key" not in compiled(data).secret_names


@pytest.mark.parametrize("key", ["fallback", "overflow"])
def test_a_private_route_that_could_leave_the_building_does_not_compile(key: str) -> None:
    data = reference()
    data["routes"]["private"][key] = ["claude"]
    with pytest.raises(MeshError, match="privacy: local"):
        compiled(data)


def test_a_private_route_to_a_cloud_model_does_not_compile() -> None:
    data = reference()
    data["routes"]["private"] = {"to": "claude", "privacy": "local"}
    with pytest.raises(MeshError, match="claude is not in the building"):
        compiled(data)


def test_a_private_route_to_a_tag_of_ollamas_cloud_does_not_compile() -> None:
    data = reference()
    data["models"]["mistral-7b"]["tag"] = "gpt-oss:120b-cloud"
    with pytest.raises(MeshError, match="mistral-7b is not in the building"):
        compiled(data)


def test_a_route_with_the_name_of_a_fallback_target_does_not_compile() -> None:
    data = reference()
    data["routes"]["claude"] = {"to": "claude", "fallback": ["kimi-k2"]}
    with pytest.raises(MeshError, match="route claude has the name of a model"):
        compiled(data)


def test_two_clients_with_one_key_do_not_compile() -> None:
    data = reference()
    data["clients"]["laptop"]["key"] = "secret:client_ocr_key"
    with pytest.raises(MeshError, match="have the same key"):
        compiled(data)


def test_a_client_s_routes_are_its_own_in_the_policy() -> None:
    policy = json.loads(text(stack(compiled(), "litellm"), "gateway/policy.json"))
    limits = {"budget": 5_000_000, "rpm": 60}  # micro-dollars a month, requests a minute
    assert policy["clients"]["ocr"] == {"key": "MESH_KEY_CLIENT_OCR_KEY", "routes": ["bulk", "embed"], **limits}
    assert policy["routes"] == sorted(reference()["routes"])


@pytest.mark.parametrize(("written", "seconds"), [(None, 400 * 86400), ("31d", 31 * 86400), ("48h", 172800), ("forever", None)])
def test_the_ledger_keeps_its_rows_for_as_long_as_the_spec_says(written: str | None, seconds: int | None) -> None:
    data = reference() | ({"ledger": {"keep": written}} if written else {})
    policy = json.loads(text(stack(compiled(data), "litellm"), "gateway/policy.json"))
    assert policy["ledger_keep"] == seconds


@pytest.mark.parametrize("written", ["23h", "0d", "400", 400, "soon"])
def test_a_ledger_that_would_keep_less_than_a_day_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"is not a (day or more|duration)"):
        compiled(reference() | {"ledger": {"keep": written}})


def test_a_mesh_without_a_gateway_expects_none() -> None:
    data = reference()
    del data["stacks"]["litellm"], data["stacks"]["open-webui"]
    assert compiled(data).gateway is None


# Open WebUI


def test_the_chat_page_knows_the_gateway_and_nothing_outside() -> None:
    environment = service(compiled(), "open-webui").environment
    assert environment["OPENAI_API_BASE_URL"] == environment["RAG_OPENAI_API_BASE_URL"] == "http://192.168.1.21:4000/v1"
    assert environment["ENABLE_OLLAMA_API"] == environment["ENABLE_DIRECT_CONNECTIONS"] == "false"
    assert environment["ENABLE_PERSISTENT_CONFIG"] == "false"
    assert environment["ENABLE_SIGNUP"] == "false"
    assert environment["OFFLINE_MODE"] == "true"


def test_titles_and_queries_are_made_by_the_smallest_local_route() -> None:
    assert service(compiled(), "open-webui").environment["TASK_MODEL_EXTERNAL"] == "tidy"
    data = reference()
    del data["routes"]["tidy"]
    for client in data["clients"].values():
        client["routes"] = [name for name in client["routes"] if name != "tidy"]
    assert service(compiled(data), "open-webui").environment["TASK_MODEL_EXTERNAL"] == "private"


@pytest.mark.parametrize(
    ("routes", "what"), [(["bulk", "embed"], "a local chat route"), (["private"], "a local embedding route")]
)
def test_the_chat_page_does_not_compile_without_the_local_routes_it_needs(routes: list[str], what: str) -> None:
    data = reference()
    data["clients"]["open-webui"]["routes"] = routes
    with pytest.raises(MeshError, match=what):
        compiled(data)


def test_the_chat_page_needs_a_client_of_its_name() -> None:
    data = reference()
    del data["clients"]["open-webui"]
    with pytest.raises(MeshError, match="no client has its name"):
        compiled(data)


def test_a_stack_that_another_needs_and_is_not_there_is_named() -> None:
    data = reference()
    del data["stacks"]["qdrant"]
    with pytest.raises(MeshError, match="needs exactly one stack of kind qdrant, and there is none"):
        compiled(data)


def test_stacks_come_up_after_what_they_use() -> None:
    deployment = compiled()
    assert stack(deployment, "litellm").after == ("ollama", "caching-proxy")
    assert stack(deployment, "open-webui").after == ("litellm", "qdrant")
    assert stack(deployment, "ollama").after == ()


def test_stateful_volumes_are_named() -> None:
    deployment = compiled()
    assert {name: stack(deployment, name).volumes for name in ("ollama", "qdrant", "open-webui", "litellm")} == {
        "ollama": ("models",),
        "qdrant": ("storage",),
        "open-webui": ("data",),
        "litellm": ("ledger",),
    }


def test_one_caching_proxy_refuses_two_upstreams() -> None:
    data = reference()
    data["providers"]["other"] = {"kind": "anthropic", "through": "caching-proxy", "base_url": "http://10.0.0.9"}
    with pytest.raises(MeshError, match="different addresses"):
        compiled(data)


# LiteLLM: chains


def _listed(config: dict[str, Any], kind: str) -> dict[str, list[str]]:
    return {name: chain for entry in config["router_settings"][kind] for name, chain in entry.items()}


def test_a_prompt_that_is_too_long_goes_to_models_that_take_more_and_to_no_other() -> None:
    config = gateway_config()
    longer = _listed(config, "context_window_fallbacks")
    assert longer["bulk"] == ["claude"]
    assert "write" not in longer  # Claude takes the most: nobody else could
    assert config["router_settings"]["enable_pre_call_checks"] is True


def test_a_refused_prompt_goes_to_another_provider() -> None:
    data = reference()
    data["routes"]["bulk"]["fallback"] = ["deepseek-r1", "claude"]
    assert _listed(gateway_config(data), "content_policy_fallbacks")["bulk"] == ["claude"]


def test_no_list_of_a_private_route_names_a_cloud_model() -> None:
    config = gateway_config()
    lists = [_listed(config, kind) for kind in ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")]
    assert {target for each in lists for target in each.get("private", ())} <= {"mistral-7b"}


def test_only_what_has_a_fallback_is_left_alone_after_a_limit_or_a_timeout() -> None:
    config = gateway_config()
    rested = {each["model_name"] for each in config["model_list"] if "allowed_fails_policy" in each["model_info"]}
    assert rested == {name for name, chain in _listed(config, "fallbacks").items() if chain}


def test_only_a_remote_model_without_a_fallback_is_tried_again() -> None:
    data = reference()
    data["routes"]["alone"] = {"to": "kimi-k2"}
    config = gateway_config(data)
    assert {each["model_name"] for each in config["model_list"] if each["litellm_params"].get("num_retries")} == {"alone"}


def test_the_first_token_has_a_time_of_its_own() -> None:
    data = reference()
    data["providers"]["groq"]["first_token"] = "4s"
    params = group(gateway_config(data), "fast")
    assert (params["timeout"], params["stream_timeout"]) == (15, 4)


def test_off_peak_prices_are_given_by_the_hour() -> None:
    data = reference()
    data["models"]["deepseek-v3"]["price"] = {
        "in": 0.3,
        "out": 1.2,
        "off_peak": {"windows": ["10:00-01:00"], "weekends": True, "in": 0.15, "out": 0.6},
    }
    (entry,) = [each for each in gateway_config(data)["model_list"] if each["model_name"] == "bulk"]
    assert entry["model_info"]["off_peak_pricing"] == {
        "hours_utc": ["10:00-01:00"],
        "input_cost_per_token": 1.5e-07,
        "output_cost_per_token": 6e-07,
        "windows": [{"hours_utc": ["00:00-00:00"], "weekdays": ["sat", "sun"]}],
    }


def test_the_front_serves_the_paths_of_the_edge_and_no_other() -> None:
    release = stack(compiled(), "litellm")
    front = text(release, "front/haproxy.cfg")
    served = {path for line in front.splitlines() if "acl served path" in line for path in line.split()[3:]}
    posted = re.findall(r'^    "(/[a-z_/]+)": \(_?', text(release, "gateway/mesh_request.py"), re.MULTILINE)
    own = {"/models", "/v1/models", "/health/liveliness", "/mesh/guard", "/mesh/ledger"}
    assert served == {prefix + path for prefix in ("", "/v1") for path in posted} | own


def test_the_front_never_sends_a_request_twice() -> None:
    front = text(stack(compiled(), "litellm"), "front/haproxy.cfg")
    assert "retry-on conn-failure #" in front
    assert "option http-server-close" in front
