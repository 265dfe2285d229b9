"""A key from `mesh client`, at the real LiteLLM: it opens its routes and no other, and a rotated or revoked one opens nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.cli.main import main
from mesh.inventory import Inventory
from mesh.paths import INVENTORY, PROJECT

from .rig import Answer, Rig, call, deployment_of, free_port, reference_mesh


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reference inventory as an operator's own, with secrets of its own."""
    monkeypatch.setenv("MESH_AGE_IDENTITY", str(tmp_path / "identity.txt"))
    folder = tmp_path / "inventory"
    shutil.copytree(INVENTORY, folder, ignore=shutil.ignore_patterns("secrets.*", "__pycache__"))
    mesh("secrets", "init", "-C", folder)
    return folder


@pytest.fixture
def gateway(rig: Rig, tmp_path: Path) -> Iterator[Rig]:
    """A second gateway beside the doubles; not started yet."""
    own = Rig(tmp_path / "own", {**rig.ports, "litellm": free_port()}, rig.mesh, rig.deployment, rig.litellm)
    own.folder.mkdir()
    yield own
    for name in list(own.processes):
        own.stop(name)


def mesh(*arguments: object) -> None:
    assert main([str(each) for each in arguments]) == 0


def key_from(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a verb prints on stdout: the key alone."""
    capfd.readouterr()
    mesh("client", *arguments)
    return capfd.readouterr().out.removesuffix("\n")


def apply(gateway: Rig, folder: Path) -> None:
    """Start the gateway anew with what the inventory says by now."""
    if "litellm" in gateway.processes:
        gateway.stop("litellm")
    secrets = Inventory(folder).secrets
    values = {f"{name}_api_key": f"planted-{name}" for name in ("anthropic", "deepseek", "groq", "moonshot")}
    gateway.value_of = lambda name: values.get(name) or secrets.value(name)
    gateway.mesh = reference_mesh(gateway.ports, inventory=folder)
    gateway.deployment = deployment_of(gateway.mesh)
    shutil.rmtree(gateway.folder / "litellm", ignore_errors=True)
    gateway.start_gateway()


def ask(gateway: Rig, route: str, key: str) -> Answer:
    if gateway.mesh.models[gateway.mesh.routes[route].to].kind == "embedding":
        return gateway.send("POST", "/v1/embeddings", {"model": route, "input": "hello"}, key)
    body = {"model": route, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 20}
    return gateway.send("POST", "/v1/chat/completions", body, key)


def test_a_printed_key_opens_its_routes_and_a_rotated_or_revoked_one_nothing(
    gateway: Rig, inventory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    where = ("-C", inventory, "--quiet")
    scanner = key_from(capfd, "add", "scanner", "--routes", "bulk,embed", "--budget", "1 USD/month", *where)
    guest = key_from(capfd, "add", "guest", "--routes", "tidy", *where)
    apply(gateway, inventory)
    for key, routes in ((scanner, {"bulk", "embed"}), (guest, {"tidy"})):
        statuses = {route: ask(gateway, route, key).status for route in gateway.mesh.routes}
        assert statuses == {route: 200 if route in routes else 403 for route in gateway.mesh.routes}

    rotated = key_from(capfd, "rotate", "scanner", *where)
    mesh("client", "revoke", "guest", "-C", inventory)
    assert ask(gateway, "bulk", scanner).status == 200, "until the next apply the old key works, as `mesh client` says"
    apply(gateway, inventory)
    assert [ask(gateway, "bulk", key).status for key in (scanner, guest, rotated)] == [401, 401, 200]

    log = (gateway.folder / "litellm.log").read_text(errors="replace")
    assert not [key for key in (scanner, guest, rotated) if key in log]


def block(language: str, after: str) -> str:
    """A block of code of docs/clients.md, the first after a heading."""
    page = (PROJECT / "docs" / "clients.md").read_text()
    found = re.search(rf"```{language}\n(.*?)```", page[page.index(after) :], re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(("language", "heading"), [("sh", "### curl"), ("python", "### Python")])
def test_the_examples_of_the_docs_are_answered(rig: Rig, language: str, heading: str) -> None:
    interpreter = ["sh", "-c"]
    if language == "python":  # LiteLLM comes with OpenAI's library
        interpreter = [str(Path(rig.litellm).parent / "python"), "-c"]
    env = {**os.environ, "MESH_GATEWAY": rig.gateway, "MESH_KEY": rig.value_of("client_laptop_key")}
    ran = subprocess.run([*interpreter, block(language, heading)], env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "hello" in ran.stdout.lower()


def test_claude_codes_way_of_asking_is_answered(rig: Rig) -> None:
    body = {"model": "write", "max_tokens": 20, "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {rig.value_of('client_claude_code_key')}", "anthropic-version": "2023-06-01"}
    answer = call(rig.gateway, "POST", "/v1/messages?beta=true", body, headers)
    assert answer.status == 200, answer.text
    assert "event: message_stop" in answer.text
