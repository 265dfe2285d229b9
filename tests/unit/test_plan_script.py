"""The second look's script, run for real by the shells that hosts have: it reads what it is asked for, and no secret leaves."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statekit import environment

from mesh.plan.looked import OTHER, Found, Looked, Mount, Volume, assignments, parse_looked
from mesh.plan.script import Ask, look_script
from mesh.plan.textdiff import LARGEST
from mesh.state.observed import Unknown

BOUNDARY, NONCE = "mesh-0123456789abcdef", "nonce-1"
SHELLS = [["sh"], ["dash"], ["busybox", "sh"], ["bash", "--posix"]]
DOCKER = """\
#!/bin/sh
# A STUB of docker for tests: it answers what this test expects, and is no Docker.
echo "$*" >>"${0%/*}/calls"
case "$*" in
"version"*) echo linux/arm64 ;;
"inspect --type container"*)
    echo '{"name":"/web-db-1","mounts":[{"Type":"volume","Name":"web_data","Source":"/x","Destination":"/data","RW":true}]}' ;;
"volume ls -q") echo web_data ;;
"volume inspect"*) echo '{"name":"web_data","driver":"local","options":null,"project":"web"}' ;;
esac
"""


@pytest.fixture(params=SHELLS, ids=" ".join)
def shell(request: pytest.FixtureRequest) -> list[str]:
    found: list[str] = request.param
    if not shutil.which(found[0]):
        pytest.skip(f"{found[0]} is not installed")
    return found


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    path = tmp_path / "bin" / "docker"
    path.parent.mkdir()
    path.write_text(DOCKER)
    path.chmod(0o755)
    return path


def answer(shell: list[str], ask: Ask, docker: Path) -> str:
    script = look_script(ask, docker=str(docker), boundary=BOUNDARY, nonce=NONCE)
    command = [shutil.which(shell[0]) or shell[0], *shell[1:], "-s"]
    path = environment(shell, docker.parent.parent)
    done = subprocess.run(command, input=script.encode(), capture_output=True, check=True, timeout=60, env=path)
    assert done.stderr == b""
    return done.stdout.decode()


def look(shell: list[str], ask: Ask, docker: Path) -> Looked:
    found = parse_looked(answer(shell, ask, docker), BOUNDARY)
    assert isinstance(found, Looked), found
    return found


def test_texts_come_byte_for_byte_and_large_ones_by_size_alone(shell: list[str], docker: Path, tmp_path: Path) -> None:
    contents = {
        "plain": b"a\n",
        "no end": b"a",
        "empty": b"",
        "odd \xc3\xbc'name": b"\0\xff\r\n\n\n",
        "large": b"x" * (LARGEST + 1),
    }
    paths = {name: tmp_path / name.encode("latin-1", "replace").decode("latin-1") for name in contents}
    for name, content in contents.items():
        paths[name].write_bytes(content)
    (tmp_path / "link").symlink_to("/etc/passwd")
    found = look(shell, Ask([str(path) for path in (*paths.values(), tmp_path / "link", tmp_path / "gone")]), docker)
    for name, content in contents.items():
        data = None if name == "large" else content
        assert found.files[str(paths[name])] == Found(len(content), data), name
    assert found.files[str(tmp_path / "link")] == Found(link=True)
    assert str(tmp_path / "gone") not in found.files


def test_mounts_volumes_and_the_platform_are_told(shell: list[str], docker: Path) -> None:
    found = look(shell, Ask(containers=["web-db-1"]), docker)
    assert found.mounts == {"web-db-1": (Mount("volume", "web_data", "/data"),)}
    assert found.volumes == {"web_data": Volume("web_data", "local", {}, "web")}
    assert found.platform == "linux/arm64"


def test_docker_is_asked_and_never_told_to_do_anything(shell: list[str], docker: Path) -> None:
    look(shell, Ask(containers=["web-db-1"]), docker)
    calls = (docker.parent / "calls").read_text().splitlines()
    assert {call.split(" --")[0] for call in calls} == {"version", "inspect", "volume ls -q", "volume inspect"}


SECRETS = """\
SAME='sk-PLANTED-1'
ROTATED='sk-FORMER-2'
PEM='-----BEGIN-----
INNER='not-a-name-the-spec-knows
AAAA=
-----END-----'
GONE='sk-FORMER-3'
"""


def test_variables_are_compared_on_the_host_by_name_and_no_value_leaves_it(
    shell: list[str], docker: Path, tmp_path: Path
) -> None:
    path = tmp_path / "env"
    path.write_text(SECRETS)
    names = frozenset({"SAME", "ROTATED", "PEM", "NEW"})
    ask = Ask(secrets=[str(path)], names=names)
    text = answer(shell, ask, docker)
    for piece in ("PLANTED", "FORMER", "BEGIN", "INNER", "AAAA", "GONE"):
        assert piece not in text
    found = look(shell, ask, docker).variables[str(path)]
    wanted = assignments(SECRETS.replace("sk-FORMER-2", "sk-NEW-2").replace("GONE='sk-FORMER-3'\n", "NEW='x'\n"), names, NONCE)
    assert [name for name, _ in found] == ["SAME", "ROTATED", "PEM", OTHER, OTHER]
    changed = {name for name, digest in wanted if dict(found).get(name) != digest}
    assert changed - {OTHER} == {"ROTATED", "NEW"}


@pytest.mark.parametrize("text", ["A='1'\nB='2'\n", "A='1'", "\n\nA='1\n2'\n x\nB='\\t\\\\'\n", "é='1'\nA= 'x\n", SECRETS])
def test_laptop_and_host_cut_a_file_of_secrets_alike(shell: list[str], docker: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "env"
    path.write_text(text)
    names = frozenset({"A", "B", "SAME", "PEM"})
    assert look(shell, Ask(secrets=[str(path)], names=names), docker).variables[str(path)] == assignments(text, names, NONCE)


def test_a_file_of_secrets_is_never_fetched() -> None:
    with pytest.raises(ValueError, match="not fetched"):
        look_script(Ask(["/opt/mesh/stacks/web/secrets/env"]), docker="docker", boundary=BOUNDARY, nonce=NONCE)


@settings(deadline=None)
@given(st.text(max_size=200))
def test_an_answer_that_makes_no_sense_is_unknown_and_no_crash(text: str) -> None:
    assert isinstance(parse_looked(text, BOUNDARY), Unknown)
    for section in ("file 3 2f61", "file x 2f", "link zz", "mounts", "volumes", "variables 2f"):
        assert isinstance(parse_looked(f"\n{BOUNDARY} {section}\n{text}\n{BOUNDARY} end\n", BOUNDARY), Looked | Unknown)
