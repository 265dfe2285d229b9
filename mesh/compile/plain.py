"""The operator's own compose.yaml: labels and pinned images go in, and everything else stays as it was written.

The edit is made on YAML nodes, not on values: `yes`, `0640` or `22:22` mean to Compose what they meant before.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import yaml

from mesh.compile.library import StackFolder
from mesh.compile.yamltext import AsWrittenDumper, ComposeLoader
from mesh.errors import MeshError

_STR = "tag:yaml.org,2002:str"


def edit_plain(folder: StackFolder, name: str, images: Mapping[str, str], labels: Mapping[str, Mapping[str, str]]) -> str:
    """The file's new text. images and labels: by service."""
    root = yaml.compose(folder.compose, Loader=ComposeLoader)
    assert isinstance(root, yaml.MappingNode)
    _set(root, "name", _scalar(name), first=True)
    services = _get(root, "services")
    assert isinstance(services, yaml.MappingNode)
    edited = []
    for key, node in services.value:
        service = copy.deepcopy(node)
        if isinstance(service, yaml.MappingNode) and key.value in labels:
            if key.value in images:
                _set(service, "image", _scalar(images[key.value]))
            _add_labels(service, labels[key.value], folder)
        edited.append((key, service))
    services.value = edited
    _spell_out_nulls(root, set())
    text: str = yaml.serialize(root, Dumper=AsWrittenDumper, width=10_000)
    return text


def _spell_out_nulls(node: yaml.Node, seen: set[int]) -> None:
    """The emitter would write a value that is left out inside `{}` as an empty text."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode) and node.value == "" and node.tag == "tag:yaml.org,2002:null":
        node.value = "null"
    elif isinstance(node, yaml.MappingNode | yaml.SequenceNode):
        for each in node.value:
            for part in each if isinstance(each, tuple) else (each,):
                _spell_out_nulls(part, seen)


def _add_labels(service: yaml.MappingNode, labels: Mapping[str, str], folder: StackFolder) -> None:
    present = _get(service, "labels") or _inherited_labels(service)
    if isinstance(present, yaml.SequenceNode):
        added: Any = [_scalar(f"{key}={value}") for key, value in labels.items()]
        _set(service, "labels", yaml.SequenceNode(present.tag, [*present.value, *added], flow_style=False))
    elif present is None or isinstance(present, yaml.MappingNode) or present.value == "":
        own = present.value if isinstance(present, yaml.MappingNode) else []
        pairs = [(_scalar(key), _scalar(value)) for key, value in labels.items()]
        _set(service, "labels", yaml.MappingNode("tag:yaml.org,2002:map", [*own, *pairs], flow_style=False))
    else:
        raise MeshError("`labels:` is neither a list nor a mapping", where=str(folder.path / "compose.yaml"))


def _inherited_labels(service: yaml.MappingNode) -> yaml.Node | None:
    """Labels that come by `<<: *anchor`: own `labels:` would hide them, so they are taken over."""
    for key, value in service.value:
        if key.tag == "tag:yaml.org,2002:merge":
            for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                found = _get(source, "labels") or _inherited_labels(source)
                if found is not None:
                    return found
    return None


def _scalar(text: str) -> yaml.ScalarNode:
    return yaml.ScalarNode(_STR, text, style='"')


def _get(node: yaml.MappingNode, key: str) -> yaml.Node | None:
    return next((value for each, value in node.value if each.value == key), None)


def _set(node: yaml.MappingNode, key: str, value: yaml.Node, *, first: bool = False) -> None:
    for index, (each, _) in enumerate(node.value):
        if each.value == key:
            node.value[index] = (each, value)
            return
    entry = (yaml.ScalarNode(_STR, key), value)
    node.value.insert(0, entry) if first else node.value.append(entry)
