"""`mesh secrets init|set|list|edit|rm`, as the operator runs them."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from clikit import SMALL_SPEC, Ran

from mesh.paths import PROJECT
from mesh.secrets.agefile import AgeFile, load_identities
from mesh.secrets.own import own_secrets
from mesh.spec.load import load_spec

Run = Callable[..., Ran]
OWN = {
    *("mesh_salt", "litellm_master_key", "qdrant_api_key", "open_webui_secret_key", "open_webui_admin_password"),
    *("client_ocr_key", "client_laptop_key"),
}


def values(folder: Path, identity: Path) -> dict[str, str]:
    return {name: value.reveal() for name, value in AgeFile(folder).open(load_identities(identity)).items()}


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.fixture
def inventory(small_inventory: Path, run_mesh: Run) -> Path:
    """The small inventory after `mesh secrets init`."""
    assert run_mesh("secrets", "init", "-C", small_inventory).code == 0
    return small_inventory


def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> Path:
    """An editor that is a script; it notes the path of the file that it was given."""
    script, seen = tmp_path / "editor", tmp_path / "seen"
    script.write_text("\n".join(["#!/bin/sh", f'echo "$1" >> {seen}', *lines]) + "\n")
    script.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(script))
    return seen


def test_init_makes_the_key_and_every_own_secret(inventory: Path, identity: Path) -> None:
    made = values(inventory, identity)
    assert set(made) == OWN
    assert len(set(made.values())) == len(OWN)
    assert all(len(value) >= 24 for value in made.values())
    assert all(made[name].startswith("sk-") for name in ("litellm_master_key", "client_ocr_key"))
    assert identity.stat().st_mode & 0o777 == 0o600


def test_init_again_changes_nothing(inventory: Path, identity: Path, run_mesh: Run) -> None:
    before = values(inventory, identity), (inventory / "secrets.age").read_bytes()
    assert run_mesh("secrets", "init", "-C", inventory).code == 0
    assert (values(inventory, identity), (inventory / "secrets.age").read_bytes()) == before


def test_init_adds_what_a_new_client_needs_and_keeps_the_rest(inventory: Path, identity: Path, run_mesh: Run) -> None:
    before = values(inventory, identity)
    (inventory / "mesh.yaml").write_text(SMALL_SPEC.replace("clients:\n", "clients:\n  my-phone: {routes: [bulk]}\n"))
    assert run_mesh("secrets", "init", "-C", inventory).code == 0
    after = values(inventory, identity)
    assert after.pop("client_my_phone_key").startswith("sk-")
    assert after == before


def test_init_makes_no_secret_that_the_spec_takes_from_elsewhere(small_inventory: Path, identity: Path, run_mesh: Run) -> None:
    (small_inventory / "mesh.yaml").write_text(SMALL_SPEC + "secrets:\n  litellm_master_key: {env: MASTER}\n")
    run_mesh("secrets", "init", "-C", small_inventory)
    assert "litellm_master_key" not in values(small_inventory, identity)


def test_init_on_another_keys_file_refuses_until_replace_and_keeps_the_old_file(
    inventory: Path, identity: Path, run_mesh: Run
) -> None:
    old = (inventory / "secrets.age").read_bytes()
    identity.unlink()
    refused = run_mesh("secrets", "init", "-C", inventory)
    assert refused.code == 1
    assert "--replace" in refused.err
    assert not identity.exists()
    assert (inventory / "secrets.age").read_bytes() == old
    assert run_mesh("secrets", "init", "--replace", "-C", inventory).code == 0
    assert set(values(inventory, identity)) == OWN
    assert (inventory / "secrets.age.replaced").read_bytes() == old


def test_set_takes_the_value_from_stdin_and_drops_one_line_end(
    inventory: Path, identity: Path, run_mesh: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for data, kept in (
        (b"one\n", "one"),
        (b"one\r\n", "one"),
        (b"one\n\n", "one\n"),
        ("zwei\nZeilen é".encode(), "zwei\nZeilen é"),
    ):
        stdin(monkeypatch, data)
        assert run_mesh("secrets", "set", "deepseek_api_key", "-C", inventory).code == 0
        assert values(inventory, identity)["deepseek_api_key"] == kept


@pytest.mark.parametrize("data", [b"", b"\n", b"  \n", b"\xff\xfe"])
def test_set_refuses_a_value_that_is_empty_or_not_text(
    inventory: Path, identity: Path, run_mesh: Run, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    stdin(monkeypatch, data)
    assert run_mesh("secrets", "set", "deepseek_api_key", "-C", inventory).code == 1
    assert "deepseek_api_key" not in values(inventory, identity)


def test_set_has_no_way_to_take_the_value_from_the_command_line(inventory: Path, run_mesh: Run) -> None:
    ran = run_mesh("secrets", "set", "deepseek_api_key", "planted-value-6", "-C", inventory)
    assert ran.code == 1


def test_set_says_when_nothing_uses_the_name(inventory: Path, run_mesh: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b"value-1")
    assert "did you mean deepseek_api_key?" in run_mesh("secrets", "set", "deepsek_api_key", "-C", inventory).err


def test_set_refuses_a_name_that_the_spec_takes_from_elsewhere(
    inventory: Path, run_mesh: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inventory / "mesh.yaml").write_text(SMALL_SPEC + "secrets:\n  deepseek_api_key: {env: DEEPSEEK}\n")
    stdin(monkeypatch, b"value-1")
    ran = run_mesh("secrets", "set", "deepseek_api_key", "-C", inventory)
    assert ran.code == 1
    assert "DEEPSEEK" in ran.err


def test_set_works_while_the_spec_is_broken(
    inventory: Path, identity: Path, run_mesh: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inventory / "mesh.yaml").write_text("mesh: [")
    stdin(monkeypatch, b"value-1")
    assert run_mesh("secrets", "set", "deepseek_api_key", "-C", inventory).code == 0
    assert values(inventory, identity)["deepseek_api_key"] == "value-1"


@pytest.mark.parametrize("name", ["Bad", "a-b", "", "../x", "a" * 64])
def test_set_refuses_a_name_that_no_spec_could_refer_to(inventory: Path, run_mesh: Run, name: str) -> None:
    assert run_mesh("secrets", "set", "-C", inventory, "--", name).code == 1


def test_other_recipients_keep_access(inventory: Path, run_mesh: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyrage

    other = pyrage.x25519.Identity.generate()
    index = inventory / "secrets.index"
    index.write_text(index.read_text().replace("recipients:\n", f"recipients:\n- {other.to_public()}\n"))
    stdin(monkeypatch, b"value-1")
    assert run_mesh("secrets", "set", "deepseek_api_key", "-C", inventory).code == 0
    assert "value-1" in pyrage.decrypt((inventory / "secrets.age").read_bytes(), [other]).decode()


def test_rm_removes_one_and_knows_the_nearest_name(inventory: Path, identity: Path, run_mesh: Run) -> None:
    assert "qdrant_api_key" in run_mesh("secrets", "rm", "qdrant_api_kye", "-C", inventory).err
    assert run_mesh("secrets", "rm", "qdrant_api_key", "-C", inventory).code == 0
    assert set(values(inventory, identity)) == OWN - {"qdrant_api_key"}


def test_list_tells_sources_uses_and_what_is_missing_but_no_value(inventory: Path, identity: Path, run_mesh: Run) -> None:
    (inventory / "mesh.yaml").write_text(SMALL_SPEC + "secrets:\n  anthropic_api_key: {command: [op, read, op://x]}\n")
    ran = run_mesh("secrets", "list", "-C", inventory)
    lines = {line.split()[0]: line for line in ran.out.splitlines()}
    assert ran.code == 0
    assert "MISSING" in lines["deepseek_api_key"]
    assert "providers.deepseek.key" in lines["deepseek_api_key"]
    assert "command op" in lines["anthropic_api_key"]
    assert "clients.ocr" in lines["client_ocr_key"]
    assert "deepseek_api_key" in ran.err
    assert not [value for value in values(inventory, identity).values() if value in ran.said]
    parsed = json.loads(run_mesh("secrets", "list", "--json", "-C", inventory).out)
    assert {each["name"] for each in parsed["secrets"]} == set(lines) - {"NAME"}


def test_list_works_by_the_index_where_the_key_is_not(inventory: Path, identity: Path, run_mesh: Run) -> None:
    identity.unlink()
    ran = run_mesh("secrets", "list", "-C", inventory)
    assert ran.code == 0
    assert "client_ocr_key" in ran.out
    assert "cannot be opened" in ran.err


def test_without_the_key_nothing_is_changed(inventory: Path, identity: Path, run_mesh: Run) -> None:
    before = (inventory / "secrets.age").read_bytes()
    identity.unlink()
    for verb in (["edit"], ["rm", "qdrant_api_key"]):
        ran = run_mesh("secrets", *verb, "-C", inventory)
        assert ran.code == 1
        assert str(identity) in ran.err
    assert (inventory / "secrets.age").read_bytes() == before


def test_edit_saves_what_the_editor_left_and_leaves_no_plain_text(
    inventory: Path, identity: Path, run_mesh: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = tmp_path / "modes"
    seen = editor(
        tmp_path,
        monkeypatch,
        f'stat -c %a "$1" "$(dirname "$1")" > {modes}',
        'echo \'deepseek_api_key: "a: b"\' >> "$1"',
        'cp "$1" "$1~"',
    )
    ran = run_mesh("secrets", "edit", "-C", inventory)
    assert ran.code == 0
    assert "changed: deepseek_api_key" in ran.err
    assert values(inventory, identity)["deepseek_api_key"] == "a: b"
    assert modes.read_text().split() == ["600", "700"]
    assert not Path(seen.read_text().strip()).parent.exists()


def test_edit_without_a_change_rewrites_nothing(
    inventory: Path, run_mesh: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (inventory / "secrets.age").read_bytes()
    editor(tmp_path, monkeypatch)
    assert "nothing changed" in run_mesh("secrets", "edit", "-C", inventory).err
    assert (inventory / "secrets.age").read_bytes() == before


def test_edit_that_leaves_nonsense_saves_nothing_and_shows_no_value(
    inventory: Path, run_mesh: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (inventory / "secrets.age").read_bytes()
    seen = editor(tmp_path, monkeypatch, "echo 'deepseek_api_key: [planted-value-7' >> \"$1\"")
    stdin(monkeypatch, b"")
    ran = run_mesh("secrets", "edit", "-C", inventory)
    assert ran.code == 1
    assert "edited secrets:" in ran.err
    assert "nothing was saved" in ran.err
    assert "planted-value-7" not in ran.said
    assert (inventory / "secrets.age").read_bytes() == before
    assert not Path(seen.read_text().strip()).exists()


def test_edit_offers_the_text_again_after_nonsense(
    inventory: Path, identity: Path, run_mesh: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = editor(
        tmp_path,
        monkeypatch,
        'if grep -q unfinished "$1"; then sed -i \'s/\\[unfinished/finished/\' "$1"',
        "else echo 'deepseek_api_key: [unfinished' >> \"$1\"; fi",
    )
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert run_mesh("secrets", "edit", "-C", inventory).code == 0
    assert len(seen.read_text().splitlines()) == 2
    assert values(inventory, identity)["deepseek_api_key"] == "finished"


def test_an_editor_that_fails_or_is_missing_saves_nothing(
    inventory: Path, run_mesh: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (inventory / "secrets.age").read_bytes()
    editor(tmp_path, monkeypatch, "echo 'deepseek_api_key: x' >> \"$1\"", "exit 1")
    assert run_mesh("secrets", "edit", "-C", inventory).code == 1
    monkeypatch.setenv("VISUAL", "no-such-editor-here")
    assert "no-such-editor-here" in run_mesh("secrets", "edit", "-C", inventory).err
    monkeypatch.setenv("VISUAL", "unbalanced '")
    assert run_mesh("secrets", "edit", "-C", inventory).code == 1
    assert (inventory / "secrets.age").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_edit_that_is_interrupted_leaves_no_plain_text(
    inventory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = (inventory / "secrets.age").read_bytes()
    seen = editor(tmp_path, monkeypatch, "exec sleep 20")
    command = [sys.executable, "-P", "-m", "mesh", "secrets", "edit", "-C", str(inventory)]
    with subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, start_new_session=True) as process:
        deadline = time.monotonic() + 15
        while not (seen.exists() and seen.read_text().endswith("\n")) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, number)
        _, said = process.communicate(timeout=15)
    assert process.returncode == 128 + number
    assert b"Traceback" not in said
    assert not Path(seen.read_text().strip()).parent.exists()
    assert (inventory / "secrets.age").read_bytes() == before


def test_two_changes_at_once_are_both_kept(inventory: Path, identity: Path) -> None:
    commands = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", "mesh", "secrets", "set", f"extra_{number}", "-C", str(inventory)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for number in range(4)
    ]
    for process in commands:
        process.communicate(b"value")
    assert {f"extra_{number}" for number in range(4)} <= set(values(inventory, identity))


def test_the_reference_inventory_names_every_secret_that_it_needs_itself() -> None:
    inventory = PROJECT / "inventory"
    mesh = load_spec(inventory).mesh
    assert set(own_secrets(mesh)) <= AgeFile(inventory).index().names


def test_no_verb_prints_or_renders_a_value(
    inventory: Path, identity: Path, run_mesh: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("deepseek_api_key", "anthropic_api_key"):
        stdin(monkeypatch, f"planted-{name}".encode())
        assert run_mesh("secrets", "set", name, "-C", inventory).code == 0
    out = tmp_path / "out"
    ran = [
        run_mesh("check", "-C", inventory),
        run_mesh("render", "--out", out, "-C", inventory),
        run_mesh("plan", "-C", inventory),
        run_mesh("ask", "bulk", "hi", "--timeout", "1", "-C", inventory),
        run_mesh("secrets", "list", "-C", inventory),
    ]
    assert [each.code for each in ran[:2]] == [0, 0], ran[0].said + ran[1].said
    rendered = "".join(path.read_text() for path in out.rglob("*") if path.is_file())
    assert "deepseek_api_key" in rendered
    everything = rendered + "".join(each.said for each in ran)
    assert not [name for name, value in values(inventory, identity).items() if value in everything]
