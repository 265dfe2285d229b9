"""One container's limits, restarts, ports, mounts, networks and rights, compared with what its service asks for. Pure.

Compose does not look at any of these on a container that is there, so `docker update`, `docker network connect` and the like
stay for ever. What the definition leaves to Compose (`$`, `extends`) is not compared, and what a host's kernel cannot do is
not an alarm: it drops limits that it cannot hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mesh.state.deployment import Service, StackRelease
from mesh.state.observed import ObservedHost, ObservedMount, Shape
from mesh.state.wanted_shape import WantedShape, ports_in_words


def shape_differences(stack: StackRelease, service: Service, has: Shape, host: ObservedHost) -> list[str]:
    """One phrase each; empty when the container is as its service says."""
    wanted = WantedShape(stack, service)
    if not wanted.known:
        return []
    parts = (_limits(wanted, has, host), _policy(wanted, has), _ports(wanted, has), _networks(wanted, has), _mounts(wanted, has))
    return [phrase for part in (*parts, _rights(wanted, has)) for phrase in part]


def _limits(wanted: WantedShape, has: Shape, host: ObservedHost) -> Iterator[str]:
    memory = wanted.memory
    if memory is not None and memory != has.memory and (has.memory or _holds_memory(host)):
        yield f"memory limit is {_bytes(has.memory)}, should be {_bytes(memory)}"
    elif wanted.swap is not None and has.swap > 0 and wanted.swap != has.swap:
        yield f"limit of memory and swap is {_bytes(has.swap)}, should be {_bytes(wanted.swap)}"
    elif wanted.swap is None and has.memory and has.swap > 0 and has.swap != 2 * has.memory:
        yield f"limit of memory and swap is {_bytes(has.swap)}, should be {_bytes(2 * has.memory)}"
    if wanted.cpus is not None and wanted.cpus != has.cpus:
        yield f"processor limit is {_cpus(has.cpus)}, should be {_cpus(wanted.cpus)}"
    if wanted.cpu_shares is not None and wanted.cpu_shares != has.cpu_shares:
        yield f"cpu_shares is {has.cpu_shares or 'unset'}, should be {wanted.cpu_shares or 'unset'}"
    if wanted.cpuset is not None and wanted.cpuset != has.cpuset:
        yield f"cpuset is {has.cpuset or 'unset'}, should be {wanted.cpuset or 'unset'}"
    pids = max(has.pids or 0, 0)
    if wanted.pids is not None and wanted.pids != pids and has.pids is not None:
        yield f"process limit is {pids or 'none'}, should be {wanted.pids or 'none'}"


def _holds_memory(host: ObservedHost) -> bool:
    """Whether the host's kernel holds anyone to a memory limit."""
    return any(each.shape and each.shape.memory for each in host.containers)


def _policy(wanted: WantedShape, has: Shape) -> Iterator[str]:
    if wanted.restart is not None and wanted.restart != has.restart:
        yield f"restart policy is {has.restart}, should be {wanted.restart}"


def _ports(wanted: WantedShape, has: Shape) -> Iterator[str]:
    if wanted.ports is None:
        return
    for words in ports_in_words(sorted(has.ports - wanted.ports)):
        yield f"publishes {words}, which the spec does not"
    for words in ports_in_words(sorted(wanted.ports - has.ports)):
        yield f"does not publish {words}"


def _networks(wanted: WantedShape, has: Shape) -> Iterator[str]:
    if wanted.networks is None:
        return
    for name in sorted(has.networks - wanted.networks):
        yield f"is in the network {name}, where the spec does not put it"
    for name in sorted(wanted.networks - has.networks):
        yield f"is not in the network {name}"


def _mounts(wanted: WantedShape, has: Shape) -> Iterator[str]:
    asked = wanted.mounts
    if asked is None:
        return
    there = {mount.target: mount for mount in has.mounts}
    for mount in asked:
        found = there.pop(mount.target, None)
        if found is None:
            if mount.kind != "tmpfs":
                yield f"does not mount {_source(mount)} at {mount.target}"
        elif mount.kind not in {"$", found.kind} or mount.source not in {"$", found.source}:
            yield f"mounts {_source(found)} at {mount.target}, should be {_source(mount)}"
        elif found.writable != mount.writable:
            yield f"{_may(found)} write to {mount.target}, and {_may(mount)} by the spec"
    for mount in _uncalled_for(there.values(), wanted.maybe_mounted):
        yield f"mounts {_source(mount)} at {mount.target}, which the spec does not"


def _may(mount: ObservedMount) -> str:
    return "may" if mount.writable else "may not"


def _uncalled_for(mounts: Iterable[ObservedMount], maybe: frozenset[str]) -> Iterator[ObservedMount]:
    for mount in mounts:
        anonymous = mount.kind == "volume" and is_anonymous(mount.source)
        if mount.kind != "tmpfs" and not anonymous and mount.target not in maybe:
            yield mount


def is_anonymous(volume: str) -> bool:
    """Whether it is the name of a volume that an image asks for, and nobody named."""
    return len(volume) == 64 and set(volume) <= set("0123456789abcdef")


def _source(mount: ObservedMount) -> str:
    if mount.source == "$":
        return "what belongs there"
    return f"the volume {mount.source}" if mount.kind == "volume" else mount.source


def _rights(wanted: WantedShape, has: Shape) -> Iterator[str]:
    if wanted.flag("privileged") not in {None, has.privileged}:
        yield "is privileged, should not be" if has.privileged else "is not privileged, should be"
    if wanted.flag("read_only") not in {None, has.read_only}:
        yield "has a read-only root, should not" if has.read_only else "may write to its root, should not be able to"
    for key, word, sees in (("cap_add", "added", has.cap_add), ("cap_drop", "dropped", has.cap_drop)):
        asked = wanted.capabilities(key)
        if asked is not None and asked != sees:
            yield f"capabilities {word} are {_names(sees)}, should be {_names(asked)}"
    if wanted.pid_mode is not None and wanted.pid_mode != ("host" if has.pid_mode == "host" else ""):
        yield f"{'sees' if has.pid_mode == 'host' else 'does not see'} the host's processes, and the spec says otherwise"
    yield from _security(wanted, has)


def _security(wanted: WantedShape, has: Shape) -> Iterator[str]:
    options = [str(each) for each in wanted.definition.get("security_opt") or ()]
    if any("$" in each for each in options):
        return
    asked, sees = (any(_no_new(each) for each in some) for some in (options, has.security))
    if asked != sees:
        yield f"{'has' if sees else 'lacks'} no-new-privileges, {'should not' if sees else 'should have it'}"
    for profile in ("seccomp", "apparmor"):
        loose = {each for each in has.security if each.startswith(profile) and each.endswith("unconfined")}
        if loose and not any(each.startswith(profile) and each.endswith("unconfined") for each in options):
            yield f"runs without {profile}, should not"


def _no_new(option: str) -> bool:
    return option.startswith("no-new-privileges") and not option.endswith("false")


def _names(items: Iterable[str]) -> str:
    return ", ".join(sorted(items)) or "none"


def _cpus(billionths: int) -> str:
    return f"{billionths / 10**9:g}" if billionths else "none"


def _bytes(count: int) -> str:
    """`512 MiB`; exact where it is round."""
    if count <= 0:
        return "none"
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if count % 1024**power == 0:
            return f"{count // 1024**power} {unit}"
    return f"{count} bytes"
