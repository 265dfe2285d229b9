"""The command line itself: exit codes, where -C may stand, wrong usage, signals, bugs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from clikit import Ran

import mesh.cli.secrets
from mesh.cli.main import main
from mesh.errors import MeshError
from mesh.secrets.value import Secret

Run = Callable[..., Ran]
LIST = "mesh.cli.secrets.list_names"


def broken(error: BaseException) -> Callable[..., int]:
    def list_names(*_: object, **__: object) -> int:
        raise error

    return list_names


def test_the_inventory_may_be_given_before_or_after_the_verb(run_mesh: Run, small_inventory: Path) -> None:
    before = run_mesh("-C", small_inventory, "secrets", "list")
    after = run_mesh("secrets", "list", "-C", small_inventory)
    between = run_mesh("secrets", "-C", small_inventory, "list")
    assert before == after == between
    assert before.code == 0
    assert "client_ocr_key" in before.out


def test_an_inventory_after_the_verb_wins_over_one_before(run_mesh: Run, small_inventory: Path, tmp_path: Path) -> None:
    assert run_mesh("-C", tmp_path / "nowhere", "secrets", "list", "-C", small_inventory).code == 0


def test_the_inventory_may_come_from_the_environment(
    run_mesh: Run, small_inventory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESH_INVENTORY", str(small_inventory))
    assert "client_ocr_key" in run_mesh("secrets", "list").out


def test_an_inventory_folder_here_is_found_when_it_holds_a_spec(
    run_mesh: Run, small_inventory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MESH_INVENTORY", raising=False)
    monkeypatch.chdir(small_inventory.parent)
    assert "client_ocr_key" in run_mesh("secrets", "list").out


def test_the_projects_own_inventory_is_the_last_resort(run_mesh: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESH_INVENTORY", raising=False)
    (tmp_path / "inventory").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "client_open_webui_key" in run_mesh("secrets", "list").out


def test_a_missing_inventory_is_an_error_that_says_what_to_do(run_mesh: Run, tmp_path: Path) -> None:
    ran = run_mesh("secrets", "list", "-C", tmp_path / "nowhere")
    assert ran.code == 1
    assert ran.err.startswith("error: ")
    assert "nowhere" in ran.err
    assert "mend:" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [["chekc"], ["drift", "--formt", "json"], ["drift", "--format", "xml"], ["render"], ["ask", "bulk"], ["secrets", "sett"], []],
)
def test_wrong_usage_exits_1_because_2_means_changes(run_mesh: Run, arguments: list[str]) -> None:
    ran = run_mesh(*arguments)
    assert ran.code == 1
    assert ran.out == ""
    assert "Traceback" not in ran.err


def test_a_mistyped_verb_or_option_is_answered_with_the_nearest(run_mesh: Run) -> None:
    assert "'check'" in run_mesh("chekc").err
    assert "--format?" in run_mesh("drift", "--formt", "json").err
    assert "'set'" in run_mesh("secrets", "sett").err


def test_help_and_version_exit_0(run_mesh: Run) -> None:
    assert run_mesh("--version").out.startswith("homelab-mesh ")
    for verb in ("check", "render", "plan", "apply", "drift", "ask", "secrets", "lock"):
        assert verb in run_mesh("--help").out
        assert run_mesh(verb, "--help").code == 0


def test_help_loads_none_of_the_slow_libraries() -> None:
    slow = "{'pydantic', 'jinja2', 'rich', 'pyinfra', 'paramiko', 'httpx', 'yaml'}"
    code = f"import sys; from mesh.cli.main import main; main(['--help']); sys.exit(' '.join({slow} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_error_has_its_place_its_cause_and_the_mend(run_mesh: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIST, broken(MeshError("it is off", where="nas", why="no route", mend="switch it on")))
    ran = run_mesh("secrets", "list")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "error: nas: it is off\n  why:  no route\n  mend: switch it on\n"


def test_foreign_text_in_an_error_cannot_drive_the_terminal(run_mesh: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIST, broken(MeshError("it says", why="\x1b[2Jgone\x07\x9b31m")))
    assert not {"\x1b", "\x07", "\x9b"} & set(run_mesh("secrets", "list").err)


def test_a_bug_is_one_paragraph_and_its_traceback_is_opt_in(run_mesh: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIST, broken(ZeroDivisionError("oops")))
    ran = run_mesh("secrets", "list")
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert "MESH_DEBUG=1" in ran.err
    assert "ZeroDivisionError" in ran.err
    monkeypatch.setenv("MESH_DEBUG", "1")
    assert "Traceback" in run_mesh("secrets", "list").err


@pytest.mark.parametrize("error", [ValueError("planted-value-1"), MeshError("planted-value-1", why="planted-value-1")])
def test_a_secret_that_was_opened_never_shows_in_an_error(
    run_mesh: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    Secret("planted-value-1")
    monkeypatch.setattr(LIST, broken(error))
    monkeypatch.setenv("MESH_DEBUG", "1")
    ran = run_mesh("secrets", "list")
    assert "planted-value-1" not in ran.said
    assert "[REDACTED]" in ran.err


def test_an_interrupt_exits_130(run_mesh: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIST, broken(KeyboardInterrupt()))
    assert run_mesh("secrets", "list").code == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_runs_the_finally_blocks_and_exits_above_128(tmp_path: Path, number: int, code: int) -> None:
    mark = tmp_path / "cleaned"
    script = (
        "import os, sys, time; from pathlib import Path; import mesh.cli.secrets as s; from mesh.cli.main import main\n"
        "def wait(*a, **k):\n"
        "    try:\n"
        f"        os.kill(os.getpid(), {int(number)}); time.sleep(20)\n"
        f"    finally: Path({str(mark)!r}).touch()\n"
        "s.list_names = wait; sys.exit(main(['secrets', 'list']))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == code
    assert mark.exists()
    assert "Traceback" not in done.stderr


def test_a_reader_that_stops_reading_gets_no_traceback() -> None:
    script = (
        "import sys; import mesh.cli.secrets as s; from mesh.cli.main import main\n"
        "def much(*a, **k):\n    print('x' * 2_000_000); return 0\n"
        "s.list_names = much; sys.exit(main(['secrets', 'list']))"
    )
    with subprocess.Popen([sys.executable, "-P", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(1)
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(20) == 141
    assert said == b""


def test_output_that_cannot_be_written_is_not_a_success() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-P", "-m", "mesh", "--version"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: No space left on device")
    assert b"Traceback" not in done.stderr


def test_a_verbs_exit_code_is_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh.cli.secrets, "list_names", lambda *_, **__: 2)
    assert main(["secrets", "list"]) == 2


def test_a_folder_that_holds_a_python_spec_does_not_hide_the_package(tmp_path: Path) -> None:
    (tmp_path / "mesh.py").write_text("raise SystemExit('imported the spec as the package')")
    project = Path(mesh.cli.secrets.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.append({str(project)!r}); import mesh.cli.main"],
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert done.returncode == 0
