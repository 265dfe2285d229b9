"""Mistakes in the spec's own form: each in words of ours, at its place, with how to mend it, and all of them in one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.findings import Finding, SpecInvalid
from mesh.spec.load import load_spec


def mistakes(folder: Path, text: str) -> tuple[Finding, ...]:
    (folder / "mesh.yaml").write_text(text)
    with pytest.raises(SpecInvalid) as raised:
        load_spec(folder)
    return raised.value.findings


SPEC = """\
mesh: Closet
hosts:
  gpu-box:
    adress: 192.168.1.20
    ram: 64
    gpus:
      - {card: RTX, reserv: {}}
      - 3
  B_x: {address: 1.2.3.4, bind: x}
providers:
  o1: {kind: olama, on: x}
  o2: {kind: ollama, one: gpu-box}
  o3: {on: a}
  d: {kind: deepseek, key: sk-ant-abcdef, on: x, plan: {price: 3 EUR, window: 5x}}
  e: nope
models:
  a: {at: o2}
  b: {at: d, id: 4.5, context: many, price: {in: -1, oot: 2}, resident: maybe, kind: embeding}
  c: {at: d, id: x, context: 3}
  on: 5
clients: {c: {routes: []}}
"""
EXPECTED = """\
1:7 spec-value: mesh: `Closet` is not a name that can be used | use lower-case letters, digits, `.`, `_` and `-`, at most 63, beginning and ending with a letter or digit
3:3 spec-key-missing: hosts.gpu-box needs `address`: IP address or DNS name that the laptop and the other hosts use | add address: ...
4:5 spec-key-unknown: unknown key `adress` in hosts.gpu-box | did you mean `address`?
5:10 spec-value: hosts.gpu-box.ram: `64` is not a size | write a number and a unit, such as 500MiB or 12GB (GiB and GB differ)
7:16 spec-value: hosts.gpu-box.gpus[0].card: `RTX` is not a card's name in the catalogue | write `rtx`: lower case, with dashes
7:21 spec-key-unknown: unknown key `reserv` in hosts.gpu-box.gpus[0] | did you mean `reserve`?
8:9 spec-value: hosts.gpu-box.gpus[1]: expected a mapping, not a number | write {KEY: VALUE} or indented `KEY: VALUE` lines
9:3 spec-value: hosts.B_x is not a name that can be used | use lower-case letters, digits, `.`, `_` and `-`, at most 63, beginning and ending with a letter or digit
9:33 spec-value: hosts.B_x.bind: `x` is not an IPv4 address | write one such as 192.168.1.20
11:14 spec-value: providers.o1: `olama` is not one of the choices | did you mean `ollama`?
12:3 spec-key-missing: providers.o2 needs `on`: The host that runs it | add on: ...
12:22 spec-key-unknown: unknown key `one` in providers.o2 | did you mean `on`?
13:3 spec-value: providers.o3: it has no `kind` | add kind: ollama, or the kind of cloud API
14:28 spec-value: providers.d.key: the value is not a reference to a secret | write secret:NAME (lower case, digits and _), never the value itself; `mesh secrets set NAME` stores it
14:43 spec-key-unknown: unknown key `on` in providers.d | known: base_url, first_token, key, kind, plan, through, timeout
14:64 spec-value: providers.d.plan.price: `3 EUR` is not a monthly sum | write it as 20 USD/month
14:79 spec-value: providers.d.plan.window: `5x` is not a duration | write a number and s, m, h or d, such as 10m, or `forever`
15:6 spec-value: providers.e: expected a mapping, not text | write {KEY: VALUE} or indented `KEY: VALUE` lines
17:3 spec-value: models.a: a model has either a `tag` or an `id` | give `tag` for a model of Ollama, `id` for a model of a cloud API
18:18 spec-value: models.b.id: expected text, not a number | if it is text that looks like a number, put it in quotes
18:32 spec-value: models.b.context: expected a whole number, not `many` | write digits only
18:38 spec-key-missing: models.b.price needs `out` | add out: ...
18:50 spec-value: models.b.price.in: `-1` is out of range | it has to be at least 0
18:54 spec-key-unknown: unknown key `oot` in models.b.price | did you mean `out`?
18:73 spec-value: models.b.resident: expected true or false, not `maybe` | write true or false
18:86 spec-value: models.b.kind: `embeding` is not one of the choices | did you mean `embedding`?
19:30 spec-value: models.c.context: `3` is out of range | it has to be at least 256
20:7 spec-value: models.on: expected a mapping, not a number | write {KEY: VALUE} or indented `KEY: VALUE` lines
21:23 spec-value: clients.c.routes: it must not be empty | write at least 1
"""  # noqa: E501  one finding a line, as they are printed


def test_every_mistake_is_found_in_one_run_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = [f"{it.location.line}:{it.location.column} {it.rule}: {it.message} | {it.mend}" for it in mistakes(tmp_path, SPEC)]
    assert found == EXPECTED.splitlines()


def test_a_key_pasted_in_place_of_its_reference_is_never_repeated(tmp_path: Path) -> None:
    planted = "sk-ant-0123456789abcdef"
    text = f"""\
mesh: a
hosts: {{b: {{address: 1.2.3.4}}}}
providers: {{p: {{kind: groq, key: {planted}}}}}
clients: {{c: {{routes: [x], key: [{planted}]}}}}
stacks: {{s: {{on: b, secrets: {{db: {planted}}}}}}}
secrets: {{x: {planted}, y: {{env: {planted}}}, z: {{command: {planted}}}}}
"""
    found = mistakes(tmp_path, text)
    assert len(found) == 6
    assert planted not in str(found)


def test_a_mistake_behind_an_alias_is_placed_where_it_is_written(tmp_path: Path) -> None:
    text = "mesh: a\nhosts:\n  x: &x {address: 1.2.3.4, rum: 1GiB}\n  y: *x\n"
    assert [it.location.line for it in mistakes(tmp_path, text)] == [3, 3]


def test_the_exception_itself_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(SpecInvalid) as raised:
        (tmp_path / "mesh.yaml").write_text("mesh: a\nhosts: {b: {address: 1.2.3.4, ram: 5}}\n")
        load_spec(tmp_path)
    assert str(raised.value) == (
        f"{tmp_path}/mesh.yaml:2:36: hosts.b.ram: `5` is not a size [spec-value]\n"
        "  mend: write a number and a unit, such as 500MiB or 12GB (GiB and GB differ)"
    )
    (tmp_path / "mesh.yaml").write_text("mesh: a\n" + "".join(f"x{number}: 1\n" for number in range(30)))
    with pytest.raises(SpecInvalid, match="the spec has 31 errors") as raised:
        load_spec(tmp_path)
    assert "and 21 more" in str(raised.value)
