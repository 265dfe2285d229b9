"""`mesh check`: the findings, written for people, programs, GitHub and code scanners."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from mesh.cli.output import harmless, style
from mesh.errors import EXIT_ERROR, EXIT_OK, Location
from mesh.findings import Finding, Severity, SpecInvalid

Format = Literal["text", "json", "github", "sarif"]
MOST_LINES = 100
"""Findings that the text form shows; the other forms show all."""
_STYLES: dict[Severity, tuple[str, ...]] = {"error": ("red", "bold"), "warning": ("yellow", "bold"), "notice": ("cyan",)}


def run(inventory_dir: Path, *, format: Format = "text") -> int:
    """Print every finding. 0 when there is no error among them, else 1."""
    findings = [_from_here(finding) for finding in gather(inventory_dir)]
    writers = {"text": as_text, "json": as_json, "github": as_github, "sarif": as_sarif}
    print(writers[format](findings))
    return EXIT_ERROR if any(finding.severity == "error" for finding in findings) else EXIT_OK


def gather(inventory_dir: Path) -> tuple[Finding, ...]:
    """Every finding about the inventory, those of loading included."""
    from mesh.spec.load import spec_file

    try:
        spec_file(inventory_dir)
        from mesh.inventory import Inventory
        from mesh.validate import validate

        return validate(Inventory(inventory_dir))
    except SpecInvalid as invalid:
        return invalid.findings


def _from_here(finding: Finding) -> Finding:
    """The finding with its file as seen from the current folder; absolute when it is not below it."""
    here = Path.cwd()
    file = Path(os.path.normpath(here / finding.location.file))
    shown = file.relative_to(here) if file.is_relative_to(here) else file
    return replace(finding, location=replace(finding.location, file=str(shown)))


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def summary(findings: Sequence[Finding]) -> str:
    """`2 errors, 1 warning`."""
    severities: tuple[Severity, ...] = ("error", "warning", "notice")
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in severities}
    return ", ".join(_count(number, severity) for severity, number in counts.items() if number or severity == "error")


def as_text(findings: Sequence[Finding]) -> str:
    """`file:line:column: severity[rule]: message`, a line each, with how to mend it below."""
    shown = (
        sorted(findings, key=lambda finding: finding.severity != "error")[:MOST_LINES] if len(findings) > MOST_LINES else findings
    )
    lines = []
    for finding in shown:
        label = style(f"{finding.severity}[{finding.rule}]", *_STYLES[finding.severity])
        lines.append(f"{harmless(str(finding.location))}: {label}: {_one_line(finding.message)}")
        if finding.mend:
            lines.append(f"    mend: {_one_line(finding.mend)}")
    if len(findings) > len(shown):
        lines.append(f"and {len(findings) - len(shown)} more; --format json lists all")
    return "\n".join([*lines, f"check: {summary(findings)}"])


def _one_line(text: str) -> str:
    return harmless(text).replace("\n", " ").replace("\t", " ")


def as_json(findings: Sequence[Finding]) -> str:
    """One document. `version` changes when a field changes its meaning."""
    return json.dumps(
        {
            "version": 1,
            "ok": not any(finding.severity == "error" for finding in findings),
            "summary": summary(findings),
            "findings": [
                {
                    "rule": finding.rule,
                    "severity": finding.severity,
                    "message": finding.message,
                    "mend": finding.mend,
                    "file": finding.location.file,
                    "line": finding.location.line,
                    "column": finding.location.column,
                    "path": list(finding.path),
                }
                for finding in findings
            ],
        },
        indent=2,
    )


def as_github(findings: Sequence[Finding]) -> str:
    """Workflow commands: GitHub shows each beside its line in the pull request."""
    return "\n".join([*(_github_line(finding) for finding in findings), f"check: {summary(findings)}"])


def _github_line(finding: Finding) -> str:
    at = finding.location
    fields = {"file": at.file, "line": at.line or None, "col": at.column or None, "title": finding.rule}
    listed = ",".join(f"{key}={_escaped(str(value), ':,')}" for key, value in fields.items() if value is not None)
    text = f"{finding.message}\nmend: {finding.mend}" if finding.mend else finding.message
    return f"::{finding.severity} {listed}::{_escaped(text)}"


def _escaped(text: str, more: str = "") -> str:
    """GitHub's own escapes, so that no text can end a command or start another; other control characters are made visible."""
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return harmless(text)


def as_sarif(findings: Sequence[Finding]) -> str:
    """SARIF 2.1.0, for code scanning."""
    from mesh import __version__
    from mesh.rules.pages import pages

    known = pages()
    used = sorted({finding.rule for finding in findings})
    rules = [
        {
            "id": rule,
            "shortDescription": _sarif_text(known[rule].title),
            "fullDescription": _sarif_text(known[rule].text),
            "defaultConfiguration": {"level": _LEVELS[known[rule].severity]},
        }
        for rule in used
    ]
    document = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "homelab-mesh", "version": __version__, "rules": rules}},
                "columnKind": "unicodeCodePoints",
                "results": [_sarif_result(finding, used.index(finding.rule)) for finding in findings],
            }
        ],
    }
    return json.dumps(document, indent=2)


_LEVELS: dict[Severity, str] = {"error": "error", "warning": "warning", "notice": "note"}


def _sarif_result(finding: Finding, rule_index: int) -> dict[str, Any]:
    text = f"{finding.message}. Mend: {finding.mend}" if finding.mend else finding.message
    place: dict[str, Any] = {"artifactLocation": {"uri": _uri(finding.location.file)}}
    if finding.location.line:
        place["region"] = _region(finding.location)
    return {
        "ruleId": finding.rule,
        "ruleIndex": rule_index,
        "level": _LEVELS[finding.severity],
        "message": _sarif_text(text),
        "locations": [{"physicalLocation": place}],
    }


def _sarif_text(text: str) -> dict[str, str]:
    """Braces are doubled (SARIF 2.1.0, section 3.11.5): single ones would be places for arguments."""
    return {"text": text.replace("{", "{{").replace("}", "}}")}


def _region(at: Location) -> dict[str, int]:
    return {"startLine": at.line, **({"startColumn": at.column} if at.column else {})}


def _uri(file: str) -> str:
    return f"file://{quote(file)}" if file.startswith("/") else quote(file)
