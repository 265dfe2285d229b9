"""The gateway's edge: everything that a client sends passes here before LiteLLM sees it, and every answer on its way back.

It asks for the key, serves a short list of paths, hands on a checked body and no header of the client's but four, holds
budgets and limits, and takes addresses out of the answers. What it does not know it refuses: LiteLLM has hundreds of paths,
and some go straight to a provider.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

import mesh_mask as mask
import orjson
from mesh_count import tokens_of
from mesh_exchange import CURRENT, PATIENCE, Exchange, reserve_for
from mesh_keys import client_of
from mesh_ledger import Ledger
from mesh_policy import LOADED, OPERATOR, RefusedError, limits_of
from mesh_request import MAX_BODY, SERVED, check

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PUBLIC = frozenset({"/health/liveliness", "/health/liveness", "/health/readiness"})
"""Open without a key: they tell that the gateway runs, and call no provider."""
LISTS = frozenset({"/models", "/v1/models"})
COUNTS = frozenset({"/messages/count_tokens", "/v1/messages/count_tokens"})
"""Answered by the edge itself: no provider is asked, nothing is charged."""
GUARD, LEDGER = "/mesh/guard", "/mesh/ledger"
"""For the operator: what of the mesh's own code and policy is loaded here, and how the ledger is."""
QUERIES = {"POST": frozenset({"beta"}), "GET": frozenset({"include_metadata", "limit", "after_id", "before_id"})}
"""Query parameters that are known to be harmless. Those of POST are not handed on."""
PASSING = frozenset({b"host", b"user-agent", b"accept", b"anthropic-version", b"anthropic-beta"})
"""Headers of the client's that LiteLLM sees. No key is among them, and none that LiteLLM could be steered by."""
MOST_ERROR = 1024**2
TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 413: "request_too_large"}
TYPES |= {402: "billing_error", 404: "not_found_error", 429: "rate_limit_error"}


class Edge:
    """An ASGI application around LiteLLM's."""

    def __init__(self, app: App, ledger: Ledger) -> None:
        self.app, self.ledger = app, ledger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:  # realtime and other websockets go to a provider without a route
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "mesh rule served-paths"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if path in PUBLIC and method in ("GET", "HEAD"):
            await self._pass(_with(scope, []), receive, send, None)
            return
        try:
            client = client_of(scope["headers"])
            if method == "GET" and path in (GUARD, LEDGER) and client == OPERATOR:
                await _answer(send, 200, {"guard": LOADED} if path == GUARD else self.ledger.health())
                return
            if not (method == "POST" and path in SERVED) and not (method == "GET" and path in LISTS):
                raise RefusedError(403, "served-paths", f"the gateway does not serve {method} {path[:80]}")
            _check_query(scope)
            if path in COUNTS:
                await _answer(send, 200, {"input_tokens": await _counted(client, path, await _read(scope, receive))})
                return
            exchange, body, dropped = await self._admitted(scope, receive, client)
        except RefusedError as refused:
            await _refuse(send, path, refused)
            return
        added = [(b"x-mesh-dropped", ", ".join(dropped).encode("ascii", "replace")[:500])] if dropped else []
        token = CURRENT.set(exchange)
        try:
            await self._pass(_with(scope, added, body), _replay(body, receive), send, exchange)
        finally:
            CURRENT.reset(token)

    async def _admitted(self, scope: Scope, receive: Receive, client: str) -> tuple[Exchange, bytes, tuple[str, ...]]:
        """The request with its place in the ledger. Raises RefusedError."""
        if scope["method"] == "GET":
            return Exchange(client, self.ledger), b"", ()
        asked = check(client, scope["path"], await _read(scope, receive))
        entry = await self.ledger.admit(client, asked.route, reserve_for(asked), limits_of(client))
        return Exchange(client, self.ledger, asked.route, entry), asked.body, asked.dropped

    async def _pass(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange | None) -> None:
        """Hand the request on, and its answer back without what is not the client's business."""
        way = _WayBack(send, scope.pop("mesh.added", []))
        status = 499
        try:
            await self.app(scope, receive, way)
            status = way.status if way.complete else 499
        except Exception:
            status = 500
            raise
        finally:
            if exchange is not None:
                exchange.ended(status)
                if exchange.entry is not None and not exchange.settled:
                    asyncio.get_running_loop().call_later(PATIENCE, exchange.give_up_waiting)


class _WayBack:
    """`send` for LiteLLM: headers are picked, errors are masked, a stream's events as they pass."""

    def __init__(self, send: Send, added: list[tuple[bytes, bytes]]) -> None:
        self.send, self.added = send, added
        self.status, self.complete = 499, False
        self._start: Message | None = None
        self._held = b""
        self._stream = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = mask.headers(message["headers"]) + self.added
            self._stream = any(name.lower() == b"content-type" and b"event-stream" in value for name, value in headers)
            message = {**message, "headers": headers}
            if self.status >= 400:
                self._start = message
                return
        elif message["type"] == "http.response.body":
            more = message.get("more_body", False)
            self.complete = not more
            if self._start is not None:
                self._held = (self._held + message.get("body", b""))[:MOST_ERROR]
                if more:
                    return
                body = mask.error(self._held)
                kept = [each for each in self._start["headers"] if each[0].lower() != b"content-length"]
                await self.send({**self._start, "headers": [*kept, (b"content-length", str(len(body)).encode())]})
                message = {**message, "body": body}
            elif self._stream:
                message = {**message, "body": mask.event(message.get("body", b""))}
        await self.send(message)


async def _counted(client: str, path: str, raw: bytes) -> int:
    """Raises RefusedError for a request that would not be answered either, and for one that cannot be counted."""
    asked = check(client, path, raw)
    try:
        return await tokens_of(asked.body)
    except Exception as error:  # LiteLLM's counter walks whatever the messages hold
        raise RefusedError(400, "request-body", f"the messages cannot be counted: {type(error).__name__}") from error


def _check_query(scope: Scope) -> None:
    names = [name for name, _ in parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)]
    unknown = [name for name in names if name not in QUERIES[scope["method"]]]
    if unknown:
        raise RefusedError(400, "client-steering", f"the gateway takes no query parameter {unknown[0][:40]!r}")


async def _read(scope: Scope, receive: Receive) -> bytes:
    """The whole body. Raises RefusedError for one that is too large, encoded or no JSON by its own word."""
    headers = {name.lower(): value for name, value in scope["headers"]}
    kind = headers.get(b"content-type", b"application/json").split(b";")[0].strip().lower()
    if kind != b"application/json" or headers.get(b"content-encoding", b"identity") != b"identity":
        raise RefusedError(
            415, "request-body", "the gateway takes plain JSON: content-type application/json, no content-encoding"
        )
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(400, "request-body", "the request ended before its body did")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY:
            raise RefusedError(413, "request-body", f"the body is larger than {MAX_BODY // 1024**2} MiB")
    return bytes(body)


def _with(scope: Scope, added: list[tuple[bytes, bytes]], body: bytes = b"") -> Scope:
    """The scope that LiteLLM gets."""
    headers = [(name, value) for name, value in scope["headers"] if name.lower() in PASSING]
    if scope["method"] == "POST":
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    query = b"" if scope["method"] == "POST" else scope.get("query_string", b"")
    return {**scope, "headers": headers, "query_string": query, "mesh.added": added}


def _replay(body: bytes, receive: Receive) -> Receive:
    """`receive` for LiteLLM: the checked body, then whatever comes, such as that the client left."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: Send, path: str, refused: RefusedError) -> None:
    """The error in the shape that the path's clients read."""
    kind = TYPES.get(refused.status, "invalid_request_error")
    if path.endswith(("/messages", "/messages/count_tokens")):
        content: dict[str, Any] = {"type": "error", "error": {"type": kind, "message": str(refused)}}
    else:
        content = {"error": {"message": str(refused), "type": kind, "param": None, "code": refused.rule}}
    await _answer(send, refused.status, content, refused.retry_after)


async def _answer(send: Send, status: int, content: dict[str, Any], retry_after: int | None = None) -> None:
    body = orjson.dumps(content)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if retry_after is not None:
        headers.append((b"retry-after", str(retry_after).encode()))
    if status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
