"""Files that are no spec at all: `mesh check` says so in bounded time and memory, and never with a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MOST_KIB = 300 * 1024
"""Resident memory that a check may take at its peak."""
PATIENCE = 60
"""Seconds before a check counts as hung: far above the two that it may take, so that a busy machine does not fail the test."""


def many(count: int, line: str) -> bytes:
    return "".join(line.format(i=i, next=(i + 1) % count) for i in range(count)).encode()


HEAD = b"mesh: a\nhosts: {h: {address: 1.2.3.4}}\nproviders: {p: {kind: groq, base_url: 'http://x'}}\n"
BOMB = b"a: &a [x,x,x,x,x,x,x,x,x,x]\n" + b"".join(
    f"{name}: &{name} [{','.join(['*' + chr(ord(name) - 1)] * 10)}]\n".encode() for name in "bcdefghi"
)
MERGES = b"a: &a {" + many(1000, "k{i}: 1,") + b"}\n" + many(20_000, "b{i}: {{<<: *a}}\n")
HOSTILE: dict[str, tuple[bytes, str]] = {
    "20,000 lines of nonsense": (many(20_000, "key{i}: value @ %\n"), "unknown key `key0`"),
    "20,000 lines of text": (many(20_000, "lorem ipsum {i} dolor\n"), "the file is text, not a mapping"),
    "20,000 lines of noise": (many(20_000, "}}{{]{i}[: - & * ! | > %\n"), "not valid YAML"),
    "a million list items": (b"mesh: [" + b"a," * 1_000_000 + b"]", "spec-limit"),
    "a bomb of aliases": (BOMB, "aliases expand to more than a spec can hold"),
    "a bomb of merge keys": (MERGES, "spec-limit"),
    "a recursive alias": (b"mesh: a\nhosts: &x {a: *x}\n", "mesh.yaml:2:15: error[spec-alias]: *x stands inside &x itself"),
    "an alias to nothing": (b"mesh: *x\n", "mesh.yaml:1:7: error[spec-alias]: there is no &x before this *x"),
    "brackets two million deep": (b"[" * 2_000_000, "nested more than 50 levels deep"),
    "braces half a million deep": (b"{a: " * 500_000, "nested more than 50 levels deep"),
    "dashes a million deep": (b"- " * 1_000_000, "nested more than 50 levels deep"),
    "a name of 4 MB": (b"mesh: " + b"a" * 4_000_000, "mesh.yaml:1:7: error[spec-value]: mesh: `aaa"),
    "a key of 4 MB": (b"? " + b"a" * 4_000_000 + b"\n: 1\n", "unknown key `aaa"),
    "a size of three million digits": (HEAD.replace(b"1.2.3.4", b"a, ram: " + b"1" * 3_000_000 + b"GiB"), "is not a size"),
    "a number of 4 MB": (b"mesh: " + b"1" * 4_000_000, "is not a name"),
    "4 MB of comments": (b"# hello\n" * 500_000, "the file is empty"),
    "5 MB": (b"a: 1\n" * 1_100_000, "larger than 4 MiB"),
    "5000 routes in a circle": (
        HEAD + b"models: {m: {at: p, id: x}}\nroutes:\n" + many(5000, "  r{i}: {{to: z, privacy: local, fallback: [r{next}]}}\n"),
        "fallback-cycle",
    ),
    "4000 dangling names": (HEAD + b"models:\n" + many(4000, "  m{i}: {{at: x{i}, id: y}}\n"), "there is no provider `x0`"),
    "8000 Ollamas on one port": (HEAD[:39] + b"providers:\n" + many(8000, "  o{i}: {{kind: ollama, on: h}}\n"), "port-collision"),
    "8000 stacks without a folder": (HEAD + b"stacks:\n" + many(8000, "  s{i}: {{on: h}}\n"), "there is no folder stacks/s0"),
    "a tab": (
        b"mesh: a\nhosts:\n\ta: 1\n",
        "mesh.yaml:3:1: error[spec-syntax]: not valid YAML: found character that cannot start",
    ),
    "nothing": (b"", "mesh.yaml: error[spec-empty]: the file is empty"),
    "only a comment": (b"# soon\n", "the file is empty"),
    "only a list": (b"- a\n", "mesh.yaml:1:1: error[spec-syntax]: the file is a list, not a mapping"),
    "two documents": (b"mesh: a\n---\nmesh: b\n", "mesh.yaml:2:1: error[spec-syntax]: a second document begins here"),
    "a duplicate key": (
        b"mesh: a\nmesh: b\n",
        "mesh.yaml:2:1: error[spec-key-duplicate]: the key `mesh` is there twice; the first is at line 1",
    ),
    "a Python object": (b"mesh: !!python/object/apply:os.getcwd []\n", "mesh.yaml:1:7: error[spec-syntax]: the tag tag:yaml.org"),
    "a list as a key": (b"[a]: b\n", "mesh.yaml:1:1: error[spec-syntax]: a key must be plain text"),
    "Latin-1": (b"mesh: caf\xe9\n", "mesh.yaml:1:10: error[spec-encoding]: the file is not UTF-8 text"),
    "UTF-16": ("mesh: a\n".encode("utf-16"), "mesh.yaml:1:1: error[spec-encoding]: the file is not UTF-8 text"),
    "a NUL": (b"mesh: a\0b\n", "mesh.yaml:1:8: error[spec-encoding]: control character U+0000"),
    "an escape sequence": (b"mesh: \x1b[31m\n", "mesh.yaml:1:7: error[spec-encoding]: control character U+001B"),
    "random bytes": (bytes(range(256)) * 4000, "spec-encoding"),
}


def check(folder: Path) -> tuple[int, str, int]:
    """(exit code, what it said, KiB at its peak) of `mesh check` in a process of its own."""
    script = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-m', 'mesh', '-C', sys.argv[1], 'check'], capture_output=True, text=True)\n"
        "sys.stdout.write(done.stdout + done.stderr)\n"
        "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
        env={**os.environ, "NO_COLOR": "1", "HOME": str(folder)},
    )
    *said, last = done.stdout.splitlines()
    code, peak = last.split()
    return int(code), "\n".join(said), int(peak)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_no_spec_is_refused_in_plain_words(name: str, tmp_path: Path) -> None:
    content, expected = HOSTILE[name]
    (tmp_path / "mesh.yaml").write_bytes(content)
    code, said, peak = check(tmp_path)
    assert code == 1
    assert expected in said
    assert "Traceback" not in said
    assert "bug:" not in said
    assert said.splitlines()[-1].startswith("check: ")
    assert len(said) < 40_000
    assert peak < MOST_KIB


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").mkdir()
    assert check(tmp_path)[:2] == (
        1,
        f"{tmp_path}/mesh.yaml: error[spec-missing]: mesh.yaml is a folder\n    mend: put a text file there\ncheck: 1 error",
    )


def test_a_pipe_in_place_of_the_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mesh.yaml")
    assert "mesh.yaml is not an ordinary file" in check(tmp_path)[1]


def test_a_link_to_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").symlink_to("nowhere")
    assert "error[spec-missing]: the file does not exist" in check(tmp_path)[1]


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_an_inventory_that_is_no_folder_is_refused(tmp_path: Path, kind: str) -> None:
    inventory = tmp_path / "inventory"
    if kind == "file":
        inventory.write_text("mesh: a\n")
    code, said, _ = check(inventory)
    assert code == 1
    assert said.startswith(
        f"{inventory}: error[spec-missing]: the inventory {'is not a folder' if kind == 'file' else 'does not exist'}"
    )


def test_an_empty_inventory_is_refused(tmp_path: Path) -> None:
    code, said, _ = check(tmp_path)
    assert code == 1
    assert said.startswith(f"{tmp_path}: error[spec-missing]: there is no mesh.yaml (or mesh.py) in the inventory")
