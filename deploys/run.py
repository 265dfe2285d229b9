"""One run of the deploys: the open inventory, what it compiles to, and what has happened so far.

`mesh apply` starts pyinfra with these in the environment; by hand none of them is needed:

    MESH_INVENTORY   the inventory folder              MESH_RUN      identity of the run
    MESH_STACKS      only these stacks, by commas      MESH_EVENTS   file descriptor for progress, one JSON object a line
    MESH_GO          file descriptor of two pickles: which hosts and how to reach them; then, as the sign to begin, what the
                     inventory compiled to and what was observed
    MESH_ROLLBACK    the stacks to take back in place of an apply: {host: {stack: {release, probe}}} in JSON
"""

from __future__ import annotations

import datetime
import json
import os
import pickle
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mesh.inventory import Inventory, open_to_act
from mesh.kept import Kept
from mesh.live.holder import Holder, this_run, who
from mesh.live.remote import Remote
from mesh.paths import INVENTORY
from mesh.secrets.value import redact
from mesh.state.deployment import Deployment, Probe, Reach
from mesh.state.observed import Observed
from mesh.state.work import BackTo, waves

if TYPE_CHECKING:
    from pyinfra.api import Host


@dataclass
class Run:
    """State that the hosts of one run share. pyinfra runs them as greenlets of one process."""

    inventory: Inventory
    id: str
    only: frozenset[str]
    """Names of the stacks to touch; empty for all."""
    at: str
    events: int | None = None
    observed: Observed = field(default_factory=Observed)
    """What `mesh apply` saw; hosts that are not in it are looked at."""
    rollback: Mapping[str, Mapping[str, BackTo]] = field(default_factory=dict)
    """Host -> stack -> the release to go back to. Empty for an apply."""
    failed: dict[str, str] = field(default_factory=dict)
    """Stack -> why, in one line. Its dependents are left alone, on whatever host they are."""
    started: float = field(default_factory=time.monotonic)

    @cached_property
    def deployment(self) -> Deployment:
        """A rollback puts nothing of it in place: it works without the key to the secrets."""
        return self.inventory.deployment(preview=True) if self.rollback else self.inventory.checked_deployment()

    @cached_property
    def waves(self) -> tuple[tuple[str, ...], ...]:
        """All stacks in their order; stacks that have left the spec and come back have none, and are last."""
        ordered = waves(self.deployment)
        known = {name for wave in ordered for name in wave}
        left = sorted({name for stacks in self.rollback.values() for name in stacks} - known)
        return (*ordered, tuple(left)) if left else ordered

    @property
    def verb(self) -> str:
        return "rollback" if self.rollback else "apply"

    @property
    def holder(self) -> Holder:
        return this_run(self.id, self.at)

    @property
    def by(self) -> str:
        return who()

    def remote(self, host: str) -> Remote:
        return Remote(self.deployment.hosts[host].root, self.inventory.reach[host].docker, self.id)

    def emit(self, event: str, host: str, stack: str = "", **more: Any) -> None:
        """Tell `mesh apply` what happens, when it listens. Values of secrets are taken out."""
        if self.events is None:
            return
        line = redact(json.dumps({"event": event, "host": host, "stack": stack, **more}, ensure_ascii=False))
        try:
            os.write(self.events, f"{line}\n".encode())
        except OSError:
            self.events = None  # nobody listens any more; the run goes on

    def fail(self, host: Host, stack: str, why: str, lines: Iterable[str] = (), reason: str = "") -> None:
        """Note that a stack failed, and say so with the last lines of what was printed.

        reason: one line for the journal, in place of why.
        """
        self.failed[stack] = reason or why
        self.emit("failed", host.name, stack, why=why, lines=list(lines)[-40:])
        host.log(redact(f"{stack} {why}"))


def folder() -> Path:
    """The inventory folder."""
    return Path(os.environ.get("MESH_INVENTORY") or INVENTORY)


@cache
def reach() -> Mapping[str, Reach]:
    """The hosts of this run, and how to reach them."""
    told: Mapping[str, Reach] = _told() if "MESH_GO" in os.environ else current().inventory.reach
    return told


@cache
def current() -> Run:
    """The run of this process. Started by `mesh apply`, it waits here for the sign to begin; no work is done before."""
    kept: Kept | None = None
    observed = Observed()
    if "MESH_GO" in os.environ:
        reach()
        kept, observed = _told()
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    only = frozenset(filter(None, os.environ.get("MESH_STACKS", "").split(",")))
    events = os.environ.get("MESH_EVENTS")
    rollback = json.loads(os.environ.get("MESH_ROLLBACK") or "{}")
    return Run(
        inventory=Inventory(folder(), kept=kept) if kept else open_to_act(folder()),
        id=os.environ.get("MESH_RUN") or new_id(),
        only=only,
        at=now.isoformat().replace("+00:00", "Z"),
        events=int(events) if events else None,
        observed=observed,
        rollback={host: {name: _back_to(each) for name, each in stacks.items()} for host, stacks in rollback.items()},
    )


@cache
def _parent() -> IO[bytes]:
    return os.fdopen(int(os.environ["MESH_GO"]), "rb")


def _told() -> Any:
    """What `mesh apply` says next. Ends this process when it has nothing to say any more."""
    try:
        return pickle.load(_parent())  # from our own parent
    except (EOFError, pickle.UnpicklingError):
        os._exit(1)


def _back_to(data: Mapping[str, Any]) -> BackTo:
    probe = data["probe"]
    return BackTo(data["release"], Probe(probe["url"], probe["timeout"]) if probe else None)


def new_id() -> str:
    """Identity of a run: unpredictable, without spaces."""
    return secrets.token_hex(6)
