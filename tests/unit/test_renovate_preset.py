"""The Renovate preset finds the images of a real inventory: its patterns, tried on its files."""

from __future__ import annotations

import re
from typing import Any

import yaml

from mesh.compile.images import ImageLock
from mesh.paths import INVENTORY, TEMPLATES

TEXT = (TEMPLATES / "renovate.json5").read_text()
DIGEST = f"sha256:{'1' * 64}"


def preset() -> Any:
    """JSON5 without its comments, and with keys unquoted, is YAML in flow style."""
    lines = (re.sub(r"^\s*//.*", "", line) for line in TEXT.splitlines())
    return yaml.safe_load("\n".join(lines))


def found(file: str, text: str) -> list[dict[str, str | None]]:
    hits = []
    for manager in preset()["customManagers"]:
        if any(re.search(pattern.strip("/"), file) for pattern in manager["managerFilePatterns"]):
            for pattern in manager["matchStrings"]:
                hits += [each.groupdict() for each in re.finditer(pattern.replace("(?<", "(?P<"), text)]
    return hits


def test_every_custom_manager_has_what_renovate_requires() -> None:
    managers = preset()["customManagers"]
    assert len(managers) == 2
    for manager in managers:
        assert manager["customType"] == "regex"
        assert manager["datasourceTemplate"] == "docker"
        for pattern in manager["matchStrings"]:
            assert {"depName", "currentValue"} <= set(re.compile(pattern.replace("(?<", "(?P<")).groupindex)


def test_every_entry_of_the_lock_is_found_with_its_digest() -> None:
    lock = ImageLock.load(INVENTORY / "images.lock").with_image("10.0.0.2:5000/x/y:1.2-alpine", DIGEST, "2026-01-01")
    hits = found("inventory/images.lock", lock.dump())
    assert {f"{each['depName']}:{each['currentValue']}": each["currentDigest"] for each in hits} == {
        name: each.digest for name, each in lock.images.items()
    }


def test_images_of_the_spec_are_found_and_nothing_else_of_it() -> None:
    text = (INVENTORY / "mesh.yaml").read_text()
    assert [each for each in found("inventory/mesh.yaml", text) if each["depName"] in {"llama3.1", "mistral"}] == []
    hits = found("mesh.yaml", f"images:\n  litellm: ghcr.io/berriai/litellm:v1.106.2@{DIGEST}\n  db: 'library/postgres:17.1'\n")
    assert [(each["depName"], each["currentValue"], each["currentDigest"]) for each in hits] == [
        ("ghcr.io/berriai/litellm", "v1.106.2", DIGEST),
        ("library/postgres", "17.1", None),
    ]


def test_the_folders_of_the_operators_stacks_are_known_to_its_own_manager() -> None:
    pattern = preset()["docker-compose"]["managerFilePatterns"][0].strip("/")
    assert re.search(pattern, "closet/stacks/paperless/compose.yaml")
    assert not re.search(pattern, "closet/stacks/paperless/conf/compose.yaml")
