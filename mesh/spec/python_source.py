"""A spec in Python: mesh.py that defines `mesh = Mesh(...)`. It is the operator's own code and runs as such."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from mesh.errors import Location, MeshError
from mesh.findings import SpecInvalid, shown
from mesh.spec.mesh import Mesh
from mesh.spec.yaml_source import fail


def load_python(file: Path, content: bytes) -> Mesh:
    """Run the file and return its `mesh`. Raises SpecInvalid, at the line of the file, for whatever goes wrong in it."""
    names: dict[str, Any] = {"__name__": "mesh_spec", "__file__": str(file)}
    try:
        exec(compile(content, str(file), "exec"), names)
    except MeshError:
        raise
    except ValidationError as error:
        _fail_on_values(error, _line_in(error, file))
    except SyntaxError as error:
        at = Location(str(file), error.lineno or 0, error.offset or 0)
        fail("spec-python", f"not valid Python: {error.msg}", at, "check this line and the one before it")
    except (Exception, SystemExit) as error:
        words = f"{type(error).__name__}: {shown(str(error), 200)}".rstrip(": ")
        fail("spec-python", f"the spec stopped with {words}", _line_in(error, file), "mend the code at this line")
    mesh = names.get("mesh")
    if not isinstance(mesh, Mesh):
        what = "does not define `mesh`" if mesh is None else f"defines `mesh` as {type(mesh).__name__}, not as a Mesh"
        mend = "write: from mesh.spec.mesh import Mesh, and then mesh = Mesh(...)"
        fail("spec-python", f"the file {what}", Location(str(file)), mend)
    return mesh


def _line_in(error: BaseException, file: Path) -> Location:
    """The innermost line of the file itself that the error went through."""
    lines = [frame.lineno or 0 for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return Location(str(file), lines[-1] if lines else 0)


def _fail_on_values(error: ValidationError, at: Location) -> NoReturn:
    from mesh.spec.problems import findings_of, model_called

    root = model_called(error.title)
    within = () if root is Mesh else (root.__name__,)
    raise SpecInvalid(findings_of(error, root, lambda *_args, **_kwargs: at, within)) from None
