"""bin/mesh and bin/env.sh: the environment is made on first use, made again when it has to be, and otherwise left alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.paths import PROJECT

STAND_IN = "import os, sys\nprint('stand-in', os.getcwd(), *sys.argv[1:])\nsys.exit(7)\n"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with no packages in its lock files, so that no network is needed, and a stand-in for the package."""
    root = tmp_path / "clone"
    (root / "mesh").mkdir(parents=True)
    (root / "mesh" / "__init__.py").touch()
    (root / "mesh" / "__main__.py").write_text(STAND_IN)
    shutil.copytree(PROJECT / "bin", root / "bin")
    (root / "requirements.lock").write_text("# nothing\n")
    (root / "requirements-dev.lock").write_text("# nothing, for tests\n")
    return root


@pytest.fixture
def quick_venv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A python3 that counts the environments that it makes and leaves pip out of them, which is what takes the time."""
    count, folder = tmp_path / "made", tmp_path / "path"
    folder.mkdir()
    count.touch()
    pip = "mkdir -p .venv/lib/python3.stub; printf 'import sys; sys.exit(0)' > {}/pip.py"
    script = folder / "python3"
    script.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" != -m ]; then exec {sys.executable} "$@"; fi\n'
        f"echo made >> {count}\n"
        f"{sys.executable} -m venv --without-pip --clear .venv || exit 1\n"
        f"{pip.format('$(echo .venv/lib/python3.[0-9]*/site-packages)')}; rm -r .venv/lib/python3.stub\n"
        'sleep "${SLOW:-0}"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return count


def mesh(clone: Path, *arguments: str, cwd: Path | None = None, program: str = "") -> subprocess.CompletedProcess[str]:
    command = [program or str(clone / "bin" / "mesh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


def made(count: Path) -> int:
    return len(count.read_text().splitlines())


def test_the_first_use_sets_up_and_says_so_and_the_next_is_silent(clone: Path, quick_venv: Path, tmp_path: Path) -> None:
    first = mesh(clone, "plan", "two words", cwd=tmp_path)
    assert (first.returncode, first.stdout) == (7, f"stand-in {tmp_path} plan two words\n")
    assert "Setting up the Python environment" in first.stderr
    second = mesh(clone, "plan", cwd=tmp_path)
    assert (second.returncode, second.stderr) == (7, "")
    assert made(quick_venv) == 1


def test_it_runs_through_a_link_from_any_folder_and_past_a_python_spec(clone: Path, quick_venv: Path, tmp_path: Path) -> None:
    (tmp_path / "mesh.py").write_text("raise SystemExit('the spec was taken for the package')")
    link = tmp_path / "links" / "mesh"
    link.parent.mkdir()
    link.symlink_to(clone / "bin" / "mesh")
    for program, cwd in ((str(link), tmp_path), ("bin/mesh", clone), ("./mesh", clone / "bin"), ("../clone/bin/mesh", clone)):
        ran = mesh(clone, "x", cwd=cwd, program=program)
        assert (ran.returncode, ran.stdout) == (7, f"stand-in {cwd} x\n"), program
    assert made(quick_venv) == 1


def test_a_changed_lock_file_makes_it_anew_with_the_test_tools_if_they_were_there(clone: Path, quick_venv: Path) -> None:
    subprocess.run([clone / "bin" / "env.sh", "dev"], check=True, capture_output=True)
    assert mesh(clone).stderr == ""
    (clone / "requirements.lock").write_text("# something else\n")
    assert "Setting up" in mesh(clone).stderr
    assert made(quick_venv) == 2
    subprocess.run([clone / "bin" / "env.sh", "dev"], check=True, capture_output=True)
    assert made(quick_venv) == 2


def test_an_environment_that_was_left_half_made_is_made_anew(clone: Path, quick_venv: Path) -> None:
    mesh(clone)
    (clone / ".venv" / "requirements.lock").unlink()  # what a killed run has not written yet
    (clone / ".venv" / "left-over").touch()
    assert mesh(clone).returncode == 7
    assert made(quick_venv) == 2
    assert not (clone / ".venv" / "left-over").exists()


def test_an_environment_whose_python_went_away_is_made_anew(clone: Path, quick_venv: Path) -> None:
    mesh(clone)
    python = clone / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert mesh(clone).returncode == 7
    assert made(quick_venv) == 2


def test_two_first_uses_at_once_set_up_once(clone: Path, quick_venv: Path) -> None:
    both = [
        subprocess.Popen(
            [clone / "bin" / "mesh"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "SLOW": "1"}
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [7, 7]
    assert made(quick_venv) == 1
    assert sum(b"waiting for it" in text for text in said) == 1


def test_a_moved_clone_still_works(clone: Path, quick_venv: Path, tmp_path: Path) -> None:
    mesh(clone)
    moved = clone.rename(tmp_path / "moved")
    assert mesh(moved).returncode == 7
    assert made(quick_venv) == 1


def test_packages_that_cannot_be_installed_are_an_error_and_leave_no_complete_environment(clone: Path) -> None:
    (clone / "requirements.lock").write_text(f"no-such-package==1.0 --hash=sha256:{'0' * 64}\n")
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    ran = subprocess.run([clone / "bin" / "mesh"], capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "no-such-package" in ran.stderr
    assert "pip could not install" in ran.stderr
    assert not (clone / ".venv" / "requirements.lock").exists()


def test_a_machine_without_a_python_is_told_what_to_install(clone: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "dirname", "cmp", "id", "mkdir", "flock", "cat", "grep"):
        path = shutil.which(name)
        assert path
        (tools / name).symlink_to(path)
    ran = subprocess.run([clone / "bin" / "env.sh"], capture_output=True, text=True, env={"PATH": str(tools)}, check=False)
    assert ran.returncode == 1
    assert "sudo apt-get install python3 python3-venv" in ran.stderr


def test_a_python_without_the_venv_module_is_told_which_package_has_it(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "path"
    folder.mkdir()
    (folder / "python3").write_text(f'#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\nexec {sys.executable} "$@"\n')
    (folder / "id").write_text("#!/bin/sh\necho 1000\n")
    for script in folder.iterdir():
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    ran = mesh(clone)
    assert ran.returncode == 1
    assert f"sudo apt-get install python{sys.version_info[0]}.{sys.version_info[1]}-venv" in ran.stderr
    assert not (clone / ".venv").exists()


def test_an_unknown_argument_of_env_sh_is_an_error(clone: Path) -> None:
    ran = subprocess.run([clone / "bin" / "env.sh", "dve"], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "base, dev, gateway, lock" in ran.stderr


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_the_lock_files_hold_versions_and_hashes_and_nothing_of_a_machine(name: str) -> None:
    lines = (PROJECT / name).read_text().splitlines()
    assert lines
    for line in lines:
        assert line.startswith("    --hash=sha256:") or "==" in line, line
        assert "://" not in line
        assert not line.startswith("/")
