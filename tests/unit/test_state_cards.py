"""Cards: nvidia-smi's real answers read, and compared with the spec. They prove the decision, not the driver."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from statekit import deployment, ideal, stub_docker, value_of, with_host

from mesh.hardware.cards import cards, named
from mesh.state.cards import MIB, SeenCard, SeenCards, lost_inside, read_cards, same_card
from mesh.state.deployment import Card, Deployment
from mesh.state.diff import diff
from mesh.state.observed import LoadedModel, Observed, ObservedHost, Unknown
from mesh.state.parse import parse_host
from mesh.state.plan import Deviation, Plan
from mesh.state.script import observe_script

GIB = 1024**3
TI = "0, NVIDIA GeForce RTX 4070 Ti, GPU-3f1c9c1e-0d4b-9e4e-7a52-0c1f5d1e2b3a, 12282, 1021"
TWO = f"{TI}\n1, NVIDIA GeForce RTX 3060, GPU-9b0d8e55-5b1a-4e8c-8d8b-6f3a1c2d4e5f, 12288, 11"
NVML = "Failed to initialize NVML: Unknown Error"
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.144"
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running."
)
NOT_IN_IMAGE = (
    'OCI runtime exec failed: exec failed: unable to start container process: exec: "nvidia-smi": '
    "executable file not found in $PATH: unknown"
)


def card(name: str = "NVIDIA GeForce RTX 4070 Ti", total: int | None = 12282, used: int | None = 0) -> SeenCard:
    return SeenCard(name, "GPU-1", None if total is None else total * MIB, None if used is None else used * MIB)


# reading


def test_a_row_of_nvidia_smi_is_read_in_bytes() -> None:
    (found,) = read_cards(0, TI + "\n").cards
    assert found == SeenCard("NVIDIA GeForce RTX 4070 Ti", "GPU-3f1c9c1e-0d4b-9e4e-7a52-0c1f5d1e2b3a", 12282 * MIB, 1021 * MIB)
    assert [each.name for each in read_cards(0, TWO).cards] == ["NVIDIA GeForce RTX 4070 Ti", "NVIDIA GeForce RTX 3060"]


def test_memory_that_the_driver_does_not_tell_is_not_zero() -> None:
    (found,) = read_cards(0, "0, NVIDIA GB10, GPU-1, [N/A], [N/A]").cards
    assert (found.total, found.used) == (None, None)


@pytest.mark.parametrize(
    ("code", "text", "says"),
    [
        (18, MISMATCH, "Driver/library version mismatch"),
        (9, NO_DRIVER, "couldn't communicate with the NVIDIA driver"),
        (6, "No devices were found", "No devices were found"),
        (255, NVML, "Unknown Error"),
        (127, "sh: 1: nvidia-smi: not found", "is the driver installed"),
        (124, "", "hangs"),
        (0, "", "lists no card"),
        (0, "Unable to determine the device handle for GPU0000:01:00.0: GPU is lost.", "GPU is lost"),
        (0, "<html>", "oddly"),
        (1, "", "ended with 1"),
    ],
)
def test_a_driver_that_fails_is_an_error_in_its_own_words_and_not_an_empty_host(code: int, text: str, says: str) -> None:
    found = read_cards(code, text)
    assert not found.cards
    assert says in found.error


@pytest.mark.parametrize(
    ("declared", "seen", "total"),
    [
        ("rtx-4070-ti", "NVIDIA GeForce RTX 4070 Ti", 12282),
        ("rtx-3080-10gb", "NVIDIA GeForce RTX 3080", 10240),
        ("rtx-3060-12gb", "NVIDIA GeForce RTX 3060", 12288),
        ("rtx-4060-ti-16gb", "NVIDIA GeForce RTX 4060 Ti", 16380),
        ("rtx-a4000", "NVIDIA RTX A4000", 16376),
        ("rtx-4000-ada", "NVIDIA RTX 4000 Ada Generation", 20475),
        ("a100-pcie-80gb", "NVIDIA A100 80GB PCIe", 81920),
        ("a100-pcie-80gb", "NVIDIA A100-SXM4-80GB", 81920),
        ("tesla-p40", "Tesla P40", 24576),
        ("tesla-t4", "Tesla T4", 15360),
        ("l4", "NVIDIA L4", 23034),
    ],
)
def test_a_card_is_known_by_nvidia_smis_name(declared: str, seen: str, total: int) -> None:
    assert same_card(declared, card(seen, total))


@pytest.mark.parametrize(
    ("declared", "seen", "total"),
    [
        ("rtx-4070-ti", "NVIDIA GeForce RTX 4070 Ti SUPER", 16376),
        ("rtx-4070-ti", "NVIDIA GeForce RTX 4070", 12282),
        ("rtx-4060-ti-16gb", "NVIDIA GeForce RTX 4060 Ti", 8188),
        ("rtx-3080-10gb", "NVIDIA GeForce RTX 3080", 12288),
        ("a100-pcie-80gb", "NVIDIA A100-PCIE-40GB", 40960),
        ("rtx-3090", "NVIDIA GeForce RTX 3090 Ti", 24564),
    ],
)
def test_a_card_of_another_name_or_size_is_another_card(declared: str, seen: str, total: int) -> None:
    assert not same_card(declared, card(seen, total))


def test_the_catalogues_cards_are_told_apart_by_name() -> None:
    for slug, known in cards().items():
        seen = card(f"NVIDIA GeForce {known.name}", known.vram_bytes // MIB)
        assert [other for other in cards() if same_card(other, seen)] == [slug]


@pytest.mark.parametrize(
    ("written", "slugs"),
    [
        ("RTX4070TiSUPER", ("rtx-4070-ti-super",)),
        ("RTX 4070 Ti", ("rtx-4070-ti",)),
        ("rx7900xtx", ("rx-7900-xtx",)),
        ("AMD Radeon RX 7900 XT", ("rx-7900-xt",)),
        ("NVIDIA GeForce RTX 2060", ("rtx-2060-6gb", "rtx-2060-12gb")),
        ("rtx-2060-12gb", ("rtx-2060-12gb",)),
        ("a100", ("a100-pcie-80gb",)),
        ("NVIDIA", ()),
        ("", ()),
    ],
)
def test_a_card_is_known_however_its_name_is_written(written: str, slugs: tuple[str, ...]) -> None:
    assert named(written) == slugs


def test_the_nvml_trap_in_a_container_is_told_from_a_container_that_cannot_be_asked() -> None:
    assert lost_inside(0, "GPU 0: NVIDIA GeForce RTX 4070 Ti (UUID: GPU-1)\n") == ""
    assert lost_inside(255, NVML) == NVML
    assert lost_inside(6, "No devices were found")
    assert lost_inside(127, NOT_IN_IMAGE) is None
    assert lost_inside(1, "Error response from daemon: container 12ab is not running") is None


# the script


@pytest.mark.parametrize("shell", [["sh"], ["dash"], ["busybox", "sh"], ["bash", "--posix"]], ids=" ".join)
@pytest.mark.parametrize("broken", [False, True])
def test_the_script_asks_the_host_and_the_container(
    shell: list[str], broken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which(shell[0]):
        pytest.skip(f"{shell[0]} is not installed")
    docker = stub_docker(tmp_path / "bin")
    inside = f"echo '{NVML}'; exit 255" if broken else "echo 'GPU 0: NVIDIA GeForce RTX 4070 Ti (UUID: GPU-1)'"
    text = docker.read_text().replace('case "$*" in', f'case "$*" in\n"exec ollama-ollama-1 nvidia-smi -L") {inside} ;;', 1)
    docker.write_text(text)
    smi = docker.parent / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\n# A STUB for tests.\necho '{TI}'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:/usr/bin:/bin")
    host = with_card(deployment(str(tmp_path / "opt"))).hosts["box"]
    script = observe_script(host, mesh="closet", docker=str(docker), boundary="b-1")
    done = subprocess.run([*shell, "-s"], input=script, capture_output=True, text=True, check=True, timeout=60)
    found = parse_host(host, done.stdout, "b-1")
    assert isinstance(found, ObservedHost), found
    assert found.cards == replace(read_cards(0, TI), inside=(("ollama-ollama-1", NVML if broken else ""),))


def test_a_host_without_a_card_in_the_spec_is_not_asked_for_one(tmp_path: Path) -> None:
    docker = stub_docker(tmp_path / "bin")
    for host in deployment(str(tmp_path / "opt")).hosts.values():
        script = observe_script(host, mesh="closet", docker=str(docker), boundary="b-1")
        done = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, check=True, timeout=60)
        found = parse_host(host, done.stdout, "b-1")
        assert isinstance(found, ObservedHost)
        assert found.cards is None
    assert "exec" not in (docker.parent / "calls").read_text()


# the comparison


def with_card(wanted: Deployment, *, may_spill: tuple[str, ...] = (), reserve: int = 0) -> Deployment:
    """The small deployment with an RTX 4070 Ti in `box`, used by its Ollama."""
    box = wanted.hosts["box"]
    ollamas = tuple(replace(each, on_cards=True, may_spill=may_spill) for each in box.ollamas)
    there = replace(box, ollamas=ollamas, cards=(Card("rtx-4070-ti", reserve),))
    return replace(wanted, hosts={**wanted.hosts, "box": there})


def compared(
    wanted: Deployment, cards: SeenCards, loaded: tuple[LoadedModel, ...] | Unknown = (), at: Observed | None = None
) -> Plan:
    seen = with_host(at or ideal(wanted), "box", cards=cards)
    return diff(wanted, replace(seen, loaded={"ollama": loaded}), value_of)


def odd(plan: Plan) -> Deviation:
    assert not plan.changes
    assert not plan.unknown
    (found,) = plan.deviations
    return found


def test_the_card_of_the_spec_with_its_models_on_it_is_no_drift() -> None:
    loaded = (LoadedModel("llama3.1:8b", 5 * GIB, 5 * GIB, 8192),)
    assert compared(with_card(deployment()), SeenCards((card(used=6000),)), loaded).clean


def test_another_card_than_the_specs_is_drift_and_not_for_apply() -> None:
    found = odd(compared(with_card(deployment()), SeenCards((card("NVIDIA GeForce RTX 3090", 24576),))))
    assert (found.subject, found.name) == ("card", "rtx-4070-ti")
    assert "nvidia-smi shows NVIDIA GeForce RTX 3090 (24576 MiB)" in found.why
    assert "hosts.box.gpus" in found.mend


def test_a_card_that_the_spec_does_not_have_is_drift() -> None:
    assert (
        "the spec has no such card"
        in odd(compared(with_card(deployment()), SeenCards((card(), card("NVIDIA GeForce RTX 3060", 12288))))).why
    )


def test_a_card_that_fell_off_the_bus_is_drift() -> None:
    wanted = with_card(deployment())
    two = replace(wanted.hosts["box"], cards=(Card("rtx-4070-ti"), Card("rtx-3060-12gb")))
    found = odd(compared(replace(wanted, hosts={**wanted.hosts, "box": two}), SeenCards((card(),))))
    assert (found.name, found.why) == ("rtx-3060-12gb", "is in the spec, and nvidia-smi shows no such card")


def test_a_driver_that_fails_on_the_host_is_drift_in_its_own_words() -> None:
    found = odd(compared(with_card(deployment()), read_cards(18, MISMATCH)))
    assert "Driver/library version mismatch" in found.why
    assert "reboot" in found.mend


def test_a_card_that_vanished_from_the_container_is_mended_by_a_restart() -> None:
    plan = compared(with_card(deployment()), SeenCards((card(),), inside=(("ollama-ollama-1", NVML),)))
    (change,) = plan.changes
    assert (change.host, change.stack, change.name, change.verb) == ("box", "ollama", "ollama", "restart")
    assert NVML in change.why
    assert not plan.deviations


def test_a_card_that_is_gone_from_the_host_too_is_not_blamed_on_the_container() -> None:
    gone = replace(read_cards(6, "No devices were found"), inside=(("ollama-ollama-1", "No devices were found"),))
    plan = compared(with_card(deployment()), gone)
    assert not plan.changes
    assert odd(plan).subject == "card"


def test_a_model_that_spilled_is_drift_unless_the_spec_allows_it() -> None:
    spilled = (LoadedModel("llama3.1:8b", 10 * GIB, 8 * GIB, 16384),)
    found = odd(compared(with_card(deployment()), SeenCards((card(used=8192),)), spilled))
    assert (found.stack, found.subject, found.name) == ("ollama", "model", "llama3.1:8b")
    assert "20 % of its 10.0 GiB is in RAM, at a context of 16384" in found.why
    allowed = with_card(deployment(), may_spill=("llama3.1:8b",))
    assert compared(allowed, SeenCards((card(used=8192),)), spilled).clean


def test_a_model_that_runs_on_the_processor_alone_points_at_the_card() -> None:
    found = odd(compared(with_card(deployment()), SeenCards((card(),)), (LoadedModel("llama3.1:8b", 5 * GIB, 0, 4096),)))
    assert "runs on the processor" in found.why
    assert "nvidia-smi" in found.mend


def test_vram_that_nobody_declared_is_drift_and_what_was_declared_is_not() -> None:
    loaded = (LoadedModel("llama3.1:8b", 5 * GIB, 5 * GIB, 8192),)
    full = SeenCards((card(used=9216),))
    found = odd(compared(with_card(deployment()), full, loaded))
    assert found.name == "VRAM"
    assert "9.0 GiB are taken, and the spec explains 5.7 GiB" in found.why
    assert compared(with_card(deployment(), reserve=3 * GIB), full, loaded).clean


def test_vram_is_not_summed_where_it_is_not_told_or_the_models_are_not_known() -> None:
    assert compared(with_card(deployment()), SeenCards((card(used=None),))).clean
    plan = compared(with_card(deployment()), SeenCards((card(used=9216),)), Unknown("no answer"))
    assert not plan.deviations
    (unknown,) = plan.unknown
    assert (unknown.where, unknown.why) == ("box/ollama", "what it has loaded cannot be listed: no answer")


def test_an_ollama_that_is_down_is_said_once() -> None:
    wanted = with_card(deployment())
    down = replace(ideal(wanted), models={"ollama": Unknown("no answer")})
    plan = compared(wanted, SeenCards((card(),)), Unknown("no answer"), down)
    assert len(plan.unknown) == 1
