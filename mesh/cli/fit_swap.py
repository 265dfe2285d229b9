"""`mesh fit --swap` and `--all-cards`: what another card would change."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.cli import fit_data
from mesh.cli.fit_words import bar_lines, cards_of, dump, promise, speed_of, verdict_of
from mesh.cli.output import note, style, table
from mesh.errors import EXIT_ERROR, EXIT_OK, MeshError
from mesh.fit.volumes import MONTH_DAYS, Ledger, Volume
from mesh.fit.whatif import InHouse, Ranked, Swap, daily_model, parse_swap, rank, swap
from mesh.hardware import GIB
from mesh.hardware.placement import lanes
from mesh.hardware.speed import Calibration
from mesh.spec.mesh import Mesh


def show_swap(mesh: Mesh, text: str, rows: Calibration, ledger: Ledger | None, *, as_json: bool) -> int:
    """Print today and then. 0 what would be there fits, 1 not."""
    found = swap(mesh, *parse_swap(mesh, text), rows, ledger)
    if as_json:
        print(dump(fit_data.of_swap(found, ledger)))
    else:
        print("\n".join(_swap_lines(mesh, found, ledger)))
        note(promise())
    return EXIT_OK if found.then.fits else EXIT_ERROR


def _swap_lines(mesh: Mesh, found: Swap, ledger: Ledger | None) -> Iterator[str]:
    yield style(found.host, "bold") + f": {cards_of(found.today)}"
    yield f"{' ' * len(found.host)}  {style('->', 'bold')} {cards_of(found.then)}"
    for bar in found.then.bars:
        yield from (f"  {line}" for line in bar_lines(bar))
    reach = dict(found.contexts)
    rows = []
    for old, new in zip(found.today.models, found.then.models, strict=True):
        change = "newly fits" if new.on_card and not old.on_card else "fits no more" if old.on_card and not new.on_card else ""
        more = f"context up to {reach[new.name]}" if reach.get(new.name, 0) > new.context else ""
        words = "; ".join(word for word in (change, more, new.short.note if new.short else "") if word)
        rows.append(
            [new.name, str(new.context), verdict_of(old), speed_of(old.short), verdict_of(new), speed_of(new.short), words]
        )
    yield ""
    yield from (
        f"  {line}"
        for line in table(rows, ["model", "context", "today", "tok/s, short", "then", "tok/s, short", ""]).splitlines()
    )
    yield ""
    if found.candidates:
        yield "also usable then, and not today (models of the catalogue, at 8192 tokens or more):"
        listed = [[each.tag, f"context up to {each.context}", speed_of(each.speed)] for each in found.candidates]
        yield from (f"  {line}" for line in table(listed, ["model", "context", "tok/s, short"]).splitlines())
        yield ""
    yield from _in_house(mesh, found, ledger)
    today, then = found.watts
    yield f"power: {today} W -> {then} W at full load ({then - today:+d} W); idle and duty are not known"


def _in_house(mesh: Mesh, found: Swap, ledger: Ledger | None) -> Iterator[str]:
    if not found.in_house:
        yield "routes: no local model becomes usable that is not today, so none could come in-house"
        return
    reach = dict(found.contexts)
    could = ", ".join(f"{name} (context up to {reach[name]})" for name in found.usable)
    yield f"routes that could name {could}; whether it answers well enough is yours to judge:"
    rows = [
        [each.route, f"{each.now}{_context(mesh, each.now)}", _tokens(each.month), _usd(each.month), _work(each)]
        for each in found.in_house
    ]
    headers = ["route", "today", "tokens a month, in + out", "USD a month", "writing them here"]
    yield from (f"  {line.rstrip()}" for line in table(rows, headers).splitlines())
    months = [each.month for each in found.in_house if each.month is not None]
    source = "the volumes of the spec" if ledger is None else f"the gateway's ledger, {_days(ledger)}"
    if not months:
        yield "saved a month: not known. The spec has no volumes (routes.NAME.volume: {in: 10M, out: 2M}, tokens a month);"
        yield "               --ledger asks the gateway what the routes did carry"
        return
    known = [month.usd for month in months if month.usd is not None]
    hours, kwh = (sum(each or 0 for each in column) for column in zip(*((a.hours, a.kwh) for a in found.in_house), strict=True))
    yield (
        f"saved a month: at most {sum(known):.2f} USD by {source}, if all of these came in-house,"
        f" for {_power(hours, kwh)} of writing; reading the prompts comes on top"
    )
    if ledger is not None and ledger.days < MONTH_DAYS / 4:
        yield f"               the ledger is young: a month is made of {_days(ledger)}"


def _days(ledger: Ledger) -> str:
    return f"its last {ledger.days:.1f} days" if ledger.days >= 1 else "less than a day"


def _context(mesh: Mesh, model: str) -> str:
    context = mesh.models[model].context
    return f" ({context} tokens)" if context else ""


def _tokens(month: Volume | None) -> str:
    return f"{_count(month.tokens_in)} + {_count(month.tokens_out)}" if month is not None else "?"


def _count(tokens: float) -> str:
    return f"{tokens / 1e6:.1f}M" if tokens >= 1e5 else f"{tokens / 1e3:.1f}k" if tokens else "0"


def _usd(month: Volume | None) -> str:
    if month is None:
        return "?"
    return "no price" if month.usd is None else f"{month.usd:.2f}"


def _work(each: InHouse) -> str:
    if each.hours is None or each.kwh is None:
        return "?"
    return f"{_power(each.hours, each.kwh)}{', more than a month has' if each.hours > MONTH_DAYS * 24 else ''}"


def _power(hours: float, kwh: float) -> str:
    return f"{hours:.1f} h, {kwh:.1f} kWh"


def show_all_cards(mesh: Mesh, rows: Calibration, *, as_json: bool) -> int:
    """Print every card of the catalogue in the place of each host's. Always 0: it is no question that can fail."""
    hosts = list(dict.fromkeys(lane.host for lane in lanes(mesh).values()))
    if not hosts:
        raise MeshError("the spec has no host with a card and an Ollama", where="mesh fit", mend="declare `gpus:` on a host")
    ranked = {host: rank(mesh, host, rows) for host in hosts}
    if as_json:
        print(dump(fit_data.of_ranking(ranked)))
        return EXIT_OK
    for host, cards in ranked.items():
        daily = daily_model(mesh, host)
        here = {place.card.slug for lane in lanes(mesh).values() if lane.host == host for place in lane.places}
        print(style(host, "bold") + f": every card of the catalogue in its place; daily model {daily or 'none'}")
        print(table([_ranked(each, here) for each in cards], ["card", "VRAM", "fit", "daily, tok/s", "power", ""]))
    note(promise())
    return EXIT_OK


def _ranked(each: Ranked, here: set[str]) -> list[str]:
    remark = "today's" if each.card.slug in here else ""
    speed = speed_of(each.daily) if each.daily_fits else f"spills, {speed_of(each.daily)}"
    more = each.daily.note if each.daily and each.card.stacked_memory else ""
    return [
        each.card.slug,
        f"{each.card.vram_bytes / GIB:.0f} GiB",
        f"{each.fitting} of {each.models}",
        speed if each.daily else "-",
        f"{each.card.tdp_w} W",
        "; ".join(word for word in (remark, more) if word),
    ]
