"""Entries go into and out of the operator's YAML, and every other byte stays."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.edit.entries import added, removed
from mesh.errors import MeshError
from mesh.spec.yaml_source import parse_yaml, plain_data

NEW = {"routes": ["bulk", "embed"], "budget": "5 USD/month", "rpm": 60}
LINE = "ocr: {routes: [bulk, embed], budget: 5 USD/month, rpm: 60}"


def data(text: str) -> object:
    return plain_data(parse_yaml(text.encode(), "mesh.yaml"))[0]


def add(text: str, name: str = "ocr") -> str:
    return added(text.encode(), "mesh.yaml", "clients", name, NEW).decode()


def remove(text: str, name: str) -> str:
    return removed(text.encode(), "mesh.yaml", "clients", name).decode()


ADDED = {
    "flow lines beside flow lines": (
        "clients: # who\n  a: {routes: [x]} # first\n  # b: later\n\nstacks: {}\n",
        f"clients: # who\n  a: {{routes: [x]}} # first\n  {LINE}\n  # b: later\n\nstacks: {{}}\n",
    ),
    "a block beside blocks": (
        "clients:\n    a:\n       routes:\n       - x # one\nstacks: {}\n",
        "clients:\n    a:\n       routes:\n       - x # one\n    ocr:\n       routes: [bulk, embed]\n"
        "       budget: 5 USD/month\n       rpm: 60\nstacks: {}\n",
    ),
    "no line end at the end": ("clients:\n  a: {routes: [x]}", f"clients:\n  a: {{routes: [x]}}\n  {LINE}"),
    "CRLF": ("mesh: m\r\nclients:\r\n  a: {}\r\n", f"mesh: m\r\nclients:\r\n  a: {{}}\r\n  {LINE}\r\n"),
    "no section": ("mesh: m # name\n# end\n", f"mesh: m # name\n\nclients:\n  {LINE}\n# end\n"),
    "an empty section": ("clients: # none\nstacks: {}\n", f"clients: # none\n  {LINE}\nstacks: {{}}\n"),
    "null": ("clients: ~ # none\n", f"clients: {{{LINE}}} # none\n"),
    "empty braces": ("clients: {}\n", f"clients: {{{LINE}}}\n"),
    "braces on one line": ("clients: {a: {routes: [x]}} # c\n", f"clients: {{a: {{routes: [x]}}, {LINE}}} # c\n"),
    "braces over lines": (
        "clients: {\n  a: {routes: [x]} # c\n}\n",
        f"clients: {{\n  a: {{routes: [x]}}, # c\n  {LINE}\n}}\n",
    ),
    "braces over lines with a last comma": (
        "clients: {\n  a: {routes: [x]}, # c, d\n}\n",
        f"clients: {{\n  a: {{routes: [x]}}, # c, d\n  {LINE},\n}}\n",
    ),
    "JSON": ('{"mesh": "m", "clients": {"a": {}}}', f'{{"mesh": "m", "clients": {{"a": {{}}, {LINE}}}}}'),
    "JSON without a section": ('{"mesh": "m"}', f'{{"mesh": "m", clients: {{{LINE}}}}}'),
    "a value over lines": (
        "clients:\n  a:\n    note: >-\n      folded\n      text\nx: 1\n",
        "clients:\n  a:\n    note: >-\n      folded\n      text\n  ocr:\n    routes: [bulk, embed]\n"
        "    budget: 5 USD/month\n    rpm: 60\nx: 1\n",
    ),
    "a last value that is an alias": (
        "base: &b {routes: [x]}\nclients:\n  a: *b # same\nx: 1\n",
        f"base: &b {{routes: [x]}}\nclients:\n  a: *b # same\n  {LINE}\nx: 1\n",
    ),
    "the end of a document": ("---\nclients:\n  a: {}\n...\n", f"---\nclients:\n  a: {{}}\n  {LINE}\n...\n"),
}


@pytest.mark.parametrize(("before", "after"), ADDED.values(), ids=ADDED)
def test_an_added_entry_follows_its_neighbours(before: str, after: str) -> None:
    assert add(before) == after


REMOVED = {
    "a line and its comment": ("clients:\n  a: {} # x\n  # kept\n  ocr: {} # gone\n", "clients:\n  a: {} # x\n  # kept\n"),
    "a block": ("clients:\n  ocr:\n    routes:\n    - x\n  a: {}\n", "clients:\n  a: {}\n"),
    "the only one": ("clients: # who\n  ocr: {}\nx: 1\n", "clients: {} # who\nx: 1\n"),
    "the first in braces": ("clients: {ocr: {}, a: {}}\n", "clients: {a: {}}\n"),
    "the last in braces": ("clients: {a: {}, ocr: {}}\n", "clients: {a: {}}\n"),
    "the only one in braces": ("clients: {ocr: {}}\n", "clients: {}\n"),
    "a line in braces": ("clients: {\n  a: {}, # x\n  ocr: {}, # gone\n}\n", "clients: {\n  a: {}, # x\n}\n"),
    "CRLF": ("clients:\r\n  ocr: {}\r\n  a: {}\r\n", "clients:\r\n  a: {}\r\n"),
    "no line end at the end": ("clients:\n  a: {}\n  ocr: {}", "clients:\n  a: {}\n"),
}


@pytest.mark.parametrize(("before", "after"), REMOVED.values(), ids=REMOVED)
def test_a_removed_entry_takes_nothing_along(before: str, after: str) -> None:
    assert remove(before, "ocr") == after


@pytest.mark.parametrize(
    "text",
    [
        "base: &c {a: {routes: [x]}}\nclients: *c\n",
        "clients: [a, b]\n",
        "base: &b\n  clients: {a: {}}\n<<: *b\n",
        "clients:\n  ? a\n  : {routes: [x]}\n",
        "? clients\n: a: {routes: [x]}\n",
    ],
)
def test_what_cannot_be_edited_surely_is_left_to_the_operator_with_the_line_to_write(text: str) -> None:
    with pytest.raises(MeshError) as caught:
        add(text)
    assert LINE in caught.value.mend
    assert caught.value.why


def test_an_entry_that_others_refer_to_is_not_removed() -> None:
    with pytest.raises(MeshError, match="left to you"):
        remove("clients:\n  ocr: &o {routes: [x]}\n  a: *o\n", "ocr")


def test_a_byte_order_mark_stays() -> None:
    assert add("\ufeffclients: {}\n").startswith("\ufeffclients")


@pytest.mark.parametrize("name", ["1.5", "null", "true", "12", "1e5"])
def test_a_name_that_looks_like_something_else_stays_a_name(name: str) -> None:
    text = added(b"clients: {}\n", "mesh.yaml", "clients", name, {"routes": [name]}).decode()
    assert data(text) == {"clients": {name: {"routes": [name]}}}


NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True).filter(lambda name: name != "ocr")
COMMENTS = st.sampled_from(["", " # c", "  # a: {b, c}", ' # "', " # 'it"])
FORMS = st.sampled_from(["flow", "block", "quoted", "spread"])


@st.composite
def specs(draw: st.DrawFn) -> str:
    """Valid YAML with a section of clients, each written in one of the ways that people do."""
    indent, inner = " " * draw(st.integers(1, 4)), " " * draw(st.integers(1, 4))
    lines = ["# head", "mesh: closet" + draw(COMMENTS)]
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    braces = draw(st.booleans())
    lines.append("clients: {" if braces else "clients:" + draw(COMMENTS))
    for index, name in enumerate(names):
        comma = "," if braces and (index + 1 < len(names) or draw(st.booleans())) else ""
        form = draw(FORMS)
        if form == "block" and not braces:
            lines += [f"{indent}{name}:{draw(COMMENTS)}", f"{indent}{inner}routes:", f"{indent}{inner}- x{draw(COMMENTS)}"]
        elif form == "quoted":
            lines.append(f"{indent}\"{name}\":  {{ 'routes' : [ x ,y ] }}{comma}{draw(COMMENTS)}")
        elif form == "spread":
            lines += [f"{indent}{name}: {{routes: [x,{draw(COMMENTS)}", f"{indent}{inner}y]}}{comma}{draw(COMMENTS)}"]
        else:
            lines.append(f"{indent}{name}: {{routes: [x]}}{comma}{draw(COMMENTS)}")
        if draw(st.booleans()):
            lines.append(draw(st.sampled_from(["", f"{indent}# between", "# at the margin"])))
    if braces:
        lines.append(draw(st.sampled_from(["}", "  }  # done", "} # , {"])))
    if draw(st.booleans()):
        lines += ["# tail", "stacks: {a: {on: b}}"]
    text = draw(st.sampled_from(["\n", "\r\n"])).join(lines)
    return text + draw(st.sampled_from(["", text[-1] if text.endswith("\n") else "\n"]))


@settings(max_examples=300, deadline=None)
@given(specs())
def test_any_usual_spec_takes_an_entry_and_gives_it_back_byte_for_byte(text: str) -> None:
    before = data(text)
    assert isinstance(before, dict)
    edited = add(text)
    assert data(edited) == {**before, "clients": {**before["clients"], "ocr": NEW}}
    assert _is_subsequence_of_lines(text, edited)
    again = remove(edited, "ocr")
    assert data(again) == before
    assert _comments(again) == _comments(text)
    if "clients: {" not in text:
        assert again.rstrip("\r\n") == text.rstrip("\r\n")


def _is_subsequence_of_lines(text: str, edited: str) -> bool:
    """Every line of the text is in the edited one, in order; a comma may have come in after a value."""
    wanted = iter(edited.splitlines())
    return all(any(_same(line, each) for each in wanted) for line in text.splitlines())


def _same(line: str, edited: str) -> bool:
    return line == edited or any(line == edited[:at] + edited[at + 1 :] for at in (m.start() for m in re.finditer(",", edited)))


def _comments(text: str) -> list[str]:
    return re.findall(r"(?:^|\s)#[^\r\n]*", text)
