"""Image references and images.lock."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.compile.images import ImageLock, ImageRef
from mesh.errors import MeshError

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("nginx", ("nginx", "", "")),
        ("nginx:1.29.1", ("nginx", "1.29.1", "")),
        ("ghcr.io/berriai/litellm:v1", ("ghcr.io/berriai/litellm", "v1", "")),
        ("10.0.0.2:5000/litellm", ("10.0.0.2:5000/litellm", "", "")),
        ("10.0.0.2:5000/litellm:1", ("10.0.0.2:5000/litellm", "1", "")),
        (f"10.0.0.2:5000/litellm:1@{DIGEST}", ("10.0.0.2:5000/litellm", "1", DIGEST)),
        (f"a/b@{DIGEST}", ("a/b", "", DIGEST)),
    ],
)
def test_a_reference_is_taken_apart_and_put_together(text: str, parts: tuple[str, str, str]) -> None:
    ref = ImageRef.parse(text)
    assert (ref.repo, ref.tag, ref.digest) == parts
    assert str(ref) == text


def test_what_the_lock_wrote_it_reads(tmp_path: Path) -> None:
    lock = ImageLock().with_image("b:1", DIGEST, "2026-11-23").with_image("a:2", DIGEST, "2026-11-22")
    (tmp_path / "images.lock").write_text(lock.dump())
    assert ImageLock.load(tmp_path / "images.lock") == lock
    assert lock.dump().index("a:2") < lock.dump().index("b:1")


def test_an_unknown_image_keeps_its_tag() -> None:
    lock = ImageLock().with_image("b:1", DIGEST, "2026-11-23")
    assert lock.pin("b:1") == f"b:1@{DIGEST}"
    assert lock.pin("b:2") == "b:2"
    assert lock.pin(f"b:1@{DIGEST}") == f"b:1@{DIGEST}"


def test_no_lock_is_an_empty_lock(tmp_path: Path) -> None:
    assert ImageLock.load(tmp_path / "images.lock") == ImageLock()
    (tmp_path / "images.lock").write_text("# nothing yet\n")
    assert ImageLock.load(tmp_path / "images.lock") == ImageLock()


@pytest.mark.parametrize(
    "content", [b"[]", b"images: []", b"images: {a: 1}", b"images: {a: {digest: sha256:x}}", b"a: [", b"\xff\xfe"]
)
def test_a_malformed_lock_is_an_error_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "images.lock").write_bytes(content)
    with pytest.raises(MeshError) as caught:
        ImageLock.load(tmp_path / "images.lock")
    assert "images.lock" in caught.value.where
    assert "mesh lock" in caught.value.mend
