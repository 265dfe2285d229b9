"""Ten times the size: 30 hosts, 350 stacks and 1,000 containers, of which every host is simulated.

The lab's three hosts are asked once, with the very script that `mesh drift` sends. Their answers, with names, digests and
hashes put in for those of each copy of the closet, are what a stand-in for `ssh` gives back: a shell script that says so. So the
laptop's side is the real one, a process a host included; what hosts and network cost is not in it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fleet import FOLDER, IDENTITY, STACKS, Fleet, stack_name
from labctl import Lab

from mesh.inventory import open_inventory
from mesh.live.ssh import Target, run_script
from mesh.state.deployment import Deployment, StackRelease
from mesh.state.observed import Unknown
from mesh.state.release import release_id
from mesh.state.script import observe_script
from tests.lab import inventory

COPIES = 10
BOUNDARY = "BOUNDARY-OF-A-RECORDED-ANSWER"
STAND_IN = """#!/bin/sh
# A stand-in for ssh: it connects to nothing and gives back what a host of the lab answered. Its last but one argument says which.
while [ $# -gt 2 ]; do shift; done
b=$(sed -n 's/^boundary //p')
exec sed "s/BOUNDARY-OF-A-RECORDED-ANSWER/$b/" "{answers}/$1"
"""


def run(fleet: Fleet, work: Path, verdict: Callable[..., bool]) -> bool:
    """Time and memory of `mesh drift` with one closet and with ten, all simulated alike."""
    deployment = open_inventory(FOLDER).deployment()
    answers = {name: ask(deployment, name) for name in fleet.hosts}
    measured = {copies: drift(fleet, work / str(copies), copies, deployment, answers) for copies in (1, 2, 5, COPIES)}
    print("| hosts | stacks | containers | mesh drift s | CPU s | peak MiB |\n|---|---|---|---|---|---|")
    for copies, (seconds, cpu, memory) in measured.items():
        print(f"| {3 * copies} | {STACKS * copies} | {100 * copies} | {seconds:.2f} | {cpu:.2f} | {memory:.0f} |")
    growth = measured[COPIES][0] / measured[1][0]
    linear = verdict(f"{COPIES} times the hosts / time", growth, COPIES)
    return verdict("peak memory, MiB", measured[COPIES][2], 300) and linear


def ask(deployment: Deployment, name: str) -> str:
    """What the host answers to the script of `mesh drift`."""
    opened = open_inventory(FOLDER)
    script = observe_script(deployment.hosts[name], mesh=deployment.mesh, docker="docker", boundary=BOUNDARY)
    answer = run_script(Target(name, opened.reach[name], FOLDER), script)
    if isinstance(answer, Unknown):
        sys.exit(f"{name}: {answer.why}")
    return answer


def drift(fleet: Fleet, work: Path, copies: int, real: Deployment, answers: dict[str, str]) -> tuple[float, float, float]:
    """Median seconds and CPU seconds of five runs, and the highest peak memory in MiB. It must be clean: exit code 0."""
    names = [(name, copy) for copy in range(copies) for name in fleet.hosts]
    hosts = {f"{name}-{copy}": f"192.0.2.{number}" for number, (name, copy) in enumerate(names, 1)}
    big = Fleet(hosts, fleet.image, copies)
    folder = work / "inventory"
    folder.mkdir(parents=True)
    big.write(folder)
    inventory.write(Lab(), folder, identity=work / "identity.txt", spec=big.spec({}))
    key = os.environ["MESH_AGE_IDENTITY"] = str(work / "identity.txt")
    deployment = open_inventory(folder).deployment()
    for name, copy in names:
        (work / hosts[f"{name}-{copy}"]).write_text(renamed(answers[name], real, deployment, copy))
    stand_in = work / "bin" / "ssh"
    stand_in.parent.mkdir()
    stand_in.write_text(STAND_IN.format(answers=work))
    stand_in.chmod(0o755)
    environment = {**os.environ, "PATH": f"{stand_in.parent}:{os.environ['PATH']}", "MESH_AGE_IDENTITY": key}
    runs = [once([sys.executable, "-P", "-m", "mesh", "-C", str(folder), "drift"], environment) for _ in range(6)][1:]
    os.environ["MESH_AGE_IDENTITY"] = str(IDENTITY)
    seconds, cpu, memory = zip(*runs, strict=True)
    return sorted(seconds)[2], sorted(cpu)[2], max(memory)


def once(command: list[str], environment: dict[str, str]) -> tuple[float, float, float]:
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout
    output = process.stdout.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)}: {output[:3000]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, cpu, used.ru_maxrss / 1024


def renamed(answer: str, real: Deployment, big: Deployment, copy: int) -> str:
    """A host's answer as its copy would give it."""
    wanted = {stack.name: stack for host in big.hosts.values() for stack in host.stacks}
    for host in real.hosts.values():
        for stack in host.stacks:
            other = wanted[stack_name(int(stack.name.split("-")[1]), copy)]
            for old, new in tokens(stack, other).items():
                answer = answer.replace(old, new)
    return answer.replace(json.dumps(real.mesh), json.dumps(big.mesh))


def tokens(stack: StackRelease, other: StackRelease) -> dict[str, str]:
    """What differs between two releases that are alike: hashes first, then the name."""
    none = lambda name: sys.exit(f"the fleet has no secrets, and asks for {name}")  # noqa: E731
    found = {release_id(stack): release_id(other)}
    found |= {old.digest: new.digest for old, new in zip(stack.services, other.services, strict=True)}
    found |= {old.sha256(none): new.sha256(none) for old, new in zip(stack.files, other.files, strict=True)}
    return found | {f"{stack.name}{end}": f"{other.name}{end}" for end in ('"', "/", "-part", "_", "\n")} | hexed(stack, other)


def hexed(stack: StackRelease, other: StackRelease) -> dict[str, str]:
    return {stack.name.encode().hex(): other.name.encode().hex()}
