"""What a plan says of files, services, interruptions and data, from deployments and observations that are made up here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from statekit import SECRET, container, deployment, ideal, service, stack, value_of, with_host

from mesh.cli.plan_text import plan_text
from mesh.plan.effects import definition_differences
from mesh.plan.explain import Explanation, explain, to_ask
from mesh.plan.looked import Found, Looked, Mount, Volume, assignments
from mesh.state.deployment import Deployment, File, HostDeployment, Rolling, SecretPart, Service, StackRelease
from mesh.state.diff import diff
from mesh.state.observed import Observed, ObservedFile, ObservedHost
from mesh.state.plan import Plan

NONCE = "n"
FOLDER = "/opt/mesh/stacks"


def one(*stacks: StackRelease) -> Deployment:
    """Those stacks on a host `vm`, and another host."""
    return Deployment(
        "closet", {"vm": HostDeployment("vm", "10.0.0.2", "/opt/mesh", stacks), "nas": HostDeployment("nas", "n", "/opt/mesh")}
    )


def meant(new: Deployment, seen: Observed, looked: Looked | None = None, plan: Plan | None = None) -> Explanation:
    plan = plan or diff(new, seen, value_of)
    look = {name: looked or Looked() for name in new.hosts}
    effects, files, risks = explain(new, new, seen, plan, look, nonce=NONCE, value_of=value_of, redact=lambda text: text)
    return Explanation(effects, files, (), (), risks)


def text(new: Deployment, seen: Observed, looked: Looked | None = None, **options: bool) -> str:
    return plan_text(diff(new, seen, value_of), new, meant(new, seen, looked), **options)


def web(image: str = "", mounts: tuple[str, ...] = (), *files: File, compose: str = "", **more: Any) -> StackRelease:
    found = stack("web", (service("web", "web", image=image, mounts=mounts, **more),), files)
    if compose:
        found = replace(found, files=(File(found.files[0].path, (compose,)), *found.files[1:]))
    return found


def changed(of: StackRelease, **fields: Any) -> StackRelease:
    """The stack with another digest of its service, as the compiler would give it."""
    services = tuple(replace(each, digest=f"{each.digest}-2", **fields) for each in of.services)
    return replace(of, services=services)


# why


def test_a_service_says_which_file_it_restarts_for_and_how_many_lines() -> None:
    old = web("", ("config.yaml",), File("config.yaml", ("a: 1\nb: 2\nc: 3\n",)))
    new = changed(web("", ("config.yaml",), File("config.yaml", ("a: 1\nb: 3\nc: 4\n",))))
    looked = Looked(files={f"{FOLDER}/web/config.yaml": Found(15, b"a: 1\nb: 2\nc: 3\n")})
    said = text(one(new), ideal(one(old)), looked)
    assert "service   web          made anew: config.yaml changed, 2 lines" in said
    assert "file      config.yaml  changes with the spec: 2 lines added, 2 removed" in said
    assert "      -b: 2\n      -c: 3\n      +b: 3\n      +c: 4" in said
    assert "web: is interrupted while it restarts" in said


def rotated(old: str) -> tuple[StackRelease, Observed, Looked]:
    path = f"{FOLDER}/web/secrets/env"
    text = ("KEY=", SecretPart("key", "shell"), "\nOTHER=", SecretPart("other", "shell"), "\n")
    was = web("", ("secrets/env",), File("secrets/env", text, 0o400))
    seen = ideal(one(was))
    there = seen.hosts["vm"]
    assert isinstance(there, ObservedHost)
    files = {**there.files, path: ObservedFile("of the former value", 0o400, 0, 0)}
    content = was.files[1].content(lambda name: old if name == "key" else value_of(name)).decode()
    variables = assignments(content, frozenset({"KEY", "OTHER"}), NONCE)
    return changed(was), with_host(seen, "vm", files=files), Looked(variables={path: variables})


def test_a_rotated_secret_is_named_by_its_variable_and_its_value_is_hidden() -> None:
    new, seen, looked = rotated("sk-FORMER")
    said = text(one(new), seen, looked)
    assert "made anew: env KEY changed, value hidden" in said
    assert "OTHER" not in said
    assert "sk-FORMER" not in said
    assert SECRET not in said


def test_where_the_second_look_failed_the_file_of_secrets_is_still_named() -> None:
    new, seen, _ = rotated("sk-FORMER")
    assert "secrets/env changed, values hidden" in text(one(new), seen)


def test_a_secret_that_is_a_file_of_its_own_is_named_by_its_name() -> None:
    was = web("", ("secrets/db",), File("secrets/db", (SecretPart("db_password"),), 0o400))
    files = {f"{FOLDER}/web/secrets/db": ObservedFile("another", 0o400, 0, 0)}
    seen = ideal(one(was))
    there = seen.hosts["vm"]
    assert isinstance(there, ObservedHost)
    said = text(one(changed(was)), with_host(seen, "vm", files={**there.files, **files}))
    assert "secret db_password changed, value hidden" in said


def test_only_files_that_differ_are_asked_for_and_never_one_of_secrets() -> None:
    new, seen, _ = rotated("sk-FORMER")
    new = replace(new, files=(File(new.files[0].path, ("another\n",)), *new.files[1:]))
    host = seen.hosts["vm"]
    assert isinstance(host, ObservedHost)
    ask = to_ask(one(new).hosts["vm"], host, diff(one(new), seen, value_of), value_of)
    assert ask is not None
    assert (set(ask.texts), set(ask.secrets), set(ask.names)) == (
        {f"{FOLDER}/web/compose.yaml"},
        {f"{FOLDER}/web/secrets/env"},
        {"KEY", "OTHER"},
    )
    clean = diff(deployment(), ideal(deployment()), value_of)
    assert all(
        to_ask(each, there, clean, value_of) is None
        for each in deployment().hosts.values()
        if isinstance(there := ideal(deployment()).hosts[each.name], ObservedHost)
    )


def test_an_image_is_told_from_old_to_new_and_a_definition_by_its_keys() -> None:
    form = (
        "services: {{web: {{image: 'r/web:{0}', mem_limit: {0}g, command: -p {0}, environment: {{LEVEL: l{0}, API_KEY: k{0}}}}}}}"
    )
    before, after = form.format(1), form.format(2)
    old, new = web("r/web:1", compose=before), changed(web("r/web:2", compose=after))
    looked = Looked(files={f"{FOLDER}/web/compose.yaml": Found(len(before), before.encode())})
    (effect,) = meant(one(new), ideal(one(old)), looked).stacks
    (only,) = effect.services
    assert only.image == ("r/web:1", "r/web:2")
    assert set(only.why) >= {
        "mem_limit 1g -> 2g",
        "env API_KEY changed, value hidden",
        "env LEVEL 'l1' -> 'l2'",
        "command changed",
    }
    assert "image r/web:1 -> r/web:2" in text(one(new), ideal(one(old)), looked)


def test_a_definition_that_is_not_known_on_both_sides_says_nothing() -> None:
    assert definition_differences({}, {"image": "x"}) == []
    assert definition_differences({"ports": ["1:1"]}, {"ports": ["2:2"]}) == ["ports changed"]


def test_control_characters_of_a_host_do_not_reach_the_terminal() -> None:
    old = web("", ("config.yaml",), File("config.yaml", ("a\n",)))
    new = changed(web("", ("config.yaml",), File("config.yaml", ("b\n",))))
    looked = Looked(files={f"{FOLDER}/web/config.yaml": Found(9, b"\x1b[2J\x07 a\r\n")})
    said = text(one(new), ideal(one(old)), looked)
    assert "\x1b" not in said
    assert "\x07" not in said
    assert "\\x1b[2J" in said


def test_a_long_text_waits_for_diff_and_many_changes_of_one_kind_share_a_line() -> None:
    lines = "".join(f"line {number}\n" for number in range(30))
    old = web("", ("config.yaml",), File("config.yaml", ("old\n",)))
    new = changed(web("", ("config.yaml",), File("config.yaml", (lines,)), *(File(f"f{n}", ("x",)) for n in range(5))))
    looked = Looked(files={f"{FOLDER}/web/config.yaml": Found(4, b"old\n")})
    said = text(one(new), ideal(one(old)), looked)
    assert "config.yaml: 32 lines of differences, shown with --diff" in said
    assert "line 7" not in said
    assert "+line 7" in text(one(new), ideal(one(old)), looked, diff=True)
    assert "5 files" in said
    assert "f4" not in said
    assert "f4" in text(one(new), ideal(one(old)), looked, verbose=True)


# interruptions


def gateways() -> StackRelease:
    both = tuple(service("web", name) for name in ("a", "b", "front"))
    return replace(stack("web", both), rolling=Rolling(("a", "b"), "front", ("switch",)))


def digests(of: StackRelease, *names: str) -> StackRelease:
    services = tuple(replace(each, digest="new") if each.name in names else each for each in of.services)
    return replace(of, services=services)


@pytest.mark.parametrize(
    ("touched", "interruption"),
    [(("a", "b"), "rolling"), (("a",), "rolling"), (("a", "front"), "restart"), (("front",), "restart")],
)
def test_services_that_change_one_after_the_other_interrupt_nobody(touched: tuple[str, ...], interruption: str) -> None:
    (effect,) = meant(one(digests(gateways(), *touched)), ideal(one(gateways()))).stacks
    assert effect.interruption == interruption
    assert {each.name for each in effect.services} == set(touched)


def test_where_nothing_ran_nothing_is_interrupted_and_where_the_one_before_them_is_gone_all_are() -> None:
    new, seen = gateways(), ideal(one(gateways()))
    assert [each.interruption for each in meant(one(new), with_host(seen, "vm", containers=())).stacks] == ["start"]
    without = tuple(container(new, each) for each in new.services if each.name != "front")
    found = meant(one(digests(new, "a")), with_host(seen, "vm", containers=without)).stacks
    assert [each.interruption for each in found] == ["restart"]


def test_how_long_the_last_apply_took_is_told_where_it_was_written_down() -> None:
    seen = ideal(one(gateways()))
    host = seen.hosts["vm"]
    assert isinstance(host, ObservedHost)
    assert "took" not in text(one(digests(gateways(), "front")), seen)
    timed = {name: replace(each, seconds=41.4) for name, each in host.releases.items()}
    said = text(one(digests(gateways(), "front")), with_host(seen, "vm", releases=timed))
    assert "is interrupted while it restarts; the last time took 41 s" in said


# data


def risk(new: Deployment, old: Deployment, looked: Looked) -> list[tuple[str, str, str]]:
    return [(each.host, each.kind, each.what) for each in meant(new, ideal(old), looked).risks]


DATA = {"volumes": ["data:/data"]}
MOUNTED = Looked(
    mounts={"web-web-1": (Mount("volume", "web_data", "/data"),)}, volumes={"web_data": Volume("web_data", "local", {}, "web")}
)


def test_volumes_and_folders_of_a_stack_that_goes_are_named_and_stay() -> None:
    mounts = {
        "web-web-1": (*MOUNTED.mounts["web-web-1"], Mount("bind", "/srv/pictures", "/p"), Mount("bind", "/x/c", "/c", False))
    }
    volumes = {**MOUNTED.volumes, "web_old": Volume("web_old", "local", {}, "web"), "else": Volume("else", "local", {}, "other")}
    found = risk(one(), one(web(**DATA)), Looked(mounts=mounts, volumes=volumes))
    assert found == [("vm", "leaves", "web goes, and its data stays: volume web_data, volume web_old, /srv/pictures")]


def test_data_does_not_follow_a_stack_to_another_host() -> None:
    old = one(web(**DATA))
    here = HostDeployment("nas", "n", "/opt/mesh", (web(**DATA),))
    (found, *_) = risk(replace(old, hosts={"vm": replace(old.hosts["vm"], stacks=()), "nas": here}), old, MOUNTED)
    assert found == ("vm", "moves", "web moves to nas and its data does not follow: volume web_data stay on vm")


@pytest.mark.parametrize(
    ("volumes", "says"),
    [
        (["other:/data"], "web gets volume web_other at /data, which starts empty, in place of volume web_data, which stays"),
        (["kept:/data"], "web gets volume web_kept at /data, which is there already, in place of volume web_data, which stays"),
        (["./data:/data"], "web gets /opt/mesh/stacks/web/data at /data, as it is on the host, in place of volume web_data"),
        (["data:/elsewhere"], "web no longer has volume web_data at /data: what is in it stays, and is not used"),
        ([{"type": "volume", "source": "x", "target": "/data"}], "web gets volume web_x at /data, which starts empty"),
    ],
)
def test_a_service_that_gets_another_place_for_its_data_is_told(volumes: list[Any], says: str) -> None:
    looked = replace(MOUNTED, volumes={**MOUNTED.volumes, "web_kept": Volume("web_kept", "local")})
    (found,) = risk(one(changed(web(volumes=volumes))), one(web(**DATA)), looked)
    assert found[1] == "empty"
    assert found[2].startswith(says)


@pytest.mark.parametrize(
    "volumes", [["data:/data"], ["data:/data:rw"], [{"type": "volume", "source": "data", "target": "/data/"}]]
)
def test_a_service_that_keeps_its_volume_is_at_no_risk(volumes: list[Any]) -> None:
    assert risk(one(changed(web(volumes=volumes))), one(web(**DATA)), MOUNTED) == []


@pytest.mark.parametrize(
    ("compose", "kinds"), [("{}", []), ("{driver: nfs}", ["driver"]), ("{driver_opts: {type: nfs}}", ["driver"])]
)
def test_a_volume_whose_driver_changes_is_told(compose: str, kinds: list[str]) -> None:
    new = changed(web(compose=f"volumes: {{data: {compose}}}\n", **DATA))
    assert [kind for _, kind, _ in risk(one(new), one(web(**DATA)), MOUNTED)] == kinds


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("postgres:16.4", "postgres:17.0", "another major version (16.4 -> 17.0) opens its data"),
        ("postgres:16.4", "postgres:16.2", "an older version (16.4 -> 16.2) opens data that a newer one wrote"),
        ("postgres:16.4", "postgres:16.6", ""),
        ("qdrant/qdrant:v1.9.0@sha256:1", "mirror.lan/qdrant:v2.0.0@sha256:2", "another major version"),
        ("x:latest", "x:stable", ""),
    ],
)
def test_another_major_version_of_a_service_with_data_is_told(old: str, new: str, told: str) -> None:
    found = risk(one(changed(web(new, **DATA))), one(web(old, **DATA)), MOUNTED)
    assert [kind for _, kind, _ in found] == (["version"] if told else [])
    assert told in str(found)
    assert risk(one(changed(web(new))), one(web(old)), Looked()) == [], "without data nothing is at risk"


def test_an_unnamed_volume_of_a_container_that_goes_is_told() -> None:
    old, new = stack("web", (service("web", "web"), service("web", "db"))), web()
    looked = Looked(mounts={"web-db-1": (Mount("volume", "0123456789ab" + "c" * 52, "/var/lib/db"),)})
    ((_, kind, what),) = risk(one(new), one(old), looked)
    assert kind == "unnamed"
    assert "/var/lib/db stays in the unnamed volume 0123456789ab" in what


def test_nothing_is_said_of_a_mesh_that_is_as_it_should_be() -> None:
    assert meant(deployment(), ideal(deployment())) == Explanation()


def test_a_service_of_any_shape_is_explained_without_a_crash() -> None:
    odd: Mapping[str, Any] = {
        "volumes": [{"type": "tmpfs", "target": "/t"}, "/anonymous", "$HOME:/h"],
        "environment": ["A", "B=1"],
    }
    new = replace(web(), services=(Service("web", "web-web-1", "$IMAGE", "d2", {}, odd),))
    looked = Looked(files={f"{FOLDER}/web/compose.yaml": Found(3, b"[1]")}, mounts={"web-web-1": (Mount("bind", "/h", "/h"),)})
    assert meant(one(new), ideal(one(web())), looked).stacks
