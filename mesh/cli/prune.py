"""`mesh prune`: remove what the mesh left on its hosts and nobody needs."""

from __future__ import annotations

import datetime
import json
import secrets
from collections.abc import Collection, Iterator
from pathlib import Path

from mesh.cli.look import as_error, count, safe
from mesh.cli.output import confirm, note, print_error, style
from mesh.errors import EXIT_ERROR, EXIT_OK
from mesh.inventory import Inventory, open_inventory
from mesh.live.holder import this_run, who
from mesh.live.kept import prune, read_prunable
from mesh.state.observed import Unknown
from mesh.state.plan import CannotTell
from mesh.state.select import require_hosts

_KINDS = ("image", "network", "files")


def run(folder: Path, *, hosts: Collection[str] = (), days: int = 30, yes: bool = False) -> int:
    """Prune. 0 nothing is left that could go, 1 something stayed or could not be read."""
    inventory = open_inventory(folder)
    require_hosts(inventory.mesh.hosts, hosts)
    answers = read_prunable(inventory, [name for name in inventory.mesh.hosts if not hosts or name in hosts], days)
    for host, each in answers.items():
        if isinstance(each, Unknown):
            print_error(as_error(CannotTell(host, each.why, each.mend)))
    blind = any(isinstance(each, Unknown) for each in answers.values())
    found = {host: lines for host, each in answers.items() if not isinstance(each, Unknown) and (lines := _lines(each))}
    if not found:
        if not blind:
            print("nothing to prune")
        return EXIT_ERROR if blind else EXIT_OK
    print("\n".join(_text(inventory, found)))
    if not yes and not confirm("Remove?", otherwise="read what goes, then run it with -y"):
        note("nothing was removed")
        return EXIT_ERROR
    return EXIT_OK if _do(inventory, found, days) and not blind else EXIT_ERROR


def _lines(answer: list[str]) -> list[str]:
    return [line for line in answer if line.partition(" ")[0] in _KINDS]


def _text(inventory: Inventory, found: dict[str, list[str]]) -> Iterator[str]:
    total = 0
    for host, lines in found.items():
        yield style(f"{host} ({inventory.mesh.hosts[host].address})", "bold")
        for line in lines:
            kind, name, *rest = line.split()
            if kind == "image":
                total += int(rest[0])
                shown = rest[1].partition("@")[0] if len(rest) > 1 else name.removeprefix("sha256:")[:12]
                yield safe(f"  - image    {shown}  {int(rest[0]) / 1e6:.0f} MB, of an earlier release")
            elif kind == "network":
                yield safe(f"  - network  {rest[-1]}  of stack {rest[0]}, which is down")
            else:
                yield safe(f"  - files    {name}  put aside by earlier releases")
    yield ""
    freed = f", at most {total / 1e6:.0f} MB (images share layers)" if total else ""
    yield f"{count(sum(map(len, found.values())), 'thing')} to remove{freed}; volumes and what is not the mesh's stay"


def _do(inventory: Inventory, found: dict[str, list[str]], days: int) -> bool:
    run_id = secrets.token_hex(6)
    at = datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
    head = json.dumps({"run": run_id, "at": at, "by": who(), "verb": "prune", "finished": True})
    answers = prune(inventory, found, run=run_id, holder=str(this_run(run_id, at)), days=days, head=head)
    done = True
    for host, answer in answers.items():
        if isinstance(answer, Unknown):
            done = False
            print_error(as_error(CannotTell(host, answer.why, answer.mend)))
            continue
        for line in answer:
            done = done and not line.startswith("kept ")
            print(safe(f"  {host:<12} {line}"))
    return done
