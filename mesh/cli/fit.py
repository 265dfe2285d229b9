"""`mesh fit`: what takes the VRAM, what fits, how fast it is, and what another card would change. Offline, from the spec."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mesh.cli import fit_data
from mesh.cli.fit_words import VERDICTS, bar_lines, cards_of, dump, promise, speed_of, verdict_of
from mesh.cli.output import note, style, table
from mesh.errors import EXIT_ERROR, EXIT_OK, MeshError
from mesh.findings import SpecInvalid
from mesh.fit.calibrate import calibration
from mesh.fit.verdict import HostFit, ModelFit, fit
from mesh.fit.volumes import Ledger
from mesh.hardware import gib
from mesh.hardware.footprint import Verdict
from mesh.inventory import Inventory, open_inventory
from mesh.measure.record import read_measurements
from mesh.spec.mesh import Mesh

_NEEDED = frozenset({"reference-unknown", "model-identity", "card-unknown", "model-numbers"})
"""Rules without which nothing can be said. What else is wrong with the spec, `mesh check` tells: VRAM above all."""


def run(folder: Path, *, swap_to: str | None = None, all_cards: bool = False, ledger: bool = False, as_json: bool = False) -> int:
    """Print what fits. 0 all of it (or it may spill), 1 not; with --swap of the mesh as it would be."""
    if swap_to is not None and all_cards:
        raise MeshError("--swap and --all-cards are two questions", where="mesh fit", mend="ask one at a time")
    if ledger and swap_to is None:
        raise MeshError("--ledger says what a swap would save", where="mesh fit", mend="add --swap HOST=CARD")
    inventory = open_inventory(folder)
    mesh = _checked(inventory)
    rows = calibration(read_measurements(folder), mesh)
    if all_cards:
        from mesh.cli.fit_swap import show_all_cards

        return show_all_cards(mesh, rows, as_json=as_json)
    if swap_to is not None:
        from mesh.cli.fit_swap import show_swap

        return show_swap(mesh, swap_to, rows, _ledger(inventory) if ledger else None, as_json=as_json)
    hosts = fit(mesh, rows)
    if not hosts:
        raise MeshError("the spec has no card and no Ollama", where=str(folder), mend="declare `gpus:` on a host")
    print(dump(fit_data.of_hosts(hosts)) if as_json else "\n\n".join(_host(host) for host in hosts))
    if not as_json:
        note(promise())
    return EXIT_OK if all(host.fits for host in hosts) else EXIT_ERROR


def _ledger(inventory: Inventory) -> Ledger:
    """What the live gateway counted. Raises MeshError for a mesh without one, or where it cannot be asked."""
    from mesh.live.ledger import read_ledger
    from mesh.live.ssh import Target

    gateways = [place for place in inventory.library.placements(inventory.mesh).values() if place.kind == "litellm"]
    if not gateways:
        raise MeshError("the mesh has no gateway, and so no ledger", where="--ledger", mend="write routes.NAME.volume instead")
    place = gateways[0]
    return read_ledger(Target(place.host_name, place.host.reach, inventory.dir), place.name, place.host.docker)


def _checked(inventory: Inventory) -> Mesh:
    from mesh.validate import validate

    wrong = [each for each in validate(inventory) if each.severity == "error" and each.rule in _NEEDED]
    if wrong:
        raise SpecInvalid(wrong)
    return inventory.mesh


def _host(host: HostFit) -> str:
    lines = [style(f"{host.host}", "bold") + f": {cards_of(host)}"]
    for bar in host.bars:
        lines += [f"  {line}" for line in bar_lines(bar)]
    rows = [_row(model) for model in host.models]
    if rows:
        headers = ["model", "context", "takes", "verdict", "tok/s, short", "tok/s, full context", "loads in", ""]
        lines += ["", *(f"  {line}" for line in _coloured(table(rows, headers), host.models))]
    return "\n".join(lines)


def _row(model: ModelFit) -> list[str]:
    takes = f"{gib(model.need.total)}" if model.need else "not known"
    return [
        model.name,
        str(model.context or "?"),
        takes,
        verdict_of(model),
        speed_of(model.short),
        speed_of(model.full),
        _load(model),
        "; ".join(_remarks(model)),
    ]


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
        yield f"{line[:at]}{style(word, VERDICTS[model.verdict])}{line[at + len(word) :]}" if at and model.verdict else line
