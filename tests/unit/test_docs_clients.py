"""docs/clients.md says what is: its `mesh client` commands run, and its table of rules is the gateway's."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

from clikit import Ran

from mesh.paths import INVENTORY, PROJECT
from mesh.spec.load import load_spec

PAGE = (PROJECT / "docs" / "clients.md").read_text()


def test_the_commands_of_the_page_run(tmp_path: Path, identity: Path, run_mesh: Callable[..., Ran]) -> None:  # noqa: ARG001
    folder = tmp_path / "inventory"
    shutil.copytree(INVENTORY, folder, ignore=shutil.ignore_patterns("secrets.*", "__pycache__"))
    assert run_mesh("secrets", "init", "-C", folder).code == 0
    commands = [line.partition("|")[0] for line in re.findall(r"^bin/mesh (client .*)$", PAGE, re.MULTILINE)]
    assert len(commands) >= 5
    for command in commands:
        ran = run_mesh(*shlex.split(command), "-C", folder)
        assert ran.code == 0, f"{command}: {ran.err}"


def test_every_rule_that_the_page_names_is_one_of_the_gateways_and_every_one_is_named() -> None:
    code = "".join(path.read_text() for path in (PROJECT / "stacks/litellm/gateway").glob("*.py"))
    raised = set(re.findall(r'RefusedError\(\s*\d{3}, "([a-z-]+)"', code)) - {"request-body"}
    assert raised == set(re.findall(r"`((?:client|routes|served|private)-[a-z]+)`", PAGE))


def test_the_pages_pipelines_are_those_of_the_reference() -> None:
    clients = load_spec(INVENTORY).mesh.clients
    rows = re.findall(r"^\| `([a-z-]+)` \| (`.*?) \|", PAGE[PAGE.index("### Pipelines") :], re.MULTILINE)
    assert len(rows) == 4
    assert {name: tuple(re.findall(r"`([a-z]+)`", routes)) for name, routes in rows} == {
        name: clients[name].routes for name, _ in rows
    }
