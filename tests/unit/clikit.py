"""What the tests of the command line share: a small spec, and what one run leaves."""

from __future__ import annotations

from dataclasses import dataclass

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
