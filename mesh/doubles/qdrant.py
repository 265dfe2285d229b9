"""Qdrant's REST API over qdrant-client's local mode, which keeps its data in SQLite below the storage path."""

from __future__ import annotations

import hmac
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import TypeAdapter, ValidationError
from qdrant_client import QdrantClient, models

from mesh.doubles import BANNER
from mesh.doubles.control import MAX_BODY_BYTES, Asked, Board, add_control
from mesh.doubles.qdrant_snapshots import Snapshots
from mesh.doubles.serve import sign
from mesh.doubles.wire import Dialect, Reply, deliver, ndjson, reset

NAME = "qdrant"
VERSION = "1.20.0"
OPEN_PATHS = ("/", "/healthz", "/livez", "/readyz")
READING_POSTS = ("/points", "/points/query", "/points/scroll", "/points/count")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Settings:
    """What the double reads of Qdrant's configuration variables."""

    storage: Path
    snapshots: Path
    api_key: str = ""
    read_only_key: str = ""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read the QDRANT__* variables; the defaults are those of the image."""
        return cls(
            storage=Path(env.get("QDRANT__STORAGE__STORAGE_PATH") or "/qdrant/storage"),
            snapshots=Path(env.get("QDRANT__STORAGE__SNAPSHOTS_PATH") or "/qdrant/snapshots"),
            api_key=env.get("QDRANT__SERVICE__API_KEY", ""),
            read_only_key=env.get("QDRANT__SERVICE__READ_ONLY_API_KEY", ""),
        )


def _failure(status: int, text: str) -> web.Response:
    return web.json_response({"status": {"error": text}, "time": 0.0}, status=status)


def _error(kind: str) -> tuple[int, dict[str, Any]]:
    status = int(kind) if kind.isdigit() else 500
    return status, {"status": {"error": f"Service internal error: double: {kind}"}, "time": 0.0}


DIALECT = Dialect(error=_error, frame=ndjson)


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_none=True)
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _parse(kind: Any, body: Mapping[str, Any]) -> Any:
    return TypeAdapter(kind).validate_python(dict(body))


class Qdrant:
    """One server: its collections, its keys, its faults."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.board = Board()
        settings.storage.mkdir(parents=True, exist_ok=True)
        if not _has_temp():  # a read-only root without a tmpfs; the client's file lock wants a writable folder
            tempfile.tempdir = str(settings.storage)
        self.client = QdrantClient(path=str(settings.storage / "double"))
        self.snapshots = Snapshots(self.client, settings.snapshots)

    def allowed(self, request: web.Request) -> web.Response | None:
        """What the real server says to a missing, wrong or read-only key; None when the request may go on."""
        keys = (self.settings.api_key, self.settings.read_only_key)
        if not any(keys) or request.path in OPEN_PATHS or request.path.startswith("/_double/"):
            return None
        given = request.headers.get("api-key") or request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not given:
            return web.Response(status=401, text="Must provide an API key or an Authorization bearer token")
        if keys[0] and hmac.compare_digest(given, keys[0]):
            return None
        if not (keys[1] and hmac.compare_digest(given, keys[1])):
            return web.Response(status=401, text="Invalid API key or JWT")
        reads = request.method in ("GET", "HEAD") or (request.method == "POST" and request.path.endswith(READING_POSTS))
        return None if reads else _failure(403, "Forbidden: Write access to collection is required")

    async def open(self, request: web.Request) -> web.StreamResponse:
        """The paths that need no key: what it is, and whether it lives."""
        asked = await self.board.ask(request, NAME, work=False)
        if asked.fault.kind == "refused":
            return reset(request)
        if request.path == "/":
            return web.json_response({"title": f"qdrant - vector search engine ({BANNER})", "version": VERSION, "commit": ""})
        return web.Response(text="all shards are ready" if request.path == "/readyz" else f"{request.path[1:]} check passed")

    async def metrics(self, _: web.Request) -> web.StreamResponse:
        """`GET /metrics`: two of the real names."""
        found = self.client.get_collections().collections
        points = sum(self.client.count(item.name).count for item in found)
        return web.Response(text=f"collections_total {len(found)}\ncollections_vector_total {points}\n")

    def answers(self, work: Callable[[web.Request, Asked], Any]) -> Handler:
        """A handler that gives `work`'s result in Qdrant's envelope, and its errors in Qdrant's words."""

        async def handler(request: web.Request) -> web.StreamResponse:
            asked = await self.board.ask(request, NAME)
            begun = time.perf_counter()
            result: Any = None
            if asked.fault.kind == "none":  # a request that is made to fail changes nothing
                try:
                    result = _plain(work(request, asked))
                except ValidationError as error:
                    return _failure(400, f"Format error in JSON body: {error.errors()[0]['msg']}")
                except KeyError as error:
                    return _failure(404, f"Not found: {error.args[0]}")
                except (ValueError, TypeError) as error:
                    return self._wrong(request, error)
            whole = {"result": result, "status": "ok", "time": time.perf_counter() - begun}
            return await deliver(request, asked.fault, Reply(whole), DIALECT)

        return handler

    def _wrong(self, request: web.Request, error: Exception) -> web.Response:
        name = request.match_info.get("name", "")
        if name and not self.client.collection_exists(name):
            return _failure(404, f"Not found: Collection `{name}` doesn't exist!")
        status = 409 if "already exists" in str(error) else 400
        return _failure(status, f"Wrong input: {error}")

    def collections(self, _: web.Request, __: Asked) -> Any:
        """`GET /collections`."""
        return self.client.get_collections()

    def collection(self, request: web.Request, asked: Asked) -> Any:
        """`GET|PUT|DELETE /collections/{c}`."""
        name = request.match_info["name"]
        if request.method == "GET":
            return self.client.get_collection(name)
        if request.method == "DELETE":
            return self.client.delete_collection(name)
        wanted: models.CreateCollection = _parse(models.CreateCollection, asked.body)
        return self.client.create_collection(
            name, wanted.vectors, sparse_vectors_config=wanted.sparse_vectors, metadata=wanted.metadata
        )

    def exists(self, request: web.Request, _: Asked) -> Any:
        """`GET /collections/{c}/exists`."""
        return {"exists": self.client.collection_exists(request.match_info["name"])}

    def index(self, request: web.Request, asked: Asked) -> Any:
        """`PUT /collections/{c}/index`."""
        wanted: models.CreateFieldIndex = _parse(models.CreateFieldIndex, asked.body)
        with warnings.catch_warnings():  # local mode says that an index changes nothing: so says the README
            warnings.simplefilter("ignore")
            return self.client.create_payload_index(request.match_info["name"], wanted.field_name, wanted.field_schema)

    def upsert(self, request: web.Request, asked: Asked) -> Any:
        """`PUT /collections/{c}/points`, as a list of points or as a batch."""
        name = request.match_info["name"]
        if "batch" in asked.body:
            return self.client.upsert(name, _parse(models.Batch, asked.body["batch"]))
        return self.client.upsert(name, _parse(models.PointsList, asked.body).points)

    def points(self, request: web.Request, asked: Asked) -> Any:
        """`POST /collections/{c}/points`: points by id."""
        wanted: models.PointRequest = _parse(models.PointRequest, asked.body)
        payload = True if wanted.with_payload is None else wanted.with_payload
        return self.client.retrieve(request.match_info["name"], wanted.ids, payload, wanted.with_vector or False)

    def query(self, request: web.Request, asked: Asked) -> Any:
        """`POST /collections/{c}/points/query`."""
        wanted: models.QueryRequest = _parse(models.QueryRequest, asked.body)
        return self.client.query_points(
            request.match_info["name"],
            query=wanted.query,
            using=wanted.using,
            prefetch=wanted.prefetch,
            query_filter=wanted.filter,
            search_params=wanted.params,
            limit=wanted.limit or 10,
            offset=wanted.offset,
            with_payload=wanted.with_payload or False,
            with_vectors=wanted.with_vector or False,
            score_threshold=wanted.score_threshold,
        )

    def scroll(self, request: web.Request, asked: Asked) -> Any:
        """`POST /collections/{c}/points/scroll`."""
        wanted: models.ScrollRequest = _parse(models.ScrollRequest, asked.body)
        found, following = self.client.scroll(
            request.match_info["name"],
            scroll_filter=wanted.filter,
            limit=wanted.limit or 10,
            order_by=wanted.order_by,
            offset=wanted.offset,
            with_payload=True if wanted.with_payload is None else wanted.with_payload,
            with_vectors=wanted.with_vector or False,
        )
        return {"points": [_plain(point) for point in found], "next_page_offset": following}

    def count(self, request: web.Request, asked: Asked) -> Any:
        """`POST /collections/{c}/points/count`."""
        wanted: models.CountRequest = _parse(models.CountRequest, asked.body)
        return self.client.count(request.match_info["name"], count_filter=wanted.filter)

    def delete(self, request: web.Request, asked: Asked) -> Any:
        """`POST /collections/{c}/points/delete`, by ids or by filter."""
        selector = _parse(models.PointIdsList | models.FilterSelector, asked.body)
        return self.client.delete(request.match_info["name"], selector)


def _has_temp() -> bool:
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return False
    return True


def build(settings: Settings) -> web.Application:
    """The application."""
    server = Qdrant(settings)

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = server.allowed(request)
        return await handler(request) if refusal is None else refusal

    async def close(_: web.Application) -> None:
        server.client.close()

    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[guard])
    sign(app, NAME)
    add_control(app, server.board, only=NAME)
    app.on_cleanup.append(close)
    for path in OPEN_PATHS:
        app.router.add_get(path, server.open)
    app.router.add_get("/metrics", server.metrics)
    app.router.add_get("/collections", server.answers(server.collections))
    base = "/collections/{name}"
    for method in ("GET", "PUT", "DELETE"):
        app.router.add_route(method, base, server.answers(server.collection))
    for method, path, work in (
        ("GET", "/exists", server.exists),
        ("PUT", "/index", server.index),
        ("PUT", "/points", server.upsert),
        ("POST", "/points", server.points),
        ("POST", "/points/query", server.query),
        ("POST", "/points/scroll", server.scroll),
        ("POST", "/points/count", server.count),
        ("POST", "/points/delete", server.delete),
        ("GET", "/snapshots", server.snapshots.listing),
        ("POST", "/snapshots", server.snapshots.create),
        ("DELETE", "/snapshots/{snapshot}", server.snapshots.delete),
    ):
        app.router.add_route(method, base + path, server.answers(work))
    app.router.add_get(base + "/snapshots/{snapshot}", server.snapshots.download)
    app.router.add_post(base + "/snapshots/upload", server.snapshots.upload)
    return app
