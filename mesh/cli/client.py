"""`mesh client add|rotate|revoke|list`: who may ask, with an own key. A key is shown once, when it is made, on stdout alone."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mesh.cli.output import note, style, table
from mesh.cli.secrets import open_secrets
from mesh.errors import EXIT_OK, Location, MeshError
from mesh.findings import Finding, SpecInvalid
from mesh.inventory import Inventory, open_inventory
from mesh.secrets.value import Secret
from mesh.spec.mesh import default_key
from mesh.suggest import Suggester

_SECTION = "clients"


def add(folder: Path, name: str, *, routes: str, budget: str | None, rpm: int | None, quiet: bool) -> int:
    """Declare a client in the spec and make its key. Nothing is written unless `mesh check` accepts the result."""
    from mesh.edit.entries import added

    _check_name(name)
    with open_secrets(folder) as held:
        inventory = open_inventory(folder)
        value = _value(inventory, name, routes, budget, rpm)
        file, content = _own_file(inventory, name, value)
        secret = default_key(name).name
        _refuse_outside(inventory, secret)
        edited = Inventory(folder, added(content, str(file), _SECTION, name, value))
        warnings = _look_at(inventory, edited, f"with client {name} the spec would have errors")
        held.values[secret] = _new_key()
        held.save()
        _write(file, edited)
        key = held.values[secret]
    _hand_out(key, quiet=quiet)
    if not quiet:
        note(f"added {edited.loaded.source.locate((_SECTION, name), key=True)}: client {name}")
        for warning in warnings:
            if warning.path[:2] == (_SECTION, name):
                note(f"{style('warning:', 'yellow', 'bold')} {warning.message}; {warning.mend}")
        _say_once(name)
        note(f"next: `mesh apply` makes it valid{_changing(edited, secret)}")
    return EXIT_OK


def rotate(folder: Path, name: str, *, quiet: bool) -> int:
    """Give a client a new key. The old one is valid until the next apply."""
    with open_secrets(folder) as held:
        inventory = open_inventory(folder)
        _known(inventory, name)
        secret = inventory.mesh.client_key(name).name
        _refuse_outside(inventory, secret)
        held.values[secret] = key = _new_key()
        held.save()
    _hand_out(key, quiet=quiet)
    if not quiet:
        _say_once(name)
        note(f"next: `mesh apply` makes it valid, and ends the old one{_changing(inventory, secret)}")
    return EXIT_OK


def revoke(folder: Path, name: str, *, force: bool) -> int:
    """Take a client out of the spec and its key out of secrets.age."""
    from mesh.edit.entries import removed
    from mesh.secrets.own import uses

    with open_secrets(folder) as held:
        inventory = open_inventory(folder)
        _known(inventory, name)
        secret = inventory.mesh.client_key(name).name
        file, content = _own_file(inventory, name)
        edited = Inventory(folder, removed(content, str(file), _SECTION, name))
        mend = f"take away what needs it first, or leave the spec broken: mesh client revoke {name} --force"
        if not force:
            _look_at(inventory, edited, f"something needs client {name}, so it stays", mend)
            users = uses(edited.mesh).get(secret)
            if users:
                what = f"{', '.join(users)} uses the key of client {name}, so it stays"
                raise MeshError(what, where=f"secret:{secret}", mend=mend)
        changing = _changing(inventory, secret)
        _write(file, edited)
        if held.values.pop(secret, None) is not None:
            held.save()
    note(f"revoked client {name}: it is out of {file}, and secret:{secret} is gone")
    note(f"{style('until `mesh apply` the key still works', 'yellow')}{changing}")
    return EXIT_OK


def list_clients(folder: Path, *, as_json: bool) -> int:
    """Every client: routes, budget, requests per minute, and whether it has a key. Never the key."""
    from mesh.secrets.sources import describe

    inventory = open_inventory(folder)
    mesh, store = inventory.mesh, inventory.secrets
    in_file = store.names_in_file()
    entries: list[dict[str, Any]] = []
    for name, client in mesh.clients.items():
        secret = mesh.client_key(name).name
        source = describe(mesh.secrets[secret].source) if secret in mesh.secrets else "secrets.age" if secret in in_file else None
        budget = None if client.budget is None else {"amount": client.budget.amount, "currency": client.budget.currency}
        entries.append(
            {"name": name, "routes": client.routes, "budget": budget, "rpm": client.rpm, "secret": secret, "key": source}
        )
    if as_json:
        print(json.dumps({"clients": entries}, indent=2))
        return EXIT_OK
    rows = [
        (
            each["name"],
            f"{each['budget']['amount']:g} {each['budget']['currency']}/month" if each["budget"] else "none",
            str(each["rpm"] or "no limit"),
            each["key"] or "MISSING",
            ", ".join(each["routes"]),
        )
        for each in entries
    ]
    print(table(rows, ("CLIENT", "BUDGET", "REQUESTS/MIN", "KEY", "ROUTES")))
    if any(each["key"] is None for each in entries):
        note("keys that are missing are made by `mesh secrets init`, or shown once by `mesh client rotate NAME`")
    return EXIT_OK


def _check_name(name: str) -> None:
    import re

    from mesh.spec.types import NAME_PATTERN

    if not re.fullmatch(NAME_PATTERN, name):
        mend = "use lower-case letters, digits, `.`, `_` and `-`, at most 63, beginning and ending with a letter or digit"
        raise MeshError(f"{name[:80]!r} is not a name that a client can have", mend=mend)


def _value(inventory: Inventory, name: str, routes: str, budget: str | None, rpm: int | None) -> dict[str, Any]:
    """The client as the spec will say it. Raises MeshError for a name that is taken, unknown routes, no sum of money."""
    from pydantic_core import PydanticCustomError

    from mesh.spec.types import parse_money

    mesh = inventory.mesh
    if name in mesh.clients:
        mend = f"edit it there, or give it a new key: mesh client rotate {name}"
        raise MeshError(f"there is a client {name} already", where=_place(inventory, name), mend=mend)
    wanted = list(dict.fromkeys(each.strip() for each in routes.split(",") if each.strip()))
    for route in wanted:
        _one_of(route, mesh.routes, "route", "--routes")
    if not wanted:
        raise MeshError("a client needs a route", where="--routes", mend=f"known: {', '.join(mesh.routes)}")
    value: dict[str, Any] = {"routes": wanted}
    if budget is not None:
        try:
            parse_money(budget)
        except PydanticCustomError as error:
            raise MeshError(error.message(), where="--budget", mend=str((error.context or {})["mend"])) from None
        value["budget"] = " ".join(budget.split())
    if rpm is not None:
        value["rpm"] = rpm
    return value


def _known(inventory: Inventory, name: str) -> None:
    _one_of(name, inventory.mesh.clients, "client", str(inventory.loaded.source.file))


def _one_of(name: str, known: Collection[str], what: str, where: str) -> None:
    if name not in known:
        mend = Suggester().mend(name, known, f"`{what}s:` in the spec lists them")
        raise MeshError(f"the spec has no {what} {name[:80]!r}", where=where, mend=mend)


def _own_file(inventory: Inventory, name: str, value: dict[str, Any] | None = None) -> tuple[Path, bytes]:
    """The spec's file and its content. Raises MeshError, saying what to edit by hand, where the clients are not in it.

    value: what is to be added; None where the client is to be removed.
    """
    from mesh.edit.entries import one_line
    from mesh.spec.load import read_bounded, spec_file

    file = spec_file(inventory.dir)
    place = _place(inventory, name)
    by_hand = (
        f"remove it by hand at {place}" if value is None else f"add by hand, then `mesh secrets init`:  {one_line(name, value)}"
    )
    if file.suffix == ".py":
        raise MeshError("a spec in Python is not edited by the tool", where=str(file), mend=by_hand)
    content = read_bounded(file)
    if value is None:
        elsewhere = place.file != str(file)
    else:
        others = [_place(inventory, each).file for each in inventory.mesh.clients]
        elsewhere = bool(others) and str(file) not in others
        place = inventory.loaded.source.locate((_SECTION,), key=True)
    if elsewhere:
        raise MeshError("the clients are in a file that this spec extends", where=place, mend=by_hand)
    return file, content


def _place(inventory: Inventory, name: str) -> Location:
    return inventory.loaded.source.locate((_SECTION, name), key=True)


def _refuse_outside(inventory: Inventory, secret: str) -> None:
    from mesh.secrets.sources import describe

    source = inventory.mesh.secrets.get(secret)
    if source is not None:
        mend = f"change it there, or remove secrets.{secret} from the spec"
        raise MeshError(f"the key comes from elsewhere ({describe(source.source)})", where=f"secret:{secret}", mend=mend)


def _look_at(inventory: Inventory, edited: Inventory, refusal: str, mend: str = "") -> list[Finding]:
    """The findings about the edited spec that are no errors. Raises MeshError when it has errors, before it is written.

    A secret without a value is no obstacle: the key is made afterwards, and other keys are not this verb's matter.
    """
    findings = _findings(edited)
    errors = _errors(findings)
    if errors:
        before = _errors(_findings(inventory))
        if before:
            raise SpecInvalid(before)
        why = "\n        ".join(f"{each.message} [{each.rule}]" for each in errors)
        raise MeshError(refusal, where=str(inventory.loaded.source.file), why=why, mend=mend or errors[0].mend)
    return [finding for finding in findings if finding.severity != "error"]


def _findings(inventory: Inventory) -> tuple[Finding, ...]:
    from mesh.validate import validate

    try:
        return validate(inventory)
    except SpecInvalid as invalid:
        return invalid.findings


def _errors(findings: Collection[Finding]) -> list[Finding]:
    return [each for each in findings if each.severity == "error" and each.rule != "secret-missing"]


def _new_key() -> Secret:
    from mesh.secrets.own import generate

    return Secret(generate("client_key"))


def _write(file: Path, edited: Inventory) -> None:
    """The edited spec in place of the old one, with the same permissions."""
    from mesh.files import write_atomically

    assert edited.content is not None
    write_atomically(file, edited.content, mode=file.stat().st_mode & 0o777)


def _hand_out(key: Secret, *, quiet: bool) -> None:
    """The one time that a key is written anywhere but into secrets.age."""
    if not quiet:
        note("its key:")
    print(key.reveal(), flush=True)


def _say_once(name: str) -> None:
    note(f"The key is shown this once. If it is lost: mesh client rotate {name}")


def _changing(inventory: Inventory, secret: str) -> str:
    """`; it changes litellm on vm-docker`: the stacks that hold the secret. Empty where the spec does not compile."""
    try:
        deployment = inventory.deployment(preview=True)
    except MeshError:
        return ""
    stacks = [
        f"{stack.name} on {host.name}"
        for host in deployment.hosts.values()
        for stack in host.stacks
        if any(secret in file.secret_names for file in stack.files)
    ]
    return f"; it changes {', '.join(stacks)}" if stacks else ""
