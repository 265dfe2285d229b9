"""`mesh lock` against a double of a registry on loopback, with the token flow of the public ones."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from clikit import SMALL_SPEC, Ran

from mesh.compile.images import ImageLock
from mesh.registry import split

Run = Callable[..., Ran]
MANIFEST = b'{"schemaVersion": 2}'
FIRST, SECOND = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


class Registry(ThreadingHTTPServer):
    """A double of a registry. `digests` by path; asks for a token when `token` is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.digests: dict[str, str] = {}
        self.token = ""
        self.status = 0
        self.realm = f"http://127.0.0.1:{self.server_port}/token"
        self.token_body = ""
        self.tags: dict[str, list[list[str]]] = {}
        """Pages of tags by the path of the first."""


class Handler(BaseHTTPRequestHandler):
    server: Registry

    def _answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:  # the name is http.server's
        registry = self.server
        if self.path.startswith("/token?"):
            good = "service=double" in self.path and "scope=repository%3Alitellm%3Apull" in self.path
            self._answer(200 if good else 400, body=(registry.token_body or f'{{"token": "{registry.token}"}}').encode())
        elif registry.status:
            self._answer(registry.status)
        elif registry.token and self.headers.get("Authorization") != f"Bearer {registry.token}":
            self._answer(401, {"WWW-Authenticate": f'Bearer realm="{registry.realm}",service="double"'})
        elif self.path.partition("?")[0] in registry.tags:
            path, _, query = self.path.partition("?")
            pages = registry.tags[path]
            page = int(query.partition("page=")[2] or 0)
            link = {"Link": f'<{path}?page={page + 1}>; rel="next"'} if page + 1 < len(pages) else {}
            self._answer(200, link, json.dumps({"name": "x", "tags": pages[page]}).encode())
        elif self.path in registry.digests and "image.index" in self.headers["Accept"]:
            digest = registry.digests[self.path]
            self._answer(200, {"Docker-Content-Digest": digest} if digest else {}, MANIFEST)
        else:
            self._answer(404)

    do_HEAD = do_GET  # noqa: N815  named by http.server

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[Registry]:
    server = Registry()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def inventory(small_inventory: Path, registry: Registry) -> Path:
    """Two images, both at the double."""
    host = f"127.0.0.1:{registry.server_port}"
    (small_inventory / "mesh.yaml").write_text(
        SMALL_SPEC + f"images: {{litellm: '{host}/litellm:1.0', ollama: '{host}/lab/ollama:2.0', front: 'x/z:1@{FIRST}'}}\n"
    )
    registry.digests = {"/v2/litellm/manifests/1.0": FIRST, "/v2/lab/ollama/manifests/2.0": FIRST}
    return small_inventory


def locked(inventory: Path) -> dict[str, str]:
    return {name.split("/", 1)[1]: each.digest for name, each in ImageLock.load(inventory / "images.lock").images.items()}


def test_every_image_is_pinned_by_the_registrys_digest(inventory: Path, run_mesh: Run) -> None:
    ran = run_mesh("lock", "-C", inventory)
    assert ran.code == 0, ran.err
    assert locked(inventory) == {"litellm:1.0": FIRST, "lab/ollama:2.0": FIRST}
    assert "2 images pinned" in ran.err


def test_locking_again_changes_nothing_and_a_moved_tag_is_named(inventory: Path, registry: Registry, run_mesh: Run) -> None:
    run_mesh("lock", "-C", inventory)
    before = (inventory / "images.lock").read_bytes()
    assert run_mesh("lock", "-C", inventory).out == ""
    assert (inventory / "images.lock").read_bytes() == before
    registry.digests["/v2/litellm/manifests/1.0"] = SECOND
    ran = run_mesh("lock", "-C", inventory)
    assert f"{FIRST[:19]} -> {SECOND[:19]}" in ran.out
    assert locked(inventory)["litellm:1.0"] == SECOND


def test_a_digest_that_the_registry_does_not_send_is_computed(inventory: Path, registry: Registry, run_mesh: Run) -> None:
    registry.digests["/v2/litellm/manifests/1.0"] = ""
    assert run_mesh("lock", "-C", inventory).code == 0
    assert locked(inventory)["litellm:1.0"] == f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"


def test_an_anonymous_token_is_fetched_where_the_registry_says(inventory: Path, registry: Registry, run_mesh: Run) -> None:
    registry.token = "pull-token"
    (inventory / "mesh.yaml").write_text(
        SMALL_SPEC
        + f"images: {{litellm: '127.0.0.1:{registry.server_port}/litellm:1.0', ollama: 'x/y:1@{FIRST}', front: 'x/z@{FIRST}'}}\n"
    )
    ran = run_mesh("lock", "-C", inventory)
    assert ran.code == 0, ran.err
    assert locked(inventory) == {"litellm:1.0": FIRST}


@pytest.mark.parametrize(
    ("realm", "body"),
    [("file:///etc/passwd", ""), ("ftp://x/", ""), ("", '{"token": 3}'), ("", "nonsense"), ("", '{"token": "a\\nb"}')],
)
def test_a_registry_cannot_send_us_astray(inventory: Path, registry: Registry, run_mesh: Run, realm: str, body: str) -> None:
    registry.token, registry.token_body = "pull-token", body
    registry.realm = realm or registry.realm
    ran = run_mesh("lock", "-C", inventory)
    assert ran.code == 1
    assert "Traceback" not in ran.err


def test_an_image_that_cannot_be_looked_up_keeps_its_digest_and_fails_the_run(
    inventory: Path, registry: Registry, run_mesh: Run
) -> None:
    run_mesh("lock", "-C", inventory)
    registry.digests = {"/v2/lab/ollama/manifests/2.0": SECOND}
    ran = run_mesh("lock", "-C", inventory)
    assert ran.code == 1
    assert "no such tag" in ran.err
    assert "litellm:1.0" in ran.err
    assert locked(inventory) == {"litellm:1.0": FIRST, "lab/ollama:2.0": SECOND}


def test_an_image_that_nothing_uses_leaves_the_lock(inventory: Path, run_mesh: Run) -> None:
    run_mesh("lock", "-C", inventory)
    lock = ImageLock.load(inventory / "images.lock").with_image("old/one:1", FIRST, "2026-01-01")
    (inventory / "images.lock").write_text(lock.dump())
    assert "old/one:1  removed" in run_mesh("lock", "-C", inventory).out
    assert "old/one:1" not in ImageLock.load(inventory / "images.lock").images


@pytest.mark.parametrize(("status", "says"), [(401, "private"), (403, "private"), (429, "limits"), (500, "answered 500")])
def test_a_registrys_refusal_is_an_error_in_words(
    inventory: Path, registry: Registry, run_mesh: Run, status: int, says: str
) -> None:
    registry.status = status
    ran = run_mesh("lock", "-C", inventory)
    assert ran.code == 1
    assert says in ran.err


def test_a_registry_that_is_off_is_an_error(small_inventory: Path, run_mesh: Run) -> None:
    (small_inventory / "mesh.yaml").write_text(SMALL_SPEC + "images: {litellm: 'localhost:1/a:1', ollama: 'localhost:1/b'}\n")
    ran = run_mesh("lock", "-C", small_inventory)
    assert ran.code == 1
    assert "cannot be reached" in ran.err
    assert "localhost:1/b: the image has no tag" in ran.err


def test_a_damaged_lock_is_written_anew(inventory: Path, run_mesh: Run) -> None:
    (inventory / "images.lock").write_text("{{{")
    assert run_mesh("lock", "-C", inventory).code == 0
    assert len(locked(inventory)) == 2


@pytest.mark.parametrize(
    ("repo", "host", "name"),
    [
        ("redis", "registry-1.docker.io", "library/redis"),
        ("qdrant/qdrant", "registry-1.docker.io", "qdrant/qdrant"),
        ("docker.io/qdrant/qdrant", "registry-1.docker.io", "qdrant/qdrant"),
        ("ghcr.io/berriai/litellm", "ghcr.io", "berriai/litellm"),
        ("10.88.0.2:5000/litellm", "10.88.0.2:5000", "litellm"),
        ("localhost/x", "localhost", "x"),
    ],
)
def test_a_repository_is_read_as_docker_reads_it(repo: str, host: str, name: str) -> None:
    assert split(repo) == (host, name)


def test_check_says_what_is_newer_and_what_has_moved_and_writes_nothing(
    inventory: Path, registry: Registry, run_mesh: Run
) -> None:
    run_mesh("lock", "-C", inventory)
    registry.tags = {"/v2/litellm/tags/list": [["1.0", "1.1-rc1"], ["1.2", "latest"]], "/v2/lab/ollama/tags/list": [["2.0"]]}
    before = (inventory / "images.lock").read_bytes()
    registry.digests["/v2/lab/ollama/manifests/2.0"] = SECOND
    ran = run_mesh("lock", "--check", "--json", "-C", inventory)
    known = {each["image"].partition("/")[2]: each for each in json.loads(ran.out)["images"]}
    assert (known["litellm:1.0"]["newer"], known["litellm:1.0"]["moved"]) == ("1.2", False)
    assert (known["lab/ollama:2.0"]["newer"], known["lab/ollama:2.0"]["moved"]) == (None, True)
    assert (inventory / "images.lock").read_bytes() == before


def test_check_exits_with_what_it_found(inventory: Path, registry: Registry, run_mesh: Run) -> None:
    text = (inventory / "mesh.yaml").read_text()
    (inventory / "mesh.yaml").write_text(
        text.replace(f"front: 'x/z:1@{FIRST}'", f"front: '127.0.0.1:{registry.server_port}/z:1'")
    )
    registry.digests["/v2/z/manifests/1"] = FIRST
    names = ("litellm", "lab/ollama", "z")
    registry.tags = {f"/v2/{name}/tags/list": [["1.0", "2.0", "1"]] for name in names}
    run_mesh("lock", "-C", inventory)
    assert run_mesh("lock", "--check", "-C", inventory).code == 2
    registry.tags = {f"/v2/{name}/tags/list": [["latest"]] for name in names}
    assert run_mesh("lock", "--check", "-C", inventory).code == 0
    registry.status = 500
    ran = run_mesh("lock", "--check", "-C", inventory)
    assert ran.code == 1
    assert "answered 500" in ran.err
