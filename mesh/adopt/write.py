"""Writing what was adopted: images.lock, secrets, the host, the folders, and the spec last. Killed anywhere, nothing is half."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import secrets
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mesh.adopt.source import Adoption
from mesh.compile.images import ImageLock
from mesh.errors import MeshError
from mesh.files import write_atomically
from mesh.findings import Finding, SpecInvalid
from mesh.inventory import Inventory
from mesh.live.holder import this_run, who
from mesh.live.remote import Remote
from mesh.live.ssh import Target, run_script
from mesh.state.deployment import StackRelease
from mesh.state.observed import Unknown
from mesh.state.release import release_id

FOLDER = "stacks"
"""Where adopted stacks go, below the inventory."""
_STAGE = ".adopt-"


@dataclass(frozen=True, slots=True)
class Staged:
    """Folders that are written beside their place, and the spec that would name them there."""

    folder: Path
    stage: Path
    spec: Path
    content: bytes
    host: str

    def edited(self, adoptions: Sequence[Adoption], *, final: bool = False) -> Inventory:
        """The inventory with these in its spec. final: at their place, not at the stage."""
        from mesh.edit.entries import added

        content = self.content
        for each in adoptions:
            name = each.project.name
            source = f"{FOLDER}/{name}" if final else f"{FOLDER}/{self.stage.name}/{name}"
            entry: dict[str, str | Mapping[str, str]] = {"on": self.host, "source": source}
            for key, values in (("env", each.env), ("secrets", each.secret_files)):
                if values:
                    entry[key] = {name: f"secret:{secret}" for name, secret in values.items()}
            content = added(content, str(self.spec), "stacks", name, entry)
        return Inventory(self.folder, content)


@contextlib.contextmanager
def staged(inventory: Inventory, host: str, adoptions: Sequence[Adoption]) -> Iterator[Staged]:
    """The folders, written where nothing reads them. What is not moved on is gone afterwards."""
    from mesh.spec.load import read_bounded, spec_file

    spec = spec_file(inventory.dir)
    if spec.suffix == ".py":
        raise MeshError("a spec in Python is not edited by the tool", where=str(spec), mend="adopt into a mesh.yaml")
    parent = inventory.dir / FOLDER
    try:
        parent.mkdir(exist_ok=True)
        for left in parent.glob(f"{_STAGE}*"):  # of a run that was killed
            shutil.rmtree(left)
        stage = Path(tempfile.mkdtemp(prefix=_STAGE, dir=parent))
        stage.chmod(0o755)
        try:
            for each in adoptions:
                for path, (content, executable) in each.files.items():
                    target = stage / each.project.name / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content)
                    target.chmod(0o755 if executable else 0o644)
            yield Staged(inventory.dir, stage, spec, read_bounded(spec), host)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
            with contextlib.suppress(OSError):
                parent.rmdir()  # where nothing was adopted after all
    except OSError as error:
        raise MeshError("the stack's folder cannot be written", where=str(parent), why=error.strerror or str(error)) from error


def sound(place: Staged, adoptions: Sequence[Adoption]) -> tuple[list[Adoption], dict[str, str]]:
    """Those with which the spec has no errors, and why not the others."""
    kept, refused = list(adoptions), dict[str, str]()
    while kept:
        errors = [each for each in _findings(place.edited(kept)) if each.severity == "error" and each.rule != "secret-missing"]
        if not errors:
            break
        names = [each.project.name for each in kept]
        bad = {name: each for each in errors for name in names if _is_about(each, place.stage, name)}
        if not bad:
            raise SpecInvalid(errors)
        for name, finding in bad.items():
            refused[name] = f"{finding.message} [{finding.rule}]; {finding.mend}".replace(f"{place.stage.name}/", "")
        kept = [each for each in kept if each.project.name not in bad]
    return kept, refused


def _is_about(finding: Finding, stage: Path, name: str) -> bool:
    """Whether it blames the stack's entry in the spec or a file of its folder."""
    return finding.path[:2] == ("stacks", name) or f"{stage.name}/{name}/" in f"{finding.location} {finding.message}"


def _findings(inventory: Inventory) -> Sequence[Finding]:
    from mesh.validate import validate

    try:
        return validate(inventory)
    except SpecInvalid as invalid:
        return invalid.findings


def write_lock(folder: Path, lock: ImageLock, adoptions: Sequence[Adoption]) -> None:
    """images.lock with the digests that run."""
    today = datetime.now(UTC).date().isoformat()
    new = lock
    for each in adoptions:
        for image, digest in each.pins.items():
            new = new if image in new.images else new.with_image(image, digest, today)
    if new.images != lock.images:
        write_atomically(folder / "images.lock", new.dump().encode())


def write_host(inventory: Inventory, target: Target, adoptions: Sequence[Adoption]) -> None:
    """The rendered files and the record of each stack, below the mesh's root. inventory: with the adopted stacks in it."""
    mesh = inventory.mesh
    at = datetime.now(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
    run = secrets.token_hex(6)
    stacks = {stack.name: stack for stack in inventory.deployment().hosts[target.name].stacks}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for each in adoptions:
            stack = stacks[each.project.name]
            record = json.dumps(_record(stack, each, mesh.mesh, at)) + "\n"
            for file in stack.files:
                path = f"new/stacks/{file.path.removeprefix(f'{mesh.root}/stacks/')}"
                _add(tar, path, file.content(inventory.secrets.value), file.mode)
            _add(tar, f"new/stacks/{stack.name}/.release.json", record.encode(), 0o644)
    names = sorted(each.project.name for each in adoptions)
    journal = json.dumps({"run": run, "at": at, "by": who(), "verb": "adopt", "finished": True, "adopted": names})
    more = [Path(__file__).with_name("adopt.sh")]
    remote = Remote(mesh.root, target.reach.docker, run)
    stdin = base64.encodebytes(buffer.getvalue()).decode()
    answer = run_script(target, remote.script("adopt", str(this_run(run, at)), journal, stdin=stdin, more=more))
    if isinstance(answer, Unknown):
        raise MeshError("the files could not be put on the host", where=target.name, why=answer.why, mend=answer.mend)


def _record(stack: StackRelease, adoption: Adoption, mesh: str, at: str) -> dict[str, object]:
    """`.release.json`, with what Compose made the containers from: by it they are known for what they are."""
    services = {}
    for service in stack.services:
        container = adoption.project.of(service.name)
        if container is not None:
            services[service.name] = {
                "digest": service.digest,
                "config_hash": container.config_hash,
                "image_id": container.image_id,
            }
    files = [file.path.removeprefix(f"{stack.directory}/") for file in stack.files]
    return {"release": release_id(stack), "mesh": mesh, "at": at, "by": who(), "files": files, "services": services}


def _add(tar: tarfile.TarFile, path: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def write_inventory(place: Staged, adoptions: Sequence[Adoption]) -> None:
    """The folders to their place, then the spec that names them."""
    edited = place.edited(adoptions, final=True)
    assert edited.content is not None
    for each in adoptions:
        target = place.folder / FOLDER / each.project.name
        if target.exists():  # of a run that was killed before it wrote the spec; what_is_there has made sure that it is the same
            shutil.rmtree(target)
        (place.stage / each.project.name).rename(target)
    write_atomically(place.spec, edited.content, mode=place.spec.stat().st_mode & 0o777)


def same_folder(folder: Path, adoption: Adoption) -> bool:
    """Whether the inventory has exactly this folder already, or none of that name."""
    target = folder / FOLDER / adoption.project.name
    if not target.exists():
        return True
    found = {file.relative_to(target).as_posix(): file.read_bytes() for file in target.rglob("*") if file.is_file()}
    return found == {path: content for path, (content, _) in adoption.files.items()}
