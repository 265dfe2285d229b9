"""What the spec promises for each case of the drill: who is asked, who answers, how it ends, how long it may take. Pure.

The promises are honest about what LiteLLM (1.106.2) cannot do: after the first token of a stream nothing falls back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mesh.drill.cases import Case
from mesh.spec.mesh import Mesh

SLACK = 5.0
"""Seconds that a case may take beyond its timeouts: hundreds of requests share two cores. A retry shows as a further call."""
EARLY = 0.8
"""Share of a timeout before which giving up is too early: the rendered timeout would be shorter than the spec's."""

Ending = Literal["whole", "error", "broken"]


@dataclass(frozen=True, slots=True)
class Promise:
    """asked: groups in the order in which each must be asked, once. model: the spec's model that answers, None for an error.

    ending: `whole` an answer, `error` an HTTP error, `broken` a stream that begins with tokens and ends with an error.
    at_least, at_most: seconds.
    """

    asked: tuple[str, ...]
    model: str | None
    ending: Ending
    at_least: float
    at_most: float
    why: str


def promise(mesh: Mesh, case: Case, shown: Mapping[str, float]) -> Promise:
    """shown: by model, by how much its provider's timeout is multiplied on the stage (1 where it is as it is)."""
    chain, struck = mesh.routes[case.route].chain, set(case.struck(mesh))
    asked: list[str] = []
    waited = 0.0
    for model, group in zip(chain, case.targets(mesh), strict=True):
        asked.append(group)
        if group not in struck:
            why = (
                "healthy" if len(asked) == 1 else f"{', '.join(chain[: len(asked) - 1])} failed before a token: the next answers"
            )
            return Promise(tuple(asked), model, "whole", waited * EARLY, waited + SLACK, why)
        if case.endpoint.stream and case.fault.double.startswith("cut:"):
            why = "after the first token nothing falls back: the client keeps the tokens and is told of the break"
            return Promise(tuple(asked), None, "broken", 0.0, SLACK, why)
        if case.fault.hangs:
            waited += timeout(mesh, model) * shown.get(model, 1.0)
    why = "an error, because no target is left" if len(chain) > 1 else "an error, because the route has one target"
    if mesh.routes[case.route].privacy == "local":
        why += " in the building"
    return Promise(tuple(asked), None, "error", waited * EARLY, waited + SLACK, why)


def timeout(mesh: Mesh, model: str) -> float:
    """Seconds that the gateway waits for the model's provider."""
    return float(mesh.providers[mesh.models[model].at].timeout)
