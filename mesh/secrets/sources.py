"""Secrets that do not come from secrets.age: an environment variable, or what a command prints."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from mesh.errors import MeshError
from mesh.secrets.value import Secret, Source

COMMAND_SECONDS = 60
"""A password manager may wait for a finger on a key; longer than this is a hang."""


def describe(source: Source) -> str:
    """Where the value comes from, in words: arguments are left out, they may name vaults."""
    return f"environment {source.env}" if source.env else f"command {source.command[0]}" if source.command else "nowhere"


def fetch(name: str, source: Source, folder: Path) -> Secret:
    """The value. The command runs without a shell in the inventory folder; what it says on stderr goes to the terminal."""
    where = f"secret:{name}"
    if source.env:
        value = os.environ.get(source.env, "")
        if not value:
            raise MeshError(f"the environment variable {source.env} is not set", where=where, mend=f"export {source.env}=...")
        return Secret(value)
    if not source.command:
        raise MeshError(
            "the spec gives this secret no source", where=where, mend="write {env: NAME} or {command: [op, read, ...]}"
        )
    program = source.command[0]
    try:
        done = subprocess.run(
            source.command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=COMMAND_SECONDS, check=False
        )
    except OSError as error:
        raise MeshError(f"{program} cannot be run", where=where, why=error.strerror or "", mend=f"install {program}") from None
    except subprocess.TimeoutExpired:
        mend = f"run {program} by hand: does it wait for a password or a login?"
        raise MeshError(f"{program} did not answer within {COMMAND_SECONDS} s", where=where, mend=mend) from None
    if done.returncode:
        mend = "its own words, if any, are above; run the command by hand"
        raise MeshError(f"{program} failed with exit code {done.returncode}", where=where, mend=mend)
    try:
        value = without_line_end(done.stdout.decode("utf-8"))
    except UnicodeDecodeError:
        raise MeshError(f"{program} printed something else than UTF-8 text", where=where) from None
    if not value.strip():
        raise MeshError(f"{program} printed nothing", where=where, mend="run the command by hand")
    return Secret(value)


def without_line_end(text: str) -> str:
    """`text` without the line end that every tool puts after a value."""
    return text.removesuffix("\n").removesuffix("\r")
