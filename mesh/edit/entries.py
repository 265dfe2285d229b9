"""Adding an entry to a section of the spec and removing one, in the text itself.

What is written follows the neighbours: one line `name: {...}` beside such lines, an indented block beside blocks. Whatever
way of writing YAML this does not know ends in an error that says what to edit by hand, never in a file that means something
else: the new text is read again, and has to say what the old one said plus or minus the one entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mesh.edit.places import Entry, Part, root_of
from mesh.errors import MeshError
from mesh.findings import SpecInvalid
from mesh.spec.scalars import core_scalar
from mesh.spec.yaml_source import parse_yaml, plain_data

Value = Mapping[str, str | int | Sequence[str] | Mapping[str, str]]
"""What an entry holds: texts, whole numbers, lists of texts, mappings of texts."""
_BOM = "\ufeff"


class CannotEditError(Exception):
    """The text is written in a way that is left to the operator's hand. The message says which."""


def added(content: bytes, file: str, section: str, name: str, value: Value) -> bytes:
    """The text with `name: value` as the last entry of a section. Raises MeshError where that is for the operator to do."""
    return _edited(content, file, section, name, value)


def removed(content: bytes, file: str, section: str, name: str) -> bytes:
    """The text without an entry of a section, a comment on its own line with it. Raises MeshError as `added` does."""
    return _edited(content, file, section, name, None)


def one_line(name: str, value: Value) -> str:
    """The entry in flow style, as the reference spec writes it."""
    return f"{_scalar(name)}: {_flow(value)}"


def _edited(content: bytes, file: str, section: str, name: str, value: Value | None) -> bytes:
    before = _data(content, file)
    text = content.decode("utf-8-sig")
    try:
        root = root_of(text)
        new = _without(text, root, section, name) if value is None else _with(text, root, section, name, value)
        edited = ((_BOM if content.startswith(_BOM.encode()) else "") + new).encode()
        _compare(before, edited, file, section, name, value)
    except CannotEditError as error:
        todo = f"remove `{name}` from `{section}:`" if value is None else f"add to `{section}:`  {one_line(name, value)}"
        raise MeshError(
            "the spec is written in a way that is left to you to edit", where=file, why=str(error), mend=todo
        ) from None
    return edited


def _data(content: bytes, file: str) -> Any:
    return plain_data(parse_yaml(content, file))[0]


def _compare(before: Any, edited: bytes, file: str, section: str, name: str, value: Value | None) -> None:
    """The net below all splicing: the edited text means exactly what it should."""
    try:
        after = _data(edited, file)
    except SpecInvalid as error:
        raise CannotEditError(f"with the change it would no longer be read: {error.findings[0].message}") from None
    entries = {key: each for key, each in (before.get(section) or {}).items() if key != name}
    if value is not None:
        entries[name] = {key: _plain(each) for key, each in value.items()}
    if after != {**before, section: entries}:
        raise CannotEditError(f"an alias, a merge key or an unusual form takes part in `{section}:`")


def _with(text: str, root: Part, section: str, name: str, value: Value) -> str:
    found = root.entry(section)
    line_end = "\r\n" if "\r\n" in text else "\n"
    if found is None:
        if root.kind == "flow":
            return _into_flow(text, root, f"{section}: {{{one_line(name, value)}}}", line_end)
        indent = _column(text, root.entries[-1].start)
        lines = f"{indent}{section}:{line_end}{indent}  {one_line(name, value)}{line_end}"
        return _after_line(text, root.end, line_end + lines, line_end)
    part = found.value
    if part.kind == "block" and part.is_mapping:
        return _into_block(text, part, name, value, line_end)
    if part.kind == "flow" and part.is_mapping:
        return _into_flow(text, part, one_line(name, value), line_end)
    if part.kind == "scalar" and root.kind == "block" and part.plain_empty:
        indent = _column(text, found.start) + "  "
        return _after_line(text, found.end, f"{indent}{one_line(name, value)}{line_end}", line_end)
    if part.kind == "scalar":  # `~` or `null`, or nothing in `{clients: }`
        gap = " " if part.plain_empty and not text[: part.start].endswith(" ") else ""
        return f"{text[: part.start]}{gap}{{{one_line(name, value)}}}{text[part.end :]}"
    raise CannotEditError(f"`{section}:` is an alias" if part.kind == "alias" else f"`{section}:` is a list")


def _into_block(text: str, part: Part, name: str, value: Value, line_end: str) -> str:
    last = part.entries[-1]
    indent = _column(text, last.start)
    written = [each.value for each in part.entries if each.value.is_mapping]
    if written and all(each.kind == "block" for each in written):
        inner = _column(text, written[-1].entries[0].start)
        lines = [f"{indent}{_scalar(name)}:", *(f"{inner}{_scalar(key)}: {_flow(each)}" for key, each in value.items())]
    else:
        lines = [indent + one_line(name, value)]
    return _after_line(text, last.value.end, "".join(line + line_end for line in lines), line_end)


def _column(text: str, start: int) -> str:
    """What stands before `start` on its line, which has to be spaces: the indentation of that level."""
    before = text[_line_start(text, start) : start]
    if before.strip(" "):
        raise CannotEditError("something stands before an entry on its line")
    return before


def _into_flow(text: str, part: Part, entry: str, line_end: str) -> str:
    if not part.entries:
        return f"{text[: part.start + 1]}{entry}{text[part.start + 1 :]}"
    last = part.entries[-1]
    end, close = last.value.end, part.end - 1
    if last.value.plain_empty and last.value.end < last.end:  # `{a}`: a key without a value
        end = last.end
    own_line = not text[_line_start(text, last.start) : last.start].strip(" ") and "\n" in text[end:close]
    if not own_line:
        return f"{text[:end]}, {entry}{text[end:]}"
    comma = _comma_in(text[end:close])
    at = _line_after(text, end)
    new = f"{_column(text, last.start)}{entry}{',' if comma else ''}{line_end}"
    return f"{text[:end]}{'' if comma else ','}{text[end:at]}{new}{text[at:]}"


def _comma_in(gap: str) -> bool:
    return any("," in line.partition("#")[0] for line in gap.splitlines())


def _without(text: str, root: Part, section: str, name: str) -> str:
    found = root.entry(section)
    part = found.value if found else None
    if found is None or part is None or part.kind == "alias" or (entry := part.entry(name)) is None:
        raise CannotEditError(f"`{section}.{name}` comes from an alias or a merge key")
    if part.kind == "flow":
        return _out_of_flow(text, part, entry)
    _column(text, entry.start)
    new = text[: _line_start(text, entry.start)] + text[_line_after(text, entry.value.end) :]
    if len(part.entries) == 1:  # a section without entries would be null, which is no mapping
        colon = text.index(":", found.end) + 1
        new = f"{new[:colon]} {{}}{new[colon:]}"
    return new


def _out_of_flow(text: str, part: Part, entry: Entry) -> str:
    start, end = entry.start, max(entry.end, entry.value.end)
    line, after = _line_start(text, start), _line_after(text, end)
    alone = not text[line:start].strip(" ") and text[end:after].partition("#")[0].strip(" \r\n") in ("", ",")
    if alone and after < part.end:
        return text[:line] + text[after:]
    index = part.entries.index(entry)
    if index + 1 < len(part.entries):
        gap = text[end : part.entries[index + 1].start]
        if "#" in gap:
            raise CannotEditError(f"a comment stands between `{entry.key}` and the entry after it")
        return text[:start] + text[part.entries[index + 1].start :]
    before = max(part.entries[index - 1].end, part.entries[index - 1].value.end) if index else part.start + 1
    if "#" in text[before:start]:
        raise CannotEditError(f"a comment stands between `{entry.key}` and the entry before it")
    return text[:before] + text[end:]


def _line_start(text: str, at: int) -> int:
    return text.rfind("\n", 0, at) + 1


def _line_after(text: str, at: int) -> int:
    """Where the line after the one of `at` begins. A block scalar ends at the beginning of a line already."""
    if at and text[at - 1] == "\n":
        return at
    found = text.find("\n", at)
    return len(text) if found < 0 else found + 1


def _after_line(text: str, at: int, lines: str, line_end: str) -> str:
    """Whole lines put in after the line of `at`."""
    place = _line_after(text, at)
    head = text[:place]
    if not head.endswith("\n"):
        head, lines = head + line_end, lines.removesuffix(line_end)
    return head + lines + text[place:]


def _plain(value: str | int | Sequence[str] | Mapping[str, str]) -> object:
    return value if isinstance(value, str | int) else dict(value) if isinstance(value, Mapping) else list(value)


def _flow(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(key)}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, str | int):
        return _scalar(value)
    assert isinstance(value, Sequence)
    return "[" + ", ".join(_scalar(each) for each in value) + "]"


def _scalar(value: str | int) -> str:
    """Names, sums of money, numbers. Text that YAML would take for something else is quoted."""
    if isinstance(value, int) or core_scalar(value) == value:
        return str(value)
    return f'"{value}"'
