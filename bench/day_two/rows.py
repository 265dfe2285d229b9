"""The rows of the table, each a claim with its bar: two or more commands timed in turn in one run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import peers
import scale
from fleet import CONTAINERS, FOLDER, IDENTITY, PROJECT, ROOT, Lab, lab_fleet
from fleet import MESH as NAME
from pairs import Task, command, compare

from mesh.secrets.agefile import IDENTITY_VARIABLE

MESH = [sys.executable, "-P", "-m", "mesh", "-C", str(FOLDER)]
SSH = PROJECT / ".lab" / "ssh_config"
FLOOR = "floor: an ssh session a host + python -c pass"
_EACH_DOWN = "docker compose --project-directory $d down -v -t 1 >/dev/null 2>&1"
DOWN = f"for d in {ROOT}/stacks/*/; do {_EACH_DOWN} & done; wait; rm -rf {ROOT}"


class Bench:
    """The lab with the fleet's inventory; the fleet is applied when a row first needs it."""

    def __init__(self) -> None:
        os.environ[IDENTITY_VARIABLE] = str(IDENTITY)
        self.lab = Lab()
        self.lab.up()
        self.fleet = lab_fleet(self.lab)
        self.work = Path(tempfile.mkdtemp(prefix="day-two-"))

    @cached_property
    def applied(self) -> None:
        command([*MESH, "apply", "-y"])()
        count = sum(int(self.ssh(name, f"docker ps -q --filter label=mesh.name={NAME} | wc -l")) for name in self.fleet.hosts)
        if count != CONTAINERS:
            sys.exit(f"{count} containers run, should be {CONTAINERS}")

    @cached_property
    def rendered(self) -> Path:
        command([*MESH, "render", "--out", str(self.work / "rendered")])()
        return self.work / "rendered"

    def ssh(self, host: str, script: str, **more: object) -> str:
        done = subprocess.run(["ssh", "-F", str(SSH), host, script], capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
        if done.returncode:
            sys.exit(f"{host}: {script}: {done.stderr}")
        return str(done.stdout)

    def everywhere(self, script: str) -> Task:
        """The script on every host, side by side."""

        def run() -> None:
            ssh = ["ssh", "-F", str(SSH)]
            quiet = {"stdout": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
            sessions = [subprocess.Popen([*ssh, name, script], **quiet) for name in self.fleet.hosts]  # type: ignore[call-overload]
            codes = [session.wait() for session in sessions]
            if any(codes):
                sys.exit(f"a session failed: {script}")

        return run


def verdict(what: str, measured: float, bar: float, *, at_least: bool = False) -> bool:
    met = measured >= bar if at_least else measured <= bar
    print(
        f"\n{what}: {measured:.2f}, bar {'at least' if at_least else 'at most'} {bar:g}: {'met' if met else 'MISSED'}\n",
        flush=True,
    )
    return met


def drift(bench: Bench) -> bool:
    """mesh drift against the floor, Ansible and plain pyinfra."""
    bench.applied  # noqa: B018
    look = bench.everywhere(f"docker inspect $(docker ps -aq) && find {ROOT} -type f -exec sha256sum {{}} +")
    start = command([sys.executable, "-c", "pass"])

    def floor() -> None:
        look()
        start()

    mesh = command([*MESH, "drift"])
    ratio = compare({FLOOR: floor, "mesh drift, everything clean": mesh}, floor=FLOOR, runs=11)
    met = [verdict("mesh drift / floor", ratio["mesh drift, everything clean"], 1.5)]
    bench.everywhere(peers.PYTHON)()
    commands = peers.ansible_environment(PROJECT / ".lab")
    os.environ["ANSIBLE_HOST_KEY_CHECKING"] = "False"
    os.environ["ANSIBLE_PYTHON_INTERPRETER"] = "/usr/bin/python3"
    playbook = [str(commands / "ansible-playbook"), *peers.write_playbook(bench.work, bench.fleet, bench.rendered, SSH)]
    plain = peers.write_pyinfra(bench.work, bench.fleet, bench.rendered, bench.lab.key, bench.lab.known_hosts)
    pyinfra = [sys.executable, "-m", "pyinfra", "--dry", *plain]
    tasks = {
        "mesh drift": mesh,
        "ansible-playbook --check": command([*playbook, "--check"]),
        "plain pyinfra --dry": command(pyinfra),
    }
    ratio = compare(tasks, floor="mesh drift", runs=3)
    met.append(verdict("ansible-playbook --check / mesh drift", ratio["ansible-playbook --check"], 20, at_least=True))
    met.append(verdict("plain pyinfra --dry / mesh drift", ratio["plain pyinfra --dry"], 8, at_least=True))
    return all(met)


def apply(bench: Bench) -> bool:
    """An apply that has nothing to do."""
    bench.applied  # noqa: B018
    tasks = {"mesh drift": command([*MESH, "drift"]), "mesh apply -y, nothing to do": command([*MESH, "apply", "-y"])}
    ratio = compare(tasks, floor="mesh drift", runs=7)
    return verdict("no-op mesh apply / mesh drift", ratio["mesh apply -y, nothing to do"], 2.0)


def change(bench: Bench) -> bool:
    """One changed stack: mesh, and the bare command over ssh with the same change."""
    bench.applied  # noqa: B018
    stack, on = "app-004", bench.fleet.placement["app-004"]
    folder = f"{ROOT}/stacks/{stack}"
    turn = iter(range(1, 1000))

    def by_mesh() -> None:
        bench.fleet.write(FOLDER, changed=stack, tag=f"mesh-{next(turn)}")
        command([*MESH, "apply", "-y"])()

    def bare() -> None:
        bench.ssh(
            on,
            f"cd {folder} && sed -i '0,/TAG: /s/TAG: .*/TAG: bare-{next(turn)}/' compose.yaml && docker compose up -d --wait",
        )

    def nothing() -> None:
        command([*MESH, "apply", "-y"])()

    times: dict[str, list[float]] = {"bare": [], "nothing": [], "mesh": []}
    for _ in range(5):
        for name, task in (("mesh", by_mesh), ("nothing", nothing), ("bare", bare)):
            began = time.perf_counter()
            task()
            times[name].append(time.perf_counter() - began)
        nothing()  # what was edited on the host goes back
    middle = {name: sorted(values)[len(values) // 2] for name, values in times.items()}
    print("| what | median s |\n|---|---|")
    print(f"| docker compose up -d --wait of one stack over ssh | {middle['bare']:.2f} |")
    print(
        f"| mesh apply -y, nothing to do | {middle['nothing']:.2f} |\n"
        f"| mesh apply -y, that stack changed | {middle['mesh']:.2f} |"
    )
    return verdict("apply of one stack / (bare + no-op)", middle["mesh"] / (middle["bare"] + middle["nothing"]), 1.3)


def first(bench: Bench) -> bool:
    """The first apply of everything, images present; and one stack after another with the bare command."""
    bench.applied  # noqa: B018
    down = bench.everywhere(DOWN)
    rendered = bench.rendered
    down()
    began = time.perf_counter()
    for stack, on in bench.fleet.placement.items():
        folder = f"{ROOT}/stacks/{stack}"
        tar = subprocess.run(["tar", "-C", f"{rendered}/{on}{folder}", "-c", "."], capture_output=True, check=True).stdout
        script = f"mkdir -p {folder} && tar -xf - -C {folder} && docker compose --project-directory {folder} up -d --wait"
        subprocess.run(["ssh", "-F", str(SSH), on, script], input=tar, capture_output=True, check=True)
    one_by_one = time.perf_counter() - began
    down()
    began = time.perf_counter()
    command([*MESH, "apply", "-y"])()
    together = time.perf_counter() - began
    print(
        f"| what | s |\n|---|---|\n| one stack after another, bare Compose over ssh | {one_by_one:.1f} |\n"
        f"| mesh apply -y | {together:.1f} |"
    )
    return verdict("one after another / mesh apply", one_by_one / together, 3.0, at_least=True)


def at_scale(bench: Bench) -> bool:
    """Ten times the size, against hosts that are simulated."""
    bench.applied  # noqa: B018
    return scale.run(bench.fleet, bench.work, verdict)


ROWS: dict[str, Callable[[Bench], bool]] = {"drift": drift, "apply": apply, "change": change, "first": first, "scale": at_scale}
