"""Rollback on real hosts: a stack, a run, forward again; what has no way back, and what does not come up any more."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from labctl import Lab

from tests.lab.small import ROOT, Small, fresh

pytestmark = pytest.mark.lab
ENVIRONMENT = "docker inspect --format '{{.Config.Env}} {{.State.Status}}'"
IDENTITY = "docker inspect --format '{{.Id}} {{.State.StartedAt}}' "


@pytest.fixture(scope="module")
def small(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    """Three stacks at their first release, and two of them at a second one."""
    with fresh(lab, tmp_path_factory.mktemp("rollback") / "inventory") as mesh:
        mesh.stack("fine", "nas")
        declare(mesh, "1")
        mesh.apply()
        before = {host: mesh.sh(host, IDENTITY + "fine-web-1") for host in ("nas",)}
        declare(mesh, "2")
        mesh.apply()
        assert {host: mesh.sh(host, IDENTITY + "fine-web-1") for host in ("nas",)} == before, (
            "a stack without a change is not touched"
        )
        yield mesh


def declare(mesh: Small, number: str) -> None:
    mount = ["./page.html:/www/page.html:ro"]
    mesh.stack("web", "nas", environment={"ROUND": number}, files={"page.html": f"page {number}\n"}, volumes=mount)
    mesh.stack("far", "vm-docker", environment={"ROUND": number})


def rounds(mesh: Small) -> list[str]:
    """The release that `web` and `far` run."""
    found = (mesh.sh(host, f"{ENVIRONMENT} {name}-web-1 || true") for name, host in (("web", "nas"), ("far", "vm-docker")))
    return [text.partition("ROUND=")[2][0] for text in found if "running" in text]


def last_apply(mesh: Small) -> str:
    code, output = mesh.mesh("history", "--json")
    assert code == 0, output
    return str(next(run["run"] for run in json.loads(output)["runs"] if run["verb"] == "apply"))


def test_a_stack_goes_back_and_a_rollback_of_it_goes_forward(small: Small) -> None:
    code, output = small.mesh("rollback", "--stack", "web", "-y")
    assert code == 0, output
    assert rounds(small) == ["1", "2"]
    assert small.sh("nas", f"cat {ROOT}/stacks/web/page.html") == "page 1\n"
    code, output = small.mesh("plan")
    assert code == 2, output
    assert "nas/web was rolled back by " in output
    assert "apply takes it forward again" in output
    assert "far" not in output
    code, output = small.mesh("rollback", "--stack", "web", "-y")
    assert code == 0, output
    assert rounds(small) == ["2", "2"]
    code, output = small.mesh("plan")
    assert code == 0, output
    assert "rolled back" not in output


def test_all_that_a_run_changed_goes_back_and_apply_goes_forward_again(small: Small) -> None:
    run = last_apply(small)
    code, output = small.mesh("rollback", "--run", run)
    assert code == 1, "without a terminal and without -y nothing happens"
    assert rounds(small) == ["2", "2"]
    code, output = small.mesh("rollback", "--run", run, "-y")
    assert code == 0, output
    assert rounds(small) == ["1", "1"]
    code, output = small.mesh("rollback", "-y", "--host", "vm-docker")
    assert code == 0, output
    assert rounds(small) == ["1", "2"], "of the last run, what it changed on that host"
    small.apply()
    assert rounds(small) == ["2", "2"]


def test_a_stack_without_a_previous_release_is_an_error_and_nothing_is_done(small: Small) -> None:
    before = small.sh("nas", IDENTITY + "web-web-1 fine-web-1")
    code, output = small.mesh("rollback", "--stack", "web", "--stack", "fine", "-y")
    assert code == 1
    assert "nas/fine: there is no previous release to go back to" in output
    assert small.sh("nas", IDENTITY + "web-web-1 fine-web-1") == before


def test_an_old_release_that_does_not_come_up_any_more_gives_way_to_the_newer_one(small: Small) -> None:
    previous = f"{ROOT}/previous/web/compose.yaml"
    small.sh("nas", f"cp -p {previous} /tmp/good && sed -i 's|^    init: true|&\\n    command: [sh, -c, exit 9]|' {previous}")
    code, output = small.mesh("rollback", "--stack", "web", "-y")
    assert code == 1, output
    assert "its newer release runs again" in output
    assert rounds(small) == ["2", "2"]
    assert small.mesh("plan")[0] == 0
    small.sh("nas", f"grep -q 'exit 9' {previous} && cp -p /tmp/good {previous}")
    code, output = small.mesh("rollback", "--stack", "web", "-y")
    assert (code, rounds(small)) == (0, ["1", "2"]), "what is kept is kept"


def test_a_stack_that_left_the_spec_comes_back_with_the_run_that_removed_it(small: Small) -> None:
    small.drop("far")
    small.apply("--host", "vm-docker")
    assert rounds(small) == ["1"]
    code, output = small.mesh("rollback", "-y")
    assert code == 0, output
    assert rounds(small) == ["1", "2"]
    assert "it is not in the spec" in output
