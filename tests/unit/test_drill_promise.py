"""What the drill promises for each case follows from the spec alone; what it makes of an outcome follows from the promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from drillkit import reference, stage

from mesh.compile.yamltext import load_compose
from mesh.doubles.staged import parse_mark
from mesh.drill.cases import Case, cases
from mesh.drill.container import Containers
from mesh.drill.leaks import leaks
from mesh.drill.promise import promise
from mesh.drill.script import script
from mesh.drill.stage import build_stage
from mesh.drill.verdict import judge_case, judge_leak, judge_unmarked
from mesh.paths import INVENTORY
from mesh.spec.mesh import Mesh


def case(wanted: str) -> Case:
    return next(each for each in cases(reference()[0]) if each.id == wanted)


def outcome(*asked: str, **more: Any) -> dict[str, Any]:
    calls = [{"group": each, "fault": "none", "seen": []} for each in asked]
    came = {"status": 200, "ended": "whole", "tokens": 0, "text": "hello", "headers": {}, "seconds": 0.1, "calls": calls}
    return {**came, **more}


@pytest.mark.parametrize(
    ("wanted", "asked", "model", "ending"),
    [
        ("bulk/chat/none", ("bulk",), "deepseek-v3", "whole"),
        ("bulk/chat/500", ("bulk", "llama3.1-8b"), "llama3.1-8b", "whole"),
        ("bulk/chat/429-retry-after", ("bulk", "llama3.1-8b"), "llama3.1-8b", "whole"),
        ("bulk/chat/first-2-refused", ("bulk", "llama3.1-8b", "claude"), "claude", "whole"),
        ("bulk/chat/all-down", ("bulk", "llama3.1-8b", "claude"), None, "error"),
        ("bulk/chat/context-too-long", ("bulk", "claude"), "claude", "whole"),  # llama's context is smaller
        ("write/chat/context-too-long", ("write",), None, "error"),  # nobody takes more than Claude
        ("bulk/chat-stream/cut-at-once", ("bulk", "llama3.1-8b"), "llama3.1-8b", "whole"),
        ("bulk/chat-stream/cut-after-ten", ("bulk",), None, "broken"),
        ("bulk/chat/cut-after-ten", ("bulk", "llama3.1-8b"), "llama3.1-8b", "whole"),
        ("private/chat/all-down", ("private", "mistral-7b"), None, "error"),
        ("tidy/messages/500", ("tidy",), None, "error"),
        ("embed/embeddings/500", ("embed",), None, "error"),
    ],
)
def test_a_case_is_promised_what_the_spec_says(wanted: str, asked: tuple[str, ...], model: str | None, ending: str) -> None:
    said = promise(reference()[0], case(wanted), {})
    assert (said.asked, said.model, said.ending) == (asked, model, ending)


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [("500", 2), ("429-retry-after", 2), ("401", 1), ("hang", 2), ("context-too-long", 1), ("none", 1)],
)
def test_a_cloud_route_without_a_fallback_is_promised_one_more_try_of_what_may_pass(wanted: str, asked: int) -> None:
    data = load_compose((INVENTORY / "mesh.yaml").read_text(encoding="utf-8"))
    data["routes"]["solo"] = {"to": "claude"}
    mesh = Mesh.model_validate(data)
    found = next(each for each in cases(mesh) if each.id == f"solo/chat/{wanted}")
    assert promise(mesh, found, {}).asked == ("solo",) * asked


def test_no_case_of_a_private_route_is_promised_a_model_outside_the_building() -> None:
    mesh, _ = reference()
    local = {each.group for each in stage().entries if each.local}
    private = [each for each in cases(mesh) if mesh.routes[each.route].privacy == "local"]
    assert private
    assert all(set(promise(mesh, each, {}).asked) <= local for each in private)


def test_a_hang_is_promised_the_patience_of_the_spec_and_no_more() -> None:
    said = promise(reference()[0], case("bulk/chat/hang"), {})
    assert said.at_least < 60 < said.at_most < 75
    shown = promise(reference()[0], case("bulk/chat/hang"), {"deepseek-v3": 1 / 3})
    assert shown.at_least < 20 < shown.at_most < 35


def test_the_stage_exchanges_addresses_keys_and_nothing_else() -> None:
    rendered, staged = (load_compose(text) for text in (_config(), stage().files["gateway/config.yaml"].decode()))
    assert staged["router_settings"].pop("disable_cooldowns") is True
    for before, after in zip(rendered["model_list"], staged["model_list"], strict=True):
        for each in (before["litellm_params"], after["litellm_params"]):
            each.pop("api_base"), each.pop("timeout"), each.pop("stream_timeout")
        assert before == after
    assert {key: value for key, value in rendered.items() if key != "model_list"} == {
        key: value for key, value in staged.items() if key != "model_list"
    }


def test_no_address_of_a_provider_is_left_on_the_stage() -> None:
    config = load_compose(stage().files["gateway/config.yaml"].decode())
    assert all(each["litellm_params"]["api_base"].startswith("http://doubles:") for each in config["model_list"])


def test_the_path_of_a_base_url_in_the_spec_is_left_out_and_any_other_stays_wrong() -> None:
    mesh, deployment = reference()
    own = mesh.providers["groq"].model_copy(update={"base_url": "http://192.168.1.9/clouds/groq"})
    at_own = mesh.model_copy(update={"providers": {**mesh.providers, "groq": own}})

    def mistake(rendered: str) -> Callable[[dict[str, Any]], None]:
        return lambda config: _entry(config, "fast")["litellm_params"].update(api_base=rendered)

    for rendered, staged in ((own.base_url, ""), ("http://192.168.1.9/other", "/other")):
        built = build_stage(at_own, deployment, doubles="d", first_port=9000, hang_limit=20, seed="s", edit=mistake(rendered))
        base = _entry(load_compose(built.files["gateway/config.yaml"].decode()), "fast")["litellm_params"]["api_base"]
        assert base.partition("/groq")[2] == staged, base


def test_timeouts_keep_their_proportion_so_that_a_wrong_one_stays_wrong() -> None:
    def mistake(config: dict[str, Any]) -> None:
        config["model_list"][0]["litellm_params"]["timeout"] = 600

    wrong = build_stage(*reference(), doubles="d", first_port=9000, hang_limit=20, seed="s", edit=mistake)
    assert load_compose(wrong.files["gateway/config.yaml"].decode())["model_list"][0]["litellm_params"]["timeout"] == 200


def _entry(config: dict[str, Any], group: str) -> dict[str, Any]:
    return next(each for each in config["model_list"] if each["model_name"] == group)


def _config() -> str:
    release = stage().release
    file = next(each for each in release.files if each.path.endswith("gateway/config.yaml"))
    return file.content(str).decode()


@pytest.mark.parametrize(
    ("came", "words"),
    [
        (outcome("bulk", "llama3.1-8b"), ""),
        (outcome("bulk", "claude"), "asked bulk > claude, not bulk > llama3.1-8b"),
        (outcome("bulk", "bulk", "llama3.1-8b"), "asked bulk > bulk > llama3.1-8b"),
        (outcome("bulk", "llama3.1-8b", status=500), "no answer: 500"),
        (outcome("bulk", "llama3.1-8b", seconds=13.0), "took 13.0 s, at most 12.0 s"),
        (outcome("bulk", "llama3.1-8b", text=""), "the answer is empty"),
    ],
)
def test_an_outcome_is_red_where_it_differs_from_the_promise(came: dict[str, Any], words: str) -> None:
    found = judge_case(reference()[0], stage(), case("bulk/chat/500"), came)
    assert bool(found.wrong) == bool(words)
    assert words in "; ".join(found.wrong)


def test_a_key_or_a_header_at_the_wrong_provider_is_red() -> None:
    came = outcome("bulk")
    came["calls"][0]["seen"] = ["deepseek_api_key", "anthropic_api_key", "header cookie"]
    found = judge_case(reference()[0], stage(), case("bulk/chat/none"), came)
    assert found.wrong == ("bulk saw the key anthropic_api_key", "bulk saw header cookie")


def test_an_address_in_a_header_of_the_answer_is_red_behind_the_front() -> None:
    came = outcome("bulk", headers={"x-litellm-model-api-base": "http://192.168.1.20:11434"})
    assert "tells an address" in judge_case(reference()[0], stage(front=True), case("bulk/chat/none"), came).wrong[0]


def test_an_attempt_that_reaches_a_cloud_is_red_whatever_the_status() -> None:
    attempt = next(each for each in leaks(reference()[0], stage()) if each.kind == "steering")
    assert judge_leak(stage(), attempt, outcome(status=400)).wrong == ()
    reached = judge_leak(stage(), attempt, outcome("claude", status=400))
    assert reached.wrong == ("it reached claude, which is outside the building",)
    assert judge_leak(stage(), attempt, outcome(status=200)).wrong == ("the gateway answered 200, not a refusal",)


def test_a_call_that_no_request_explains_is_red() -> None:
    assert judge_unmarked(stage(), [{"group": "embed", "method": "GET", "path": "/v1/models"}]) == ()
    assert judge_unmarked(stage(), [{"group": "bulk", "method": "GET", "path": "/models"}])[0].wrong


def test_every_leak_carries_its_own_mark_and_every_client_is_tried() -> None:
    mesh, _ = reference()
    tries = leaks(mesh, stage())
    assert len({each.id for each in tries}) == len(tries)
    assert all(parse_mark(each.request["body"])[0] == each.id for each in tries if each.request["body"])
    words = " ".join(each.what for each in tries)
    assert all(client in words for client in mesh.clients)


def test_no_secret_of_the_inventory_is_in_the_script() -> None:
    mesh, _ = reference()
    played = script(mesh, stage(), cases(mesh), leaks(mesh, stage()), gateway="http://g", host="h", ready="/")
    assert all(value.startswith("sk-drill-") for value in stage().secrets.values())
    assert len(played["requests"]) == len(cases(mesh)) + len(leaks(mesh, stage())) + 1


def test_the_containers_publish_nothing_share_no_state_and_have_no_way_out() -> None:
    project = Containers("here", ["sh", "-s"], "docker", reference()[1], "abc").compose()
    assert project["name"] == "mesh-drill-abc"
    assert project["networks"] == {"stage": {"internal": True}}
    for service in project["services"].values():
        assert not {"ports", "labels", "restart", "container_name"} & service.keys()
        assert all(source.startswith("./") or source in project["volumes"] for source in _sources(service))


def _sources(service: dict[str, Any]) -> list[str]:
    return [str(each).split(":")[0] for each in service.get("volumes", [])]
