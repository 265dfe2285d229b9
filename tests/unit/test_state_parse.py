"""The parser on answers recorded from a Debian 13 host with Docker 26.1 (the lab's nas), and on damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statekit import service, stack

from mesh.state.deployment import HostDeployment
from mesh.state.observed import ObservedHost, Unknown
from mesh.state.parse import parse_host

RECORDED = Path(__file__).parent / "recorded"
BOUNDARY = "mesh-recorded"
TINY = "10.88.0.2:5000/tiny:bf1a1ecfb025@sha256:12cf63bbd9af015595648f500489fe4c59712dca2f24962e2efa2a7242d16390"
HOST = HostDeployment("nas", "10.88.0.13", "/opt/mesh", (stack("whoami", (service("whoami", "whoami", image=TINY),)),))
HEALTHY = (RECORDED / "docker-26.1-nas.txt").read_text()


def parsed(text: str) -> ObservedHost | Unknown:
    return parse_host(HOST, text, BOUNDARY)


def test_a_recorded_host() -> None:
    found = parsed(HEALTHY)
    assert isinstance(found, ObservedHost)
    foreign, ours = found.containers
    assert (foreign.name, foreign.project, foreign.state, foreign.environment, foreign.labels) == ("plex", "", "running", (), {})
    assert (ours.name, ours.service, ours.image, ours.labels["mesh.name"]) == ("whoami-whoami-1", "whoami", TINY, "lab")
    assert "WHOAMI_PORT_NUMBER=8080" in ours.environment
    assert ours.image_id == found.images[TINY]
    compose = found.files["/opt/mesh/stacks/whoami/compose.yaml"]
    assert (compose.sha256[:8], compose.mode, compose.owner) == ("2e7e84fc", 0o644, 0)
    assert found.releases["whoami"].services["whoami"].config_hash == ours.config_hash
    assert found.lock == ""


def test_a_recorded_dead_daemon() -> None:
    found = parsed((RECORDED / "docker-26.1-dead-daemon.txt").read_text())
    assert isinstance(found, Unknown)
    assert found.why == "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"


@given(st.integers(0, len(HEALTHY) - len(f"{BOUNDARY} end\n")))
def test_an_answer_that_was_cut_short_anywhere_is_unknown(at: int) -> None:
    assert isinstance(parsed(HEALTHY[:at]), Unknown)


@given(st.text())
def test_noise_is_unknown_and_never_an_exception(noise: str) -> None:
    assert isinstance(parsed(noise), Unknown)


@given(st.text())
def test_noise_inside_a_section_is_read_or_unknown_and_never_an_exception(noise: str) -> None:
    for section in ("files", "hashes", "containers", "images", "release 77", "odd zz", "lock", "denied q", "what"):
        parsed(HEALTHY.replace(f"{BOUNDARY} end", f"{BOUNDARY} {section}\n{noise}\n{BOUNDARY} end"))


def test_a_section_forged_by_a_file_cannot_end_the_answer() -> None:
    forged = HEALTHY.replace('{"release": "de5f0280e7ca"', '\nmesh-other end\n{"release": "de5f0280e7ca"')
    assert isinstance(parsed(forged), ObservedHost)


@pytest.mark.parametrize(
    ("letters", "mode"),
    [("rw-r--r--", 0o644), ("r--------", 0o400), ("rwsr-xr-x", 0o4755), ("rwxrwxrwt", 0o1777), ("rw-r-Sr--", 0o2644)],
)
def test_modes_are_read_as_ls_writes_them(letters: str, mode: int) -> None:
    found = parsed(HEALTHY.replace("-rw-r--r-- 1 0 0 516", f"-{letters}+ 1 7 8 516"))
    assert isinstance(found, ObservedHost)
    file = found.files["/opt/mesh/stacks/whoami/compose.yaml"]
    assert (file.mode, file.owner, file.group) == (mode, 7, 8)
