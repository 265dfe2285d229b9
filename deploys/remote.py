"""Running host.sh on a pyinfra host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyinfra.api import StringCommand

from deploys.run import Run

if TYPE_CHECKING:
    from pyinfra.api import Host


def call(host: Host, run: Run, *words: str, stdin: str = "") -> tuple[bool, list[str]]:
    """One call of host.sh: whether it succeeded, and the lines it printed. The script and its input go through stdin."""
    remote = run.remote(host.name)
    succeeded, output = host.run_shell_command(
        StringCommand(remote.command),
        _stdin=remote.script(*words, stdin=stdin),
        _sudo=bool(host.data.get("_sudo")),
    )
    return succeeded, [line for line in output.output_lines if line.strip()]
