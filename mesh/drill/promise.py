"""What the spec promises for each case of the drill: who is asked, who answers, how it ends, how long it may take. Pure.

The promises are honest about what LiteLLM (1.106.2) cannot do: after the first token of a stream nothing falls back, and of
the providers' errors for a prompt that is too long, or refused, it recognises some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mesh.drill.cases import Case
from mesh.spec.mesh import Mesh

SLACK = 12.0
"""Seconds that a case may take beyond its timeouts: hundreds of requests share two cores. A retry shows as a further call."""
EARLY = 0.8
"""Share of a timeout before which giving up is too early: the rendered timeout would be shorter than the spec's."""

RETRIED = ("500", "429", "hang", "cut")
"""Faults after which a cloud model without a fallback is asked once more. (A refused one too, which counts as one turn.)"""
RETRY = 8.0
"""Seconds that LiteLLM may wait before that: as long as the provider's retry-after says, and some."""

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
    struck, (turns, reason) = set(case.struck(mesh)), _turns(mesh, case)
    asked: list[str] = []
    waited, slack = 0.0, SLACK + (RETRY if _retried(mesh, case) else 0)
    for model, group in turns:
        asked.append(group)
        if group not in struck:
            return Promise(tuple(asked), model, "whole", waited * EARLY, waited + slack, reason if len(asked) > 1 else "healthy")
        if case.endpoint.stream and case.fault.double.startswith("cut:"):
            why = "after the first token nothing falls back: the client keeps the tokens and is told of the break"
            return Promise(tuple(asked), None, "broken", 0.0, SLACK, why)
        if case.fault.hangs:
            waited += timeout(mesh, model) * shown.get(model, 1.0)
    return Promise(tuple(asked), None, "error", waited * EARLY, waited + slack, f"{reason}; nobody is left, so an error")


def _turns(mesh: Mesh, case: Case) -> tuple[list[tuple[str, str]], str]:
    """Models and their groups in the order in which they get their turn under this fault, and why."""
    chain = mesh.routes[case.route].chain
    turns = list(zip(chain, case.targets(mesh), strict=True))
    first, *others = turns
    known = _recognised(mesh, case)
    if case.fault.double == "context" and known:
        context = mesh.models[first[0]].context or 0
        larger = [turn for turn in others if (mesh.models[turn[0]].context or context + 1) > context]
        return [first, *larger], "a prompt that is too long goes on to models with a larger context"
    if case.fault.double == "content_policy" and known:
        elsewhere = [turn for turn in others if mesh.models[turn[0]].at != mesh.models[first[0]].at]
        return [first, *elsewhere], "a refused prompt goes on to other providers"
    if _retried(mesh, case):
        return [first, first], "a cloud model that has no fallback is asked twice"
    return turns, "whoever fails before a token is followed by the next of the chain"


def _retried(mesh: Mesh, case: Case) -> bool:
    chain, kind = mesh.routes[case.route].chain, case.fault.double.partition(":")[0]
    if len(chain) > 1 or mesh.is_local(chain[0]) or kind not in RETRIED:
        return False
    # A cut stream of chat completions has begun for LiteLLM, one of messages has not.
    return kind != "cut" or not case.endpoint.stream or case.endpoint.path == "/v1/messages"


def _recognised(mesh: Mesh, case: Case) -> bool:
    """Whether LiteLLM reads the first provider's 400 as what it is; where not, the whole chain gets its turn."""
    kind = mesh.providers[mesh.models[mesh.routes[case.route].to].at].kind
    native = case.endpoint.path == "/v1/messages"
    if case.fault.double == "context":
        return kind in ("anthropic", "openai") or (kind == "deepseek" and not native)
    return kind in ("anthropic", "openai", "groq")


def timeout(mesh: Mesh, model: str) -> float:
    """Seconds that the gateway waits for the model's provider."""
    return float(mesh.providers[mesh.models[model].at].timeout)
