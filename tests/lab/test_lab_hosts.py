"""The lab itself: what the other tests stand on. These reset and stop hosts; a test that needs the mesh applied must apply it."""

from __future__ import annotations

import os
import signal

import pytest
from labctl import Lab, boxes, engine
from labctl.settings import HOSTS, LABEL, PREFIX

from mesh.errors import MeshError

pytestmark = pytest.mark.lab


def ids(lab: Lab) -> dict[str, str]:
    on = lab._engine()
    return {
        name: on.docker("inspect", "--format", "{{.Id}} {{.State.StartedAt}}", f"{PREFIX}-{name}").stdout for name in lab.states()
    }


def test_up_on_a_lab_that_is_up_touches_nothing(lab: Lab) -> None:
    before = ids(lab)
    lab.up()
    assert ids(lab) == before


def test_a_reset_host_has_an_empty_disk_and_a_new_key_that_is_known(lab: Lab) -> None:
    lab.exec("nas", "touch /root/left-behind")
    key = lab.known_hosts.read_text()
    lab.reset_host("nas")
    assert lab.known_hosts.read_text() != key
    assert lab.ssh("nas", "ls /root/left-behind || hostname", check=False).stdout == "nas\n"


def test_a_stopped_host_cannot_be_reached_and_comes_back_with_its_disk(lab: Lab) -> None:
    lab.exec("nas", "echo kept > /root/note")
    lab.stop_host("nas")
    with pytest.raises(MeshError):
        lab.ssh("nas", "true")
    lab.start_host("nas")
    assert lab.ssh("nas", "cat /root/note").stdout == "kept\n"


def test_a_host_pulls_by_digest_and_runs_a_hardened_container(lab: Lab) -> None:
    image = lab.images()["tiny"]
    hardened = "--read-only --cap-drop ALL --security-opt no-new-privileges --memory 32m"
    assert lab.ssh("nas", f"docker run --rm {hardened} {image} echo runs").stdout == "runs\n"


def test_only_the_host_with_a_card_hands_one_to_a_container(lab: Lab) -> None:
    run = f"docker run --rm --gpus all {lab.images()['tiny']} echo seen"
    assert lab.ssh("gpu-box", run).stdout == "seen\n"
    assert "4070 Ti, 12282" in lab.ssh("gpu-box", "nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits").stdout
    with pytest.raises(MeshError, match="docker run"):
        lab.ssh("nas", run)


def test_hosts_have_no_python_because_a_host_must_need_none(lab: Lab) -> None:
    for name in HOSTS:
        assert lab.ssh(name, "command -v python3 python || echo none").stdout == "none\n"


def test_a_half_made_container_of_a_killed_run_is_replaced(lab: Lab) -> None:
    on = lab._engine()
    boxes.remove_box(on, HOSTS["nas"].container)
    image = on.docker("inspect", "--format", "{{.Config.Image}}", HOSTS["gpu-box"].container).stdout.strip()
    on.docker("create", "--name", HOSTS["nas"].container, "--label", f"{LABEL}=nas", image)
    lab.up()
    assert lab.ssh("nas", "hostname").stdout == "nas\n"


def test_up_brings_a_killed_engine_back_with_the_hosts_disks(lab: Lab) -> None:
    if not lab._engine().own:
        pytest.skip("the engine is the machine's own: not ours to kill")
    lab.exec("nas", "echo kept > /root/note")
    pid = engine._pid("dockerd")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    lab.up()
    assert lab.ssh("nas", "cat /root/note").stdout == "kept\n"


def test_a_mistyped_host_is_an_error_that_names_the_hosts(lab: Lab) -> None:
    with pytest.raises(MeshError) as caught:
        lab.reset_host("gpubox")
    assert "gpu-box" in caught.value.mend
