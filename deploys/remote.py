"""Running host.sh on a pyinfra host."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from paramiko import SSHException
from pyinfra.api import StringCommand

from deploys.run import Run

if TYPE_CHECKING:
    from pyinfra.api import Host


SILENCE_SECONDS = 20
"""A host that is not heard of for so long is given up. Without this, one that lost its power would be waited for forever."""
_KEEPALIVE = {
    "SO_KEEPALIVE": 1,
    "TCP_KEEPIDLE": SILENCE_SECONDS // 4,
    "TCP_KEEPINTVL": SILENCE_SECONDS // 4,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": SILENCE_SECONDS * 1000,
}


class HostLostError(OSError):
    """The host does not answer any more. What it was told to do, it may have done."""


def give_up_when_silent(host: Host) -> None:
    """Let the kernel end the connection to a host that does not answer for SILENCE_SECONDS; pyinfra has no setting for it."""
    transport = _transport(host)
    if transport is None:
        return
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # not every system has all of them
            level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
            transport.sock.setsockopt(level, getattr(socket, name), value)


def call(host: Host, run: Run, *words: str, stdin: str = "") -> tuple[bool, list[str]]:
    """One call of host.sh: whether it succeeded, and the lines it printed. The script and its input go through stdin.

    Raises HostLostError.
    """
    remote = run.remote(host.name)
    try:
        succeeded, output = host.run_shell_command(
            StringCommand(remote.command),
            _stdin=remote.script(*words, stdin=stdin),
            _sudo=bool(host.data.get("_sudo")),
        )
    except (OSError, EOFError, SSHException) as error:
        raise HostLostError(str(error) or type(error).__name__) from None
    transport = _transport(host)
    if not succeeded and transport is not None and not transport.is_active():
        raise HostLostError(str(transport.get_exception() or "the host has closed it"))
    return succeeded, [line for line in output.output_lines if line.strip()]


def _transport(host: Host) -> Any:
    """paramiko's, where the host is reached by it."""
    client = getattr(host.connector, "client", None)
    return client.get_transport() if client is not None else None
