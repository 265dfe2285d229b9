"""Models of an Ollama, pulled through its API from here: it streams its progress, which `docker exec` would hide."""

# ruff: noqa: ARG001 -- pyinfra hands over `state` with `host`, or neither

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING

from pyinfra.api import FunctionCommand, operation

from deploys.run import Run
from mesh.live.http import HttpError, stream_json
from mesh.live.observe import list_models
from mesh.state.deployment import OllamaModels
from mesh.state.observed import Unknown

if TYPE_CHECKING:
    from pyinfra.api import Host, State

SILENCE_SECONDS = 600
"""Ollama hashes a large model for minutes without a word."""


@operation()
def models(run: Run, ollamas: Iterable[OllamaModels]) -> Generator[FunctionCommand, None, None]:
    """Pull the models that an Ollama lacks. Nothing is ever deleted."""
    todo = list(ollamas)
    if todo:
        yield FunctionCommand(_models, (run, todo), {})


def _models(state: State, host: Host, run: Run, todo: list[OllamaModels]) -> bool:
    for ollama in todo:
        if ollama.stack in run.failed:
            continue
        held = list_models(ollama)
        if isinstance(held, Unknown):
            run.fail(host, ollama.stack, f"cannot say which models it holds: {held.why}")
            continue
        for tag in ollama.tags:
            if tag not in held:
                _pull(host, run, ollama, tag)
    return True


def _pull(host: Host, run: Run, ollama: OllamaModels, tag: str) -> None:
    started = time.monotonic()
    run.emit("started", host.name, tag, doing="model")
    try:
        why = _stream(host, run, ollama, tag)
        held = list_models(ollama)
        if not why and (isinstance(held, Unknown) or tag not in held):
            why = "Ollama says that it has pulled it, and does not list it"
    except HttpError as error:
        why = f"{error.what} ({error.why})"
    if why:
        run.emit("stopped", host.name, tag, doing="model")
        run.fail(host, ollama.stack, f"model {tag} cannot be pulled: {why}")
    else:
        run.emit("done", host.name, tag, doing="model", seconds=time.monotonic() - started)


def _stream(host: Host, run: Run, ollama: OllamaModels, tag: str) -> str:
    """Why it failed, or empty. Ollama reports errors inside a stream that began with 200."""
    last = ""
    for line in stream_json(f"{ollama.url}/api/pull", {"model": tag, "stream": True}, timeout=SILENCE_SECONDS):
        if line.get("error"):
            return str(line["error"])
        last = str(line.get("status", ""))
        if line.get("total"):
            run.emit("progress", host.name, tag, done=line.get("completed", 0), total=line["total"])
    return "" if last == "success" else f"the stream ended with {last or 'nothing'}"
