"""`mesh bench`: how fast the models of the spec are on the live mesh, written down beside the spec."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mesh.cli.output import harmless, note, print_error, table
from mesh.errors import EXIT_ERROR, EXIT_OK, MeshError
from mesh.inventory import Inventory, open_inventory
from mesh.live.ssh import Target, run_script
from mesh.measure.record import FILE, Measurement, add_measurements, read_measurements
from mesh.measure.speed import Engine, Speed, engine, measure
from mesh.spec.providers import Model
from mesh.state.cards import QUERY, read_cards
from mesh.state.observed import Unknown

JSON_VERSION = 1


def run(
    folder: Path, *, models: Collection[str] = (), runs: int = 3, tokens: int = 128, force: bool = False, as_json: bool = False
) -> int:
    """Measure the named models, or all that write text on the mesh's Ollamas. 0 all measured, 1 some could not be."""
    inventory = open_inventory(folder)
    chosen = _chosen(inventory, models)
    read_measurements(folder)  # a damaged file is better known now than after the first model
    failed = recorded = 0
    taken: list[tuple[str, Measurement]] = []
    servers: dict[str, tuple[Engine, str] | MeshError] = {}
    for name, model in chosen.items():
        if model.at not in servers:
            servers[model.at] = _server(inventory, model.at)
            if isinstance(error := servers[model.at], MeshError):
                print_error(error)
        server = servers[model.at]
        if isinstance(server, MeshError):
            failed += 1
            continue
        try:
            found = _measured(inventory, name, model, *server, runs=runs, tokens=tokens)
            taken.append((name, found))
            if force or not found.double:  # at once: whoever interrupts the run keeps what it has cost so far
                add_measurements(folder, [found])
                recorded += 1
        except MeshError as error:
            print_error(error)
            failed += 1
    print(_json(taken, recorded=recorded) if as_json else _text(taken))
    if recorded < len(taken):
        note("nothing recorded of test doubles: they have no speed (--force records it, marked, and never calibrates with it)")
    if recorded:
        note(f"{folder / FILE}: {recorded} recorded")
    return EXIT_ERROR if failed else EXIT_OK


def _chosen(inventory: Inventory, names: Collection[str]) -> dict[str, Model]:
    """The models to measure by name. Raises MeshError for a name that is not there, or cannot be measured."""
    from mesh.suggest import Suggester

    mesh = inventory.mesh
    local = {name: model for name, model in mesh.models.items() if model.at in mesh.ollamas and mesh.is_local(name)}
    writing = {name: model for name, model in local.items() if model.kind == "chat"}
    by_tag = {model.tag: name for name, model in writing.items()}
    chosen = {}
    for given in names:
        name = given if given in mesh.models else by_tag.get(given, given)
        if name in writing:
            chosen[name] = writing[name]
        elif name in local:
            raise MeshError(f"{name} is an embedding model: it writes no tokens", where=f"models.{name}")
        elif name in mesh.models:
            raise MeshError(f"{name} does not run in the mesh", where=f"models.{name}", mend="name a model at an ollama")
        else:
            mend = Suggester().mend(given, writing, f"the mesh's own are {', '.join(writing) or 'none'}")
            raise MeshError(f"the spec has no model {given}", where="mesh bench", mend=mend)
    if not names and not writing:
        raise MeshError("the spec has no model that could be measured", where=str(inventory.dir), mend="add one at an ollama")
    return chosen or writing


def _server(inventory: Inventory, stack: str) -> tuple[Engine, str] | MeshError:
    """Who answers for a provider, and the card behind it as nvidia-smi says."""
    place = inventory.library.placements(inventory.mesh)[stack]
    try:
        found = engine(place.url)
    except MeshError as error:
        where = f"{place.host_name}/{stack}"
        return MeshError("its Ollama cannot be asked", where=where, why=str(error), mend="`mesh drift` tells what is wrong there")
    if inventory.mesh.ollamas[stack].gpu == "none" or not place.host.gpus:
        return found, "cpu"
    answer = run_script(
        Target(place.host_name, place.host.reach, inventory.dir), f"PATH=$PATH:/usr/local/bin\nnvidia-smi {QUERY}"
    )
    cards = None if isinstance(answer, Unknown) else read_cards(0, answer)
    if isinstance(answer, Unknown) or cards is None or cards.error:
        why = answer.why if isinstance(answer, Unknown) else cards.error if cards else ""
        note(f"{place.host_name}: its card is not known ({harmless(why)}), so the speed calibrates nothing")
        return found, ""
    return found, " + ".join(card.name for card in cards.cards)


def _measured(inventory: Inventory, name: str, model: Model, server: Engine, card: str, *, runs: int, tokens: int) -> Measurement:
    place = inventory.library.placements(inventory.mesh)[model.at]
    assert model.tag
    what = f"{place.host_name}/{place.name} {name}"
    speed: Speed = measure(
        place.url,
        model.tag,
        num_ctx=model.context,
        keep_alive=model.keep_alive,
        runs=runs,
        tokens=tokens,
        progress=lambda words: note(f"{what}: {words}"),
    )
    return Measurement(
        taken=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        host=place.host_name,
        stack=place.name,
        engine="ollama",
        version=harmless(server.version),
        card=harmless(card),
        model=model.tag,
        num_ctx=model.context or 0,
        tokens=speed.tokens,
        tok_s=speed.tok_s,
        prompt_tok_s=speed.prompt_tok_s,
        load_s=speed.load_s,
        size=speed.size,
        size_vram=speed.size_vram,
        runs=speed.runs,
        double=server.double,
    )


def _text(taken: list[tuple[str, Measurement]]) -> str:
    headers = ["model", "card", "context", "writes", "reads", "loads", "in VRAM"]
    return table(list(_rows(taken)), headers) if taken else "nothing measured"


def _rows(taken: list[tuple[str, Measurement]]) -> Iterator[list[str]]:
    for name, each in taken:
        share = f"{100 * each.size_vram // each.size} %" if each.size else "?"
        card = "a test double" if each.double else each.card or "not known"
        yield [
            name,
            card,
            str(each.num_ctx or "default"),
            f"{each.tok_s:.1f} tok/s",
            f"{each.prompt_tok_s:.0f} tok/s",
            f"{each.load_s:.1f} s",
            f"{share}{', spilled' if each.spilled else ''}",
        ]


def _json(taken: list[tuple[str, Measurement]], *, recorded: int) -> str:
    from dataclasses import asdict

    rows: list[dict[str, Any]] = [{"name": name, **asdict(each), "spilled": each.spilled} for name, each in taken]
    return json.dumps({"version": JSON_VERSION, "recorded": recorded, "measurements": rows}, indent=2)
