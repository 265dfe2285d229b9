"""`mesh secrets init|set|list|edit|rm`. Values go in by stdin, prompt or editor, and never come out on a terminal."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesh.cli.output import note, print_error, style, table
from mesh.errors import EXIT_OK, MeshError
from mesh.files import exclusive
from mesh.inventory import open_inventory
from mesh.secrets import document
from mesh.secrets.agefile import IDENTITY_VARIABLE, AgeFile, NotOpenableError, create_identity, identity_path, load_identities
from mesh.secrets.sources import describe, without_line_end
from mesh.secrets.value import Secret

if TYPE_CHECKING:
    from mesh.spec.mesh import Mesh


def init(folder: Path, *, replace: bool) -> int:
    """Make the identity, secrets.age and the mesh's own secrets, each only where it is missing."""
    from mesh.secrets.own import generate, own_secrets

    mesh = open_inventory(folder).mesh
    own, path = own_secrets(mesh), identity_path()
    if not path.exists():
        if AgeFile(folder).path.exists() and not replace:
            raise _another_key(
                NotOpenableError("these secrets belong to a key that is not here", where=str(folder / "secrets.age"))
            )
        create_identity(path)
        note(f"made {path}: keep a copy of it in a safe place, nothing else opens your secrets")
    identities = load_identities(path)
    with exclusive(folder, _waiting):
        file = AgeFile(folder)
        values, recipients = _open_or_start(file, identities, replace=replace)
        missing = [name for name in own if name not in values]
        values |= {name: Secret(generate(name)) for name in missing}
        if missing or not file.index().recipients:
            file.save(values, recipients)
    for name in missing:
        note(f"made {name} ({own[name]})")
    note(f"{file.path}: {len(values)} secrets, {len(missing)} of them new")
    _say_what_is_missing(mesh, frozenset(values))
    return EXIT_OK


def _open_or_start(file: AgeFile, identities: list[Any], *, replace: bool) -> tuple[dict[str, Secret], tuple[str, ...]]:
    """What is in the file and who can open it. A new file is for the first identity alone."""
    mine = (str(identities[0].to_public()),)
    if not file.path.exists():
        return {}, mine
    try:
        return file.open(identities), file.index().recipients or mine
    except NotOpenableError as error:
        if not replace:
            raise _another_key(error) from None
    aside = file.path.with_name("secrets.age.replaced")
    file.path.replace(aside)
    note(f"kept the other key's file as {aside}")
    return {}, mine


def _another_key(error: NotOpenableError) -> MeshError:
    mend = f"point ${IDENTITY_VARIABLE} at the key it was made for, or start anew (it is kept aside): mesh secrets init --replace"
    return MeshError(error.what, where=error.where, why=error.why, mend=mend)


def set_value(folder: Path, name: str) -> int:
    """Set one secret to what stdin holds, or to what is typed at a hidden prompt."""
    if not document.NAME.fullmatch(name):
        raise MeshError(f"{name!r} is not a name of a secret", mend="use lower case, digits and _, at most 63 characters")
    mesh = _spec_if_sound(folder)
    if mesh and name in mesh.secrets:
        source = describe(mesh.secrets[name].source)
        raise MeshError(
            f"the spec takes {name} from elsewhere ({source})", mend=f"set it there, or remove secrets.{name} from the spec"
        )
    AgeFile(folder).open(
        load_identities(identity_path())
    )  # says at once, not after the value was typed, that it cannot be stored
    value = Secret(_read_value(name))
    with _changing(folder) as values:
        known = name in values
        values[name] = value
    note(f"{'changed' if known else 'set'} {name}")
    if mesh:
        from mesh.secrets.own import uses
        from mesh.suggest import Suggester

        needed = uses(mesh)
        if name not in needed:
            near = Suggester().nearest(name, needed)
            note(f"nothing in the spec uses secret:{name}" + (f"; did you mean {near}?" if near else ""))
    return EXIT_OK


def remove(folder: Path, name: str) -> int:
    """Remove one secret from secrets.age."""
    with _changing(folder) as values:
        if name not in values:
            from mesh.suggest import Suggester

            mend = Suggester().mend(name, values, "`mesh secrets list` lists the names")
            raise MeshError(f"there is no secret {name}", where=str(folder / "secrets.age"), mend=mend)
        del values[name]
    note(f"removed {name}")
    return EXIT_OK


def edit(folder: Path) -> int:
    """All secrets in the operator's editor."""
    from mesh.secrets.editing import edit as edit_text

    with _changing(folder) as values:
        before = dict(values)
        after = edit_text(before, _ask_to_try_again)
        values.clear()
        values.update(after)
    changed = [name for name in sorted(before | after) if before.get(name) != after.get(name)]
    note(f"changed: {', '.join(changed)}" if changed else "nothing changed")
    return EXIT_OK


def _ask_to_try_again(error: MeshError) -> bool:
    print_error(error)
    if not sys.stdin.isatty():
        return False
    print("Open the editor again? [Y/n] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"", "y", "yes"}


def list_names(folder: Path, *, as_json: bool) -> int:
    """Every name: where its value comes from, what uses it, and whether there is one."""
    from mesh.secrets.own import uses

    inventory = open_inventory(folder)
    mesh, store = inventory.mesh, inventory.secrets
    needed, in_file = uses(mesh), store.names_in_file()
    names = sorted({*needed, *in_file, *mesh.secrets})
    sources = {
        name: describe(mesh.secrets[name].source) if name in mesh.secrets else "secrets.age" for name in {*mesh.secrets, *in_file}
    }
    if as_json:
        import json

        entries = [{"name": name, "source": sources.get(name), "used_by": needed.get(name, [])} for name in names]
        print(json.dumps({"openable": store.openable, "secrets": entries}, indent=2))
        return EXIT_OK
    rows = [(name, sources.get(name, "MISSING"), ", ".join(needed.get(name, ["nothing"]))) for name in names]
    print(table(rows, ("NAME", "SOURCE", "USED BY")))
    if in_file and not store.openable:
        note(
            style(
                f"secrets.age cannot be opened with {identity_path()}: the names are those of its index",
                "yellow",
                stream=sys.stderr,
            )
        )
    _say_what_is_missing(mesh, store.names())
    return EXIT_OK


def _say_what_is_missing(mesh: Mesh, present: frozenset[str]) -> None:
    from mesh.secrets.own import own_secrets, uses

    own = own_secrets(mesh)
    missing = sorted(set(uses(mesh)) - present - set(mesh.secrets))
    to_make = [name for name in missing if name in own]
    to_set = [name for name in missing if name not in own]
    if to_make:
        note(f"missing, and made by `mesh secrets init`: {', '.join(to_make)}")
    if to_set:
        note(f"missing, and yours to set with `mesh secrets set NAME`: {', '.join(to_set)}")


@dataclass(frozen=True, slots=True)
class OpenSecrets:
    """secrets.age, opened and held: nobody else changes it meanwhile."""

    file: AgeFile
    values: dict[str, Secret]
    recipients: tuple[str, ...]

    def save(self) -> None:
        """Write `values` back."""
        self.file.save(self.values, self.recipients)


@contextmanager
def open_secrets(folder: Path) -> Iterator[OpenSecrets]:
    """secrets.age of an inventory, for changing it. The folder is held until the body ends."""
    open_inventory(folder)
    with exclusive(folder, _waiting):
        file = AgeFile(folder)
        identities = load_identities(identity_path())
        yield OpenSecrets(file, file.open(identities), file.index().recipients or (str(identities[0].to_public()),))


@contextmanager
def _changing(folder: Path) -> Iterator[dict[str, Secret]]:
    """The secrets to change in place; written back when the body ends without an error and something is different."""
    with open_secrets(folder) as held:
        before = dict(held.values)
        yield held.values
        if held.values != before:
            held.save()


def _waiting() -> None:
    note("another `mesh secrets` has the secrets open: waiting for it to end")


def _spec_if_sound(folder: Path) -> Mesh | None:
    """The spec for hints; a broken spec must not keep a secret from being set."""
    try:
        return open_inventory(folder).mesh
    except MeshError:
        return None


def _read_value(name: str) -> str:
    if sys.stdin.isatty():
        value = getpass.getpass(f"{name} (not shown): ")
    else:
        try:
            value = without_line_end(sys.stdin.buffer.read().decode("utf-8"))
        except UnicodeDecodeError:
            raise MeshError(
                "the value is not UTF-8 text", where=f"secret:{name}", mend="encode it, as base64 for instance"
            ) from None
    if not value.strip():
        raise MeshError(
            "an empty value is refused", where=f"secret:{name}", mend=f"pipe it in, or type it: mesh secrets set {name}"
        )
    return value
