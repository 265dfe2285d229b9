"""How fast a live Ollama reads and writes, from its own clock: eval_count and eval_duration of /api/generate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from mesh.errors import MeshError
from mesh.live.http import HttpError, get_json, stream_json

SILENCE_SECONDS = 600.0
"""The longest wait for a sign of life: a 32B model from a slow disk takes minutes to load, without a word."""
PROMPT_WORDS = 200
"""Long enough for a speed of reading, short enough to stay a short context."""
LEAST_TOKENS = 16
"""An answer shorter than this says nothing about speed."""


@dataclass(frozen=True, slots=True)
class Engine:
    """The server that answers. double: it is one of the lab's, and measures nothing."""

    version: str
    double: bool


@dataclass(frozen=True, slots=True)
class Speed:
    """The median of some runs. tokens: in context when half of the answer was written. load_s: seconds, 0 if it was loaded."""

    tok_s: float
    prompt_tok_s: float
    tokens: int
    load_s: float
    size: int
    size_vram: int
    runs: int


def engine(url: str) -> Engine:
    """Who answers there. Raises MeshError where nobody does or it is no Ollama."""
    answer = get_json(f"{url}/api/version")
    if not isinstance(answer, dict) or not isinstance(answer.get("version"), str):
        raise MeshError("it does not answer like an Ollama", where=f"{url}/api/version", mend="is something else on that port?")
    return Engine(answer["version"], bool(answer.get("double")))


def measure(
    url: str,
    tag: str,
    *,
    num_ctx: int | None,
    keep_alive: int | None,
    runs: int,
    tokens: int,
    progress: Callable[[str], None],
) -> Speed:
    """Load the model, then let it write `tokens` tokens `runs` times. Raises MeshError with Ollama's own words.

    num_ctx, keep_alive (seconds): the spec's, so that the model is loaded as the gateway loads it and stays so.
    """
    options: dict[str, Any] = {"temperature": 0, "seed": 1} | ({"num_ctx": num_ctx} if num_ctx else {})
    body: dict[str, Any] = {"model": tag, "options": options} | ({} if keep_alive is None else {"keep_alive": keep_alive})
    progress("loading")
    warm = _generate(url, body, 0, LEAST_TOKENS)
    load_s = _seconds(warm, "load_duration")
    writing, reading, contexts = [], [], []
    for number in range(1, runs + 1):
        end = _generate(url, body, number, tokens)
        written = int(end.get("eval_count") or 0)
        if written < min(LEAST_TOKENS, tokens):
            raise MeshError(
                f"{tag} stopped after {written} tokens, too few to tell its speed",
                where=url,
                mend="try again; is it a chat model?",
            )
        writing.append(written / _seconds(end, "eval_duration", least=1e-9))
        read, seconds = int(end.get("prompt_eval_count") or 0), _seconds(end, "prompt_eval_duration")
        if read and seconds:
            reading.append(read / seconds)
        contexts.append(read + written // 2)
        progress(f"run {number} of {runs}: {writing[-1]:.1f} tok/s")
    size, size_vram = _in_memory(url, tag)
    return Speed(
        median(writing), median(reading) if reading else 0.0, int(median(contexts)), load_s, size, size_vram, len(writing)
    )


def _generate(url: str, body: Mapping[str, Any], number: int, tokens: int) -> Mapping[str, Any]:
    """One answer's last object. Every prompt begins differently, so that none is read from the engine's prompt cache."""
    words = [f"{number}.", *(f"{word}{place}" for place, word in zip(range(PROMPT_WORDS), _WORDS * PROMPT_WORDS, strict=False))]
    prompt = f"{' '.join(words)}\nTell a long story with these words. Do not stop early."
    asked = {**body, "prompt": prompt, "stream": True, "options": {**body["options"], "num_predict": tokens}}
    last: Mapping[str, Any] = {}
    try:
        for last in stream_json(f"{url}/api/generate", asked, timeout=SILENCE_SECONDS):
            if "error" in last:
                raise MeshError(f"{body['model']} cannot answer", where=url, why=str(last["error"]))
    except HttpError as error:
        if error.status == 404:
            mend = "`mesh apply` pulls the models of the spec"
            raise MeshError(f"it does not hold {body['model']}", where=url, mend=mend) from None
        raise
    if not isinstance(last, dict) or not last.get("done"):
        raise MeshError(f"the answer of {body['model']} broke off", where=url, mend="look at Ollama's log (docker logs)")
    return last


_WORDS = ("river", "lantern", "copper", "winter", "orchard", "signal", "harbour", "meadow", "thunder", "paper")


def _seconds(end: Mapping[str, Any], name: str, least: float = 0.0) -> float:
    """A duration of Ollama's answer, which is in nanoseconds, in seconds."""
    return max(float(end.get(name) or 0) / 1e9, least)


def _in_memory(url: str, tag: str) -> tuple[int, int]:
    """size and size_vram of a model that is loaded now."""
    full = tag if ":" in tag.rpartition("/")[2] else f"{tag}:latest"
    answer = get_json(f"{url}/api/ps")
    for model in answer.get("models") or () if isinstance(answer, dict) else ():
        if model.get("name") == full:
            return int(model.get("size") or 0), int(model.get("size_vram") or 0)
    raise MeshError(f"{tag} is not in memory any more", where=f"{url}/api/ps", mend="something else uses this Ollama: try again")
