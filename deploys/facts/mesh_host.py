"""The one fact about a host: everything that apply and drift compare, in one round trip."""

from __future__ import annotations

import secrets

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from deploys.run import current
from mesh.state.observed import ObservedHost, Unknown
from mesh.state.parse import parse_host
from mesh.state.script import observe_script


class MeshHost(FactBase[ObservedHost]):
    """The host as `mesh drift` sees it, from the same script and the same parser.

    A daemon that is down, a missing docker, an answer that was cut short: the fact fails, and the host with it.
    """

    def command(self, mesh_host: str) -> str:
        run = current()
        self.host = run.deployment.hosts[mesh_host]
        self.boundary = f"mesh-{secrets.token_hex(16)}"
        docker = run.inventory.reach[mesh_host].docker
        return observe_script(self.host, mesh=run.deployment.mesh, docker=docker, boundary=self.boundary)

    def process(self, output: list[str]) -> ObservedHost:
        seen = parse_host(self.host, "\n".join(output), self.boundary)
        if isinstance(seen, Unknown):
            current().emit("failed", self.host.name, why=seen.why)
            raise FactProcessError(f"{self.host.name}: {seen.why}; {seen.mend}")
        return seen
