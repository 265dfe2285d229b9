"""A digest changes exactly for the services that something changed for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from compiled import compiled, fingerprint, plain_mesh, reference

from mesh.compile.compiler import compile_mesh
from mesh.compile.images import ImageLock
from mesh.compile.library import StackLibrary
from mesh.paths import INVENTORY, STACKS
from mesh.spec.mesh import Mesh
from mesh.state.deployment import Deployment

GATEWAYS = {"litellm/litellm-a", "litellm/litellm-b"}
"""The front is not among them: it stays up while routes change."""


def digests(deployment: Deployment) -> dict[str, str]:
    return {
        f"{release.name}/{each.name}": each.digest
        for host in deployment.hosts.values()
        for release in host.stacks
        for each in release.services
    }


def changed(before: Deployment, after: Deployment) -> set[str]:
    old, new = digests(before), digests(after)
    assert old.keys() == new.keys()
    return {name for name in old if old[name] != new[name]}


def test_nothing_changed_changes_no_digest() -> None:
    assert changed(compiled(), compiled()) == set()


def test_the_digest_is_a_label_of_the_service() -> None:
    for host in compiled().hosts.values():
        for release in host.stacks:
            for each in release.services:
                assert each.definition["labels"]["mesh.digest"] == each.digest
                assert each.definition["labels"]["mesh.stack"] == release.name


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("routes", "bulk", "fallback"), ["claude"], GATEWAYS),
        (("models", "deepseek-v3", "price"), {"in": 1, "out": 2}, GATEWAYS),
        (("stacks", "qdrant", "memory"), "3GiB", {"qdrant/qdrant"}),
        (("hosts", "gpu-box", "gpus", 0, "reserve"), {"desktop": "1GiB"}, {"ollama/ollama"}),
        (("providers", "ollama", "timeout"), "9s", GATEWAYS),
        (("stacks", "qdrant", "port"), 7000, {"qdrant/qdrant", "open-webui/open-webui"}),
        (("images",), {"whoami": "traefik/whoami:v1.11.1"}, {"whoami/whoami"}),
    ],
)
def test_an_edit_of_the_spec_changes_the_services_it_is_about(path: tuple[Any, ...], value: Any, expected: set[str]) -> None:
    data = reference()
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert changed(compiled(), compiled(data)) == expected


def test_a_changed_secret_changes_the_services_that_load_it() -> None:
    mesh = Mesh.model_validate(reference())
    library = StackLibrary.load(STACKS, INVENTORY, mesh)

    def with_changed(secret: str) -> Deployment:
        return compile_mesh(mesh, library, ImageLock(), lambda name: fingerprint(name + ("2" if name == secret else "")))

    before = with_changed("")
    assert changed(before, with_changed("groq_api_key")) == GATEWAYS
    assert changed(before, with_changed("qdrant_api_key")) == {"qdrant/qdrant", "open-webui/open-webui"}


def test_a_changed_file_of_a_stack_folder_changes_the_service_that_mounts_it(tmp_path: Path) -> None:
    shutil.copytree(STACKS, tmp_path / "stacks")
    before = compiled(stacks=tmp_path / "stacks")
    guard = tmp_path / "stacks/litellm/gateway/mesh_guard.py"
    guard.write_text(guard.read_text() + "\n# changed\n")
    assert changed(before, compiled(stacks=tmp_path / "stacks")) == GATEWAYS


COMPOSE = """
services:
  a: {image: "a:1", volumes: ["./a.conf:/etc/a.conf:ro"]}
  b: {image: "b:1", env_file: b.env}
  c: {image: "c:1", volumes: [{type: bind, source: ./conf.d, target: /conf.d}]}
  d: {image: "d:1", configs: [d_conf]}
  e: {image: "e:1", secrets: [{source: token}]}
  f: {image: "f:1", volumes: ["data:/data", "/etc/localtime:/etc/localtime"]}
configs: {d_conf: {file: ./d.conf}}
secrets: {token: {file: ./secrets/token}}
volumes: {data: {}}
"""
FILES = {"a.conf": "1", "b.env": "X=1", "conf.d/deep/c.conf": "1", "d.conf": "1", "notes.txt": "1"}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("a.conf", {"own/a"}),
        ("b.env", {"own/b"}),
        ("conf.d/deep/c.conf", {"own/c"}),
        ("d.conf", {"own/d"}),
        ("notes.txt", set()),
    ],
)
def test_a_plain_stack_restarts_what_takes_from_the_changed_file(tmp_path: Path, file: str, expected: set[str]) -> None:
    data = plain_mesh(tmp_path, COMPOSE, FILES)
    data["stacks"]["own"]["secrets"] = {"token": "secret:one"}
    before = compiled(data, inventory=tmp_path)
    (tmp_path / "own" / file).write_text("changed")
    assert changed(before, compiled(data, inventory=tmp_path)) == expected


def test_a_plain_stack_restarts_what_mounts_the_changed_secret(tmp_path: Path) -> None:
    data = plain_mesh(tmp_path, COMPOSE, FILES)
    data["stacks"]["own"]["secrets"] = {"token": "secret:one"}
    before = compiled(data, inventory=tmp_path)
    data["stacks"]["own"]["secrets"] = {"token": "secret:two"}
    assert changed(before, compiled(data, inventory=tmp_path)) == {"own/e"}


def test_the_env_file_of_the_project_counts_where_it_is_used(tmp_path: Path) -> None:
    data = plain_mesh(tmp_path, "services: {a: {image: 'a:${TAG}'}}", {".env": "TAG=1"})
    before = compiled(data, inventory=tmp_path)
    (tmp_path / "own/.env").write_text("TAG=2")
    assert changed(before, compiled(data, inventory=tmp_path)) == {"own/a"}


def test_an_executable_bit_counts(tmp_path: Path) -> None:
    data = plain_mesh(tmp_path, COMPOSE, FILES)
    data["stacks"]["own"]["secrets"] = {"token": "secret:one"}
    before = compiled(data, inventory=tmp_path)
    (tmp_path / "own/a.conf").chmod(0o755)
    assert changed(before, compiled(data, inventory=tmp_path)) == {"own/a"}
