"""`mesh history`: who applied what, when, how long it took and what became of it. It only reads."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from mesh.cli.look import as_error, count, safe
from mesh.cli.output import note, print_error, style
from mesh.errors import EXIT_ERROR, EXIT_OK
from mesh.inventory import open_inventory
from mesh.live.kept import read_journals
from mesh.state.journal import HostRun, Run, StackResult, of_stacks, runs
from mesh.state.observed import Unknown
from mesh.state.plan import CannotTell
from mesh.state.select import require_hosts

_COLOURS = {"up": "green", "down": "yellow", "back": "red", "stopped": "red", "failed": "red", "interrupted": "yellow"}


def run(
    folder: Path, *, hosts: Collection[str] = (), stacks: Collection[str] = (), number: int = 10, as_json: bool = False
) -> int:
    """Print the last runs, the latest first. 0 all hosts were read, 1 one could not be."""
    inventory = open_inventory(folder)
    require_hosts(inventory.mesh.hosts, hosts)
    wanted = [name for name in inventory.mesh.hosts if not hosts or name in hosts]
    journals = read_journals(inventory, wanted, None if stacks else number)
    unknown = [CannotTell(host, each.why, each.mend) for host, each in journals.items() if isinstance(each, Unknown)]
    known = {host: each for host, each in journals.items() if not isinstance(each, Unknown)}
    found = list(islice(of_stacks(runs(known), stacks), number))
    if as_json:
        print(json.dumps({"version": 1, "runs": [_data(each) for each in found]}, indent=2, ensure_ascii=False))
    else:
        for each in found:
            print("\n".join(_lines(each)))
        if not found:
            note("nothing was applied yet" if not stacks else "nothing in the journals is about that")
    for one in unknown:
        print_error(as_error(one))
    return EXIT_ERROR if unknown else EXIT_OK


def _lines(run: Run) -> Iterator[str]:
    took = f"  {run.seconds:.0f} s" if run.seconds is not None else ""
    cut = "" if all(host.finished for host in run.hosts.values()) else style("  did not come to its end", "yellow")
    yield f"{style(safe(run.at), 'bold')}  {safe(run.verb)} {safe(run.id)} by {safe(run.by)}{took}{cut}"
    for name, host in run.hosts.items():
        if host.removed is not None:
            yield f"  {name}: removed {count(host.removed, 'thing')}"
        elif not host.stacks:
            yield f"  {name}: no stack was touched"
        for stack, result in host.stacks.items():
            word = style(f"{safe(result.result):<11}", _COLOURS.get(result.result, "bold"))
            yield safe(f"  {f'{name}/{stack}':<28} ") + f"{word} {_seconds(result):>8}  {safe(_releases(result))}".rstrip()
            if result.why:
                yield safe(f"      {result.why}")


def _seconds(result: StackResult) -> str:
    return f"{result.seconds:.1f} s" if result.seconds is not None else ""


def _releases(result: StackResult) -> str:
    """`1f0c2a9b3d4e -> 77ab01c2d3e4`; one of them where it stayed."""
    both = [each for each in dict.fromkeys((result.was, result.wanted)) if each]
    if result.result == "down":
        return f"{result.was} -> nothing" if result.was else ""
    return " -> ".join(both)


def _data(run: Run) -> dict[str, Any]:
    return {
        "run": safe(run.id),
        "at": safe(run.at),
        "by": safe(run.by),
        "verb": safe(run.verb),
        "seconds": run.seconds,
        "hosts": {name: _host_data(host) for name, host in run.hosts.items()},
    }


def _host_data(host: HostRun) -> dict[str, Any]:
    stacks = {
        safe(name): {
            "result": safe(each.result),
            "seconds": each.seconds,
            "from": safe(each.was) or None,
            "to": safe(each.wanted) or None,
            "why": safe(each.why) or None,
        }
        for name, each in host.stacks.items()
    }
    return {"finished": host.finished, "seconds": host.seconds, "stacks": stacks, "removed": host.removed}
