"""Why a host cannot be reached, in the operator's terms: the messages are OpenSSH's and sudo's own, as recorded."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mesh.live.ssh import Session, Target, explain, run_script
from mesh.state.deployment import Reach
from mesh.state.observed import Unknown

CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Host key for 10.0.0.1 has changed and you have requested strict checking.
Host key verification failed.
"""
UNKNOWN = """\
No ED25519 host key is known for 10.0.0.1 and you have requested strict checking.
Host key verification failed.
"""


def target(folder: Path = Path("/inventory"), **ssh: Any) -> Target:
    return Target("box", Reach("10.0.0.1", **ssh), folder)


@pytest.mark.parametrize(
    ("code", "stderr", "why", "mend"),
    [
        (255, CHANGED, "host key has changed", "mesh host trust box"),
        (255, UNKNOWN, "host key is not known", "mesh host trust box"),
        (255, "root@10.0.0.1: Permission denied (publickey).", "refuses to let root in", "ssh-copy-id"),
        (255, "ssh: connect to host 10.0.0.1 port 22: Connection refused", "Connection refused", "hosts.box.address"),
        (255, "ssh: connect to host 10.0.0.1 port 22: Connection timed out", "Connection timed out", "is it on"),
        (255, "ssh: connect to host 10.0.0.1 port 22: No route to host", "No route to host", "is it on"),
        (255, "ssh: Could not resolve hostname box.lan: Name or service not known", "Name or service", "address"),
        (1, "sudo: a password is required", "may not run sudo", "NOPASSWD"),
        (1, "sudo-rs: interactive authentication is required", "may not run sudo", "NOPASSWD"),
        (127, "sh: sudo: not found", "the remote shell ended with 127", "ssh root@10.0.0.1"),
        (255, "", "no reason given", "is it on"),
    ],
)
def test_a_failed_ssh_says_why_and_what_to_do(code: int, stderr: str, why: str, mend: str) -> None:
    found = explain(target(), code, stderr)
    assert why in found.why
    assert mend in found.mend


def test_ci_has_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_SSH_KEY", "/ci/key")
    assert "/ci/key" in target(key="operators").command()


def test_host_keys_are_checked_against_the_inventory_alone() -> None:
    command = target(Path("/my inventory"), user="ops", port=2222, key="../id").command()
    text = " ".join(command)
    assert "StrictHostKeyChecking=yes" in text
    assert 'UserKnownHostsFile="/my inventory/known_hosts"' in command
    assert "GlobalKnownHostsFile=/dev/null" in text
    assert "BatchMode=yes" in text
    assert command[-3:] == ["--", "10.0.0.1", "exec sudo -n sh -s"]
    assert "/my inventory/../id" in command


def test_root_needs_no_sudo() -> None:
    assert target().command()[-1] == "exec sh -s"


def test_openssh_itself_understands_the_options(tmp_path: Path) -> None:
    folder = tmp_path / "my inventory"
    folder.mkdir()
    command = target(folder).command()
    shown = subprocess.run([command[0], "-G", *command[1:-3], "10.0.0.1"], capture_output=True, text=True, check=True).stdout
    assert f"userknownhostsfile {folder}/known_hosts" in shown
    assert "stricthostkeychecking true" in shown


def test_a_missing_key_is_named_before_anything_connects(tmp_path: Path) -> None:
    found = run_script(target(tmp_path, key="id"), "true")
    assert isinstance(found, Unknown)
    assert str(tmp_path / "id") in found.why


@pytest.fixture
def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ssh that runs the script here. A STUB: it checks nothing."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{tmp_path}/argv\nexec sh -s\n')
    ssh.chmod(ssh.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    return tmp_path


def test_the_script_goes_through_stdin_and_never_onto_a_command_line(fake_ssh: Path) -> None:
    assert run_script(target(), "echo planted-script") == "planted-script\n"
    assert "planted-script" not in (fake_ssh / "argv").read_text()


def test_a_closed_session_leaves_no_ssh_behind(fake_ssh: Path) -> None:  # noqa: ARG001
    session = Session(target())
    process = session._process
    assert process
    session.close()
    assert process.poll() is not None


def test_a_script_that_fails_is_not_taken_for_an_answer(fake_ssh: Path) -> None:  # noqa: ARG001
    found = run_script(target(), "echo half; exit 3")
    assert isinstance(found, Unknown)
    assert "ended with 3" in found.why
