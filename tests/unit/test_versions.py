"""Which tag is newer than another: of the same kind, by its numbers, and no trial version."""

from __future__ import annotations

import pytest

from mesh.compile.versions import newest


@pytest.mark.parametrize(
    ("tag", "tags", "newer"),
    [
        ("1.29.1", ["1.29.2", "1.30.0", "1.3.9"], "1.30.0"),
        ("1.29.1", ["1.30", "2", "latest", "1.30.0-alpine", "v1.31.0"], None),
        ("1.29.1-alpine", ["1.30.0", "1.29.9-alpine", "1.30.0-alpine3.22"], "1.29.9-alpine"),
        ("v1.19.0", ["v1.20.0", "v1.20.0-rc1", "1.21.0"], "v1.20.0"),
        ("0.33.0-rc1", ["0.33.0-rc2", "0.34.0-rc1"], "0.34.0-rc1"),
        ("17.1", ["17.2", "18.0", "9.6"], "18.0"),
        ("3.20", ["20240131.1", "3.21"], "3.21"),
        ("latest", ["1.0"], None),
        ("1.0", [], None),
    ],
)
def test_the_newest_of_the_same_kind(tag: str, tags: list[str], newer: str | None) -> None:
    assert newest(tag, tags) == newer
