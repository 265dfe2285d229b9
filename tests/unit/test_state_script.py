"""The observing script, run for real by the shells that hosts have, against a stub of docker."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from statekit import deployment, environment, inspected, stub_docker

from mesh.state.deployment import File, HostDeployment
from mesh.state.observed import ObservedHost, Unknown
from mesh.state.parse import parse_host
from mesh.state.script import observe_script

SHELLS = [["sh"], ["dash"], ["busybox", "sh"], ["bash", "--posix"]]
BOUNDARY = "mesh-0123456789abcdef"


@pytest.fixture(params=SHELLS, ids=" ".join)
def shell(request: pytest.FixtureRequest) -> list[str]:
    found: list[str] = request.param
    if not shutil.which(found[0]):
        pytest.skip(f"{found[0]} is not installed")
    return found


@pytest.fixture
def host(tmp_path: Path) -> HostDeployment:
    root = tmp_path / "opt"
    here = deployment(str(root)).hosts["vm"]
    for stack in here.stacks:
        for file in stack.files:
            path = Path(file.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content(lambda name: f"value of {name}"))
            path.chmod(file.mode)
    return here


def observe(shell: list[str], host: HostDeployment, docker: Path | str, noise: str = "") -> ObservedHost | Unknown:
    script = observe_script(host, mesh="closet", docker=str(docker), boundary=BOUNDARY)
    path = environment(shell, Path(host.root).parent)
    command = [shutil.which(shell[0]) or shell[0], *shell[1:], "-s"]
    done = subprocess.run(command, input=script.encode(), capture_output=True, check=True, timeout=60, env=path)
    return parse_host(host, noise + done.stdout.decode(), BOUNDARY)


def seen(answer: ObservedHost | Unknown) -> ObservedHost:
    assert isinstance(answer, ObservedHost), answer
    return answer


def test_every_file_of_the_deployment_is_seen_with_hash_and_mode(shell: list[str], host: HostDeployment, tmp_path: Path) -> None:
    found = seen(observe(shell, host, stub_docker(tmp_path / "bin")))
    for stack in host.stacks:
        for file in stack.files:
            assert found.files[file.path].sha256 == file.sha256(lambda name: f"value of {name}"), file.path
            assert found.files[file.path].mode == file.mode


@pytest.mark.parametrize(
    "name", ["with space", "line\nbreak", "ünï-cödé", "back\\slash", "$(touch pwned)", "-n", "quote'\"", "*"]
)
def test_a_file_with_an_odd_name_is_seen_under_its_own_name(
    shell: list[str], host: HostDeployment, tmp_path: Path, name: str
) -> None:
    stack = host.stacks[1]
    odd = File(f"{stack.directory}/{name}", ("odd\n",), 0o640)
    Path(odd.path).write_text("odd\n")
    Path(odd.path).chmod(0o640)
    there = replace(host, stacks=(replace(stack, files=(*stack.files, odd)),))
    found = seen(observe(shell, there, stub_docker(tmp_path / "bin"))).files
    assert found[odd.path].sha256 == odd.sha256(str)
    assert found[odd.path].mode == 0o640
    assert set(found) >= {file.path for file in stack.files}


def test_a_file_with_an_odd_name_beside_the_deployed_ones_is_listed(
    shell: list[str], host: HostDeployment, tmp_path: Path
) -> None:
    extra = Path(host.stacks[1].directory) / "some\nnote"
    extra.write_text("x")
    assert str(extra) in seen(observe(shell, host, stub_docker(tmp_path / "bin"))).files


def test_a_link_in_place_of_a_file_is_not_taken_for_the_file(shell: list[str], host: HostDeployment, tmp_path: Path) -> None:
    path = Path(host.stacks[1].directory) / "config.yaml"
    copy = tmp_path / "copy"
    path.rename(copy)
    path.symlink_to(copy)
    assert seen(observe(shell, host, stub_docker(tmp_path / "bin"))).files[str(path)].sha256 == "symlink"


def test_data_folders_of_a_stack_are_not_walked(shell: list[str], host: HostDeployment, tmp_path: Path) -> None:
    data = Path(host.stacks[0].directory) / "data"
    data.mkdir()
    (data / "segment").write_text("x")
    assert not any("segment" in path for path in seen(observe(shell, host, stub_docker(tmp_path / "bin"))).files)


def test_a_dead_daemon_is_unknown_in_dockers_own_words(shell: list[str], host: HostDeployment, tmp_path: Path) -> None:
    docker = stub_docker(tmp_path / "bin")
    words = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
    (docker.parent / "dead").write_text(words)
    answer = observe(shell, host, docker)
    assert isinstance(answer, Unknown)
    assert words in answer.why
    assert "systemctl start docker" in answer.mend


def test_a_missing_docker_says_so_and_names_the_setting(shell: list[str], host: HostDeployment) -> None:
    answer = observe(shell, host, "/nowhere/docker")
    assert isinstance(answer, Unknown)
    assert "/nowhere/docker" in answer.why
    assert "hosts.vm.docker" in answer.mend


def test_a_docker_without_compose_is_unknown(
    shell: list[str], host: HostDeployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = stub_docker(tmp_path / "bin")
    (docker.parent / "no-compose").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    answer = observe(shell, host, docker)
    if isinstance(answer, ObservedHost):
        pytest.skip("this machine has the Compose plugin in its usual place")
    assert "'compose' is not a docker command" in answer.why


def test_no_permission_on_the_socket_says_who_may(shell: list[str], host: HostDeployment, tmp_path: Path) -> None:
    docker = stub_docker(tmp_path / "bin")
    (docker.parent / "dead").write_text("permission denied while trying to connect to the Docker daemon socket")
    answer = observe(shell, host, docker)
    assert isinstance(answer, Unknown)
    assert "group docker" in answer.mend


def test_containers_are_read_and_only_ours_with_environment(shell: list[str], host: HostDeployment, tmp_path: Path) -> None:
    docker = stub_docker(tmp_path / "bin")
    (docker.parent / "ids").write_text("abc\ndef\n")
    ours = inspected(name="/litellm-litellm-1", project="litellm", env=["A=1\n2"], labels={"mesh.name": "closet"}, health="")
    (docker.parent / "containers").write_text(f"{ours}\n{inspected(name='/theirs')}\n")
    found = seen(observe(shell, host, docker)).containers
    assert [(each.name, each.environment) for each in found] == [("litellm-litellm-1", ("A=1\n2",)), ("theirs", ())]
    template = next(line for line in (docker.parent / "calls").read_text().splitlines() if line.startswith("inspect"))
    before, _, after = template.partition("{{if or ")
    assert ".Config.Env" not in before
    assert ".Config.Env" in after.partition("{{end}}}")[0]


def test_a_container_that_goes_away_meanwhile_is_no_error(shell: list[str], host: HostDeployment, tmp_path: Path) -> None:
    docker = stub_docker(tmp_path / "bin")
    (docker.parent / "ids").write_text("abc\n")
    (docker.parent / "vanish").touch()
    (docker.parent / "containers").write_text(inspected(name="/stays") + "\n")
    assert [each.name for each in seen(observe(shell, host, docker)).containers] == ["stays"]


def test_images_are_found_by_the_reference_that_the_deployment_uses(
    shell: list[str], host: HostDeployment, tmp_path: Path
) -> None:
    docker = stub_docker(tmp_path / "bin")
    images = ['{"id":"sha256:1","tags":["registry.lan/qdrant:1.0"],"digests":null}', '{"id":"sha256:2","tags":[],"digests":[]}']
    (docker.parent / "images").write_text("\n".join(images))
    assert seen(observe(shell, host, docker)).images == {"registry.lan/qdrant:1.0": "sha256:1"}


def test_an_image_by_digest_that_a_container_has_is_not_looked_up(shell: list[str], host: HostDeployment, tmp_path: Path) -> None:
    reference, moved = f"registry.lan/web:1@sha256:{'a' * 64}", f"registry.lan/web:2@sha256:{'b' * 64}"
    docker = stub_docker(tmp_path / "bin")
    (docker.parent / "ids").write_text(f"abc@{reference}\ndef@sha256:22\n")
    one = inspected(name="/one", image=reference, image_id="sha256:11")
    two = inspected(name="/two", image=moved, image_id="sha256:22")
    (docker.parent / "containers").write_text(f"{one}\n{two}\n")
    stacks = tuple(
        replace(each, services=tuple(replace(service, image=image) for service in each.services))
        for each, image in zip(host.stacks, [reference, moved], strict=False)
    )
    assert seen(observe(shell, replace(host, stacks=stacks), docker)).images == {reference: "sha256:11"}
    asked = next(line for line in (docker.parent / "calls").read_text().splitlines() if line.startswith("image inspect"))
    assert moved in asked
    assert reference not in asked


def test_a_banner_before_the_answer_is_ignored(shell: list[str], host: HostDeployment, tmp_path: Path) -> None:
    assert seen(observe(shell, host, stub_docker(tmp_path / "bin"), noise="Welcome!\nmesh-other end\n"))


def test_lock_and_releases_are_reported(shell: list[str], host: HostDeployment, tmp_path: Path) -> None:
    root = Path(host.root)
    (root / "lock").mkdir()
    (root / "lock" / "holder").write_text("run1 op@laptop since now\n")
    (root / "stacks" / "litellm" / ".release.json").write_text(
        '{"release":"r","mesh":"closet","at":"t","by":"op","files":["compose.yaml"],"services":{\n'
        '"litellm":{"digest":"d","config_hash":"c","image_id":"i"}\n}}\n'
    )
    (root / "stacks" / "qdrant" / ".release.json").write_text("{ damaged")
    found = seen(observe(shell, host, stub_docker(tmp_path / "bin")))
    assert found.lock == "run1 op@laptop since now"
    assert set(found.releases) == {"litellm"}
    assert found.releases["litellm"].services["litellm"].config_hash == "c"


def test_nothing_is_written_on_the_host(shell: list[str], host: HostDeployment, tmp_path: Path) -> None:
    docker = stub_docker(tmp_path / "bin")
    before = sorted((path, path.stat().st_mtime_ns) for path in Path(host.root).rglob("*"))
    observe(shell, host, docker)
    assert sorted((path, path.stat().st_mtime_ns) for path in Path(host.root).rglob("*")) == before
