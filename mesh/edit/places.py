"""Where each part of a YAML text begins and ends, as offsets into the text. Unlike a data tree it can be cut and pasted by.

Only for text that `mesh.spec.yaml_source.parse_yaml` accepts: that one bounds what comes in and says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml
from yaml._yaml import CParser

Kind = Literal["scalar", "flow", "block", "alias"]
"""`flow` and `block` are the two ways to write a mapping or list: `{a: 1}`, or one entry a line."""


@dataclass(slots=True)
class Part:
    """A value. `start` and `end`: offsets of its first character and of the one after its last; trailing comments are outside.

    plain_empty: nothing is written at all, as after `clients:`.
    """

    kind: Kind
    start: int
    end: int
    plain_empty: bool = False
    is_mapping: bool = False
    entries: list[Entry] = field(default_factory=list)

    def entry(self, key: str) -> Entry | None:
        """The entry of a mapping with this key."""
        return next((each for each in self.entries if each.key == key), None)


@dataclass(slots=True)
class Entry:
    """A key of a mapping, and its value. `start` and `end` are those of the key."""

    key: str
    start: int
    end: int
    value: Part


def root_of(text: str) -> Part:
    """The places of a document that is a mapping, as parse_yaml has made sure."""
    events = _events(text)
    for event in events:
        if isinstance(event, yaml.MappingStartEvent):
            return _mapping(event, events)
    raise ValueError("not a mapping")


def _events(text: str) -> Iterator[Any]:
    parser = CParser(text)
    while not isinstance(event := parser.get_event(), yaml.StreamEndEvent):
        yield event


def _part(event: Any, events: Iterator[Any]) -> Part:
    start, end = event.start_mark.index, event.end_mark.index
    if isinstance(event, yaml.MappingStartEvent):
        return _mapping(event, events)
    if isinstance(event, yaml.SequenceStartEvent):
        while not isinstance(item := next(events), yaml.SequenceEndEvent):
            end = _part(item, events).end
        return Part("flow", start, _end(item)) if event.flow_style else Part("block", start, end)
    if isinstance(event, yaml.AliasEvent):
        return Part("alias", start, end)
    return Part("scalar", start, end, plain_empty=start == end)


def _mapping(event: Any, events: Iterator[Any]) -> Part:
    """The end of a block mapping is that of its last value: the parser's own is where the next token begins."""
    found = Part("flow" if event.flow_style else "block", event.start_mark.index, event.end_mark.index, is_mapping=True)
    while not isinstance(key := next(events), yaml.MappingEndEvent):
        value = _part(next(events), events)
        name = key.value if isinstance(key, yaml.ScalarEvent) else ""
        found.entries.append(Entry(name, key.start_mark.index, key.end_mark.index, value))
        found.end = value.end
    if event.flow_style:
        found.end = _end(key)
    return found


def _end(event: Any) -> int:
    return int(event.end_mark.index)
