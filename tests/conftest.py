"""For all tests: signals as an operator's shell would have them, and a cache of their own.

Under nohup SIGHUP comes in ignored, in a shell's background SIGINT does, and every process that a test starts inherits it.
"""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No test is about time: on a busy machine an example may take as long as it takes.
settings.register_profile("mesh", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mesh")

signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier test planted is not taken out of this one's output."""
    monkeypatch.setattr("mesh.secrets.value._seen", set())


@pytest.fixture(autouse=True)
def _own_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, _cache: Path) -> None:
    """What is kept of inventories goes elsewhere; the lab and the real gateway stay, for they take minutes to make."""
    if not {"lab", "gateway"} & {mark.name for mark in request.node.iter_markers()}:
        monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(_cache))
