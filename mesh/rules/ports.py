"""Published ports."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.findings import Path
from mesh.rules.rule import Context, Problem, rule
from mesh.rules.world import Published

_EVERYWHERE = ("0.0.0.0", "::", "[::]")


@rule("port-collision", "error")
def ports_are_published_once_on_a_host(context: Context) -> Iterator[Problem]:
    """Two stacks publish the same port of the same host, or a stack takes the port of the host's SSH server.

    Ports that the spec leaves out count with the stack's usual one, and the ports in your own stacks' compose.yaml count too.
    """
    taken: dict[tuple[str, int, str], list[tuple[str, str]]] = {}
    for name, host in context.mesh.hosts.items():
        taken[name, host.ssh.port, "tcp"] = [("", "the SSH server")]
    for path, host_name, owner, port in _published(context):
        others = taken.setdefault((host_name, port.port, port.protocol), [])
        clash = next((other for address, other in others if _overlap(address, port.address)), None)
        if clash is not None:
            message = f"{owner} publishes port {port.port} of {host_name}, which {clash} has already"
            yield Problem(path, message, f"give one of them another port, say port: {_free(taken, host_name, port.port)}")
        others.append((port.address, owner))


@rule("port-everywhere", "notice")
def ports_are_published_on_one_address(context: Context) -> Iterator[Problem]:
    """A compose.yaml of your own publishes a port on all interfaces of its host (`8080:80` rather than `192.168.1.22:8080:80`).

    The mesh's own stacks publish on the host's declared address only. In your own file it is your decision, so it is only said.
    """
    everywhere = [f"{owner}: {port.port}" for _, _, owner, port in _published(context) if port.address in _EVERYWHERE]
    if everywhere:
        shown = ", ".join(everywhere[:5]) + (f" and {len(everywhere) - 5} more" if len(everywhere) > 5 else "")
        yield Problem(
            ("stacks",), f"published on all interfaces: {shown}", "write ADDRESS:PORT:PORT in compose.yaml", on_key=True
        )


def _published(context: Context) -> Iterator[tuple[Path, str, str, Published]]:
    """(place in the spec, host, who, port) for every published port."""
    mesh = context.mesh
    for name, provider in context.ollamas.items():
        yield ("providers", name, "port"), provider.on, f"providers.{name}", Published(provider.port)
    for name, stack in mesh.stacks.items():
        facts = context.world.stacks.get(name)
        if stack.port is not None:
            yield ("stacks", name, "port"), stack.on, f"stacks.{name}", Published(stack.port)
        for published in facts.ports if facts else ():
            yield ("stacks", name), stack.on, f"stacks.{name}", published


def _overlap(one: str, other: str) -> bool:
    return one == other or one in _EVERYWHERE or other in _EVERYWHERE


def _free(taken: dict[tuple[str, int, str], list[tuple[str, str]]], host: str, port: int) -> int:
    used = {number for name, number, _ in taken if name == host}
    return next((number for number in range(port + 1, 65536) if number not in used), 1024)
