"""`mesh adopt HOST`: the Compose projects that run there become stacks of the mesh, and nothing restarts."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mesh.adopt.folder import adoption, refused
from mesh.adopt.host import FoundHost, FoundProject, RemoteFile, fetch, hashes, list_host
from mesh.adopt.source import Adoption, NotAdoptableError, Source
from mesh.adopt.write import FOLDER, Staged, same_folder, sound, staged, write_host, write_inventory, write_lock
from mesh.cli.look import count, safe
from mesh.cli.output import confirm, note, style
from mesh.cli.secrets import open_secrets
from mesh.compile.images import ImageLock
from mesh.errors import EXIT_ERROR, EXIT_OK, MeshError
from mesh.inventory import Inventory, open_inventory
from mesh.live.ssh import Target
from mesh.secrets.value import Secret
from mesh.suggest import Suggester
from mesh.validate import require_valid

_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")


def run(folder: Path, host: str, *, stacks: Collection[str], dry_run: bool, yes: bool) -> int:
    """Take over the projects of one host. 0: those that can be are (or would be), 1: one that was named cannot be."""
    with open_secrets(folder) as held:
        inventory = open_inventory(folder)
        require_valid(inventory)
        mesh = inventory.mesh
        if host not in mesh.hosts:
            raise MeshError(f"the spec has no host {host}", mend=Suggester().mend(host, mesh.hosts, "`hosts:` lists them"))
        target = Target(host, mesh.hosts[host].reach, inventory.dir)
        managed = [name for name, place in inventory.library.placements(mesh).items() if place.host_name == host]
        found = list_host(target, root=mesh.root, managed=managed)
        unknown = sorted(set(stacks) - set(found.projects))
        if unknown:
            mend = Suggester().mend(unknown[0], found.projects, "`docker compose ls` lists them") if found.projects else ""
            raise MeshError(f"no project {unknown[0]} runs there that the mesh does not have", where=host, mend=mend)
        wanted = {name: each for name, each in found.projects.items() if not stacks or name in stacks}
        taken = {name: value.reveal() for name, value in held.values.items()}
        adoptions, left = _adoptions(inventory, target, wanted, found, taken)
        with staged(inventory, host, adoptions) as place:
            adoptions, more = sound(place, adoptions)
            left |= more
            _show(adoptions, left, found.loose if not stacks else {})
            failed = EXIT_ERROR if stacks and left else EXIT_OK
            if not adoptions:
                print(f"nothing to adopt on {host}")
                return failed
            if dry_run:
                print(f"would adopt {count(len(adoptions), 'project')}; nothing was written")
                return failed
            question = f"Write {count(len(adoptions), 'folder')}, their secrets and the spec? No container is touched."
            if not yes and not confirm(question, otherwise="read what it shows, then run it with -y"):
                note("nothing was written")
                return EXIT_ERROR
            write_lock(inventory.dir, inventory.lock, adoptions)
            held.values.update({name: Secret(value) for each in adoptions for name, value in each.values.items()})
            held.save()
            _write(place, target, adoptions)
    print(f"adopted {', '.join(each.project.name for each in adoptions)}: no container was touched")
    note("next: `mesh plan` is empty; the first change of a stack makes its containers anew, once, with the mesh's labels")
    return failed


def _write(place: Staged, target: Target, adoptions: Sequence[Adoption]) -> None:
    """The host first: the spec must not name what the host does not have."""
    edited = place.edited(adoptions)
    require_valid(edited)
    write_host(edited, target, adoptions)
    write_inventory(place, adoptions)


def _adoptions(
    inventory: Inventory, target: Target, projects: Mapping[str, FoundProject], found: FoundHost, taken: Mapping[str, str]
) -> tuple[list[Adoption], dict[str, str]]:
    """What can be taken over, and why the rest cannot."""
    left: dict[str, str] = {}
    sources = _sources(inventory, target, projects, found, left)
    files, trees = set[str](), set[str]()
    for name, source in list(sources.items()):
        try:
            more_files, more_trees = source.wanted()
            files.update(more_files)
            trees.update(more_trees)
        except NotAdoptableError as error:
            left[name] = str(error)
            del sources[name]
    fetched = fetch(target, sorted(files), sorted(trees))
    now = hashes(target, [each.project for each in sources.values()]) if sources else {}
    adoptions: list[Adoption] = []
    lock = inventory.lock
    secrets = dict(taken)
    for name, source in sources.items():
        try:
            each = adoption(source, fetched, found.digests, lock, secrets)
        except NotAdoptableError as error:
            left[name] = str(error)
            continue
        except MeshError as error:
            left[name] = refused(error)
            continue
        if not same_folder(inventory.dir, each):
            left[name] = f"{inventory.dir / FOLDER / name} is there already and says something else: move it away"
            continue
        adoptions.append(_with_hash_notes(each, now.get(name, {}), source))
        for image, digest in each.pins.items():
            lock = lock if image in lock.images else ImageLock({**lock.images}).with_image(image, digest, "")
        secrets |= each.values
    return adoptions, left


def _with_hash_notes(each: Adoption, now: Mapping[str, str], source: Source) -> Adoption:
    """Says which services run otherwise than their file says now. Compose's hash of one with an env_file tells nothing."""
    from dataclasses import replace

    changed = sorted(
        {
            it.service
            for it in each.project.containers
            if it.config_hash not in {"", now.get(it.service, it.config_hash)}
            and not source.data["services"].get(it.service, {}).get("env_file")
        }
    )
    if not changed:
        return each
    words = f"{', '.join(changed)}: its file was edited since it was brought up, or another Compose made it"
    return replace(each, notes=(*each.notes, words))


def _sources(
    inventory: Inventory, target: Target, projects: Mapping[str, FoundProject], found: FoundHost, left: dict[str, str]
) -> dict[str, Source]:
    """The files of those that can be taken over by their look; `left` gets the others."""
    candidates = {}
    for name, project in projects.items():
        why = _why_not(inventory, project, found)
        if why:
            left[name] = why
        else:
            candidates[name] = project
    paths = [path for each in candidates.values() for path in (each.config_files[0], *_env_files(each))]
    fetched = fetch(target, dict.fromkeys(paths))
    sources = {}
    for name, project in candidates.items():
        compose = fetched.get(project.config_files[0])
        if compose is None or compose.text is None:
            left[name] = f"its file {project.config_files[0]} is gone, or no text: write it anew from `docker inspect`"
            continue
        try:
            source = Source(project, compose.text, _variables(project, fetched))
        except MeshError as error:
            left[name] = refused(error)
            continue
        built = [service for service, each in source.data["services"].items() if each.get("build")]
        if built:
            left[name] = f"{', '.join(built)} is built there (`build:`), and the mesh runs what a registry holds: push it to one"
        else:
            sources[name] = source
    return sources


def _env_files(project: FoundProject) -> tuple[str, ...]:
    return project.env_files or (f"{project.folder}/.env",)


def _variables(project: FoundProject, fetched: Mapping[str, RemoteFile]) -> str:
    texts = (file.text for path in _env_files(project) if (file := fetched.get(path)))
    return "".join(text if not text or text.endswith("\n") else f"{text}\n" for text in texts if text)


def _why_not(inventory: Inventory, project: FoundProject, found: FoundHost) -> str:
    mesh = inventory.mesh
    places = inventory.library.placements(mesh)
    if project.name in places:
        return f"the spec has a stack of that name on {places[project.name].host_name}: give the project another name first"
    if not _NAME.fullmatch(project.name):
        return "a stack cannot have its name: letters, digits, - and _, at most 63, ending with a letter or digit"
    if not project.config_files or not project.folder:
        return "its containers do not say which file made them: bring it up again with Compose v2"
    if len(project.config_files) > 1:
        merged = "docker compose config --no-interpolate"
        return f"it is made of {len(project.config_files)} files: merge them (`{merged}` prints one), and bring it up from that"
    owner = found.stacks.get(project.name)
    if owner is not None and owner != mesh.mesh:
        return f"{mesh.root}/stacks/{project.name} is there already" + (f", of the mesh {owner}" if owner else "")
    return ""


def _show(adoptions: Sequence[Adoption], left: Mapping[str, str], loose: Mapping[str, str]) -> None:
    for each in adoptions:
        project = each.project
        print(style(f"{project.name}", "bold") + f"  {count(len(project.containers), 'container')}, {project.config_files[0]}")
        rows = [
            ("writes", f"{FOLDER}/{project.name}/: {', '.join(each.files)}"),
            ("secrets", ", ".join(f"{name} -> secret:{secret}" for name, secret in {**each.env, **each.secret_files}.items())),
            ("images", ", ".join(each.pinned)),
            ("stays", ", ".join(each.stays)),
            *(("note", words) for words in each.notes),
        ]
        for what, words in rows:
            if words:
                print(safe(f"    {what:<8} {words}"))
    for name, why in sorted({**left, **loose}.items()):
        print(safe(f"{style('left', 'yellow')}  {name}: {why}"))
