"""What came, compared with what was promised. Pure."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mesh.drill.cases import Case
from mesh.drill.leaks import Leak
from mesh.drill.promise import Promise, promise
from mesh.drill.stage import Stage
from mesh.spec.mesh import Mesh
from mesh.state.deployment import Gateway

_ADDRESS = re.compile(r"^https?://")


@dataclass(frozen=True, slots=True)
class Verdict:
    """One case of the walk, or one attempt of a leak.

    subject: the route, or the kind of leak, which `leak` holds as well. wrong: what differs from the promise.
    """

    id: str
    subject: str
    what: str
    promised: str
    wrong: tuple[str, ...]
    status: int
    seconds: float
    asked: tuple[str, ...]
    why: str = ""
    leak: str | None = None


def judge_case(mesh: Mesh, stage: Stage, case: Case, came: Mapping[str, Any]) -> Verdict:
    """The outcome of one case of the walk."""
    said = promise(mesh, case, stage.shown)
    asked = _turns(came["calls"])
    wrong = [
        *_asked(said, asked),
        *_ending(said, came),
        *_time(said, came),
        *_strangers(stage, came["calls"]),
        *_inside(stage, came),
    ]
    if said.model and came["status"] == 200 and said.asked[-1:] == asked[-1:] and not came["text"]:
        wrong.append("the answer is empty")
    what = f"{case.endpoint.name}: {case.fault.name}"
    return Verdict(case.id, case.route, what, _words(said), tuple(wrong), came["status"], came["seconds"], asked, said.why)


def judge_leak(stage: Stage, leak: Leak, came: Mapping[str, Any]) -> Verdict:
    """The outcome of one attempt."""
    asked = _turns(came["calls"])
    clouds = {each.group for each in stage.entries if not each.local}
    wrong = []
    for group in dict.fromkeys(asked):
        if group not in leak.may_ask:
            wrong.append(f"it reached {group}{', which is outside the building' if group in clouds else ''}")
    if came["status"] not in leak.want:
        wrong.append(f"the gateway answered {came['status'] or came.get('why') or came['ended']}, not {_wanted(leak)}")
    wrong += [*_strangers(stage, came["calls"]), *_inside(stage, came)]
    return Verdict(
        leak.id, leak.kind, leak.what, _wanted(leak), tuple(wrong), came["status"], came["seconds"], asked, leak=leak.kind
    )


def judge_listing(gateway: Gateway, came: Mapping[str, Any]) -> Verdict:
    """The groups and fallbacks that the gateway has in memory: what no case walks through shows here."""
    wrong = []
    try:
        data = json.loads(came["text"])["data"]
        listed = {each["id"]: tuple(each.get("metadata", {}).get("fallbacks") or ()) for each in data}
    except (ValueError, KeyError, TypeError):
        wrong.append(f"the gateway does not list its groups: {_how(came)}")
    else:
        for group in sorted({*listed, *gateway.groups}):
            promised, has = gateway.fallbacks.get(group, ()), listed.get(group)
            if group not in gateway.groups:
                wrong.append(f"{group} is a group that the spec does not have")
            elif has is None:
                wrong.append(f"{group} is missing")
            elif has != promised:
                wrong.append(f"{group} falls back to {' > '.join(has) or 'nothing'}, not to {' > '.join(promised) or 'nothing'}")
    what = "groups and fallbacks as the gateway lists them"
    return Verdict("listing", "listing", what, "those of the spec", tuple(wrong), came["status"], came["seconds"], ())


def judge_unmarked(stage: Stage, calls: Iterable[Mapping[str, Any]]) -> tuple[Verdict, ...]:
    """Calls that no request explains: the gateway sent something of its own accord, or a prompt lost its mark.

    LiteLLM asks a `hosted_vllm/` server, which is how embeddings reach an Ollama, for its list of models: that stays inside.
    """
    local = {each.group for each in stage.entries if each.local}
    counted: dict[tuple[str, str], int] = defaultdict(int)
    for call in calls:
        if call["method"] != "GET" or call["group"] not in local:
            counted[call["group"], call["path"]] += 1
    return tuple(
        Verdict(
            f"unmarked/{group}",
            "unmarked",
            f"{group} {path}",
            "nothing",
            (f"{count} calls that no request explains",),
            0,
            0.0,
            (group,),
        )
        for (group, path), count in counted.items()
    )


def _turns(calls: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The groups that were asked, in order. A connection that is reset is tried twice by LiteLLM's HTTP client: one turn.

    (The doubles' `refused` is a reset: the port stays open for the other cases. A port that is closed is tried once.)
    """
    turns: list[tuple[str, str]] = []
    for call in calls:
        turn = (call["group"], call["fault"])
        if not (turns and turns[-1] == turn and call["fault"] == "refused"):
            turns.append(turn)
    return tuple(group for group, _ in turns)


def _asked(said: Promise, asked: tuple[str, ...]) -> list[str]:
    if asked == said.asked:
        return []
    return [f"asked {' > '.join(asked) or 'nobody'}, not {' > '.join(said.asked)}"]


def _ending(said: Promise, came: Mapping[str, Any]) -> list[str]:
    status, ended = came["status"], came["ended"]
    if said.ending == "whole":
        return [] if status == 200 and ended == "whole" else [f"no answer: {_how(came)}"]
    if said.ending == "broken":
        if status == 200 and ended in ("error", "cut") and came["tokens"]:
            return []
        return [f"wanted the tokens so far and then the break: {_how(came)}, {came['tokens']} tokens"]
    if status >= 400 or (status == 200 and ended == "error" and not came["tokens"]):
        return []
    return [f"wanted an error: {_how(came)}"]


def _how(came: Mapping[str, Any]) -> str:
    return f"{came['status'] or came.get('why') or 'nothing'}, {came['ended']}"


def _time(said: Promise, came: Mapping[str, Any]) -> list[str]:
    if came["seconds"] > said.at_most:
        return [f"took {came['seconds']:.1f} s, at most {said.at_most:.1f} s are promised"]
    if came["seconds"] < said.at_least:
        return [f"gave up after {came['seconds']:.1f} s, {said.at_least:.1f} s of patience are promised"]
    return []


def _strangers(stage: Stage, calls: Iterable[Mapping[str, Any]]) -> list[str]:
    """Keys and headers at a provider that are not meant for it. Anthropic's own headers are meant for Anthropic."""
    entries = {each.group: each for each in stage.entries}
    found = set()
    for call in calls:
        entry = entries[call["group"]]
        for name in call["seen"]:
            if name != entry.key and not (entry.plays == "anthropic" and name.startswith("header anthropic-")):
                found.add((entry.group, name))
    return [f"{group} saw {name if name.startswith('header ') else f'the key {name}'}" for group, name in sorted(found)]


def _inside(stage: Stage, came: Mapping[str, Any]) -> list[str]:
    """Headers of the answer that say where things are inside. Only a stage with the front has what takes them out."""
    if not stage.front:
        return []
    return [f"the header {name} tells an address: {value}" for name, value in came["headers"].items() if _ADDRESS.match(value)]


def _words(said: Promise) -> str:
    return f"{said.model} answers" if said.model else "an error" if said.ending == "error" else "tokens, then an error"


def _wanted(leak: Leak) -> str:
    return "a refusal" if isinstance(leak.want, range) else " or ".join(map(str, sorted(leak.want)))
