"""The fleet of `@fake` hosts as a fixture."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from pyinfra.context import ctx_state

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))

from fleet import Fleet, make_fleet

from mesh.state.deployment import Deployment


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Deployment], Fleet]]:
    with ctx_state.use(None):  # pyinfra's context is global: leave it as it was
        yield partial(make_fleet, monkeypatch)
