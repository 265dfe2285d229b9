"""What apply says while it works."""

from __future__ import annotations

import pytest

from mesh.cli.progress import Progress, follow
from mesh.live.apply import Event
from mesh.secrets.value import Secret


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(lines: list[str], clock: Clock) -> Progress:
    return Progress(lines.append, clock)


def tick(progress: Progress, clock: Clock, seconds: int) -> None:
    for _ in range(seconds):
        clock.time += 1
        progress.hear(Event("tick"))


def test_what_ends_is_said_with_its_seconds(progress: Progress, lines: list[str]) -> None:
    progress.hear(Event("started", "vm", "litellm", {"doing": "up"}))
    progress.hear(Event("done", "vm", "litellm", {"doing": "up", "seconds": 12.34}))
    assert lines[0].split() == ["vm", "litellm", "up", "12.3", "s"]


def test_on_a_terminal_what_is_under_way_stands_below_the_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with pytest.raises(KeyboardInterrupt), follow() as progress:
        progress.hear(Event("started", "vm", "litellm", {"doing": "up"}))
        progress.hear(Event("done", "vm", "qdrant", {"doing": "up", "seconds": 1.0}))
        raise KeyboardInterrupt
    out = capsys.readouterr().out
    assert "vm: litellm coming up 0 s" in out
    assert "qdrant" in out
    assert out.index("\x1b[?25l") < out.index("\x1b[?25h"), "the cursor is back, whatever happens"


def test_elsewhere_there_are_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with follow() as progress:
        progress.hear(Event("done", "vm", "qdrant", {"doing": "up", "seconds": 1.0}))
    assert "\x1b" not in capsys.readouterr().out


def test_silence_never_lasts_longer_than_five_seconds(progress: Progress, lines: list[str], clock: Clock) -> None:
    tick(progress, clock, 5)
    assert lines == ["  ... still working"]
    progress.hear(Event("started", "vm", "litellm", {"doing": "up"}))
    tick(progress, clock, 5)
    assert lines[1] == "  ... vm: litellm coming up 5 s"
    tick(progress, clock, 50)
    assert len(lines) == 12


def test_a_pull_says_how_far_it_is(progress: Progress, lines: list[str], clock: Clock) -> None:
    progress.hear(Event("started", "box", "llama3.1:8b", {"doing": "model"}))
    progress.hear(Event("progress", "box", "llama3.1:8b", {"done": 1_850_000_000, "total": 4_920_000_000}))
    tick(progress, clock, 5)
    assert lines == ["  ... box: llama3.1:8b pulling model 5 s, 37 % of 4.9 GB"]


def test_a_failure_is_kept_and_shows_the_last_lines_without_secrets(progress: Progress, lines: list[str]) -> None:
    value = Secret("planted-value-of-a-secret").reveal()
    progress.hear(Event("failed", "vm", "litellm", {"why": f"no {value}", "lines": [f"key {value} \x1b[2J"]}))
    assert [where for where, _ in progress.failures] == ["vm/litellm"]
    assert value not in "".join(lines)
    assert "\x1b" not in "".join(lines)
    assert any(line.lstrip().startswith("| key") for line in lines)
