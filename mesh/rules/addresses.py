"""Addresses of hosts."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

from mesh.rules.rule import Context, Problem, rule


@rule("address-bind", "error")
def published_ports_have_an_address_to_bind_to(context: Context) -> Iterator[Problem]:
    """Published ports are bound to one address of the host, so that address has to be known as a number.

    `address` is either an IP address, or a DNS name with `bind` beside it. 0.0.0.0 as an `address` would mean all
    interfaces and cannot be reached; as a `bind` it is your own decision and allowed.
    """
    for name, host in context.mesh.hosts.items():
        address = _number(host.address)
        path = ("hosts", name, "address")
        if address is None:
            if host.bind is None:
                message = f"hosts.{name}: `{host.address}` is not an IP address, and there is no `bind` to publish ports on"
                yield Problem(path, message, "add bind: with the host's IPv4 address, such as bind: 192.168.1.20")
        elif address.is_unspecified or address.is_multicast:
            yield Problem(path, f"hosts.{name}: nothing can be reached at {address}", "write the host's own IP address")
        elif address.is_loopback and len(context.mesh.hosts) > 1:
            message = f"hosts.{name}: the other hosts cannot reach {address}"
            yield Problem(path, message, "write the address that the host has on the network")


@rule("address-shared", "error")
def hosts_have_addresses_of_their_own(context: Context) -> Iterator[Problem]:
    """Two hosts have the same address. They would be one machine with two plans for it, each undoing the other."""
    owner: dict[str, str] = {}
    for name, host in context.mesh.hosts.items():
        if host.address in owner:
            message = f"hosts.{name}: it has the address of {owner[host.address]}, {host.address}"
            yield Problem(("hosts", name, "address"), message, "correct the address, or declare the machine once")
        owner.setdefault(host.address, name)


def _number(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
