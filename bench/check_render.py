"""`mesh check` and `mesh render` of the reference mesh against the bare import of what they are made of.

Run: .venv/bin/python bench/check_render.py      Bar: at most 2.5 times the floor, each.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from pairs import command, compare

PROJECT = Path(__file__).resolve().parent.parent
MESH = [sys.executable, "-m", "mesh", "-C", str(PROJECT / "inventory")]
BAR = 2.5


def main() -> int:
    floor = "python -c 'import pydantic, yaml, jinja2, typer'"
    with tempfile.TemporaryDirectory() as scratch:
        ratios = compare(
            {
                floor: command([sys.executable, "-c", "import pydantic, yaml, jinja2, typer"]),
                "mesh check": command([*MESH, "check"]),
                "mesh render": command([*MESH, "render", "--out", f"{scratch}/out"]),
            },
            floor=floor,
            runs=15,
        )
    worst = max(ratios.values())
    print(f"\nbar {BAR}, worst {worst:.2f}: {'met' if worst <= BAR else 'MISSED'}")
    return 0 if worst <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
