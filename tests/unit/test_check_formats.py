"""`mesh check` as people, scripts, GitHub and code scanners read it, and its exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clikit import Ran

from mesh.cli.check import MOST_LINES, as_github, as_json, as_sarif, as_text
from mesh.errors import Location
from mesh.findings import Finding, SpecInvalid
from mesh.inventory import Inventory
from mesh.paths import INVENTORY, PROJECT
from mesh.rules.pages import FILE, markdown, pages
from mesh.rules.rule import RULES
from mesh.validate import require_valid

Run = Callable[..., Ran]

BAD = """\
mesh: a
hosts: {h: {address: 1.2.3.4}}
models: {m: {at: p, id: x}}
"""
ODD = Finding("spec-value", "error", "50% of\nx: {1}, ::error::", "a, b", Location("a b/m:1.yaml", 3, 4), ("models", "m", 0))
LOOSE = Finding("image-unlocked", "warning", "none", "`mesh lock`", Location("mesh.yaml"))


@pytest.fixture
def bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An inventory with one error and one warning, below the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "inventory"
    folder.mkdir()
    (folder / "mesh.yaml").write_text(BAD)
    return folder


def test_text_is_one_line_a_finding_with_its_mend_below_and_a_summary(run_mesh: Run, bad: Path) -> None:
    ran = run_mesh("check", "-C", bad)
    assert (ran.code, ran.err) == (1, "")
    assert ran.out == (
        "inventory/mesh.yaml:3:18: error[reference-unknown]: models.m: there is no provider `p`\n"
        "    mend: declare it under `providers:`, or correct the name\n"
        "check: 1 error\n"
    )


def test_every_line_of_text_is_a_place_a_mend_or_the_summary(run_mesh: Run) -> None:
    *lines, last = run_mesh("check", "-C", INVENTORY).out.splitlines()
    assert last.startswith("check: 0 errors, ")
    for line in lines:
        assert re.match(r"    mend: |\S+(:\d+:\d+)?: (error|warning|notice)\[[a-z-]+\]: ", line), line


def test_warnings_do_not_fail_the_check(run_mesh: Run) -> None:
    ran = run_mesh("check", "-C", INVENTORY)
    assert ran.code == 0
    assert "warning[" in ran.out


def test_the_reference_homelab_has_only_honest_warnings() -> None:
    from mesh.validate import validate

    found = validate(Inventory(INVENTORY))
    assert [it for it in found if it.severity == "error"] == []
    retired = [it for it in found if it.rule == "model-retired"]
    assert [it.path[1] for it in retired] == ["deepseek-v3", "deepseek-r1", "groq-llama-3.3-70b"]
    assert all(it.mend.startswith("write id: ") for it in retired)
    honest = {"model-retired", "image-unlocked", "secret-unverified", "vram-spill", "vram-thrash", "port-everywhere"}
    assert {it.rule for it in found} <= honest


def test_a_file_elsewhere_is_shown_by_its_whole_path(
    run_mesh: Run, bad: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert run_mesh("check", "-C", bad).out.startswith(f"{bad}/mesh.yaml:3:18: ")


def test_text_stops_after_a_hundred_findings_with_the_errors_first() -> None:
    many = [LOOSE, *(Finding("spec-value", "error", f"m{index}", "", Location("f", index)) for index in range(1, 200))]
    lines = as_text(many).splitlines()
    assert len(lines) == MOST_LINES + 2
    assert lines[0] == "f:1: error[spec-value]: m1"
    assert lines[-2:] == ["and 100 more; --format json lists all", "check: 199 errors, 1 warning"]


def test_text_of_the_spec_cannot_drive_the_terminal_or_fake_a_finding() -> None:
    evil = Finding("spec-value", "error", "x\x1b[31m\ny: error[a]: b\r", "\x07", Location("f\x1b", 1, 1))
    assert as_text([evil]) == "f\\x1b:1:1: error[spec-value]: x\\x1b[31m y: error[a]: b\\x0d\n    mend: \\x07\ncheck: 1 error"


def test_json_has_everything(run_mesh: Run, bad: Path) -> None:
    assert json.loads(run_mesh("check", "-C", bad, "--format", "json").out) == {
        "version": 1,
        "ok": False,
        "summary": "1 error",
        "findings": [
            {
                "rule": "reference-unknown",
                "severity": "error",
                "message": "models.m: there is no provider `p`",
                "mend": "declare it under `providers:`, or correct the name",
                "file": "inventory/mesh.yaml",
                "line": 3,
                "column": 18,
                "path": ["models", "m", "at"],
            }
        ],
    }


def test_json_lists_all_findings() -> None:
    assert len(json.loads(as_json([LOOSE] * 500))["findings"]) == 500


def test_github_annotations_are_escaped_as_github_wants() -> None:
    assert as_github([ODD, LOOSE]).splitlines() == [
        "::error file=a b/m%3A1.yaml,line=3,col=4,title=spec-value::50%25 of%0Ax: {1}, ::error::%0Amend: a, b",
        "::warning file=mesh.yaml,title=image-unlocked::none%0Amend: `mesh lock`",
        "check: 1 error, 1 warning",
    ]


def sarif(findings: list[Finding]) -> Any:
    return json.loads(as_sarif(findings))


def test_sarif_is_what_code_scanning_reads() -> None:
    document = sarif([ODD, LOOSE, ODD])
    assert (document["version"], document["$schema"]) == ("2.1.0", "https://json.schemastore.org/sarif-2.1.0.json")
    (run,) = document["runs"]
    assert run["tool"]["driver"]["name"] == "homelab-mesh"
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["image-unlocked", "spec-value"]
    assert [rule["defaultConfiguration"]["level"] for rule in rules] == ["warning", "error"]
    assert all(rule["shortDescription"]["text"] and rule["fullDescription"]["text"] for rule in rules)
    first, second, third = run["results"]
    assert first == third
    assert first == {
        "ruleId": "spec-value",
        "ruleIndex": 1,
        "level": "error",
        "message": {"text": "50% of\nx: {{1}}, ::error::. Mend: a, b"},
        "locations": [
            {"physicalLocation": {"artifactLocation": {"uri": "a%20b/m%3A1.yaml"}, "region": {"startLine": 3, "startColumn": 4}}}
        ],
    }
    assert second["locations"] == [{"physicalLocation": {"artifactLocation": {"uri": "mesh.yaml"}}}]
    assert sarif([Finding("spec-value", "notice", "m", "", Location("/x y/m.yaml"))])["runs"][0]["results"][0] == {
        "ruleId": "spec-value",
        "ruleIndex": 0,
        "level": "note",
        "message": {"text": "m"},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": "file:///x%20y/m.yaml"}}}],
    }


@pytest.mark.parametrize("form", ["text", "json", "github", "sarif"])
def test_a_spec_that_does_not_load_is_reported_in_every_format(run_mesh: Run, bad: Path, form: str) -> None:
    (bad / "mesh.yaml").write_text("mesh: a\nmesh: b\n")
    ran = run_mesh("check", "-C", bad, "--format", form)
    assert (ran.code, ran.err) == (1, "")
    assert "spec-key-duplicate" in ran.out


def test_the_page_of_rules_is_in_step_with_the_rules() -> None:
    assert FILE.read_text() == markdown(), "write it anew: python -m mesh.rules.pages"


def test_every_rule_has_a_page_and_every_finding_a_rule() -> None:
    assert all(page.text and page.title for page in pages().values())
    assert set(RULES) < set(pages())
    source = "".join(file.read_text() for folder in ("spec", "rules") for file in (PROJECT / "mesh" / folder).glob("*.py"))
    source += (PROJECT / "mesh" / "validate.py").read_text()
    named = set(re.findall(r'"((?:spec|stack|secret|image)-[a-z-]+)"', source))
    assert named <= set(pages())


def test_every_verb_can_insist_on_a_valid_spec(bad: Path) -> None:
    with pytest.raises(SpecInvalid, match="there is no provider `p`"):
        require_valid(Inventory(bad))
    require_valid(Inventory(INVENTORY))


def test_a_stack_folder_that_cannot_be_read_is_a_finding_at_its_stack(run_mesh: Run, bad: Path) -> None:
    (bad / "mesh.yaml").write_text(
        "mesh: a\nhosts: {h: {address: 1.2.3.4}}\nstacks:\n"
        "  mine: {on: h, source: ../mine}\n  whoami: {on: h}\n  qdrnt: {on: h}\n  broken: {on: h, source: ../broken}\n"
    )
    (bad.parent / "broken").mkdir()
    (bad.parent / "broken" / "compose.yaml").write_text("services: [")
    out = run_mesh("check", "-C", bad).out
    assert "inventory/mesh.yaml:4:3: error[stack-folder]: the stack's folder does not exist" in out
    assert "inventory/mesh.yaml:6:3: error[stack-unknown]: stacks.qdrnt: there is no folder stacks/qdrnt" in out
    assert "inventory/mesh.yaml:7:3: error[stack-folder]: not valid YAML" in out


def test_what_the_stacks_themselves_need_is_checked_too(run_mesh: Run, bad: Path) -> None:
    (bad / "secrets.index").write_text("recipients: []\nnames: []\n")
    (bad / "mesh.yaml").write_text("mesh: a\nhosts: {h: {address: 1.2.3.4}}\nstacks: {qdrant: {on: h}}\n")
    out = run_mesh("check", "-C", bad).out
    assert (
        "inventory/mesh.yaml:3:10: error[secret-missing]: stacks.qdrant needs the secret `qdrant_api_key`, which has no value"
        in out
    )
    assert "the mesh needs the secret `mesh_salt`" in out


def test_a_stack_that_does_not_compile_is_a_finding(run_mesh: Run, bad: Path) -> None:
    (bad / "mesh.yaml").write_text(
        "mesh: a\nhosts: {h: {address: 1.2.3.4}}\nstacks: {p: {on: h, kind: caching-proxy}}\nproviders:\n"
        "  one: {kind: anthropic, base_url: http://x, through: p}\n  two: {kind: anthropic, base_url: http://y, through: p}\n"
    )
    ran = run_mesh("check", "-C", bad)
    assert ran.code == 1
    assert (
        "inventory/mesh.yaml:3:10: error[stack-compile]: one caching proxy cannot serve providers at different addresses"
        in ran.out
    )


@pytest.mark.parametrize(("file", "rule"), [("secrets.index", "secret-file"), ("images.lock", "image-lock")])
def test_a_damaged_file_beside_the_spec_is_a_finding_in_that_file(run_mesh: Run, bad: Path, file: str, rule: str) -> None:
    (bad / file).write_text("- nonsense\n")
    assert f"inventory/{file}: error[{rule}]: " in run_mesh("check", "-C", bad).out
