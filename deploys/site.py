"""All of it: pyinfra inventory/homelab.py deploys/site.py"""

from __future__ import annotations

from pyinfra import host

from deploys.facts.mesh_host import MeshHost
from deploys.remote import give_up_when_silent
from deploys.run import current
from deploys.stacks import apply_stacks
from mesh.state.observed import ObservedHost

give_up_when_silent(host)
seen = current().observed.hosts.get(host.name)
if not isinstance(seen, ObservedHost):
    seen = host.get_fact(MeshHost, mesh_host=host.name)
if seen is not None:  # a host that cannot be read has failed by now; the others go on
    apply_stacks(current(), seen)
