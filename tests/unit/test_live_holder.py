"""Who holds a lock: written and read back, and when its run is provably dead."""

from __future__ import annotations

import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mesh.live.holder import Holder, this_run


def test_a_holder_is_read_back_as_it_was_written() -> None:
    holder = this_run("run1", "2026-01-02T03:04:05Z")
    assert Holder.parse(f"{holder}\n") == holder


@pytest.mark.parametrize("text", ["", "unknown", "a b c d e f g h", "run1 op@laptop since now pid x on laptop"])
def test_a_lock_that_apply_did_not_write_has_no_holder(text: str) -> None:
    assert Holder.parse(text) is None


def test_a_run_of_this_process_is_alive() -> None:
    assert not this_run("run1", "t").dead


def test_a_run_on_another_machine_is_never_known_to_be_dead() -> None:
    assert not replace(this_run("run1", "t"), machine="desk/1", pid=2**22 - 1).dead


def test_a_run_whose_process_has_ended_is_dead_even_before_it_is_reaped() -> None:
    child = subprocess.Popen(["true"])
    try:
        stat = Path(f"/proc/{child.pid}/stat")
        end = time.monotonic() + 10
        while stat.read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < end
            time.sleep(0.01)
        assert replace(this_run("run1", "t"), pid=child.pid).dead
    finally:
        child.wait()
    assert replace(this_run("run1", "t"), pid=child.pid).dead
