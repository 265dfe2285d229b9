"""From a plan to work on a host, the order of stacks, and what `--host` and `--stack` leave."""

from __future__ import annotations

import base64
import io
import tarfile
from dataclasses import replace

import pytest
from statekit import SECRET, deployment, ideal, service, stack, value_of, with_host

from mesh.errors import MeshError
from mesh.state.deployment import Deployment, File, HostDeployment
from mesh.state.diff import diff
from mesh.state.observed import Observed, ObservedGateway, ObservedHost, Unknown
from mesh.state.plan import CannotTell, Change, Plan
from mesh.state.select import select_hosts, select_stacks
from mesh.state.work import HostWork, bundle, host_work, waves


def work(seen: Observed, host: str = "vm") -> HostWork:
    there = seen.hosts[host]
    assert isinstance(there, ObservedHost)
    return host_work(deployment().hosts[host], there, diff(deployment(), seen, value_of))


def changed(seen: Observed, name: str, **changes: object) -> Observed:
    there = seen.hosts["vm"]
    assert isinstance(there, ObservedHost)
    return with_host(seen, "vm", containers=tuple(replace(c, **changes) if c.name == name else c for c in there.containers))  # type: ignore[arg-type]


def test_no_change_is_no_work() -> None:
    assert work(ideal(deployment())).empty


def test_only_files_that_differ_are_carried() -> None:
    seen = ideal(deployment())
    there = seen.hosts["vm"]
    assert isinstance(there, ObservedHost)
    path = "/opt/mesh/stacks/litellm/config.yaml"
    made = work(with_host(seen, "vm", files={**there.files, path: replace(there.files[path], sha256="edited")}))
    assert set(made.stacks) == {"litellm"}
    one = made.stacks["litellm"]
    assert [file.path for file in one.files] == [path]
    assert one.recreate == ("litellm",), "a file that a container mounts is only seen by a container made anew"
    assert set(one.keep) == {"compose.yaml", "config.yaml", "secrets/env"}


def test_what_compose_would_not_recreate_by_itself_is_forced() -> None:
    assert work(changed(ideal(deployment()), "qdrant-qdrant-1", health="unhealthy")).stacks["qdrant"].recreate == ("qdrant",)
    assert work(changed(ideal(deployment()), "qdrant-qdrant-1", environment=())).stacks["qdrant"].recreate == ("qdrant",)


def test_what_compose_recreates_by_itself_is_left_to_it() -> None:
    seen = changed(ideal(deployment()), "qdrant-qdrant-1", labels={"mesh.digest": "older"})
    assert work(seen).stacks["qdrant"].recreate == ()


def test_a_route_that_is_not_live_restarts_the_gateway() -> None:
    seen = ideal(deployment())
    live = dict.fromkeys(seen.gateways, ObservedGateway((), {}, ""))
    assert work(replace(seen, gateways=live)).stacks["litellm"].recreate == ("litellm",)


def test_a_missing_model_touches_no_container() -> None:
    made = work(replace(ideal(deployment()), models={"ollama": {}}), "box")
    assert (dict(made.stacks), [each.stack for each in made.ollamas]) == ({}, ["ollama"])


def test_the_bundle_carries_files_with_modes() -> None:
    seen = with_host(ideal(deployment()), "vm", files={}, containers=(), releases={})
    text = bundle(work(seen), value_of, mesh="closet", at="2026-01-02T03:04:05Z", by="op")
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(text))) as tar:
        secret = tar.getmember("new/stacks/litellm/secrets/env")
        content = tar.extractfile(secret)
        assert content
        assert (secret.mode, secret.uid, content.read().decode()) == (0o400, 0, f"KEY='{SECRET}-key'\n")


def test_a_file_name_with_a_line_break_is_refused_aloud() -> None:
    odd = stack("web", (service("web", "web"),), (File("a\nb", ("x",)),))
    wanted = Deployment("closet", {"vm": HostDeployment("vm", "10.0.0.2", "/opt/mesh", (odd,))})
    seen = with_host(ideal(wanted), "vm", containers=())
    there = seen.hosts["vm"]
    assert isinstance(there, ObservedHost)
    made = host_work(wanted.hosts["vm"], there, diff(wanted, seen, value_of))
    with pytest.raises(MeshError, match="line break"):
        bundle(made, value_of, mesh="closet", at="2026-01-02T03:04:05Z", by="op")


def test_stacks_come_up_in_waves_over_all_hosts() -> None:
    assert waves(deployment()) == (("ollama", "qdrant", "whoami"), ("litellm",))


def test_stacks_that_wait_for_each_other_are_an_error_and_not_a_hang() -> None:
    ring = (stack("a", (), after=("b",)), stack("b", (), after=("a",)))
    with pytest.raises(MeshError, match="circle"):
        waves(Deployment("closet", {"vm": HostDeployment("vm", "10.0.0.2", "/opt/mesh", ring)}))


# selection


def test_a_mistyped_host_or_stack_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(MeshError) as caught:
        select_hosts(deployment(), ["bix"], [])
    assert "box" in caught.value.mend
    with pytest.raises(MeshError) as caught:
        select_hosts(deployment(), [], ["litelm"])
    assert "litellm" in caught.value.mend


def test_only_hosts_with_the_named_stack_are_looked_at() -> None:
    chosen = select_hosts(deployment(), [], ["whoami"])
    assert list(chosen.hosts) == ["box"]
    assert chosen.gateway is None


def test_what_is_unknown_about_another_stack_does_not_count() -> None:
    plan = Plan(
        (Change("box", "whoami", "service", "whoami", "restart", "x"), Change("box", "ollama", "model", "m", "create", "x")),
        (CannotTell("box/ollama", "refused"), CannotTell("vm", "off"), CannotTell("box/whoami", "odd")),
    )
    left = select_stacks(plan, ["whoami"])
    assert [change.stack for change in left.changes] == ["whoami"]
    assert [each.where for each in left.unknown] == ["vm", "box/whoami"]


def test_a_host_that_is_unknown_is_no_work() -> None:
    seen = ideal(deployment())
    plan = diff(deployment(), replace(seen, hosts={**seen.hosts, "vm": Unknown("off")}), value_of)
    assert not plan.changes
