"""One run of the deploys: the open inventory, what it compiles to, and what has happened so far.

`mesh apply` starts pyinfra with these in the environment; by hand none of them is needed:

    MESH_INVENTORY   the inventory folder              MESH_RUN      identity of the run
    MESH_STACKS      only these stacks, by commas      MESH_EVENTS   file descriptor for progress, one JSON object a line
"""

from __future__ import annotations

import datetime
import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesh.inventory import Inventory, open_inventory
from mesh.live.holder import Holder, this_run, who
from mesh.live.remote import Remote
from mesh.paths import INVENTORY
from mesh.secrets.value import redact
from mesh.state.deployment import Deployment
from mesh.state.work import waves

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
    failed: dict[str, str] = field(default_factory=dict)
    """Stack -> why. Its dependents are left alone, on whatever host they are."""

    @cached_property
    def deployment(self) -> Deployment:
        return self.inventory.deployment()

    @cached_property
    def waves(self) -> tuple[tuple[str, ...], ...]:
        return waves(self.deployment)

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

    def fail(self, host: Host, stack: str, why: str, lines: Iterable[str] = ()) -> None:
        """Note that a stack failed, and say so with the last lines of what was printed."""
        self.failed[stack] = why
        self.emit("failed", host.name, stack, why=why, lines=list(lines)[-40:])
        host.log(redact(f"{stack} {why}"))


@cache
def current() -> Run:
    """The run of this process."""
    folder = Path(os.environ.get("MESH_INVENTORY") or INVENTORY)
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    only = frozenset(filter(None, os.environ.get("MESH_STACKS", "").split(",")))
    events = os.environ.get("MESH_EVENTS")
    return Run(
        inventory=open_inventory(folder),
        id=os.environ.get("MESH_RUN") or new_id(),
        only=only,
        at=now.isoformat().replace("+00:00", "Z"),
        events=int(events) if events else None,
    )


def new_id() -> str:
    """Identity of a run: unpredictable, without spaces."""
    return secrets.token_hex(6)
