"""Sending an answer, or failing to: how each fault looks on the wire."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from mesh.doubles.control import Fault

HANG_SECONDS = 600.0
"""A hung request is dropped after this, so that a forgotten fault cannot hold connections for ever."""


@dataclass(frozen=True)
class Frame:
    """One piece of a stream; `token` says whether it counts for `after_tokens`."""

    data: bytes
    token: bool = False


@dataclass(frozen=True)
class Reply:
    """What the double would answer if nothing were wrong: `frames` when the client asked for a stream."""

    whole: dict[str, Any]
    frames: Iterable[Frame] | None = None
    content_type: str = "text/event-stream"
    pause_s: float = 0.0  # seconds between the token frames of a stream


@dataclass(frozen=True)
class Dialect:
    """How one API words its errors: the status and body of a fault, and the same as a frame inside a stream."""

    error: Callable[[str], tuple[int, dict[str, Any]]]
    frame: Callable[[dict[str, Any]], bytes]


def sse(payload: dict[str, Any] | str, event: str | None = None) -> bytes:
    """One server-sent event."""
    data = payload if isinstance(payload, str) else json.dumps(payload)
    return (f"event: {event}\n" if event else "").encode() + f"data: {data}\n\n".encode()


def ndjson(payload: dict[str, Any]) -> bytes:
    """One line of newline-delimited JSON."""
    return json.dumps(payload).encode() + b"\n"


def reset(request: web.Request) -> web.Response:
    """Drop the connection with a TCP reset: the nearest thing to a refused connection that one port can do."""
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response(status=500)  # never sent


def hang_up(request: web.Request) -> None:
    """End the connection in the middle of an answer, after what was written has gone out."""
    if request.transport is not None:
        request.transport.close()


async def deliver(request: web.Request, fault: Fault, reply: Reply, dialect: Dialect) -> web.StreamResponse:
    """Answer, or do what the fault says."""
    if fault.delay_ms:
        await asyncio.sleep(fault.delay_ms / 1000)
    headers = fault.answer_headers()
    if fault.kind == "refused":
        return reset(request)
    if reply.frames is not None and (fault.kind in ("none", "cut") or fault.after_tokens > 0):
        return await _stream(request, fault, reply, dialect, headers)
    if fault.kind == "none":
        return web.json_response(reply.whole, headers=headers)
    if fault.kind == "hang":
        await asyncio.sleep(HANG_SECONDS)
        return reset(request)
    if fault.kind == "cut":
        return await _half(request, reply, headers)
    status, body = dialect.error(fault.kind)
    return web.json_response(body, status=status, headers=headers)


async def _half(request: web.Request, reply: Reply, headers: dict[str, str]) -> web.StreamResponse:
    body = json.dumps(reply.whole).encode()
    response = web.StreamResponse(headers={**headers, "Content-Type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    hang_up(request)
    return response


async def _stream(
    request: web.Request, fault: Fault, reply: Reply, dialect: Dialect, headers: dict[str, str]
) -> web.StreamResponse:
    response = web.StreamResponse(headers={**headers, "Content-Type": reply.content_type, "Cache-Control": "no-cache"})
    await response.prepare(request)
    tokens = 0
    for frame in reply.frames or []:
        if fault.kind != "none" and frame.token:
            if tokens >= fault.after_tokens:
                return await _strike(request, response, fault, dialect)
            tokens += 1
        await response.write(frame.data)
        if frame.token and reply.pause_s:
            await asyncio.sleep(reply.pause_s)
    if fault.kind != "none":  # the answer was shorter than after_tokens: it still does not end well
        return await _strike(request, response, fault, dialect)
    await response.write_eof()
    return response


async def _strike(request: web.Request, response: web.StreamResponse, fault: Fault, dialect: Dialect) -> web.StreamResponse:
    if fault.kind == "hang":
        await asyncio.sleep(HANG_SECONDS)
    if fault.kind in ("hang", "cut"):
        await asyncio.sleep(fault.settle_s)
        hang_up(request)
        return response
    await response.write(dialect.frame(dialect.error(fault.kind)[1]))
    await response.write_eof()
    return response
