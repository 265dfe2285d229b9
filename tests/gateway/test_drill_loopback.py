"""`mesh drill` with the real LiteLLM on loopback: green as rendered, red for every mistake that is planted in the config."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import pytest

from mesh.compile.compiler import compile_mesh
from mesh.compile.images import ImageLock
from mesh.compile.library import StackLibrary
from mesh.compile.yamltext import load_compose
from mesh.drill.loopback import Loopback
from mesh.drill.run import Drill, drill
from mesh.paths import INVENTORY, STACKS
from mesh.spec.mesh import Mesh

from .rig import litellm_command

HANG = 6.0


def play(only: str, edit: Callable[[dict[str, Any]], None] | None = None) -> Drill:
    """Drill the reference mesh's cases whose id matches `only`."""
    litellm = litellm_command()
    mesh = Mesh.model_validate(load_compose((INVENTORY / "mesh.yaml").read_text(encoding="utf-8")))
    library = StackLibrary.load(STACKS, INVENTORY, mesh)
    deployment = compile_mesh(mesh, library, ImageLock(), lambda name: hashlib.sha256(name.encode()).hexdigest())
    wanted = re.compile(only)
    taken = lambda each: wanted.search(each) is not None  # noqa: E731
    return drill(mesh, deployment, Loopback(litellm), hang_limit=HANG, seed="test", edit=edit, only=taken)


def red(found: Drill) -> dict[str, str]:
    return {each.id: "; ".join(each.wrong) for each in found.red}


def entry(config: dict[str, Any], group: str) -> dict[str, Any]:
    return next(each for each in config["model_list"] if each["model_name"] == group)


def chain(config: dict[str, Any], route: str) -> list[str]:
    found: list[str] = next(each[route] for each in config["router_settings"]["fallbacks"] if route in each)
    return found


def test_the_rendered_gateway_keeps_every_promise_of_a_chain_and_lets_nothing_out() -> None:
    found = play(r"^(bulk|private|embed)/|^leak/(steering|foreign-routes|headers)/")
    assert red(found) == {}
    assert found.green
    assert len(found.verdicts) > 400


def test_an_added_fallback_of_a_cloud_route_is_red() -> None:
    def mistake(config: dict[str, Any]) -> None:
        chain(config, "fast").append("claude")

    found = red(play(r"^fast/chat/all-down$", mistake))
    assert found["fast/chat/all-down"].startswith("asked fast > llama3.1-8b > claude, not fast > llama3.1-8b")
    assert found["listing"] == "fast falls back to llama3.1-8b > claude, not to llama3.1-8b"


def test_a_cloud_fallback_of_a_private_route_is_red_even_where_the_guard_stops_it() -> None:
    def mistake(config: dict[str, Any]) -> None:
        chain(config, "private").append("claude")

    found = play(r"^private/chat/all-down$", mistake)
    assert red(found)["listing"] == "private falls back to mistral-7b > claude, not to mistral-7b"
    assert all("claude" not in each.asked for each in found.verdicts)


def test_a_lost_guard_is_red() -> None:
    def mistake(config: dict[str, Any]) -> None:
        config["litellm_settings"]["callbacks"] = []
        config["general_settings"].pop("custom_auth")
        config["litellm_settings"].pop("enable_post_custom_auth_checks")

    found = play(r"^leak/(steering|keys)/\d$|^tidy/chat/none$", mistake)
    assert not found.green


@pytest.mark.parametrize(("seconds", "words"), [(600, "at most"), (1, "gave up after")])
def test_a_wrong_timeout_is_red(seconds: int, words: str) -> None:
    def mistake(config: dict[str, Any]) -> None:
        entry(config, "bulk")["litellm_params"] |= {"timeout": seconds, "stream_timeout": seconds}

    assert words in red(play(r"^bulk/chat/(none|hang)$", mistake))["bulk/chat/hang"]


def test_a_retry_before_the_fallback_is_red() -> None:
    def mistake(config: dict[str, Any]) -> None:
        entry(config, "bulk")["litellm_params"]["num_retries"] = 1

    assert red(play(r"^bulk/chat/(none|500)$", mistake))["bulk/chat/500"].startswith("asked bulk > bulk > llama3.1-8b")


def test_a_key_at_the_wrong_provider_is_red() -> None:
    def mistake(config: dict[str, Any]) -> None:
        entry(config, "fast")["litellm_params"]["api_key"] = entry(config, "bulk")["litellm_params"]["api_key"]

    found = play(r"^fast/chat/none$", mistake)
    assert red(found)["fast/chat/none"] == "fast saw the key deepseek_api_key"
