"""The three hosts: boot, wait until they serve, let the operator in, and know them by their own keys."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from labctl.engine import Engine
from labctl.settings import HOSTS, LAB_DIR, Host
from labctl.shell import run, say
from mesh.errors import MeshError

KEY = LAB_DIR / "id_ed25519"
KNOWN_HOSTS = LAB_DIR / "known_hosts"
SSH_CONFIG = LAB_DIR / "ssh_config"
BOOT_SECONDS = 120

# One line of words, each naming what is not ready yet. A host without Docker installed has no docker.service to wait for.
PROBE = """
case $(systemctl is-system-running 2>/dev/null) in running|degraded) ;; *) echo systemd ;; esac
systemctl is-active --quiet ssh || echo sshd
if [ -e /usr/bin/dockerd ] || [ -e /usr/sbin/dockerd ]; then docker version >/dev/null 2>&1 || echo docker; fi
"""

ADMIT = """
set -eu
key=$(cat)
for user in root ops; do
  home=$(getent passwd $user | cut -d: -f6)
  install -d -m 700 -o $user -g $user $home/.ssh
  printf '%s\\n' "$key" > $home/.ssh/authorized_keys
  chown $user:$user $home/.ssh/authorized_keys
  chmod 600 $home/.ssh/authorized_keys
done
cat /etc/ssh/ssh_host_ed25519_key.pub
"""


def wait_for_hosts(engine: Engine, hosts: list[Host]) -> None:
    """Until systemd, sshd and the inner Docker engine of each are up, and sshd answers over the network."""
    began = time.monotonic()
    waiting = {host.name: "" for host in hosts}
    while waiting:
        for name in list(waiting):
            lacks = _lacks(engine, HOSTS[name])
            if not lacks:
                del waiting[name]
                say(f"{name}: ready at {HOSTS[name].address} after {time.monotonic() - began:.1f} s")
            elif lacks != waiting[name]:
                waiting[name] = lacks
                say(f"{name}: waiting for {lacks}")
        if waiting and time.monotonic() - began > BOOT_SECONDS:
            name, lacks = next(iter(waiting.items()))
            raise MeshError(
                f"the lab host is not ready after {BOOT_SECONDS} s: {lacks}",
                where=name,
                why=_complaints(engine, HOSTS[name]),
                mend=f"`bin/lab reset {name}` makes it anew",
            )
        if waiting:
            time.sleep(0.2)


def _lacks(engine: Engine, host: Host) -> str:
    probed = engine.docker("exec", host.container, "sh", "-c", PROBE, check=False, timeout=30)
    if probed.returncode:
        return "boot"
    return " ".join(probed.stdout.split()) or ("" if _ssh_banner(host) else "network")


def _ssh_banner(host: Host) -> bool:
    try:
        with socket.create_connection((host.address, 22), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _complaints(engine: Engine, host: Host) -> str:
    failed = engine.docker("exec", host.container, "systemctl", "--failed", "--no-legend", "--plain", check=False)
    return " ".join((failed.stdout + failed.stderr).split()) or "no unit failed"


def make_key() -> None:
    """The operator's key of this checkout's lab."""
    LAB_DIR.mkdir(exist_ok=True)
    if not (KEY.exists() and KEY.with_suffix(".pub").exists()):
        KEY.unlink(missing_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "homelab-mesh lab", "-f", str(KEY)])


def admit(engine: Engine) -> None:
    """Puts the operator's key into each host that runs, and writes known_hosts from what the hosts themselves hold.

    Both go through the engine, not the network: nothing is trusted on first use.
    """
    public = KEY.with_suffix(".pub").read_text().strip()
    lines = []
    for host in HOSTS.values():
        done = engine.docker("exec", "-i", host.container, "sh", "-c", ADMIT, text=public, check=False)
        if done.returncode == 0:
            kind, key, *_ = done.stdout.split()
            lines.append(f"{host.name},{host.address} {kind} {key}")
    write_atomically(KNOWN_HOSTS, "\n".join(lines) + "\n")
    write_atomically(SSH_CONFIG, "".join(_ssh_config(host) for host in HOSTS.values()))


def _ssh_config(host: Host) -> str:
    return (
        f"Host {host.name} {host.address}\n  HostName {host.address}\n  User root\n  IdentityFile {KEY}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {KNOWN_HOSTS}\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n"
        "  ConnectTimeout 5\n"
    )


def write_atomically(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text)
    part.replace(path)
