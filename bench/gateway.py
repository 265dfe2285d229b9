"""What the mesh's gateway costs over plain LiteLLM, and how long a fallback takes; on loopback, beside the doubles.

Mesh: HAProxy as in stacks/litellm/front, and LiteLLM with the rendered configuration: keys, guard, budgets, ledger, all of it.
Plain: the same LiteLLM with the same configuration but for what is the mesh's own, and one master key. Both ask the same double,
in turn, in one run.

Run: .venv/bin/python bench/gateway.py [REQUESTS]     with `haproxy` on PATH, and LiteLLM from `bin/env.sh gateway`.
Bars: median at most 10 % above plain; p95 of a fallback after a refused upstream less than 150 ms above p95 of a direct answer.
"""

from __future__ import annotations

import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.gateway.rig import Answer, Rig, call, free_port, litellm_command, running

RATIO_BAR = 1.10
FALLBACK_BAR = 0.150
PAUSE = 0.03
"""Seconds before each request: a gateway still works after it has answered, and must not slow the next one down."""
PLAIN_KEY = "sk-plain"
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "say:" + "a closet gets warm. " * 20}], "max_tokens": 200}


def start_front(rig: Rig) -> None:
    """The rendered haproxy.cfg with one gateway, and this machine's ports."""
    haproxy = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if haproxy is None:
        sys.exit("haproxy is not on PATH: install it, such as by `apt install haproxy`")
    rig.ports["front"] = free_port()
    text = (rig.folder / "litellm/front/haproxy.cfg").read_text()
    moved = {":4000\n    acl": f"127.0.0.1:{rig.ports['front']}\n    acl", "127.0.0.1:9998": f"127.0.0.1:{free_port()}"}
    moved |= {"litellm-a:4000": f"127.0.0.1:{rig.ports['litellm']}", "127.0.0.1:9999": f"127.0.0.1:{free_port()}"}
    for old, new in moved.items():
        assert old in text, old
        text = text.replace(old, new)
    text = re.sub(r"\n    (use-)?server litellm-b .*", "", text)
    config = rig.folder / "haproxy.cfg"
    config.write_text(text)
    rig.start("front", [haproxy, "-db", "-f", str(config)], {}, "/health/liveliness")


def start_plain(rig: Rig) -> None:
    """LiteLLM with the same configuration (models, fallbacks, checks, timeouts) and its own master key: nothing of the mesh's."""
    plain = yaml.safe_load((rig.folder / "litellm/gateway/config.yaml").read_text())
    folder = rig.folder / "plain"
    folder.mkdir()
    ours = {"callbacks", "custom_auth", "custom_auth_run_common_checks", "enable_post_custom_auth_checks"}
    for part in ("litellm_settings", "general_settings"):
        plain[part] = {name: value for name, value in plain[part].items() if name not in ours}
    plain["general_settings"]["master_key"] = PLAIN_KEY
    (folder / "config.yaml").write_text(yaml.safe_dump(plain))
    rig.ports["plain"] = free_port()
    argv, env = rig.gateway_command(rig.folder / "litellm", rig.ports["plain"])
    argv = [str(folder / "config.yaml") if each.endswith("gateway/config.yaml") else each for each in argv]
    env.pop("PYTHONPATH")
    rig.start("plain", argv, env, "/health/liveliness")


def timed(ask: Callable[[], Answer]) -> float:
    """Milliseconds of one answered request."""
    begun = time.perf_counter()
    answer = ask()
    took = time.perf_counter() - begun
    assert answer.status == 200, answer.text
    return took * 1000


def in_turn(tasks: dict[str, Callable[[], Answer]], count: int) -> dict[str, list[float]]:
    """Milliseconds of `count` requests of each, in rounds of one each, after a warm-up."""
    order = random.Random(1)
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for round_ in range(count + 20):
        for name in order.sample(list(tasks), len(tasks)):  # the one after itself would find warm caches
            time.sleep(PAUSE)
            took = timed(tasks[name])
            if round_ >= 20:
                times[name].append(took)
    return times


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[18]


def table(times: dict[str, list[float]]) -> None:
    print("| what | median ms | p95 ms | min ms |\n|---|---|---|---|")
    for name, values in times.items():
        print(f"| {name} | {statistics.median(values):.1f} | {p95(values):.1f} | {min(values):.1f} |")
    print()


def versions(litellm: str) -> str:
    front = subprocess.run(["haproxy", "-v"], capture_output=True, text=True, check=False).stdout.split()
    own = Path(litellm).with_name("python")
    ask = "from importlib.metadata import version; print(version('litellm'))"
    found = subprocess.run([str(own), "-c", ask], capture_output=True, text=True, check=False).stdout.strip()
    return f"LiteLLM {found or 'in its image'}, HAProxy {front[2] if len(front) > 2 else '?'}, Python {platform.python_version()}"


def main(count: int) -> int:
    litellm = litellm_command()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), litellm) as rig:
        start_front(rig)
        start_plain(rig)
        front, plain = (f"http://127.0.0.1:{rig.ports[name]}" for name in ("front", "plain"))
        key = rig.value_of(rig.mesh.client_key("laptop").name)

        def asker(url: str, token: str, route: str) -> Callable[[], Answer]:
            headers = {"authorization": f"Bearer {token}"}
            return lambda: call(url, "POST", "/v1/chat/completions", {"model": route, **BODY}, headers)

        print(f"{versions(litellm)}, {count} requests each, in turn, one at a time\n")
        overhead = in_turn(
            {
                "plain LiteLLM": asker(plain, PLAIN_KEY, "bulk"),
                "mesh's LiteLLM alone": asker(rig.gateway, key, "bulk"),
                "mesh, through the front": asker(front, key, "bulk"),
            },
            count,
        )
        table(overhead)
        direct = in_turn({"direct answer of the local model": asker(front, key, "private")}, count)
        rig.fault("deepseek", "refused")
        fallen = in_turn({"fallback to it, upstream refused": asker(front, key, "bulk")}, count)
        table(direct | fallen)
    ratio = statistics.median(overhead["mesh, through the front"]) / statistics.median(overhead["plain LiteLLM"])
    ((slow,), (quick,)) = (list(each.values()) for each in (fallen, direct))
    extra = (p95(slow) - p95(quick)) / 1000
    print(f"overhead: bar {RATIO_BAR:.2f}, measured {ratio:.2f}: {'met' if ratio <= RATIO_BAR else 'MISSED'}")
    met = "met" if extra < FALLBACK_BAR else "MISSED"
    print(f"fallback: bar {FALLBACK_BAR * 1000:.0f} ms, measured {extra * 1000:.0f} ms: {met}")
    return 0 if ratio <= RATIO_BAR and extra < FALLBACK_BAR else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
