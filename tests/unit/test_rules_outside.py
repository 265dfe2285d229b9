"""Secrets, images and provider ids: what depends on more than the spec."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from specs import LITELLM, SECRETS, a_world, findings, said

from mesh.catalogue import Catalogue
from mesh.findings import SpecInvalid
from mesh.rules.world import StackFacts

NO_HOLE = "the lowest version without a known hole"
EVERYWHERE = "compromised release, on PyPI, Docker Hub and GHCR (since 2026-10-21, the vendor rebuilt it from 1.106.2)"
HOLES = "CVE-2026-42208, CVE-2026-42271 (fixed in 1.83.7) and a Host-header bypass (GHSA-4xpc-pv4p-pm3w)"
REDIRECTS = "CVE-2026-45401: an address that redirects reaches the inside of the network (since 2026-05-15, NVD)"


def with_image(image: str) -> dict[str, StackFacts]:
    return {**a_world().stacks, "litellm": StackFacts("litellm", {"litellm": image})}


def test_a_secret_without_a_value_is_found_by_name(tmp_path: Path) -> None:
    assert said(findings(tmp_path, secret_names=SECRETS - {"anthropic_api_key"})) == [
        "8: error[secret-missing]: providers.anthropic needs the secret `anthropic_api_key`, which has no value"
        " | `mesh secrets set anthropic_api_key`"
    ]


def test_a_mistyped_secret_comes_with_the_nearest_one(tmp_path: Path) -> None:
    overlay = "providers: {deepseek: {key: secret:deepseek_apikey}}"
    assert said(findings(tmp_path, overlay)) == [
        "2: error[secret-missing]: providers.deepseek needs the secret `deepseek_apikey`, which has no value"
        " | did you mean secret:deepseek_api_key? Otherwise `mesh secrets set deepseek_apikey`"
    ]


def test_the_meshs_own_secrets_are_made_by_init(tmp_path: Path) -> None:
    needed = {"mesh_salt": "", "litellm_master_key": "litellm"}
    assert said(findings(tmp_path, secret_names=SECRETS - {"client_laptop_key"}, needed_secrets=needed)) == [
        "21: error[secret-missing]: clients.laptop needs the secret `client_laptop_key`, which has no value"
        " | `mesh secrets init` makes it",
        "24: error[secret-missing]: stacks.litellm needs the secret `litellm_master_key`, which has no value"
        " | `mesh secrets init` makes it",
        "0: error[secret-missing]: the mesh needs the secret `mesh_salt`, which has no value | `mesh secrets init` makes it",
    ]


def test_secrets_of_ones_own_stack_count(tmp_path: Path) -> None:
    overlay = "stacks: {paperless: {on: vm-docker, source: x, secrets: {db: secret:paperless_db}}}"
    assert [each.message for each in findings(tmp_path, overlay)] == [
        "stacks.paperless needs the secret `paperless_db`, which has no value"
    ]


def test_a_source_in_the_spec_is_a_value(tmp_path: Path) -> None:
    overlay = "secrets: {anthropic_api_key: {env: ANTHROPIC_API_KEY}}"
    assert findings(tmp_path, overlay, secret_names=SECRETS - {"anthropic_api_key"}) == []


@pytest.mark.parametrize(("source", "have"), [("{}", "neither"), ("{env: A, command: [b]}", "both")])
def test_a_source_is_exactly_one_thing(tmp_path: Path, source: str, have: str) -> None:
    assert [each.message for each in findings(tmp_path, f"secrets: {{x: {source}}}")] == [
        f"secrets.x has {have} `env` {'nor' if have == 'neither' else 'and'} `command`"
    ]


def test_secrets_that_cannot_be_verified_are_one_warning(tmp_path: Path) -> None:
    assert said(findings(tmp_path, secret_names=None)) == [
        "0: warning[secret-unverified]: the 3 secrets that the mesh needs could not be verified:"
        " there is no secrets.age or secrets.index | `mesh secrets init` makes them"
    ]


def test_a_cloud_provider_needs_a_key_a_plan_or_an_address_of_its_own(tmp_path: Path) -> None:
    assert said(findings(tmp_path, "providers: {deepseek: {key: null}}")) == [
        "2: error[provider-key]: providers.deepseek: it has no `key`"
        " | add key: secret:deepseek_api_key, and `mesh secrets set deepseek_api_key`"
    ]
    assert findings(tmp_path, "providers: {deepseek: {key: null, base_url: http://192.168.1.9}}") == []


@pytest.mark.parametrize(
    "tag",
    [
        "latest",
        "main",
        "main-latest",
        "main-stable",
        "stable",
        "edge",
        "nightly",
        "latest-alpine",
        "dev-slim",
        "cuda-latest",
        "16-latest",
    ],
)
def test_a_floating_tag_is_refused(tmp_path: Path, tag: str) -> None:
    image = f"registry.lan:5000/x/litellm:{tag}"
    found = findings(tmp_path, stacks=with_image(image))
    assert f"litellm.litellm: {image}: the tag `{tag}` floats" in [each.message for each in found if each.severity == "error"]


def test_an_image_without_a_tag_is_refused_and_one_with_a_digest_is_not(tmp_path: Path) -> None:
    found = findings(tmp_path, stacks=with_image("registry.lan:5000/qdrant"))
    assert said(found)[0] == (
        "24: error[image-floating]: litellm.litellm: registry.lan:5000/qdrant: it has no tag, so it is whatever `latest` is"
        " | write an exact tag: registry.lan:5000/qdrant:1.2.3"
    )
    assert findings(tmp_path, stacks=with_image(f"registry.lan:5000/qdrant@sha256:{'0' * 64}")) == []


@pytest.mark.parametrize(
    "tag", ["v1.106.2", "1.2", "16-alpine", "0.32.15-rocm", "v1.83.0-stable", "2026-10-01", "RELEASE.2025-09-07", "main-3f2a9c1"]
)
def test_an_exact_tag_is_accepted(tmp_path: Path, tag: str) -> None:
    image = f"x/qdrant:{tag}"
    assert findings(tmp_path, stacks=with_image(image), locked=frozenset({image, *a_world().locked})) == []


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("ghcr.io/berriai/litellm:v1.82.7", "is known to be bad: compromised release (since 2026-03-24, OSV MAL-2026-2144)"),
        (
            "litellm/litellm-database:1.82.8-stable",
            "is known to be bad: compromised release (since 2026-03-24, OSV MAL-2026-2144)",
        ),
        (
            "ghcr.io/berriai/litellm:v1.107.0",
            f"is known to be bad: {EVERYWHERE}",
        ),
        (
            "ghcr.io/berriai/litellm:v1.107.3",
            f"is known to be bad: {EVERYWHERE}",
        ),
        (
            "ghcr.io/berriai/litellm:v1.86.1",
            f"is below 1.86.2, {NO_HOLE}: {HOLES}",
        ),
        (
            "ghcr.io/open-webui/open-webui:v0.9.4",
            f"is below 0.9.5, {NO_HOLE}: {REDIRECTS}",
        ),
    ],
)
def test_a_version_that_is_known_to_be_bad_is_refused(tmp_path: Path, image: str, why: str) -> None:
    found = findings(tmp_path, stacks=with_image(image), locked=frozenset({image, *a_world().locked}))
    assert [each.message for each in found] == [f"litellm.litellm: {image} {why}"]


@pytest.mark.parametrize("version", ["1.86.2", "1.106.2", "1.108.0", "1.1070.0"])
def test_other_versions_are_accepted(tmp_path: Path, version: str) -> None:
    image = f"ghcr.io/berriai/litellm:v{version}"
    assert findings(tmp_path, stacks=with_image(image), locked=frozenset({image, *a_world().locked})) == []


def test_images_without_a_digest_are_one_warning(tmp_path: Path) -> None:
    assert said(findings(tmp_path, locked=frozenset())) == [
        "0: warning[image-unlocked]: 2 images have no digest in images.lock, so each host takes what the tag names on the day: "
        f"{LITELLM}, ollama/ollama:0.32.15 | `mesh lock`"
    ]


def test_an_image_override_is_blamed_where_it_is_written_and_has_to_fit_a_service(tmp_path: Path) -> None:
    found = findings(tmp_path, "images: {litellm: 'x:latest', litelm: 'y:1.0'}", stacks=with_image("x:latest"))
    assert said([each for each in found if each.severity == "error"]) == [
        "2: error[image-floating]: litellm.litellm: x:latest: the tag `latest` floats | write an exact tag: x:1.2.3",
        "2: error[image-unknown]: images.litelm: no stack of the spec has such a service | did you mean `litellm`?",
    ]


@pytest.mark.parametrize(
    ("provider", "model", "successor", "day"),
    [
        ("deepseek", "deepseek-chat", "deepseek-flash", " on 2026-07-24"),
        ("deepseek", "deepseek-reasoner", "deepseek-v4-pro", " on 2026-07-24"),
        ("moonshot", "kimi-k2-0905-preview", "kimi-k2.6", " on 2026-05-25"),
        ("moonshot", "kimi-k2.5", "kimi-k2.6", " on 2026-08-31"),
        ("moonshot", "moonshot-v1-8k", "kimi-k2.6", " on 2026-08-31"),
        ("groq", "llama-3.3-70b-versatile", "openai/gpt-oss-120b", " on 2026-08-16"),
        ("groq", "llama-3.1-8b-instant", "openai/gpt-oss-20b", " on 2026-08-16"),
        ("anthropic", "claude-sonnet-4-20250514", "claude-sonnet-5-5", " on 2026-06-15"),
        ("anthropic", "claude-opus-4-20250514", "claude-opus-5-5", " on 2026-06-15"),
        ("anthropic", "claude-3-5-haiku-20241022", "claude-haiku-5-5", ""),
    ],
)
def test_a_retired_id_is_warned_of_with_its_successor(
    tmp_path: Path, provider: str, model: str, successor: str, day: str
) -> None:
    overlay = f"providers: {{p: {{kind: {provider}, base_url: http://x}}}}\nmodels: {{old: {{at: p, id: {model}}}}}"
    assert said(findings(tmp_path, overlay)) == [
        f"3: warning[model-retired]: models.old: the provider retired `{model}`{day} | write id: {successor}"
    ]


def test_an_id_that_will_be_retired_is_warned_of_with_the_days_left(tmp_path: Path) -> None:
    overlay = "models: {claude: {id: claude-sonnet-4-5}}"
    assert said(findings(tmp_path, overlay)) == [
        "2: warning[model-retiring]: models.claude: the provider retires `claude-sonnet-4-5` on 2026-11-30, in 7 days"
        " | write id: claude-sonnet-5-5"
    ]
    assert [each.rule for each in findings(tmp_path, overlay, today=date(2026, 11, 30))] == ["model-retired"]


@pytest.mark.parametrize("model", ["kimi-k2.6", "kimi-k2.7-code", "kimi-k3"])
def test_living_ids_of_the_same_family_are_not_warned_of(tmp_path: Path, model: str) -> None:
    overlay = f"providers: {{p: {{kind: moonshot, base_url: http://x}}}}\nmodels: {{new: {{at: p, id: {model}}}}}"
    assert findings(tmp_path, overlay) == []


def test_the_operator_knows_better_than_the_catalogue(tmp_path: Path) -> None:
    (tmp_path / "catalogue.yaml").write_text(
        "models: {deepseek: {deepseek-chat: null, deepseek-v4-pro: {retired: 2026-01-01}}}\nimages: {litellm: {floor: 1.107.0}}\n"
    )
    known = Catalogue.load(tmp_path)
    found = findings(tmp_path, "models: {v3: {at: deepseek, id: deepseek-chat}}", catalogue=known)
    assert sorted({each.rule for each in found}) == ["image-known-bad", "model-retired"]
    assert [each.message for each in found if each.rule == "model-retired"] == [
        "models.v4: the provider retired `deepseek-v4-pro` on 2026-01-01"
    ]


def test_a_mistake_in_the_operators_catalogue_is_found_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "catalogue.yaml").write_text("models:\n  deepseek:\n    deepseek-x: {retird: 2026-01-01, retired: soon}\n")
    with pytest.raises(SpecInvalid) as raised:
        Catalogue.load(tmp_path)
    assert raised.value.findings[0].message.startswith("unknown key `retird`")
    assert str(raised.value.findings[0].location) == f"{tmp_path / 'catalogue.yaml'}:3:18"
    assert raised.value.findings[1].message == "models.deepseek.deepseek-x.retired: expected a date, not `soon`"
