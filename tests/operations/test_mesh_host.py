"""The fact about a host, on a `@fake` host that prints what the script would: read when sound, and failing the host when not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fleet import Fleet
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.facts import get_fact
from statekit import inspected

import deploys.facts.mesh_host as facts
from mesh.state.deployment import Deployment, HostDeployment

ONE = "@fake/one"
BOUNDARY = "mesh-00"


@pytest.fixture
def ask(fleet: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, Fleet]]:
    """The fact of a host that prints these lines."""

    def run(*lines: str, success: bool = True) -> tuple[Any, Fleet]:
        wanted = Deployment("closet", {ONE: HostDeployment(ONE, "10.0.0.1", "/opt/mesh")})
        made = fleet(wanted, {"observe": {"stdout": list(lines), "success": success}})
        monkeypatch.setattr(facts, "current", lambda: made.run)
        monkeypatch.setattr(facts.secrets, "token_hex", lambda _: "00")
        host = made.state.inventory.get_host(ONE)
        try:
            return get_fact(made.state, host, facts.MeshHost, kwargs={"mesh_host": ONE}), made
        except PyinfraError:
            return None, made

    return run


def test_a_host_is_read(ask: Callable[..., tuple[Any, Fleet]]) -> None:
    seen, made = ask(f"{BOUNDARY} containers", inspected(name="/plex"), "", f"{BOUNDARY} end", "")
    assert [container.name for container in seen.containers] == ["plex"]
    assert made.state.failed_hosts == set()


@pytest.mark.parametrize(
    "lines",
    [
        (f"{BOUNDARY} failed 1", "Cannot connect to the Docker daemon", f"{BOUNDARY} end"),
        (f"{BOUNDARY} failed 127", "sh: docker: not found", f"{BOUNDARY} end"),
        (f"{BOUNDARY} containers", "cut sh"),
        ("Welcome to the host!",),
    ],
)
def test_a_host_that_cannot_be_read_fails_and_is_never_empty(
    ask: Callable[..., tuple[Any, Fleet]], lines: tuple[str, ...]
) -> None:
    seen, made = ask(*lines)
    assert seen is None
    assert {host.name for host in made.state.failed_hosts} == {ONE}


def test_a_shell_that_fails_fails_the_host(ask: Callable[..., tuple[Any, Fleet]]) -> None:
    seen, made = ask("", success=False)
    assert seen is None
    assert {host.name for host in made.state.failed_hosts} == {ONE}
