"""The operator's own compose.yaml: labels and secrets are added, and it means to Compose what it meant before."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from compiled import compiled, docker_compose, plain_mesh, service, stack, text

from mesh.errors import MeshError

TRICKY = """
# the operator's own comments
x-common: &common
  restart: always
  labels: {team: "infra"}
services:
  web:
    <<: *common
    image: nginx:1.29.1
    ports: ["0.0.0.0:8080:80", 22:22]
    environment:
      COUNTRY: no
      SWITCH: on
      MODE: 0755
      PRICE: "$$5"
      HOST: ${HOST:-example}
      EMPTY:
      NUMBER: 1e3
      DATE: 2026-11-23
    command: ["sh", "-c", "echo $${HOME} \\"quoted\\" 'single'"]
    labels: ["a=b", "c.d=e f"]
  db:
    <<: *common
    image: postgres:17.1
    environment: ["POSTGRES_DB=x", "PASS_THROUGH", "URL=http://${HOST:-h}/"]
    healthcheck: {test: ["CMD-SHELL", "pg_isready"], interval: 1m30s}
  twin: &twin
    image: busybox:1.37.0
  copy: *twin
networks: {default: {driver: bridge}}
volumes: {data: {}}
"""


def config(file: Path) -> dict[str, Any]:
    done = subprocess.run(
        ["docker", "compose", "-p", "own", "-f", str(file), "config", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOST": "h", "HOME": str(Path.home())},
    )
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = json.loads(done.stdout)
    return read


@pytest.mark.skipif(not docker_compose(), reason="`docker compose` is not here")
def test_to_the_real_compose_only_the_labels_are_new(tmp_path: Path) -> None:
    data = plain_mesh(tmp_path, TRICKY)
    written = tmp_path / "out" / "compose.yaml"
    written.parent.mkdir()
    written.write_text(text(stack(compiled(data, inventory=tmp_path), "own"), "compose.yaml"))
    before, after = config(tmp_path / "own/compose.yaml"), config(written)
    for name, each in after["services"].items():
        labels = each.pop("labels")
        own = before["services"][name].pop("labels", {})
        assert {key: value for key, value in labels.items() if not key.startswith("mesh.")} == own
        assert labels["mesh.name"] == "small"
        assert labels["mesh.stack"] == "own"
        assert len(labels["mesh.digest"]) == 64
    assert after == before


def test_labels_are_added_to_every_service_in_the_way_it_writes_them(tmp_path: Path) -> None:
    deployment = compiled(plain_mesh(tmp_path, TRICKY), inventory=tmp_path)
    written = yaml.safe_load(text(stack(deployment, "own"), "compose.yaml"))["services"]
    assert written["web"]["labels"][:2] == ["a=b", "c.d=e f"]
    assert f"mesh.digest={service(deployment, 'web', 'own').digest}" in written["web"]["labels"]
    assert written["db"]["labels"]["team"] == "infra"
    assert written["db"]["labels"]["mesh.stack"] == "own"
    assert written["copy"]["labels"] == written["twin"]["labels"]


def test_what_compose_prints_in_its_own_way_is_not_expected_of_the_environment(tmp_path: Path) -> None:
    deployment = compiled(plain_mesh(tmp_path, TRICKY), inventory=tmp_path)
    web, db = service(deployment, "web", "own").environment, service(deployment, "db", "own").environment
    assert db == {"POSTGRES_DB": "x", "URL": "http://h/"}
    assert (web["COUNTRY"], web["SWITCH"], web["HOST"], web["PRICE"]) == ("no", "on", "example", "$5")
    assert {"EMPTY", "NUMBER", "DATE"} & set(web) == set()


def test_secrets_of_the_spec_become_files_that_root_alone_may_read(tmp_path: Path) -> None:
    data = plain_mesh(tmp_path, "services: {db: {image: 'postgres:17.1'}}")
    data["stacks"]["own"]["secrets"] = {"db_password": "secret:paperless_db"}
    release = stack(compiled(data, inventory=tmp_path), "own")
    file = next(each for each in release.files if each.path == "/opt/mesh/stacks/own/secrets/db_password")
    assert (file.mode, file.secret_names) == (0o400, ("paperless_db",))
    assert file.content(lambda _: "it's") == b"it's"


def test_the_other_files_of_the_folder_land_beside_it(tmp_path: Path) -> None:
    data = plain_mesh(tmp_path, "services: {a: {image: 'a:1'}}", {"conf/a.conf": "x", "README.md": "no", ".git/config": "no"})
    (tmp_path / "own/run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "own/run.sh").chmod(0o755)
    (tmp_path / "own/logo.png").write_bytes(b"\x89PNG\xff\xfe")
    release = stack(compiled(data, inventory=tmp_path), "own")
    files = {each.path.removeprefix("/opt/mesh/stacks/own/"): each for each in release.files}
    assert sorted(files) == ["compose.yaml", "conf/a.conf", "logo.png", "run.sh"]
    assert files["run.sh"].mode == 0o755
    assert files["logo.png"].content(str) == b"\x89PNG\xff\xfe"


def test_a_service_behind_a_profile_is_not_expected_to_run(tmp_path: Path) -> None:
    compose = "services: {a: {image: 'a:1'}, debug: {image: 'd:1', profiles: [debug]}}"
    release = stack(compiled(plain_mesh(tmp_path, compose), inventory=tmp_path), "own")
    assert [each.name for each in release.services] == ["a"]


def test_container_names_are_compose_s_own_or_the_file_s(tmp_path: Path) -> None:
    compose = "services: {a: {image: 'a:1'}, b: {image: 'b:1', container_name: bee}}"
    release = stack(compiled(plain_mesh(tmp_path, compose), inventory=tmp_path), "own")
    assert [each.container for each in release.services] == ["own-a-1", "bee"]


@pytest.mark.parametrize(
    "compose",
    [
        "",
        "[]",
        "services: []",
        "services: {}",
        "services: {a: 1}",
        "a: [",
        "services: {a: &a {b: *a}}",
        "services: {a: {labels: 1}}",
    ],
)
def test_a_compose_file_that_is_none_is_an_error_with_its_place(tmp_path: Path, compose: str) -> None:
    with pytest.raises(MeshError) as caught:
        compiled(plain_mesh(tmp_path, compose), inventory=tmp_path)
    assert "own" in caught.value.where
