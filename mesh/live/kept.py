"""What the hosts have kept of earlier runs: journals and releases, and what can be pruned. A session a host, side by side."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TypeVar

from mesh.inventory import Inventory
from mesh.live.parallel import side_by_side
from mesh.live.remote import UPKEEP, Remote
from mesh.live.ssh import Session, Target
from mesh.state.observed import Unknown
from mesh.state.parse import read_release
from mesh.state.rollback import Kept

PRUNE_SECONDS = 600
"""Images of many gigabytes take their time to go."""
T = TypeVar("T")


def read_journals(inventory: Inventory, hosts: Collection[str], lines: int | None) -> dict[str, list[str] | Unknown]:
    """The last lines of every host's journal, all of them for None. Hosts that cannot be read are Unknown."""
    answers = _ask(inventory, hosts, "history", "+1" if lines is None else str(lines))
    return {host: each if isinstance(each, Unknown) else _journal(each) for host, each in answers.items()}


def read_releases(inventory: Inventory, hosts: Collection[str]) -> dict[str, tuple[Kept, list[str]] | Unknown]:
    """The releases that run and those before them, and the whole journal, of every host."""
    answers = _ask(inventory, hosts, "releases")
    return {
        host: each if isinstance(each, Unknown) else (_kept(each, inventory.mesh.mesh), _journal(each))
        for host, each in answers.items()
    }


def read_prunable(inventory: Inventory, hosts: Collection[str], days: int) -> dict[str, list[str] | Unknown]:
    """What is the mesh's own on every host and nobody needs, in the words of upkeep.sh. days: that files put aside are kept."""
    return _ask(inventory, hosts, "prunable", inventory.mesh.mesh, str(days))


def prune(
    inventory: Inventory, confirmed: Mapping[str, list[str]], *, run: str, holder: str, days: int, head: str
) -> dict[str, list[str] | Unknown]:
    """Remove what was confirmed, host by host, under the lock. head: the journal's line up to what was removed."""
    jobs = {}
    for host, lines in confirmed.items():
        call = ("prune", holder, inventory.mesh.mesh, str(days), head)
        jobs[host] = partial(_one, inventory, host, run, *call, stdin="\n".join(lines), patience=PRUNE_SECONDS)
    return side_by_side(jobs)


def _ask(inventory: Inventory, hosts: Collection[str], *call: str) -> dict[str, list[str] | Unknown]:
    jobs: dict[str, Callable[[], list[str] | Unknown]] = {
        host: partial(_one, inventory, host, f"look-{secrets.token_hex(4)}", *call) for host in hosts
    }
    return side_by_side(jobs)


def _one(inventory: Inventory, host: str, run: str, *call: str, stdin: str = "", patience: float = 60) -> list[str] | Unknown:
    reach = inventory.reach[host]
    remote = Remote(inventory.root, reach.docker, run)
    answer = Session(Target(host, reach, inventory.dir)).run(remote.script(*call, stdin=stdin, more=[UPKEEP]), patience)
    return answer if isinstance(answer, Unknown) else [line for line in answer.splitlines() if line]


def _journal(lines: list[str]) -> list[str]:
    return [line.removeprefix("journal ") for line in lines if line.startswith("journal ")]


def _kept(lines: list[str], mesh: str) -> Kept:
    """Of this mesh: another one may share the host."""
    found: dict[str, dict[str, object]] = {"stacks": {}, "previous": {}}
    for line in lines:
        kind, _, rest = line.partition(" ")
        stack, _, text = rest.partition(" ")
        if kind in found and (release := read_release(text)) and release.mesh == mesh:
            found[kind][stack] = release
    images = frozenset(line.removeprefix("image ") for line in lines if line.startswith("image "))
    return Kept(found["stacks"], found["previous"], images)  # type: ignore[arg-type]
