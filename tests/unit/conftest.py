"""Shared by the unit tests: running the command line in this process, and a small inventory to run it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mesh.cli.main import main

SMALL_SPEC = """\
mesh: closet
hosts:
  box: {address: 127.0.0.1}
providers:
  ollama: {kind: ollama, on: box, gpu: none}
  deepseek: {kind: deepseek, key: secret:deepseek_api_key}
  anthropic: {kind: anthropic, key: secret:anthropic_api_key}
models:
  llama: {at: ollama, tag: "llama3.1:8b", context: 8192}
  nomic: {at: ollama, tag: nomic-embed-text, kind: embedding, dimensions: 768}
  v3: {at: deepseek, id: deepseek-chat, price: {in: 0.25, out: 1.00}}
  claude: {at: anthropic, id: claude-opus-5-5, price: {in: 4.00, out: 20.00}}
routes:
  bulk: {to: v3, fallback: [llama, claude]}
  private: {to: llama, privacy: local}
  embed: {to: nomic, privacy: local}
  nobody: {to: llama, privacy: local}
clients:
  ocr: {routes: [bulk, embed]}
  laptop: {routes: [bulk, private], budget: 5 USD/month}
stacks:
  litellm: {on: box, port: 4000}
"""


@dataclass(frozen=True)
class Ran:
    """What one run of the command line left."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


@pytest.fixture
def run_mesh(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """`run_mesh("secrets", "list", "-C", folder)`: the command line in this process."""

    def run(*arguments: object) -> Ran:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return run


@pytest.fixture
def identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the age identity of this test is; nothing is there yet."""
    path = tmp_path / "keys" / "identity.txt"
    monkeypatch.setenv("MESH_AGE_IDENTITY", str(path))
    monkeypatch.setenv("NO_COLOR", "1")
    return path


@pytest.fixture
def small_inventory(tmp_path: Path, identity: Path) -> Path:  # noqa: ARG001  an inventory is never without its own key
    """An inventory with a small spec and no secrets yet."""
    folder = tmp_path / "inventory"
    folder.mkdir()
    (folder / "mesh.yaml").write_text(SMALL_SPEC)
    return folder
