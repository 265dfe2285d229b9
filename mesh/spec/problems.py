"""What pydantic refuses, in words for the operator: the path, what is wrong, how to mend it. Only imported when something is."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Protocol, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mesh.errors import Location
from mesh.findings import Finding, Path, dotted, shown
from mesh.spec.mesh import Mesh
from mesh.spec.types import NAME_PATTERN, Spec
from mesh.suggest import Suggester


class Locate(Protocol):
    def __call__(self, path: Path, *, key: bool = False) -> Location: ...


def findings_of(error: ValidationError, root: type[BaseModel], locate: Locate, within: Path = ()) -> list[Finding]:
    """One finding for each thing that pydantic refused while it made a `root`.

    within: what to put before the path, where `root` is only a part of the spec.
    """
    suggest = Suggester()
    return [_finding(detail, root, locate, within, suggest) for detail in error.errors(include_url=False)]


def model_called(title: str) -> type[BaseModel]:
    """The model with this class name: in a Python spec the error may come from any of them."""
    waiting: list[type[BaseModel]] = [Spec]
    while waiting:
        model = waiting.pop()
        if model.__name__ == title:
            return model
        waiting += model.__subclasses__()
    return Mesh


def _finding(detail: Any, root: type[BaseModel], locate: Locate, within: Path, suggest: Suggester) -> Finding:
    kind, loc = detail["type"], tuple(detail["loc"])
    path, member, is_key = _spec_path(loc)
    name, parent = dotted((*within, *path)), dotted((*within, *path[:-1]))
    if kind == "extra_forbidden":
        key = shown(str(path[-1]))
        mend = suggest.mend(str(path[-1]), _fields(root, path[:-1], member), "remove it")
        message = f"unknown key `{key}` in {parent}" if parent else f"unknown key `{key}`"
        return Finding("spec-key-unknown", "error", message, mend, locate(path, key=True), path)
    if kind == "missing":
        field = _fields(root, path[:-1], member).get(str(path[-1]))
        what = f": {field.description.rstrip('.')}" if field is not None and field.description else ""
        message = f"{parent or 'the spec'} needs `{path[-1]}`{what}"
        return Finding("spec-key-missing", "error", message, f"add {path[-1]}: ...", locate(path), path)
    if is_key:
        message = f"{name} is not a name that can be used"
        pattern = detail.get("ctx", {}).get("pattern", NAME_PATTERN)
        mend = _NAME_MEND if pattern == NAME_PATTERN else f"it has to match {pattern}"
        return Finding("spec-value", "error", message, mend, locate(path, key=True), path)
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
        chosen = context.get("tag", value)
        mend = suggest.mend(str(chosen), choices, f"choose one of {', '.join(choices)}")
        words = f"{_shown_value(chosen, path)} is not one of the choices", mend
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


def _spec_path(loc: tuple[str | int, ...]) -> tuple[Path, str, bool]:
    """pydantic's path as the operator wrote it, the member of the union in it, and whether it is about a key.

    pydantic puts the chosen member of a union into the path (providers.NAME.ollama.on) and `[key]` after a key.
    """
    if loc and loc[-1] == "[key]":
        return _spec_path(loc[:-1])[0], "", True
    if len(loc) > 2 and loc[0] == "providers":
        return (*loc[:2], *loc[3:]), str(loc[2]), False
    return loc, "", False


def _fields(root: type[BaseModel], path: Path, member: str) -> dict[str, FieldInfo]:
    """The fields of the model that a path leads to, by the key that the spec writes; none where it leads to no model."""
    kind: Any = root
    for part in path:
        kind = _unwrapped(kind, member)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = _keys(kind).get(str(part))
            kind = field.annotation if field is not None else None
        elif get_origin(kind) in (dict, tuple):
            kind = get_args(kind)[1 if get_origin(kind) is dict else 0]
        else:
            return {}
    kind = _unwrapped(kind, member)
    return _keys(kind) if isinstance(kind, type) and issubclass(kind, BaseModel) else {}


def _keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _unwrapped(kind: Any, member: str) -> Any:
    """A type without Annotated and None; of a union, the member whose `kind` it is."""
    if get_origin(kind) is Annotated:
        return _unwrapped(get_args(kind)[0], member)
    if get_origin(kind) not in (Union, UnionType):
        return kind
    members = [each for each in get_args(kind) if each is not NoneType]
    if len(members) == 1:
        return _unwrapped(members[0], member)
    return next((each for each in members if member in get_args(each.model_fields["kind"].annotation)), None)
