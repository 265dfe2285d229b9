"""Collection snapshots of the Qdrant double: a JSON file with the collection's settings and points.

The paths and answers are the real ones, the file format is not: such a snapshot can be restored into this double only.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from qdrant_client import QdrantClient, models

from mesh.doubles import BANNER
from mesh.doubles.control import Asked

PAGE = 1000  # points read at once


class Snapshots:
    """The snapshots folder, one folder a collection."""

    def __init__(self, client: QdrantClient, folder: Path) -> None:
        self._client = client
        self._folder = folder

    def _file(self, request: web.Request) -> Path:
        collection, name = request.match_info["name"], request.match_info["snapshot"]
        path = self._folder / collection / name
        if path.parent.parent != self._folder or ".." in (collection, name) or not path.is_file():
            raise KeyError(f"Snapshot {name}")
        return path

    def create(self, request: web.Request, _: Asked) -> dict[str, Any]:
        """`POST /collections/{c}/snapshots`."""
        name = request.match_info["name"]
        config = self._client.get_collection(name).config.params
        points: list[Any] = []
        following: Any = None
        while True:
            page, following = self._client.scroll(name, limit=PAGE, offset=following, with_vectors=True)
            points += [{"id": item.id, "vector": item.vector, "payload": item.payload} for item in page]
            if following is None:
                break
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        stamp = datetime.now(UTC).strftime("%Y-%m-%d-%H-%M-%S-%f")
        path = folder / f"{name}-0-{stamp}.snapshot"
        content = {"double": BANNER, "config": config.model_dump(mode="json", exclude_none=True), "points": points}
        path.write_text(json.dumps(content))
        return _describe(path)

    def listing(self, request: web.Request, _: Asked) -> list[dict[str, Any]]:
        """`GET /collections/{c}/snapshots`."""
        name = request.match_info["name"]
        self._client.get_collection(name)
        return [_describe(path) for path in sorted((self._folder / name).glob("*.snapshot"))]

    def delete(self, request: web.Request, _: Asked) -> bool:
        """`DELETE /collections/{c}/snapshots/{s}`."""
        self._file(request).unlink()
        return True

    async def download(self, request: web.Request) -> web.StreamResponse:
        """`GET /collections/{c}/snapshots/{s}`: the file itself."""
        try:
            return web.FileResponse(self._file(request))
        except KeyError as error:
            return web.json_response({"status": {"error": f"Not found: {error.args[0]}"}, "time": 0.0}, status=404)

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """`POST /collections/{c}/snapshots/upload`: multipart field `snapshot`; replaces the collection."""
        field = (await request.post()).get("snapshot")
        try:
            raw = field.file.read() if isinstance(field, web.FileField) else b""
            content = json.loads(raw)
            params = models.CollectionParams(**content["config"])
            points = [models.PointStruct(**point) for point in content["points"]]
        except (ValueError, KeyError, TypeError):
            text = "Bad request: this is no snapshot of the homelab-mesh double"
            return web.json_response({"status": {"error": text}, "time": 0.0}, status=400)
        name = request.match_info["name"]
        if self._client.collection_exists(name):
            self._client.delete_collection(name)
        self._client.create_collection(name, params.vectors, sparse_vectors_config=params.sparse_vectors)
        if points:
            self._client.upsert(name, points)
        return web.json_response({"result": True, "status": "ok", "time": 0.0})


def _describe(path: Path) -> dict[str, Any]:
    made = datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"name": path.name, "creation_time": made, "size": path.stat().st_size, "checksum": checksum}
