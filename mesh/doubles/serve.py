"""What all doubles share: they say what they are, stop at once when told to, and name their errors."""

from __future__ import annotations

import sys
from collections.abc import Callable

from aiohttp import web

from mesh.doubles import BANNER


def sign(app: web.Application, name: str) -> None:
    """Put the banner into the headers of every answer."""

    async def prepare(_: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = f"homelab-mesh-double/{name}"
        response.headers["X-Double"] = name

    app.on_response_prepare.append(prepare)


def serve(name: str, build: Callable[[], web.Application], host: str, port: int) -> None:
    """Run one double in the foreground; a port that is taken or a folder that cannot be written is one clear line."""
    try:
        app = build()
        print(f"{BANNER} of {name}: NOT the real service. Listening on {host}:{port}", file=sys.stderr, flush=True)
        web.run_app(app, host=host, port=port, print=None, shutdown_timeout=0.5, handler_cancellation=True)
    except OSError as error:
        print(f"{BANNER} of {name}: cannot serve on {host}:{port}: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
