"""How pip inside an image build reaches what pip on this machine reaches: indexes, certificate authority, local wheels."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlparse

CERTIFICATES = "ca-certificates.crt"
SYSTEM_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
IN_BUILD = "/build"
PREFERRED_PORT = 18741
"""A steady address keeps the builder's layer cache valid; any other port does when it is taken."""


@contextmanager
def build_files() -> Iterator[dict[str, bytes]]:
    """The files that every build context gets in its folder `build/`: pip.conf, and the machine's CA bundle if it has one.

    Folders of wheels on this machine are served on 127.0.0.1 while the context is open; builds use the machine's network.
    """
    settings = _pip_settings()
    lines = ["[global]", "disable-pip-version-check = true", "root-user-action = ignore"]
    files: dict[str, bytes] = {}
    if bundle := _certificates():
        files[CERTIFICATES] = bundle
        lines.append(f"cert = {IN_BUILD}/{CERTIFICATES}")
    for key in ("index-url", "extra-index-url", "trusted-host", "timeout"):
        values = [value for value in settings.get(key, []) if not _local(value)] if key.endswith("url") else settings.get(key, [])
        if values:
            lines.append(f"{key} = {' '.join(values)}")
    links = settings.get("find-links", [])
    folders = [folder for value in links if (folder := _local(value)) and folder.is_dir()]
    with _served(folders) as urls:
        if links := [value for value in links if not _local(value)] + urls:
            lines.append(f"find-links = {' '.join(links)}")
        files["pip.conf"] = ("\n".join(lines) + "\n").encode()
        yield {f"build/{name}": content for name, content in files.items()}


def _pip_settings() -> dict[str, list[str]]:
    """pip's own settings on this machine, from its files and the environment; the environment wins."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    found: dict[str, list[str]] = {}
    for prefix in ("global.", "install.", ":env:."):
        for line in listed.splitlines():
            if line.startswith(prefix):
                key, _, value = line.removeprefix(prefix).partition("=")
                found[key] = value.strip().strip("'\"").replace("\\n", " ").split()
    return found


def _certificates() -> bytes | None:
    for path in (os.environ.get("PIP_CERT"), os.environ.get("SSL_CERT_FILE"), SYSTEM_CERTIFICATES):
        if path and Path(path).is_file():
            return Path(path).read_bytes()
    return None


def _local(value: str) -> Path | None:
    """The folder a setting names, or None where it is an address."""
    parsed = urlparse(value)
    if parsed.scheme in ("", "file"):
        return Path(unquote(parsed.path))
    return None


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def _served(folders: list[Path]) -> Iterator[list[str]]:
    servers = []
    for number, folder in enumerate(folders):
        handler = functools.partial(_Quiet, directory=str(folder))
        try:
            server = http.server.ThreadingHTTPServer(("127.0.0.1", PREFERRED_PORT + number), handler)
        except OSError:
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
    try:
        yield [f"http://127.0.0.1:{server.server_address[1]}/" for server in servers]
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
