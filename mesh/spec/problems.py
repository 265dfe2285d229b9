"""What pydantic refuses, in words for the operator: the path, what is wrong, how to mend it. Only imported when something is."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Protocol, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mesh.errors import Location
from mesh.findings import Finding, Path, dotted, shown
from mesh.spec.mesh import Mesh
from mesh.spec.types import NAME_PATTERN, Spec
from mesh.suggest import Suggester


class Locate(Protocol):
    def __call__(self, path: Path, *, key: bool = False) -> Location: ...


def findings_of(error: ValidationError, root: type[BaseModel], data: Any, locate: Locate) -> list[Finding]:
    """One finding for each thing that pydantic refused.

    root: the model that was being made. data: what it was to be made of, or None where that is not at hand.
    """
    suggest = Suggester()
    return [_finding(detail, root, data, locate, suggest) for detail in error.errors(include_url=False)]


def model_called(title: str) -> type[BaseModel]:
    """The model with this class name: in a Python spec the error may come from any of them."""
    waiting: list[type[BaseModel]] = [Spec]
    while waiting:
        model = waiting.pop()
        if model.__name__ == title:
            return model
        waiting += model.__subclasses__()
    return Mesh


def _finding(detail: Any, root: type[BaseModel], data: Any, locate: Locate, suggest: Suggester) -> Finding:
    kind, loc = detail["type"], tuple(detail["loc"])
    path, is_key = _spec_path(loc)
    name = dotted(path) if root is Mesh else dotted((root.__name__, *path))
    if kind == "extra_forbidden":
        known = _known_keys(root, path[:-1], data)
        mend = suggest.mend(str(path[-1]), known, "remove it")
        where = f" in {name.rsplit('.', 1)[0]}" if "." in name else ""
        return Finding(
            "spec-key-unknown", "error", f"unknown key `{shown(str(path[-1]))}`{where}", mend, locate(path, key=True), path
        )
    if kind == "missing":
        parent = name.rpartition(".")[0] or "the spec"
        field = _field(root, path, data)
        what = f": {field.description.rstrip('.')}" if field is not None and field.description else ""
        return Finding(
            "spec-key-missing", "error", f"{parent} needs `{path[-1]}`{what}", f"add {path[-1]}: ...", locate(path), path
        )
    if is_key:
        message = f"{name} is not a name that can be used"
        return Finding("spec-value", "error", message, _NAME_MEND, locate(path, key=True), path)
    message, mend = _in_words(detail, path, suggest)
    if kind == "union_tag_invalid":
        path = (*path, "kind")
    return Finding("spec-value", "error", f"{name}: {message}", mend, locate(path), path)


_NAME_MEND = "use lower-case letters, digits, `.`, `_` and `-`, at most 63, beginning and ending with a letter or digit"
_MAPPING = ("a mapping", "write {KEY: VALUE} or indented `KEY: VALUE` lines")
_LIST = ("a list", "write [ITEM, ITEM]")
_EXPECTED = {
    "string": ("text", "if it is text that looks like a number, put it in quotes"),
    "int": ("a whole number", "write digits only"),
    "float": ("a number", "write a number such as 0.27"),
    "bool": ("true or false", "write true or false"),
    "date": ("a date", "write it as 2026-07-24"),
    "list": _LIST,
    "tuple": _LIST,
    "dict": _MAPPING,
    "model": _MAPPING,
}
"""What a pydantic error whose type begins with this word expected, and how that is written."""
_LIMITS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def _in_words(detail: Any, path: Path, suggest: Suggester) -> tuple[str, str]:
    """(what is wrong, how to mend it) for an error of pydantic's or of mesh.spec.types."""
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    family = kind.partition("_")[0]
    seen = _shown_value(value, path)
    words = detail["msg"], str(context.get("mend", "correct the value"))
    if "mend" in context:
        pass
    elif kind in ("literal_error", "union_tag_invalid"):
        listed = context.get("expected") or context["expected_tags"]
        choices = [choice.strip(" '") for choice in listed.replace(" or ", ", ").split(",")]
        chosen = str(context.get("tag", value))
        words = (
            f"`{shown(chosen)}` is not one of the choices",
            suggest.mend(chosen, choices, f"choose one of {', '.join(choices)}"),
        )
    elif kind == "union_tag_not_found":
        words = "it has no `kind`", "add kind: ollama, or the kind of cloud API"
    elif kind == "string_pattern_mismatch" and context["pattern"] == NAME_PATTERN:
        words = f"{seen} is not a name that can be used", _NAME_MEND
    elif kind == "string_pattern_mismatch":
        words = f"{seen} is not allowed here", f"it has to match {context['pattern']}"
    elif kind in _LIMITS:
        comparison, field = _LIMITS[kind]
        words = f"{seen} is out of range", f"it has to be {comparison} {context[field]:g}"
    elif kind == "too_short":
        words = "it must not be empty", f"write at least {context['min_length']}"
    elif kind.startswith("ip_"):
        words = f"{seen} is not an IPv4 address", "write one such as 192.168.1.20"
    elif family in _EXPECTED:
        expected, mend = _EXPECTED[family]
        found = seen if family in ("int", "float", "bool", "date") else _kind_of(value)
        words = f"expected {expected}, not {found}", mend
    return words


def _shown_value(value: Any, path: Path) -> str:
    """The value for a message, unless it stands where a secret may have been pasted by mistake."""
    if {"key", "secrets"} & set(path):
        return "the value"
    if isinstance(value, dict | list):
        return _kind_of(value)
    return f"`{shown(str(value))}`" if isinstance(value, str | int | float) else _kind_of(value)


def _kind_of(value: Any) -> str:
    if value is None:
        return "nothing"
    names = {
        dict: "a mapping",
        list: "a list",
        tuple: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "something else")


def _spec_path(loc: tuple[str | int, ...]) -> tuple[Path, bool]:
    """pydantic's path as the operator wrote it, and whether it is about a key.

    pydantic puts the chosen member of a union into the path (providers.NAME.ollama.on) and `[key]` after a key.
    """
    if loc and loc[-1] == "[key]":
        return loc[:-1], True
    if len(loc) > 2 and loc[0] == "providers":
        return (*loc[:2], *loc[3:]), False
    return loc, False


def _known_keys(root: type[BaseModel], path: Path, data: Any) -> list[str]:
    model = _model_at(root, path, data)
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _field(root: type[BaseModel], path: Path, data: Any) -> Any:
    model = _model_at(root, path[:-1], data)
    fields = model.model_fields.items() if model else ()
    return next((field for name, field in fields if path[-1] in (name, field.alias)), None)


def _model_at(root: type[BaseModel], path: Path, data: Any) -> type[BaseModel] | None:
    """The model that a path leads to, following the types of the fields."""
    kind: Any = root
    for part in path:
        kind = _unwrapped(kind, data)
        data = (
            data.get(part) if isinstance(data, dict) else data[part] if isinstance(data, list) and isinstance(part, int) else None
        )
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields: dict[str | int, Any] = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
            kind = fields.get(part)
        elif get_origin(kind) in (dict, tuple):
            kind = get_args(kind)[1 if get_origin(kind) is dict else 0]
        else:
            return None
    kind = _unwrapped(kind, data)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _unwrapped(kind: Any, data: Any) -> Any:
    """A type without Annotated and None; of a union, the member that `kind` in the data chooses."""
    if get_origin(kind) is Annotated:
        return _unwrapped(get_args(kind)[0], data)
    if get_origin(kind) not in (Union, UnionType):
        return kind
    members = [member for member in get_args(kind) if member is not NoneType]
    if len(members) == 1:
        return _unwrapped(members[0], data)
    tag = data.get("kind") if isinstance(data, dict) else None
    return next((member for member in members if tag in get_args(member.model_fields["kind"].annotation)), None)
