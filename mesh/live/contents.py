"""The second look, for `mesh plan` and before `mesh apply` asks: texts of files that differ, mounts, volumes, sizes of images.

One more ssh session a host, only where something differs, and all of them side by side. It only reads: nothing is started,
built or pulled.
"""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING

from mesh.errors import MeshError
from mesh.live.parallel import side_by_side
from mesh.live.ssh import Session, connect
from mesh.plan.explain import Explanation, Pull, concerned, explain, pulls, to_ask
from mesh.plan.looked import Looked, parse_looked
from mesh.plan.script import Ask, look_script
from mesh.secrets.value import redact
from mesh.state.observed import ObservedHost, Unknown
from mesh.state.plan import CannotTell

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mesh.inventory import Inventory
    from mesh.plan.files import FileChange
    from mesh.plan.vram import HostRoom
    from mesh.state.deployment import Deployment
    from mesh.state.observed import Observed
    from mesh.state.plan import Plan

REGISTRY_SECONDS = 4.0
"""How long a registry may take for one answer."""
SIZES_SECONDS = 8.0
"""How long all registries together may take."""
_USUAL = "linux/amd64"
"""The platform of a host that did not tell."""


def explanation(inventory: Inventory, deployment: Deployment, observed: Observed, plan: Plan) -> Explanation:
    """Everything about the plan that the first look does not tell. Empty, and at once, where nothing changes.

    deployment: what --host and --stack leave of the inventory's.
    """
    if not plan.changes:
        return Explanation()
    value_of = inventory.secrets.value
    asks: dict[str, Ask] = {}
    for host in deployment.hosts.values():
        there = observed.hosts.get(host.name)
        ask = to_ask(host, there, plan, value_of) if isinstance(there, ObservedHost) else None
        if ask is not None:
            asks[host.name] = ask
    nonce = secrets.token_hex(16)
    sessions = connect(inventory, asks) if asks else {}
    answers = side_by_side({name: partial(_look, inventory, name, ask, nonce, sessions[name]) for name, ask in asks.items()})
    looked = {name: answer for name, answer in answers.items() if isinstance(answer, Looked)}
    unread = tuple(CannotTell(name, each.why, each.mend) for name, each in answers.items() if isinstance(each, Unknown))
    everything = inventory.checked_deployment()
    effects, files, risks = explain(everything, deployment, observed, plan, looked, nonce=nonce, value_of=value_of, redact=redact)
    rooms = _vram(inventory, deployment, observed, plan, files)
    return Explanation(effects, files, _pulls(plan, looked), rooms, risks, unread)


def _look(inventory: Inventory, host: str, ask: Ask, nonce: str, session: Session) -> Looked | Unknown:
    boundary = f"mesh-{secrets.token_hex(16)}"
    docker = inventory.reach[host].docker
    answer = session.run(look_script(ask, docker=docker, boundary=boundary, nonce=nonce))
    return answer if isinstance(answer, Unknown) else parse_looked(answer, boundary)


def _pulls(plan: Plan, looked: Mapping[str, Looked]) -> tuple[Pull, ...]:
    """Images by what their registries say, models by the catalogue."""
    images, models = pulls(plan, "image"), pulls(plan, "model")
    platforms = {image: looked.get(hosts[0], Looked()).platform or _USUAL for image, hosts in images.items()}
    sizes = side_by_side({image: partial(_size, image, platforms[image]) for image in images}, SIZES_SECONDS)
    found = []
    for image, hosts in images.items():
        size = sizes.get(image, "the registry did not answer in time")
        found.append(Pull("image", image, hosts, size) if isinstance(size, int) else Pull("image", image, hosts, None, size))
    for tag, hosts in models.items():
        from mesh.hardware.models import canonical, known_model

        known = known_model(canonical(tag))
        why = "" if known else "the catalogue does not know it"
        found.append(Pull("model", tag, hosts, known.blob_bytes if known else None, why))
    return tuple(found)


def _size(image: str, platform: str) -> int | str:
    """Bytes, or why they are not known."""
    from mesh.compile.images import ImageRef
    from mesh.registry import pull_size

    reference = ImageRef.parse(image)
    try:
        return pull_size(reference.repo, reference.digest or reference.tag or "latest", platform, REGISTRY_SECONDS)
    except MeshError as error:
        return f"{error.what}: {error.why}" if error.why else error.what


def _vram(
    inventory: Inventory, deployment: Deployment, observed: Observed, plan: Plan, files: Iterable[FileChange]
) -> tuple[HostRoom, ...]:
    hosts = concerned(deployment, plan.changes, files)
    if not hosts:
        return ()
    from mesh.fit.calibrate import calibration
    from mesh.fit.verdict import fit
    from mesh.measure.record import read_measurements
    from mesh.plan.vram import host_room

    fits = fit(inventory.mesh, calibration(read_measurements(inventory.dir)))
    return tuple(host_room(deployment.hosts[each.host], each, observed) for each in fits if each.host in hosts)
