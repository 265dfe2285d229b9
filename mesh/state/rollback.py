"""Which stacks go back to which release: from what every host records. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mesh.errors import MeshError
from mesh.state.journal import CHANGED, Run
from mesh.state.observed import RecordedRelease
from mesh.suggest import Suggester


@dataclass(frozen=True, slots=True)
class Kept:
    """What one host records: the releases that run, those before them (both by stack), and the ids of its images."""

    current: Mapping[str, RecordedRelease] = field(default_factory=dict)
    previous: Mapping[str, RecordedRelease] = field(default_factory=dict)
    images: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Step:
    """One stack of one host to take back. current: None for a stack that was brought down."""

    host: str
    stack: str
    current: RecordedRelease | None
    previous: RecordedRelease
    missing_images: tuple[str, ...] = ()
    """Services whose image is no longer on the host: it has to be pulled again."""

    @property
    def remade(self) -> tuple[str, ...]:
        """Services that are another in the previous release."""
        now = self.current.services if self.current else {}
        return tuple(
            name for name, each in self.previous.services.items() if name not in now or now[name].digest != each.digest
        ) + tuple(name for name in now if name not in self.previous.services)


@dataclass(frozen=True, slots=True)
class Rollback:
    """What a rollback does, and why some of what it was asked for stays as it is (`host/stack: reason`)."""

    steps: tuple[Step, ...]
    stays: tuple[str, ...] = ()


def of_named(kept: Mapping[str, Kept], stacks: Collection[str]) -> Rollback:
    """The named stacks to their previous releases. Raises MeshError when one of them has none: all of them or nothing."""
    steps = []
    for stack in stacks:
        places = [host for host, each in kept.items() if stack in each.current or stack in each.previous]
        here = [host for host in places if stack in kept[host].current] or places
        if not here:
            known = sorted({name for each in kept.values() for name in each.current})
            mend = Suggester().mend(stack, known, "mesh history shows what was applied")
            raise MeshError(f"no host has a release of {stack}", where="--stack", why="it was never applied", mend=mend)
        for host in here:
            step = _step(kept[host], host, stack)
            if step is None:
                raise MeshError(
                    "there is no previous release to go back to",
                    where=f"{host}/{stack}",
                    why="only one release of it has ever been up",
                    mend="change the spec and apply; nothing was rolled back",
                )
            steps.append(step)
    return Rollback(tuple(steps))


def of_run(kept: Mapping[str, Kept], found: Sequence[Run], *, run: str = "", hosts: Iterable[str] = ()) -> tuple[Run, Rollback]:
    """All stacks that one run changed: the named one, else the last that changed any (on the named hosts).

    Raises MeshError when there is no such run. A stack that has changed since, or had no release before, stays.
    """
    only = frozenset(hosts)
    chosen = _chosen(found, run, only)
    steps, stays = [], []
    for host, part in chosen.hosts.items():
        for stack, result in part.stacks.items():
            if result.result not in CHANGED or result.was == result.wanted != "" or (only and host not in only):
                continue
            here = kept.get(host, Kept())
            step = _step(here, host, stack)
            runs_now = here.current[stack].release if stack in here.current else ""
            if runs_now != result.wanted and result.wanted:
                stays.append(f"{host}/{stack}: another run has changed it since")
            elif step is None:
                stays.append(f"{host}/{stack}: it has no previous release")
            else:
                steps.append(step)
    return chosen, Rollback(tuple(steps), tuple(stays))


def _chosen(found: Sequence[Run], run: str, hosts: frozenset[str]) -> Run:
    if run:
        named = [each for each in found if each.id.startswith(run)]
        if len(named) != 1:
            what = f"no run {run} is in the journals" if not named else f"{len(named)} runs begin with {run}"
            raise MeshError(what, where="--run", mend="mesh history shows the runs")
        return named[0]
    for each in found:
        parts = [part for host, part in each.hosts.items() if not hosts or host in hosts]
        if any(it.result in CHANGED and it.was != it.wanted for part in parts for it in part.stacks.values()):
            return each
    raise MeshError("there is nothing to roll back", why="no run in the journals has changed a release", mend="see mesh history")


def _step(kept: Kept, host: str, stack: str) -> Step | None:
    previous, current = kept.previous.get(stack), kept.current.get(stack)
    if previous is None or (current and current.release == previous.release):
        return None
    missing = tuple(name for name, each in previous.services.items() if each.image_id not in kept.images)
    return Step(host, stack, current, previous, missing)
