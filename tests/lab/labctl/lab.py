"""The lab as Python sees it."""

from __future__ import annotations

import fcntl
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from labctl import bases, boxes, engine, hosts, images, registry
from labctl.engine import Engine
from labctl.hosts import KEY, KNOWN_HOSTS, SSH_CONFIG
from labctl.settings import CLOUD_ADDRESS, HOSTS, LAB_DIR, REGISTRY, Host, cache
from labctl.shell import apt_install, run, say
from mesh.errors import MeshError

MACHINE_IMAGE = "host"
BARE_IMAGE = "host-bare"
FACTS = LAB_DIR / "lab.json"


class Lab:
    """Three hosts, a registry and the cloud doubles. Methods raise MeshError, and all of them can be repeated."""

    hosts = HOSTS
    """Name -> Host (name, address, card, container)."""
    cloud = CLOUD_ADDRESS
    key = KEY
    known_hosts = KNOWN_HOSTS
    ssh_config = SSH_CONFIG

    def up(self) -> None:
        """Everything up and ready; keeps what is, takes over what a killed run left, makes what is missing."""
        with _alone():
            on = engine.ensure()
            apt_install({"ssh": "openssh-client", "ssh-keygen": "openssh-client"}, "the lab")
            hosts.make_key()
            machines = images.ensure_images(on, ["registry", "doubles", MACHINE_IMAGE])
            cgroup = on.cgroup_version()
            boxes.ensure_network(on)
            boxes.ensure_box(on, boxes.registry_box(machines["registry"].local))
            boxes.ensure_box(on, boxes.cloud_box(machines["doubles"].local))
            for host in HOSTS.values():
                if boxes.ensure_box(on, boxes.host_box(host, machines[MACHINE_IMAGE].local, cgroup)):
                    say(f"{host.name}: booting")
            registry.wait_for_registry()
            hosts.wait_for_hosts(on, list(HOSTS.values()))
            hosts.admit(on)
            # The hosts come first: they are of use while the images for them are still being built.
            references = registry.offer(on, images.ensure_images(on, images.names(), machines))
            self._write_facts(on, references)

    def down(self, *, purge: bool = False) -> None:
        """Nothing of the lab runs afterwards. Images and the registry's volume stay, unless `purge`."""
        with _alone():
            on = engine.find()
            if on is not None:
                # An own engine that was killed may have left containers running: it is brought back to end them.
                on = engine.ensure()
                boxes.remove_all(on)
                if purge and not on.own:  # the own engine's images and volumes are in the cache folder
                    boxes.remove_volume(on)
                    images.remove_all(on)
                engine.stop(on)
            bases.clear()
            FACTS.unlink(missing_ok=True)
            if purge:
                engine.purge()

    def reset_host(self, name: str, *, bare: bool = False) -> None:
        """The host anew with an empty disk and a new host key; `bare`: without Docker installed."""
        host = self._host(name)
        with _alone():
            on = self._engine()
            wanted = BARE_IMAGE if bare else MACHINE_IMAGE
            image = images.ensure_images(on, [wanted])[wanted]
            boxes.remove_box(on, host.container)
            boxes.ensure_box(on, boxes.host_box(host, image.local, on.cgroup_version()))
            hosts.wait_for_hosts(on, [host])
            hosts.admit(on)

    def stop_host(self, name: str) -> None:
        """As if the power went: no service is asked, the disk stays."""
        self._engine().docker("kill", self._host(name).container, check=False)

    def start_host(self, name: str) -> None:
        host = self._host(name)
        with _alone():
            on = self._engine()
            on.docker("start", host.container)
            hosts.wait_for_hosts(on, [host])
            hosts.admit(on)

    def exec(self, name: str, command: str, *, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """A shell command as root on the host, through the engine: works without network and sshd. `timeout` in seconds."""
        return self._engine().docker("exec", self._host(name).container, "sh", "-c", command, check=check, timeout=timeout)

    def ssh(self, name: str, command: str, *, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """A shell command as root on the host over SSH, as the operator would. `timeout` in seconds."""
        return run([*self.ssh_args(name), command], check=check, timeout=timeout)

    def ssh_args(self, name: str) -> list[str]:
        return ["ssh", "-F", str(SSH_CONFIG), self._host(name).name]

    def images(self) -> dict[str, str]:
        """Name -> `10.88.0.2:5000/name:tag@sha256:...`, as the hosts pull it."""
        return dict(self.facts()["images"])

    def facts(self) -> dict[str, Any]:
        """What .lab/lab.json says: hosts, addresses, images, ssh."""
        try:
            facts: dict[str, Any] = json.loads(FACTS.read_text())
        except FileNotFoundError:
            raise MeshError("the lab is down", where=str(FACTS), mend="bin/lab up") from None
        return facts

    def states(self) -> dict[str, str]:
        """Container -> state in Docker's words; empty when no engine or no lab is there."""
        on = engine.find()
        return boxes.states(on) if on is not None and on.answers() else {}

    def _engine(self) -> Engine:
        on = engine.find()
        if on is None or not on.answers():
            raise MeshError("the lab is down", where="lab", mend="bin/lab up")
        return on

    def _host(self, name: str) -> Host:
        if name not in HOSTS:
            raise MeshError(f"no lab host {name!r}", where="lab", mend=f"one of {', '.join(HOSTS)}")
        return HOSTS[name]

    def _write_facts(self, on: Engine, references: dict[str, str]) -> None:
        facts = {
            "hosts": {
                name: {"address": host.address, "card": host.card, "container": host.container} for name, host in HOSTS.items()
            },
            "cloud": CLOUD_ADDRESS,
            "registry": REGISTRY,
            "images": references,
            "ssh": {"user": "root", "key": str(KEY), "known_hosts": str(KNOWN_HOSTS), "config": str(SSH_CONFIG)},
            "docker_host": on.socket,
        }
        hosts.write_atomically(FACTS, json.dumps(facts, indent=2) + "\n")


@contextmanager
def _alone() -> Iterator[None]:
    """One change of the lab at a time on this machine; a killed run gives the lock back by dying."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache().parent / "lab.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another bin/lab is at work on this machine; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
