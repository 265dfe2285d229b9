"""`mesh fit`: the operator's own table, verdicts on other meshes, and what another card changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clikit import Ran
from compiled import reference
from measurekit import ONE as MEASURED

from mesh.errors import MeshError
from mesh.fit.calibrate import calibration
from mesh.fit.verdict import HostFit, ModelFit, fit
from mesh.fit.whatif import Swap, daily_model, parse_swap, rank, swap
from mesh.hardware.footprint import Verdict
from mesh.hardware.speed import reference_rows
from mesh.measure.record import add_measurements
from mesh.spec.mesh import Mesh

Run = Callable[..., Ran]
GIB = 1024**3
ONE = replace(MEASURED, tok_s=70.0)


def mesh(**changes: Any) -> Mesh:
    """The reference spec with parts replaced: `models={"a": {...}}` adds or replaces models."""
    data = reference()
    for section, parts in changes.items():
        data[section] |= parts
    return Mesh.model_validate(data)


def host(of: Mesh, name: str = "gpu-box") -> HostFit:
    return next(each for each in fit(of, calibration(())) if each.host == name)


def model(of: HostFit, name: str) -> ModelFit:
    return next(each for each in of.models if each.name == name)


def tok_s(of: ModelFit) -> float:
    assert of.short is not None
    return of.short.tok_s


# the operator's own table


@pytest.mark.parametrize(
    ("name", "verdict", "measured"),
    [
        ("llama3.2-3b", Verdict.FITS, 152),
        ("mistral-7b", Verdict.FITS, 98),
        ("llama3.1-8b", Verdict.FITS, 84),
        ("qwen2.5-coder-32b", Verdict.SPILLS, 3.9),
    ],
)
def test_the_operators_own_table_comes_out_on_the_rtx_4070_ti(name: str, verdict: Verdict, measured: float) -> None:
    found = model(host(mesh()), name)
    assert found.verdict is verdict
    assert tok_s(found) == pytest.approx(measured, rel=0.01)


def test_on_an_rtx_3090_the_32b_fits_at_a_stated_context_and_is_usable() -> None:
    of = mesh()
    found = swap(of, *parse_swap(of, "gpu-box=rtx-3090"), calibration(()))
    coder = model(found.then, "qwen2.5-coder-32b")
    assert coder.on_card
    assert coder.context == 8192
    assert coder.full is not None
    assert coder.full.low > 20
    assert "qwen2.5-coder-32b" in found.usable
    assert 8192 <= dict(found.contexts)["qwen2.5-coder-32b"] < 32768


def test_the_bigger_card_does_not_spill_because_the_context_stays() -> None:
    of = mesh()
    then = swap(of, *parse_swap(of, "gpu-box=rtx-3090"), calibration(())).then
    assert [each.context for each in then.models] == [each.context for each in host(of).models]


def test_a_full_context_is_never_surer_than_the_plain_model_because_short_ones_were_measured() -> None:
    found = model(host(mesh()), "llama3.1-8b")
    assert found.short and found.full
    assert found.short.high / found.short.tok_s == pytest.approx(1.10)
    assert found.full.high / found.full.tok_s == pytest.approx(1.20)


# verdicts


def test_a_model_that_spills_without_leave_does_not_fit_and_the_context_that_would_is_told() -> None:
    of = host(mesh(models={"llama3.1-8b": {"at": "ollama", "tag": "llama3.1:8b", "context": 65536}}))
    found = model(of, "llama3.1-8b")
    assert found.verdict is Verdict.SPILLS
    assert not of.fits
    assert found.context_that_fits
    again = mesh(models={"llama3.1-8b": {"at": "ollama", "tag": "llama3.1:8b", "context": found.context_that_fits}})
    assert model(host(again), "llama3.1-8b").on_card


def test_the_bar_adds_up_to_the_card() -> None:
    (bar,) = host(mesh()).bars
    assert sum(part.size for part in bar.parts) == bar.total == 12 * GIB
    assert [part.name for part in bar.parts] == [
        "driver",
        "desktop",
        "transcoding",
        "nomic-embed",
        "llama3.1-8b",
        "margin",
        "free",
    ]


def test_more_than_the_card_has_is_said_and_does_not_fit() -> None:
    of = host(
        mesh(hosts={"gpu-box": {"address": "192.168.1.20", "gpus": [{"card": "rtx-4070-ti", "reserve": {"photos": "12GiB"}}]}})
    )
    assert of.bars[0].over
    assert not of.fits


def test_a_model_nobody_knows_is_unknown_and_not_fitting_by_default() -> None:
    found = model(host(mesh(models={"odd": {"at": "ollama", "tag": "odd:1b"}})), "odd")
    assert (found.verdict, found.need, found.short) == (None, None, None)


def test_the_lane_without_a_card_has_speeds_and_no_verdict() -> None:
    data = mesh(
        providers={"cpu": {"kind": "ollama", "on": "vm-docker", "gpu": "none"}},
        models={"small": {"at": "cpu", "tag": "llama3.2:3b", "context": 4096}},
    )
    found = model(host(data, "vm-docker"), "small")
    assert found.verdict is None
    assert found.fits
    assert 5 < tok_s(found) < 40


def test_two_cards_hold_what_one_does_not() -> None:
    of = mesh()
    found = swap(of, *parse_swap(of, "gpu-box=rtx-3060-12gb+rtx-3060-12gb"), calibration(()))
    assert len(found.then.bars) == 2
    assert model(found.then, "qwen2.5-coder-32b").need
    assert found.watts == (285, 340)


# calibration


def test_an_own_measurement_wins_over_the_reference_homelabs() -> None:
    rows = calibration([ONE]).rows
    assert [row.tok_s for row in rows if row.model in {"llama3.1:8b", "Llama-3.1-8B"}] == [70.0]
    assert len(rows) == len(reference_rows())
    found = next(each for each in fit(mesh(), calibration([ONE])) if each.host == "gpu-box")
    assert 65 < tok_s(model(found, "llama3.1-8b")) < 76


@pytest.mark.parametrize(
    "changes", [{"double": True}, {"card": ""}, {"card": "cpu"}, {"card": "NVIDIA GeForce GTX 1"}, {"model": "odd:1b"}]
)
def test_doubles_and_strangers_calibrate_nothing(changes: dict[str, Any]) -> None:
    assert calibration([replace(ONE, **changes)]).rows == reference_rows()


def test_of_two_measurements_the_latest_counts() -> None:
    later = replace(ONE, taken="2026-11-21T10:00:00Z", tok_s=75.0)
    assert 75.0 in [row.tok_s for row in calibration([later, ONE]).rows]
    assert 70.0 not in [row.tok_s for row in calibration([later, ONE]).rows]


def test_a_spilled_model_that_was_measured_is_as_fast_as_measured_while_it_is_split_alike() -> None:
    tag, size = "qwen2.5-coder:32b", 20 * GIB
    row = replace(ONE, model=tag, tok_s=2.8, size=size, size_vram=size * 45 // 100)
    found = next(each for each in fit(mesh(), calibration([row])) if each.host == "gpu-box")
    short = model(found, "qwen2.5-coder-32b").short
    assert short is not None
    assert (short.basis, round(short.tok_s, 1)) == ("measured", 2.8)
    other = calibration([replace(row, size_vram=size * 90 // 100)])
    short = model(next(each for each in fit(mesh(), other) if each.host == "gpu-box"), "qwen2.5-coder-32b").short
    assert short is not None
    assert short.basis == "calibrated"


def test_of_two_cards_of_one_name_the_one_of_the_spec_was_measured() -> None:
    data = reference()
    data["hosts"]["gpu-box"]["gpus"][0]["card"] = "rtx-2060-12gb"
    row = replace(ONE, host="gpu-box", card="NVIDIA GeForce RTX 2060")
    assert calibration([row], Mesh.model_validate(data)).rows[0].card == "rtx-2060-12gb"
    assert calibration([row]).rows[0].card == "rtx-2060-6gb"


def test_a_model_that_only_the_spec_knows_calibrates() -> None:
    data = reference()
    numbers = {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "vocab": 32000, "max_context": 32768}
    data["models"]["mine"] = {"at": "ollama", "tag": "mine:7b", "weights": "4.4GB", "architecture": numbers}
    row = replace(ONE, model="mine:7b", tok_s=90.0)
    of = Mesh.model_validate(data)
    found = next(each for each in fit(of, calibration([row], of)) if each.host == "gpu-box")
    assert tok_s(model(found, "mine")) == pytest.approx(90.0, rel=0.01)


# another card


def swapped(of: Mesh) -> Swap:
    return swap(of, *parse_swap(of, "gpu-box=rtx-3090"), calibration(()))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rtx-3090", "is no swap"),
        ("gpu-box=", "is no swap"),
        ("gpu-box=rtx-3090+", "is no swap"),
        ("gpubox=rtx-3090", "no host gpubox"),
        ("gpu-box=rtx-3009", "no card rtx-3009"),
    ],
)
def test_a_swap_that_makes_no_sense_is_refused(text: str, says: str) -> None:
    with pytest.raises(MeshError, match=says) as caught:
        parse_swap(mesh(), text)
    assert caught.value.mend


def test_a_swap_on_a_host_without_an_ollama_on_cards_is_refused() -> None:
    of = mesh()
    with pytest.raises(MeshError, match="no Ollama of the spec uses cards of nas"):
        swap(of, "nas", ["rtx-3090"], calibration(()))


def test_reserves_stay_with_the_host_when_the_card_is_swapped() -> None:
    names = [part.name for part in swapped(mesh()).then.bars[0].parts]
    assert names[:3] == ["driver", "desktop", "transcoding"]


def test_routes_to_the_cloud_could_come_in_house_and_what_that_saves_is_their_volume_by_price() -> None:
    data = reference()
    data["routes"]["bulk"]["volume"] = {"in": "10M", "out": "2M"}
    found = swapped(Mesh.model_validate(data))
    by_route = {each.route: each for each in found.in_house}
    assert set(by_route) == {"bulk", "reason", "long", "fast", "write"}
    bulk = by_route["bulk"]
    assert bulk.month is not None
    assert bulk.month.usd == pytest.approx(10 * 0.27 + 2 * 1.10)
    speed = tok_s(model(found.then, "qwen2.5-coder-32b"))
    assert bulk.hours == pytest.approx(2e6 / speed / 3600)
    assert bulk.kwh == pytest.approx(2e6 / speed / 3600 * 0.350)
    assert by_route["write"].month is None
    assert by_route["write"].hours is None


def test_a_swap_that_makes_nothing_usable_brings_no_route_in_house() -> None:
    of = mesh()
    found = swap(of, *parse_swap(of, "gpu-box=rtx-4070"), calibration(()))
    assert found.usable == ()
    assert found.in_house == ()


def test_candidates_of_the_catalogue_are_those_that_spill_today_and_fit_then() -> None:
    tags = {each.tag for each in swapped(mesh()).candidates}
    assert "gemma3:27b" in tags
    assert "qwen2.5-coder:7b" not in tags


def test_the_ranking_puts_what_fits_most_first_and_the_daily_model_is_the_one_in_most_routes() -> None:
    of = mesh()
    assert daily_model(of, "gpu-box") == "llama3.1-8b"
    ranked = rank(of, "gpu-box", calibration(()))
    fitting = [each.fitting for each in ranked]
    assert fitting == sorted(fitting, reverse=True)
    by_slug = {each.card.slug: each for each in ranked}
    assert by_slug["rtx-3090"].fitting == 5
    assert by_slug["rtx-4070-ti"].fitting == 4
    assert not by_slug["rtx-2060-6gb"].daily_fits


# the command


@pytest.fixture
def inventory(small_inventory: Path) -> Path:
    import yaml

    (small_inventory / "mesh.yaml").write_text(yaml.safe_dump(reference()))
    return small_inventory


def test_the_table_is_plain_ascii_in_a_pipe_and_the_exit_code_says_that_it_fits(inventory: Path, run_mesh: Run) -> None:
    ran = run_mesh("fit", "-C", inventory)
    assert ran.code == 0
    assert ran.out.isascii()
    bar = next(line for line in ran.out.splitlines() if line.startswith("  ["))
    assert len(bar.partition("]")[0]) == len("  [") + 64
    line = next(line for line in ran.out.splitlines() if "qwen2.5-coder-32b" in line)
    assert "SPILLS, allowed" in line
    assert "3.9 (3.5 to 4.3)" in line


def test_what_does_not_fit_is_exit_1_and_is_shown_although_check_refuses_it(inventory: Path, run_mesh: Run) -> None:
    text = (inventory / "mesh.yaml").read_text().replace("spill: allowed", "resident: false")
    (inventory / "mesh.yaml").write_text(text)
    ran = run_mesh("fit", "-C", inventory)
    assert ran.code == 1
    assert "SPILLS " in ran.out
    assert run_mesh("fit", "--swap", "gpu-box=rtx-3090", "-C", inventory).code == 0


@pytest.mark.parametrize("question", [(), ("--swap", "gpu-box=rtx-3090"), ("--all-cards",)])
def test_json_has_a_version_and_nothing_else_on_stdout(inventory: Path, run_mesh: Run, question: tuple[str, ...]) -> None:
    ran = run_mesh("fit", *question, "--json", "-C", inventory)
    assert ran.code == 0
    assert json.loads(ran.out)["version"] == 1


def test_measurements_beside_the_spec_calibrate_it(inventory: Path, run_mesh: Run) -> None:
    add_measurements(inventory, [ONE])
    ran = run_mesh("fit", "-C", inventory)
    assert "measured on RTX 4070 Ti with ollama 0.32.15, 2026-11-20" in ran.out


def test_the_swap_says_what_newly_fits_and_that_there_are_no_volumes(inventory: Path, run_mesh: Run) -> None:
    ran = run_mesh("fit", "--swap", "gpu-box=rtx-3090", "-C", inventory)
    assert ran.code == 0
    assert "newly fits" in ran.out
    assert "The spec has no volumes" in ran.out
    assert "285 W -> 350 W" in ran.out


def test_a_spec_whose_references_dangle_is_an_error_and_no_traceback(inventory: Path, run_mesh: Run) -> None:
    text = (inventory / "mesh.yaml").read_text().replace("at: ollama\n", "at: olama\n", 1)
    (inventory / "mesh.yaml").write_text(text)
    ran = run_mesh("fit", "-C", inventory)
    assert ran.code == 1
    assert "olama" in ran.err
    assert "bug:" not in ran.err


def test_two_questions_at_once_are_refused(inventory: Path, run_mesh: Run) -> None:
    ran = run_mesh("fit", "--swap", "gpu-box=rtx-3090", "--all-cards", "-C", inventory)
    assert ran.code == 1
    assert "ask one at a time" in ran.err
