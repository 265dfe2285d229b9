"""The double of Qdrant: the real client works against it, keys are asked for, data outlives a restart."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

pytest.importorskip("qdrant_client")
from qdrant_client import QdrantClient, models

from mesh.doubles.qdrant import Settings, build

Client = TestClient[Any, Any]
KEY = {"api-key": "write"}


def settings(folder: Path) -> Settings:
    return Settings(folder / "storage", folder / "snapshots", api_key="write", read_only_key="read")


def run(folder: Path, scenario: Callable[[Client], Awaitable[None]]) -> None:
    async def go() -> None:
        async with TestClient(TestServer(build(settings(folder)))) as client:
            await scenario(client)

    asyncio.run(go())


async def fill(client: Client) -> None:
    body: dict[str, Any] = {"vectors": {"size": 3, "distance": "Cosine"}}
    assert (await client.put("/collections/notes", json=body, headers=KEY)).status == 200
    points = [{"id": n, "vector": [1.0, n, 0.0], "payload": {"tenant": f"t{n % 2}", "n": n}} for n in range(4)]
    assert (await client.put("/collections/notes/points?wait=true", json={"points": points}, headers=KEY)).status == 200


async def count(client: Client) -> int:
    response = await client.post("/collections/notes/points/count", json={"exact": True}, headers=KEY)
    found: int = (await response.json())["result"]["count"]
    return found


def test_it_says_that_it_is_a_double(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        response = await client.get("/")
        assert "test double" in (await response.json())["title"]
        assert response.headers["x-double"] == "qdrant"

    run(tmp_path, scenario)


def test_health_needs_no_key_and_data_does(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        for path in ("/healthz", "/livez", "/readyz"):
            assert (await client.get(path)).status == 200
        assert await (await client.get("/readyz")).text() == "all shards are ready"
        for path in ("/collections", "/metrics"):
            assert (await client.get(path)).status == 401
            assert (await client.get(path, headers={"api-key": "wrong"})).status == 401
            assert (await client.get(path, headers=KEY)).status == 200
            assert (await client.get(path, headers={"authorization": "Bearer write"})).status == 200

    run(tmp_path, scenario)


def test_the_read_only_key_reads_and_does_not_write(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        await fill(client)
        read = {"api-key": "read"}
        assert (await client.post("/collections/notes/points/scroll", json={}, headers=read)).status == 200
        for method, path in (
            ("PUT", "/collections/notes/points"),
            ("POST", "/collections/notes/points/delete"),
            ("DELETE", "/collections/notes"),
            ("POST", "/collections/notes/snapshots"),
        ):
            assert (await client.request(method, path, json={"points": [1]}, headers=read)).status == 403, path
        assert await count(client) == 4

    run(tmp_path, scenario)


def test_query_scroll_and_delete_honour_filters(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        await fill(client)
        odd = {"must": [{"key": "tenant", "match": {"value": "t1"}}]}
        query = {"query": [1.0, 3.0, 0.0], "filter": odd, "limit": 5, "with_payload": True}
        response = await client.post("/collections/notes/points/query", json=query, headers=KEY)
        found = (await response.json())["result"]["points"]
        assert [point["id"] for point in found] == [3, 1]
        assert found[0]["payload"]["tenant"] == "t1"
        response = await client.post("/collections/notes/points/scroll", json={"limit": 3}, headers=KEY)
        page = (await response.json())["result"]
        assert (len(page["points"]), page["next_page_offset"]) == (3, 3)
        await client.post("/collections/notes/points/delete", json={"filter": odd}, headers=KEY)
        await client.post("/collections/notes/points/delete", json={"points": [0]}, headers=KEY)
        assert await count(client) == 1

    run(tmp_path, scenario)


def test_errors_have_qdrants_statuses(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        await fill(client)
        again = {"vectors": {"size": 3, "distance": "Cosine"}}
        assert (await client.get("/collections/nothing", headers=KEY)).status == 404
        assert (await client.put("/collections/notes", json=again, headers=KEY)).status == 409
        assert (await client.put("/collections/bad", json={"vectors": {"size": 3}}, headers=KEY)).status == 400
        wrong = {"points": [{"id": 9, "vector": [1.0, 2.0], "payload": {}}]}
        assert (await client.put("/collections/notes/points", json=wrong, headers=KEY)).status == 400
        exists = await (await client.get("/collections/nothing/exists", headers=KEY)).json()
        assert exists["result"] == {"exists": False}

    run(tmp_path, scenario)


def test_data_outlives_a_restart(tmp_path: Path) -> None:
    async def second(client: Client) -> None:
        assert await count(client) == 4

    run(tmp_path, fill)
    run(tmp_path, second)


def test_a_snapshot_brings_back_a_collection_that_was_lost(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        await fill(client)
        made = (await (await client.post("/collections/notes/snapshots", headers=KEY)).json())["result"]
        listed = (await (await client.get("/collections/notes/snapshots", headers=KEY)).json())["result"]
        assert [item["name"] for item in listed] == [made["name"]]
        content = await (await client.get(f"/collections/notes/snapshots/{made['name']}", headers=KEY)).read()
        assert len(content) == made["size"]
        await client.delete("/collections/notes", headers=KEY)
        form = aiohttp.FormData()
        form.add_field("snapshot", content, filename="x.snapshot")
        assert (await client.post("/collections/notes/snapshots/upload", data=form, headers=KEY)).status == 200
        assert await count(client) == 4
        assert (await client.delete(f"/collections/notes/snapshots/{made['name']}", headers=KEY)).status == 200
        assert (await client.get(f"/collections/notes/snapshots/{made['name']}", headers=KEY)).status == 404

    run(tmp_path, scenario)


def test_a_file_outside_the_snapshots_folder_cannot_be_fetched(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        (tmp_path / "secret").write_text("x")
        for name in ("..%2f..%2fsecret", "..%2fsecret", "%2e%2e"):
            response = await client.get(f"/collections/notes/snapshots/{name}", headers=KEY)
            assert response.status in (400, 404), name

    run(tmp_path, scenario)


def test_a_fault_strikes_and_changes_nothing(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        await fill(client)
        await client.post("/_double/fault", json={"fault": "500", "times": 1})
        body = {"points": [1]}
        assert (await client.post("/collections/notes/points/delete", json=body, headers=KEY)).status == 500
        assert await count(client) == 4
        assert (await client.get("/readyz")).status == 200

    run(tmp_path, scenario)


@pytest.mark.filterwarnings("ignore:Api key is used")
def test_the_real_client_works_against_it(tmp_path: Path) -> None:
    def use(port: int) -> None:
        real = QdrantClient(url=f"http://127.0.0.1:{port}", api_key="write", check_compatibility=False)
        real.create_collection("c", models.VectorParams(size=2, distance=models.Distance.COSINE, on_disk=False))
        real.create_payload_index("c", "tenant_id", models.PayloadSchemaType.KEYWORD)
        real.upload_points("c", [models.PointStruct(id=n, vector=[1.0, float(n)], payload={"n": n}) for n in range(3)])
        assert real.query_points("c", query=[0.0, 1.0], limit=1).points[0].payload == {"n": 2}
        assert [point.id for point in real.scroll("c", limit=10)[0]] == [0, 1, 2]
        assert [point.id for point in real.retrieve("c", [1])] == [1]
        assert real.collection_exists("c")
        info = real.get_collection("c")
        assert info.points_count == 3
        real.delete("c", models.PointIdsList(points=[1]))
        assert real.count("c").count == 2
        assert [item.name for item in real.get_collections().collections] == ["c"]
        assert real.create_snapshot("c") is not None
        real.delete_collection("c")
        real.close()

    async def scenario(client: Client) -> None:
        await asyncio.to_thread(use, client.port)

    run(tmp_path, scenario)
