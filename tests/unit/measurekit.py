"""A measurement as `mesh bench` records it, shared by the tests that use one."""

from __future__ import annotations

from mesh.measure.record import Measurement

GIB = 1024**3
ONE = Measurement(
    taken="2026-11-20T10:00:00Z",
    host="box",
    stack="ollama",
    engine="ollama",
    version="0.32.15",
    card="NVIDIA GeForce RTX 4070 Ti",
    model="llama3.1:8b",
    num_ctx=8192,
    tokens=300,
    tok_s=84.0,
    prompt_tok_s=2100.0,
    load_s=2.0,
    size=6 * GIB,
    size_vram=6 * GIB,
    runs=3,
    double=False,
)
