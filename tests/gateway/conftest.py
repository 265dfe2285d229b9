"""One gateway for all tests here; each finds the doubles without faults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .rig import Rig, find_litellm, running


@pytest.fixture(scope="session")
def _rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    litellm = find_litellm()
    if litellm is None:
        pytest.skip("the real LiteLLM is not here: pip install 'litellm[proxy]' and set MESH_LITELLM to its `litellm`")
    with running(tmp_path_factory.mktemp("gateway"), litellm) as rig:
        yield rig


@pytest.fixture
def rig(_rig: Rig) -> Rig:
    _rig.reset()
    return _rig
