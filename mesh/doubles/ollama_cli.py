"""The `ollama` command of the double: list, pull, rm, ps, show, serve, --version. Talks to the server over HTTP.

Only `serve` imports the server (and aiohttp): `ollama list` is the container's health check and runs every few seconds.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from mesh.doubles import BANNER

USAGE = """Usage:
  ollama [command]     (homelab-mesh test double: NOT the real Ollama)

Available Commands:
  serve       Start Ollama
  show        Show information for a model
  pull        Pull a model from a registry
  list        List models
  ps          List running models
  rm          Remove a model

Flags:
  -v, --version   Show version information
"""
TIMEOUT_S = 30.0


class CommandError(Exception):
    """What the command says on stderr before it exits with 1."""


def _connect() -> http.client.HTTPConnection:
    from mesh.doubles.ollama_state import parse_host

    host, port = parse_host(os.environ.get("OLLAMA_HOST", ""))
    return http.client.HTTPConnection("127.0.0.1" if host in ("0.0.0.0", "::", "[::]") else host, port, timeout=TIMEOUT_S)


def _open(method: str, path: str, body: dict[str, Any] | None = None) -> http.client.HTTPResponse:
    connection = _connect()
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None)
        response = connection.getresponse()
    except ConnectionRefusedError:
        raise CommandError("could not connect to ollama server, run 'ollama serve' to start it") from None
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(f"something went wrong, please see the ollama server logs for details: {error}") from None
    if response.status >= 400:
        raise CommandError(_error_text(response))
    return response


def _error_text(response: http.client.HTTPResponse) -> str:
    try:
        return str(json.loads(response.read())["error"])
    except (ValueError, KeyError, TypeError):
        return f"{response.status} {response.reason}"


def _get(path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_open("GET", path).read())
    return found


def human_bytes(size: int) -> str:
    """Bytes as the real command writes them: 2.0 GB, 274 MB (decimal units)."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if size >= factor:
            value = size / factor
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    return f"{size} B"


def human_time(at: str, now: datetime) -> str:
    """A time as the real command writes it: `2 hours ago`, `4 minutes from now`, `Forever`."""
    moment = datetime.fromisoformat(at)
    seconds = (moment - now).total_seconds()
    if seconds > 20 * 365 * 86400:
        return "Forever"
    suffix = "from now" if seconds > 0 else "ago"
    left = abs(seconds)
    if left < 1:
        return "Less than a second " + suffix
    for unit, length in (("year", 31536000), ("month", 2592000), ("week", 604800), ("day", 86400), ("hour", 3600)):
        if left >= 2 * length or (left >= length and unit in ("day", "hour")):
            count = math.floor(left / length)
            return f"{count} {unit}{'' if count == 1 else 's'} {suffix}"
    if left >= 60:
        count = math.floor(left / 60)
        return f"{'About a minute' if count == 1 else f'{count} minutes'} {suffix}"
    count = math.floor(left)
    return f"{count} second{'' if count == 1 else 's'} {suffix}"


def processor(size: int, size_vram: int) -> str:
    """Where a model runs, as `ollama ps` says it."""
    if size_vram == 0:
        return "100% CPU"
    if size_vram >= size:
        return "100% GPU"
    cpu = round((size - size_vram) / size * 100)
    return f"{cpu}%/{100 - cpu}% CPU/GPU"


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Columns left-aligned, four spaces apart, as the real command prints them."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = ("".join(cell.ljust(width + 4) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows])
    return "\n".join(lines) + "\n"


def cmd_list(_: list[str]) -> None:
    """`ollama list`."""
    now = datetime.now(UTC)
    rows = [
        (model["name"], model["digest"][:12], human_bytes(model["size"]), human_time(model["modified_at"], now))
        for model in _get("/api/tags")["models"]
    ]
    sys.stdout.write(table(("NAME", "ID", "SIZE", "MODIFIED"), rows))


def cmd_ps(_: list[str]) -> None:
    """`ollama ps`."""
    now = datetime.now(UTC)
    rows = [
        (
            model["name"],
            model["digest"][:12],
            human_bytes(model["size"]),
            processor(model["size"], model["size_vram"]),
            str(model["context_length"]),
            human_time(model["expires_at"], now),
        )
        for model in _get("/api/ps")["models"]
    ]
    sys.stdout.write(table(("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"), rows))


def _lines(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    try:
        for line in response:
            if line.strip():
                yield json.loads(line)
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(f"unexpected end of the answer: {error}") from None


def cmd_pull(args: list[str]) -> None:
    """`ollama pull MODEL`."""
    said, finished = "", False
    for line in _lines(_open("POST", "/api/pull", {"model": args[0], "stream": True})):
        if "error" in line:
            raise CommandError(str(line["error"]))
        text = str(line.get("status", ""))
        finished = text == "success"
        if text != said:
            sys.stderr.write(text + "\n")
            said = text
    if not finished:
        raise CommandError("EOF")


def cmd_rm(args: list[str]) -> None:
    """`ollama rm MODEL...`."""
    for name in args:
        _open("DELETE", "/api/delete", {"model": name}).read()
        sys.stdout.write(f"deleted '{name}'\n")


def cmd_show(args: list[str]) -> None:
    """`ollama show MODEL`."""
    found = json.loads(_open("POST", "/api/show", {"model": args[0]}).read())
    details, info = found["details"], found["model_info"]
    arch = info["general.architecture"]
    sys.stdout.write("  Model\n")
    for key, value in (
        ("architecture", arch),
        ("parameters", details["parameter_size"]),
        ("context length", info[f"{arch}.context_length"]),
        ("embedding length", info[f"{arch}.embedding_length"]),
        ("quantization", details["quantization_level"]),
    ):
        sys.stdout.write(f"    {key:<20}{value}\n")
    sys.stdout.write("\n  Capabilities\n" + "".join(f"    {name}\n" for name in found["capabilities"]))


def cmd_version() -> None:
    """`ollama --version`."""
    from mesh.doubles.ollama_state import VERSION

    try:
        sys.stdout.write(f"ollama version is {_get('/api/version')['version']}\n")
    except CommandError:
        sys.stdout.write("Warning: could not connect to a running Ollama instance\n")
        sys.stdout.write(f"Warning: client version is {VERSION}\n")
    sys.stderr.write(f"{BANNER}: NOT the real Ollama\n")


def cmd_serve(_: list[str]) -> None:
    """`ollama serve`."""
    from mesh.doubles.__main__ import main as serve_double
    from mesh.doubles.ollama_state import parse_host

    host, port = parse_host(os.environ.get("OLLAMA_HOST", ""))
    serve_double(["ollama", "--host", host, "--port", str(port)])


COMMANDS = {
    "list": (cmd_list, 0),
    "ls": (cmd_list, 0),
    "ps": (cmd_ps, 0),
    "pull": (cmd_pull, 1),
    "rm": (cmd_rm, 1),
    "show": (cmd_show, 1),
    "serve": (cmd_serve, 0),
}


def main(argv: list[str] | None = None) -> None:
    """Run one command; exit 1 with `Error: ...` on stderr when it fails, as the real one does."""
    args = sys.argv[1:] if argv is None else argv
    if args[:1] in (["--version"], ["-v"]):
        cmd_version()
        return
    if not args or args[0] in ("help", "--help", "-h"):
        sys.stdout.write(USAGE)
        return
    if args[0] not in COMMANDS:
        sys.stderr.write(f'Error: unknown command "{args[0]}" for "ollama"\n')
        raise SystemExit(1)
    command, wanted = COMMANDS[args[0]]
    try:
        if len(args) - 1 < wanted:
            raise CommandError(f"requires at least {wanted} arg(s), only received {len(args) - 1}")
        command(args[1:])
    except CommandError as error:
        sys.stderr.write(f"Error: {error}\n")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
