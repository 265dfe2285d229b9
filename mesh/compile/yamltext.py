"""Reading and writing Compose files so that Compose reads what we meant.

Compose reads YAML 1.2 (`yes` is a string, `22:22` is a string); PyYAML reads YAML 1.1 by default. The loader here
follows Compose, and the dumper quotes whatever either of the two could take for something else than a string.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: type[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class ComposeLoader(_Loader):  # type: ignore[misc]  # chosen at run time: the C loader where PyYAML has it
    """YAML 1.2 scalars, merge keys included."""


class ComposeDumper(_Dumper):  # type: ignore[misc]
    """Block style, keys in the order given, no aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


ComposeLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("tag:yaml.org,2002:int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+.0123456789",
    ),
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:merge", r"^<<$", "<"),
):
    ComposeLoader.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))


def _construct_int(loader: Any, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    digits = text.lstrip("+-")
    base = {"0x": 16, "0o": 8}.get(digits[:2].lower(), 8 if re.fullmatch(r"0[0-7]+", digits) else 10)
    return -int(digits, base) if text.startswith("-") else int(digits, base)


def _construct_float(loader: Any, node: yaml.ScalarNode) -> float:
    return float(loader.construct_scalar(node).replace(".inf", "inf").replace(".nan", "nan").lower())


ComposeLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)
ComposeLoader.add_constructor("tag:yaml.org,2002:float", _construct_float)

_PLAIN = re.compile(r"[A-Za-z/.][A-Za-z0-9_./@+-]*(?:[:=][A-Za-z0-9_./@+-]+)*(?: [A-Za-z0-9_./@+-]+)*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", ".nan", ".inf"})


class AsWrittenDumper(_Dumper):  # type: ignore[misc]
    """For nodes that ComposeLoader composed: a plain scalar stays plain, so that Compose resolves it as it did before."""


AsWrittenDumper.yaml_implicit_resolvers = ComposeLoader.yaml_implicit_resolvers


def _represent_str(dumper: Any, text: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS and not re.match(r"\.[0-9]", text)
    node: yaml.ScalarNode = dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')
    return node


ComposeDumper.add_representer(str, _represent_str)


def load_compose(text: str) -> Any:
    """Parse YAML as Compose does. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=ComposeLoader)


def dump_compose(data: Any) -> str:
    """Emit plain Python data as YAML; the same data always gives the same bytes."""
    text: str = yaml.dump(data, Dumper=ComposeDumper, sort_keys=False, default_flow_style=False, width=10_000)
    return text


def as_json(value: Any) -> str:
    """A value as JSON in ASCII, which is YAML that nothing can break out of.

    JSON's own \\u escapes would split characters beyond U+FFFF into two, which YAML does not join: hence \\U.
    """
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return "".join(char if " " <= char <= "~" else f"\\U{ord(char):08x}" for char in text)
