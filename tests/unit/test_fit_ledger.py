"""`mesh fit --swap --ledger`: what the routes did carry, by the gateway's own account."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clikit import Ran

from mesh.errors import MeshError
from mesh.fit.volumes import Counted, Ledger, counted
from mesh.inventory import open_inventory
from mesh.live.ledger import PATH, QUERY, parse_ledger
from mesh.paths import INVENTORY, STACKS
from mesh.spec.mesh import Mesh
from mesh.state.observed import Unknown

Run = Callable[..., Ran]
DAY = 86_400_000
SWAP = ("fit", "--swap", "gpu-box=rtx-3090", "--ledger")


def reference() -> Mesh:
    return open_inventory(INVENTORY).mesh


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger as the gateway makes it, with requests of ten days, one of long ago, and one that still runs."""
    sys.path.insert(0, str(STACKS / "litellm" / "gateway"))
    try:
        import mesh_store as store
    finally:
        sys.path.pop(0)
    path, now = tmp_path / "ledger.db", int(time.time() * 1000)
    store.prepare(path)
    with sqlite3.connect(path) as connection:
        for days, route, model, tokens_in, tokens_out, cost, status in (
            (10, "bulk", "deepseek-v3", 1_000_000, 200_000, 490_000, 200),
            (1, "bulk", "claude", 100_000, 20_000, 800_000, 200),
            (1, "bulk", "llama3.1-8b", 500_000, 90_000, 0, 200),
            (1, "bulk", None, None, None, 30_000, 499),
            (1, "bulk", None, None, None, 0, 503),
            (40, "bulk", "claude", 9_000_000, 9_000_000, 90_000_000, 200),
            (0, "bulk", None, None, None, 70_000, None),
        ):
            row = (now - days * DAY, "ocr", route, model, tokens_in, tokens_out, None, None, cost, 900, 0, status)
            connection.execute(store.INSERT, row)
    return path


def asked(path: Path) -> str:
    """What the query prints for a ledger, run as the gateway's container would."""
    done = subprocess.run([sys.executable, "-c", QUERY.replace(PATH, str(path))], capture_output=True, text=True, check=True)
    return done.stdout


def test_a_months_requests_are_summed_by_route_and_model_and_what_runs_is_left_out(ledger: Path) -> None:
    found = parse_ledger(asked(ledger), "vm-docker/litellm")
    assert found.days == pytest.approx(10, abs=0.01)
    assert {(row.model, row.requests, row.tokens_in, row.tokens_out, row.cost) for row in found.counted} == {
        ("deepseek-v3", 1, 1_000_000, 200_000, 0.49),
        ("claude", 1, 100_000, 20_000, 0.8),
        ("llama3.1-8b", 1, 500_000, 90_000, 0.0),
        ("", 2, 0, 0, 0.03),
    }


def test_ten_days_are_made_a_month_of_and_what_stayed_in_the_building_saves_nothing(ledger: Path) -> None:
    month = counted(reference(), parse_ledger(asked(ledger), ""))
    assert month["bulk"].usd == pytest.approx(3 * (0.49 + 0.80 + 0.03), rel=0.01)
    assert month["bulk"].tokens_in == pytest.approx(3 * 1_100_000, rel=0.01)
    assert month["write"].usd == 0


def test_an_empty_ledger_and_one_of_an_hour_are_no_division_by_zero() -> None:
    assert parse_ledger('{"milliseconds": 0, "rows": []}', "") == Ledger(0.0, ())
    young = Ledger(1 / 24, (Counted("bulk", "claude", 1, 10, 10, 1.0),))
    assert counted(reference(), young)["bulk"].usd == pytest.approx(30.0)


@pytest.mark.parametrize(
    "text", ["", "no", "{}", "[]", '{"milliseconds": 1, "rows": [[1]]}', '{"milliseconds": 1e999, "rows": []}']
)
def test_an_odd_answer_is_an_error_for_the_operator(text: str) -> None:
    with pytest.raises(MeshError, match="answered oddly"):
        parse_ledger(text, "vm-docker/litellm")


@pytest.fixture
def inventory(small_inventory: Path) -> Path:
    (small_inventory / "mesh.yaml").write_text((INVENTORY / "mesh.yaml").read_text())
    return small_inventory


def test_the_swap_says_what_the_ledgers_routes_cost_and_how_long_the_card_would_write(
    inventory: Path, ledger: Path, run_mesh: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.live.ledger.run_script", lambda *_: asked(ledger))
    ran = run_mesh(*SWAP, "-C", inventory)
    assert ran.code == 0, ran.err
    assert "at most 3.96 USD by the gateway's ledger, its last 10.0 days" in ran.out
    told: dict[str, Any] = json.loads(run_mesh(*SWAP, "--json", "-C", inventory).out)
    assert told["volumes"] == {"from": "the ledger", "days": 10.0}
    bulk = next(each for each in told["in_house"] if each["route"] == "bulk")
    assert bulk["tokens_a_month"]["out"] == pytest.approx(660_000, rel=0.01)
    assert bulk["kwh_a_month"] == pytest.approx(bulk["hours_a_month"] * 0.350)


@pytest.mark.parametrize("answer", ["", Unknown("no route to it", "switch it on")])
def test_a_ledger_that_cannot_be_read_is_an_error_with_a_way_out(
    inventory: Path, run_mesh: Run, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    monkeypatch.setattr("mesh.live.ledger.run_script", lambda *_: answer)
    ran = run_mesh(*SWAP, "-C", inventory)
    assert ran.code == 1
    assert "vm-docker/litellm: the gateway's ledger cannot be read" in ran.err
    assert "mend:" in ran.err


def test_the_ledger_without_a_swap_is_refused(inventory: Path, run_mesh: Run) -> None:
    assert "add --swap" in run_mesh("fit", "--ledger", "-C", inventory).err


def test_a_mesh_without_a_gateway_has_no_ledger(inventory: Path, run_mesh: Run) -> None:
    path = inventory / "mesh.yaml"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("  litellm:")))
    assert "no gateway, and so no ledger" in run_mesh(*SWAP, "-C", inventory).err
