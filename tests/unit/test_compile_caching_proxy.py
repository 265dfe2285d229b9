"""The caching proxy passes everything through and nothing else, shown against an upstream of its own on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import importlib.util
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, web

from mesh.paths import STACKS

PROXY = STACKS / "caching-proxy" / "proxy.py"
spec = importlib.util.spec_from_file_location("caching_proxy", PROXY)
assert spec is not None
assert spec.loader is not None
proxy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(proxy)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def through(handler: Handler) -> AsyncIterator[tuple[ClientSession, str]]:
    upstream = web.Application()
    upstream.router.add_route("*", "/{path:.*}", handler)
    async with (
        serving(upstream) as base,
        serving(proxy.make_app(base)) as url,
        ClientSession(auto_decompress=False) as session,
    ):
        yield session, url


def run(test: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(test, 20))  # type: ignore[arg-type]


def test_method_path_query_headers_and_body_arrive_unchanged() -> None:
    seen: dict[str, Any] = {}

    async def upstream(request: web.Request) -> web.Response:
        seen.update(method=request.method, path=request.raw_path, headers=request.headers.copy(), body=await request.read())
        return web.Response(status=418, text="teapot", headers={"request-id": "req_1"})

    async def test() -> None:
        async with through(upstream) as (session, url):
            body = bytes(range(256)) * 4
            headers = {"x-api-key": "k", "anthropic-beta": "a,b", "accept": "text/event-stream", "cookie": "c=1"}
            async with session.post(f"{url}/v1/messages%2Fx?beta=true&y=%20", data=body, headers=headers) as answer:
                assert answer.status == 418
                assert answer.headers["request-id"] == "req_1"
                assert await answer.text() == "teapot"
            assert (seen["method"], seen["path"], seen["body"]) == ("POST", "/v1/messages%2Fx?beta=true&y=%20", body)
            assert {key: seen["headers"][key] for key in headers} == headers

    run(test())


def test_a_compressed_answer_stays_byte_for_byte() -> None:
    packed = gzip.compress(b"hello" * 100)

    async def upstream(_: web.Request) -> web.Response:
        return web.Response(body=packed, headers={"content-encoding": "gzip", "content-type": "application/json"})

    async def test() -> None:
        async with through(upstream) as (session, url), session.get(f"{url}/v1/models") as answer:
            assert answer.headers["content-encoding"] == "gzip"
            assert await answer.read() == packed

    run(test())


def test_a_stream_arrives_piece_by_piece() -> None:
    more = asyncio.Event()

    async def upstream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"event: message_start\n\n")
        await more.wait()
        await response.write(b"event: message_stop\n\n")
        return response

    async def test() -> None:
        async with through(upstream) as (session, url), session.post(f"{url}/v1/messages", data=b"{}") as answer:
            assert await answer.content.readany() == b"event: message_start\n\n"  # while the upstream still waits
            more.set()
            assert await answer.content.read() == b"event: message_stop\n\n"

    run(test())


def test_headers_of_the_connection_are_not_passed_on() -> None:
    seen: dict[str, str] = {}

    async def upstream(request: web.Request) -> web.Response:
        seen.update(request.headers)
        return web.Response(text="ok", headers={"x-secret-hop": "1", "connection": "x-secret-hop", "x-kept": "1"})

    async def test() -> None:
        async with through(upstream) as (session, url):
            headers = {"connection": "keep-alive, x-mine", "x-mine": "1", "proxy-authorization": "p", "te": "trailers"}
            async with session.get(f"{url}/", headers=headers) as answer:
                assert "x-secret-hop" not in answer.headers
                assert answer.headers["x-kept"] == "1"
        assert {key.lower() for key in seen} & {"x-mine", "proxy-authorization", "te"} == set()

    run(test())


def test_an_upstream_that_is_down_is_502_and_names_no_key() -> None:
    async def test() -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            async with (
                serving(proxy.make_app(f"http://127.0.0.1:{closed.getsockname()[1]}")) as url,
                ClientSession() as session,
                session.post(f"{url}/v1/messages", data=b"{}", headers={"x-api-key": "planted"}) as answer,
            ):
                assert answer.status == 502
                body = await answer.json()
                assert body["type"] == "error"
                assert body["error"]["message"].startswith("caching-proxy: no answer from http://127.0.0.1:")
                assert "planted" not in str(body)

    run(test())


def test_an_answer_that_breaks_off_does_not_look_complete() -> None:
    async def upstream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    async def test() -> None:
        async with through(upstream) as (session, url):
            with pytest.raises(ClientError):
                async with session.get(f"{url}/") as answer:
                    await answer.read()

    run(test())


def test_a_client_that_leaves_stops_the_upstream_too() -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    async def upstream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        started.set()
        try:
            while True:
                await response.write(b"x")
                await asyncio.sleep(0.01)
        except (ConnectionError, asyncio.CancelledError):
            stopped.set()
            raise

    async def test() -> None:
        async with through(upstream) as (session, url):
            answer = await session.get(f"{url}/")
            await started.wait()
            answer.close()
            await stopped.wait()

    run(test())


def test_a_target_that_is_no_path_is_refused_and_reaches_nobody() -> None:
    async def upstream(_: web.Request) -> web.Response:
        raise AssertionError("reached")

    async def test() -> None:
        async with through(upstream) as (_, url):
            host, port = url.removeprefix("http://").split(":")
            for target in ("@127.0.0.1:1/", ":1/", "http://127.0.0.1:1/"):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                status = int((await reader.read()).split()[1])
                assert status in (400, 404, 502), target
                writer.close()

    run(test())


def test_sigterm_lets_a_running_answer_finish() -> None:
    async def upstream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(10):
            await response.write(b"x" * 10)
            await asyncio.sleep(0.1)
        return response

    async def test() -> None:
        app = web.Application()
        app.router.add_get("/stream", upstream)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        async with serving(app) as base, ClientSession() as session:
            env = {"UPSTREAM": base, "HOST": "127.0.0.1", "PORT": str(port)}
            process = subprocess.Popen([sys.executable, str(PROXY)], env=env, stdout=subprocess.DEVNULL)
            try:
                url, until = f"http://127.0.0.1:{port}", time.monotonic() + 15
                while time.monotonic() < until:
                    with contextlib.suppress(ClientError):
                        async with session.get(f"{url}/health") as answer:
                            if answer.status == 200:
                                break
                    await asyncio.sleep(0.05)
                async with session.get(f"{url}/stream") as answer:
                    await answer.content.readexactly(10)
                    process.send_signal(signal.SIGTERM)
                    assert len(await answer.read()) == 90
                while process.poll() is None:
                    await asyncio.sleep(0.05)
                assert process.returncode == 0
            finally:
                process.kill()
                process.wait()

    run(test())
