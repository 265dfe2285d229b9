"""homelab-mesh: one typed spec, three machines that are exactly that.

A Python spec imports from here: ``from mesh import Mesh``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mesh.spec.mesh import Mesh as Mesh

__version__ = "0.1.0"
__all__ = ["Mesh", "__version__"]


def __getattr__(name: str) -> Any:
    """Load the spec models only when a Python spec asks for them: `mesh --version` should not pay for pydantic."""
    if name == "Mesh":
        from mesh.spec.mesh import Mesh

        return Mesh
    raise AttributeError(name)
