"""For the tests of loading and rules: a clean spec, changes to it, and the findings that come out."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from mesh.catalogue import Catalogue
from mesh.findings import Finding
from mesh.rules import check
from mesh.rules.world import Published, StackFacts, World
from mesh.spec.load import load_spec

CLEAN = """\
mesh: closet
hosts:
  gpu-box: {address: 192.168.1.20, gpus: [{card: rtx-4070-ti, reserve: {desktop: 500MiB}}]}
  vm-docker: {address: 192.168.1.21}
providers:
  ollama: {kind: ollama, on: gpu-box}
  deepseek: {kind: deepseek, key: secret:deepseek_api_key}
  anthropic: {kind: anthropic, key: secret:anthropic_api_key, through: caching-proxy}
models:
  llama: {at: ollama, tag: "llama3.1:8b", context: 16384}
  mistral: {at: ollama, tag: "mistral:7b", context: 16384}
  nomic: {at: ollama, tag: nomic-embed-text, kind: embedding, context: 2048, resident: true}
  v4: {at: deepseek, id: deepseek-v4-pro, price: {in: 1.32, out: 3.96}}
  claude: {at: anthropic, id: claude-opus-5-5, price: {in: 4, out: 20}}
routes:
  bulk: {to: v4, fallback: [llama, claude]}
  write: {to: claude, overflow: [v4]}
  private: {to: llama, fallback: [mistral], privacy: local}
  embed: {to: nomic, privacy: local}
clients:
  laptop: {routes: [bulk, write, private, embed], budget: 10 USD/month}
stacks:
  caching-proxy: {on: vm-docker}
  litellm: {on: vm-docker}
"""
LITELLM = "ghcr.io/berriai/litellm:v1.106.2"
SECRETS = frozenset({"deepseek_api_key", "anthropic_api_key", "client_laptop_key"})


@cache
def catalogue() -> Catalogue:
    """The project's own, without an operator's."""
    return Catalogue.load(Path("no-such-inventory"))


def a_world(**changes: Any) -> World:
    """The world around CLEAN: every folder there, every secret set, every image locked, in November 2026."""
    stacks = {
        "ollama": StackFacts("ollama", {"ollama": "ollama/ollama:0.32.15"}),
        "caching-proxy": StackFacts("caching-proxy", {"caching-proxy": LITELLM}, (Published(4010),)),
        "litellm": StackFacts("litellm", {"litellm": LITELLM}, (Published(4000),)),
    }
    kinds = frozenset({"ollama", "caching-proxy", "litellm", "qdrant"})
    locked = frozenset({"ollama/ollama:0.32.15", LITELLM})
    return replace(World(kinds, stacks, SECRETS, {}, locked, catalogue(), date(2026, 11, 23)), **changes)


def findings(folder: Path, overlay: str = "", **world: Any) -> list[Finding]:
    """The findings of CLEAN with `overlay` laid over it."""
    (folder / "base.yaml").write_text(CLEAN)
    (folder / "mesh.yaml").write_text(f"extends: base.yaml\n{overlay}")
    return list(check(load_spec(folder), a_world(**world)))


def said(found: list[Finding]) -> list[str]:
    """`line: severity[rule]: message | mend`, for comparing with what a test expects."""
    return [f"{each.location.line}: {each.severity}[{each.rule}]: {each.message} | {each.mend}" for each in found]
