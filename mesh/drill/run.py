"""One drill: the stage, the script, a place to play it, and the verdicts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from mesh.drill.cases import Case, cases
from mesh.drill.leaks import Leak, leaks
from mesh.drill.loopback import Hear
from mesh.drill.script import LISTING, script
from mesh.drill.stage import Stage, build_stage
from mesh.drill.verdict import Verdict, judge_case, judge_leak, judge_listing, judge_unmarked
from mesh.spec.mesh import Mesh
from mesh.state.deployment import Deployment

READY = "/health/liveliness"


class Place(Protocol):
    """Where a drill is played."""

    name: str
    doubles: str
    """Host name of the doubles, as the gateway sees them."""
    listen: str
    first_port: int
    front: bool

    @property
    def gateway(self) -> str:
        """The gateway's base URL, as the driver sees it."""

    def perform(self, stage: Stage, script: dict[str, Any], hear: Hear) -> None:
        """Play the script; every event goes to `hear`."""


@dataclass
class Drill:
    """What came of it. seconds: of the whole drill; start: until the gateway answered."""

    where: str
    exchanged: tuple[str, ...]
    total: int
    verdicts: list[Verdict] = field(default_factory=list)
    seconds: float = 0.0
    start: float = 0.0
    missing: int = 0
    front: bool = False

    @property
    def red(self) -> list[Verdict]:
        return [each for each in self.verdicts if each.wrong]

    @property
    def green(self) -> bool:
        return not self.red and not self.missing


def drill(
    mesh: Mesh,
    deployment: Deployment,
    place: Place,
    *,
    hang_limit: float,
    seed: str,
    progress: Callable[[Drill], None] = lambda _: None,
    edit: Callable[[dict[str, Any]], None] | None = None,
    only: Callable[[str], bool] = lambda _: True,
) -> Drill:
    """Play every case and every leak whose id `only` takes."""
    began = time.monotonic()
    stage = build_stage(
        mesh,
        deployment,
        doubles=place.doubles,
        first_port=place.first_port,
        hang_limit=hang_limit,
        seed=seed,
        front=place.front,
        edit=edit,
    )
    walk: dict[str, Case] = {each.id: each for each in cases(mesh) if only(each.id)}
    tries: dict[str, Leak] = {each.id: each for each in leaks(mesh, stage) if only(each.id)}
    found = Drill(place.name, stage.exchanged, len(walk) + len(tries) + 1, front=place.front)

    def hear(event: dict[str, Any]) -> None:
        if event["event"] == "ready":
            found.start = event["seconds"]
        elif event["event"] == "outcome" and event["id"] in walk:
            found.verdicts.append(judge_case(mesh, stage, walk[event["id"]], event))
        elif event["event"] == "outcome" and event["id"] == LISTING:
            assert deployment.gateway is not None
            found.verdicts.append(judge_listing(deployment.gateway, event))
        elif event["event"] == "outcome":
            found.verdicts.append(judge_leak(stage, tries[event["id"]], event))
        elif event["event"] == "end":
            found.verdicts.extend(judge_unmarked(stage, event["unmarked"]))
        progress(found)

    play = script(mesh, stage, walk.values(), tries.values(), gateway=place.gateway, host=place.listen, ready=READY)
    place.perform(stage, play, hear)
    found.missing = len({*walk, *tries, LISTING} - {each.id for each in found.verdicts})
    found.seconds = time.monotonic() - began
    return found
