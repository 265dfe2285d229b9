"""The lab for tests marked `lab`: up when the first of them asks for it, left as it is for `bin/lab down` to take away."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from labctl import Lab


@pytest.fixture(scope="session")
def lab() -> Lab:
    found = Lab()
    found.up()
    return found
