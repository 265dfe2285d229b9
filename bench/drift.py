"""`mesh drift` of the lab against its floor: one SSH session a host, side by side, that inspects every container and
hashes every managed file, plus Python's start-up. Both read the same hosts, in turn, in one run.

Run: bin/lab up && (apply the lab's mesh, as bin/demo does) && .venv/bin/python bench/drift.py     Bar: at most 2 times the floor.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from pairs import command, compare

PROJECT = Path(__file__).resolve().parent.parent
LAB = PROJECT / ".lab"
BAR = 2.0
REMOTE = "docker inspect $(docker ps -aq) && find /opt/mesh -type f -exec sha256sum {} +"


def floor() -> None:
    """Three sessions at once with the operator's own ssh, and one bare Python start."""
    lab = json.loads((LAB / "lab.json").read_text())
    ssh = ["ssh", "-F", str(LAB / "ssh_config")]
    sessions = [
        subprocess.Popen([*ssh, name, REMOTE], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL) for name in lab["hosts"]
    ]
    codes = [session.wait() for session in sessions]
    if any(codes):
        sys.exit("the floor's ssh sessions failed: is the lab up and applied?")
    subprocess.run([sys.executable, "-c", "pass"], check=True)


def main() -> int:
    drift = command([sys.executable, "-m", "mesh", "-C", str(LAB / "inventory"), "drift"])
    ratios = compare(
        {"3 parallel ssh sessions + python -c pass": floor, "mesh drift (clean)": drift},
        floor="3 parallel ssh sessions + python -c pass",
        runs=11,
    )
    worst = max(ratios.values())
    print(f"\nbar {BAR}, measured {worst:.2f}: {'met' if worst <= BAR else 'MISSED'}")
    return 0 if worst <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
