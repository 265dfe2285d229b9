"""`python -m mesh.doubles cloud|ollama|qdrant [--host H] [--port P]`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from aiohttp import web

from mesh.doubles import BANNER
from mesh.doubles.serve import serve


def _cloud() -> web.Application:
    from mesh.doubles.cloud import build

    return build()


def _ollama() -> web.Application:
    from mesh.doubles.ollama import build
    from mesh.doubles.ollama_state import Settings

    return build(Settings.from_env(dict(os.environ)))


def _qdrant() -> web.Application:
    from mesh.doubles.qdrant import Settings, build

    return build(Settings.from_env(dict(os.environ)))


DOUBLES: dict[str, tuple[Callable[[], web.Application], int]] = {
    "cloud": (_cloud, 9000),
    "ollama": (_ollama, 11434),
    "qdrant": (_qdrant, 6333),
}


def main(argv: list[str] | None = None) -> None:
    """Serve one double until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="doubles", description=f"{BANNER}s: not the real services")
    parser.add_argument("double", choices=sorted(DOUBLES))
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: all of the container's)")
    parser.add_argument("--port", type=int, help="port to listen on (default: the real service's)")
    args = parser.parse_args(argv)
    build, port = DOUBLES[args.double]
    serve(args.double, build, args.host, args.port if args.port is not None else port)


def qdrant() -> None:
    """The `qdrant` command of the image."""
    port = int(os.environ.get("QDRANT__SERVICE__HTTP_PORT", "6333"))
    main(["qdrant", "--host", os.environ.get("QDRANT__SERVICE__HOST", "0.0.0.0"), "--port", str(port)])


if __name__ == "__main__":
    main()
