"""What a deploy file must not do: print, or run shell that nothing guards. Either makes `--dry` never clean."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mesh.paths import DEPLOYS, INVENTORY

FILES = sorted([*DEPLOYS.rglob("*.py"), INVENTORY / "homelab.py"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_deploy_never_prints_and_never_runs_unguarded_shell(file: Path) -> None:
    called = [ast.unparse(node.func) for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    assert "print" not in called
    assert not [name for name in called if name.startswith(("server.shell", "server.script", "docker.compose"))]


def test_the_inventory_of_pyinfra_is_short() -> None:
    assert len((INVENTORY / "homelab.py").read_text().splitlines()) < 40
