"""What is inside secrets.age: a YAML mapping of names to text. Every scalar is text: `pin: 0123` stays `0123`.

Error texts say the line and the column only. YAML's own messages quote the text, which here is a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mesh.errors import Location, MeshError
from mesh.secrets.value import Secret

NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,62}")
_PLAIN = re.compile(r"([a-z0-9][a-z0-9_]{0,62}): ([A-Za-z0-9_/][A-Za-z0-9_/+=.@-]*)")
"""A line that is the same to YAML as to everybody: a name, and a value of letters that mean nothing to it."""


def parse(text: str, *, where: str) -> dict[str, Secret]:
    """The secrets by name. Raises MeshError with the place of the first thing that is wrong, never with a value."""
    plain = [_PLAIN.fullmatch(line) for line in text.removesuffix("\n").split("\n")]
    if all(plain) and len({match[1] for match in plain if match}) == len(plain):
        return {match[1]: Secret(match[2]) for match in plain if match}
    return _parse_yaml(text, where=where)


def _parse_yaml(text: str, *, where: str) -> dict[str, Secret]:
    import yaml

    try:
        root = yaml.compose(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Location(where, mark.line + 1, mark.column + 1) if mark else where
        raise MeshError("this is not valid YAML", where=place, mend=_FORM) from None
    except (yaml.YAMLError, RecursionError):
        raise MeshError("this is not valid YAML", where=where, mend=_FORM) from None
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise MeshError("the secrets have to be a mapping of names to values", where=where, mend=_FORM)
    values: dict[str, Secret] = {}
    for key, value in root.value:
        place = Location(where, key.start_mark.line + 1, key.start_mark.column + 1)
        if not isinstance(key, yaml.ScalarNode) or not NAME.fullmatch(key.value):
            raise MeshError(
                "this is not a name of a secret", where=place, mend="use lower case, digits and _, at most 63 characters"
            )
        if key.value in values:
            raise MeshError(f"{key.value} is there twice", where=place, mend="keep one of the two")
        if not isinstance(value, yaml.ScalarNode):
            raise MeshError(f"{key.value} is not a single value", where=place, mend=_FORM)
        if not value.value.strip():
            raise MeshError(f"{key.value} is empty", where=place, mend="give it a value, or remove the line")
        values[key.value] = Secret(value.value)
    return values


_FORM = "write one `name: value` a line; quote values that hold : # { [ * & or start with a space"


def dump(values: Mapping[str, Secret]) -> str:
    """The document, sorted by name, for `parse`. A key of several lines is written as such; what YAML would fold is escaped."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: Dumper, value: str) -> yaml.ScalarNode:
        style = None if value.isprintable() else "|" if value.replace("\n", "").isprintable() else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    plain = {name: values[name].reveal() for name in sorted(values)}
    return yaml.dump(plain, Dumper=Dumper, allow_unicode=True, width=2**20, default_flow_style=False) if plain else ""
