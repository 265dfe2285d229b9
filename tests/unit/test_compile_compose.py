"""The rendered Compose files: valid for the real Compose, hardened, bound to the declared address, without secrets."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from compiled import compiled, docker_compose, plain_mesh, reference, service, stack, text

from mesh.compile.tree import write_tree
from mesh.compile.yamltext import load_compose
from mesh.state.deployment import StackRelease

OWN = ["ollama", "caching-proxy", "litellm", "open-webui", "qdrant"]
needs_compose = pytest.mark.skipif(not docker_compose(), reason="`docker compose` is not here")


def compose_config(file: Path) -> dict[str, Any]:
    """What the real Compose understands."""
    done = subprocess.run(
        ["docker", "compose", "-f", str(file), "config", "--format", "json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    config: dict[str, Any] = json.loads(done.stdout)
    return config


def releases() -> list[StackRelease]:
    return [each for host in compiled().hosts.values() for each in host.stacks]


@needs_compose
def test_the_real_compose_accepts_every_rendered_file(tmp_path: Path) -> None:
    write_tree(compiled(), tmp_path / "out")
    files = sorted((tmp_path / "out").rglob("compose.yaml"))
    assert len(files) == len(releases())
    for file in files:
        config = compose_config(file)
        assert config["name"] == file.parent.name


@needs_compose
def test_the_real_compose_understands_exactly_what_was_compiled(tmp_path: Path) -> None:
    write_tree(compiled(), tmp_path / "out")
    for release in releases():
        (file,) = (tmp_path / "out").glob(f"*{release.directory}/compose.yaml")
        config = compose_config(file)
        for each in release.services:
            read = config["services"][each.name]
            assert read["image"] == each.image
            assert read["labels"] == each.definition["labels"]
            assert {key: value.replace("$$", "$") for key, value in read.get("environment", {}).items()} == each.environment
            # `config` prints a `$` as `$$` again, so that its output is a Compose file
            command = [part.replace("$$", "$") for part in read.get("entrypoint") or []]
            assert command == each.definition.get("entrypoint", [])


@pytest.mark.parametrize("name", OWN)
def test_every_service_of_the_mesh_is_hardened(name: str) -> None:
    for each in stack(compiled(), name).services:
        definition = each.definition
        assert definition["security_opt"] == ["no-new-privileges:true"]
        assert definition["cap_drop"] == ["ALL"]
        assert "cap_add" not in definition
        assert "privileged" not in definition
        assert definition["restart"] == "unless-stopped"
        assert "/tmp" in definition["tmpfs"]
        assert definition["logging"]["options"]["max-size"]
        assert definition["pids_limit"] > 0
        assert re.fullmatch(r"\d+[mb]", definition["mem_limit"])
        assert definition["healthcheck"]["test"][0] == "CMD"
        assert definition["healthcheck"]["start_interval"] == "1s"
        assert definition["read_only"] is True


def test_the_gateway_gets_memory_to_live() -> None:
    data = reference()
    del data["stacks"]["litellm"]["memory"]
    limit = service(compiled(data), "litellm-a", of="litellm").definition["mem_limit"]
    assert int(limit.removesuffix("m")) >= 1536


@pytest.mark.parametrize("name", OWN)
def test_ports_are_bound_to_the_declared_address_only(name: str) -> None:
    deployment = compiled()
    address = next(host.address for host in deployment.hosts.values() if any(each.name == name for each in host.stacks))
    services = stack(deployment, name).services
    ports = [port for each in services for port in each.definition.get("ports", ())]
    assert ports
    assert all(port.startswith(f"{address}:") for port in ports)
    assert all("network_mode" not in each.definition for each in services)


def test_ports_bind_to_the_bind_address_where_the_host_is_known_by_name() -> None:
    data = reference()
    data["hosts"]["vm-docker"] = {"address": "vm.home.arpa", "bind": "192.168.1.21"}
    deployment = compiled(data)
    assert service(deployment, "qdrant").definition["ports"] == ["192.168.1.21:6333:6333"]
    assert service(deployment, "open-webui").environment["QDRANT_URI"] == "http://vm.home.arpa:6333"


def test_an_ipv6_host_gets_brackets() -> None:
    data = reference()
    data["hosts"]["vm-docker"]["address"] = "fd00::21"
    deployment = compiled(data)
    assert service(deployment, "qdrant").definition["ports"] == ["[fd00::21]:6333:6333"]
    assert service(deployment, "open-webui").environment["QDRANT_URI"] == "http://[fd00::21]:6333"


def test_no_secret_is_in_any_file_but_those_that_root_alone_may_read() -> None:
    deployment = compiled()
    planted = {name: f"planted-{name}-value" for name in deployment.secret_names}
    assert {"litellm_master_key", "qdrant_api_key", "anthropic_api_key", "client_open_webui_key"} <= set(planted)
    for release in releases():
        for file in release.files:
            content = file.content(planted.__getitem__).decode()
            found = [name for name, value in planted.items() if value in content]
            assert sorted(found) == sorted(set(file.secret_names))
            if found:
                assert file.mode == 0o400
                assert "/secrets/" in file.path
        for each in release.services:
            assert not any(value in json.dumps(dict(each.definition)) for value in planted.values())


def test_a_host_gets_only_the_secrets_that_its_stacks_need() -> None:
    deployment = compiled()
    names = {
        host.name: {name for each in host.stacks for file in each.files for name in file.secret_names}
        for host in deployment.hosts.values()
    }
    assert names["gpu-box"] == set()
    assert names["nas"] == set()


def test_a_service_with_secrets_loads_them_before_its_command() -> None:
    definition = service(compiled(), "litellm-a", of="litellm").definition
    assert "./secrets/env:/run/secrets/env:ro" in definition["volumes"]
    assert definition["entrypoint"][:2] == ["/bin/sh", "-c"]
    script = definition["entrypoint"][2]
    done = subprocess.run(
        ["/bin/sh", "-c", script.replace("/run/secrets/env", "/dev/stdin"), "--", "printenv", "KEY"],
        input="KEY='it'\\''s $HOME \"x\"\nline'\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == 'it\'s $HOME "x"\nline\n'


def test_images_are_pinned_by_the_lock_and_replaced_by_the_spec() -> None:
    from mesh.compile.images import ImageLock

    data = reference() | {"images": {"litellm": "registry.lan:5000/litellm:1", "whoami": "tiny:2"}}
    digest = "sha256:" + "a" * 64
    lock = ImageLock().with_image("registry.lan:5000/litellm:1", digest, "2026-11-23").with_image("tiny:2", digest, "2026-11-23")
    deployment = compiled(data, lock=lock)
    assert service(deployment, "litellm-b", of="litellm").image == f"registry.lan:5000/litellm:1@{digest}"
    assert service(deployment, "whoami").image == f"tiny:2@{digest}"
    assert f"tiny:2@{digest}" in text(stack(deployment, "whoami"), "compose.yaml")
    assert "@" not in service(deployment, "qdrant").image


def test_one_image_name_can_mean_one_stack_s_service(tmp_path: Path) -> None:
    compose = "services: {db: {image: 'postgres:17.1'}}"
    data = plain_mesh(tmp_path, compose, images={"own.db": "postgres:17.2"})
    data["stacks"]["other"] = data["stacks"]["own"]
    deployment = compiled(data, inventory=tmp_path)
    assert service(deployment, "db", of="own").image == "postgres:17.2"
    assert service(deployment, "db", of="other").image == "postgres:17.1"


def test_compose_files_hold_no_yaml_that_two_readers_take_differently() -> None:
    import yaml

    for release in releases():
        if release.kind == "whoami":
            continue
        written = text(release, "compose.yaml")
        assert yaml.safe_load(written) == load_compose(written)  # YAML 1.1 and 1.2
        assert not re.search(r"[&*]id\d", written)
