"""`mesh lock`: resolve the tag of every image to its digest and write images.lock. `--check`: what is newer, writing nothing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from mesh.cli.output import note, print_error, table
from mesh.compile.images import ImageLock, ImageRef
from mesh.compile.versions import newest
from mesh.errors import EXIT_CHANGES, EXIT_ERROR, EXIT_OK, MeshError
from mesh.files import write_atomically
from mesh.inventory import open_inventory

_AT_ONCE = 8


def run(folder: Path) -> int:
    """Look up every image of the spec. One that cannot be looked up keeps its old digest, and the exit code says so."""
    images = [image for image in _images(folder) if not ImageRef.parse(image).digest]
    old, new = _old_lock(folder), ImageLock()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        results = list(pool.map(_resolve, images))
    failed = 0
    today = datetime.now(UTC).date().isoformat()
    for image, result in zip(images, results, strict=True):
        before = old.images.get(image)
        if isinstance(result, MeshError):
            failed += 1
            print_error(result)
            if before:
                new = new.with_image(image, before.digest, before.resolved)
        elif before and before.digest == result:
            new = new.with_image(image, before.digest, before.resolved)
        else:
            new = new.with_image(image, result, today)
            print(f"{image}  {f'{before.digest[:19]} -> ' if before else ''}{result[:19]}")
    gone = sorted(old.images.keys() - new.images.keys())
    for image in gone:
        print(f"{image}  removed: nothing uses it")
    path = folder / "images.lock"
    if new.images != old.images or not path.exists():
        write_atomically(path, new.dump().encode())
    note(f"{path}: {len(new.images)} images pinned" + (f", {failed} could not be looked up" if failed else ""))
    return EXIT_ERROR if failed else EXIT_OK


def check(folder: Path, *, as_json: bool) -> int:
    """Which images are newer upstream. 0: none, 2: some, 1: one could not be looked up."""
    images = _images(folder)
    lock = _old_lock(folder)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        results = list(pool.map(partial(_look_up, lock), images))
    rows = [each for each in results if isinstance(each, Upstream)]
    errors = [each for each in results if isinstance(each, MeshError)]
    behind = [each for each in rows if each.newer or each.moved]
    if as_json:
        entries = [{"image": each.image, "newer": each.newer, "moved": each.moved} for each in rows]
        failed = [{"image": each.where, "why": each.what} for each in errors]
        print(json.dumps({"version": 1, "images": entries, "unknown": failed}, indent=2))
    elif behind:
        print(
            table([(each.image, each.newer or "-", "yes" if each.moved else "-") for each in behind], ("IMAGE", "NEWER", "MOVED"))
        )
    for error in errors:
        print_error(error)
    note(f"{len(images)} images: {len(behind)} newer or moved upstream, {len(errors)} could not be looked up")
    return EXIT_ERROR if errors else EXIT_CHANGES if behind else EXIT_OK


@dataclass(frozen=True, slots=True)
class Upstream:
    """What the registry has: newer: the highest tag of the same kind above the image's. moved: its tag has another digest."""

    image: str
    newer: str | None
    moved: bool


def _look_up(lock: ImageLock, image: str) -> Upstream | MeshError:
    from mesh.registry import resolve, tags

    reference = ImageRef.parse(image)
    locked = reference.digest or (lock.images[image].digest if image in lock.images else "")
    try:
        newer = newest(reference.tag, tags(reference.repo)) if reference.tag else None
        moved = bool(locked and reference.tag) and resolve(reference.repo, reference.tag) != locked
    except MeshError as error:
        return error
    return Upstream(image, newer, moved)


def _images(folder: Path) -> list[str]:
    """Every image of the spec, as it is written."""
    inventory = open_inventory(folder)
    mesh, library = inventory.mesh, inventory.library
    return sorted({image for stack in library.placements(mesh) for image in library.images(mesh, stack).values()})


def _old_lock(folder: Path) -> ImageLock:
    """The lock to go on from. A damaged one is written anew, as its own error message says."""
    try:
        return ImageLock.load(folder / "images.lock")
    except MeshError as error:
        note(f"{error.what}: written anew")
        return ImageLock()


def _resolve(image: str) -> str | MeshError:
    from mesh.registry import resolve

    ref = ImageRef.parse(image)
    if not ref.tag:
        return MeshError("the image has no tag", where=image, mend="name an exact one, such as :1.2.3")
    try:
        return resolve(ref.repo, ref.tag)
    except MeshError as error:
        return error
