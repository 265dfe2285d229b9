"""The observer that a host runs for a limited key: the same answers, and nothing beyond the mesh's stacks, whatever is sent."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from statekit import environment, inspected, stub_docker, value_of
from test_state_script import BOUNDARY, host, shell  # noqa: F401

from mesh.state.deployment import HostDeployment
from mesh.state.observed import ObservedHost, Unknown
from mesh.state.parse import parse_host
from mesh.state.script import DATA, END, installed_script, observe_script, version


def ask(shell: list[str], host: HostDeployment, docker: Path, sent: str, *, mesh: str = "closet") -> str:  # noqa: F811
    """What the installed observer prints when `sent` comes on its stdin."""
    program = docker.parent / "observe"
    program.write_text(installed_script(host.root, str(docker), mesh))
    path = environment(shell, Path(host.root).parent)
    done = subprocess.run(
        [shutil.which(shell[0]) or shell[0], *shell[1:], program],
        input=sent.encode(),
        capture_output=True,
        check=True,
        timeout=60,
        env=path,
    )
    return done.stdout.decode()


def data(*lines: str) -> str:
    return "\n".join(["rm -rf /", DATA, f"version {version()}", f"boundary {BOUNDARY}", *lines, END, "touch pwned", ""])


def test_the_same_script_is_answered_with_the_same_but_for_secrets(
    shell: list[str],  # noqa: F811
    host: HostDeployment,  # noqa: F811
    tmp_path: Path,
) -> None:
    docker = stub_docker(tmp_path / "bin")
    script = observe_script(host, mesh="closet", docker="docker", boundary=BOUNDARY)
    seen = parse_host(host, ask(shell, host, docker, script), BOUNDARY)
    assert isinstance(seen, ObservedHost), seen
    for file in (each for stack in host.stacks for each in stack.files):
        expected = "" if file.secret_names else file.sha256(value_of)
        assert (seen.files[file.path].sha256, seen.files[file.path].mode) == (expected, file.mode)


def test_files_elsewhere_and_files_with_secrets_are_not_hashed(
    shell: list[str],  # noqa: F811
    host: HostDeployment,  # noqa: F811
    tmp_path: Path,
) -> None:
    secret = f"{host.stacks[1].directory}/secrets/env"
    other = tmp_path / "other"
    other.write_text("x")
    octal = "".join(f"\\0{byte:03o}" for byte in f"{host.root}/stacks/../../other".encode())
    wanted = [f"file {other}", f"file {host.root}/stacks/../../other", f"file% {octal}", f"file {secret}", f"folder {tmp_path}"]
    told = ask(shell, host, stub_docker(tmp_path / "bin"), data(*wanted))
    assert "hashes" not in told
    assert str(other) not in told
    assert f"{BOUNDARY} end" in told


def test_data_is_never_run_and_fixed_settings_stay(
    shell: list[str],  # noqa: F811
    host: HostDeployment,  # noqa: F811
    tmp_path: Path,
) -> None:
    docker = stub_docker(tmp_path / "bin")
    (docker.parent / "ids").write_text("abc\n")
    (docker.parent / "containers").write_text(inspected() + "\n")
    hostile = ["mesh other", "root /", "docker touch", 'stack x")(eq', "stack ../..", "stack elsewhere", "image -h", "box -x"]
    hostile += [f"file $(touch {tmp_path}/pwned)", f"boundary `touch {tmp_path}/pwned`", f"image a;touch {tmp_path}/pwned"]
    ask(shell, host, docker, data(*hostile))
    calls = (docker.parent / "calls").read_text()
    assert '(eq (index $l "mesh.name") "closet")' in calls
    for word in ("other", "elsewhere", "-h", "pwned", '")('):
        assert word not in calls.replace('index $l "mesh.name")', ""), word
    assert not (tmp_path / "pwned").exists()


def test_only_projects_that_are_the_meshs_on_this_host_are_told_in_detail(
    shell: list[str],  # noqa: F811
    host: HostDeployment,  # noqa: F811
    tmp_path: Path,
) -> None:
    docker = stub_docker(tmp_path / "bin")
    (docker.parent / "ids").write_text("abc\n")
    (docker.parent / "containers").write_text(inspected() + "\n")
    ask(shell, host, docker, data("stack litellm", "stack paperless"))
    calls = (docker.parent / "calls").read_text()
    assert '(eq $p "litellm")' in calls
    assert "paperless" not in calls


def test_an_observer_of_another_version_says_so(
    shell: list[str],  # noqa: F811
    host: HostDeployment,  # noqa: F811
    tmp_path: Path,
) -> None:
    docker = stub_docker(tmp_path / "bin")
    told = ask(shell, host, docker, data("version 000000000000"))
    assert not (docker.parent / "calls").exists(), "it looks at nothing"
    seen = parse_host(host, told.replace(version(), "111111111111"), BOUNDARY)
    assert isinstance(seen, Unknown)
    assert "mesh host trust vm --read-only" in seen.mend


@pytest.mark.parametrize("command", ["touch pwned", "/usr/lib/openssh/sftp-server", "internal-sftp", "sh -s; touch pwned"])
def test_whatever_else_is_asked_for_is_refused_at_once(host: HostDeployment, tmp_path: Path, command: str) -> None:  # noqa: F811
    program = tmp_path / "observe"
    program.write_text(installed_script(host.root, "docker", "closet"))
    environ = {"PATH": "/usr/bin:/bin", "SSH_ORIGINAL_COMMAND": command}
    done = subprocess.run(["sh", program], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environ)
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing else" in done.stderr


def test_without_secrets_their_files_are_not_asked_for(host: HostDeployment) -> None:  # noqa: F811
    sent = observe_script(host, mesh="closet", docker="docker", boundary=BOUNDARY, hash_secrets=False)
    assert "secrets/env\n" not in sent
    assert f"folder {host.stacks[1].directory}/secrets" in sent, "mode and owner are still seen"


@pytest.mark.parametrize("name", ["with space", "ü", "line\nbreak"])
def test_a_file_with_an_odd_name_in_a_stack_is_told(
    shell: list[str],  # noqa: F811
    host: HostDeployment,  # noqa: F811
    tmp_path: Path,
    name: str,
) -> None:
    path = Path(host.stacks[1].directory) / name
    path.write_text("odd")
    octal = "".join(f"\\0{byte:03o}" for byte in str(path).encode())
    told = ask(shell, host, stub_docker(tmp_path / "bin"), data(f"file% {octal}"))
    seen = parse_host(host, told, BOUNDARY)
    assert isinstance(seen, ObservedHost)
    assert seen.files[str(path)].sha256
