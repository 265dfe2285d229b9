"""An inventory folder, opened: the spec, the secrets, the image lock, the stacks, and what they compile to.

Everything is read when it is first asked for, once. Whatever is wrong with the folder is a `MeshError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mesh.errors import MeshError
from mesh.paths import STACKS

if TYPE_CHECKING:
    from mesh.compile.images import ImageLock
    from mesh.compile.library import StackLibrary
    from mesh.kept import Kept, Watch
    from mesh.secrets.store import SecretStore
    from mesh.spec.load import LoadedSpec
    from mesh.spec.mesh import Mesh
    from mesh.state.deployment import Deployment, Reach
    from mesh.state.ignores import Ignore


class Inventory:
    """One inventory folder. content: of mesh.yaml, in place of what is in the file.

    kept: what it compiled to in an earlier run, if that still holds. watch: what has to be kept of this run.
    """

    def __init__(
        self, folder: Path, content: bytes | None = None, *, kept: Kept | None = None, watch: Watch | None = None
    ) -> None:
        self.dir = folder
        self.content = content
        self._kept = kept
        self._watch = watch
        self.compiled: Kept | None = None
        """Of `checked_deployment`, once that was asked for: for another process, which then need not read the inventory."""

    @cached_property
    def loaded(self) -> LoadedSpec:
        """The spec with the place of everything in its file. Raises SpecInvalid with all findings."""
        from mesh.spec.load import load_spec

        return load_spec(self.dir, self.content)

    @property
    def mesh(self) -> Mesh:
        return self.loaded.mesh

    @cached_property
    def secrets(self) -> SecretStore:
        """Every secret that the spec may refer to, by name."""
        from mesh.secrets.store import SecretStore

        kept = self._kept
        return SecretStore(self.dir, kept.sources if kept else {name: each.source for name, each in self.mesh.secrets.items()})

    @property
    def as_before(self) -> bool:
        """Whether nothing that it is made of has changed since an earlier run."""
        return self._kept is not None

    @cached_property
    def reach(self) -> Mapping[str, Reach]:
        """How to reach every host."""
        return self._kept.reach if self._kept else {name: host.reach for name, host in self.mesh.hosts.items()}

    @cached_property
    def ignores(self) -> tuple[Ignore, ...]:
        """What drift is told to ignore."""
        return self._kept.ignores if self._kept else tuple(each.entry for each in self.mesh.drift.ignore)

    @property
    def root(self) -> str:
        """The tool's folder on every host."""
        return next(iter(self._kept.deployment.hosts.values())).root if self._kept else self.mesh.root

    @cached_property
    def lock(self) -> ImageLock:
        """Image references and the digests they are pinned to."""
        from mesh.compile.images import ImageLock

        return ImageLock.load(self.dir / "images.lock")

    @cached_property
    def library(self) -> StackLibrary:
        """The stack folders: the mesh's own and the operator's."""
        from mesh.compile.library import StackLibrary

        return StackLibrary.load(STACKS, self.dir, self.mesh)

    @cached_property
    def _deployment(self) -> Deployment:
        from mesh.compile.compiler import compile_mesh

        return compile_mesh(self.mesh, self.library, self.lock, self.secrets.fingerprint)

    @cached_property
    def _preview(self) -> tuple[Deployment, bool]:
        """What it compiles to as far as the secrets can be had here, and whether that is all the way."""
        from mesh.compile.compiler import compile_mesh
        from mesh.secrets.store import PLACEHOLDER

        used: set[str] = set()

        def fingerprint(name: str) -> str:
            found = self.secrets.placeholder_fingerprint(name)
            used.add(found)
            return found

        return compile_mesh(self.mesh, self.library, self.lock, fingerprint), PLACEHOLDER not in used

    def sealed_deployment(self) -> Deployment:
        """What every host should be, without opening a secret: by the fingerprints in secrets.index, and no gateway to ask.

        Raises SpecInvalid for a spec in which `mesh check` finds an error.
        """
        from dataclasses import replace

        from mesh.compile.compiler import compile_mesh
        from mesh.validate import require_valid

        require_valid(self)
        return replace(compile_mesh(self.mesh, self.library, self.lock, self.secrets.indexed_fingerprint), gateway=None)

    def deployment(self, *, preview: bool = False) -> Deployment:
        """What every host should be.

        preview: a secret that cannot be opened here counts with a placeholder fingerprint, for `mesh render` without the
        key. The digests then differ from those on the hosts, so plan, apply and drift never ask for it.
        """
        compiled, complete = self._preview
        return compiled if preview or complete else self._deployment

    def checked_deployment(self) -> Deployment:
        """What every host should be, by a spec in which `mesh check` finds no error. Raises SpecInvalid for any other."""
        if self._kept and self._kept.fits(self.secrets):
            self.compiled = self._kept
            return self._kept.deployment
        from mesh.kept import Kept, Watch
        from mesh.validate import require_valid

        watch = self._watch or Watch(self.dir)
        require_valid(self)
        deployment = self.deployment()
        self.compiled = Kept(deployment, self.reach, self.ignores, self.secrets.sources, self.secrets.fingerprints)
        watch.keep(self.compiled)
        return deployment


def open_inventory(folder: Path) -> Inventory:
    """The inventory in `folder`. Only that it is a folder is checked here."""
    if not folder.is_dir():
        what = "the inventory is a file, not a folder" if folder.exists() else "there is no such inventory folder"
        raise MeshError(what, where=str(folder), mend="give the folder that holds mesh.yaml: mesh -C DIR, or $MESH_INVENTORY")
    return Inventory(folder)


def open_to_act(folder: Path) -> Inventory:
    """As open_inventory, for `checked_deployment`: with what is kept of an earlier run, if that still holds."""
    from mesh.kept import Watch, recall

    open_inventory(folder)
    kept = recall(folder)
    return Inventory(folder, kept=kept, watch=None if kept else Watch(folder))
