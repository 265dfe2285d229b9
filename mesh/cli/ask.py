"""`mesh ask ROUTE TEXT`: one request through the gateway with a client's key, and who answered at what cost."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesh.cli.output import harmless, note, style
from mesh.errors import EXIT_OK, MeshError
from mesh.inventory import Inventory, open_inventory

if TYPE_CHECKING:
    from mesh.spec.mesh import Mesh

_WORDS = 800
"""How many characters of the gateway's own words an error repeats."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    model: who answered, by the spec's name. tried: the models of the chain that failed before it, in order.
    cost_usd: by the gateway's account, or by the spec's prices; None when neither knows. seconds: as seen from here.
    """

    route: str
    client: str
    answer: str | list[float]
    model: str
    group: str
    tried: tuple[str, ...]
    tokens_in: int
    tokens_out: int
    cost_usd: float | None
    seconds: float


def run(folder: Path, *, route: str, text: str, client: str | None, timeout: float, as_json: bool) -> int:
    """Ask, print the answer on stdout and the account of it on stderr (or all of it as JSON on stdout)."""
    inventory = open_inventory(folder)
    mesh = inventory.mesh
    _known(route, mesh.routes, "route", inventory)
    who = _client_for(mesh, route, client, inventory)
    question = _read(text)
    url = _gateway_url(inventory)
    embedding = mesh.models[mesh.routes[route].to].kind == "embedding"
    path = "/v1/embeddings" if embedding else "/v1/chat/completions"
    body = (
        {"model": route, "input": question}
        if embedding
        else {"model": route, "messages": [{"role": "user", "content": question}]}
    )
    began = time.monotonic()
    headers, reply = _Call(mesh, url, route, who, timeout).post(path, body, inventory.secrets.value(mesh.client_key(who).name))
    answer = _understood(mesh, route, who, headers, reply, time.monotonic() - began)
    if as_json:
        print(json.dumps(asdict(answer), indent=2, ensure_ascii=False))
    else:
        print(_shown(answer.answer))
        _account(mesh, answer)
    return EXIT_OK


def _known(name: str, known: Any, what: str, inventory: Inventory) -> None:
    if name not in known:
        from mesh.suggest import Suggester

        mend = Suggester().mend(name, known, f"`{what}s:` in the spec lists them")
        raise MeshError(f"the spec has no {what} {name}", where=inventory.loaded.source.locate((f"{what}s",)), mend=mend)


def _client_for(mesh: Mesh, route: str, given: str | None, inventory: Inventory) -> str:
    """The client whose key is used: the one that was asked for, else laptop, else the first that has the route."""
    if given is not None:
        _known(given, mesh.clients, "client", inventory)
        return given
    may = [name for name, client in mesh.clients.items() if route in client.routes]
    if not may:
        where = inventory.loaded.source.locate(("clients",))
        raise MeshError(f"no client may use the route {route}", where=where, mend=f"add {route} to the routes of a client")
    return "laptop" if "laptop" in may else may[0]


def _read(text: str) -> str:
    try:
        question = sys.stdin.buffer.read().decode("utf-8") if text == "-" else text
    except UnicodeDecodeError:
        raise MeshError("stdin is not UTF-8 text", mend="mesh ask sends text only") from None
    if not question.strip():
        raise MeshError("there is nothing to ask", mend="mesh ask ROUTE TEXT, or pipe the text into mesh ask ROUTE -")
    return question


def _gateway_url(inventory: Inventory) -> str:
    from mesh.compile.gateway import expected_gateway

    gateway = expected_gateway(inventory.mesh, inventory.library.placements(inventory.mesh))
    if gateway is None:
        where = inventory.loaded.source.locate(("stacks",))
        raise MeshError("the mesh has no gateway", where=where, mend="declare it under `stacks:`: litellm: {on: HOST}")
    return gateway.url


@dataclass(frozen=True, slots=True)
class _Call:
    """One POST to the gateway, with every way in which it can fail put into words."""

    mesh: Mesh
    url: str
    route: str
    client: str
    timeout: float

    def post(self, path: str, body: dict[str, Any], key: str) -> tuple[dict[str, str], dict[str, Any]]:
        """The reply's headers (lower case) and its JSON."""
        from http.client import HTTPConnection, HTTPException
        from urllib.parse import urlsplit

        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=self.timeout)
        try:
            connection.request(
                "POST", path, json.dumps(body).encode(), {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            )
            response = connection.getresponse()
            content = response.read()
        except TimeoutError:
            mend = "a longer --timeout, or see what the models are doing: mesh drift"
            raise MeshError(f"the gateway did not answer within {self.timeout:g} s", where=self.url, mend=mend) from None
        except (OSError, HTTPException) as error:
            mend = "is it deployed and up? mesh drift says"
            raise MeshError(
                "the gateway cannot be reached", where=self.url, why=str(error) or type(error).__name__, mend=mend
            ) from None
        finally:
            connection.close()
        try:
            reply = json.loads(content)
        except ValueError:
            reply = None
        if response.status != 200 or not isinstance(reply, dict):
            raise self._refusal(response.status, reply, content)
        return {name.lower(): value for name, value in response.getheaders()}, reply

    def _refusal(self, status: int, reply: object, content: bytes) -> MeshError:
        """What the status means here, with the gateway's own words."""
        error = reply.get("error") if isinstance(reply, dict) else None
        words = str(error.get("message") if isinstance(error, dict) else error or content.decode("utf-8", "replace"))
        # LiteLLM ends with the advice to add a fallback, which for a private route is the one thing not to do.
        words = words.partition(" Add a fallbacks entry")[0]
        words = words if len(words) <= _WORDS else f"{words[:_WORDS]}..."
        words = "\n        ".join(line for line in words.splitlines() if line.strip())
        kind = str(error.get("type")) if isinstance(error, dict) else ""
        what, mend = f"the gateway answered {status}", "mesh drift says whether the gateway is as the spec says"
        if status == 401:
            what, mend = f"the gateway does not know the key of {self.client}", "mesh apply brings it the keys of this inventory"
        elif status == 403:
            routes = ", ".join(self.mesh.clients[self.client].routes)
            what = f"{self.client} may not use the route {self.route}"
            mend = f"its routes are {routes}; after a change of the spec: mesh apply"
        elif kind == "budget_exceeded":
            what, mend = (
                f"the budget of {self.client} is spent",
                "wait for the next period, or raise it in the spec and mesh apply",
            )
        elif status == 429 or status >= 500:
            chain = self.mesh.routes[self.route].chain
            what = f"no model of the route {self.route} answered ({status})"
            mend = f"tried: {', '.join(chain)}; mesh drift says what is down"
        return MeshError(what, where=self.url, why=words, mend=mend)


def _understood(mesh: Mesh, route: str, client: str, headers: dict[str, str], reply: dict[str, Any], seconds: float) -> Answer:
    """The reply in the spec's names. The gateway's group is the route when its first model answered, else the model."""
    chain = mesh.routes[route].chain
    group = headers.get("x-litellm-model-group", route)
    model = chain[0] if group == route else group
    tried = chain[: chain.index(model)] if model in chain else ()
    usage = reply.get("usage") or {}
    counts = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    try:
        answer = reply["data"][0]["embedding"] if "data" in reply else reply["choices"][0]["message"].get("content") or ""
    except (KeyError, IndexError, TypeError, AttributeError):
        raise MeshError("the gateway's answer has another form than expected", why=json.dumps(reply)[:_WORDS]) from None
    return Answer(route, client, answer, model, group, tried, *counts, _cost(mesh, model, headers, *counts), round(seconds, 3))


def _cost(mesh: Mesh, model: str, headers: dict[str, str], tokens_in: int, tokens_out: int) -> float | None:
    """US dollars. LiteLLM leaves the first header out when the answer was free, but not the second."""
    for name in ("x-litellm-response-cost", "x-litellm-response-cost-original"):
        if name in headers:
            return float(headers[name])
    if model not in mesh.models:
        return None
    price = mesh.models[model].price
    if price is None:
        return 0.0 if mesh.is_local(model) else None
    return (tokens_in * price.in_ + tokens_out * price.out) / 1e6


def _shown(answer: str | list[float]) -> str:
    if isinstance(answer, str):
        return harmless(answer)
    first = ", ".join(f"{number:.4f}" for number in answer[:6])
    return f"{len(answer)} dimensions: [{first}{', ...' if len(answer) > 6 else ''}]"


def _account(mesh: Mesh, answer: Answer) -> None:
    """Who answered and at what cost, on stderr."""
    at = f" at {mesh.models[answer.model].at}" if answer.model in mesh.models else ""
    cost = "unknown" if answer.cost_usd is None else f"{answer.cost_usd:.6f} USD" if answer.cost_usd else "nothing"
    lines = {
        "answered by": f"{answer.model}{at}",
        "fallbacks": f"{', '.join(answer.tried)} failed before" if answer.tried else "none",
        "tokens": f"{answer.tokens_in} in, {answer.tokens_out} out",
        "cost": cost,
        "time": f"{answer.seconds:.2f} s, as client {answer.client}",
    }
    for label, value in lines.items():
        note(f"{style(f'{label:<12}', 'dim', stream=sys.stderr)} {value}")
    if answer.model not in mesh.routes[answer.route].chain:
        note(f"the spec does not have {answer.model} in the route {answer.route}: mesh drift")
    if not answer.answer:
        note("the answer is empty")
