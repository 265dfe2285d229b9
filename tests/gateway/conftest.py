"""One gateway for all tests here; each finds the doubles without faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .rig import Rig, litellm_command, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gateway)


@pytest.fixture(scope="session")
def _rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    litellm = litellm_command()
    with running(tmp_path_factory.mktemp("gateway"), litellm) as rig:
        yield rig


@pytest.fixture
def rig(_rig: Rig) -> Rig:
    _rig.reset()
    return _rig
