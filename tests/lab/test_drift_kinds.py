"""Every kind of drift, made by hand on real hosts: it is named with exit 2, apply mends it, and then there is none."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from labctl import Lab

from tests.lab.conftest import Applied
from tests.lab.small import ROOT, Small, fresh

pytestmark = pytest.mark.lab
PAGE = f"{ROOT}/stacks/web/page.html"


@pytest.fixture(scope="module")
def small(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    with fresh(lab, tmp_path_factory.mktemp("drift") / "inventory") as mesh:
        mesh.stack(
            "web",
            "nas",
            files={"page.html": "hello\n"},
            volumes=["./page.html:/www/page.html:ro"],
            environment={"LEVEL": "info"},
        )
        mesh.stack("other", "vm-docker")
        mesh.apply()
        yield mesh


def found(small: Small) -> list[tuple[str, str, str, str]]:
    """Host, subject, name and reason of everything that drift finds."""
    process = small.start("drift", "--format", "json")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode in {0, 2}, stderr
    changes = json.loads(stdout)["changes"]
    assert process.returncode == (2 if changes else 0)
    return [(each["host"], each["subject"], each["name"], each["why"]) for each in changes]


def mended(small: Small) -> None:
    small.apply()
    assert found(small) == []
    assert "nothing to change" in small.apply()


def test_a_mesh_as_applied_has_no_drift(small: Small) -> None:
    assert found(small) == []


def test_a_file_edited_on_a_host(small: Small) -> None:
    small.sh("nas", f"echo edited >>{PAGE}")
    assert ("nas", "file", PAGE, "was edited on the host") in found(small)
    mended(small)
    assert small.sh("nas", "docker exec web-web-1 cat /www/page.html") == "hello\n", "the container sees the file that is there"


def test_a_file_that_others_may_write(small: Small) -> None:
    small.sh("nas", f"chmod 666 {PAGE}")
    assert ("nas", "file", PAGE, "has mode 0666, should have 0644") in found(small)
    mended(small)


def test_a_file_removed(small: Small) -> None:
    small.sh("nas", f"rm {PAGE}")
    assert ("nas", "file", PAGE, "is missing") in found(small)
    mended(small)


def test_a_file_put_beside_the_others(small: Small) -> None:
    small.sh("nas", f"echo 'services: {{}}' >{ROOT}/stacks/web/compose.override.yaml")
    assert [each[1:3] for each in found(small)] == [("file", f"{ROOT}/stacks/web/compose.override.yaml")]
    mended(small)


def test_a_container_stopped(small: Small) -> None:
    small.sh("nas", "docker stop -t 1 web-web-1")
    assert found(small) == [("nas", "service", "web", "is not running (exited)")]
    mended(small)


def test_a_container_removed(small: Small) -> None:
    small.sh("nas", "docker rm -f web-web-1")
    assert found(small) == [("nas", "service", "web", "has no container")]
    mended(small)


def test_a_container_recreated_with_another_environment(small: Small) -> None:
    edited = f"sed 's/info/debug/' {ROOT}/stacks/web/compose.yaml >/tmp/edited.yaml"
    small.sh("nas", f"{edited}; docker compose -p web --project-directory {ROOT}/stacks/web -f /tmp/edited.yaml up -d")
    assert found(small) == [("nas", "service", "web", "environment LEVEL: 'debug', should be 'info'")]
    mended(small)


def test_a_container_recreated_with_another_image(small: Small) -> None:
    image = small.sh("nas", "docker inspect --format '{{.Config.Image}}' web-web-1").strip()
    small.sh("nas", f"docker tag {image} mine:1")
    edited = f"sed 's#image:.*#image: mine:1#' {ROOT}/stacks/web/compose.yaml >/tmp/edited.yaml"
    small.sh("nas", f"{edited}; docker compose -p web --project-directory {ROOT}/stacks/web -f /tmp/edited.yaml up -d")
    assert found(small) == [("nas", "service", "web", f"runs mine:1, should run {image}")]
    mended(small)


def test_a_container_recreated_with_another_command(small: Small) -> None:
    lines = f"sed '/image:/a\\    stop_grace_period: 3s' {ROOT}/stacks/web/compose.yaml >/tmp/edited.yaml"
    small.sh("nas", f"{lines}; docker compose -p web --project-directory {ROOT}/stacks/web -f /tmp/edited.yaml up -d")
    assert [each[1:3] for each in found(small)] == [("service", "web")]
    assert "recreated by hand" in found(small)[0][3]
    mended(small)


def test_an_extra_container_in_a_managed_project(small: Small) -> None:
    labels = "--label com.docker.compose.project=web --label com.docker.compose.service=spy"
    small.sh("nas", f"docker run -d --init --name web-spy-1 {labels} {small.image}")
    assert [each[:3] for each in found(small)] == [("nas", "container", "web-spy-1")]
    mended(small)
    assert "web-spy-1" not in small.sh("nas", "docker ps -a --format '{{.Names}}'")


def test_a_container_scaled_by_hand(small: Small) -> None:
    small.sh("nas", f"cd {ROOT}/stacks/web && docker compose -p web up -d --scale web=2 --no-recreate")
    assert [each[:3] for each in found(small)] == [("nas", "container", "web-web-2")]
    mended(small)


def test_a_container_of_somebody_else_is_left_alone(small: Small) -> None:
    small.sh("nas", f"docker run -d --init --name small-foreign {small.image}")
    try:
        assert found(small) == []
        assert "small-foreign" in small.mesh("drift")[1]
    finally:
        small.sh("nas", "docker rm -f small-foreign")


def test_the_record_of_the_last_apply_removed(small: Small) -> None:
    small.sh("nas", f"rm {ROOT}/stacks/web/.release.json")
    assert [each[1:3] for each in found(small)] == [("file", f"{ROOT}/stacks/web/.release.json")]
    mended(small)


def test_drift_only_reads(small: Small) -> None:
    containers = "docker inspect --format '{{.Id}} {{.State.StartedAt}} {{.State.Status}}' $(docker ps -aq)"
    listing = f"find {ROOT} -printf '%p %T@ %m\\n' | sort; {containers}"
    before = small.sh("nas", listing)
    for format in ("text", "json", "github", "junit"):
        small.mesh("drift", "--format", format)
    assert small.sh("nas", listing) == before


def test_every_format_names_the_same_drift(small: Small) -> None:
    small.sh("nas", "docker stop -t 1 web-web-1")
    try:
        code, text = small.mesh("drift")
        assert (code, "is not running (exited)" in text) == (2, True)
        code, github = small.mesh("drift", "--format", "github")
        assert code == 2
        assert "::warning title=drift on nas/web::service web is not running (exited)" in github
        process = small.start("drift", "--format", "junit")
        junit = ElementTree.fromstring(process.communicate(timeout=60)[0])
        assert [case.get("name") for case in junit.iter("testcase") if case.find("failure") is not None] == ["web"]
        assert process.returncode == 2
    finally:
        mended(small)


# what the reference mesh has beside containers and files


def reference_drift(applied: Applied) -> list[tuple[str, str, str]]:
    done = applied.mesh("drift", "--format", "json")
    assert done.returncode in {0, 2}, done.stderr
    return [(each["host"], each["subject"], each["name"]) for each in json.loads(done.stdout)["changes"]]


def test_a_model_missing_from_ollama(applied: Applied) -> None:
    body = json.dumps({"model": "mistral:7b"}).encode()
    urllib.request.urlopen(urllib.request.Request("http://10.88.0.11:11434/api/delete", body, method="DELETE"), timeout=5)
    assert reference_drift(applied) == [("gpu-box", "model", "mistral:7b")]
    done = applied.mesh("apply", "-y")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "model pulled" in done.stdout
    assert reference_drift(applied) == []


def test_a_route_missing_from_the_live_gateway(lab: Lab, applied: Applied) -> None:
    """One gateway runs with another file than the one that is there now: files and labels are right, its routes are not."""
    config = "/opt/mesh/stacks/litellm/gateway/config.yaml"
    healthy = "until [ $(docker inspect -f '{{.State.Health.Status}}' litellm-litellm-a-1) = healthy ]; do sleep 0.5; done"
    lab.ssh("vm-docker", f"cp -p {config} /tmp/kept.yaml; sed -i 's/model_name: tidy/model_name: tidied/' {config}")
    lab.ssh("vm-docker", f"docker restart litellm-litellm-a-1; sleep 2; {healthy}; cat /tmp/kept.yaml >{config}")
    assert set(reference_drift(applied)) == {("vm-docker", "route", "tidied"), ("vm-docker", "route", "tidy")}
    done = applied.mesh("apply", "-y")
    assert done.returncode == 0, done.stdout + done.stderr
    assert reference_drift(applied) == []
