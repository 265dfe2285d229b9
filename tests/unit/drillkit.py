"""The reference mesh and its stage, for tests of the drill."""

from __future__ import annotations

import hashlib
from functools import cache

from mesh.compile.compiler import compile_mesh
from mesh.compile.images import ImageLock
from mesh.compile.library import StackLibrary
from mesh.compile.yamltext import load_compose
from mesh.drill.stage import Stage, build_stage
from mesh.paths import INVENTORY, STACKS
from mesh.spec.mesh import Mesh
from mesh.state.deployment import Deployment


@cache
def reference() -> tuple[Mesh, Deployment]:
    mesh = Mesh.model_validate(load_compose((INVENTORY / "mesh.yaml").read_text(encoding="utf-8")))
    library = StackLibrary.load(STACKS, INVENTORY, mesh)
    return mesh, compile_mesh(mesh, library, ImageLock(), lambda name: hashlib.sha256(name.encode()).hexdigest())


@cache
def stage(front: bool = False) -> Stage:
    return build_stage(*reference(), doubles="doubles", first_port=9000, hang_limit=20, seed="s", front=front)
