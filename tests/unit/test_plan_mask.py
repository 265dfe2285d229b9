"""Texts of files in a plan: what changes is shown, and no value of a secret, neither today's nor a former one."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mesh.plan.looked import Found
from mesh.plan.mask import HIDDEN, HIDDEN_LINE, is_private, without_secrets
from mesh.plan.textdiff import LARGEST, FileDiff, diff_file
from mesh.secrets.value import forms
from mesh.state.deployment import File, SecretPart, Text

PATH = "/opt/mesh/stacks/web/app.conf"
VALUES = {"key": "sk-PLANTED-0123456789", "other": "B7B7B7B7'B7B7"}


def compare(text: Text, there: str | bytes, *, private: bool = False, values: Mapping[str, str] = VALUES) -> FileDiff:
    data = there.encode() if isinstance(there, str) else there
    known = sorted({each for value in values.values() for each in forms(value) if len(each) >= 6}, key=len, reverse=True)

    def redact(line: str) -> str:
        for each in known:
            line = line.replace(each, "[REDACTED]")
        return line

    file = File(PATH, text)
    private = private or is_private(file, 0o644)
    return diff_file(file, Found(len(data), data), private=private, value_of=values.__getitem__, redact=redact)


def test_a_changed_line_is_shown_between_its_neighbours() -> None:
    found = compare(("a: 1\nb: 2\nc: 3\nd: 4\ne: 5\n",), "a: 1\nb: 2\nc: 0\nd: 4\ne: 5\n")
    assert found == FileDiff(1, 1, ("@@ -1,5 +1,5 @@", " a: 1", " b: 2", "-c: 0", "+c: 3", " d: 4", " e: 5"))


def test_hunks_are_numbered_as_in_a_unified_diff() -> None:
    lines = [f"line {number}" for number in range(30)]
    found = compare(("\n".join(["first", *lines[:20], *lines[21:]]) + "\n",), "\n".join(lines) + "\n")
    assert [line for line in found.lines if line.startswith("@@")] == ["@@ -1,2 +1,3 @@", "@@ -19,5 +20,4 @@"]
    assert (found.added, found.removed, found.changed) == (1, 1, 1)


def test_the_place_of_a_secret_is_masked_on_both_sides() -> None:
    text: Text = ("url: ", SecretPart("key"), "\nlevel: info\n")
    found = compare(text, "url: sk-FORMER-99999999\nlevel: info\n")
    assert found.lines == ("@@ -1,2 +1,2 @@", f"-url: {HIDDEN}", f"+url: {HIDDEN}", " level: info")


def test_in_a_file_with_secrets_a_line_that_the_spec_does_not_have_is_hidden_whole() -> None:
    found = compare(
        ("level: info\nurl: ", SecretPart("key"), "\n"), "old_place=FORMER\nlevel: info\nurl: sk-PLANTED-0123456789\n"
    )
    assert found.lines == ("@@ -1,3 +1,2 @@", f"-{HIDDEN_LINE}", " level: info", f" url: {HIDDEN}")


def test_a_file_that_only_root_may_read_is_one_with_secrets_whatever_the_spec_puts_into_it_now() -> None:
    assert is_private(File(PATH, ("a",)), 0o400)
    assert is_private(File(PATH, ("a", SecretPart("key"))), 0o644)
    assert not is_private(File(PATH, ("a",)), 0o644)
    assert "FORMER" not in str(compare(("password_file: /x\n",), "password: FORMER\n", private=True).lines)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("  DB_PASSWORD: hunter2", f"  DB_PASSWORD: {HIDDEN}"),
        ('"api_key": "abcdefg",', f'"api_key": {HIDDEN}'),
        ("dsn=postgres://u:p4ss@db/x", f"dsn={HIDDEN}"),
        ("url: postgres://u:p4ss@db/x", f"url: postgres://u:{HIDDEN}@db/x"),
        ("run: curl -H sk-abcdefgh12345678", f"run: curl -H sk-{HIDDEN}"),
        ("- a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2", f"- {HIDDEN}"),
        ("-----BEGIN PRIVATE KEY-----", HIDDEN),
        ("max_tokens: 4096", "max_tokens: 4096"),
        ("api_key: os.environ/MESH_KEY_GROQ", "api_key: os.environ/MESH_KEY_GROQ"),
        ("key: ${KEY}", "key: ${KEY}"),
        ("secrets: [", "secrets: ["),
        ("key_file: /run/secrets/key", "key_file: /run/secrets/key"),
        ("image: redis:7@sha256:" + "0123456789abcdef" * 4, "image: redis:7@sha256:" + "0123456789abcdef" * 4),
        ("timeout: 60", "timeout: 60"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_and_the_rest_is_not(line: str, shown: str) -> None:
    assert without_secrets(line, str) == shown


def test_of_a_long_line_the_first_words_are_shown_and_no_part_of_a_word_that_is_cut() -> None:
    line = "words " * 45 + "x" * 200_000
    assert without_secrets(line, str) == "words " * 45 + HIDDEN
    assert without_secrets("y" * 200_000, str) == HIDDEN


def test_thousands_of_equal_lines_are_compared() -> None:
    assert compare(("\n" * 60_000,), "\n" * 60_001).removed >= 1


def test_digests_of_services_are_no_change_of_their_own() -> None:
    old, new = (f'labels:\n  mesh.digest: "{digit * 64}"\n' for digit in "ab")
    assert compare((new,), old) == FileDiff(note="only digests of services")
    found = compare((new + "x: 1\n",), old)
    assert found.lines == ("@@ -1,2 +1,3 @@", " labels:", "   mesh.digest: ...", "+x: 1")


@pytest.mark.parametrize(
    ("there", "says"),
    [(b"\0\1\2", "not text: 3 bytes"), (b"\xff\xfe", "not text"), (b"a", "only how it ends")],
)
def test_what_cannot_be_shown_is_said(there: bytes, says: str) -> None:
    assert says in compare(("a\n",), there).note


def test_a_huge_file_a_link_and_one_that_could_not_be_read_are_said() -> None:
    file = File(PATH, ("a\n",))

    def note(found: Found | None) -> str:
        return diff_file(file, found, private=False, value_of=str, redact=str).note

    assert "too large" in note(Found(LARGEST + 1))
    assert "symbolic link" in note(Found(link=True))
    assert "could not be read" in note(None)


# Literals are lower case and values upper case and digits, so a piece of a value in the output cannot be a literal.
literal = st.text("abc:= '\"-{}\n", max_size=24)
value = st.text("ABCDEF0123456789'\"\\$\n=", min_size=8, max_size=40)
names = st.sampled_from(["key", "other"])
part = st.one_of(literal, st.builds(SecretPart, names, st.sampled_from(["raw", "shell"])))


def pieces(secret: str) -> set[str]:
    """Every six characters of it in a row, without those that may be literals."""
    found = {secret[start : start + 6] for start in range(len(secret) - 5)}
    return {each for each in found if "\n" not in each and sum(letter in "ABCDEF0123456789" for letter in each) >= 4}


def rendered(parts: list[str | SecretPart], values: Mapping[str, str]) -> str:
    return File(PATH, tuple(parts)).content(values.__getitem__).decode()


@settings(deadline=None)
@given(st.lists(part, max_size=8), st.lists(part, max_size=8), st.tuples(value, value), st.tuples(value, value), st.data())
def test_no_piece_of_a_value_old_or_new_is_in_the_text_of_a_file_with_secrets(
    new: list[str | SecretPart],
    old: list[str | SecretPart],
    values: tuple[str, str],
    former: tuple[str, str],
    data: st.DataObject,
) -> None:
    old = data.draw(st.sampled_from([old, new, [*new, *old], [*old[:2], *new]]))
    there = rendered(old, dict(zip(("key", "other"), former, strict=True)))
    today = dict(zip(("key", "other"), values, strict=True))
    found = compare(tuple(new), there, private=True, values=today)
    output = "\n".join((*found.lines, found.note))
    for secret in (*values, *former):
        assert not [piece for piece in pieces(secret) if piece in output]


@settings(deadline=None)
@given(value, literal, literal, st.sampled_from(["raw", "shell"]))
def test_a_known_value_is_taken_out_of_any_file_on_either_side(secret: str, before: str, after: str, quoting: str) -> None:
    lines = [line for line in secret.split("\n") if len(line) >= 6]
    assume(lines)
    planted = secret if quoting == "raw" else secret.replace("'", "'\\''")
    text = f"{before}{planted}{after}\n"
    values = {"key": secret}
    for found in (compare((text,), "nothing of it\n", values=values), compare(("nothing of it\n",), text, values=values)):
        output = "\n".join(found.lines)
        assert secret not in output
        assert not [line for line in lines if line in output]
