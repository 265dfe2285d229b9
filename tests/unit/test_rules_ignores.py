"""`drift.ignore`: a reason and an end in sight, or the spec is refused where it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from specs import findings, said

from mesh.findings import SpecInvalid

ENTRY = "drift: {ignore: [{what: %s, reason: the card is lent out, until: %s}]}"


def test_an_ignore_with_a_reason_and_an_end_is_fine(tmp_path: Path) -> None:
    for what in ("vm-docker/litellm/service litellm-a", "'*/*/model llama*'", "gpu-box/card VRAM", "vm-docker/litellm/file *"):
        assert said(findings(tmp_path, ENTRY % (what, "2026-12-31"))) == [], what


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (ENTRY % ("'*/*/* *'", "2026-12-31"), "error[drift-ignore-wide]: drift.ignore[0]: `*/*/* *` would hide all of it"),
        (ENTRY % ("vm-docker/*/* *", "2026-12-31"), "error[drift-ignore-wide]"),
        (ENTRY % ("vm-docker/*/service ?*", "2026-12-31"), "error[drift-ignore-wide]"),
        (ENTRY % ("vm-doker/litellm/service litellm", "2026-12-31"), "error[drift-ignore-unknown]: drift.ignore[0]: there is no"),
        (
            ENTRY % ("vm-docker/litellm/service web", "2027-12-31"),
            "error[drift-ignore-long]: drift.ignore[0]: 2027-12-31 is more",
        ),
        (ENTRY % ("vm-docker/litellm/service web", "2026-11-22"), "warning[drift-ignore-ended]: drift.ignore[0]: it ended on"),
    ],
)
def test_an_ignore_that_hides_too_much_or_too_long_is_found(tmp_path: Path, entry: str, expected: str) -> None:
    found = said(findings(tmp_path, entry))
    assert len(found) == 1, found
    assert found[0].startswith(f"2: {expected}")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{what: vm-docker/x/service y, until: 2026-12-31}", "needs `reason`"),
        ("{what: vm-docker/x/service y, reason: because}", "needs `until`"),
        ("{what: vm-docker/x/service y, reason: because, until: soon}", "expected a date"),
        ("{what: vm-docker/x/service y, reason: '', until: 2026-12-31}", "reason"),
        ("{what: everything, reason: because, until: 2026-12-31}", "names nothing that drift reports"),
    ],
)
def test_an_ignore_without_reason_or_end_is_refused_where_it_is_written(tmp_path: Path, entry: str, words: str) -> None:
    with pytest.raises(SpecInvalid) as refused:
        findings(tmp_path, f"drift:\n  ignore:\n    - {entry}")
    problem = refused.value.findings[0]
    assert words in problem.message
    assert (Path(problem.location.file).name, problem.location.line) == ("mesh.yaml", 4)
    assert problem.location.column > 0
