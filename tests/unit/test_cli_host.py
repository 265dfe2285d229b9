"""`mesh host trust` and `mesh init --ci`, and drift without the identity. ssh-keyscan is a STUB that prints a recorded answer."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from clikit import Ran

from mesh.cli.host import authorized_line, install_script
from mesh.inventory import open_inventory
from mesh.live.hostkeys import HostKey, known, public_key, trust
from mesh.state.script import installed_script

BLOB = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
FINGERPRINT = "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"
Run = Callable[..., Ran]


@pytest.fixture
def scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder at the front of PATH whose ssh-keyscan answers as GitHub's server does."""
    folder = tmp_path / "stubs"
    folder.mkdir()
    program = folder / "ssh-keyscan"
    program.write_text(f"#!/bin/sh\necho '# 127.0.0.1:22 SSH-2.0-x' >&2\necho '127.0.0.1 ssh-ed25519 {BLOB}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_a_fingerprint_is_openssh_s_own() -> None:
    assert HostKey("ssh-ed25519", BLOB).fingerprint == FINGERPRINT


@pytest.mark.usefixtures("scanned")
def test_a_host_is_trusted_once_its_fingerprint_was_given(run_mesh: Run, small_inventory: Path) -> None:
    ran = run_mesh("host", "trust", "box", "--fingerprint", FINGERPRINT, "-C", small_inventory)
    assert ran.code == 0, ran.err
    assert (small_inventory / "known_hosts").read_text() == f"127.0.0.1 ssh-ed25519 {BLOB}\n"
    assert "known already" in run_mesh("host", "trust", "box", "-C", small_inventory).out


@pytest.mark.usefixtures("scanned")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "there is no terminal to ask on"),
        (("-y",), "-y trusts no key that nobody has compared"),
        (("--fingerprint", "SHA256:other"), "something else answers than the host"),
    ],
)
def test_a_key_that_nobody_compared_is_not_trusted(
    run_mesh: Run, small_inventory: Path, arguments: tuple[str, ...], words: str
) -> None:
    ran = run_mesh("host", "trust", "box", *arguments, "-C", small_inventory)
    assert ran.code == 1
    assert words in ran.err
    assert not (small_inventory / "known_hosts").exists()


def test_a_host_that_does_not_answer_and_one_that_is_not_in_the_spec(run_mesh: Run, small_inventory: Path, scanned: Path) -> None:
    (scanned / "ssh-keyscan").write_text("#!/bin/sh\necho 'connect: refused' >&2\n")
    assert "connect: refused" in run_mesh("host", "trust", "box", "-C", small_inventory).err
    assert "did you mean" in run_mesh("host", "trust", "bos", "-C", small_inventory).err


def test_an_old_key_gives_way_and_other_lines_stay(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"# mine\n10.0.0.1 ssh-rsa {BLOB}\n[10.0.0.1]:2222 ssh-ed25519 {BLOB}\n@cert-authority * ssh-rsa {BLOB}\n")
    trust(path, "10.0.0.1", 22, HostKey("ssh-ed25519", BLOB))
    lines = path.read_text().splitlines()
    assert lines[0] == "# mine"
    assert f"[10.0.0.1]:2222 ssh-ed25519 {BLOB}" in lines
    assert lines.count(f"10.0.0.1 ssh-ed25519 {BLOB}") == 1
    assert known(path, "10.0.0.1", 22) == (HostKey("ssh-ed25519", BLOB),)


def test_a_line_of_several_names_stays_for_the_others(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"nas,10.0.0.3 ssh-rsa {BLOB}\n")
    assert known(path, "10.0.0.3", 22) == (HostKey("ssh-rsa", BLOB),)
    trust(path, "10.0.0.3", 22, HostKey("ssh-ed25519", BLOB))
    assert path.read_text() == f"nas ssh-rsa {BLOB}\n10.0.0.3 ssh-ed25519 {BLOB}\n"


def test_a_hashed_line_of_known_hosts_is_read(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= ssh-ed25519 {BLOB}\n")
    assert known(path, "192.168.1.61", 22) == (HostKey("ssh-ed25519", BLOB),)
    assert known(path, "192.168.1.62", 22) == ()


# CI's key


@pytest.mark.usefixtures("scanned")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "there is no public key for CI"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "this is a private key"),
        (f'command="sh" ssh-ed25519 {BLOB}\n', "this is not one public key"),
        (f"ssh-ed25519 {BLOB}\nssh-ed25519 {BLOB}\n", "this is not one public key"),
    ],
)
def test_only_one_plain_public_key_is_installed(run_mesh: Run, small_inventory: Path, text: str | None, words: str) -> None:
    if text is not None:
        (small_inventory / "ci.pub").write_text(text)
    command = ("host", "trust", "box", "--read-only", "-y", "--fingerprint", FINGERPRINT, "-C", small_inventory)
    ran = run_mesh(*command)
    assert ran.code == 1
    assert words in ran.err


def test_the_line_lets_the_key_run_the_observer_alone(tmp_path: Path) -> None:
    (tmp_path / "ci.pub").write_text(f"ssh-ed25519 {BLOB} ci of mine\n")
    key = public_key(tmp_path / "ci.pub")
    assert authorized_line("/opt/mesh", "root", key) == f'restrict,command="/opt/mesh/bin/observe" ssh-ed25519 {BLOB} ci of mine'
    assert 'command="sudo -n /opt/mesh/bin/observe"' in authorized_line("/opt/mesh", "ops", key)


def install(folder: Path, key: str) -> str:
    """What the host says to the script; its root's home is below `folder`, by a STUB of awk."""
    stubs = folder / "bin"
    stubs.mkdir(exist_ok=True)
    (folder / "home").mkdir(exist_ok=True)
    for name, does in (("awk", f"echo {folder}/home"), ("chown", ":")):
        (stubs / name).write_text(f"#!/bin/sh\n{does}\n")
        (stubs / name).chmod(0o755)
    root = str(folder / "mesh")
    script = install_script(root, "root", key, installed_script(root, "docker", "closet"))
    environment = {"PATH": f"{stubs}:/usr/bin:/bin"}
    return subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, check=True, env=environment).stdout.strip()


def test_the_observer_and_the_line_are_installed_once_however_often(tmp_path: Path) -> None:
    keys = tmp_path / "home" / ".ssh" / "authorized_keys"
    for _ in range(2):
        assert install(tmp_path, f"ssh-ed25519 {BLOB} ci") == "installed"
    root = tmp_path / "mesh"
    assert keys.read_text() == f'restrict,command="{root}/bin/observe" ssh-ed25519 {BLOB} ci\n'
    assert keys.stat().st_mode & 0o777 == 0o600
    assert (root / "bin" / "observe").read_text() == installed_script(str(root), "docker", "closet")
    assert (root / "bin" / "observe").stat().st_mode & 0o777 == 0o755


def test_a_key_that_may_do_everything_there_is_refused_and_other_keys_stay(tmp_path: Path) -> None:
    keys = tmp_path / "home" / ".ssh" / "authorized_keys"
    keys.parent.mkdir(parents=True)
    keys.write_text("ssh-rsa OTHER mine\n")
    assert install(tmp_path, f"ssh-ed25519 {BLOB} ci") == "installed"
    assert keys.read_text().startswith("ssh-rsa OTHER mine\n")
    keys.write_text(f"ssh-ed25519 {BLOB} mine\n")
    assert install(tmp_path, f"ssh-ed25519 {BLOB} ci") == "this key may do everything there already"
    assert keys.read_text() == f"ssh-ed25519 {BLOB} mine\n"


# workflows


@pytest.mark.parametrize("forge", ["github", "forgejo", "gitea"])
def test_workflows_are_written_for_this_inventory(
    run_mesh: Run, small_inventory: Path, forge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_inventory.parent)
    ran = run_mesh("init", "--ci", forge, "-C", small_inventory)
    assert ran.code == 0, ran.err
    for name in ("check", "drift"):
        text = (small_inventory.parent / f".{forge}" / "workflows" / f"mesh-{name}.yml").read_text()
        steps = next(iter(yaml.safe_load(text)["jobs"].values()))["steps"]
        assert f"bin/mesh -C inventory {name}" in " ".join(step.get("run", "") for step in steps)
        pinned = [step["uses"].partition("@")[2] for step in steps if "uses" in step]
        assert all(len(commit) == 40 and set(commit) <= set("0123456789abcdef") for commit in pinned)
        assert "${{" not in " ".join(step.get("run", "") for step in steps), "nothing is pasted into a script"
    assert run_mesh("init", "--ci", forge, "-C", small_inventory).code == 0


def test_a_workflow_that_somebody_changed_is_not_replaced(run_mesh: Run, small_inventory: Path) -> None:
    out = small_inventory.parent
    assert run_mesh("init", "--ci", "github", "--out", out, "-C", small_inventory).code == 0
    changed = out / ".github" / "workflows" / "mesh-drift.yml"
    changed.write_text("on: never\n")
    ran = run_mesh("init", "--ci", "github", "--out", out, "-C", small_inventory)
    assert ran.code == 1
    assert "mesh-drift.yml" in ran.err
    assert changed.read_text() == "on: never\n"


# without the identity


def test_the_index_has_fingerprints_that_stand_in_for_the_values(run_mesh: Run, small_inventory: Path, identity: Path) -> None:
    assert run_mesh("secrets", "init", "-C", small_inventory).code == 0
    opened = open_inventory(small_inventory).secrets
    name = next(iter(sorted(opened.names())))
    expected, value = opened.fingerprint(name), opened.value(name)
    identity.rename(identity.with_suffix(".away"))
    assert open_inventory(small_inventory).secrets.indexed_fingerprint(name) == expected
    assert value not in (small_inventory / "secrets.index").read_text()


def test_a_secret_without_a_fingerprint_is_named(run_mesh: Run, small_inventory: Path) -> None:
    assert run_mesh("secrets", "init", "-C", small_inventory).code == 0
    index = small_inventory / "secrets.index"
    data = yaml.safe_load(index.read_text())
    del data["fingerprints"]
    index.write_text(yaml.safe_dump(data))
    with pytest.raises(Exception, match="fingerprint of this secret is not known"):
        open_inventory(small_inventory).secrets.indexed_fingerprint("mesh_salt")
