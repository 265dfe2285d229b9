"""Four stacks on two hosts for tests that break something: their rounds, what holds after every fault, and how they recover."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.lab.small import Small, wait

STACKS = {"one": "nas", "two": "nas", "three": "vm-docker", "four": "vm-docker"}
SLOW = {"test": ["CMD", "test", "-e", "/ready"], "interval": "1s", "retries": 200}
"""Healthy once somebody makes /ready in the container: an apply waits for it."""


def declare(mesh: Small, number: int, **special: Mapping[str, Any]) -> None:
    """All stacks in that round. special: stack -> more of its service."""
    for name, host in STACKS.items():
        service = {"environment": {"ROUND": str(number)}, "volumes": ["./page.html:/www/page.html:ro"], "stop_grace_period": "1s"}
        mesh.stack(name, host, files={"page.html": f"page {number}\n"}, **{**service, **special.get(name, {})})


def serving(mesh: Small) -> dict[str, int]:
    """Stack -> the round of its container, of those that run and are healthy, and whose page is of that round."""
    found = {}
    for host in sorted(set(STACKS.values())):
        names = [f"{name}-web-1" for name, where in STACKS.items() if where == host]
        form = "{{.Name}} {{.State.Health.Status}} {{json .Config.Env}}"
        for line in mesh.sh(host, f"docker inspect --format '{form}' {' '.join(names)} 2>/dev/null || true").splitlines():
            name, health, environment = line.split(" ", 2)
            if health == "healthy":
                number = next(each for each in json.loads(environment) if each.startswith("ROUND=")).removeprefix("ROUND=")
                found[name.strip("/").removesuffix("-web-1")] = int(number)
    return found


def all_at(number: int, **other: int) -> dict[str, int]:
    return dict.fromkeys(STACKS, number) | other


def until_serving(mesh: Small, wanted: dict[str, int], seconds: float = 60.0) -> None:
    """Wait for exactly these rounds: a daemon or host that comes back takes a moment to bring its containers up."""
    wait(lambda: serving(mesh) == wanted, seconds, f"{wanted}")


def fails(mesh: Small, *arguments: str) -> str:
    """An apply that fails as the operator may see it: exit code 1, and never a traceback."""
    return failed(*mesh.mesh("apply", "-y", *arguments))


def failed(code: int, output: str) -> str:
    assert code == 1, output
    assert "Traceback" not in output
    assert "apply again" in output, output
    return output


def converges(mesh: Small, number: int, **special: Mapping[str, Any]) -> None:
    """The next apply does all that is left, and the plan after it is empty."""
    declare(mesh, number, **special)
    mesh.apply()
    code, output = mesh.mesh("plan")
    assert code == 0, output
    assert serving(mesh) == all_at(number)
