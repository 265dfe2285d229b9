"""Names that point at nothing, names used twice, stacks without a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from specs import SECRETS, findings, said


def test_the_clean_spec_of_these_tests_has_no_findings(tmp_path: Path) -> None:
    assert said(findings(tmp_path)) == []


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        (
            "routes: {bulk: {to: lama}}",
            "2: error[reference-unknown]: routes.bulk: there is no model `lama` | did you mean `llama`?",
        ),
        (
            "routes: {bulk: {fallback: [llama, claud]}}",
            "2: error[reference-unknown]: routes.bulk: there is no model `claud` | did you mean `claude`?",
        ),
        (
            "routes: {write: {overflow: [zzz]}}",
            "2: error[reference-unknown]: routes.write: there is no model `zzz` | known: claude, llama, mistral, nomic, v4",
        ),
        (
            "providers: {ollama: {on: gpubox}}",
            "2: error[reference-unknown]: providers.ollama: there is no host `gpubox` | did you mean `gpu-box`?",
        ),
        (
            "providers: {anthropic: {through: cache-proxy}}",
            "2: error[reference-unknown]: providers.anthropic: there is no stack `cache-proxy` | did you mean `caching-proxy`?",
        ),
        (
            "models: {v4: {at: deepseak}}",
            "2: error[reference-unknown]: models.v4: there is no provider `deepseak` | did you mean `deepseek`?",
        ),
        (
            "clients: {laptop: {routes: [bulk, writ]}}",
            "2: error[reference-unknown]: clients.laptop: there is no route `writ` | did you mean `write`?",
        ),
        (
            "stacks: {litellm: {on: vm}}",
            "2: error[reference-unknown]: stacks.litellm: there is no host `vm` | known: gpu-box, vm-docker",
        ),
        (
            "stacks: {qdrnt: {on: vm-docker}}",
            "2: error[stack-unknown]: stacks.qdrnt: there is no folder stacks/qdrnt | did you mean `qdrant`?",
        ),
        (
            "stacks: {vectors: {on: vm-docker, kind: qdrand}}",
            "2: error[stack-unknown]: stacks.vectors: there is no folder stacks/qdrand | did you mean `qdrant`?",
        ),
        (
            "models: {claude: {id: null, tag: claude}}",
            "2: error[model-identity]: models.claude: `anthropic` is of kind anthropic, so the model needs `id`, not `tag`"
            " | write id: in place of tag:",
        ),
    ],
)
def test_a_name_that_points_at_nothing_is_found_with_the_nearest_one(tmp_path: Path, overlay: str, expected: str) -> None:
    assert said(findings(tmp_path, overlay)) == [expected]


def test_a_stack_of_ones_own_needs_no_folder_of_the_meshs(tmp_path: Path) -> None:
    assert findings(tmp_path, "stacks: {paperless: {on: vm-docker, source: ../paperless}}") == []


def test_every_dangling_name_is_found_in_one_run(tmp_path: Path) -> None:
    overlay = "routes: {a: {to: x1, fallback: [x2, x3]}, b: {to: x4}}\nclients: {c: {routes: [x5], budget: 1 USD/month}}"
    found = findings(tmp_path, overlay, secret_names=None)
    assert sum(each.rule == "reference-unknown" for each in found) == 5


def test_a_stack_named_like_an_ollama_is_refused(tmp_path: Path) -> None:
    overlay = "stacks: {ollama: {on: vm-docker}}"
    expected = (
        "2: error[name-collision]: stacks.ollama: the Ollama provider `ollama` is deployed as a stack of that name already"
        " | rename one of the two, or delete the stack"
    )
    assert expected in said(findings(tmp_path, overlay))


def test_a_route_named_like_a_model_is_refused(tmp_path: Path) -> None:
    assert said(findings(tmp_path, "routes: {claude: {to: claude}}")) == [
        "2: error[name-collision]: routes.claude: a model has the same name, and both become groups of the gateway"
        " | rename the route or the model, say `claude-chat`"
    ]


def test_a_stack_name_that_compose_would_refuse_is_refused(tmp_path: Path) -> None:
    assert said(findings(tmp_path, "stacks: {my.stack: {on: vm-docker, kind: qdrant}}")) == [
        "2: error[name-compose]: stacks.my.stack: Compose accepts no project with a dot in its name | rename it `my-stack`"
    ]


def test_clients_whose_names_make_the_same_key_are_refused(tmp_path: Path) -> None:
    overlay = "clients:\n  a-b: {routes: [embed]}\n  a.b: {routes: [embed]}\n"
    assert said(findings(tmp_path, overlay, secret_names=frozenset({"client_a_b_key", *SECRETS}))) == [
        "4: error[client-key-shared]: clients.a.b: it has the same key as clients.a-b, secret:client_a_b_key"
        " | give it its own: key: secret:client_a_b_key_2"
    ]


@pytest.mark.parametrize(
    ("secret", "owner"),
    [("deepseek_api_key", "providers.deepseek"), ("litellm_master_key", "the mesh itself (litellm: its administration)")],
)
def test_a_client_with_the_key_of_a_provider_or_of_the_gateway_is_refused(tmp_path: Path, secret: str, owner: str) -> None:
    overlay = f"clients:\n  ocr: {{routes: [embed], key: secret:{secret}}}\n"
    assert said(findings(tmp_path, overlay, secret_names=frozenset({"litellm_master_key", *SECRETS}))) == [
        f"3: error[client-key-shared]: clients.ocr: it has the same key as {owner}, secret:{secret}"
        " | give it its own: key: secret:client_ocr_key_2"
    ]


def test_routes_without_a_gateway_are_warned_of(tmp_path: Path) -> None:
    assert [each.rule for each in findings(tmp_path, "stacks: {litellm: null}")] == ["gateway-missing"]


def test_a_second_gateway_is_refused(tmp_path: Path) -> None:
    overlay = "stacks: {gateway-2: {on: gpu-box, kind: litellm}}"
    assert said(findings(tmp_path, overlay)) == [
        "2: error[gateway-many]: stacks.gateway-2: `litellm` is the gateway already | delete one of the two"
    ]
