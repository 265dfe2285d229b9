"""Which image the lab takes, without an engine: a scripted stand-in for `docker` says what is there and what can be pulled."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest
from labctl import bases, images, pipconf
from labctl.settings import IMAGES

from mesh.errors import MeshError
from mesh.paths import STACKS

VENDOR = "ghcr.io/berriai/litellm:v1.106.2"


class Docker:
    """Has the base images; `remote` is what a registry has. Remembers what is there and what was built."""

    def __init__(self, *remote: str) -> None:
        self.there = set(map(bases.base_tag, bases.SUITES))
        self.remote = remote
        self.built: list[str] = []

    def docker(self, *args: str, **_: object) -> subprocess.CompletedProcess[str]:
        ok = True
        match args:
            case ("image", "inspect", *_, tag):
                ok = tag in self.there
            case ("pull", "--quiet", source):
                ok = source in self.remote
            case ("tag", _, tag):
                self.there.add(tag)
        return subprocess.CompletedProcess(args, 0 if ok else 1, "1\n", "")

    def follow(self, *args: str, **_: object) -> subprocess.CompletedProcess[str]:
        self.built.append(tag := args[args.index("--tag") + 1])
        self.there.add(tag)
        return subprocess.CompletedProcess(args, 0, "", "")


def ensure(docker: Docker, monkeypatch: pytest.MonkeyPatch, *, registry: bool) -> str:
    """The tag that a lab gets in which a container registry can be reached, or cannot."""
    monkeypatch.setattr(images, "registry_in_reach", lambda: registry)
    return images.ensure_images(docker, ["gateway"])["gateway"].local


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(images, "IMAGES", tmp_path)
    monkeypatch.setattr(pipconf, "_pip_settings", dict)
    monkeypatch.delenv("LAB_OFFLINE", raising=False)
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "Dockerfile").write_text("FROM homelab-mesh-lab/debian:trixie-slim\n")
    (tmp_path / "gateway" / "build.toml").write_text(f'vendor = "{VENDOR}"\n')
    return tmp_path


def test_without_a_registry_the_stand_in_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    docker = Docker()
    first = ensure(docker, monkeypatch, registry=False)
    assert ensure(docker, monkeypatch, registry=False) == first
    assert docker.built == [first]


def test_with_a_registry_the_vendors_image_is_pulled_and_nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    docker = Docker(VENDOR)
    assert ensure(docker, monkeypatch, registry=True) in docker.there
    assert docker.built == []


def test_a_vendors_image_that_cannot_be_pulled_is_replaced_by_the_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    docker = Docker()
    tag = ensure(docker, monkeypatch, registry=True)
    assert docker.built == [tag]


def test_offline_builds_the_stand_in_even_where_a_registry_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_OFFLINE", "1")
    docker = Docker(VENDOR)
    tag = ensure(docker, monkeypatch, registry=True)
    assert docker.built == [tag]


def test_a_lab_that_has_the_stand_in_keeps_it_when_a_registry_comes_into_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    docker = Docker(VENDOR)
    before = ensure(docker, monkeypatch, registry=False)
    assert ensure(docker, monkeypatch, registry=True) == before


@pytest.mark.parametrize("change", ["content", "mode", "further context", "base"])
def test_an_image_is_built_anew_when_anything_that_makes_it_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "main.py").write_text("one")
    (folder / "gateway" / "build.toml").write_text('context = ["../code"]\n')
    before = ensure(Docker(), monkeypatch, registry=False)
    match change:
        case "content":
            (folder / "gateway" / "more.txt").write_text("more")
        case "mode":
            (folder / "gateway" / "Dockerfile").chmod(0o755)
        case "further context":
            (folder / "code" / "main.py").write_text("two")
        case "base":
            monkeypatch.setattr(images, "ensure_base", lambda _engine, _suite: "another id")
    assert ensure(Docker(), monkeypatch, registry=False) != before


def test_a_mistyped_key_of_a_manifest_is_an_error_that_names_the_known_ones(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "gateway" / "build.toml").write_text('contexts = ["../code"]\n')
    with pytest.raises(MeshError, match="contexts") as caught:
        ensure(Docker(), monkeypatch, registry=False)
    assert "context, registry, vendor" in caught.value.mend


def test_vendors_images_are_the_ones_the_stacks_pin() -> None:
    pinned = "".join(path.read_text() for path in STACKS.glob("*/stack.py"))
    vendors = [tomllib.loads(path.read_text()).get("vendor") for path in IMAGES.glob("*/build.toml")]
    assert [vendor for vendor in vendors if vendor and f'"{vendor}"' not in pinned] == []


def test_pip_in_a_build_gets_local_wheels_over_loopback_and_no_path_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        pipconf, "_pip_settings", lambda: {"find-links": [str(tmp_path)], "index-url": ["https://index.example/simple"]}
    )
    with pipconf.build_files() as files:
        conf = files["build/pip.conf"].decode()
    assert "find-links = http://127.0.0.1:" in conf
    assert "index-url = https://index.example/simple" in conf
    assert str(tmp_path) not in conf
