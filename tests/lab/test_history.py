"""History and prune on real hosts: who did what and how it went; what goes, and what is not the mesh's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from labctl import Lab

from tests.lab.small import NO_SUCH_ADDRESS, ROOT, Small, fresh

pytestmark = pytest.mark.lab
FOREIGN = (
    "docker ps -a --format '{{.ID}} {{.Names}}'; docker image ls -a --format '{{.ID}} {{.Repository}}:{{.Tag}}' | grep foreign"
)


@pytest.fixture(scope="module")
def small(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    """A stack at its third release, each of another image; one that did not come up; one that left."""
    with fresh(lab, tmp_path_factory.mktemp("history") / "inventory") as mesh:
        mesh.sh("nas", f"docker pull -q {mesh.image}")
        for number in (1, 2, 3):
            mesh.sh("nas", f"printf 'FROM {mesh.image}\\nLABEL v={number}\\n' | docker build -q -t own.lan/tiny:v{number} -")
        mesh.stack("gone", "nas")
        for number in (1, 2, 3):
            mesh.stack("web", "nas", image=f"own.lan/tiny:v{number}")
            mesh.apply()
            if number == 1:
                mesh.drop("gone")
        yield mesh
    mesh.sh("nas", "docker image rm -f own.lan/tiny:v1 own.lan/tiny:v2 own.lan/tiny:v3 foreign.lan/x:1 2>/dev/null || true")


def test_history_says_who_applied_what_and_with_what_result(small: Small) -> None:
    small.stack("web", "nas", image="own.lan/tiny:v3", command=["sh", "-c", "echo the last words; exit 7"])
    assert small.mesh("apply", "-y")[0] == 1
    small.stack("web", "nas", image="own.lan/tiny:v3")
    code, output = small.mesh("history", "--json", "-n", "2")
    assert code == 0, output
    latest, before = json.loads(output)["runs"]
    assert latest["by"].startswith(f"{os.environ.get('USER', 'root')}@")
    result, earlier = latest["hosts"]["nas"]["stacks"]["web"], before["hosts"]["nas"]["stacks"]["web"]
    assert (result["result"], earlier["result"]) == ("back", "up")
    assert result["from"] == earlier["to"] != earlier["from"]
    assert "web-web-1" in result["why"]
    assert earlier["seconds"] > 0
    code, output = small.mesh("history", "--stack", "gone")
    assert [line.split()[1] for line in output.splitlines() if "nas/gone" in line] == ["down", "up"]
    assert small.sh("nas", f"cat {ROOT}/stacks/web/.release.json | grep -c '\"seconds\":'").strip() == "1"


def test_a_host_that_cannot_be_reached_is_said_and_the_others_are_shown(small: Small) -> None:
    small.hosts["gpu-box"] = {"address": NO_SUCH_ADDRESS}
    small.write()
    code, output = small.mesh("history")
    del small.hosts["gpu-box"]
    small.write()
    assert code == 1
    assert "gpu-box: cannot tell what is there" in output
    assert "nas/web" in output


def test_a_second_laptop_is_refused_and_told_who_applies_since_when(small: Small) -> None:
    holder = "run9 other@desk since 2026-01-02T03:04:05Z pid 1 on desk/1"
    small.sh("nas", f"mkdir -p {ROOT}/lock && echo '{holder}' >{ROOT}/lock/holder")
    try:
        for verb in (("rollback", "--stack", "web"), ("prune",)):
            code, output = small.mesh(*verb, "-y")
            assert code == 1, output
            assert f"locked by another apply: {holder}" in output
    finally:
        small.sh("nas", f"rm -r {ROOT}/lock")


def test_prune_takes_what_earlier_releases_left_and_nothing_that_is_not_the_meshs(small: Small) -> None:
    network = "docker network create --label com.docker.compose.project="
    small.sh(
        "nas",
        f"printf 'FROM {small.image}\\nLABEL v=foreign\\n' | docker build -q -t foreign.lan/x:1 -; {network}gone left-behind",
    )
    small.sh("nas", f"docker volume create --label com.docker.compose.project=gone small-kept; {network}theirs their-net")
    small.sh(
        "nas", f"mkdir -p {ROOT}/previous/web.extra {ROOT}/previous/new.extra; touch -d '40 days ago' {ROOT}/previous/web.extra"
    )
    try:
        before = small.sh("nas", FOREIGN)
        code, output = small.mesh("prune")
        assert code == 1, "without a terminal and without -y nothing goes"
        code, output = small.mesh("prune", "-y")
        assert code == 0, output
        assert "own.lan/tiny:v1" in output
        images = small.sh("nas", "docker image ls --format '{{.Repository}}:{{.Tag}}'").split()
        assert "own.lan/tiny:v1" not in images, "no release needs it"
        assert {"own.lan/tiny:v2", "own.lan/tiny:v3", "foreign.lan/x:1"} <= set(images)
        networks = small.sh("nas", "docker network ls --format '{{.Name}}'").split()
        assert ("left-behind" in networks, "their-net" in networks) == (False, True)
        assert "small-kept" in small.sh("nas", "docker volume ls -q")
        assert small.sh("nas", f"ls {ROOT}/previous").split() == ["gone", "new.extra", "web"]
        assert small.sh("nas", FOREIGN) == before
        assert small.mesh("prune")[1] == "nothing to prune\n"
        code, output = small.mesh("rollback", "--stack", "web", "-y")
        assert code == 0, "the previous release's image is kept: " + output
    finally:
        small.sh("nas", "docker network rm their-net; docker volume rm small-kept")
