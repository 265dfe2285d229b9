"""Running other programs, and telling the operator what is going on and how long it took."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from mesh.errors import MeshError

_BEGAN = time.monotonic()


def say(text: str) -> None:
    """One line of progress on stderr, with the seconds since the start."""
    print(f"lab {time.monotonic() - _BEGAN:6.1f} s  {text}", file=sys.stderr, flush=True)


@contextmanager
def step(doing: str) -> Iterator[None]:
    """Announces a step that can take a while, then says how long it took."""
    say(f"{doing} ...")
    began = time.monotonic()
    yield
    say(f"{doing}: done in {time.monotonic() - began:.1f} s")


def run(
    args: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    text: str | None = None,
    stdin: IO[bytes] | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a program and captures its output. `timeout` in seconds. A failure is an error with the program's own words."""
    given: dict[str, Any] = {"input": text} if text is not None else {"stdin": stdin or subprocess.DEVNULL}
    try:
        done = subprocess.run(
            args,
            env={**os.environ, **(env or {})},
            **given,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MeshError(f"`{_short(args)}` did not end within {timeout:.0f} s", where="lab") from error
    except FileNotFoundError as error:
        raise MeshError(f"`{args[0]}` is not installed", where="lab", mend=f"install {args[0]}") from error
    if check and done.returncode:
        raise MeshError(
            f"`{_short(args)}` failed with status {done.returncode}", where="lab", why=tail(done.stdout + done.stderr)
        )
    return done


def follow(
    args: Sequence[str], *, env: Mapping[str, str], stdin: IO[bytes], every: float = 15
) -> subprocess.CompletedProcess[str]:
    """Runs a program that takes minutes; every so many seconds of it, its latest line of output is shown."""
    lines: list[str] = []
    shown = time.monotonic()
    with subprocess.Popen(
        args,
        env={**os.environ, **env},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if line.strip() and time.monotonic() - shown > every:
                shown = time.monotonic()
                say(f"    {line.strip()[:100]}")
    return subprocess.CompletedProcess(args, process.returncode, "".join(lines), "")


def tail(output: str, lines: int = 15) -> str:
    """The last lines of a program's output, the part that says what went wrong."""
    return "\n        ".join(output.strip().splitlines()[-lines:])


def _short(args: Sequence[str]) -> str:
    line = " ".join(args)
    return line if len(line) <= 160 else line[:157] + "..."


def apt_install(programs: Mapping[str, str], why: str) -> None:
    """Installs the Debian packages of the programs that are missing. `programs`: program -> package."""
    missing = " ".join(sorted({package for program, package in programs.items() if not have(program)}))
    if not missing:
        return
    if not have("apt-get"):
        raise MeshError(f"{why} needs {missing}, and this is not Debian or Ubuntu", where="lab", mend=f"install {missing}")
    if os.geteuid() != 0:
        raise MeshError(
            f"{why} needs {missing}, and only root can install it", where="lab", mend=f"sudo apt-get install {missing}"
        )
    with step(f"installing {missing} with apt-get: {why} needs it"):
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["dpkg", "--configure", "-a"], env=quiet)  # an installation that was killed half-way
        run(["apt-get", "update", "-q"], env=quiet)
        run(
            ["apt-get", "install", "-q", "-o", "DPkg::Lock::Timeout=120", "-y", "--no-install-recommends", *missing.split()],
            env=quiet,
        )


def have(program: str) -> bool:
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None


def wait_until(ready: Callable[[], bool], *, seconds: float, every: float = 0.3) -> bool:
    """Calls `ready` until it returns true or the time is up."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            return False
        time.sleep(every)
    return True


def unmount_below(folder: Path) -> None:
    """Deleting a folder must never reach through a mount that a killed run left in it."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{folder}/")), key=len, reverse=True):
        run(["umount", "--lazy", mount], check=False)
