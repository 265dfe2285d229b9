"""Where a drill can be played: on the gateway's host, in this machine's Docker, or with an installed LiteLLM."""

from __future__ import annotations

import shutil
import subprocess
from secrets import token_hex
from typing import TYPE_CHECKING

from mesh.drill.container import Containers, missing
from mesh.drill.loopback import Loopback
from mesh.drill.run import Place
from mesh.drill.stage import gateway_release
from mesh.errors import MeshError
from mesh.live.ssh import Target, run_script
from mesh.state.observed import Unknown

if TYPE_CHECKING:
    from mesh.inventory import Inventory
    from mesh.state.deployment import Deployment


def choose(inventory: Inventory, deployment: Deployment, *, on: str, litellm: str | None) -> Place:
    """The place that was asked for. on: `host`, `local`, or `auto`: the host where it can, else this machine."""
    if litellm:
        command = shutil.which(litellm)
        if command is None:
            raise MeshError(f"there is no command {litellm}", where="--with", mend="give the path of an installed `litellm`")
        return Loopback(command)
    host = _host(inventory, deployment)
    local = _local(deployment)
    if on == "host":
        reached = run_script(_target(inventory, deployment), "true")
        if isinstance(reached, Unknown):
            raise MeshError("the gateway's host does not answer", where=host.name, why=reached.why, mend=reached.mend)
        return _with_images(host)
    if on == "local":
        return _with_images(local)
    for place in (host, local):
        if _ready(place):
            return place
    raise missing(host)


def _target(inventory: Inventory, deployment: Deployment) -> Target:
    name, _ = gateway_release(deployment)
    return Target(name, inventory.reach[name], inventory.dir)


def _host(inventory: Inventory, deployment: Deployment) -> Containers:
    target = _target(inventory, deployment)
    return Containers(f"host {target.name}", target.command(), target.reach.docker, deployment, token_hex(4))


def _local(deployment: Deployment) -> Containers:
    return Containers("this machine", ["sh", "-s"], "docker", deployment, token_hex(4))


def _with_images(place: Containers) -> Containers:
    if not _ready(place):
        raise missing(place)
    return place


def _ready(place: Containers) -> bool:
    try:
        return place.has_images()
    except (OSError, subprocess.TimeoutExpired):
        return False
