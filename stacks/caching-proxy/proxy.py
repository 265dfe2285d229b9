"""A streaming pass-through to Anthropic: every byte of a request and of its answer as it is, as soon as it is there.

Environment: UPSTREAM, the base URL; PORT, default 8080. SIGTERM: no new connections, running answers are finished first.
"""

from __future__ import annotations

import asyncio
import os

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers of one connection, not of the message (RFC 9110, 7.6.1)."""
DRAIN = 50.0
"""Seconds that running answers get after SIGTERM; below the container's grace period."""
LARGEST = 64 * 1024**2
"""Bytes of a request's body."""

SESSION = web.AppKey("session", ClientSession)
UPSTREAM = web.AppKey("upstream", str)


def forwarded(headers: object, also: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """The headers to pass on, repeated ones included: all but the connection's own and those that `Connection` names."""
    pairs: list[tuple[str, str]] = list(headers.items())  # type: ignore[attr-defined]
    named = {token.strip().lower() for key, value in pairs if key.lower() == "connection" for token in value.split(",")}
    dropped = HOP_BY_HOP | named | set(also)
    return [(key, value) for key, value in pairs if key.lower() not in dropped]


async def health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def forward(request: web.Request) -> web.StreamResponse:
    """One request. An upstream that cannot be reached is 502; one that breaks off breaks the client's connection off too."""
    url = request.app[UPSTREAM] + request.raw_path
    body = await request.read()
    try:
        upstream = await request.app[SESSION].request(
            request.method,
            url,
            headers=forwarded(request.headers, ("host", "content-length")),
            data=body or None,
            allow_redirects=False,
        )
    except (ClientError, TimeoutError) as error:
        reason = f"caching-proxy: {request.app[UPSTREAM]} cannot be reached: {type(error).__name__}"
        return web.json_response({"type": "error", "error": {"type": "api_error", "message": reason}}, status=502)
    async with upstream:
        response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
        for key, value in forwarded(upstream.headers):
            response.headers.add(key, value)
        await response.prepare(request)
        async for chunk in upstream.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


async def _session(app: web.Application):  # type: ignore[no-untyped-def]  # an async generator, as aiohttp wants it
    timeout = ClientTimeout(total=None, sock_connect=10)
    connector = TCPConnector(limit=0)
    async with ClientSession(
        timeout=timeout,
        connector=connector,
        auto_decompress=False,
        cookie_jar=DummyCookieJar(),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
    ) as session:
        app[SESSION] = session
        yield


def make_app(upstream: str) -> web.Application:
    app = web.Application(client_max_size=LARGEST)
    app[UPSTREAM] = upstream.rstrip("/")
    app.cleanup_ctx.append(_session)
    app.router.add_get("/health", health)
    app.router.add_route("*", "/{path:.*}", forward)
    return app


if __name__ == "__main__":
    web.run_app(
        make_app(os.environ["UPSTREAM"]),
        port=int(os.environ.get("PORT", "8080")),
        shutdown_timeout=DRAIN,
        handler_cancellation=True,
        access_log=None,
        loop=asyncio.new_event_loop(),
    )
