"""YAML nodes of a compose.yaml: found by key with merge keys followed, and written back as scalars."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from mesh.compile.yamltext import as_json


def as_text(value: str, node: yaml.ScalarNode) -> str:
    """The text of a scalar: plain only where it was, and cannot be taken for anything else."""
    if not node.style and re.fullmatch(r"[A-Za-z./][A-Za-z0-9_./@:+-]*[A-Za-z0-9_/]", value):
        return value
    return as_json(value)


def get(node: Any, key: str) -> Any:
    """The value of a key, those that merge keys bring included."""
    if not isinstance(node, yaml.MappingNode):
        return None
    own = next((value for each, value in node.value if each.value == key), None)
    if own is not None:
        return own
    for each, value in node.value:
        if each.tag == "tag:yaml.org,2002:merge":
            for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if (found := get(source, key)) is not None:
                    return found
    return None


def entries(node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node]]:
    for key, value in node.value:
        if key.tag == "tag:yaml.org,2002:merge":
            for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if isinstance(source, yaml.MappingNode):
                    yield from entries(source)
        else:
            yield key.value, value


def walk(root: Any) -> Iterator[Any]:
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            waiting += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def scalars(root: Any) -> list[yaml.ScalarNode]:
    return sorted((each for each in walk(root) if isinstance(each, yaml.ScalarNode)), key=lambda each: each.start_mark.index)


def children(node: Any) -> Iterator[tuple[str, yaml.Node]]:
    return ((key.value, value) for key, value in node.value) if isinstance(node, yaml.MappingNode) else iter(())
