"""`mesh render --out DIR`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mesh.paths import INVENTORY


def test_render_writes_every_host_and_no_secret(run_mesh: Callable[..., Any], tmp_path: Path, identity: Path) -> None:  # noqa: ARG001
    folder = tmp_path / "inventory"
    folder.mkdir()
    shutil.copy(INVENTORY / "mesh.yaml", folder)
    assert run_mesh("secrets", "init", "-C", folder).code == 0
    ran = run_mesh("render", "-C", folder, "--out", tmp_path / "out")
    assert ran.code == 0, ran.said
    assert sorted(each.name for each in (tmp_path / "out").iterdir() if each.is_dir()) == ["gpu-box", "nas", "vm-docker"]
    env = tmp_path / "out/vm-docker/opt/mesh/stacks/litellm/secrets/env"
    assert "MESH_KEY_LITELLM_MASTER_KEY='<secret:litellm_master_key>'" in env.read_text().splitlines()
    assert env.stat().st_mode & 0o777 == 0o400
    assert "vm-docker  litellm" in ran.out


def test_render_twice_gives_the_same_bytes(run_mesh: Callable[..., Any], tmp_path: Path) -> None:
    trees = []
    for _ in range(2):
        assert run_mesh("render", "-C", INVENTORY, "--out", tmp_path / "out").code == 0
        trees.append({path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()})
    assert trees[0] == trees[1]


def test_render_removes_what_it_wrote_before_and_no_longer_does(run_mesh: Callable[..., Any], tmp_path: Path) -> None:
    assert run_mesh("render", "-C", INVENTORY, "--out", tmp_path / "out").code == 0
    stale = tmp_path / "out/nas/opt/mesh/stacks/gone/compose.yaml"
    stale.parent.mkdir()
    stale.write_text("x")
    assert run_mesh("render", "-C", INVENTORY, "--out", tmp_path / "out").code == 0
    assert not stale.exists()


def test_render_leaves_a_folder_alone_that_it_did_not_make(run_mesh: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    ran = run_mesh("render", "-C", INVENTORY, "--out", tmp_path / "mine")
    assert ran.code == 1
    assert "not empty" in ran.err
    assert [each.name for each in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    assert run_mesh("render", "-C", INVENTORY, "--out", tmp_path / "mine/thesis.txt").code == 1


def test_render_follows_no_link_out_of_its_folder(run_mesh: Callable[..., Any], tmp_path: Path) -> None:
    assert run_mesh("render", "-C", INVENTORY, "--out", tmp_path / "out").code == 0
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/keep").write_text("x")
    (tmp_path / "out/link").symlink_to(tmp_path / "elsewhere")
    assert run_mesh("render", "-C", INVENTORY, "--out", tmp_path / "out").code == 0
    assert (tmp_path / "elsewhere/keep").read_text() == "x"


def test_render_of_a_wrong_spec_writes_nothing(run_mesh: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "inventory"
    folder.mkdir()
    spec = (INVENTORY / "mesh.yaml").read_text()
    (folder / "mesh.yaml").write_text(spec.replace("fallback: [claude]", "fallback: [clade]"))
    ran = run_mesh("render", "-C", folder, "--out", tmp_path / "out")
    assert ran.code == 1
    assert "clade" in ran.err
    assert "Traceback" not in ran.err
    assert not (tmp_path / "out").exists()
