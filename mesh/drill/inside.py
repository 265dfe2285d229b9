"""The part of the drill that runs beside the gateway: it plays every provider, sends every request, and writes down what came.

It runs in the gateway's own image or environment: the standard library, aiohttp and mesh.doubles are all that it has.
stdin: one JSON document, the script (mesh/drill/stage.py writes it). stdout: one JSON line an event. It judges nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from mesh.doubles import BANNER
from mesh.doubles.staged import Log, Part, build

READY_POLL = 0.2
TEXT_KEPT = 600
"""Characters of an answer that are kept."""


def say(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


async def play(script: dict[str, Any]) -> None:
    """All of the script."""
    log = Log(known=script["known"])
    with tempfile.TemporaryDirectory() as folder:
        runners = [await _serve(Part(**each), log, Path(folder), script["host"]) for each in script["parts"]]
        say("doubles", banner=f"{BANNER}s of {len(runners)} model entries: no provider is asked", count=len(runners))
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
            if await _ready(session, script):
                await _send_all(session, script, log)
        for runner in runners:
            await runner.cleanup()
    say("end", unmarked=log.calls.get("", []))


async def _serve(part: Part, log: Log, folder: Path, host: str) -> web.AppRunner:
    runner = web.AppRunner(build(part, log, folder / str(part.port)), shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, host, part.port).start()
    return runner


async def _ready(session: aiohttp.ClientSession, script: dict[str, Any]) -> bool:
    began = time.monotonic()
    while time.monotonic() - began < script["start"]:
        try:
            async with session.get(script["gateway"] + script["ready"], timeout=aiohttp.ClientTimeout(total=5)) as answer:
                if answer.status < 400:
                    say("ready", seconds=round(time.monotonic() - began, 2))
                    return True
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass
        await asyncio.sleep(READY_POLL)
    say("not-ready", seconds=round(time.monotonic() - began, 2))
    return False


async def _send_all(session: aiohttp.ClientSession, script: dict[str, Any], log: Log) -> None:
    """Requests that wait for a hanging provider all at once, the others a few at a time."""
    few = asyncio.Semaphore(script["abreast"])

    async def one(request: dict[str, Any], after: float = 0.0) -> None:
        if request["waits"]:
            await asyncio.sleep(after)
            outcome = await _send(session, script["gateway"], request)
        else:
            async with few:
                outcome = await _send(session, script["gateway"], request)
        await asyncio.sleep(script["settle"])
        say("outcome", id=request["id"], **outcome, calls=log.calls.get(request["id"], []))

    requests = script["requests"]
    for each in requests:  # LiteLLM imports what it needs with the first request of a kind, and meanwhile answers nobody
        if each["first"]:
            await one(each)
    later = [each for each in requests if not each["first"]]
    await asyncio.gather(*(one(each, number * script["apart"]) for number, each in enumerate(later)))


async def _send(session: aiohttp.ClientSession, gateway: str, request: dict[str, Any]) -> dict[str, Any]:
    """One request: status, headers, how it ended, what it said, how long it took in seconds."""
    began = time.monotonic()
    seen: dict[str, Any] = {"status": 0, "headers": {}, "ended": "nothing", "tokens": 0, "text": ""}
    try:
        async with asyncio.timeout(request["limit"]):
            body = request["body"].encode("utf-8", "surrogateescape") if request["body"] is not None else None
            async with session.request(
                request["method"], gateway + request["path"], data=body, headers=request["headers"]
            ) as answer:
                seen |= {"status": answer.status, "headers": {k.lower(): v for k, v in answer.headers.items()}, "ended": "cut"}
                if "text/event-stream" in answer.headers.get("content-type", ""):
                    await _stream(answer, seen)
                else:
                    seen |= {"text": (await answer.read()).decode("utf-8", "replace"), "ended": "whole"}
    except TimeoutError:
        seen["ended"] = "timeout"
    except (aiohttp.ClientError, OSError) as error:
        seen["why"] = f"{type(error).__name__}: {error}"
    seen["text"] = seen["text"][: request.get("keep", TEXT_KEPT)]
    return {**seen, "seconds": round(time.monotonic() - began, 3)}


async def _stream(answer: aiohttp.ClientResponse, seen: dict[str, Any]) -> None:
    async for data in _events(answer):
        if data == "[DONE]":
            seen["ended"] = "whole" if seen["ended"] != "error" else "error"
            return
        try:
            event = json.loads(data)
        except ValueError:
            continue
        if not isinstance(event, dict):
            continue
        if event.get("error") or event.get("type") in ("error", "response.failed"):
            seen["ended"] = "error"
            seen["text"] += json.dumps(event)
        elif event.get("type") in ("message_stop", "response.completed"):
            seen["ended"] = "whole"
        piece = _piece(event)
        if piece:
            seen["tokens"] += 1
            seen["text"] += piece


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[str]:
    async for line in answer.content:
        text = line.decode("utf-8", "replace").strip()
        if text.startswith("data:"):
            yield text.removeprefix("data:").strip()


def _piece(event: dict[str, Any]) -> str:
    """The text that one event of a stream brings, in any of the three dialects."""
    if event.get("type") == "response.output_text.delta":
        return str(event.get("delta") or "")
    delta = event.get("delta")
    if event.get("type") == "content_block_delta" and isinstance(delta, dict):
        return str(delta.get("text") or "")
    choices = event.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return str((choices[0].get("delta") or {}).get("content") or "")
    return ""


if __name__ == "__main__":
    asyncio.run(play(json.loads(sys.stdin.buffer.read())))
