"""`mesh secrets edit`: all secrets as one text in the operator's editor, leaving nothing behind."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from mesh.errors import MeshError
from mesh.secrets import document
from mesh.secrets.value import Secret

_HEAD = "# One `name: value` a line. Save and leave the editor to encrypt; this file is removed afterwards.\n"


def edit(values: dict[str, Secret], try_again: Callable[[MeshError], bool]) -> dict[str, Secret]:
    """The secrets as the operator left them. `try_again` is asked after text that is not valid; the text is kept for it."""
    with _private_file() as file:
        file.write_text(_HEAD + document.dump(values), "utf-8")
        while True:
            _run_editor(file)
            try:
                return document.parse(_read(file), where="edited secrets")
            except MeshError as error:
                if not try_again(error):
                    raise MeshError(error.what, where=error.where, why="nothing was saved", mend=error.mend) from None


@contextlib.contextmanager
def _private_file() -> Iterator[Path]:
    """A file that only its owner can read, in memory where there is /dev/shm, in a folder of its own with the editor's copies."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="homelab-mesh-", dir=memory if os.access(memory, os.W_OK) else None))
    try:
        file = folder / "secrets.yaml"
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        yield file
    finally:
        for left in folder.rglob("*"):
            if left.is_file() and not left.is_symlink():
                with contextlib.suppress(OSError):
                    left.write_bytes(b"\0" * left.stat().st_size)
        shutil.rmtree(folder, ignore_errors=True)


def _run_editor(file: Path) -> None:
    command = (
        os.environ.get("VISUAL")
        or os.environ.get("EDITOR")
        or next((name for name in ("editor", "nano", "vi") if shutil.which(name)), "")
    )
    try:
        argv = shlex.split(command)
    except ValueError:
        argv = []
    if not argv:
        raise MeshError("there is no editor", why=f"$EDITOR is {command!r}" if command else "", mend="export EDITOR=nano")
    try:
        code = subprocess.run([*argv, str(file)], check=False).returncode
    except OSError as error:
        raise MeshError(f"the editor {argv[0]} cannot be run", why=error.strerror or "", mend="export EDITOR=nano") from None
    if code:
        raise MeshError(f"the editor ended with exit code {code}", where=argv[0], why="nothing was saved")


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise MeshError("the edited text is gone or not UTF-8", where="edited secrets", mend="save it as UTF-8 text") from None
