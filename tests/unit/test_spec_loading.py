"""Loading a sound spec: what YAML means here, `extends`, a spec in Python, places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.errors import Location
from mesh.findings import SpecInvalid
from mesh.paths import INVENTORY
from mesh.spec.load import load_spec
from mesh.spec.yaml_source import parse_yaml, plain_data


def data_of(text: str) -> Any:
    return plain_data(parse_yaml(text.encode(), "f"))[0]


def refused(folder: Path, text: str, name: str = "mesh.yaml") -> tuple[str, str, str]:
    """(rule, place, message) of the one error in the text."""
    (folder / name).write_text(text)
    with pytest.raises(SpecInvalid) as raised:
        load_spec(folder)
    (finding,) = raised.value.findings
    return finding.rule, str(finding.location).removeprefix(f"{folder}/"), finding.message


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("off", "off"),
        ("12:30:45", "12:30:45"),
        ("2026-07-24", "2026-07-24"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("010", 10),
        ("-3", -3),
        ("+4", 4),
        ("1.50", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("v1.0", "v1.0"),
        ("=", "="),
        ("1" * 19, "1" * 19),
    ],
)
def test_plain_scalars_follow_yaml_1_2(written: str, means: object) -> None:
    value = data_of(f"key: {written}")["key"]
    assert (value, type(value)) == (means, type(means))


def test_keys_are_always_text() -> None:
    assert list(data_of("on: 1\nyes: 1\n1: 1\nnull: 1\n2.5: 1\ntrue: 1")) == ["on", "yes", "1", "null", "2.5", "true"]


def test_merge_keys_and_aliases_mean_what_they_mean_elsewhere() -> None:
    text = "a: &a {x: 1, y: [p, q]}\nb: &b {<<: *a, x: 2}\nc: {z: 3, <<: [*b, {w: 4, x: 5}]}\nd: *a\ne: {<<: {k: v}}\n"
    assert data_of(text) == yaml.safe_load(text)


def test_an_anchor_may_be_given_anew() -> None:
    assert data_of("a: &n 1\nb: *n\nc: &n two\nd: *n\n") == {"a": 1, "b": 1, "c": "two", "d": "two"}


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_bytes(b"\xef\xbb\xbfmesh: a\r\nhosts:\r\n  b: {address: 1.2.3.4}\r\n")
    loaded = load_spec(tmp_path)
    assert loaded.mesh.mesh == "a"
    assert loaded.source.locate(("hosts", "b", "address")).line == 3


def test_the_reference_spec_loads_and_knows_its_places() -> None:
    loaded = load_spec(INVENTORY)
    lines = (INVENTORY / "mesh.yaml").read_text().splitlines()
    at = loaded.source.locate(("routes", "bulk", "fallback", 1))
    assert lines[at.line - 1][at.column - 1 :].startswith("claude]")
    at = loaded.source.locate(("models", "claude"))
    assert lines[at.line - 1][at.column - 1 :] == "claude:"
    at = loaded.source.locate(("hosts", "gpu-box", "gpus", 0))
    assert lines[at.line - 1][at.column - 1 :] == "card: rtx-4070-ti"
    at = loaded.source.locate(("hosts", "nas", "ram"), key=True)
    assert lines[at.line - 1][at.column - 1 :].startswith("ram: 8GiB")


def test_something_that_is_not_written_is_placed_at_what_is_around_it(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text("mesh: a\nhosts:\n  b: {address: 1.2.3.4}\n")
    source = load_spec(tmp_path).source
    assert source.locate(("hosts", "b", "ssh", "port")) == Location(str(tmp_path / "mesh.yaml"), 3, 3)
    assert source.locate(("stacks",)) == Location(str(tmp_path / "mesh.yaml"))


BASE = "mesh: a\nhosts:\n  x: {address: 1.2.3.4, ram: 1GiB}\n  y: {address: 1.2.3.5}\nimages: {q: w, r: s}\n"


def test_extends_merges_mappings_replaces_the_rest_and_null_deletes(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "over").mkdir()
    (tmp_path / "over" / "mesh.yaml").write_text(
        "extends: ../base.yaml\nhosts: {x: {address: 9.9.9.9}, y: null, z: {address: 1.1.1.1}}\nimages: {q: t}\n"
    )
    loaded = load_spec(tmp_path / "over")
    assert {name: (host.address, host.ram) for name, host in loaded.mesh.hosts.items()} == {
        "x": ("9.9.9.9", 2**30),
        "z": ("1.1.1.1", None),
    }
    assert loaded.mesh.images == {"q": "t", "r": "s"}
    assert loaded.source.locate(("hosts", "x", "address")) == Location(str(tmp_path / "over" / "mesh.yaml"), 2, 22)
    assert loaded.source.locate(("hosts", "x", "ram")) == Location(str(tmp_path / "base.yaml"), 3, 30)


def test_a_chain_of_files_is_laid_over_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(BASE)
    (tmp_path / "b.yaml").write_text("extends: a.yaml\nmesh: b\nimages: {q: b}\n")
    (tmp_path / "mesh.yaml").write_text("extends: b.yaml\nmesh: c\n")
    mesh = load_spec(tmp_path).mesh
    assert (mesh.mesh, mesh.images["q"], mesh.images["r"]) == ("c", "b", "s")


def test_what_extends_cannot_use_is_said_where_it_is_written(tmp_path: Path) -> None:
    at = "mesh.yaml:1:10"
    assert refused(tmp_path, "extends: mesh.yaml\n") == ("spec-extends", at, "`extends` comes back to mesh.yaml")
    assert refused(tmp_path, "extends: [a]\n") == ("spec-extends", at, "`extends` takes the path of one YAML file")
    rule, place, message = refused(tmp_path, "extends: nowhere.yaml\n")
    assert (rule, place) == ("spec-extends", at)
    assert message.endswith("nowhere.yaml: the file does not exist")
    assert refused(tmp_path, f"extends: {tmp_path}\n")[2].endswith("is a folder")
    assert refused(tmp_path, "extends: /dev/zero\n")[2].endswith("zero is not an ordinary file")
    assert refused(tmp_path, 'extends: "a\\0b"\n')[:2] == ("spec-extends", at)
    (tmp_path / "one.yaml").write_text("extends: two.yaml\n")
    (tmp_path / "two.yaml").write_text("extends: one.yaml\n")
    assert refused(tmp_path, "extends: one.yaml\n") == ("spec-extends", "two.yaml:1:10", "`extends` comes back to one.yaml")


def test_a_mistake_in_an_extended_file_is_placed_in_that_file(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE.replace("ram: 1GiB", "ram: 1"))
    assert refused(tmp_path, "extends: base.yaml\n")[1] == "base.yaml:3:30"


PYTHON = """\
from mesh.spec.hosts import Host
from mesh.spec.mesh import Mesh

hosts = {f"h{number}": Host(address=f"10.0.0.{number}", ram="8GiB") for number in range(1, 4)}
mesh = Mesh(mesh="closet", hosts=hosts, providers={"o": {"kind": "ollama", "on": "h1"}})
"""


def test_a_python_spec_is_the_same_mesh_as_its_yaml(tmp_path: Path) -> None:
    python, text = tmp_path / "python", tmp_path / "yaml"
    for folder in (python, text):
        folder.mkdir()
    (python / "mesh.py").write_text(PYTHON)
    (text / "mesh.yaml").write_text(
        "mesh: closet\nproviders: {o: {kind: ollama, on: h1}}\nhosts:\n"
        + "".join(f"  h{number}: {{address: 10.0.0.{number}, ram: 8GiB}}\n" for number in range(1, 4))
    )
    assert load_spec(python).mesh == load_spec(text).mesh


def test_the_reference_spec_is_the_same_in_python(tmp_path: Path) -> None:
    data = plain_data(parse_yaml((INVENTORY / "mesh.yaml").read_bytes(), "f"))[0]
    (tmp_path / "mesh.py").write_text(f"from mesh.spec.mesh import Mesh\nmesh = Mesh(**{data!r})\n")
    assert load_spec(tmp_path).mesh == load_spec(INVENTORY).mesh


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1\nmesh = (\n", ("spec-python", "mesh.py:2:8", "not valid Python: '(' was never closed")),
        ("x = 1\ny = x / 0\n", ("spec-python", "mesh.py:2", "the spec stopped with ZeroDivisionError: division by zero")),
        (
            "import nowhere\n",
            ("spec-python", "mesh.py:1", "the spec stopped with ModuleNotFoundError: No module named 'nowhere'"),
        ),
        ("import sys\nsys.exit(3)\n", ("spec-python", "mesh.py:2", "the spec stopped with SystemExit: 3")),
        (
            "def f(): f()\nf()\n",
            ("spec-python", "mesh.py:1", "the spec stopped with RecursionError: maximum recursion depth exceeded"),
        ),
        ("x = 1\n", ("spec-python", "mesh.py", "the file does not define `mesh`")),
        ("mesh = {}\n", ("spec-python", "mesh.py", "the file defines `mesh` as dict, not as a Mesh")),
        (
            "from mesh.spec.hosts import Host\n\nHost(address='a', adress='b')\n",
            ("spec-key-unknown", "mesh.py:3", "unknown key `adress` in Host"),
        ),
        (
            "from mesh.spec.mesh import Mesh\nmesh = Mesh(mesh='a', hosts={'b': {'address': 'c', 'ram': 5}})\n",
            ("spec-value", "mesh.py:2", "hosts.b.ram: `5` is not a size"),
        ),
        ("\0", ("spec-python", "mesh.py", "the spec stopped with ValueError: source code string cannot contain null bytes")),
    ],
)
def test_what_is_wrong_with_a_python_spec_is_said_at_its_line(tmp_path: Path, text: str, expected: tuple[str, str, str]) -> None:
    if text == "\0":
        assert refused(tmp_path, text, "mesh.py")[0] == "spec-python"
    else:
        assert refused(tmp_path, text, "mesh.py") == expected


def test_two_specs_in_one_inventory_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mesh.py").write_text("")
    rule, _, message = refused(tmp_path, "mesh: a\n")
    assert (rule, message) == ("spec-ambiguous", "the inventory has mesh.yaml and mesh.py, and only one can be the spec")
