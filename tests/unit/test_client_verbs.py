"""`mesh client add|rotate|revoke|list`, as the operator runs them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clikit import SMALL_SPEC, Ran

import mesh.cli.client
from mesh.errors import MeshError
from mesh.inventory import Inventory
from mesh.paths import INVENTORY
from mesh.secrets.agefile import AgeFile, load_identities

Run = Callable[..., Ran]
KEY = re.compile(r"sk-[0-9a-f]{48}")
SPEC = SMALL_SPEC.replace("stacks:", "# keep: these\n\nstacks: # where").replace("clients:", "clients: # who")
ADD = ("client", "add", "phone", "--routes", "bulk,private", "--budget", "3 USD/month", "--rpm", "30")
LINE = "  phone: {routes: [bulk, private], budget: 3 USD/month, rpm: 30}\n"
LAST = "  laptop: {routes: [bulk, private], budget: 5 USD/month}\n"


def values(folder: Path, identity: Path) -> dict[str, str]:
    return {name: value.reveal() for name, value in AgeFile(folder).open(load_identities(identity)).items()}


def spec(folder: Path) -> str:
    return (folder / "mesh.yaml").read_bytes().decode()


def state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def inventory(small_inventory: Path, run_mesh: Run) -> Path:
    """The small inventory with every own secret."""
    (small_inventory / "mesh.yaml").write_text(SPEC)
    assert run_mesh("secrets", "init", "-C", small_inventory).code == 0
    return small_inventory


@pytest.fixture
def reference(tmp_path: Path, identity: Path, run_mesh: Run) -> Path:
    """The reference inventory with secrets of its own."""
    folder = tmp_path / "reference"
    shutil.copytree(INVENTORY, folder, ignore=shutil.ignore_patterns("secrets.*", "__pycache__"))
    assert run_mesh("secrets", "init", "-C", folder).code == 0
    held = AgeFile(folder)
    identities = load_identities(identity)
    keys = {f"{name}_api_key": _secret(name) for name in ("anthropic", "deepseek", "groq", "moonshot")}
    held.save(held.open(identities) | keys, held.index().recipients)
    return folder


def _secret(name: str) -> Any:
    from mesh.secrets.value import Secret

    return Secret(f"planted-{name}")


def test_add_writes_one_line_and_a_key_and_shows_the_key_once(inventory: Path, identity: Path, run_mesh: Run) -> None:
    before = values(inventory, identity)
    ran = run_mesh(*ADD, "-C", inventory)
    assert ran.code == 0, ran.err
    assert spec(inventory) == SPEC.replace(LAST, LAST + LINE)
    after = values(inventory, identity)
    key = after.pop("client_phone_key")
    assert KEY.fullmatch(key)
    assert after == before
    assert ran.out == f"{key}\n"
    assert key not in ran.err
    assert "shown this once" in ran.err
    assert "mesh apply" in ran.err
    assert "litellm on box" in ran.err


def test_quiet_prints_the_key_and_nothing_else(inventory: Path, run_mesh: Run) -> None:
    for verb in (ADD, ("client", "rotate", "phone")):
        ran = run_mesh(*verb, "--quiet", "-C", inventory)
        assert KEY.fullmatch(ran.out.strip())
        assert ran.err == ""


def test_the_mode_of_the_spec_and_a_link_to_it_stay(inventory: Path, run_mesh: Run, tmp_path: Path) -> None:
    (inventory / "mesh.yaml").chmod(0o640)
    (inventory / "mesh.yaml").rename(tmp_path / "real.yaml")
    (inventory / "mesh.yaml").symlink_to(tmp_path / "real.yaml")
    assert run_mesh(*ADD, "-C", inventory).code == 0
    assert (inventory / "mesh.yaml").is_symlink()
    assert (tmp_path / "real.yaml").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({2: "ocr"}, "already"),
        ({2: "Phone"}, "not a name"),
        ({2: "a/b"}, "not a name"),
        ({4: "bluk"}, "did you mean `bulk`?"),
        ({4: "bulk,private,cloud"}, "no route 'cloud'"),
        ({4: " , "}, "needs a route"),
        ({6: "5"}, "20 USD/month"),
        ({6: "5 USD/day"}, "20 USD/month"),
        ({6: "5 EUR/month"}, "prices are in USD"),
        ({6: "5 USD/month}, evil: {"}, "20 USD/month"),
        ({8: "0"}, "--rpm"),
        ({8: "many"}, "--rpm"),
    ],
)
def test_add_refuses_what_check_would_and_writes_nothing(
    inventory: Path, run_mesh: Run, changes: dict[int, str], says: str
) -> None:
    before = state(inventory)
    ran = run_mesh(*(changes.get(index, each) for index, each in enumerate(ADD)), "-C", inventory)
    assert ran.code == 1
    assert says in ran.err
    assert ran.out == ""
    assert state(inventory) == before


def test_add_refuses_a_client_whose_key_would_be_another_ones(inventory: Path, run_mesh: Run) -> None:
    assert run_mesh("client", "add", "my-phone", "--routes", "private", "-C", inventory).code == 0
    before = state(inventory)
    ran = run_mesh("client", "add", "my.phone", "--routes", "private", "-C", inventory)
    assert ran.code == 1
    assert "client-key-shared" in ran.err
    assert state(inventory) == before


def test_a_paid_route_without_a_budget_is_warned_of(inventory: Path, run_mesh: Run) -> None:
    ran = run_mesh("client", "add", "phone", "--routes", "bulk", "-C", inventory)
    assert ran.code == 0
    assert "clients.phone has no budget" in ran.err
    assert "clients.ocr" not in ran.err


def test_errors_that_the_spec_had_before_are_told_where_they_are(inventory: Path, run_mesh: Run) -> None:
    broken = SPEC.replace("litellm: {on: box", "litellm: {on: bxo")
    (inventory / "mesh.yaml").write_text(broken)
    ran = run_mesh(*ADD, "-C", inventory)
    assert ran.code == 1
    assert "did you mean `box`?" in ran.err
    assert f"mesh.yaml:{broken.splitlines().index('  litellm: {on: bxo, port: 4000}') + 1}:" in ran.err
    assert spec(inventory) == broken


def test_a_provider_key_that_is_not_set_yet_does_not_hinder(inventory: Path, run_mesh: Run) -> None:
    assert "secret-missing" in run_mesh("check", "-C", inventory).out
    assert run_mesh(*ADD, "-C", inventory).code == 0


def test_a_spec_in_python_says_what_to_write_by_hand(inventory: Path, run_mesh: Run) -> None:
    (inventory / "mesh.yaml").unlink()
    (inventory / "mesh.py").write_text("from mesh.spec.mesh import Mesh\nmesh = Mesh.model_validate(" + _as_python() + ")\n")
    before = state(inventory)
    ran = run_mesh(*ADD, "-C", inventory)
    assert ran.code == 1
    assert "Python" in ran.err
    assert LINE.strip() in ran.err
    assert "remove it by hand" in run_mesh("client", "revoke", "ocr", "-C", inventory).err
    assert state(inventory) == before
    assert run_mesh("client", "rotate", "ocr", "-C", inventory).code == 0


def _as_python() -> str:
    from mesh.compile.yamltext import load_compose

    return repr(load_compose(SPEC))


def test_clients_of_a_file_that_the_spec_extends_are_left_to_the_operator(inventory: Path, run_mesh: Run) -> None:
    (inventory / "base.yaml").write_text(SPEC)
    (inventory / "mesh.yaml").write_text("extends: base.yaml\nmesh: other\n")
    before = state(inventory)
    for verb in (ADD, ("client", "revoke", "ocr")):
        ran = run_mesh(*verb, "-C", inventory)
        assert ran.code == 1
        assert "extends" in ran.err
        assert "base.yaml:" in ran.err
    assert state(inventory) == before
    (inventory / "mesh.yaml").write_text("extends: base.yaml\nclients:\n  mine: {routes: [private]}\n")
    assert run_mesh("secrets", "init", "-C", inventory).code == 0
    assert run_mesh(*ADD, "-C", inventory).code == 0
    assert spec(inventory) == "extends: base.yaml\nclients:\n  mine: {routes: [private]}\n" + LINE


def test_a_key_that_comes_from_elsewhere_is_not_made_here(inventory: Path, run_mesh: Run) -> None:
    (inventory / "mesh.yaml").write_text(SPEC + "secrets:\n  client_ocr_key: {env: OCR}\n  client_phone_key: {env: PHONE}\n")
    before = state(inventory)
    for verb in (ADD, ("client", "rotate", "ocr")):
        ran = run_mesh(*verb, "-C", inventory)
        assert ran.code == 1
        assert "environment" in ran.err
    assert state(inventory) == before
    assert "environment OCR" in run_mesh("client", "list", "-C", inventory).out


def test_without_the_identity_nothing_changes(inventory: Path, identity: Path, run_mesh: Run) -> None:
    identity.unlink()
    before = state(inventory)
    for verb in (ADD, ("client", "rotate", "ocr"), ("client", "revoke", "ocr")):
        ran = run_mesh(*verb, "-C", inventory)
        assert ran.code == 1
        assert str(identity) in ran.err
    assert state(inventory) == before


def test_an_add_that_is_interrupted_before_the_spec_is_written_leaves_a_sound_inventory_and_can_be_repeated(
    inventory: Path, identity: Path, run_mesh: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise MeshError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(mesh.cli.client, "_write", fails)
        ran = run_mesh(*ADD, "-C", inventory)
    assert ran.code == 1
    assert ran.out == ""
    assert spec(inventory) == SPEC
    left = values(inventory, identity)["client_phone_key"]
    ran = run_mesh(*ADD, "-C", inventory)
    assert ran.code == 0
    assert ran.out.strip() == values(inventory, identity)["client_phone_key"] != left
    assert not list(inventory.glob(".*"))


def test_two_adds_at_once_are_both_kept(inventory: Path, identity: Path) -> None:
    command = [sys.executable, "-P", "-m", "mesh", "client", "add"]
    started = [
        subprocess.Popen(
            [*command, f"phone{number}", "--routes", "private", "-C", str(inventory)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ,
        )
        for number in range(3)
    ]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert {f"client_phone{number}_key" for number in range(3)} <= set(values(inventory, identity))
    assert all(f"  phone{number}: {{routes: [private]}}\n" in spec(inventory) for number in range(3))


def test_rotate_replaces_one_key_and_leaves_the_spec(inventory: Path, identity: Path, run_mesh: Run) -> None:
    before = values(inventory, identity)
    ran = run_mesh("client", "rotate", "ocr", "-C", inventory)
    assert ran.code == 0
    after = values(inventory, identity)
    assert [name for name in after if after[name] != before[name]] == ["client_ocr_key"]
    assert ran.out.strip() == after["client_ocr_key"]
    assert before["client_ocr_key"] not in ran.said
    assert spec(inventory) == SPEC


def test_rotate_works_while_the_spec_has_errors(inventory: Path, run_mesh: Run) -> None:
    (inventory / "mesh.yaml").write_text(SPEC.replace("to: llama,", "to: lama,"))
    assert run_mesh("client", "rotate", "ocr", "-C", inventory).code == 0


@pytest.mark.parametrize("verb", ["rotate", "revoke"])
def test_an_unknown_client_gets_the_nearest_name(inventory: Path, run_mesh: Run, verb: str) -> None:
    ran = run_mesh("client", verb, "laptpo", "-C", inventory)
    assert ran.code == 1
    assert "did you mean `laptop`?" in ran.err


def test_revoke_undoes_add_byte_for_byte(inventory: Path, identity: Path, run_mesh: Run) -> None:
    before = values(inventory, identity)
    assert run_mesh(*ADD, "-C", inventory).code == 0
    ran = run_mesh("client", "revoke", "phone", "-C", inventory)
    assert ran.code == 0
    assert "still works" in ran.err
    assert spec(inventory) == SPEC
    assert values(inventory, identity) == before


def test_revoke_keeps_a_client_that_a_stack_needs_unless_forced(reference: Path, identity: Path, run_mesh: Run) -> None:
    before = state(reference)
    ran = run_mesh("client", "revoke", "open-webui", "-C", reference)
    assert ran.code == 1
    assert "stack open-webui" in ran.err
    assert "--force" in ran.err
    assert state(reference) == before
    assert run_mesh("client", "revoke", "open-webui", "--force", "-C", reference).code == 0
    assert "open-webui: {routes" not in spec(reference)
    assert "client_open_webui_key" not in values(reference, identity)


def test_revoke_keeps_a_key_that_an_own_stack_is_given(inventory: Path, run_mesh: Run) -> None:
    (inventory / "own").mkdir()
    (inventory / "own/compose.yaml").write_text("services: {a: {image: 'a:1', volumes: ['./secrets/key:/key:ro']}}\n")
    (inventory / "mesh.yaml").write_text(SPEC + "  own: {on: box, source: own, secrets: {key: secret:client_ocr_key}}\n")
    before = state_of_files(inventory)
    ran = run_mesh("client", "revoke", "ocr", "-C", inventory)
    assert ran.code == 1
    assert "stacks.own.secrets.key" in ran.err
    assert state_of_files(inventory) == before


def state_of_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_list_tells_all_but_the_key(inventory: Path, identity: Path, run_mesh: Run) -> None:
    assert run_mesh(*ADD, "-C", inventory).code == 0
    assert run_mesh("secrets", "rm", "client_ocr_key", "-C", inventory).code == 0
    ran = run_mesh("client", "list", "-C", inventory)
    lines = {line.split()[0]: line for line in ran.out.splitlines()}
    assert "MISSING" in lines["ocr"]
    assert all(word in lines["phone"] for word in ("3 USD/month", "30", "secrets.age", "bulk, private"))
    entries = json.loads(run_mesh("client", "list", "--json", "-C", inventory).out)["clients"]
    phone = next(each for each in entries if each["name"] == "phone")
    assert phone["budget"] == {"amount": 3.0, "currency": "USD"}
    assert phone["rpm"] == 30
    assert phone["key"] == "secrets.age"
    identity.unlink()
    assert "secrets.age" in run_mesh("client", "list", "-C", inventory).out
    assert not KEY.search(ran.said)


def test_after_add_rotate_and_revoke_the_reference_is_clean_and_no_key_is_in_any_other_output(
    reference: Path, identity: Path, run_mesh: Run, tmp_path: Path
) -> None:
    keys = []
    said = []
    for verb in (
        ("add", "scanner", "--routes", "bulk,embed", "--budget", "1 USD/month"),
        ("rotate", "scanner"),
        ("rotate", "open-webui"),
        ("revoke", "articles"),
    ):
        ran = run_mesh("client", *verb, "-C", reference)
        assert ran.code == 0, ran.err
        keys += KEY.findall(ran.out)
        said.append(ran.err)
        for after in (("check",), ("render", "--out", tmp_path / "out"), ("secrets", "list"), ("client", "list")):
            ran = run_mesh(*after, "-C", reference)
            assert ran.code == 0, ran.said
            said.append(ran.said)
    assert len(keys) == 3
    files = [path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    files += [path.read_text() for path in reference.iterdir() if path.is_file()]
    everything = "".join([*said, *files])
    assert not [value for value in (*keys, *values(reference, identity).values()) if value in everything]


@pytest.mark.parametrize(("client", "stacks"), [("ocr", {"litellm"}), ("open-webui", {"litellm", "open-webui"})])
def test_a_new_key_changes_the_services_that_hold_it_and_no_other(
    reference: Path, run_mesh: Run, client: str, stacks: set[str]
) -> None:
    before = _digests(reference)
    ran = run_mesh("client", "rotate", client, "-C", reference)
    after = _digests(reference)
    changed = {stack for (stack, service), digest in after.items() if before[stack, service] != digest}
    assert changed == stacks
    changing = re.search(r"it changes (.*)", ran.err)
    assert changing is not None
    assert {each.split()[0] for each in changing[1].split(", ")} == stacks


def _digests(folder: Path) -> dict[tuple[str, str], str]:
    deployment = Inventory(folder).deployment()
    return {
        (stack.name, service.name): service.digest
        for host in deployment.hosts.values()
        for stack in host.stacks
        for service in stack.services
    }
