"""Names and values that try to break out of YAML, of a template or of a shell word stay values."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from compiled import compiled, docker_compose, reference, service, stack, text
from hypothesis import given
from hypothesis import strategies as st

from mesh.compile.library import StackLibrary
from mesh.compile.template import escape_dollars
from mesh.compile.yamltext import as_json, dump_compose, load_compose
from mesh.errors import MeshError
from mesh.spec.mesh import Mesh
from mesh.state.deployment import File, SecretPart

HOSTILE = [
    "a: b",
    "x\n    privileged: true",
    '"\n    privileged: true\n    x: "',
    "{{ 7 * 7 }}",
    "${HOME}",
    "$$HOME $HOME",
    "# not a comment",
    "- item",
    "*alias",
    "&anchor",
    "!!python/object/apply:os.system ['id']",
    "yes",
    "off",
    "0x1f",
    "1e3",
    "22:22",
    "2026-11-23",
    "null",
    "~",
    "",
    " spaces ",
    "tab\there",
    "\u2028\u0085\ufeff",
    "\U0001f600",
    "\x7f\x1b[31m",
    "'single' \"double\" \\ back",
    "%YAML 1.2\n---\n...",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_value_stays_one_string_in_every_reader(value: str) -> None:
    data = {"services": {"a": {"environment": {"X": value}, "command": [value], value or "k": 1}}}
    written = dump_compose(data)
    assert load_compose(written) == data
    assert yaml.safe_load(written) == data
    assert load_compose(f"a: {as_json(value)}\nb: [{as_json(value)}]\n") == {"a": value, "b": [value]}


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(texts, children, max_size=4),
    max_leaves=12,
)


@given(values)
def test_whatever_is_written_is_read_back_by_both_yamls(value: Any) -> None:
    assert load_compose(dump_compose({"x": value})) == {"x": value}
    assert yaml.safe_load(dump_compose({"x": value})) == {"x": value}
    assert load_compose(f"x: {as_json(value)}") == {"x": value}


@given(texts)
def test_interpolation_gives_back_what_was_meant(value: str) -> None:
    escaped = escape_dollars({"x": [value]})["x"][0]
    assert escaped.replace("$$", "$") == value
    assert escaped.count("$") % 2 == 0


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=40))
def test_a_secret_is_one_shell_word_whatever_it_holds(value: str) -> None:
    file = File("/x", ("KEY=", SecretPart("s", "shell"), "\n"))
    script = file.content(lambda _: value) + b'printf %s "$KEY"\n'
    assert subprocess.run(["/bin/sh"], input=script, capture_output=True, check=True).stdout == value.encode()


def template_mesh(folder: Path, template: str, value: str, contract: str = "") -> tuple[dict[str, Any], Path]:
    kind = folder / "stacks" / "odd"
    kind.mkdir(parents=True)
    (kind / "compose.yaml.j2").write_text(template)
    (kind / "stack.py").write_text(
        contract
        or "from mesh.compile.stack import StackKind\n"
        f"stack = StackKind(images={{'odd': 'odd:1'}}, values=lambda _: {{'value': {value!r}}})\n"
    )
    return {"mesh": "m", "hosts": {"box": {"address": "192.168.9.9"}}, "stacks": {"odd": {"on": "box"}}}, folder / "stacks"


TEMPLATE = "services:\n  odd:\n    image: {{ image.odd }}\n    environment:\n      X: {{ value }}\n      Y: {{ 'a' ~ value }}\n"


@pytest.mark.parametrize("value", HOSTILE)
def test_a_template_cannot_be_broken_out_of(tmp_path: Path, value: str) -> None:
    data, stacks = template_mesh(tmp_path, TEMPLATE, value)
    definition = service(compiled(data, stacks=stacks), "odd").definition
    assert definition["environment"] == {"X": value, "Y": "a" + value}
    assert "privileged" not in definition


@pytest.mark.skipif(not docker_compose(), reason="`docker compose` is not here")
def test_the_real_compose_reads_hostile_values_as_they_are_meant(tmp_path: Path) -> None:
    import json

    survivors = [value for value in HOSTILE if "\x7f" not in value and "\ufeff" not in value]
    contract = (
        "from mesh.compile.stack import StackKind\n"
        f"stack = StackKind(images={{'odd': 'odd:1'}}, values=lambda _: {{'value': {survivors!r}}})\n"
    )
    template = "services:\n  odd:\n    image: {{ image.odd }}\n    command: {{ value }}\n"
    data, stacks = template_mesh(tmp_path, template, "", contract)
    written = tmp_path / "compose.yaml"
    written.write_text(text(stack(compiled(data, stacks=stacks), "odd"), "compose.yaml"))
    done = subprocess.run(
        ["docker", "compose", "-f", str(written), "config", "--format", "json"], capture_output=True, text=True, check=True
    )
    command = json.loads(done.stdout)["services"]["odd"]["command"]
    assert [each.replace("$$", "$") for each in command] == survivors  # `config` prints every `$` as `$$` again


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("services: {odd: {image: {{ nothing }}}}", "nothing"),
        ("services: {odd: {image: {{ image.nobody }}}}", "nobody"),
        ("services: {% if %}", "malformed"),
        ("services: [", ""),
        ("a: 1", "services"),
        ("services: {odd: 1}", ""),
        ("services: {odd: {image: elsewhere:1}}", ""),
    ],
)
def test_a_template_that_is_wrong_is_an_error_with_its_place(tmp_path: Path, template: str, why: str) -> None:
    data, stacks = template_mesh(tmp_path, template, "x")
    with pytest.raises(MeshError) as caught:
        compiled(data, stacks=stacks)
    assert "odd" in caught.value.where
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("contract", "why"),
    [
        ("raise ValueError('broken')", "ValueError: broken"),
        ("syntax error", "SyntaxError"),
        ("x = 1", "defines no `stack`"),
        (
            "from mesh.compile.stack import StackKind\nstack = StackKind(images={'odd': 'o:1'}, values=lambda i: {}['k'])",
            "KeyError",
        ),
    ],
)
def test_a_stack_py_that_fails_is_an_error_with_its_own_words(tmp_path: Path, contract: str, why: str) -> None:
    data, stacks = template_mesh(tmp_path, TEMPLATE, "x", contract)
    with pytest.raises(MeshError, match=r"stack\.py|contract") as caught:
        compiled(data, stacks=stacks)
    assert why in str(caught.value)


def test_names_of_the_spec_cannot_hold_anything_that_breaks_out() -> None:
    for name in ("a b", "a\nb", "../x", "a'b", "a$b", "A"):
        data = reference()
        data["stacks"][name] = {"on": "nas", "kind": "whoami"}
        with pytest.raises(ValueError, match="pattern"):
            Mesh.model_validate(data)


def test_a_stack_name_that_compose_would_refuse_is_an_error() -> None:
    data = reference()
    data["stacks"]["who.ami"] = {"on": "nas", "kind": "whoami"}
    with pytest.raises(MeshError, match=r"cannot be called who\.ami"):
        compiled(data)


def test_a_link_in_a_stack_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "compose.yaml").write_text("services: {a: {image: 'a:1'}}")
    (folder / "shadow").symlink_to("/etc/shadow")
    data = {"mesh": "m", "hosts": {"box": {"address": "192.168.9.9"}}, "stacks": {"own": {"on": "box", "source": "own"}}}
    with pytest.raises(MeshError, match="only plain files"):
        StackLibrary.load(tmp_path, tmp_path, Mesh.model_validate(data))
