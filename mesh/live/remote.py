"""Texts of the commands that apply runs on a host: the settings, host.sh, and one call. All of it goes through stdin."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

STALE_MINUTES = 10
"""A lock whose run gave no sign of life for so long is abandoned. A living run gives one every BEAT_SECONDS."""
BEAT_SECONDS = 5

_LIBRARY = Path(__file__).with_name("host.sh")
UPKEEP = Path(__file__).with_name("upkeep.sh")


@dataclass(frozen=True, slots=True)
class Remote:
    """One host, as far as host.sh has to know it. `run` is the identity of this apply."""

    root: str
    docker: str
    run: str

    @property
    def command(self) -> str:
        """The command line; everything else is stdin."""
        return f"sh -s -- mesh-{self.run}"

    def script(self, *call: str, stdin: str = "", more: Collection[Path] = ()) -> str:
        """host.sh with one call. stdin: lines for the called function (never with a line MESH_END). more: scripts it needs."""
        settings = {
            "root": self.root,
            "docker": self.docker,
            "run": self.run,
            "stale": str(STALE_MINUTES),
            "beat": str(BEAT_SECONDS),
        }
        head = "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
        line = shlex.join(call) + (f" <<'MESH_END'\n{stdin}\nMESH_END\n" if stdin else " </dev/null\n")
        return f"{head}{''.join(each.read_text('utf-8') for each in (_LIBRARY, *more))}\n{line}"
