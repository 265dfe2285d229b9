"""YAML text to a tree of nodes that know their place. Bounded in every direction, and strict where YAML is treacherous.

PyYAML's events are read rather than its ready-made objects, because of what has to hold for any bytes at all: memory and
time are bounded (size, nodes, depth, what aliases expand to), a duplicate key is an error and not a silent overwrite, and
scalars follow the YAML 1.2 core schema: `on`, `yes`, `no` and `12:30` are text, and keys are always text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml
from yaml._yaml import CParser

from mesh.errors import Location
from mesh.findings import Finding, Path, SpecInvalid, shown
from mesh.spec.scalars import Scalar, core_scalar

MAX_BYTES = 4 * 2**20
MAX_NODES = 50_000
"""Keys and values together, merge keys and aliases expanded. The reference homelab has about 600."""
MAX_DEPTH = 50


@dataclass(slots=True)
class Node:
    """A value and its place. A mapping holds (place of the key, value) by key."""

    value: Scalar | dict[str, tuple[Location, Node]] | list[Node]
    at: Location


def fail(rule: str, message: str, at: Location, mend: str) -> NoReturn:
    """Raise SpecInvalid with one error."""
    raise SpecInvalid([Finding(rule, "error", message, mend, at)])


def parse_yaml(content: bytes, file: str) -> Node:
    """The one document in `content`. Raises SpecInvalid, with the place, for anything that is not a sane YAML mapping."""
    text = _decoded(content, file)
    try:
        root = _Reader(text, file).document()
    except yaml.YAMLError as error:
        _fail_on_syntax(error, file)
    if root is None or root.value is None:
        fail("spec-empty", "the file is empty", Location(file), "a spec begins with `mesh: NAME` and `hosts:`")
    if not isinstance(root.value, dict):
        kind = "a list" if isinstance(root.value, list) else "text"
        fail("spec-syntax", f"the file is {kind}, not a mapping", root.at, "write `key: value` lines at the top level")
    return root


_FORBIDDEN = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _decoded(content: bytes, file: str) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", errors="replace")
        fail("spec-encoding", "the file is not UTF-8 text", _place(before, file), "save it as UTF-8")
    bad = _FORBIDDEN.search(text)
    if bad:
        code = f"U+{ord(bad[0]):04X}"
        fail("spec-encoding", f"control character {code}", _place(text[: bad.start()], file), "delete it")
    return text


def _place(before: str, file: str) -> Location:
    return Location(file, before.count("\n") + 1, len(before) - before.rfind("\n"))


_SYNTAX_HINTS = {
    "cannot start any token": "indent with spaces, not tabs, and quote text that begins with @, ` or %",
    "mapping values are not allowed": "quote text that has `: ` in it, and check the indentation of this line",
    "could not find expected ':'": "write `key: value`, with a space after the colon",
    "did not find expected key": "check the indentation of this line and the ones before it, and quotes that do not close",
    "found undefined alias": "define it first, as &NAME, or quote text that begins with *",
    "unexpected end of stream": "close the quote or bracket that is open",
    "did not find expected ',' or": "close the bracket, or put a comma before this item",
    "did not find expected node content": "check the brackets and commas before this place",
}


def _fail_on_syntax(error: yaml.YAMLError, file: str) -> NoReturn:
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read")
    at = Location(file, mark.line + 1, mark.column + 1) if mark else Location(file)
    hint = next((hint for words, hint in _SYNTAX_HINTS.items() if words in problem), "check this line and the one before it")
    fail("spec-syntax", f"not valid YAML: {shown(problem, 120)}", at, hint)


@dataclass(slots=True)
class _Open:
    """A list or mapping that is still being read."""

    node: Node
    anchor: str | None
    key: tuple[str, Location] | None = None
    merge_next: bool = False
    merged: list[Node] | None = None


class _Reader:
    """Builds the tree from events, without recursion."""

    def __init__(self, text: str, file: str) -> None:
        self._parser = CParser(text)
        self._file = file
        self._nodes = 0
        self._anchors: dict[str, Node] = {}
        self._stack: list[_Open] = []
        self._root: Node | None = None

    def document(self) -> Node | None:
        documents = 0
        while True:
            event = self._parser.get_event()
            if isinstance(event, yaml.StreamEndEvent):
                return self._root
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    fail("spec-syntax", "a second document begins here (`---`)", self._at(event), "keep one document in the file")
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)
            elif isinstance(event, yaml.ScalarEvent):
                self._scalar(event)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._begin(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._end()

    def _at(self, event: Any) -> Location:
        return Location(self._file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _count(self, at: Location, more: int = 1) -> None:
        self._nodes += more
        if self._nodes > MAX_NODES:
            fail(
                "spec-limit", f"more than {MAX_NODES} keys and values by here", at, "a spec is a few hundred lines: is this one?"
            )

    def _scalar(self, event: Any) -> None:
        at = self._at(event)
        self._count(at)
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            self._refuse_tag(event, at)
        parent = self._stack[-1] if self._stack else None
        plain = event.tag is None and event.implicit[0]
        if parent is not None and isinstance(parent.node.value, dict) and parent.key is None and not parent.merge_next:
            if plain and event.value == "<<":
                parent.merge_next = True
                return
            if plain and not event.value:
                fail("spec-syntax", "a key is missing before the colon", at, "write `key: value`")
            self._key(parent, event.value, at)
            node = Node(event.value, at)
        else:
            node = Node(core_scalar(event.value) if plain else event.value, at)
            self._put(node)
        self._remember(event.anchor, node)

    def _key(self, parent: _Open, key: str, at: Location) -> None:
        assert isinstance(parent.node.value, dict)
        earlier = parent.node.value.get(key)
        if earlier is not None:
            fail(
                "spec-key-duplicate",
                f"the key `{shown(key)}` is there twice; the first is at line {earlier[0].line}",
                at,
                "keep one of them",
            )
        parent.key = (key, at)

    def _begin(self, event: Any) -> None:
        at = self._at(event)
        self._count(at)
        if event.tag not in (None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            self._refuse_tag(event, at)
        if len(self._stack) >= MAX_DEPTH:
            fail("spec-limit", f"nested more than {MAX_DEPTH} levels deep", at, "check for brackets that do not close")
        node = Node({} if isinstance(event, yaml.MappingStartEvent) else [], at)
        parent = self._stack[-1] if self._stack else None
        if parent is not None and isinstance(parent.node.value, dict) and parent.key is None and not parent.merge_next:
            fail("spec-syntax", "a key must be plain text, not a list or mapping", at, 'quote it: "..."')
        self._stack.append(_Open(node, event.anchor))
        if event.anchor is not None:
            self._anchors.pop(event.anchor, None)

    def _end(self) -> None:
        done = self._stack.pop()
        for base in done.merged or ():
            self._merge(done.node, base)
        self._put(done.node)
        self._remember(done.anchor, done.node)

    def _alias(self, event: Any) -> None:
        at = self._at(event)
        self._count(at)
        node = self._anchors.get(event.anchor)
        if node is None:
            if any(waiting.anchor == event.anchor for waiting in self._stack):
                fail(
                    "spec-alias", f"*{shown(event.anchor)} stands inside &{shown(event.anchor)} itself", at, "write the value out"
                )
            fail("spec-alias", f"there is no &{shown(event.anchor)} before this *{shown(event.anchor)}", at, "define it first")
        parent = self._stack[-1] if self._stack else None
        if parent is not None and isinstance(parent.node.value, dict) and parent.key is None and not parent.merge_next:
            if not isinstance(node.value, str):
                fail("spec-syntax", "a key must be plain text", at, "write the key out")
            self._key(parent, node.value, at)
            return
        self._put(node, at)

    def _remember(self, anchor: str | None, node: Node) -> None:
        if anchor is not None:
            self._anchors[anchor] = node

    def _put(self, node: Node, at: Location | None = None) -> None:
        """Hang a finished value into what is open around it."""
        if not self._stack:
            self._root = node
            return
        parent = self._stack[-1]
        if isinstance(parent.node.value, list):
            parent.node.value.append(node)
        elif parent.merge_next:
            parent.merge_next = False
            bases = node.value if isinstance(node.value, list) else [node]
            for base in bases:
                if not isinstance(base.value, dict):
                    fail(
                        "spec-syntax", "`<<` merges mappings only", at or node.at, "write `<<: *NAME` with the name of a mapping"
                    )
            parent.merged = [*(parent.merged or ()), *bases]
        else:
            assert parent.key is not None and isinstance(parent.node.value, dict)
            parent.node.value[parent.key[0]] = (parent.key[1], node)
            parent.key = None

    def _merge(self, node: Node, base: Node) -> None:
        """A merge key: what the mapping does not say itself it takes from the base."""
        assert isinstance(node.value, dict) and isinstance(base.value, dict)
        self._count(node.at, len(base.value))
        for key, entry in base.value.items():
            node.value.setdefault(key, entry)

    def _refuse_tag(self, event: Any, at: Location) -> NoReturn:
        fail("spec-syntax", f"the tag {shown(event.tag)} is not supported", at, "leave it out; quote the value if it is text")


def plain_data(root: Node) -> tuple[Any, dict[Path, Location], dict[Path, Location]]:
    """The tree as plain data, and the places of keys and of values by path. Aliases are expanded, within MAX_NODES."""
    keys: dict[Path, Location] = {}
    values: dict[Path, Location] = {}
    count = 0

    def walk(node: Node, path: Path) -> Any:
        nonlocal count
        count += 1
        if count > MAX_NODES or len(path) > MAX_DEPTH:
            fail(
                "spec-limit",
                "aliases expand to more than a spec can hold",
                node.at,
                "write out what is needed in place of aliases",
            )
        if isinstance(node.value, dict):
            if path and isinstance(path[-1], int):
                values[path] = node.at
            data = {}
            for key, (key_at, child) in node.value.items():
                keys[(*path, key)] = key_at
                data[key] = walk(child, (*path, key))
            return data
        values[path] = node.at
        if isinstance(node.value, list):
            return [walk(child, (*path, index)) for index, child in enumerate(node.value)]
        return node.value

    return walk(root, ()), keys, values
