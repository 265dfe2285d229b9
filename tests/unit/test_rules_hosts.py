"""Addresses, ports and cards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from specs import a_world, findings, said

from mesh.rules.world import Published, StackFacts
from mesh.validate import published_ports


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        (
            "hosts: {vm-docker: {address: vm.lan}}",
            "2: error[address-bind]: hosts.vm-docker: `vm.lan` is not an IP address, and there is no `bind` to publish ports on"
            " | add bind: with the host's IPv4 address, such as bind: 192.168.1.20",
        ),
        (
            "hosts: {vm-docker: {address: 999.1.1.1}}",
            "2: error[address-bind]: hosts.vm-docker: `999.1.1.1` is not an IP address, and there is no `bind`"
            " to publish ports on"
            " | add bind: with the host's IPv4 address, such as bind: 192.168.1.20",
        ),
        (
            "hosts: {vm-docker: {address: 0.0.0.0}}",
            "2: error[address-bind]: hosts.vm-docker: nothing can be reached at 0.0.0.0 | write the host's own IP address",
        ),
        (
            "hosts: {vm-docker: {address: 127.0.0.1}}",
            "2: error[address-bind]: hosts.vm-docker: the other hosts cannot reach 127.0.0.1"
            " | write the address that the host has on the network",
        ),
        (
            "hosts: {vm-docker: {address: 192.168.1.20}}",
            "2: error[address-shared]: hosts.vm-docker: it has the address of gpu-box, 192.168.1.20"
            " | correct the address, or declare the machine once",
        ),
        (
            "stacks: {litellm: {port: 4010}}",
            "2: error[port-collision]: stacks.litellm publishes port 4010 of vm-docker, which stacks.caching-proxy has already"
            " | give one of them another port, say port: 4011",
        ),
        (
            "stacks: {litellm: {on: gpu-box, port: 11434}}",
            "2: error[port-collision]: stacks.litellm publishes port 11434 of gpu-box, which providers.ollama has already"
            " | give one of them another port, say port: 11435",
        ),
        (
            "providers: {ollama: {port: 22}}",
            "2: error[port-collision]: providers.ollama publishes port 22 of gpu-box, which the SSH server has already"
            " | give one of them another port, say port: 23",
        ),
        (
            "hosts: {gpu-box: {gpus: [{card: rtx-4070ti}]}}",
            "2: error[card-unknown]: hosts.gpu-box: the catalogue has no card `rtx-4070ti` | did you mean `rtx-4070-ti`?",
        ),
        (
            "hosts: {gpu-box: {gpus: []}}",
            "6: error[card-missing]: providers.ollama: it is to use the cards of gpu-box, which has none"
            " | declare `gpus:` on gpu-box, or write gpu: none",
        ),
    ],
)
def test_what_a_host_cannot_be_is_refused(tmp_path: Path, overlay: str, expected: str) -> None:
    assert said(findings(tmp_path, overlay)) == [expected]


@pytest.mark.parametrize("host", ["{address: vm.lan, bind: 192.168.1.21}", '{address: "fd00::21"}', "{bind: 0.0.0.0}"])
def test_an_address_that_can_be_bound_to_is_accepted(tmp_path: Path, host: str) -> None:
    assert findings(tmp_path, f"hosts: {{vm-docker: {host}}}") == []


def test_the_usual_ports_of_stacks_collide_without_being_written(tmp_path: Path) -> None:
    stacks = {**a_world().stacks, "whoami": StackFacts("whoami", {}, (Published(4000, "192.168.1.21"),))}
    own = replace(stacks["whoami"], ports=(Published(4000),))
    overlay = "stacks: {whoami: {on: vm-docker, source: x}}"
    assert [each.rule for each in findings(tmp_path, overlay, stacks={**stacks, "whoami": own})] == ["port-collision"]


def test_the_same_port_on_two_hosts_or_protocols_is_no_collision(tmp_path: Path) -> None:
    dns = StackFacts("dns", {}, (Published(4000, protocol="udp"),))
    overlay = "stacks: {dns: {on: vm-docker, source: x}, other: {on: gpu-box, port: 4000, source: y}}"
    assert findings(tmp_path, overlay, stacks={**a_world().stacks, "dns": dns}) == []


def test_a_port_on_all_interfaces_is_said_and_still_collides(tmp_path: Path) -> None:
    own = StackFacts("own", {}, (Published(4000, "0.0.0.0"),))
    found = findings(tmp_path, "stacks: {own: {on: vm-docker, source: x}}", stacks={**a_world().stacks, "own": own})
    assert sorted(each.rule for each in found) == ["port-collision", "port-everywhere"]


def test_ports_of_a_plain_compose_file_are_read_in_all_their_forms() -> None:
    ports = [
        "8000:80",
        "127.0.0.1:81:81",
        "53:53/udp",
        "9000-9001:9000-9001",
        "3000",
        "${PORT}:80",
        {"published": "70", "target": 7},
    ]
    assert list(published_ports({"services": {"a": {"ports": ports}, "b": {}}})) == [
        Published(8000, "0.0.0.0"),
        Published(81, "127.0.0.1"),
        Published(53, "0.0.0.0", "udp"),
        Published(9000, "0.0.0.0"),
        Published(9001, "0.0.0.0"),
        Published(70, "0.0.0.0"),
    ]
