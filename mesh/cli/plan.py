"""`mesh plan`: what apply would change, and why."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from mesh.cli.look import as_data, as_error, beside, ignored_by_drift, look, odd_lines, summary, text
from mesh.cli.output import note, print_error
from mesh.errors import EXIT_CHANGES, EXIT_ERROR, EXIT_OK
from mesh.state.plan import Plan


def run(folder: Path, *, hosts: Collection[str] = (), stacks: Collection[str] = (), as_json: bool = False) -> int:
    """Print the plan. 0 nothing to change, 2 changes, 1 something could not be read."""
    seen = look(folder, hosts=hosts, stacks=stacks)
    plan = seen.plan
    if as_json:
        print(json.dumps(as_data(plan), indent=2, ensure_ascii=False))
    else:
        if plan.changes:
            print(f"{text(plan, seen.deployment)}\n\n{summary(plan)}")
        elif not plan.unknown:
            print("nothing to change")
        for line in (*odd_lines(plan), *beside(plan), *ignored_by_drift(seen)):
            note(line)
    for each in plan.unknown:
        print_error(as_error(each))
    return exit_code(plan)


def exit_code(plan: Plan) -> int:
    """What could not be read counts for more than what differs."""
    return EXIT_ERROR if plan.unknown else EXIT_CHANGES if plan.changes else EXIT_OK
