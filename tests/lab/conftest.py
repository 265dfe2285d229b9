"""The lab for tests marked `lab`: up when the first of them asks for it, left as it is for `bin/lab down` to take away."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from mesh.inventory import open_inventory
from mesh.paths import PROJECT
from mesh.secrets.agefile import IDENTITY_VARIABLE
from mesh.secrets.store import SecretStore

sys.path.insert(0, str(Path(__file__).parent))
from labctl import Lab

from tests.lab import inventory


@pytest.fixture(scope="session")
def lab() -> Lab:
    found = Lab()
    found.up()
    return found


@dataclass(frozen=True)
class Applied:
    """The reference mesh, as it runs on the lab: its inventory, and `mesh` as an operator calls it."""

    folder: Path
    identity: Path

    @cached_property
    def secrets(self) -> SecretStore:
        return open_inventory(self.folder).secrets

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, IDENTITY_VARIABLE: str(self.identity)}

    def mesh(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run `mesh ARGUMENTS` on the lab's inventory and wait for it."""
        command = [sys.executable, "-P", "-m", "mesh", "-C", str(self.folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=self.env, cwd=PROJECT)


@pytest.fixture(scope="module")
def applied(lab: Lab) -> Applied:
    """Brings the lab to the reference mesh before a module's first test, whatever the modules before it left."""
    lab.up()
    mesh = Applied(inventory.write(lab), inventory.IDENTITY)
    done = mesh.mesh("apply", "-y", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return mesh
