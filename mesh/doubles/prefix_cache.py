"""Prompt caching as the providers bill it: a prefix marked once is a write, the same prefix seen again is a read."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from mesh.doubles.text import flat, words

LOOK_BACK = 20  # content blocks before a mark in which an earlier prefix is still found
KEPT_PREFIXES = 10_000
TTL_SECONDS = {"5m": 300.0, "1h": 3600.0}


@dataclass(frozen=True)
class Block:
    """One content block of a prompt, in the order tools, system, messages; `ttl` says that it carries a mark."""

    payload: str
    tokens: int
    ttl: str | None = None


@dataclass(frozen=True)
class Use:
    """Tokens of one prompt, by what they cost."""

    fresh: int = 0
    read: int = 0
    written_5m: int = 0
    written_1h: int = 0


def block(payload: Any, ttl: str | None = None) -> Block:
    """A block from its JSON; the mark itself is no part of the prefix."""
    bare = {k: v for k, v in payload.items() if k != "cache_control"} if isinstance(payload, dict) else payload
    text = json.dumps(bare, sort_keys=True)
    return Block(text, words(flat(bare)) or words(text), ttl)


class PrefixCache:
    """Prefixes seen, each with the time (seconds, any clock) until which it lives."""

    def __init__(self) -> None:
        self._live: OrderedDict[str, float] = OrderedDict()

    def clear(self) -> None:
        """Forget every prefix."""
        self._live.clear()

    def observe(self, scope: str, blocks: list[Block], now: float) -> Use:
        """Count one prompt. `scope` keeps keys and models apart, as the providers do."""
        digests, totals = _running(scope, blocks)
        marks = [index for index, item in enumerate(blocks) if item.ttl]
        if not marks:
            return Use(fresh=totals[-1] if totals else 0)
        hit = -1
        for mark in marks:
            hit = max([hit, *(i for i in range(max(0, mark - LOOK_BACK), mark + 1) if self._live.get(digests[i], 0) > now)])
        written = {"5m": 0, "1h": 0}
        counted = totals[hit] if hit >= 0 else 0
        for mark in marks:
            ttl = blocks[mark].ttl or "5m"
            self._keep(digests[mark], now + TTL_SECONDS[ttl])
            written[ttl] += max(0, totals[mark] - counted)
            counted = max(counted, totals[mark])
        if hit >= 0:  # a read keeps the prefix alive
            self._keep(digests[hit], now + TTL_SECONDS["5m"])
        return Use(totals[-1] - counted, totals[hit] if hit >= 0 else 0, written["5m"], written["1h"])

    def _keep(self, digest: str, until: float) -> None:
        self._live[digest] = max(until, self._live.get(digest, 0.0))
        self._live.move_to_end(digest)
        while len(self._live) > KEPT_PREFIXES:
            self._live.popitem(last=False)


def _running(scope: str, blocks: list[Block]) -> tuple[list[str], list[int]]:
    hasher = hashlib.sha256(scope.encode())
    digests: list[str] = []
    totals: list[int] = []
    total = 0
    for item in blocks:
        hasher.update(item.payload.encode() + b"\0")
        total += item.tokens
        digests.append(hasher.copy().hexdigest())
        totals.append(total)
    return digests, totals
