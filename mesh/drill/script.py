"""The script of one drill: what mesh/drill/inside.py plays. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesh.compile.gateway import MASTER_KEY
from mesh.drill.cases import HEALTHY, Case
from mesh.drill.leaks import CANARIES, Leak
from mesh.drill.promise import promise
from mesh.drill.stage import Stage
from mesh.spec.mesh import Mesh

ABREAST = 6
"""Requests at a time, those that wait for a hanging provider aside. Two cores answer no faster with more."""
APART = 0.5
"""Seconds between two requests that wait for a hanging provider: forty timeouts at one moment would stall the gateway."""
START = 150.0
"""Seconds that the gateway may take to start on a small machine."""
SETTLE = 0.05
"""Seconds after an answer before its calls are counted: one that comes later is a retry nobody waits for."""
MASTER = MASTER_KEY.name
"""Its bearer may use every route, without a budget: the walk is about routes. The leaks are tried with the clients' keys."""
LISTING = "listing"
"""Id of the request by which the gateway tells its groups and their fallbacks."""
LEAK_LIMIT = 30.0
"""Seconds until an attempt of a leak is given up."""
PATIENCE = 10.0
"""Seconds beyond the promise until a request is given up."""


def script(
    mesh: Mesh, stage: Stage, cases: Iterable[Case], leaks: Iterable[Leak], *, gateway: str, host: str, ready: str
) -> dict[str, Any]:
    """gateway: its base URL as the driver sees it; host: the address on which the doubles listen."""
    master = stage.secrets[MASTER]
    requests = []
    for case in cases:
        limit = promise(mesh, case, stage.shown).at_most + PATIENCE
        requests.append(
            {
                "id": case.id,
                **case.request(mesh, master),
                "limit": limit,
                "waits": case.fault.hangs,
                "first": case.fault is HEALTHY,
            }
        )
    requests.sort(key=lambda each: not each["waits"])
    requests += [{"id": leak.id, **leak.request, "limit": LEAK_LIMIT, "waits": False, "first": False} for leak in leaks]
    requests.append(
        {"id": LISTING, "method": "GET", "path": "/v1/models?include_metadata=true", "body": None}
        | {"headers": {"authorization": f"Bearer {master}"}, "limit": LEAK_LIMIT, "waits": False, "first": False, "keep": 10**6}
    )
    return {
        "gateway": gateway,
        "ready": ready,
        "start": START,
        "host": host,
        "abreast": ABREAST,
        "apart": APART,
        "settle": SETTLE,
        "known": {**stage.secrets, **CANARIES},
        "parts": [{"group": each.group, "plays": each.plays, "model": each.model, "port": each.port} for each in stage.entries],
        "requests": requests,
    }
