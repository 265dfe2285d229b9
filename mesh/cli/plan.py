"""`mesh plan`: what apply would change, why, and what that means. It starts, builds and pulls nothing."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from mesh.cli.look import Look, as_error, beside, ignored_by_drift, look, odd_lines
from mesh.cli.output import note, print_error
from mesh.errors import EXIT_CHANGES, EXIT_ERROR, EXIT_OK

if TYPE_CHECKING:
    from mesh.state.plan import Plan


def run(
    folder: Path,
    *,
    hosts: Collection[str] = (),
    stacks: Collection[str] = (),
    as_json: bool = False,
    diff: bool = False,
    verbose: bool = False,
) -> int:
    """Print the plan. 0 nothing to change, 2 changes, 1 something could not be read."""
    seen = look(folder, hosts=hosts, stacks=stacks)
    plan = seen.plan
    if as_json:
        print(json.dumps(_data(seen), indent=2, ensure_ascii=False))
    else:
        if plan.changes:
            print(explained(seen, diff=diff, verbose=verbose))
        elif not plan.unknown:
            print("nothing to change")
        more = (*beside(plan, len(plan.foreign) if verbose else 0), *ignored_by_drift(seen))
        for line in (*odd_lines(plan), *more):
            note(line)
    for each in plan.unknown:
        print_error(as_error(each))
    return exit_code(plan)


def explained(seen: Look, *, diff: bool = False, verbose: bool = False) -> str:
    """The changes with everything that is worth knowing before they are made. It takes one more look at the hosts concerned."""
    from mesh.cli.plan_text import plan_text
    from mesh.live.contents import explanation

    meaning = explanation(seen.inventory, seen.deployment, seen.observed, seen.plan)
    return plan_text(seen.plan, seen.deployment, meaning, diff=diff, verbose=verbose)


def _data(seen: Look) -> object:
    from mesh.cli.plan_data import plan_data
    from mesh.live.contents import explanation

    return plan_data(seen.plan, explanation(seen.inventory, seen.deployment, seen.observed, seen.plan))


def exit_code(plan: Plan) -> int:
    """What could not be read counts for more than what differs."""
    return EXIT_ERROR if plan.unknown else EXIT_CHANGES if plan.changes else EXIT_OK
