"""One request on its way: what the edge, the key check, the guard and LiteLLM's callbacks know of it together.

It travels in a context variable, which LiteLLM's tasks and callbacks inherit from the request that they serve.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from mesh_ledger import Entry, Ledger
from mesh_policy import POLICY
from mesh_request import Asked

USUAL_ANSWER = 4096
"""Tokens of an answer that are reserved where the request names fewer or none; few answers are longer."""
PATIENCE = 10.0
"""Seconds that the edge waits for LiteLLM to say what an answer cost. After that it costs what was reserved."""


@dataclass
class Exchange:
    """route and entry: of a request for an answer, None for one that lists models. tried: groups in the order of their turn."""

    client: str
    ledger: Ledger
    route: str | None = None
    entry: Entry | None = None
    tried: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    status: int | None = None
    settled: bool = False

    def turn(self, group: str) -> None:
        """A deployment's group is about to be asked."""
        if group and group not in self.tried:
            self.tried.append(group)

    def answered(self, payload: Mapping[str, Any]) -> None:
        """LiteLLM's account of the answer, its `standard_logging_object`. It may come before the last byte is out, or after."""
        entry = self.entry
        if entry is None:
            return
        group = str(payload.get("model_group") or "")
        self.turn(group)
        entry.model = POLICY["answers"].get(group, group) or None
        entry.tokens_in, entry.tokens_out = _count(payload.get("prompt_tokens")), _count(payload.get("completion_tokens"))
        usage = ((payload.get("metadata") or {}).get("usage_object")) or {}
        details = usage.get("prompt_tokens_details") or {}
        entry.cache_read = _count(usage.get("cache_read_input_tokens") or details.get("cached_tokens"))
        entry.cache_write = _count(usage.get("cache_creation_input_tokens") or details.get("cache_creation_tokens"))
        entry.cost = math.ceil(float(payload.get("response_cost") or 0) * 1e6 - 1e-6)
        if not entry.tokens_in and not entry.tokens_out and not entry.cost:  # LiteLLM counts no streams of /v1/completions
            entry.cost = entry.reserved
        self._settle()

    def ended(self, status: int) -> None:
        """The last byte is out, or will never be."""
        self.status = status
        if self.entry is None:
            return
        self.entry.latency = round((time.monotonic() - self.began) * 1000)
        if status >= 400 and status != 499 and self.entry.cost is None:
            self.entry.cost = 0
        self._settle()

    def give_up_waiting(self) -> None:
        """LiteLLM never said what it cost (a client that left, a callback that failed): it costs what was reserved."""
        if self.entry is not None and self.entry.cost is None:
            self.entry.cost = self.entry.reserved
            self._settle()

    def _settle(self) -> None:
        entry = self.entry
        if entry is None or self.settled or self.status is None or entry.cost is None:
            return
        self.settled = True
        entry.status, entry.fallbacks = self.status, max(len(self.tried) - 1, 0)
        self.ledger.settle(entry)


CURRENT: ContextVar[Exchange | None] = ContextVar("mesh_exchange", default=None)


def reserve_for(asked: Asked) -> int:
    """Micro-dollars held for a request until its cost is known: a token for every four characters, and the usual answer.

    Prices are of the dearest model of the route's chain. One US dollar for a million tokens is a micro-dollar for one.
    """
    price_in, price_out = POLICY["prices"][asked.route]
    if not price_in and not price_out:
        return 0
    tokens_out = min(asked.most_out or USUAL_ANSWER, USUAL_ANSWER) * min(asked.answers, 128)
    return max(math.ceil(asked.letters / 4 * price_in + tokens_out * price_out), 1)


def _count(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0
