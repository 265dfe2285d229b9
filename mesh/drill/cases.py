"""Every case of the walk: route x endpoint x fault. Pure; what each must come to is in promise.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mesh.spec.mesh import Mesh

RETRY_AFTER = 4
"""Seconds that a limited provider asks to wait; the gateway must go on to the next model instead."""
CUT_AFTER = 10
"""Tokens before a stream is cut."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One of the gateway's APIs, as a client uses it."""

    name: str
    path: str
    stream: bool = False


CHAT = (
    Endpoint("chat", "/v1/chat/completions"),
    Endpoint("chat stream", "/v1/chat/completions", stream=True),
    Endpoint("messages", "/v1/messages"),
    Endpoint("messages stream", "/v1/messages", stream=True),
    Endpoint("responses", "/v1/responses"),
)
EMBEDDING = (Endpoint("embeddings", "/v1/embeddings"),)


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong. double: the doubles' word for it; first: how many targets it strikes, from the first on (0: all)."""

    name: str
    double: str
    first: int = 1

    @property
    def hangs(self) -> bool:
        return self.double == "hang"


HEALTHY = Fault("none", "none")
FAULTS = (
    HEALTHY,
    Fault("refused", "refused"),
    Fault("500", "500"),
    Fault("401", "401"),
    Fault("429", "429"),
    Fault("429 retry-after", f"429:{RETRY_AFTER}"),
    Fault("hang", "hang"),
    Fault("context too long", "context"),
    Fault("content policy", "content_policy"),
    Fault("cut at once", "cut"),
    Fault("cut after ten", f"cut:{CUT_AFTER}"),
    Fault("all down", "refused", first=0),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One request of the walk."""

    id: str
    route: str
    endpoint: Endpoint
    fault: Fault

    def targets(self, mesh: Mesh) -> tuple[str, ...]:
        """The groups of the route's chain, in the order in which the gateway must try them."""
        return (self.route, *mesh.routes[self.route].chain[1:])

    def struck(self, mesh: Mesh) -> tuple[str, ...]:
        """The groups that fail."""
        targets = self.targets(mesh)
        return () if self.fault is HEALTHY else targets[: self.fault.first or None]

    def request(self, mesh: Mesh, key: str) -> dict[str, Any]:
        """The HTTP request, for mesh/drill/inside.py."""
        faults = "*=refused" if not self.fault.first else " ".join(f"{each}={self.fault.double}" for each in self.struck(mesh))
        text = f"[[drill {self.id}{' ' + faults if faults else ''}]] {WORDS}"
        return post(self.endpoint, self.route, text, key)


WORDS = "please say these words back to me so that a stream of them can break after ten and still have had more to say"


def body_of(endpoint: Endpoint, model: Any, text: str) -> dict[str, Any]:
    """The body that a client of that API sends."""
    if endpoint.path.endswith(("/embeddings", "/responses")):
        body: dict[str, Any] = {"model": model, "input": text}
    elif endpoint.path.endswith("/v1/completions"):
        body = {"model": model, "prompt": text, "max_tokens": 200}
    else:
        body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 200}
    return {**body, "stream": True} if endpoint.stream else body


def post(endpoint: Endpoint, model: Any, text: str, key: str) -> dict[str, Any]:
    return {
        "method": "POST",
        "path": endpoint.path,
        "headers": {"content-type": "application/json", "authorization": f"Bearer {key}"},
        "body": json.dumps(body_of(endpoint, model, text)),
    }


def endpoints(mesh: Mesh, route: str) -> tuple[Endpoint, ...]:
    return EMBEDDING if mesh.models[mesh.routes[route].to].kind == "embedding" else CHAT


def cases(mesh: Mesh) -> tuple[Case, ...]:
    """Every route, on every endpoint that serves it, under every fault; then each further target, with all before it refused."""
    return tuple(
        Case(f"{route}/{endpoint.name}/{fault.name}".replace(" ", "-"), route, endpoint, fault)
        for route in mesh.routes
        for endpoint in endpoints(mesh, route)
        for fault in _faults(mesh, route)
    )


def _faults(mesh: Mesh, route: str) -> Iterator[Fault]:
    yield from FAULTS
    for count in range(2, len(mesh.routes[route].chain)):
        yield Fault(f"first {count} refused", "refused", first=count)
