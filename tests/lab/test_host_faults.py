"""apply when a host fails in the middle: no power, no network, no disk, no daemon, a wrong clock, a link that loses packets."""

from __future__ import annotations

import datetime
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from labctl import Lab

from tests.lab.faults import SLOW, all_at, converges, declare, failed, fails, serving, until_serving
from tests.lab.small import ROOT, Small, fresh, wait

pytestmark = pytest.mark.lab
LOSS = "tc qdisc add dev eth0 root netem loss 5%"
LOSS_WITHOUT_NETEM = "iptables -I INPUT -m statistic --mode random --probability 0.05 -j DROP"
"""Where the kernel has no netem. Incoming packets alone, which are half of them."""


@pytest.fixture(scope="module")
def running(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    with fresh(lab, tmp_path_factory.mktemp("faults") / "inventory") as mesh:
        yield mesh


@pytest.fixture
def small(running: Small) -> Small:
    """Everything at round 1, whatever the test before it left."""
    converges(running, 1)
    return running


@contextmanager
def in_the_middle(mesh: Small, *containers: tuple[str, str], code: int = 1) -> Iterator[Callable[[], str]]:
    """An apply that has made these containers (host, name) anew and waits for their health. Gives what waits for its end."""
    old = {each: mesh.sh(each[0], f"docker inspect -f '{{{{.Id}}}}' {each[1]}").strip() for each in containers}
    process = mesh.start("apply", "-y")

    def ends() -> str:
        stdout, stderr = process.communicate(timeout=150)
        assert process.returncode == code, stdout + stderr
        return failed(code, stdout + stderr) if code else stdout

    try:
        for (host, name), before in old.items():
            mesh.until(host, f"docker inspect -f '{{{{.State.Running}}}} {{{{.Id}}}}' {name} | grep true | grep -v {before}")
        yield ends
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)


def test_a_host_without_power_and_one_without_network_are_named_and_nothing_is_lost(small: Small) -> None:
    laptop = small.sh("vm-docker", "echo ${SSH_CONNECTION%% *}").strip()
    drop = f"-s {laptop} -j DROP"
    declare(small, 2, one={"healthcheck": SLOW}, three={"healthcheck": SLOW})
    try:
        with in_the_middle(small, ("nas", "one-web-1"), ("vm-docker", "three-web-1")) as ends:
            small.lab.exec("vm-docker", f"iptables -I INPUT {drop}")
            small.lab.stop_host("nas")
            output = ends()
    finally:
        small.lab.exec("vm-docker", f"while iptables -D INPUT {drop} 2>/dev/null; do :; done")
        small.lab.start_host("nas")
    for host in ("nas", "vm-docker"):
        assert any(line.split()[:2] == [host, "failed"] and "the connection broke" in line for line in output.splitlines()), (
            output
        )
        assert f"{host}: cannot tell what is there" in output
    now = serving(small)
    assert now["four"] == 2, "beside it, what came up stays up"
    until_serving(small, {"two": now.get("two", 2), "four": 2})
    converges(small, 2)


def test_a_full_disk_stops_nothing_that_runs(small: Small) -> None:
    small.sh(
        "nas",
        f"rm -rf /tmp/kept && cp -a {ROOT} /tmp/kept && mount -t tmpfs -o size=1m tmpfs {ROOT} && cp -a /tmp/kept/. {ROOT}/",
    )
    fill = f"cat /dev/zero >{ROOT}/filler 2>/dev/null || true"
    try:
        small.sh("nas", fill)
        declare(small, 2)
        output = fails(small)
        assert any(line.split()[:2] == ["nas", "failed"] and "its disk is full" in line for line in output.splitlines()), output
        assert serving(small) == all_at(2, one=1, two=1)
        small.sh("nas", f"rm {ROOT}/filler")
        declare(small, 3, one={"healthcheck": SLOW})
        with in_the_middle(small, ("nas", "one-web-1")) as ends:
            small.sh("nas", fill)
            small.sh("nas", "docker exec one-web-1 touch /ready")
            output = ends()
        assert "its release could not be recorded" in output
        assert "its disk is full" in output
        assert "its previous release runs again" in output
        assert serving(small)["one"] == 1, "the release that was up before"
        assert small.sh("nas", f"cat {ROOT}/stacks/one/page.html") == "page 1\n"
        small.sh("nas", f"rm {ROOT}/filler")
        converges(small, 4)
    finally:
        small.sh("nas", f"rm -f {ROOT}/filler; rm -rf /tmp/kept; cp -a {ROOT} /tmp/kept")
        small.sh("nas", f"umount -l {ROOT} && rm -rf {ROOT} && mv /tmp/kept {ROOT}")
    converges(small, 4)


def test_a_daemon_that_restarts_is_waited_through(small: Small) -> None:
    """Requests to its socket wait meanwhile, so Compose goes on where it was."""
    declare(small, 2, one={"healthcheck": SLOW})
    try:
        with in_the_middle(small, ("nas", "one-web-1"), code=0) as ends:
            small.sh("nas", "systemctl restart docker")
            small.until("nas", "docker exec one-web-1 touch /ready")
            ends()
    finally:
        small.sh("nas", "systemctl reset-failed docker; systemctl start docker")
    until_serving(small, all_at(2))
    converges(small, 2)


def test_a_daemon_that_is_away_for_a_while_brings_the_old_release_back(small: Small) -> None:
    declare(small, 2, one={"healthcheck": SLOW})
    try:
        with in_the_middle(small, ("nas", "one-web-1")) as ends:
            small.sh("nas", "systemctl stop docker.socket docker; sleep 3; systemctl start docker.socket docker")
            output = ends()
    finally:
        small.sh("nas", "systemctl reset-failed docker; systemctl start docker.socket docker")
    assert "nas/one" in output
    assert "its previous release runs again" in output
    both = all_at(2, one=1), all_at(2, one=1, two=1)  # the other one of that host was up already, or went back as well
    wait(lambda: serving(small) in both, 60, "the old release of one")
    converges(small, 2)


def test_clocks_that_differ_neither_hold_a_lock_forever_nor_mix_up_what_came_last(small: Small) -> None:
    """A laptop ahead by a year, and a host whose clock was set back while somebody applied: the two clocks that are read."""
    declare(small, 2)
    small.apply()
    year = str(datetime.datetime.now(datetime.UTC).year)
    for host in ("nas", "vm-docker"):
        small.sh(host, f'sed -i \'$s/"at": *"{year}/"at":"{int(year) + 1}/\' {ROOT}/journal.jsonl')
    declare(small, 3)
    small.apply()
    runs = json.loads(small.mesh("history", "--json")[1])["runs"]
    assert [run["at"][:4] for run in runs[:2]] == [year, str(int(year) + 1)], "what came last is first"
    code, output = small.mesh("rollback", "-y")
    assert (code, serving(small)) == (0, all_at(2)), output
    holder = "run9 other@desk since 2026-01-02T03:04:05Z pid 1 on desk/1"
    small.sh("vm-docker", f"mkdir {ROOT}/lock && echo '{holder}' >{ROOT}/lock/holder && touch -d '+1 day' {ROOT}/lock/beat")
    try:
        declare(small, 4)
        output = small.apply()
        assert f"took over the lock of an apply that died: {holder}" in output
    finally:
        small.sh("vm-docker", f"rm -rf {ROOT}/lock")
    converges(small, 4)


def test_a_link_that_loses_one_packet_in_twenty_changes_nothing_about_the_result(small: Small) -> None:
    try:
        for host in ("nas", "vm-docker"):
            small.lab.exec(host, f"{LOSS} 2>/dev/null || {LOSS_WITHOUT_NETEM}")
        converges(small, 2)
    finally:
        for host in ("nas", "vm-docker"):
            small.lab.exec(
                host, f"{LOSS.replace('add', 'del')} 2>/dev/null; {LOSS_WITHOUT_NETEM.replace('-I', '-D')} 2>/dev/null; true"
            )
