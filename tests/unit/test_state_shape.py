"""Limits, ports, mounts, networks and rights: nothing for a container as Compose made it; each change by its name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.compile.named import named_objects
from mesh.state.deployment import HostDeployment, Named, Service, StackRelease
from mesh.state.diff_container import shape_differences
from mesh.state.diff_names import not_ours, orphans, taken
from mesh.state.observed import ObservedContainer, ObservedHost, ObservedMount, ObservedName, Shape
from mesh.state.parse_shape import read_shape
from mesh.state.wanted_shape import WantedShape, size

RECORDED = Path(__file__).parent / "recorded"
PROJECT: Mapping[str, Any] = yaml.safe_load((RECORDED / "shapes.yaml").read_text())
INSPECTED: Mapping[str, Any] = json.loads((RECORDED / "shapes.json").read_text())
ANONYMOUS = "0123456789abcdef" * 4


def stack(project: Mapping[str, Any] = PROJECT) -> StackRelease:
    services = tuple(Service(name, f"probe5-{name}-1", "tiny", "d", {}, each) for name, each in project["services"].items())
    return StackRelease("probe5", "probe5", "/opt/mesh/stacks/probe5", (), services, named=named_objects("probe5", project))


def host(*shapes: Shape, **more: Any) -> ObservedHost:
    made = [
        ObservedContainer(str(n), f"c{n}", "probe5", "x", "tiny", "i", "running", "", shape=one) for n, one in enumerate(shapes)
    ]
    return ObservedHost("nas", containers=tuple(made), **more)


def differences(definition: Mapping[str, Any], shape: Shape, **project: Any) -> list[str]:
    wanted = stack({"services": {"web": definition}, **project})
    return shape_differences(wanted, wanted.services[0], shape, host(shape, Shape(memory=1)))


PLAIN = Shape(networks=frozenset({"probe5_default"}), network_mode="probe5_default")


@pytest.mark.parametrize("name", list(INSPECTED))
def test_a_container_as_compose_made_it_does_not_differ(name: str) -> None:
    wanted, shape = stack(), read_shape(INSPECTED[name])
    service = next(each for each in wanted.services if each.name == name)
    assert shape_differences(wanted, service, shape, host(shape)) == []


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"memory": 2**30}, "memory limit is 1 GiB, should be 128 MiB"),
        ({"memory": 0}, "memory limit is none, should be 128 MiB"),
        ({"swap": 2**30}, "limit of memory and swap is 1 GiB, should be 256 MiB"),
        ({"cpus": 10**9}, "processor limit is 1, should be 0.5"),
        ({"cpu_shares": 0}, "cpu_shares is unset, should be 512"),
        ({"cpuset": "0-1"}, "cpuset is 0-1, should be 0"),
        ({"pids": 100}, "process limit is 100, should be none"),
        ({"restart": "always"}, "restart policy is always, should be on-failure:3"),
        ({"privileged": True}, "is privileged, should not be"),
        ({"read_only": True}, "has a read-only root, should not"),
        ({"cap_add": frozenset()}, "capabilities added are none, should be NET_ADMIN"),
        ({"security": frozenset()}, "lacks no-new-privileges, should have it"),
        ({"pid_mode": "host"}, "sees the host's processes, and the spec says otherwise"),
        ({"networks": frozenset({"backside"})}, "is not in the network probe5_front"),
        (
            {"networks": frozenset({"backside", "probe5_front", "x"})},
            "is in the network x, where the spec does not put it",
        ),
    ],
)
def test_what_was_changed_on_a_container_is_named_with_what_it_should_be(changed: dict[str, Any], why: str) -> None:
    wanted, shape = stack(), replace(read_shape(INSPECTED["rich"]), **changed)
    service = next(each for each in wanted.services if each.name == "rich")
    assert shape_differences(wanted, service, shape, host(shape, Shape(memory=1))) == [why]


def test_ports_and_mounts_that_somebody_added_or_took_away() -> None:
    definition = {"ports": ["80:80"], "volumes": ["data:/data", "./conf:/conf:ro"]}
    mounts = (ObservedMount("volume", "probe5_other", "/data", True), ObservedMount("bind", "/etc", "/host", True))
    shape = replace(PLAIN, ports=frozenset({("80/tcp", "127.0.0.1", "80")}), mounts=mounts)
    assert differences(definition, shape, volumes={"data": {}}) == [
        "publishes 127.0.0.1:80 to 80/tcp, which the spec does not",
        "does not publish 80 on every address to 80/tcp",
        "mounts the volume probe5_other at /data, should be the volume probe5_data",
        "does not mount /opt/mesh/stacks/probe5/conf at /conf",
        "mounts /etc at /host, which the spec does not",
    ]


@pytest.mark.parametrize(
    ("definition", "shape"),
    [
        ({"ports": ["${PORT}:80"]}, replace(PLAIN, ports=frozenset({("80/tcp", "", "8080")}))),
        ({"ports": ["8000-8010:80"]}, replace(PLAIN, ports=frozenset({("80/tcp", "", "8003")}))),
        ({"mem_limit": "${MEMORY}"}, replace(PLAIN, memory=2**30, swap=2**31)),
        ({"volumes": ["${DATA}:/data"]}, replace(PLAIN, mounts=(ObservedMount("bind", "/mnt/x", "/data", True),))),
        ({"volumes": ["~/x:/data"]}, replace(PLAIN, mounts=(ObservedMount("bind", "/root/x", "/data", True),))),
        ({"volumes": ["/a:/${WHERE}"]}, replace(PLAIN, mounts=(ObservedMount("bind", "/a", "/b", True),))),
        ({"extends": {"file": "x.yaml", "service": "y"}}, replace(PLAIN, privileged=True)),
        ({"networks": ["${NET}"]}, PLAIN),
        ({"restart": "${RESTART}"}, replace(PLAIN, restart="always")),
        ({}, replace(PLAIN, mounts=(ObservedMount("volume", ANONYMOUS, "/var/lib/x", True),))),
        ({"mem_limit": "64m", "pids_limit": 9}, replace(PLAIN, memory=2**26, swap=-1, pids=None)),
    ],
)
def test_what_only_compose_or_the_kernel_knows_is_no_alarm(definition: dict[str, Any], shape: Shape) -> None:
    assert differences(definition, shape) == []


def test_a_kernel_that_holds_no_memory_limit_at_all_is_no_alarm() -> None:
    wanted = stack({"services": {"web": {"mem_limit": "64m"}}})
    assert shape_differences(wanted, wanted.services[0], PLAIN, host(PLAIN)) == []
    assert shape_differences(wanted, wanted.services[0], PLAIN, host(PLAIN, Shape(memory=1))) != []


@pytest.mark.parametrize(
    ("written", "count"),
    [("512m", 2**29), ("1g", 2**30), ("1.5GiB", 3 * 2**29), ("64M", 2**26), ("10kb", 10240), (7, 7), (None, 0), ("${X}", None)],
)
def test_sizes_are_read_as_compose_reads_them(written: Any, count: int | None) -> None:
    assert size(written) == count


@pytest.mark.parametrize(
    ("definition", "policy"),
    [
        ({}, "no"),
        ({"restart": "no"}, "no"),
        ({"restart": False}, "no"),
        ({"restart": "on-failure"}, "on-failure"),
        ({"deploy": {"restart_policy": {"condition": "on-failure", "max_attempts": 2}}, "restart": "always"}, "on-failure:2"),
        ({"deploy": {"restart_policy": {"condition": "any"}}}, "always"),
    ],
)
def test_restart_policies_in_both_of_composes_ways(definition: dict[str, Any], policy: str) -> None:
    wanted = stack({"services": {"web": definition}})
    assert WantedShape(wanted, wanted.services[0]).restart == policy


# volumes and networks


def test_names_as_compose_makes_them_up() -> None:
    project = {"volumes": {"a": None, "b": {"name": "x"}, "c": {"external": True}}, "networks": {"default": {"name": "y"}}}
    assert named_objects("web", project) == (
        Named("volume", "a", "web_a"),
        Named("volume", "b", "x"),
        Named("volume", "c", "c", external=True),
        Named("network", "default", "y"),
    )


def names(*found: tuple[str, str, str]) -> ObservedHost:
    return ObservedHost("nas", names=tuple(ObservedName(kind, name, project) for kind, name, project in found))  # type: ignore[arg-type]


HOST = HostDeployment("nas", "10.0.0.3", "/opt/mesh", (stack(),))


def test_volumes_and_networks_of_our_projects_that_nobody_declares_are_named() -> None:
    seen = names(
        ("volume", "probe5_data", "probe5"),
        ("volume", "probe5_old", "probe5"),
        ("volume", ANONYMOUS, "probe5"),
        ("volume", "theirs", "other"),
        ("network", "probe5_default", "probe5"),
        ("network", "probe5_gone", "probe5"),
        ("network", "bridge", ""),
    )
    assert [(each.subject, each.name) for each in orphans(HOST, seen)] == [("volume", "probe5_old"), ("network", "probe5_gone")]


def test_a_name_that_only_compose_knows_makes_no_orphans_of_its_kind() -> None:
    unclear = replace(stack(), named=(Named("volume", "a", "${X}"),))
    seen = names(("volume", "probe5_old", "probe5"))
    assert list(orphans(replace(HOST, stacks=(unclear,)), seen)) == []


def test_a_users_volume_with_our_name_is_said_until_a_container_of_ours_has_it() -> None:
    seen = names(("volume", "probe5_data", ""), ("volume", "other", "probe5"), ("network", "bridge", ""))
    said = list(taken(HOST, seen))
    assert len(said) == 1
    assert "apply will not touch the stack" in not_ours(stack(), seen)
    assert "probe5_data is there already and somebody's own" in said[0]
    used = replace(seen, containers=host(Shape(mounts=(ObservedMount("volume", "probe5_data", "/data", True),))).containers)
    assert list(taken(HOST, used)) == []
    assert not_ours(stack(), used) == ""


def test_an_external_volume_that_is_not_there_is_said_before_apply() -> None:
    external = replace(stack(), named=(Named("volume", "a", "media", external=True),))
    seen = names(("network", "bridge", ""))
    assert "docker volume create media" in " ".join(taken(replace(HOST, stacks=(external,)), seen))
