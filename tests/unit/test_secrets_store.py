"""Secrets by name: where values come from, fingerprints, and what is said when a value cannot be had."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import MeshError
from mesh.secrets import document, sources
from mesh.secrets.agefile import AgeFile, create_identity, load_identities
from mesh.secrets.store import PLACEHOLDER, SecretStore
from mesh.secrets.value import Secret, redact
from mesh.spec.mesh import SecretSource

SALT = {"mesh_salt": "salt-for-tests"}


def sealed(folder: Path, identity: Path, **values: str) -> SecretStore:
    """A store over a new secrets.age with these values."""
    folder.mkdir(exist_ok=True)
    key = load_identities(identity)[0] if identity.exists() else create_identity(identity)
    AgeFile(folder).save({name: Secret(value) for name, value in values.items()}, (str(key.to_public()),))
    return SecretStore(folder, {})


def test_a_value_comes_back_as_it_went_in(tmp_path: Path, identity: Path) -> None:
    nasty = "line one\nline two: \"quoted\" 'single' # no comment\n\ttab é 漢字 \\n {{x}} $HOME %s"
    store = sealed(tmp_path, identity, key=nasty, number="0123", yes="yes", empty_looking="~")
    assert store.openable
    assert [store.value(name) for name in ("key", "number", "yes", "empty_looking")] == [nasty, "0123", "yes", "~"]


@given(st.dictionaries(st.from_regex(document.NAME, fullmatch=True), st.text(min_size=1).filter(str.strip), max_size=5))
def test_any_text_survives_the_document(values: dict[str, str]) -> None:
    try:
        text = document.dump({name: Secret(value) for name, value in values.items()})
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair is not text, and cannot come from stdin or the editor
        return
    assert {name: value.reveal() for name, value in document.parse(text, where="x").items()} == values


def test_the_file_is_an_ordinary_armored_age_file(tmp_path: Path, identity: Path) -> None:
    sealed(tmp_path, identity, one="value-1")
    key = pyrage.x25519.Identity.from_str(identity.read_text().splitlines()[-1])
    data = (tmp_path / "secrets.age").read_bytes()
    assert data.startswith(b"-----BEGIN AGE ENCRYPTED FILE-----")
    assert pyrage.decrypt(data, [key]) == b"one: value-1\n"


def test_the_index_has_names_and_no_values(tmp_path: Path, identity: Path) -> None:
    sealed(tmp_path, identity, one="planted-value-2")
    assert "one" in (tmp_path / "secrets.index").read_text()
    assert "planted-value-2" not in (tmp_path / "secrets.index").read_text()


def test_without_the_identity_the_names_are_those_of_the_index(tmp_path: Path, identity: Path) -> None:
    sealed(tmp_path, identity, one="value-1", two="value-2")
    identity.unlink()
    store = SecretStore(tmp_path, {})
    assert not store.openable
    assert store.names() == {"one", "two"}
    with pytest.raises(MeshError, match="no age identity") as caught:
        store.value("one")
    assert caught.value.mend


def test_a_name_that_is_missing_is_an_error_with_the_nearest_name(tmp_path: Path, identity: Path) -> None:
    with pytest.raises(MeshError) as caught:
        sealed(tmp_path, identity, groq_api_key="value-1").value("groq_api_kye")
    assert caught.value.where == "secret:groq_api_kye"
    assert "secret:groq_api_key?" in caught.value.mend


def test_a_wrong_key_is_told_from_a_damaged_file(tmp_path: Path, identity: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed(tmp_path, identity, one="value-1")
    other = tmp_path / "other.txt"
    create_identity(other)
    monkeypatch.setenv("MESH_AGE_IDENTITY", str(other))
    with pytest.raises(MeshError, match="belong to another key"):
        SecretStore(tmp_path, {}).value("one")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: data[:-80], "damaged or cut short"),
        (lambda data: data[: len(data) // 2], "damaged or cut short"),
        (lambda data: data.replace(b"-----BEGIN AGE ENCRYPTED FILE-----", b"hello"), "not an age file"),
        (lambda _: b"", "not an age file"),
        (lambda _: b"one: value-1\n", "not an age file"),
        (lambda _: b"\xff\xfe\x00", "not an age file"),
        (lambda _: b"-----BEGIN AGE ENCRYPTED FILE-----\nnonsense\n-----END AGE ENCRYPTED FILE-----\n", "damaged"),
    ],
)
def test_a_damaged_file_is_a_clear_error(tmp_path: Path, identity: Path, damage: object, says: str) -> None:
    sealed(tmp_path, identity, one="value-1")
    path = tmp_path / "secrets.age"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    store = SecretStore(tmp_path, {})
    assert not store.openable
    with pytest.raises(MeshError, match=says) as caught:
        store.value("one")
    assert str(path) in caught.value.where


def test_a_flipped_byte_in_the_body_is_found(tmp_path: Path, identity: Path) -> None:
    sealed(tmp_path, identity, one="value-1")
    path = tmp_path / "secrets.age"
    lines = path.read_text().splitlines()
    lines[-2] = ("A" if lines[-2][0] != "A" else "B") + lines[-2][1:]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(MeshError, match="damaged"):
        SecretStore(tmp_path, {}).value("one")


def test_a_folder_in_place_of_the_file_is_a_clear_error(tmp_path: Path, identity: Path) -> None:
    create_identity(identity)
    (tmp_path / "secrets.age").mkdir()
    with pytest.raises(MeshError, match="cannot be read"):
        SecretStore(tmp_path, {}).value("one")


@pytest.mark.parametrize(
    "text", ["- a\n- b\n", "one: {a: b}\n", "one: planted-value-3: x\n", "one: *planted_value_3\n", "one: ''\n"]
)
def test_a_file_that_holds_something_else_is_an_error_without_its_text(tmp_path: Path, identity: Path, text: str) -> None:
    key = create_identity(identity)
    (tmp_path / "secrets.age").write_bytes(pyrage.encrypt(text.encode(), [key.to_public()]))
    with pytest.raises(MeshError) as caught:
        SecretStore(tmp_path, {}).value("one")
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["one: a1\none: b2\n", "One: a1\n", "a b: c\n", "? [a]\n: b\n", "[" * 5000, "!!python/object:x {}: 1\n"]
)
def test_a_document_with_bad_names_is_refused(text: str) -> None:
    with pytest.raises(MeshError):
        document.parse(text, where="x")


@pytest.mark.parametrize("text", ["", "nonsense", "AGE-SECRET-KEY-1NONSENSE\n", "# only a comment\n"])
def test_an_identity_that_is_none_is_a_clear_error(identity: Path, text: str) -> None:
    identity.parent.mkdir()
    identity.write_text(text)
    identity.chmod(0o600)
    with pytest.raises(MeshError, match="not an age identity") as caught:
        load_identities(identity)
    assert "NONSENSE" not in str(caught.value)


def test_an_identity_that_others_can_read_is_refused(identity: Path) -> None:
    create_identity(identity)
    assert identity.stat().st_mode & 0o777 == 0o600
    identity.chmod(0o644)
    with pytest.raises(MeshError, match="not private") as caught:
        load_identities(identity)
    assert f"chmod 600 {identity}" in caught.value.mend


def test_a_damaged_index_is_a_clear_error(tmp_path: Path, identity: Path) -> None:
    sealed(tmp_path, identity, one="value-1")
    identity.unlink()
    for text in ("nonsense", "recipients: 3\nnames: [a]\n", "recipients: [a]\n", "{", "\x00"):
        (tmp_path / "secrets.index").write_text(text)
        with pytest.raises(MeshError, match="index of the secrets is damaged"):
            SecretStore(tmp_path, {}).names()


def test_an_environment_variable_is_a_source(tmp_path: Path, identity: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed(tmp_path, identity, token="in-the-file")
    store = SecretStore(tmp_path, {"token": SecretSource(env="THE_TOKEN")})
    with pytest.raises(MeshError, match="THE_TOKEN is not set"):
        store.value("token")
    monkeypatch.setenv("THE_TOKEN", "in-the-environment")
    assert store.value("token") == "in-the-environment"


def test_a_command_is_a_source_without_a_shell_and_runs_once(tmp_path: Path) -> None:
    count = tmp_path / "count"
    script = tmp_path / "pass"
    script.write_text(f'#!/bin/sh\necho x >> {count}\nprintf "%s from %s\\n" "$1" "$(basename "$PWD")"\n')
    script.chmod(0o755)
    store = SecretStore(tmp_path, {"token": SecretSource(command=(str(script), "$HOME; echo"))})
    assert store.value("token") == f"$HOME; echo from {tmp_path.name}"
    assert store.value("token")
    assert count.read_text() == "x\n"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("sh", "-c", "echo planted-value-4; echo why >&2; exit 3"), "failed with exit code 3"),
        (("sh", "-c", "printf '\\377planted-value-4'"), "UTF-8"),
        (("true",), "printed nothing"),
        (("no-such-program-here", "planted"), "cannot be run"),
    ],
)
def test_a_command_that_fails_is_an_error_that_never_shows_what_it_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], command: tuple[str, ...], says: str
) -> None:
    with pytest.raises(MeshError, match=says) as caught:
        SecretStore(tmp_path, {"token": SecretSource(command=command)}).value("token")
    out, err = capfd.readouterr()
    assert "planted" not in str(caught.value) + out + err
    assert "why" in err or "exit code" not in says


def test_a_command_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "COMMAND_SECONDS", 0.2)
    with pytest.raises(MeshError, match="did not answer"):
        SecretStore(tmp_path, {"token": SecretSource(command=("sleep", "30"))}).value("token")


def test_a_fingerprint_follows_the_value_and_the_salt_and_tells_neither(tmp_path: Path, identity: Path) -> None:
    first = sealed(tmp_path / "a", identity, **SALT, one="value-1", two="value-1")
    again = sealed(tmp_path / "b", identity, **SALT, one="value-1")
    changed = sealed(tmp_path / "c", identity, **SALT, one="value-2")
    salted = sealed(tmp_path / "d", identity, mesh_salt="another", one="value-1")
    assert re.fullmatch("[0-9a-f]{16}", first.fingerprint("one"))
    assert first.fingerprint("one") == again.fingerprint("one")
    prints = [first.fingerprint("one"), first.fingerprint("two"), changed.fingerprint("one"), salted.fingerprint("one")]
    assert len(set(prints)) == 4


def test_a_fingerprint_that_cannot_be_made_is_an_error_and_for_a_preview_a_placeholder(tmp_path: Path, identity: Path) -> None:
    unsalted = sealed(tmp_path / "a", identity, one="value-1")
    with pytest.raises(MeshError, match="no salt"):
        unsalted.fingerprint("one")
    store = sealed(tmp_path / "b", identity, **SALT, one="value-1")
    assert store.placeholder_fingerprint("one") == store.fingerprint("one")
    assert store.placeholder_fingerprint("two") == PLACEHOLDER
    identity.unlink()
    closed = SecretStore(tmp_path / "b", {})
    assert closed.placeholder_fingerprint("one") == PLACEHOLDER
    with pytest.raises(MeshError):
        closed.fingerprint("one")


def test_a_secret_in_memory_does_not_print() -> None:
    secret = Secret("planted-value-5")
    assert f"{secret} {secret!r} {secret!s} {[secret]} {secret:>20}".count("[REDACTED]") == 5
    assert redact("key=planted-value-5!") == "key=[REDACTED]!"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_saving_is_atomic_and_leaves_no_temporary_file(tmp_path: Path, identity: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed(tmp_path, identity, one="value-1")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(MeshError, match="cannot be written"):
        sealed(tmp_path, identity, one="value-2")
    assert SecretStore(tmp_path, {}).value("one") == "value-1"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["secrets.age", "secrets.index"]


def test_a_symbolic_link_is_followed_not_replaced(tmp_path: Path, identity: Path) -> None:
    kept = tmp_path / "elsewhere.age"
    folder = tmp_path / "inventory"
    folder.mkdir()
    kept.touch()
    (folder / "secrets.age").symlink_to(kept)
    sealed(folder, identity, one="value-1")
    assert (folder / "secrets.age").is_symlink()
    assert kept.stat().st_size > 0
