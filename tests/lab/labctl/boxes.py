"""The lab's containers and their network: made when missing, kept when as wanted, made anew when not."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from dataclasses import dataclass, field

from labctl.engine import Engine
from labctl.settings import (
    CARD_FILE,
    CLOUD_ADDRESS,
    GATEWAY,
    LABEL,
    NETWORK,
    PREFIX,
    REGISTRY_ADDRESS,
    REGISTRY_VOLUME,
    SUBNET,
    Host,
)
from labctl.shell import say
from mesh.errors import MeshError

POWER_ON_CGROUP_V2 = ("--privileged", "--cgroupns", "private")
POWER_ON_CGROUP_V1 = (
    # Not --privileged: that fails where the machine itself lacks CAP_SYS_RESOURCE.
    "--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE",
    "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
    "--security-opt", "systempaths=unconfined", "--cgroupns", "host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw",
    # systemd 257 boots on v1 only when told to.
    "--env", "SYSTEMD_PROC_CMDLINE=SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Box:
    """A container as it should be."""

    name: str
    address: str
    image: str
    args: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    """Path in the container -> text, put there before its first start."""

    @property
    def container(self) -> str:
        return f"{PREFIX}-{self.name}"

    @property
    def digest(self) -> str:
        made_of = [self.address, self.image, self.args, self.command, self.files]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]


def registry_box(image: str) -> Box:
    # Published on loopback too: Docker pushes in plain HTTP to 127.0.0.0/8 without being told, on any engine.
    args = ("--volume", f"{REGISTRY_VOLUME}:/var/lib/registry", "--publish", "127.0.0.1::5000")
    return Box("registry", REGISTRY_ADDRESS, image, args)


def cloud_box(image: str) -> Box:
    return Box("cloud", CLOUD_ADDRESS, image, command=("python3", "-m", "mesh.doubles", "cloud"))


def host_box(host: Host, image: str, cgroup: str) -> Box:
    """A container that boots systemd and runs a Docker engine of its own, on cgroup v1 or v2."""
    tmpfs = ("--tmpfs", "/run:exec", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec,mode=1777")
    disk = ("--volume", "/var/lib/docker")
    power = POWER_ON_CGROUP_V2 if cgroup == "2" else POWER_ON_CGROUP_V1
    args = ("--hostname", host.name, *power, *tmpfs, *disk)
    return Box(host.name, host.address, image, args, ("/sbin/init",), {CARD_FILE: host.card + "\n"} if host.card else {})


def ensure_network(engine: Engine) -> None:
    found = engine.docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", NETWORK, check=False)
    if found.returncode == 0 and found.stdout.strip() == SUBNET:
        return
    if found.returncode == 0:
        engine.docker("network", "rm", NETWORK)
    made = engine.docker(
        "network", "create", "--subnet", SUBNET, "--gateway", GATEWAY, "--label", f"{LABEL}=1", NETWORK, check=False
    )
    if made.returncode:
        raise MeshError(
            f"the lab's network {SUBNET} cannot be made",
            where="lab",
            why=made.stderr.strip(),
            mend=f"free {SUBNET}: `ip route` says who has it (Podman's default network is in the same range)",
        )


def ensure_box(engine: Engine, box: Box) -> bool:
    """Makes and starts the container; keeps a running one that is as wanted. True if it was started now."""
    state, digest = _state(engine, box)
    if state == "running" and digest == box.digest:
        return False
    if state and (digest != box.digest or state not in ("exited", "running")):
        say(f"{box.name}: replacing the container, which is {state if digest == box.digest else 'made from something else'}")
        remove_box(engine, box.container)
        state = ""
    if not state:
        _create(engine, box)
    engine.docker("start", box.container)
    return True


def _state(engine: Engine, box: Box) -> tuple[str, str]:
    form = '{{.State.Status}} {{index .Config.Labels "' + LABEL + '.made-of"}}'
    found = engine.docker("container", "inspect", "--format", form, box.container, check=False)
    state, _, digest = found.stdout.strip().partition(" ") if found.returncode == 0 else ("", "", "")
    return state, digest


def _create(engine: Engine, box: Box) -> None:
    engine.docker(
        "create", "--name", box.container, "--label", f"{LABEL}={box.name}", "--label", f"{LABEL}.made-of={box.digest}",
        "--network", NETWORK, "--ip", box.address, *box.args, box.image, *box.command,
    )  # fmt: skip
    for path, text in box.files.items():
        _put(engine, box.container, path, text)


def _put(engine: Engine, container: str, path: str, text: str) -> None:
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(text.encode()), 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
        file.seek(0)
        engine.docker("cp", "-", f"{container}:/", stdin=file)


def remove_box(engine: Engine, container: str) -> None:
    """With its disk (the anonymous volumes). A container that is not there is fine."""
    engine.docker("rm", "--force", "--volumes", container, check=False)


def remove_all(engine: Engine) -> None:
    """Every container of the lab, of any checkout, and the network. The registry's volume stays.

    In the lab's own engine every container is the lab's: those of a build that was killed have no label.
    """
    mine = [] if engine.own else ["--filter", f"label={LABEL}"]
    listed = engine.docker("ps", "--all", "--quiet", *mine).stdout.split()
    if listed:
        engine.docker("rm", "--force", "--volumes", *listed)
    engine.docker("network", "rm", NETWORK, check=False)


def remove_volume(engine: Engine) -> None:
    engine.docker("volume", "rm", "--force", REGISTRY_VOLUME)


def states(engine: Engine) -> dict[str, str]:
    """Name of each of the lab's containers -> its state in Docker's words."""
    form = '{{.Label "' + LABEL + '"}}\t{{.Status}}'
    lines = engine.docker("ps", "--all", "--filter", f"label={LABEL}", "--format", form).stdout.splitlines()
    return dict(sorted(line.split("\t", 1) for line in lines))
