"""Switchable faults and the memory of what was asked: the `/_double/...` paths of every double."""

from __future__ import annotations

import json
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

FAULTS = ("none", "500", "429", "401", "529", "hang", "refused", "context", "content_policy", "cut")
KEPT_CALLS = 5000
KEPT_BYTES = 64 * 1024 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Fault:
    """How a provider misbehaves, until changed or for `times` requests."""

    kind: str = "none"
    retry_after: float | None = None  # seconds, sent as the `retry-after` header
    after_tokens: int = 0  # a streamed answer: strike after so many tokens; 0 = before the first byte
    times: int | None = None
    settle_s: float = 0.1  # between the last token and the blow: without it, whether a client still sees the tokens is a race
    delay_ms: int = 0  # milliseconds before anything is answered
    headers: dict[str, str] = field(default_factory=dict)

    def answer_headers(self) -> dict[str, str]:
        """Headers of the answer: the operator's own, and `retry-after`."""
        after = {} if self.retry_after is None else {"retry-after": f"{self.retry_after:g}"}
        return {**after, **self.headers}


HEALTHY = Fault()
_TYPES: dict[str, tuple[type, ...]] = {
    "fault": (str, int),
    "retry_after": (int, float, type(None)),
    "after_tokens": (int,),
    "times": (int, type(None)),
    "delay_ms": (int,),
    "headers": (dict,),
}


def parse_fault(body: object) -> Fault:
    """Read the JSON of `POST /_double/.../fault`; a ValueError says what is wrong with it."""
    if not isinstance(body, dict):
        raise ValueError(f'want a JSON object like {{"fault": "500"}}, got {type(body).__name__}')
    for key, value in body.items():
        if key not in _TYPES:
            raise ValueError(f"unknown key {key!r}; known: {', '.join(_TYPES)}")
        if not isinstance(value, _TYPES[key]) or isinstance(value, bool):
            raise ValueError(f"{key}: {value!r} is not of a fitting type")
    kind = str(body.get("fault", "none"))
    if kind not in FAULTS:
        raise ValueError(f"unknown fault {kind!r}; known: {', '.join(FAULTS)}")
    headers = {str(name): str(value) for name, value in body.get("headers", {}).items()}
    return Fault(
        kind=kind,
        retry_after=body.get("retry_after"),
        after_tokens=body.get("after_tokens", 0),
        times=body.get("times"),
        delay_ms=body.get("delay_ms", 0),
        headers=headers,
    )


@dataclass(frozen=True)
class Asked:
    """One request as a handler sees it: whom it was meant for, its JSON body and the fault to apply."""

    provider: str
    body: dict[str, Any]
    fault: Fault


class Board:
    """The faults now switched on, by provider, and the last calls seen (bounded in number and in bytes)."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}
        self._left: dict[str, int] = {}
        self._calls: deque[tuple[dict[str, Any], int]] = deque()
        self._bytes = 0
        self.dropped = 0

    def set(self, provider: str, fault: Fault) -> None:
        """Switch a fault on; `none` with headers or a delay is a setting too."""
        self._faults[provider] = fault
        self._left.pop(provider, None)
        if fault.times is not None:
            self._left[provider] = fault.times

    def now(self, provider: str) -> Fault:
        """The provider's current setting, without using it up."""
        if self._left.get(provider, 1) <= 0:
            return HEALTHY
        return self._faults.get(provider, HEALTHY)

    def choose(self, provider: str, body: object) -> Fault:  # noqa: ARG002
        """The fault of one request: the provider's setting. A board of another kind may go by what the request says."""
        return self.now(provider)

    async def ask(self, request: web.Request, provider: str, work: bool = True) -> Asked:
        """Read and remember one request and use up one of its provider's `times`.

        Without `work` (a version, a list) only `refused` applies: a daemon that fails at its work still answers these.
        """
        body, size = await read_json(request)
        fault = self.choose(provider, body)
        if not work and fault.kind != "refused":
            fault = HEALTHY
        elif self._left.get(provider, 0) > 0:
            self._left[provider] -= 1
        self.record(provider, request, body, fault.kind, size)
        return Asked(provider, body if isinstance(body, dict) else {}, fault)

    def reset(self) -> None:
        """Forget every call and every fault."""
        self._faults.clear()
        self._left.clear()
        self._calls.clear()
        self._bytes = 0
        self.dropped = 0

    def record(self, provider: str, request: web.Request, body: object, fault: str, size: int) -> None:
        model = body.get("model") if isinstance(body, dict) else None
        call = {
            "provider": provider,
            "method": request.method,
            "path": request.path,
            "model": model,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": body,
            "time": time.time(),
            "fault": fault,
        }
        self._calls.append((call, size))
        self._bytes += size
        while len(self._calls) > KEPT_CALLS or (self._bytes > KEPT_BYTES and len(self._calls) > 1):
            self._bytes -= self._calls.popleft()[1]
            self.dropped += 1

    def calls(self, provider: str | None = None) -> list[dict[str, Any]]:
        """The remembered calls, oldest first."""
        return [call for call, _ in self._calls if provider in (None, call["provider"])]


async def read_json(request: web.Request) -> tuple[object, int]:
    """The request's JSON body (None when empty, the raw text when it is not JSON) and its size in bytes."""
    raw = await request.read()
    if not raw:
        return None, 0
    try:
        return json.loads(raw), len(raw)
    except ValueError:
        return raw.decode("utf-8", "replace"), len(raw)


def add_control(app: web.Application, board: Board, only: str | None = None, on_reset: Any = None) -> None:
    """Add `/_double/...`: with `only`, the double has a single provider and the path names none."""

    async def set_fault(request: web.Request) -> web.Response:
        provider = only or request.match_info["provider"]
        body, _ = await read_json(request)
        try:
            fault = parse_fault(body)
        except ValueError as error:
            return web.json_response({"error": f"double: {error}"}, status=400)
        board.set(provider, fault)
        return web.json_response({"provider": provider, "fault": fault.kind, "times": fault.times})

    async def get_fault(request: web.Request) -> web.Response:
        provider = only or request.match_info["provider"]
        return web.json_response({"provider": provider, "fault": board.now(provider).kind})

    async def calls(request: web.Request) -> web.Response:
        return web.json_response({"calls": board.calls(request.query.get("provider")), "dropped": board.dropped})

    async def reset(_: web.Request) -> web.Response:
        board.reset()
        if on_reset is not None:
            on_reset()
        return web.json_response({"reset": True})

    path = "/_double/fault" if only else "/_double/{provider}/fault"
    app.router.add_post(path, set_fault)
    app.router.add_get(path, get_fault)
    app.router.add_get("/_double/calls", calls)
    app.router.add_post("/_double/reset", reset)
