"""Whatever the file holds, loading and checking end in findings: no other exception, no hang."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.findings import Finding, SpecInvalid
from mesh.inventory import Inventory
from mesh.paths import INVENTORY
from mesh.spec.load import load_spec
from mesh.spec.yaml_source import parse_yaml, plain_data
from mesh.validate import validate

REFERENCE = plain_data(parse_yaml((INVENTORY / "mesh.yaml").read_bytes(), "mesh.yaml"))[0]
TEXT = (INVENTORY / "mesh.yaml").read_text()
UNHURRIED = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])

YAMLISH = st.text(st.sampled_from("ab1: -\n[]{},&*?|>!%@`'\"#<~=.\t\\\0é\u2028\ufeff"), max_size=80)
WORDS = st.sampled_from(
    [
        "",
        "a",
        "ollama",
        "claude",
        "gpu-box",
        "secret:x",
        "5MiB",
        "10m",
        "1 USD/month",
        "\0",
        "\x1b[0m",
        "x" * 70,
        "../..",
        "/",
        "Ü",
        "10.0.0.1",
    ]
)
BASIC = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=8)
"""JSON writes characters beyond as two escapes, which YAML does not join."""
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 10**12)
    | st.floats(-1e6, 1e6).map(lambda number: round(number, 3))
    | WORDS
    | st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=8)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=6
)


def outcome(content: bytes) -> tuple[Finding, ...]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "mesh.yaml").write_bytes(content)
        try:
            return validate(Inventory(Path(folder)))
        except SpecInvalid as invalid:
            assert invalid.findings
            assert str(invalid)
            return invalid.findings


@UNHURRIED
@given(st.binary(max_size=200) | YAMLISH.map(str.encode) | st.text(max_size=60).map(lambda text: text.encode(errors="replace")))
def test_any_bytes_are_a_spec_or_findings(content: bytes) -> None:
    assert outcome(content)


@UNHURRIED
@given(st.integers(0, len(TEXT)), st.integers(0, 40), YAMLISH | WORDS)
def test_the_reference_with_a_piece_of_text_replaced_is_a_spec_or_findings(start: int, length: int, text: str) -> None:
    outcome((TEXT[:start] + text + TEXT[start + length :]).encode())


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for key, child in children for deeper in paths(child, (*path, key)))]


PATHS = paths(REFERENCE)[1:]
MUTATION = st.tuples(
    st.sampled_from(PATHS), st.sampled_from(["replace", "delete", "rename", "copy"]), VALUES, st.sampled_from(PATHS), WORDS
)


def mutated(mutations: list[tuple[Any, ...]]) -> Any:
    """The reference with parts replaced, deleted, renamed, or put in place of others."""
    spec = copy.deepcopy(REFERENCE)

    def at(path: tuple[Any, ...]) -> Any:
        found = spec
        for part in path:
            found = found[part]
        return found

    for path, how, value, other, word in mutations:
        try:
            parent, last = at(path[:-1]), path[-1]
            if how == "replace":
                parent[last] = value
            elif how == "copy":
                parent[last] = copy.deepcopy(at(other))
            elif how == "delete":
                del parent[last]
            elif isinstance(parent, dict):
                parent[word] = parent.pop(last)
        except (LookupError, TypeError, AttributeError):
            pass  # an earlier mutation took the place away
    return spec


@UNHURRIED
@given(st.lists(MUTATION, min_size=1, max_size=4))
def test_the_reference_with_values_changed_is_a_spec_or_findings(mutations: list[tuple[Any, ...]]) -> None:
    found = outcome(json.dumps(mutated(mutations)).encode())
    assert all(finding.message and finding.location.file for finding in found)


@UNHURRIED
@given(st.lists(MUTATION, min_size=1, max_size=4))
def test_a_python_spec_finds_the_same_mistakes_as_its_yaml(mutations: list[tuple[Any, ...]]) -> None:
    spec = mutated(mutations)

    def messages(name: str, text: str) -> list[str] | str:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / name).write_text(text)
            try:
                return load_spec(Path(folder)).mesh.model_dump_json()
            except SpecInvalid as invalid:
                return sorted(finding.message for finding in invalid.findings)

    python = messages("mesh.py", f"from mesh.spec.mesh import Mesh\nmesh = Mesh.model_validate({spec!r})\n")
    if isinstance(spec, dict) and "extends" not in spec:
        assert python == messages("mesh.yaml", json.dumps(spec))
