"""Everything that `mesh check` does with an opened inventory: gather what the rules need, apply them, compile what passed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from typing import Any

from mesh.catalogue import Catalogue
from mesh.compile.library import StackFolder, StackLibrary
from mesh.errors import Location, MeshError
from mesh.findings import Finding, Path, SpecInvalid, sorted_by_place
from mesh.inventory import Inventory
from mesh.paths import STACKS
from mesh.rules import check
from mesh.rules.world import Published, StackFacts, World
from mesh.secrets.fingerprints import SALT
from mesh.secrets.store import PLACEHOLDER
from mesh.spec.mesh import Mesh
from mesh.state.deployment import Deployment


def require_valid(inventory: Inventory) -> None:
    """Raise SpecInvalid when `mesh check` has errors: what every verb asks before it acts on a spec."""
    findings = validate(inventory, compiled=lambda: inventory.deployment(preview=True))
    if any(finding.severity == "error" for finding in findings):
        raise SpecInvalid(findings)


def validate(
    inventory: Inventory, today: date | None = None, compiled: Callable[[], Deployment] | None = None
) -> tuple[Finding, ...]:
    """Every finding about the inventory. Raises SpecInvalid when the spec cannot even be loaded.

    compiled: gives what the spec compiles to, for verbs that need it anyway. Without it no secret is asked for its value.
    """
    loaded = inventory.loaded
    kinds = _kinds()
    library, findings = _library(inventory, kinds)
    stacks, more = _stack_facts(inventory, library)
    findings += more
    secret_names, more = _secret_names(inventory)
    findings += more
    locked, more = _locked(inventory)
    findings += more
    catalogue = Catalogue.load(inventory.dir)
    world = World(kinds, stacks, secret_names, {SALT: ""} if stacks else {}, locked, catalogue, today or date.today())
    checked = check(loaded, world)
    if not any(finding.severity == "error" and finding.rule != "secret-missing" for finding in (*findings, *checked)):
        needed, more = _needed_secrets(inventory, compiled)
        findings += more
        checked = check(loaded, replace(world, needed_secrets={**world.needed_secrets, **needed}))
    return tuple(sorted_by_place((*findings, *checked)))


def _finding(inventory: Inventory, rule: str, error: MeshError, path: Path, where: str = "") -> Finding:
    """A MeshError of another part of the tool as a finding at `path` of the spec, or else in the file that it is about."""
    location = Location(where) if where else inventory.loaded.source.locate(path)
    message = f"{error.what}: {error.why}" if error.why else error.what
    if error.where and not where:
        message = f"{message} ({error.where})" if error.where not in message else message
    return Finding(rule, "error", message, error.mend, location, path)


def _section(mesh: Mesh, stack: str) -> Path:
    return ("stacks" if stack in mesh.stacks else "providers", stack)


def _kinds() -> frozenset[str]:
    return frozenset(folder.name for folder in STACKS.iterdir() if folder.is_dir())


def _library(inventory: Inventory, kinds: frozenset[str]) -> tuple[StackLibrary | None, list[Finding]]:
    """The stack folders of the whole spec, or those that can be read and a finding for each that cannot."""
    mesh, findings = inventory.mesh, []
    unknown = {name for name, stack in mesh.stacks.items() if stack.source is None and (stack.kind or name) not in kinds}
    if not unknown:
        with contextlib.suppress(MeshError):
            return inventory.library, []
    library: StackLibrary | None = None
    read: dict[tuple[str, str], StackFolder | MeshError] = {}
    folders: dict[str, StackFolder] = {}
    for name, stack in mesh.stacks.items():
        if name in unknown:
            continue  # `stack-unknown` says so
        identity = ("source", stack.source) if stack.source is not None else ("kind", stack.kind or name)
        if identity not in read:
            try:
                library = StackLibrary.load(
                    STACKS, inventory.dir, mesh.model_copy(update={"providers": {}, "stacks": {name: stack}})
                )
                read[identity] = library.folders[name]
            except MeshError as error:
                read[identity] = error
        folder = read[identity]
        if isinstance(folder, MeshError):
            findings.append(_finding(inventory, "stack-folder", folder, ("stacks", name)))
        else:
            folders[name] = folder
    return (StackLibrary(folders, library.defaults) if library else None), findings


def _stack_facts(inventory: Inventory, library: StackLibrary | None) -> tuple[dict[str, StackFacts], list[Finding]]:
    mesh, facts, findings = inventory.mesh, {}, []
    for name, folder in library.folders.items() if library else ():
        stack = mesh.stacks.get(name)
        kind = (stack.kind or name) if stack else "ollama"
        try:
            assert library is not None
            images = library.images(mesh, name)
            if folder.contract is None:
                ports = tuple(published_ports(library.plain(mesh, name).data))
            else:
                usual = folder.contract.port if stack and stack.port is None else None
                ports = (Published(usual),) if usual else ()
            facts[name] = StackFacts(kind, images, ports)
        except MeshError as error:
            findings.append(_finding(inventory, "stack-folder", error, _section(mesh, name)))
    return facts, findings


_SHORT = re.compile(
    r"(?:(?P<address>\[[0-9a-fA-F:]+\]|[0-9.]+):)?(?P<port>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?:[0-9-]+(?:/(?P<protocol>\w+))?"
)


def published_ports(project: Mapping[str, Any]) -> Iterator[Published]:
    """The host ports that a plain Compose file publishes, less those that Compose or a variable chooses."""
    for service in project["services"].values():
        for entry in service.get("ports") or ():
            if isinstance(entry, dict):
                first, address, protocol = str(entry.get("published", "")), entry.get("host_ip"), entry.get("protocol", "tcp")
                last = first
            else:
                match = _SHORT.fullmatch(str(entry))
                if match is None:
                    continue
                first, last = match["port"], match["last"] or match["port"]
                address, protocol = match["address"], match["protocol"] or "tcp"
            if first.isdecimal() and last.isdecimal() and int(last) < 65536:
                for port in range(int(first), int(last) + 1):
                    yield Published(port, str(address or "0.0.0.0"), str(protocol))


def _secret_names(inventory: Inventory) -> tuple[frozenset[str] | None, list[Finding]]:
    """Names of secrets that have a value; None where no file says so."""
    age, index = inventory.dir / "secrets.age", inventory.dir / "secrets.index"
    if not age.exists() and not index.exists():
        return None, []
    try:
        store = inventory.secrets
        return (store.names() if index.exists() or store.openable else None), []
    except MeshError as error:
        return None, [_finding(inventory, "secret-file", error, (), str(index))]


def _locked(inventory: Inventory) -> tuple[frozenset[str], list[Finding]]:
    try:
        return frozenset(inventory.lock.images), []
    except MeshError as error:
        return frozenset(), [_finding(inventory, "image-lock", error, (), str(inventory.dir / "images.lock"))]


def _needed_secrets(inventory: Inventory, compiled: Callable[[], Deployment] | None) -> tuple[dict[str, str], list[Finding]]:
    """What the compiled stacks need: secret -> stack. A spec that passed the rules and yet does not compile is a finding."""
    from mesh.compile.compiler import compile_mesh

    try:
        deployment = (
            compiled() if compiled else compile_mesh(inventory.mesh, inventory.library, inventory.lock, lambda _: PLACEHOLDER)
        )
    except MeshError as error:
        return {}, [_finding(inventory, "stack-compile", error, _path_in(error.where))]
    needed: dict[str, str] = {}
    for host in deployment.hosts.values():
        for stack in host.stacks:
            for secret in (name for file in stack.files for name in file.secret_names):
                needed.setdefault(secret, stack.name)
    return needed, []


def _path_in(where: str) -> Path:
    """`routes.bulk` of an error of the compiler's, as a path."""
    section, _, name = where.partition(".")
    return (section, name) if section in Mesh.model_fields and name else ()
