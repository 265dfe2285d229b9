"""Deterministic stand-ins for what a model does: answers, token counts (words), embeddings (hashed bags of words)."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from typing import Any

TAIL = "(a test double answered: no model was asked, these are your own words)"
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Answer:
    """What a double says: text, and a tool call when it was asked for one."""

    text: str
    prompt_tokens: int
    tool: str | None = None
    arguments: str = "{}"
    cut_short: bool = False

    @property
    def pieces(self) -> list[str]:
        """The text in tokens: words with the space that follows them."""
        return re.findall(r"\S+\s*|\s+", self.text)

    @property
    def call(self) -> dict[str, Any]:
        """The tool call's arguments as an object."""
        found = json.loads(self.arguments)
        return found if isinstance(found, dict) else {}

    @property
    def output_tokens(self) -> int:
        """Words said; a tool call counts its arguments."""
        return max(1, len(self.pieces) + (len(self.arguments.split()) if self.tool else 0))


def flat(content: object) -> str:
    """The text of a message's content, whichever of the APIs' shapes it has."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(flat(part) for part in content)
    if isinstance(content, dict):
        return flat(content.get("text") or content.get("content") or "")
    return ""


def words(text: str) -> int:
    """Tokens as the doubles count them: words."""
    return len(text.split())


def answer(label: str, messages: list[Any], tools: list[str], limit: int | None) -> Answer:
    """The answer to a conversation.

    The last user message may steer: `tool:NAME {json}` calls a tool that the request offers, `say:TEXT` answers TEXT
    alone (without the banner, so that a test can have exact text). Otherwise the banner and the user's own words come
    back. `limit` is the most tokens to say.
    """
    asked = [message for message in messages if isinstance(message, dict)]
    prompt_tokens = max(1, sum(words(flat(message.get("content"))) for message in asked))
    said = next((flat(m.get("content")) for m in reversed(asked) if m.get("role", "user") == "user"), "")
    call = re.search(r"tool:([\w-]+)\s*(\{.*\})?", said, re.DOTALL)
    if call and call.group(1) in tools:
        return Answer("", prompt_tokens, tool=call.group(1), arguments=_arguments(call.group(2), said))
    if "say:" in said:
        text = said.split("say:", 1)[1].strip()
    else:
        echo = " ".join(said.split()[:60])
        text = f"[double {label}] {echo} {TAIL}"
    full = Answer(text, prompt_tokens)
    if limit is not None and len(full.pieces) > limit:
        return Answer("".join(full.pieces[:limit]), prompt_tokens, cut_short=True)
    return full


def _arguments(given: str | None, said: str) -> str:
    try:
        return json.dumps(json.loads(given)) if given else json.dumps({"echo": said})
    except ValueError:
        return json.dumps({"echo": said})


def embed(text: str, dimensions: int) -> list[float]:
    """A unit vector: texts that share words are near each other, the same text gives the same vector everywhere."""
    vector = [0.0] * dimensions
    for word in _WORD.findall(text.lower()) or [""]:
        digest = hashlib.sha256(_stem(word).encode()).digest()
        for part in (digest[:8], digest[8:16]):
            value = int.from_bytes(part, "big")
            vector[value % dimensions] += 1.0 if value & (1 << 63) else -1.0
    length = math.sqrt(sum(value * value for value in vector))
    if length == 0.0:  # two words that cancel each other out
        vector[0] = length = 1.0
    return [value / length for value in vector]


def _stem(word: str) -> str:
    for ending in ("ing", "ies", "es", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def short_id(prefix: str, body: object) -> str:
    """An id that is the same for the same request."""
    return f"{prefix}-double-{hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]}"
