"""An inventory folder, opened: the spec, the secrets, the image lock, the stacks, and what they compile to.

Everything is read when it is first asked for, once. Whatever is wrong with the folder is a `MeshError`.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mesh.errors import MeshError
from mesh.paths import STACKS

if TYPE_CHECKING:
    from mesh.compile.images import ImageLock
    from mesh.compile.library import StackLibrary
    from mesh.secrets.store import SecretStore
    from mesh.spec.load import LoadedSpec
    from mesh.spec.mesh import Mesh
    from mesh.state.deployment import Deployment


class Inventory:
    """One inventory folder. `content`: of mesh.yaml, in place of what is in the file."""

    def __init__(self, folder: Path, content: bytes | None = None) -> None:
        self.dir = folder
        self.content = content

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

        return SecretStore(self.dir, self.mesh.secrets)

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
        """What every host should be, without opening a secret: by the fingerprints in secrets.index."""
        from mesh.compile.compiler import compile_mesh

        return compile_mesh(self.mesh, self.library, self.lock, self.secrets.indexed_fingerprint)

    def deployment(self, *, preview: bool = False) -> Deployment:
        """What every host should be.

        preview: a secret that cannot be opened here counts with a placeholder fingerprint, for `mesh render` without the
        key. The digests then differ from those on the hosts, so plan, apply and drift never ask for it.
        """
        compiled, complete = self._preview
        return compiled if preview or complete else self._deployment


def open_inventory(folder: Path) -> Inventory:
    """The inventory in `folder`. Only that it is a folder is checked here."""
    if not folder.is_dir():
        what = "the inventory is a file, not a folder" if folder.exists() else "there is no such inventory folder"
        raise MeshError(what, where=str(folder), mend="give the folder that holds mesh.yaml: mesh -C DIR, or $MESH_INVENTORY")
    return Inventory(folder)
