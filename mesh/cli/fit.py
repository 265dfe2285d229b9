"""`mesh fit`: what takes the VRAM, what fits, how fast it is, and what another card would change. Offline, from the spec."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mesh.cli import fit_data
from mesh.cli.output import note, style, table
from mesh.errors import EXIT_ERROR, EXIT_OK, MeshError
from mesh.findings import SpecInvalid
from mesh.fit.calibrate import calibration
from mesh.fit.verdict import Bar, HostFit, ModelFit, PartKind, fit
from mesh.fit.whatif import Ranked, Swap, daily_model, parse_swap, rank, swap
from mesh.hardware import GIB, gib
from mesh.hardware.footprint import ERROR_BAND, Verdict
from mesh.hardware.placement import lanes
from mesh.hardware.speed import Calibration, Speed
from mesh.inventory import Inventory, open_inventory
from mesh.measure.record import read_measurements
from mesh.spec.mesh import Mesh

_WIDTH = 64
"""Characters of a bar."""
_LETTERS: dict[PartKind, str] = {"driver": "d", "reserve": "r", "resident": "R", "model": "#", "margin": "-", "free": "."}
_COLOURS: dict[PartKind, str] = {
    "driver": "dim",
    "reserve": "yellow",
    "resident": "cyan",
    "model": "green",
    "margin": "dim",
    "free": "dim",
}
_VERDICTS = {Verdict.FITS: "green", Verdict.TIGHT: "yellow", Verdict.SPILLS: "red"}
_NEEDED = frozenset({"reference-unknown", "model-identity", "card-unknown", "model-numbers"})
"""Rules without which nothing can be said. What else is wrong with the spec, `mesh check` tells: VRAM above all."""


def run(folder: Path, *, swap_to: str | None = None, all_cards: bool = False, as_json: bool = False) -> int:
    """Print what fits. 0 all of it (or it may spill), 1 not; with --swap of the mesh as it would be."""
    if swap_to and all_cards:
        raise MeshError("--swap and --all-cards are two questions", where="mesh fit", mend="ask one at a time")
    inventory = open_inventory(folder)
    mesh = _checked(inventory)
    rows = calibration(read_measurements(folder), mesh)
    if all_cards:
        return _all_cards(mesh, rows, as_json=as_json)
    if swap_to:
        return _swap(mesh, swap_to, rows, as_json=as_json)
    hosts = fit(mesh, rows)
    if not hosts:
        raise MeshError("the spec has no card and no Ollama", where=str(folder), mend="declare `gpus:` on a host")
    print(_dump(fit_data.of_hosts(hosts)) if as_json else "\n\n".join(_host(host) for host in hosts))
    if not as_json:
        note(_promise())
    return EXIT_OK if all(host.fits for host in hosts) else EXIT_ERROR


def _checked(inventory: Inventory) -> Mesh:
    from mesh.validate import validate

    wrong = [each for each in validate(inventory) if each.severity == "error" and each.rule in _NEEDED]
    if wrong:
        raise SpecInvalid(wrong)
    return inventory.mesh


def _dump(data: object) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False)


def _promise() -> str:
    return f"sizes are right within {gib(ERROR_BAND)}; of ten speeds nine are within the range that stands with them"


# one mesh


def _host(host: HostFit) -> str:
    lines = [style(f"{host.host}", "bold") + f": {_cards(host)}"]
    for bar in host.bars:
        lines += [f"  {line}" for line in _bar(bar)]
    rows = [_row(model) for model in host.models]
    if rows:
        headers = ["model", "context", "takes", "verdict", "tok/s, short", "tok/s, full context", "loads in", ""]
        lines += ["", *(f"  {line}" for line in _coloured(table(rows, headers), host.models))]
    return "\n".join(lines)


def _cards(host: HostFit) -> str:
    known = [
        f"{place.card.name} ({place.card.vram_bytes / GIB:.0f} GiB, {place.card.bandwidth_bytes_per_s / 1e9:.0f} GB/s,"
        f" {place.card.tdp_w} W)"
        for place in host.cards
    ]
    return " + ".join(known) or "no card, models run on the processor"


def _bar(bar: Bar) -> Iterator[str]:
    """The bar, and under it what its letters are."""
    widths = _widths([part.size for part in bar.parts], bar.total)
    letters = "".join(
        style(_block(part.kind) * width, _COLOURS[part.kind]) for part, width in zip(bar.parts, widths, strict=True)
    )
    yield f"[{letters}] {gib(bar.total)}"
    names = {"margin": "the engine's margin"}
    yield "  ".join(
        f"{style(_block(part.kind), _COLOURS[part.kind])} {names.get(part.kind, part.name)} {part.size / GIB:.1f}"
        for part in bar.parts
    )
    if bar.over:
        yield style(f"{gib(bar.over)} more than the card has", "red")


def _block(kind: PartKind) -> str:
    """A letter in a pipe; a block on a terminal that can show it, where the colour tells the parts apart."""
    if not style("", "dim") or "utf" not in (sys.stdout.encoding or "").lower():
        return _LETTERS[kind]
    return "░" if kind == "free" else "█"


def _widths(sizes: Sequence[int], total: int) -> list[int]:
    """Characters for each part: as many together as the bar has (at most), at least one for what is not nothing."""
    whole = max(total, sum(sizes), 1)
    widths = [max(round(size * _WIDTH / whole), 1) if size else 0 for size in sizes]
    while sum(widths) > _WIDTH:
        widths[widths.index(max(widths))] -= 1
    if widths and sizes[-1]:
        widths[-1] += _WIDTH - sum(widths)
    return widths


def _row(model: ModelFit) -> list[str]:
    takes = f"{gib(model.need.total)}" if model.need else "not known"
    return [
        model.name,
        str(model.context or "?"),
        takes,
        _verdict(model),
        _speed(model.short),
        _speed(model.full),
        _load(model),
        "; ".join(_remarks(model)),
    ]


def _verdict(model: ModelFit) -> str:
    if model.verdict is None:
        return "processor" if model.need else "unknown"
    return f"{model.verdict.value}{', allowed' if model.verdict is Verdict.SPILLS and model.allowed else ''}"


def _speed(speed: Speed | None) -> str:
    if speed is None:
        return "-"
    digits = 1 if speed.tok_s < 10 else 0
    return f"{speed.tok_s:.{digits}f} ({speed.low:.{digits}f} to {speed.high:.{digits}f})"


def _load(model: ModelFit) -> str:
    low, high = model.load
    return "-" if not high else f"{max(low, 0.1):.{0 if low >= 1 else 1}f} to {max(high, 1):.0f} s"


def _remarks(model: ModelFit) -> Iterator[str]:
    if model.resident:
        yield "resident"
    if model.verdict is None and not model.need:
        yield "the catalogue does not know it: give `weights:` and `architecture:`, or nothing is said about it"
    if model.verdict is Verdict.SPILLS and model.placed:
        yield f"{model.placed.layers - model.placed.layers_gpu} of {model.placed.layers} layers in RAM"
        if model.context_that_fits:
            yield f"a context of {model.context_that_fits} fits"
    if model.verdict is Verdict.TIGHT:
        yield f"{gib(model.spare)} to spare"
    if model.evicts:
        yield f"unloads {', '.join(model.evicts)}"
    if model.short and model.short.note:
        yield model.short.note


def _coloured(text: str, models: Sequence[ModelFit]) -> Iterator[str]:
    """The table's lines with the verdicts in colour, which a column's width must not count."""
    head, *lines = text.splitlines()
    yield head
    for line, model in zip(lines, models, strict=True):
        word = model.verdict.value if model.verdict else ""
        at = line.find(f" {word}") + 1 if word else 0
        yield f"{line[:at]}{style(word, _VERDICTS[model.verdict])}{line[at + len(word) :]}" if at and model.verdict else line


# another card


def _swap(mesh: Mesh, text: str, rows: Calibration, *, as_json: bool) -> int:
    found = swap(mesh, *parse_swap(mesh, text), rows)
    if as_json:
        print(_dump(fit_data.of_swap(found)))
    else:
        print("\n".join(_swap_lines(mesh, found)))
        note(_promise())
    return EXIT_OK if found.then.fits else EXIT_ERROR


def _swap_lines(mesh: Mesh, found: Swap) -> Iterator[str]:
    yield style(found.host, "bold") + f": {_cards(found.today)}"
    yield f"{' ' * len(found.host)}  {style('->', 'bold')} {_cards(found.then)}"
    for bar in found.then.bars:
        yield from (f"  {line}" for line in _bar(bar))
    reach = dict(found.contexts)
    rows = []
    for old, new in zip(found.today.models, found.then.models, strict=True):
        change = "newly fits" if new.on_card and not old.on_card else "fits no more" if old.on_card and not new.on_card else ""
        more = f"context up to {reach[new.name]}" if reach.get(new.name, 0) > new.context else ""
        words = "; ".join(word for word in (change, more, new.short.note if new.short else "") if word)
        rows.append([new.name, str(new.context), _verdict(old), _speed(old.short), _verdict(new), _speed(new.short), words])
    yield ""
    yield from (
        f"  {line}"
        for line in table(rows, ["model", "context", "today", "tok/s, short", "then", "tok/s, short", ""]).splitlines()
    )
    yield ""
    if found.candidates:
        yield "also usable then, and not today (models of the catalogue, at 8192 tokens or more):"
        listed = [[each.tag, f"context up to {each.context}", _speed(each.speed)] for each in found.candidates]
        yield from (f"  {line}" for line in table(listed, ["model", "context", "tok/s, short"]).splitlines()[0:])
        yield ""
    yield from _in_house(mesh, found)
    today, then = found.watts
    yield f"power: {today} W -> {then} W at full load ({then - today:+d} W); idle and duty are not known"


def _in_house(mesh: Mesh, found: Swap) -> Iterator[str]:
    if not found.in_house:
        yield "routes: no local model becomes usable that is not today, so none could come in-house"
        return
    contexts = {model.name: model.context for model in found.then.models}
    could = ", ".join(f"{name} ({contexts[name]} tokens of context)" for name in found.usable)
    yield f"routes that could name {could}; whether it answers well enough is yours to judge:"
    for each in found.in_house:
        has = mesh.models[each.now].context
        money = "" if each.monthly is None else f", {each.monthly:.2f} USD a month by its volume"
        yield f"  {each.route}: {each.now} today{f' ({has} tokens)' if has else ''}{money}"
    known = [each.monthly for each in found.in_house if each.monthly is not None]
    if known:
        yield f"saved a month: at most {sum(known):.2f} USD, if every one of these with a volume came in-house"
    else:
        yield "saved a month: not known, the spec has no volumes (routes.NAME.volume: {in: 10M, out: 2M}, tokens a month)"


def _all_cards(mesh: Mesh, rows: Calibration, *, as_json: bool) -> int:
    hosts = list(dict.fromkeys(lane.host for lane in lanes(mesh).values()))
    if not hosts:
        raise MeshError("the spec has no host with a card and an Ollama", where="mesh fit", mend="declare `gpus:` on a host")
    ranked = {host: rank(mesh, host, rows) for host in hosts}
    if as_json:
        print(_dump(fit_data.of_ranking(ranked)))
        return EXIT_OK
    for host, cards in ranked.items():
        daily = daily_model(mesh, host)
        here = {place.card.slug for lane in lanes(mesh).values() if lane.host == host for place in lane.places}
        print(style(host, "bold") + f": every card of the catalogue in its place; daily model {daily or 'none'}")
        print(table([_ranked(each, here) for each in cards], ["card", "VRAM", "fit", "daily, tok/s", "power", ""]))
    note(_promise())
    return EXIT_OK


def _ranked(each: Ranked, here: set[str]) -> list[str]:
    remark = "today's" if each.card.slug in here else ""
    speed = _speed(each.daily) if each.daily_fits else f"spills, {_speed(each.daily)}"
    more = each.daily.note if each.daily and each.card.stacked_memory else ""
    return [
        each.card.slug,
        f"{each.card.vram_bytes / GIB:.0f} GiB",
        f"{each.fitting} of {each.models}",
        speed if each.daily else "-",
        f"{each.card.tdp_w} W",
        "; ".join(word for word in (remark, more) if word),
    ]
