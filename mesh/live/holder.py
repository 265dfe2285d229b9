"""Who holds the apply lock of a host, and whether that run can still be alive."""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Holder:
    """One run of apply. `machine` and `pid` say which process on which machine it is."""

    run: str
    who: str
    since: str
    machine: str
    pid: int

    def __str__(self) -> str:
        """As it is written into the lock: words without spaces, the run first."""
        return f"{self.run} {self.who} since {self.since} pid {self.pid} on {self.machine}"

    @classmethod
    def parse(cls, text: str) -> Holder | None:
        """None for a lock that was not written by apply."""
        words = text.split()
        if len(words) != 8 or not words[5].isdigit():
            return None
        return cls(words[0], words[1], words[3], words[7], int(words[5]))

    @property
    def dead(self) -> bool:
        """Whether the run has provably ended: it was on this machine, and its process is gone."""
        return self.machine == this_machine() and not _alive(self.pid)


def this_run(run: str, since: str) -> Holder:
    """The holder for a run of this process."""
    return Holder(run, who(), since, this_machine(), os.getpid())


def who() -> str:
    """The operator, as journals name them."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}".replace(" ", "_")


def this_machine() -> str:
    """This machine and the process numbering that we see: containers on one machine count their processes apart."""
    try:
        space = Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
    except OSError:
        space = ""
    return f"{socket.gethostname()}/{space}" if space else socket.gethostname()


def _alive(pid: int) -> bool:
    """A process that has ended and that nobody has reaped yet is dead as well."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's process, or a system without /proc
        return True
