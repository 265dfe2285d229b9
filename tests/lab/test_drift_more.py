"""Drift that Compose itself does not see, what is ignored and for how long, and a key that can ask for drift and nothing else."""

from __future__ import annotations

import datetime
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from labctl import Lab

from mesh.state.script import version
from tests.lab.small import ROOT, Small, fresh

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def small(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    with fresh(lab, tmp_path_factory.mktemp("more") / "inventory") as mesh:
        mesh.stack("web", "nas", files={"page.html": "hello\n"}, volumes=["./page.html:/www/page.html:ro"], mem_limit="64m")
        mesh.apply()
        yield mesh
        mesh.sh("nas", "docker network rm small-extra 2>/dev/null; docker volume rm web_old web_data 2>/dev/null; true")


def drift(small: Small, *arguments: str, expect: int) -> dict[str, list[dict[str, str]]]:
    process = small.start("drift", "--format", "json", *arguments)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == expect, stdout + stderr
    found: dict[str, list[dict[str, str]]] = json.loads(stdout)
    return found


def reasons(small: Small) -> set[str]:
    changes = drift(small, expect=2)["changes"]
    assert [(each["host"], each["subject"], each["name"]) for each in changes] == [("nas", "service", "web")]
    return set(changes[0]["why"].split("; "))


def mended(small: Small) -> None:
    small.apply()
    assert drift(small, expect=0)["changes"] == []


def test_limits_restarts_and_networks_changed_on_a_running_container(small: Small) -> None:
    small.sh("nas", "docker update --memory 96m --memory-swap 192m --restart always --cpus 0.5 web-web-1")
    small.sh("nas", "docker network create small-extra; docker network connect small-extra web-web-1")
    small.sh("nas", "docker network disconnect web_default web-web-1")
    assert reasons(small) == {
        "memory limit is 96 MiB, should be 64 MiB",
        "processor limit is 0.5, should be none",
        "restart policy is always, should be unless-stopped",
        "is in the network small-extra, where the spec does not put it",
        "is not in the network web_default",
    }
    mended(small)


def test_ports_mounts_and_rights_of_a_container_made_anew(small: Small) -> None:
    edits = "    ports: [127.0.0.1:18123:8080]\\n    privileged: true\\n    cap_add: [NET_ADMIN]\\n"
    edited = f"sed '/image:/a\\{edits}' {ROOT}/stacks/web/compose.yaml | sed 's#page.html:ro#page.html#' >/tmp/edited.yaml"
    small.sh("nas", f"{edited}; docker compose -p web --project-directory {ROOT}/stacks/web -f /tmp/edited.yaml up -d")
    assert reasons(small) == {
        "publishes 127.0.0.1:18123 to 8080/tcp, which the spec does not",
        "may write to /www/page.html, and may not by the spec",
        "is privileged, should not be",
        "capabilities added are NET_ADMIN, should be none",
    }
    mended(small)


def test_a_volume_left_over_is_drift_that_apply_never_deletes(small: Small) -> None:
    small.sh("nas", "docker volume create --label com.docker.compose.project=web web_old")
    odd = drift(small, expect=2)["deviations"]
    assert [(each["host"], each["stack"], each["subject"], each["name"]) for each in odd] == [("nas", "web", "volume", "web_old")]
    assert "docker volume rm web_old" in odd[0]["mend"]
    assert "nothing to change" in small.apply()
    assert "web_old" in small.sh("nas", "docker volume ls -q")
    small.sh("nas", "docker volume rm web_old")


def test_a_volume_of_somebody_elses_with_our_name_is_said_before_apply_uses_it(small: Small) -> None:
    small.sh("nas", "docker volume create web_data")
    compose = small.folder / "own" / "web" / "compose.yaml"
    written = compose.read_text()
    data = yaml.safe_load(written)
    data["services"]["web"]["volumes"].append("data:/data")
    compose.write_text(yaml.safe_dump(data | {"volumes": {"data": {}}}))
    try:
        _, said = small.mesh("plan")
        assert "the volume web_data is there already and somebody's own" in said
    finally:
        compose.write_text(written)
        small.sh("nas", "docker volume rm web_data")


def test_ignored_until_a_day_and_reported_again_after_it(small: Small) -> None:
    small.sh("nas", "docker update --restart always web-web-1")
    spec = small.folder / "mesh.yaml"
    written = spec.read_text()

    def ignore(until: datetime.date) -> None:
        entry = {"what": "nas/web/service web", "why": "restart policy*", "reason": "a test", "until": until}
        spec.write_text(written + yaml.safe_dump({"drift": {"ignore": [entry]}}))

    today = datetime.date.today()
    try:
        ignore(today + datetime.timedelta(days=30))
        code, said = small.mesh("drift", "-v")
        assert (code, "no drift" in said, "1 ignored until" in said) == (0, True, True), said
        assert "restart policy is always" in said
        ignore(today - datetime.timedelta(days=1))
        code, said = small.mesh("drift")
        assert (code, "hides nothing any more" in said) == (2, True), said
        ignore(today + datetime.timedelta(days=400))
        code, said = small.mesh("drift")
        assert code == 1
        assert "mesh.yaml:" in said and "more than a year away" in said
    finally:
        spec.write_text(written)
        mended(small)


# a key that may do nothing else


@pytest.fixture(scope="module")
def key(small: Small) -> Iterator[Path]:
    """CI's private key, let in on every host."""
    private = small.folder / "ci"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "small-ci", "-f", private], check=True)
    for host in small.lab.hosts:
        code, said = small.mesh("host", "trust", host, "--read-only", "-y")
        assert code == 0, said
    yield private
    for host in small.lab.hosts:
        small.sh(host, "sed -i /small-ci/d ~/.ssh/authorized_keys")


def as_ci(small: Small, key: Path, *arguments: str, program: str = "ssh", stdin: str = "") -> subprocess.CompletedProcess[str]:
    options = ["-F", "/dev/null", "-i", str(key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
    options += ["-o", f"UserKnownHostsFile={small.folder / 'known_hosts'}"]
    return subprocess.run([program, *options, *arguments], input=stdin, capture_output=True, text=True, timeout=30, check=False)


def test_drift_with_the_key_that_can_do_nothing_else(small: Small, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_SSH_KEY", str(key))
    assert drift(small, expect=0)["changes"] == []
    small.sh("nas", f"docker stop -t 1 web-web-1; echo more >>{ROOT}/stacks/web/page.html")
    try:
        found = drift(small, expect=2)["changes"]
        assert {(each["subject"], each["why"].split(" (")[0]) for each in found} == {
            ("file", "was edited on the host"),
            ("service", "mounts page.html, which differs"),
        }
    finally:
        monkeypatch.delenv("MESH_SSH_KEY")
        mended(small)


def test_drift_without_the_secrets(small: Small, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_SSH_KEY", str(key))
    small.identity.rename(small.folder / "hidden")
    try:
        code, said = small.mesh("drift", "--no-secrets")
        assert (code, "no drift" in said) == (0, True), said
    finally:
        (small.folder / "hidden").rename(small.identity)


def test_the_key_runs_nothing_else_and_reads_nothing_else(small: Small, key: Path) -> None:
    nas = f"root@{small.lab.hosts['nas'].address}"
    small.sh(
        "nas",
        f"mkdir -p {ROOT}/stacks/web/secrets; echo low >{ROOT}/stacks/web/secrets/pin; chmod 400 {ROOT}/stacks/web/secrets/pin",
    )
    try:
        for attempt in (["touch /tmp/pwned"], ["sh -s"], ["sh"]):
            done = as_ci(small, key, nas, *attempt, stdin="touch /tmp/pwned\n")
            assert "mesh drift and nothing else" in done.stderr or attempt == ["sh -s"]
        data = [
            f"version {version()}",
            "boundary b;touch /tmp/pwned",
            "docker touch",
            "root /",
            "mesh other",
            "stack ../..",
        ]
        data += ["file /etc/shadow", f"file {ROOT}/stacks/../../../etc/passwd", f"file {ROOT}/stacks/web/secrets/pin"]
        data += ["file% \\0057etc\\0057shadow", "folder /etc", "image -h", "box -h", 'stack x")(eq']
        answer = as_ci(small, key, nas, "sh -s", stdin="\n".join(["@mesh-data", *map(str, data), "@mesh-end", ""]))
        assert "hashes" not in answer.stdout
        told = [json.loads(line) for line in answer.stdout.splitlines() if line.startswith('{"id"')]
        assert {each["labels"]["mesh.name"] for each in told if "env" in each} == {"small"}, (
            "details of the mesh's containers only"
        )
        assert as_ci(small, key, nas, program="sftp", stdin="ls\n").returncode != 0
        forward = as_ci(small, key, "-o", "ExitOnForwardFailure=yes", "-R", "18124:127.0.0.1:22", "-N", nas)
        assert forward.returncode != 0
        tunnel = as_ci(small, key, "-W", "127.0.0.1:22", nas)
        assert "SSH-2.0" not in tunnel.stdout
        assert "pwned" not in small.sh("nas", "ls /tmp /root")
    finally:
        small.sh("nas", f"rm -r {ROOT}/stacks/web/secrets")


def test_a_host_is_trusted_by_its_fingerprint_and_by_no_other(small: Small) -> None:
    hosts = small.folder / "known_hosts"
    written = hosts.read_text()
    address = small.lab.hosts["nas"].address
    hosts.write_text("".join(line for line in written.splitlines(keepends=True) if address not in line))
    right = small.sh("nas", "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    try:
        code, said = small.mesh("host", "trust", "nas")
        assert (code, right in said, "no terminal" in said) == (1, True, True), said
        code, said = small.mesh("host", "trust", "nas", "-y")
        assert (code, "nobody has compared" in said) == (1, True), said
        code, said = small.mesh("host", "trust", "nas", "--fingerprint", "SHA256:wrong")
        assert (code, "something else answers" in said) == (1, True), said
        assert address not in hosts.read_text()
        code, said = small.mesh("host", "trust", "nas", "--fingerprint", right)
        assert code == 0, said
        assert small.mesh("drift", "--host", "nas")[0] == 0
    finally:
        hosts.write_text(written)
