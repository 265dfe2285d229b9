"""`mesh lock`: resolve the tag of every image to its digest and write images.lock."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from mesh.cli.output import note, print_error
from mesh.compile.images import ImageLock, ImageRef
from mesh.errors import EXIT_ERROR, EXIT_OK, MeshError
from mesh.files import write_atomically
from mesh.inventory import open_inventory

_AT_ONCE = 8


def run(folder: Path) -> int:
    """Look up every image of the spec. One that cannot be looked up keeps its old digest, and the exit code says so."""
    inventory = open_inventory(folder)
    mesh, library = inventory.mesh, inventory.library
    images = sorted({image for stack in library.placements(mesh) for image in library.images(mesh, stack).values()})
    images = [image for image in images if not ImageRef.parse(image).digest]
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
