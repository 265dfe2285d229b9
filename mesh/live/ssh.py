"""Scripts on hosts, over OpenSSH's `ssh`.

OpenSSH is used for observing because it is there, quick to start, and reads the operator's own configuration (jump hosts,
agents, hardware keys). Host keys are checked against the inventory's known_hosts and nothing else.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mesh.state.deployment import Reach
from mesh.state.observed import Unknown

if TYPE_CHECKING:
    from mesh.inventory import Inventory

KEY_VARIABLE = "MESH_SSH_KEY"
CONNECT_SECONDS = 5
ANSWER_SECONDS = 60
"""A docker daemon that hangs answers nothing at all; with hundreds of containers the answer takes a second or two."""


@dataclass(frozen=True, slots=True)
class Target:
    """How to reach one host. `folder` is the inventory folder: known_hosts and relative keys are there."""

    name: str
    reach: Reach
    folder: Path

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def key(self) -> Path | None:
        """The private key: $MESH_SSH_KEY, which CI has in place of the operator's, or the spec's."""
        given = os.environ.get(KEY_VARIABLE)
        if given:
            return Path(given).expanduser()
        return self.folder / Path(self.reach.key).expanduser() if self.reach.key else None

    def command(self) -> list[str]:
        """The ssh command line that runs a script from stdin."""
        reach = self.reach
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": f'"{self.known_hosts.absolute()}"',
            "GlobalKnownHostsFile": "/dev/null",
            "UpdateHostKeys": "no",
            "ConnectTimeout": str(CONNECT_SECONDS),
            "ServerAliveInterval": "5",
            "LogLevel": "ERROR",
        }
        arguments = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        if self.key:
            arguments += ["-o", "IdentitiesOnly=yes", "-i", str(self.key.absolute())]
        shell = "exec sh -s" if reach.user == "root" else "exec sudo -n sh -s"
        return ["ssh", "-T", *arguments, "-p", str(reach.port), "-l", reach.user, "--", reach.address, shell]


class Session:
    """One ssh session that runs one script. It connects at once, and the script may follow later."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._failed: Unknown | None = None
        self._process: subprocess.Popen[bytes] | None = None
        if target.key and not target.key.is_file():
            mend = f"set hosts.{target.name}.ssh.key, or make it with ssh-keygen"
            self._failed = Unknown(f"the ssh key {target.key} is not there", mend)
            return
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(target.command(), stdin=pipe, stdout=pipe, stderr=pipe)
        except FileNotFoundError:
            self._failed = Unknown("there is no ssh on this machine", "install the OpenSSH client")

    def run(self, script: str, patience: float = ANSWER_SECONDS) -> str | Unknown:
        """What the script printed on the host, or why it could not be run, in the operator's terms. patience: seconds."""
        if self._process is None:
            return self._failed or Unknown("the session has ended")
        try:
            stdout, stderr = self._process.communicate(script.encode(), timeout=patience)
        except subprocess.TimeoutExpired:
            return Unknown(
                f"no answer within {patience:.0f} s, although ssh connected",
                f"look whether docker hangs there: ssh {_there(self.target)} docker ps",
            )
        finally:
            self.close()
        if self._process.returncode:
            return explain(self.target, self._process.returncode, stderr.decode("utf-8", "replace"))
        return stdout.decode("utf-8", "replace")

    def close(self) -> None:
        """End ssh, if it still runs."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def connect(inventory: Inventory, hosts: Collection[str] = ()) -> dict[str, Session]:
    """Sessions to the named hosts, or to all. They connect while everything else is made ready."""
    wanted = {name: reach for name, reach in inventory.reach.items() if not hosts or name in hosts}
    return {name: Session(Target(name, reach, inventory.dir)) for name, reach in wanted.items()}


def run_script(target: Target, script: str, patience: float = ANSWER_SECONDS) -> str | Unknown:
    """One script in one session. patience: seconds until it is given up."""
    return Session(target).run(script, patience)


def explain(target: Target, code: int, stderr: str) -> Unknown:
    """The cause of a failed ssh, from what OpenSSH and sudo say (their texts are stable; exit 255 is ssh's own)."""
    text = " ".join(stderr.split())
    address, port = target.reach.address, target.reach.port
    entry = address if port == 22 else f"[{address}]:{port}"
    add = f"`mesh host trust {target.name}` shows it, to be compared with `ssh-keygen -lf` on the host's own console"
    if "HOST IDENTIFICATION HAS CHANGED" in text:
        return Unknown(
            "its host key has changed: it was reinstalled, or something else answers at its address",
            f"if it was reinstalled: {add}",
        )
    if "Host key verification failed" in text or "host key is known" in text:
        return Unknown(f"its host key is not known: {target.known_hosts} has none for {entry}", add)
    if "Permission denied" in text and code == 255:
        user = target.reach.user
        mend = f"ssh-copy-id -p {port} {_there(target)}, or set hosts.{target.name}.ssh.user and .key"
        return Unknown(f"it refuses to let {user} in: {_reason(stderr)}", mend)
    if "sudo" in text and ("password" in text or "authentication" in text):
        return Unknown(
            f"{target.reach.user} may not run sudo without a password there",
            f"let it (`{target.reach.user} ALL=(root) NOPASSWD: ALL` in sudoers), or set hosts.{target.name}.ssh.user to root",
        )
    if code == 255:
        return Unknown(f"not reachable: {_reason(stderr)}", f"is it on, and is hosts.{target.name}.address right ({address})?")
    return Unknown(f"the remote shell ended with {code}: {_reason(stderr)}", f"try: ssh {_there(target)} sh -c true")


def _there(target: Target) -> str:
    return f"{target.reach.user}@{target.reach.address}"


def _reason(stderr: str) -> str:
    """The last thing that ssh said."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("ssh: ") if lines else "no reason given"
