"""Awkward but real compose files: each is deployed as Compose reads it, or refused with file:line:column and a reason."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from compiled import compiled, docker_compose, plain_mesh, service, stack, text
from pydantic import ValidationError

from mesh.compile.dotenv import parse
from mesh.compile.interpolate import InterpolationError, interpolate, variables
from mesh.errors import MeshError
from mesh.state.deployment import dotenv_value
from mesh.validate import published_ports

SECRET = 'it\'s "a" $ecret \\ #1\\'
WITH_ENV = """\
services:
  app:
    image: app:${VERSION:-1.2}
    env_file: [.env, app.env]
    environment: {DB: "postgres://u:${DB_PASSWORD}@db", MODE: plain, PASS_ON: }
    ports: ["${PORT}:80"]
    deploy: {replicas: "${COUNT:-2}"}
  db:
    image: postgres:17.1
    environment: ["POSTGRES_PASSWORD=${DB_PASSWORD}"]
  other:
    image: busybox:1.37.0
"""


def mesh_with_env(folder: Path, **env: Any) -> dict[str, Any]:
    data = plain_mesh(folder, WITH_ENV, {".env": "PORT=8080\nPASS_ON=on\n", "app.env": "URL=http://${DB_PASSWORD}\nA=b\n"})
    data["stacks"]["own"]["env"] = {"DB_PASSWORD": "secret:own_db_password", **env}
    return data


def digests(folder: Path, data: dict[str, Any]) -> dict[str, str]:
    return {each.name: each.digest for each in stack(compiled(data, inventory=folder), "own").services}


def test_variables_come_from_the_spec_and_from_the_env_file_of_the_folder(tmp_path: Path) -> None:
    deployment = compiled(mesh_with_env(tmp_path), inventory=tmp_path)
    app = service(deployment, "app", "own")
    assert app.image == "app:1.2"
    assert app.environment == {"MODE": "plain", "PASS_ON": "on"}
    assert app.definition["deploy"]["replicas"] == 2
    assert [each.port for each in published_ports({"services": {"app": app.definition}})] == [8080]


def test_a_secret_is_in_the_env_file_of_root_and_in_no_other(tmp_path: Path) -> None:
    release = stack(compiled(mesh_with_env(tmp_path), inventory=tmp_path), "own")
    files = {each.path.removeprefix("/opt/mesh/stacks/own/"): each for each in release.files}
    assert {path for path, file in files.items() if file.secret_names} == {".env"}
    assert files[".env"].mode == 0o400
    written = files[".env"].content(lambda _: SECRET).decode()
    assert parse(written, ".env", lambda _: None) == {"DB_PASSWORD": SECRET, "PORT": "8080", "PASS_ON": "on"}
    assert "secret" not in json.dumps(release.services[2].definition, default=str)


def test_a_secret_that_changes_restarts_the_services_that_use_it_and_no_other(tmp_path: Path) -> None:
    one = digests(tmp_path, mesh_with_env(tmp_path))
    data = mesh_with_env(tmp_path)
    data["stacks"]["own"]["env"]["DB_PASSWORD"] = "secret:rotated"
    other = digests(tmp_path, data)
    assert {name for name in one if one[name] != other[name]} == {"app", "db"}


def test_a_variable_that_changes_restarts_what_names_it(tmp_path: Path) -> None:
    one = digests(tmp_path, mesh_with_env(tmp_path, COUNT=2))
    other = digests(tmp_path, mesh_with_env(tmp_path, COUNT=3))
    assert {name for name in one if one[name] != other[name]} == {"app"}


@pytest.mark.skipif(not docker_compose(), reason="`docker compose` is not here")
def test_compose_reads_the_values_that_the_compiler_read(tmp_path: Path) -> None:
    release = stack(compiled(mesh_with_env(tmp_path), inventory=tmp_path), "own")
    for file in release.files:
        target = tmp_path / "out" / file.path.removeprefix("/opt/mesh/stacks/own/")
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(file.content(lambda _: SECRET))
    command = ["docker", "compose", "--project-directory", str(tmp_path / "out"), "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path / "out")
    assert done.returncode == 0, done.stderr
    app = json.loads(done.stdout)["services"]["app"]
    plain = {name: value.replace("$$", "$") for name, value in app["environment"].items()}
    assert (plain["DB"], plain["URL"], plain["MODE"], plain["PASS_ON"]) == (
        f"postgres://u:{SECRET}@db",
        f"http://{SECRET}",
        "plain",
        "on",
    )
    assert (app["image"], app["ports"][0]["published"], app["deploy"]["replicas"]) == ("app:1.2", "8080", 2)


@pytest.mark.parametrize("value", ["plain", "it's", 'a"b', "$x ${y}", "back\\", "\\'", "two\nlines", " # no comment", "=", "'"])
def test_a_value_in_the_env_file_is_read_back_as_it_was(value: str) -> None:
    assert parse(f"A={dotenv_value(value)}\nB=1\n", ".env", lambda _: None) == {"A": value, "B": "1"}


def test_a_service_that_extends_another_of_the_file_has_its_image(tmp_path: Path) -> None:
    compose = "services: {a: {image: 'a:1', environment: {X: '1'}}, b: {extends: {service: a}, environment: {Y: '2'}}}"
    found = service(compiled(plain_mesh(tmp_path, compose), inventory=tmp_path), "b", "own")
    assert (found.image, found.environment) == ("a:1", {"X": "1", "Y": "2"})


def test_a_profile_that_the_env_file_switches_on_is_expected_to_run(tmp_path: Path) -> None:
    compose = "services: {a: {image: 'a:1'}, debug: {image: 'd:1', profiles: [debug]}}"
    data = plain_mesh(tmp_path, compose, {".env": "COMPOSE_PROFILES=debug,more\n"})
    assert [each.name for each in stack(compiled(data, inventory=tmp_path), "own").services] == ["a", "debug"]


def test_a_config_written_in_the_file_counts_for_the_service_that_takes_it(tmp_path: Path) -> None:
    compose = "services: {a: {image: 'a:1', configs: [c]}, b: {image: 'b:1'}}\nconfigs: {c: {content: 'one'}}"
    one = digests(tmp_path, plain_mesh(tmp_path, compose))
    other = digests(tmp_path, plain_mesh(tmp_path, compose.replace("one", "two")))
    assert {name for name in one if one[name] != other[name]} == {"a"}


@pytest.mark.parametrize(
    ("compose", "place", "words"),
    [
        ("services:\n  a:\n    build: .\n", "3:5", "nothing is built"),
        ("services:\n  a: {image: 'a:1'}\ninclude: [x.yaml]\n", "3:1", "labels"),
        ("services:\n  a:\n    extends: {file: x.yaml, service: a}\n", "3:5", "another file"),
        ("services:\n  a:\n    extends: {service: b}\n", "3:5", "no such service"),
        ("services:\n  a: {restart: always}\n", "2:3", "has no image"),
        ("services:\n  a:\n    image: a:1\n    image: a:2\n", "4:5", "twice"),
        ("services:\n  a:\n    image: a:${TAG}\n", "3:12", "`TAG` has no value"),
        ("services:\n  a:\n    image: a:1\n    command: echo ${HOME}\n", "4:14", "shell"),
        ("services:\n  a:\n    image: a:1\n    command: echo $ x\n", "4:14", "lone"),
        ("services:\n  a:\n    image: a:1\n    command: ${X:?set it}\n", "4:14", "set it"),
        ("services:\n  a:\n    image: a:1\n    env_file: no.env\n", "4:5", "no.env"),
        ("services:\n  a:\n    image: a:1\n    env_file: ../x.env\n", "4:5", "outside"),
        ("services:\n  a: {image: 'a:1'}\nsecrets:\n  s:\n    external: true\n", "5:5", "Swarm"),
        ("services:\n  a: {image: 'a:1'}\nconfigs:\n  c:\n    file: ./c.conf\n", "5:5", "c.conf"),
        ("services:\n  a: {image: 'a:1'}\n  b: [\n", "4:1", "YAML"),
        ("services:\n  a: {image: 'a:1'}\n---\nservices: {}\n", "3:1", "YAML"),
        ("services:\n  a: {image: !reset 'a:1'}\n", "2:14", "YAML"),
    ],
)
def test_what_cannot_be_deployed_is_refused_with_its_place(tmp_path: Path, compose: str, place: str, words: str) -> None:
    with pytest.raises(MeshError) as caught:
        compiled(plain_mesh(tmp_path, compose), inventory=tmp_path)
    assert caught.value.where == f"{tmp_path}/own/compose.yaml:{place}"
    assert words in str(caught.value)


def test_a_line_of_the_env_file_that_is_none_is_an_error_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(MeshError) as caught:
        compiled(plain_mesh(tmp_path, "services: {a: {image: 'a:1'}}", {".env": "A=1\n  -x\n"}), inventory=tmp_path)
    assert caught.value.where == f"{tmp_path}/own/.env:2:3"


def test_a_variable_of_the_spec_and_of_the_env_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match=r"PORT is in \.env and in the spec"):
        compiled(mesh_with_env(tmp_path, PORT=1), inventory=tmp_path)


@pytest.mark.parametrize("value", [True, 1.5, None, ["a"], "a\0b"])
def test_a_variable_that_yaml_would_write_in_its_own_way_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValidationError, match="text"):
        compiled(mesh_with_env(tmp_path, X=value), inventory=tmp_path)


def test_a_stack_of_the_mesh_takes_no_variables(tmp_path: Path) -> None:
    data = {
        "mesh": "small",
        "hosts": {"box": {"address": "192.168.9.9"}},
        "stacks": {"qdrant": {"on": "box", "env": {"A": "b"}}},
    }
    with pytest.raises(MeshError, match="takes neither `env:`"):
        compiled(data, inventory=tmp_path)


def test_the_rendered_file_keeps_its_variables(tmp_path: Path) -> None:
    written = text(stack(compiled(mesh_with_env(tmp_path), inventory=tmp_path), "own"), "compose.yaml")
    assert "${DB_PASSWORD}" in written


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("$A-${A}", "1-1"),
        ("${B:-x}${B-x}${E:-y}${E-y}", "xxy"),
        ("${A:+set}${B:+set}${E+set}", "setset"),
        ("${B:-${A}-${C:-c}}", "1-c"),
        ("$$A $${A}", "$A ${A}"),
    ],
)
def test_variables_are_replaced_as_compose_does(written: str, value: str) -> None:
    assert interpolate(written, {"A": "1", "E": ""}.get) == value


@pytest.mark.parametrize("written", ["$B", "${B}", "${B:?no}", "${", "${A", "${-}", "${A!}", "$1"])
def test_what_is_no_variable_or_has_no_value_is_an_error(written: str) -> None:
    with pytest.raises(InterpolationError):
        interpolate(written, {"A": "1"}.get)


def test_every_variable_of_a_text_is_known() -> None:
    assert variables("${A:-${B}} $C $$D") == ("A", "B", "C")
