"""The journals of the hosts, a line a run and host -> the runs of the mesh, over all its hosts. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

CHANGED = frozenset({"up", "down"})
"""Results after which another release runs than before."""


@dataclass(frozen=True, slots=True)
class StackResult:
    """What became of one stack in one run.

    result: up, back (the release before runs again), stopped (it has none that comes up), failed (what ran was left alone),
            down (it left the spec), interrupted.
    seconds: that it took; None where the journal does not say.
    was, wanted: release ids before the run and asked for by it; empty for none, or where the journal does not say.
    why: the first line of the reason; empty when it succeeded.
    """

    result: str
    seconds: float | None = None
    was: str = ""
    wanted: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class HostRun:
    """A run's part on one host. finished: False when it was interrupted or killed. removed: things that prune removed."""

    finished: bool
    seconds: float | None
    stacks: Mapping[str, StackResult] = field(default_factory=dict)
    removed: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One apply, rollback or prune. at: its start by the operator's clock, ISO 8601 in UTC."""

    id: str
    at: str
    by: str
    verb: str
    hosts: Mapping[str, HostRun]

    @property
    def seconds(self) -> float | None:
        """Of the host that took longest."""
        return max((each.seconds for each in self.hosts.values() if each.seconds is not None), default=None)


def runs(journals: Mapping[str, Iterable[str]]) -> list[Run]:
    """The runs in the lines of every host's journal, the latest first. Lines that nobody can read any more are left out.

    Each run is dated by the clock of the laptop that did it, and those differ: a run that a host wrote down after another
    came after it, whatever it is dated.
    """
    found: dict[str, Run] = {}
    ended: dict[str, str] = {}
    for host, lines in journals.items():
        latest = ""
        for line in lines:
            run = _run(host, line)
            if run is None:
                continue
            latest = max(latest, run.at)
            ended[run.id] = max(ended.get(run.id, ""), latest)
            known = found.get(run.id)
            found[run.id] = Run(run.id, run.at, run.by, run.verb, {**known.hosts, **run.hosts}) if known else run
    return sorted(found.values(), key=lambda run: ended[run.id])[::-1]


def of_stacks(found: Iterable[Run], stacks: Iterable[str]) -> list[Run]:
    """What of these runs is about the named stacks; all of it when there are none."""
    wanted = frozenset(stacks)
    if not wanted:
        return list(found)
    kept = []
    for run in found:
        hosts = {}
        for name, host in run.hosts.items():
            theirs = {stack: result for stack, result in host.stacks.items() if stack in wanted}
            if theirs:
                hosts[name] = HostRun(host.finished, host.seconds, theirs)
        if hosts:
            kept.append(Run(run.id, run.at, run.by, run.verb, hosts))
    return kept


def _run(host: str, line: str) -> Run | None:
    try:
        data = json.loads(line)
        why = data.get("why") or {}
        stacks = data.get("stacks") or {}
        if isinstance(stacks, dict):
            results = {str(name): _result(each, str(why.get(name, ""))) for name, each in stacks.items()}
            results |= {
                str(name): StackResult("failed", why=_first(reason)) for name, reason in why.items() if name not in stacks
            }
        else:  # as the first version wrote it: names
            failed = set(data.get("failed") or ())
            results = {str(name): StackResult("failed" if name in failed else "up") for name in stacks}
        part = HostRun(bool(data["finished"]), _number(data.get("seconds")), dict(sorted(results.items())), data.get("removed"))
        return Run(str(data["run"]), str(data["at"]), str(data["by"]), str(data.get("verb", "apply")), {host: part})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _result(data: Mapping[str, Any], why: str) -> StackResult:
    """A stack that came up and failed all the same lacks something that comes after: a model that cannot be pulled."""
    result = "failed" if data["result"] == "up" and why else str(data["result"])
    return StackResult(result, _number(data.get("seconds")), str(data.get("from", "")), str(data.get("to", "")), _first(why))


def _first(reason: object) -> str:
    return next(iter(str(reason).splitlines()), "")


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
