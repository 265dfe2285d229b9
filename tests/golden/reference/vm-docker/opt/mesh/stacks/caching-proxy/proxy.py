"""A streaming pass-through to Anthropic: every byte of an answer as it is and as soon as it is there.

Environment: UPSTREAM, the base URL; HOST and PORT to listen on, all of the container's addresses and 8080 by default.
SIGTERM: no new connections, running answers are finished first.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

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


def forwarded(headers: CIMultiDictProxy[str], *also: str) -> CIMultiDict[str]:
    """The headers to pass on, repeated ones included: all but the connection's own, those that it names, and `also`."""
    named = {token.strip().lower() for value in headers.getall("connection", []) for token in value.split(",")}
    dropped = HOP_BY_HOP | named | set(also)
    return CIMultiDict((key, value) for key, value in headers.items() if key.lower() not in dropped)


def problem(status: int, kind: str, message: str) -> web.Response:
    """An error of the proxy's own, in Anthropic's shape."""
    return web.json_response({"type": "error", "error": {"type": kind, "message": f"caching-proxy: {message}"}}, status=status)


async def health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def forward(request: web.Request) -> web.StreamResponse:
    """One request. No upstream: 502. An upstream that breaks off breaks the client's connection off too."""
    upstream = request.app[UPSTREAM]
    if not request.raw_path.startswith("/"):  # `@elsewhere/` would lead the client's key to another host
        return problem(400, "invalid_request_error", "the request's target is not a path")
    headers, body = forwarded(request.headers, "host", "content-length"), await request.read()
    try:
        answer = await request.app[SESSION].request(
            request.method, URL(upstream + request.raw_path, encoded=True), headers=headers, data=body, allow_redirects=False
        )
    except (ClientError, TimeoutError) as error:
        return problem(502, "api_error", f"no answer from {upstream}: {type(error).__name__}")
    async with answer:
        response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=forwarded(answer.headers))
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


async def _session(app: web.Application) -> AsyncIterator[None]:
    async with ClientSession(
        connector=TCPConnector(limit=0),
        timeout=ClientTimeout(total=None, sock_connect=10),  # the gateway decides how long an answer may take
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
    ) as session:
        app[SESSION] = session
        yield


def make_app(upstream: str) -> web.Application:
    """The proxy before `upstream`, a base URL without a trailing slash."""
    app = web.Application(client_max_size=LARGEST)
    app[UPSTREAM] = upstream
    app.cleanup_ctx.append(_session)
    app.router.add_get("/health", health)
    app.router.add_route("*", "/{path:.*}", forward)
    return app


if __name__ == "__main__":
    web.run_app(
        make_app(os.environ["UPSTREAM"]),
        host=os.environ.get("HOST", "0.0.0.0"),
        port=int(os.environ.get("PORT", "8080")),
        shutdown_timeout=DRAIN,
        handler_cancellation=True,
        access_log=None,
    )
