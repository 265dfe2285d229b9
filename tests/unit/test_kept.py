"""What is kept between runs is only used while everything that it was made from is the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mesh import kept
from mesh.cli.main import main
from mesh.inventory import Inventory, open_inventory, open_to_act
from mesh.paths import PROJECT
from mesh.state.deployment import Deployment

SPEC = """\
mesh: closet
extends: base.yaml
providers:
  ollama: {kind: ollama, on: box, gpu: none}
models:
  llama: {at: ollama, tag: "llama3.1:8b", context: 8192}
routes:
  private: {to: llama, privacy: local}
clients:
  laptop: {routes: [private]}
stacks:
  litellm: {on: box}
  mine: {on: box, source: mine}
secrets:
  from_outside: {env: FROM_OUTSIDE}
"""
COMPOSE = """\
services: {web: {image: 'web:1', volumes: ['./conf:/conf:ro'], secrets: [token]}}
secrets: {token: {file: secrets/token}}
"""
HIDDEN = "PASSWORD=an-own-password-in-plain-text"


@pytest.fixture
def folder(tmp_path: Path, identity: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001
    """An inventory with every kind of input, all of them long settled."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FROM_OUTSIDE", "first-value")
    monkeypatch.setattr(kept, "_SETTLED_NS", -60 * 10**9)
    folder = tmp_path / "inventory"
    (folder / "mine" / "conf").mkdir(parents=True)
    (folder / "mesh.yaml").write_text(SPEC.replace("source: mine}", "source: mine, secrets: {token: secret:from_outside}}"))
    (folder / "base.yaml").write_text("mesh: base\nhosts: {box: {address: 10.0.0.1}}\n")
    (folder / "mine" / "compose.yaml").write_text(COMPOSE)
    (folder / "mine" / "conf" / "a.conf").write_text("a\n")
    (folder / "mine" / ".env").write_text(f"{HIDDEN}\n")
    (folder / "images.lock").write_text("images: {}\n")
    assert main(["secrets", "init", "-C", str(folder)]) == 0
    return folder


def look(folder: Path) -> tuple[bool, Deployment]:
    """Whether something was kept that counts, and the deployment, which is kept by this if it was not."""
    inventory = open_to_act(folder)
    counts = inventory._kept is not None and inventory._kept.fits(inventory.secrets)
    return counts, inventory.checked_deployment()


def test_what_is_kept_is_exactly_what_compiling_gives(folder: Path) -> None:
    first = look(folder)
    second = look(folder)
    assert (first[0], second[0]) == (False, True)
    assert first[1] == second[1] == open_inventory(folder).deployment()
    assert second[1] is not first[1]


def test_every_file_of_the_reference_that_is_opened_counts(folder: Path) -> None:
    assert not look(folder)[0]
    inputs = kept.marshal.loads(kept._unsealed(kept._entry(folder)))[1]
    ours = {str(path) for path in (folder / "mine").rglob("*") if path.is_file()}
    theirs = {str(path) for path in (PROJECT / "stacks" / "litellm").rglob("*.py") if "__pycache__" not in path.parts}
    assert {*ours, *theirs, str(PROJECT / "templates" / "service-defaults.yaml"), str(folder / "base.yaml")} <= inputs.keys()


def edit(path: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / path
        content = file.read_text()
        assert old in content
        file.write_text(content.replace(old, new))

    return change


CHANGES: dict[str, Callable[[Path], None]] = {
    "the spec": edit("mesh.yaml", "8192", "4096"),
    "what the spec extends": edit("base.yaml", "10.0.0.1", "10.0.0.2"),
    "a compose file": edit("mine/compose.yaml", "web:1", "web:2"),
    "a file that is mounted": edit("mine/conf/a.conf", "a", "b"),
    "the mode of a file": lambda folder: (folder / "mine/conf/a.conf").chmod(0o755),
    "a file more": lambda folder: (folder / "mine/conf/b.conf").touch(),
    "a file less": lambda folder: (folder / "mine/conf/a.conf").unlink(),
    "the image lock": edit("images.lock", "{}", f"{{'web:1': {{digest: 'sha256:{'a' * 64}'}}}}"),
    "a catalogue where there was none": lambda folder: (folder / "catalogue.yaml").write_text("as_of: 2026-01-01\nsource: me\n"),
    "a secret": lambda folder: print(main(["client", "rotate", "laptop", "--quiet", "-C", str(folder)])),
    "a secret from outside": lambda _: os.environ.update(FROM_OUTSIDE="second-value"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_of_any_input_counts(folder: Path, what: str) -> None:
    look(folder)
    assert look(folder)[0]
    CHANGES[what](folder)
    counts, deployment = look(folder)
    assert not counts
    assert deployment == Inventory(folder).deployment()
    assert look(folder)[0], "and it is kept anew"


@pytest.mark.parametrize(
    "where", ["mesh/cli/drift.py", "stacks/litellm/stack.py", "templates/service-defaults.yaml", "site-packages"]
)
def test_a_change_of_the_tool_its_stacks_or_its_packages_counts(folder: Path, tmp_path: Path, where: str) -> None:
    """On a copy of the tool: `kept` looks at the one that it is in."""
    copy = tmp_path / "tool"
    for part in ("mesh", "stacks", "templates"):
        shutil.copytree(PROJECT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    packages = tmp_path / "site-packages"
    packages.mkdir()
    code = (
        "import sys; from pathlib import Path; from mesh import kept; from mesh.inventory import open_to_act\n"
        "kept._SETTLED_NS = -60 * 10**9; inventory = open_to_act(Path(sys.argv[1]))\n"
        "print(inventory._kept is not None); inventory.checked_deployment()"
    )
    environment = os.environ | {"PYTHONPATH": f"{copy}:{packages}"}

    def kept_before() -> str:
        command = [sys.executable, "-P", "-c", code, str(folder)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert (kept_before(), kept_before()) == ("False", "True")
    if where == "site-packages":
        (packages / "another-1.0.dist-info").mkdir()
    else:
        with (copy / where).open("a") as file:
            file.write("# changed\n")
    assert (kept_before(), kept_before()) == ("False", "True")


def test_another_day_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look(folder)
    monkeypatch.setattr(kept, "_today", lambda: "2031-01-01")
    assert not look(folder)[0]


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_entry_is_none(folder: Path, damage: bytes | None) -> None:
    wanted = look(folder)[1]
    entry = kept._entry(folder)
    entry.write_bytes(entry.read_bytes()[:-1] if damage is None else damage)
    assert look(folder) == (False, wanted)
    assert look(folder) == (True, wanted)


def test_an_entry_that_others_could_have_written_or_read_is_none(folder: Path) -> None:
    look(folder)
    kept._entry(folder).chmod(0o644)
    assert not look(folder)[0]


def test_an_entry_is_private_sealed_and_one_of_a_few(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_MOST_ENTRIES", 2)
    look(folder)
    entry = kept._entry(folder)
    content = entry.read_bytes()
    assert entry.stat().st_mode & 0o777 == 0o600
    assert HIDDEN.encode() not in content
    assert b"closet" not in content
    for name in ("x", "y"):
        (entry.parent / f"{name}.kept").touch()
    edit("mesh.yaml", "8192", "4096")(folder)
    look(folder)
    assert len(list(entry.parent.iterdir())) == 2
    assert entry.exists()


def test_no_value_of_a_secret_is_in_what_is_kept(folder: Path) -> None:
    look(folder)
    content = kept._unsealed(kept._entry(folder))
    secrets = open_inventory(folder).secrets
    for name in secrets.names():
        assert secrets.value(name).encode() not in content, name


def test_an_input_that_changed_a_moment_ago_is_not_relied_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_SETTLED_NS", 60 * 10**9)
    look(folder)
    assert not kept._entry(folder).exists()


def test_a_spec_in_python_is_not_kept(folder: Path) -> None:
    (folder / "mesh.yaml").rename(folder / "base2.yaml")
    spec = "{'mesh': 'x', 'hosts': {'box': {'address': '10.0.0.1'}}}"
    (folder / "mesh.py").write_text(f"from mesh import Mesh\nmesh = Mesh.model_validate({spec})\n")
    look(folder)
    assert not look(folder)[0]


def test_a_spec_with_errors_is_not_kept_and_says_so_each_time(folder: Path) -> None:
    edit("mesh.yaml", "routes: [private]", "routes: [nowhere]")(folder)
    for _ in range(2):
        assert main(["drift", "-C", str(folder)]) == 1
    assert not kept._entry(folder).exists()


def test_with_something_kept_nothing_that_checks_or_compiles_is_imported(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mesh import kept; import mesh.cli.drift, mesh.live.observe, mesh.state.diff\n"
        "from mesh.inventory import open_to_act\n"
        "kept._SETTLED_NS = -60 * 10**9; open_to_act(Path(sys.argv[1])).checked_deployment()\n"
        "print(*(n for n in ('pydantic', 'yaml', 'jinja2', 'mesh.validate', 'mesh.rules', 'mesh.spec') if n in sys.modules))"
    )
    command = [sys.executable, "-P", "-c", code, str(folder)]
    for _ in range(2):  # the first one keeps it
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
