"""Day two at full size: 35 stacks and 100 containers on the lab, `mesh` beside a floor, Ansible, plain pyinfra, bare Compose.

Run: bin/lab up && .venv/bin/python bench/day_two [ROW...]      rows: drift, apply, change, first, scale; all of them without any

The peers work on the very same files in the same folders, so that all see the same stacks and none has anything to change.
Ansible is installed into an environment of its own below .lab/ the first time (`ansible`, which brings `community.docker`).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rows import DOWN, ROWS, Bench


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        sys.exit(f"no such row: {', '.join(unknown)} (there are {', '.join(ROWS)})")
    bench = Bench()
    try:
        met = [ROWS[name](bench) for name in names or ROWS]
    finally:
        bench.everywhere(DOWN)()
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
