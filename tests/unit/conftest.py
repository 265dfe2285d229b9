"""Shared by the unit tests: running the command line in this process, and a small inventory to run it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from clikit import SMALL_SPEC, Ran

from mesh.cli.main import main


@pytest.fixture
def run_mesh(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """`run_mesh("secrets", "list", "-C", folder)`: the command line in this process."""

    def run(*arguments: object) -> Ran:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return run


@pytest.fixture
def identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the age identity of this test is; nothing is there yet."""
    path = tmp_path / "keys" / "identity.txt"
    monkeypatch.setenv("MESH_AGE_IDENTITY", str(path))
    monkeypatch.setenv("NO_COLOR", "1")
    return path


@pytest.fixture
def small_inventory(tmp_path: Path, identity: Path) -> Path:  # noqa: ARG001  an inventory is never without its own key
    """An inventory with a small spec and no secrets yet."""
    folder = tmp_path / "inventory"
    folder.mkdir()
    (folder / "mesh.yaml").write_text(SMALL_SPEC)
    return folder
