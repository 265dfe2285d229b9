"""diff: nothing for a mesh that is as the spec says; for everything that differs, a change with a true reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statekit import SECRET, container, deployment, ideal, image_id, service, stack, value_of, with_host

from mesh.state.deployment import Deployment, File, HostDeployment
from mesh.state.diff import diff
from mesh.state.observed import (
    Observed,
    ObservedContainer,
    ObservedFile,
    ObservedGateway,
    ObservedHost,
    RecordedRelease,
    Shape,
    Unknown,
)
from mesh.state.plan import Change, Plan
from mesh.state.work import host_work

LITELLM = "/opt/mesh/stacks/litellm"


def plan(seen: Observed, wanted: Deployment | None = None) -> Plan:
    return diff(wanted or deployment(), seen, value_of)


def only(found: Plan) -> Change:
    assert len(found.changes) == 1, found.changes
    return found.changes[0]


def host(seen: Observed, name: str) -> ObservedHost:
    found = seen.hosts[name]
    assert isinstance(found, ObservedHost)
    return found


def change_container(seen: Observed, name: str, **changes: object) -> Observed:
    """The observation with one container changed."""
    for each in seen.hosts.values():
        assert isinstance(each, ObservedHost)
        if any(one.name == name for one in each.containers):
            made = tuple(replace(one, **changes) if one.name == name else one for one in each.containers)  # type: ignore[arg-type]
            return with_host(seen, each.name, containers=made)
    raise KeyError(name)


def change_file(seen: Observed, path: str, **changes: object) -> Observed:
    files = dict(host(seen, "vm").files)
    files[path] = replace(files[path], **changes)  # type: ignore[arg-type]
    return with_host(seen, "vm", files=files)


def without(seen: Observed, name: str, field: str, key: str) -> Observed:
    return with_host(seen, name, **{field: {one: value for one, value in getattr(host(seen, name), field).items() if one != key}})


def test_a_mesh_that_is_as_the_spec_says_has_an_empty_plan() -> None:
    found = plan(ideal(deployment()))
    assert found == Plan()
    assert found.clean


def test_an_empty_host_gets_everything_and_names_the_images_to_pull() -> None:
    seen = with_host(ideal(deployment()), "vm", files={}, containers=(), images={}, releases={})
    found = plan(replace(seen, gateways=dict.fromkeys(seen.gateways, Unknown("refused"))))
    assert not found.unknown
    assert {change.verb for change in found.changes} == {"create"}
    assert next(change.name for change in found.changes if change.subject == "image") == "registry.lan/qdrant:1.0"
    assert found.stacks("vm") == ("qdrant", "litellm")


# files


def test_a_file_edited_on_the_host_is_named_and_the_service_that_mounts_it_is_restarted() -> None:
    found = plan(change_file(ideal(deployment()), f"{LITELLM}/config.yaml", sha256="other"))
    file, restarted = found.changes
    assert (file.name, file.verb, file.why) == (f"{LITELLM}/config.yaml", "update", "was edited on the host")
    assert (restarted.subject, restarted.name, restarted.verb) == ("service", "litellm", "restart")
    assert "config.yaml" in restarted.why


def test_a_file_that_nothing_mounts_restarts_nothing() -> None:
    assert only(plan(change_file(ideal(deployment()), f"{LITELLM}/compose.yaml", sha256="other"))).subject == "file"


def test_a_secret_readable_by_others_is_drift_and_its_value_is_in_no_reason() -> None:
    found = plan(change_file(ideal(deployment()), f"{LITELLM}/secrets/env", mode=0o644))
    assert found.changes[0].why == "has mode 0644, should have 0400"
    assert SECRET not in str(found)


def test_a_file_of_somebody_else_is_drift() -> None:
    assert (
        "belongs to 1000:1000"
        in plan(change_file(ideal(deployment()), f"{LITELLM}/config.yaml", owner=1000, group=1000)).changes[0].why
    )


def test_a_file_changed_by_the_spec_says_that_the_spec_changed_it() -> None:
    seen = change_file(ideal(deployment()), f"{LITELLM}/config.yaml", sha256="older")
    record = replace(host(seen, "vm").releases["litellm"], release="older")
    seen = with_host(seen, "vm", releases={**host(seen, "vm").releases, "litellm": record})
    seen = change_container(seen, "litellm-litellm-1", labels={"mesh.name": "closet", "mesh.digest": "older"})
    file, updated = plan(seen).changes
    assert file.why == "changes with the spec"
    assert (updated.verb, updated.why) == ("update", "config.yaml changed")


def test_a_file_left_by_an_earlier_release_is_put_aside() -> None:
    seen = ideal(deployment())
    record = host(seen, "vm").releases["litellm"]
    seen = with_host(seen, "vm", files={**host(seen, "vm").files, f"{LITELLM}/old.py": ObservedFile("", 0o644, 0, 0)})
    stray = only(plan(seen))
    assert (stray.verb, "somebody put it there" in stray.why) == ("remove", True)
    record = replace(record, files=(*record.files, "old.py"))
    left = only(plan(with_host(seen, "vm", releases={**host(seen, "vm").releases, "litellm": record})))
    assert "earlier release" in left.why


def test_data_of_a_service_beside_its_files_is_not_drift() -> None:
    seen = ideal(deployment())
    data = {"/opt/mesh/stacks/qdrant/data": ObservedFile("", 0o600, 999, 999)}
    assert plan(with_host(seen, "vm", files={**host(seen, "vm").files, **data})).clean


def test_an_apply_that_did_not_finish_is_finished_by_the_next() -> None:
    change = only(plan(without(ideal(deployment()), "vm", "releases", "qdrant")))
    assert (change.stack, change.name.rpartition("/")[2]) == ("qdrant", ".release.json")


# services


@pytest.mark.parametrize("state", ["exited", "created", "paused", "dead", "restarting"])
def test_a_container_that_does_not_run_is_restarted(state: str) -> None:
    change = only(plan(change_container(ideal(deployment()), "qdrant-qdrant-1", state=state)))
    assert (change.subject, change.name, change.verb) == ("service", "qdrant", "restart")


def test_an_unhealthy_container_is_drift_and_a_starting_one_is_not() -> None:
    assert only(plan(change_container(ideal(deployment()), "qdrant-qdrant-1", health="unhealthy"))).why == "is unhealthy"
    assert plan(change_container(ideal(deployment()), "qdrant-qdrant-1", health="starting")).clean


def test_a_removed_container_is_created() -> None:
    seen = ideal(deployment())
    left = tuple(one for one in host(seen, "vm").containers if one.name != "qdrant-backup-1")
    change = only(plan(with_host(seen, "vm", containers=left)))
    assert (change.name, change.verb, change.why) == ("backup", "create", "has no container")


def test_a_container_of_another_image_names_both() -> None:
    change = only(plan(change_container(ideal(deployment()), "qdrant-qdrant-1", image="evil:latest")))
    assert change.why == "runs evil:latest, should run registry.lan/qdrant:1.0"


def test_a_tag_that_points_to_another_image_now_is_drift() -> None:
    change = only(plan(change_container(ideal(deployment()), "qdrant-qdrant-1", image_id="sha256:0123456789abcdef")))
    assert "runs 0123456789ab" in change.why


def test_another_environment_is_shown_by_name_and_value() -> None:
    change = only(plan(change_container(ideal(deployment()), "qdrant-qdrant-1", environment=("LEVEL=debug", "PORT=80"))))
    assert change.why == "environment LEVEL: 'debug', should be 'info'"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEY", "hunter2"),
        ("DB_PASSWORD", "hunter2"),
        ("URL", "postgres://u:hunter2@db/x"),
        ("X", "hunter2" * 6),
        ("Y", "sk-hunter2"),
    ],
)
def test_a_value_that_could_be_a_secret_is_not_shown(name: str, value: str) -> None:
    one = replace(service("db", "db"), environment={name: "wanted"})
    wanted = Deployment("closet", {"vm": HostDeployment("vm", "10.0.0.2", "/opt/mesh", (stack("db", (one,)),))})
    seen = change_container(ideal(wanted), "db-db-1", environment=(f"{name}={value}",))
    why = only(plan(seen, wanted)).why
    assert name in why
    assert "hunter2" not in why


def test_a_container_recreated_by_hand_is_found_by_composes_own_hash() -> None:
    change = only(plan(change_container(ideal(deployment()), "qdrant-qdrant-1", config_hash="by-hand")))
    assert "recreated by hand" in change.why


def test_a_container_without_the_meshs_label_is_taken_over_aloud() -> None:
    change = only(plan(change_container(ideal(deployment()), "qdrant-qdrant-1", labels={}, config_hash="by-hand")))
    assert (change.verb, change.why) == ("update", "its container was not made by the mesh")


def test_a_job_that_ended_well_is_no_drift() -> None:
    job = service("app", "migrate")
    app = service("app", "app", depends_on={"migrate": {"condition": "service_completed_successfully"}})
    wanted = Deployment("closet", {"vm": HostDeployment("vm", "10.0.0.2", "/opt/mesh", (stack("app", (job, app)),))})
    assert plan(change_container(ideal(wanted), "app-migrate-1", state="exited"), wanted).clean
    assert not plan(change_container(ideal(wanted), "app-app-1", state="exited"), wanted).clean


def test_a_service_that_waits_for_a_profile_needs_no_container() -> None:
    debug = service("app", "debug", profiles=["debug"])
    wanted = Deployment(
        "closet", {"vm": HostDeployment("vm", "10.0.0.2", "/opt/mesh", (stack("app", (service("app", "app"), debug)),))}
    )
    seen = ideal(wanted)
    left = tuple(one for one in host(seen, "vm").containers if one.service != "debug")
    assert plan(with_host(seen, "vm", containers=left), wanted).clean
    assert plan(seen, wanted).clean


# containers and stacks that do not belong


def test_an_extra_container_in_a_managed_project_is_removed() -> None:
    seen = ideal(deployment())
    extra = ObservedContainer("x", "litellm-spy-1", "litellm", "spy", "spy", "sha256:spy", "running", "")
    change = only(plan(with_host(seen, "vm", containers=(*host(seen, "vm").containers, extra))))
    assert (change.subject, change.name, change.verb) == ("container", "litellm-spy-1", "remove")


def test_a_second_container_of_a_service_is_one_too_many() -> None:
    seen = ideal(deployment())
    second = replace(host(seen, "vm").containers[0], id="second", name="qdrant-qdrant-2")
    change = only(plan(with_host(seen, "vm", containers=(*host(seen, "vm").containers, second))))
    assert (change.name, change.why) == ("qdrant-qdrant-2", "is one too many of its service")


def test_foreign_containers_are_reported_and_never_changed() -> None:
    seen = ideal(deployment())
    foreign = ObservedContainer("f", "plex", "", "", "plex", "", "exited", "")
    found = plan(with_host(seen, "vm", containers=(*host(seen, "vm").containers, foreign)))
    assert found.changes == ()
    assert found.foreign == ("vm/plex",)


def test_a_stack_that_left_the_spec_is_removed_and_one_of_another_mesh_is_not() -> None:
    seen, gone = ideal(deployment()), stack("gone", (service("gone", "web"),))
    ours, theirs = container(gone, gone.services[0]), container(gone, gone.services[0], mesh="other")
    record = RecordedRelease("r", "t", "op", "closet")
    all_of = host(seen, "vm").containers
    found = plan(with_host(seen, "vm", containers=(*all_of, ours), releases={**host(seen, "vm").releases, "gone": record}))
    assert [(change.stack, change.subject, change.verb) for change in found.changes] == [
        ("gone", "container", "remove"),
        ("gone", "file", "remove"),
    ]
    record = replace(record, mesh="other")
    beside = plan(with_host(seen, "vm", containers=(*all_of, theirs), releases={**host(seen, "vm").releases, "gone": record}))
    assert (beside.changes, beside.foreign) == ((), ("vm/gone-web-1",))


def test_a_stack_that_moved_says_where_it_is_now() -> None:
    seen, moved = ideal(deployment()), deployment().hosts["box"].stacks[1]
    left = (*host(seen, "vm").containers, container(moved, moved.services[0]))
    assert "is on box now" in only(plan(with_host(seen, "vm", containers=left))).why


# models and routes


def test_a_missing_model_is_pulled_and_an_extra_one_only_noted() -> None:
    found = plan(replace(ideal(deployment()), models={"ollama": {"llama3.1:8b": "d", "mine:1b": "d"}}))
    assert (only(found).subject, only(found).name) == ("model", "nomic-embed-text:latest")
    assert found.notes == ("box/ollama holds models that the spec does not name: mine:1b",)


def test_an_ollama_that_holds_nothing_is_not_one_that_could_not_be_read() -> None:
    found = plan(replace(ideal(deployment()), models={"ollama": {}}))
    assert [change.name for change in found.changes] == ["llama3.1:8b", "nomic-embed-text:latest"]
    assert found.unknown == ()


def test_an_ollama_that_runs_and_does_not_answer_cannot_be_told() -> None:
    found = plan(replace(ideal(deployment()), models={"ollama": Unknown("refused")}))
    assert (found.changes, [each.where for each in found.unknown]) == ((), ["box/ollama"])


def test_an_ollama_that_is_stopped_is_one_change_and_nothing_is_said_about_its_models() -> None:
    seen = replace(
        change_container(ideal(deployment()), "ollama-ollama-1", state="exited"), models={"ollama": Unknown("refused")}
    )
    assert only(plan(seen)).subject == "service"
    assert plan(seen).unknown == ()


@pytest.mark.parametrize(
    ("live", "name", "verb"),
    [
        (ObservedGateway(("claude",), {}, "d1"), "bulk", "create"),
        (ObservedGateway(("bulk", "claude", "leak"), {"bulk": ("claude",)}, "d1"), "leak", "remove"),
        (ObservedGateway(("bulk", "claude"), {"bulk": ()}, "d1"), "bulk", "update"),
        (ObservedGateway(("bulk", "claude"), {"bulk": ("claude",), "claude": ("bulk",)}, "d1"), "claude", "update"),
        (ObservedGateway(("bulk", "claude"), {"bulk": ("claude",)}, "d0"), "litellm-b", "update"),
        (ObservedGateway(("bulk", "claude"), {"bulk": ("claude",)}, "none"), "litellm-b", "update"),
    ],
)
def test_routes_and_guard_of_each_live_gateway_are_compared(live: ObservedGateway, name: str, verb: str) -> None:
    seen = ideal(deployment())
    change = only(plan(replace(seen, gateways={**seen.gateways, "litellm-b": live})))
    assert (change.subject, change.name, change.verb) == ("route", name, verb)
    assert "litellm-b" in change.why


def test_a_gateway_that_cannot_be_asked_is_unknown_beside_one_that_is_well() -> None:
    seen = ideal(deployment())
    found = plan(replace(seen, gateways={**seen.gateways, "litellm-a": Unknown("refused")}))
    assert found.changes == ()
    assert "litellm-a" in found.unknown[0].why


# what cannot be told


def test_a_host_that_cannot_be_read_is_never_called_empty() -> None:
    seen = ideal(deployment())
    found = plan(replace(seen, hosts={**seen.hosts, "box": Unknown("no route to host", "switch it on")}))
    assert found.changes == ()
    assert [(each.where, each.why) for each in found.unknown] == [("box", "no route to host")]
    assert not found.clean


def test_a_stack_that_was_rolled_back_says_by_whom_until_it_is_as_the_spec_says() -> None:
    seen = ideal(deployment())
    record = replace(host(seen, "vm").releases["litellm"], rolled_back="op@desk 2026-01-02T03:04:05Z")
    assert plan(with_host(seen, "vm", releases={**host(seen, "vm").releases, "litellm": record})).notes == ()
    older = replace(record, release="0123456789ab")
    found = plan(with_host(seen, "vm", releases={**host(seen, "vm").releases, "litellm": older}))
    assert found.notes == ("vm/litellm was rolled back by op@desk at 2026-01-02T03:04:05Z: apply takes it forward again",)


def test_an_apply_that_is_running_is_noted() -> None:
    assert "run1" in plan(with_host(ideal(deployment()), "vm", lock="run1 op@laptop")).notes[0]


# properties

_NAME = st.from_regex(r"[a-z]{1,6}", fullmatch=True)


@st.composite
def _deployments(draw: st.DrawFn) -> Deployment:
    hosts = {}
    names = draw(st.lists(_NAME, min_size=1, max_size=5, unique=True))
    for index in range(draw(st.integers(1, 2))):
        stacks = []
        for name in names[index::2]:
            services = tuple(
                service(name, each, mounts=tuple(draw(st.lists(_NAME, max_size=2))))
                for each in draw(st.lists(_NAME, min_size=1, max_size=3, unique=True))
            )
            files = tuple(
                File(f"{each}.conf", (draw(st.text(max_size=5)),), draw(st.sampled_from([0o600, 0o644])))
                for each in draw(st.lists(_NAME, max_size=3, unique=True))
            )
            stacks.append(stack(name, services, files))
        hosts[f"host{index}"] = HostDeployment(f"host{index}", f"10.0.0.{index}", "/opt/mesh", tuple(stacks))
    return Deployment("closet", hosts)


@given(_deployments())
def test_a_deployment_never_differs_from_its_own_ideal(wanted: Deployment) -> None:
    assert plan(ideal(wanted), wanted) == Plan()


def _mutations(seen: Observed) -> list[Callable[[Observed], Observed]]:
    """Every way to break one thing."""
    ways: list[Callable[[Observed], Observed]] = []
    for name in seen.hosts:
        there = host(seen, name)
        ways.append(lambda now, name=name: replace(now, hosts={**now.hosts, name: Unknown("off")}))  # type: ignore[misc]
        for path, file in there.files.items():
            if path.endswith(".release.json"):
                continue
            for changed in (replace(file, sha256="x"), replace(file, mode=0o777), replace(file, owner=7), replace(file, group=7)):
                ways.append(lambda now, n=name, p=path, c=changed: with_host(now, n, files={**host(now, n).files, p: c}))  # type: ignore[misc]
            ways.append(lambda now, n=name, p=path: without(now, n, "files", p))  # type: ignore[misc]
        for release in there.releases:
            ways.append(lambda now, n=name, r=release: without(now, n, "releases", r))  # type: ignore[misc]
        for one in there.containers:
            for changes in (
                {"state": "exited"},
                {"health": "unhealthy"},
                {"image": "other"},
                {"image_id": "sha256:other"},
                {"environment": ()},
                {"config_hash": "other"},
                {"labels": {**one.labels, "mesh.digest": "other"}},
                {"service": "other"},
                {"id": "again", "project": "closet-gone"},
            ):
                ways.append(lambda now, o=one.name, c=changes: change_container(now, o, **c))  # type: ignore[misc]
    return ways


@given(_deployments(), st.data())
def test_every_single_thing_that_breaks_gives_at_least_one_change(wanted: Deployment, data: st.DataObject) -> None:
    seen = ideal(wanted)
    ways = _mutations(seen)
    if not ways:
        return
    broken = ways[data.draw(st.integers(0, len(ways) - 1))](seen)
    found = plan(broken, wanted)
    assert not found.clean
    assert found == plan(broken, wanted)


def test_image_ids_of_the_fixture_are_what_the_host_lists() -> None:
    assert host(ideal(deployment()), "vm").images["registry.lan/qdrant:1.0"] == image_id("registry.lan/qdrant:1.0")


# what Compose does not look at


def test_a_container_changed_by_docker_update_is_made_anew_although_compose_sees_no_difference() -> None:
    wanted = deployment()
    shape = Shape(networks=frozenset({"$"}), memory=2**30, swap=2**31)
    seen = change_container(ideal(wanted), "qdrant-backup-1", shape=shape)
    found = plan(seen, wanted)
    change = only(found)
    assert (change.name, change.verb, change.why) == ("backup", "update", "memory limit is 1 GiB, should be none")
    work = host_work(wanted.hosts["vm"], host(seen, "vm"), found)
    assert work.stacks["qdrant"].recreate == ("backup",)


def test_files_with_secrets_whose_hashes_are_not_told_are_compared_by_mode_and_owner() -> None:
    path = f"{LITELLM}/secrets/env"
    assert plan(change_file(ideal(deployment()), path, sha256="")).changes == ()
    assert "1 file with secrets" in plan(change_file(ideal(deployment()), path, sha256="")).notes[0]
    assert "has mode 0444" in plan(change_file(ideal(deployment()), path, sha256="", mode=0o444)).changes[0].why
    assert plan(change_file(ideal(deployment()), f"{LITELLM}/config.yaml", sha256="")).changes, "others never go unread"
