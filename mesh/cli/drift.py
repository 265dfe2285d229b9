"""`mesh drift`: what on the hosts is not as the spec says, for people and for CI. It only reads."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mesh.cli.look import Look, as_error, beside, count, look, odd_lines, safe, summary, text
from mesh.cli.output import note, print_error
from mesh.cli.plan import exit_code
from mesh.errors import EXIT_CHANGES, EXIT_OK, MeshError

if TYPE_CHECKING:
    from mesh.state.ignores import Ignore, Ignored, Sifted

Format = Literal["text", "json", "github", "junit"]


def run(
    folder: Path,
    *,
    hosts: Collection[str] = (),
    stacks: Collection[str] = (),
    format: Format = "text",
    verbose: bool = False,
    secrets: bool = True,
    deep: bool = False,
) -> int:
    """Print the drift. 0 none, 2 drift, 1 something could not be read (then the drift found elsewhere is printed as well).

    verbose: list what is ignored. secrets: whether their values may be asked for. deep: ask the applications themselves, too.
    """
    seen = look(folder, hosts=hosts, stacks=stacks, secrets=secrets)
    seen = replace(seen, plan=replace(seen.plan, notes=(*seen.plan.notes, *_slowed(folder, hosts, stacks))))
    if deep:
        from mesh.live.applications import settings_of

        asked = settings_of(seen.inventory, seen.deployment)
        plan = seen.plan
        plan = replace(plan, deviations=(*plan.deviations, *asked.odd), unknown=(*plan.unknown, *asked.unknown))
        seen = replace(seen, plan=plan)
    sifted = _sifted(seen)
    if sifted:
        notes = (*sifted.plan.notes, *_about(sifted, whole=not hosts and not stacks))
        seen = replace(seen, plan=replace(sifted.plan, notes=notes))
    ignored = sifted.ignored if sifted else ()
    if format == "text":
        _print_text(seen, ignored, verbose=verbose)
    else:
        from mesh.cli.drift_formats import WRITERS

        output = WRITERS[format](seen, ignored)
        if output:
            print(output)
    for each in seen.plan.unknown:
        print_error(as_error(each))
    return exit_code(seen.plan) or (EXIT_CHANGES if seen.plan.deviations else EXIT_OK)


def _sifted(seen: Look) -> Sifted | None:
    """What is left when the spec's ignores are taken out; None where it has none."""
    ignores = seen.inventory.ignores
    if not ignores:
        return None
    from datetime import date

    from mesh.state.ignores import sift

    return sift(seen.plan, ignores, date.today())


def _about(sifted: Sifted, *, whole: bool) -> Iterator[str]:
    """What there is to say about the entries of `drift.ignore` themselves. whole: the whole mesh was looked at."""
    for each in sifted.ended:
        yield f"drift.ignore: `{each.what}` ended on {each.until} and hides nothing any more ({each.reason})"
    for each in sifted.idle if whole and not sifted.plan.unknown else ():
        yield f"drift.ignore: nothing is like `{each.what}` any more: remove the entry"


def _print_text(seen: Look, ignored: Collection[Ignored], *, verbose: bool) -> None:
    output = _text(seen)
    if output:
        print(output)
    for line in (*ignored_lines(ignored, verbose=verbose), *beside(seen.plan)):
        note(line)


def _text(seen: Look) -> str:
    odd = "\n".join(odd_lines(seen.plan))
    if seen.plan.changes:
        changes = f"{text(seen.plan, seen.deployment)}\n\ndrift: {summary(seen.plan)}; `mesh apply` mends it"
        return f"{changes}; {_beyond(seen)}\n{odd}" if odd else changes
    if odd:
        return f"{odd}\n\ndrift: {_beyond(seen)}"
    if seen.plan.unknown:
        return ""
    stacks = sum(len(host.stacks) for host in seen.deployment.hosts.values())
    return f"no drift: {count(stacks, 'stack')} on {count(len(seen.deployment.hosts), 'host')} are as the spec says"


def ignored_lines(ignored: Collection[Ignored], *, verbose: bool) -> Iterator[str]:
    """`2 ignored until 2026-12-31: REASON`, a line an entry; verbose: what they are."""
    entries: dict[Ignore, list[Ignored]] = {}
    for each in ignored:
        entries.setdefault(each.by, []).append(each)
    for by, theirs in entries.items():
        yield safe(f"{len(theirs)} ignored until {by.until}: {by.reason}")
        for found in (each.found for each in theirs) if verbose else ():
            yield safe(f"    {'/'.join(filter(None, (found.host, found.stack)))} {found.subject} {found.name}: {found.why}")


def _slowed(folder: Path, hosts: Collection[str], stacks: Collection[str]) -> Iterator[str]:
    """Models whose last recorded speed is well under their best: a driver, a power limit, a hot card, a model that spills."""
    from mesh.measure.record import read_measurements, slowed

    try:
        measured = read_measurements(folder)
    except MeshError as error:  # no reason to keep the drift from whoever asked for it
        yield f"{error}: no speed is compared"
        return
    for latest, best in slowed(measured):
        if (hosts and latest.host not in hosts) or (stacks and latest.stack not in stacks):
            continue
        yield (
            f"{latest.host}/{latest.stack}: {latest.model} wrote {latest.tok_s:.1f} tok/s on {latest.taken[:10]},"
            f" {100 - 100 * latest.tok_s / best.tok_s:.0f} % under the {best.tok_s:.1f} of {best.taken[:10]}"
        )


def _beyond(seen: Look) -> str:
    return f"{count(len(seen.plan.deviations), 'finding')} that apply cannot mend"
