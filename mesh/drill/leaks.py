"""Every known way in which a prompt can leave the building, or a client can take what is not its own. Pure.

Each attempt is one request. What must come of it: no double that is not meant to sees anything, and the status is one of `want`.
The routes' own models are made to fail, so that whatever could go elsewhere would.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mesh.drill.cases import CHAT, EMBEDDING, WORDS, Endpoint, post
from mesh.drill.stage import Stage
from mesh.spec.mesh import Mesh

COMPLETIONS = Endpoint("completions", "/v1/completions")
COUNT = Endpoint("count_tokens", "/v1/messages/count_tokens")
CANARIES = {
    f"header {name}": f"drill-canary-7f3a-{name}"
    for name in ("anthropic-beta", "x-app", "cookie", "x-forwarded-for", "openai-organization", "x-goog-api-key", "referer")
}
"""Headers that a client sends, with values to recognise. No provider may see another's, nor one that is nobody's."""
REFUSED = range(400, 600)


@dataclass(frozen=True, slots=True)
class Leak:
    """One attempt. may_ask: groups whose doubles may see it; want: statuses of the answer."""

    id: str
    kind: str
    what: str
    request: Mapping[str, Any]
    may_ask: frozenset[str] = frozenset()
    want: range | frozenset[int] = REFUSED


@dataclass(frozen=True)
class _Sender:
    mesh: Mesh
    stage: Stage

    def key(self, client: str) -> str:
        return self.stage.secrets[self.mesh.client_key(client).name]

    def text(self, case: str) -> str:
        return f"[[drill {case} *=refused]] {WORDS}"


def leaks(mesh: Mesh, stage: Stage) -> tuple[Leak, ...]:
    """All attempts, numbered."""
    sender = _Sender(mesh, stage)
    makers = (_steering, _models, _paths, _counting, _foreign_routes, _keys, _headers)
    found: list[Leak] = []
    for maker in makers:
        for number, leak in enumerate(maker(sender)):
            case = f"leak/{maker.__name__.strip('_').replace('_', '-')}/{number}"
            body = leak.request["body"]
            request = {**leak.request, "body": body and body.replace("@CASE@", case)}
            found.append(Leak(case, leak.kind, leak.what, request, leak.may_ask, leak.want))
    return tuple(found)


def private_routes(mesh: Mesh) -> tuple[str, ...]:
    return tuple(name for name, route in mesh.routes.items() if route.privacy == "local")


def clients_of(mesh: Mesh, route: str) -> tuple[str, ...]:
    return tuple(name for name, client in mesh.clients.items() if route in client.routes)


def local_groups(mesh: Mesh, route: str) -> frozenset[str]:
    """The groups of a private route's own chain: the only ones that may see its prompt."""
    return frozenset({route, *mesh.routes[route].chain[1:]})


def _served(mesh: Mesh, route: str) -> tuple[Endpoint, ...]:
    return EMBEDDING if mesh.models[mesh.routes[route].to].kind == "embedding" else (*CHAT, COMPLETIONS)


def _clouds(sender: _Sender) -> tuple[str, ...]:
    """Names under which a cloud provider could be asked for: groups, raw ids, ids alone."""
    entries = [each for each in sender.stage.entries if not each.local]
    names = (
        [each.group for each in entries] + [f"{each.plays}/{each.model}" for each in entries] + [each.model for each in entries]
    )
    return tuple(dict.fromkeys(names))


def _one_client(mesh: Mesh, route: str) -> str | None:
    """A client with the route: one without any cloud route, if there is one."""
    may = clients_of(mesh, route)
    poor = [each for each in may if all(mesh.routes[name].privacy == "local" for name in mesh.clients[each].routes)]
    return next(iter((*poor, *may)), None)


def _steering(sender: _Sender) -> Iterator[Leak]:
    """Keys of the body that LiteLLM would follow to another place."""
    mesh, clouds = sender.mesh, _clouds(sender)
    cloud = clouds[0] if clouds else "openai/gpt-5"
    outside = "https://example.invalid/v1"
    for route in private_routes(mesh):
        client = _one_client(mesh, route)
        if client is None:
            continue
        bodies: tuple[dict[str, Any], ...] = (
            {"fallbacks": [cloud]},
            {"fallbacks": [{route: [cloud]}]},
            {"fallbacks": [{"model": cloud}]},
            {"context_window_fallbacks": [{route: [cloud]}]},
            {"content_policy_fallbacks": [{route: [cloud]}]},
            {"default_fallbacks": [cloud]},
            {"router_settings_override": {"fallbacks": [{route: [cloud]}]}},
            {"api_base": outside},
            {"base_url": outside},
            {"api_key": "sk-other"},
            {"models": [cloud]},
            {"model_list": [{"model_name": route, "litellm_params": {"model": cloud, "api_base": outside}}]},
            {"user_config": {"model_list": [{"model_name": route, "litellm_params": {"model": cloud}}]}},
            {"extra_body": {"fallbacks": [cloud]}},
            {"litellm_metadata": {"fallbacks": [cloud]}, "metadata": {"fallbacks": [cloud]}},
            {"mock_testing_fallbacks": True, "fallbacks": [cloud]},
            {"custom_llm_provider": "deepseek"},
            {"litellm_params": {"model": cloud, "api_base": outside}},
        )
        for endpoint in _served(mesh, route):
            for more in bodies:
                request = post(endpoint, route, sender.text("@CASE@"), sender.key(client))
                body = {**json.loads(request["body"]), **more}
                what = f"{client} asks {route} on {endpoint.name} with {', '.join(more)} in the body"
                yield Leak("", "steering", what, {**request, "body": json.dumps(body)}, local_groups(mesh, route))


def _models(sender: _Sender) -> Iterator[Leak]:
    """Names that are no route: lists, raw ids, groups that only fallbacks may reach."""
    mesh = sender.mesh
    for client, declared in mesh.clients.items():
        private = [each for each in declared.routes if mesh.routes[each].privacy == "local"]
        own = private[0] if private else declared.routes[0]
        names: list[Any] = [each for each in _clouds(sender) if each not in declared.routes]
        names += [f"{own},{each}" for each in names[:2]] + [f"{names[0]},{own}" for _ in names[:1]]
        names += [[own, *names[:1]], {"model": own}, "*", "", "openai/*", f"{own} ", own.upper() + "\n"]
        for name in names:
            for endpoint in (CHAT[0], CHAT[2], CHAT[4]):
                request = post(endpoint, name, sender.text("@CASE@"), sender.key(client))
                yield Leak("", "model name", f"{client} asks {name!r} on {endpoint.name}", request)


PASS_THROUGH = (
    ("POST", "/anthropic/v1/messages"),
    ("GET", "/anthropic/v1/models"),
    ("POST", "/openai/deployments/{cloud}/chat/completions"),
    ("POST", "/engines/{cloud}/chat/completions"),
    ("POST", "/openai/v1/chat/completions"),
    ("POST", "/vertex_ai/v1/projects/x/locations/y/publishers/google/models/z:generateContent"),
    ("POST", "/gemini/v1beta/models/z:generateContent"),
    ("POST", "/bedrock/model/z/converse"),
    ("POST", "/cohere/v1/chat"),
    ("POST", "/v1/batches"),
    ("POST", "/v1/files"),
    ("POST", "/v1/rerank"),
    ("POST", "/v1/images/generations"),
    ("POST", "/v1/audio/speech"),
    ("POST", "/v1/moderations"),
    ("POST", "/utils/transform_request"),
    ("POST", "/health/test_connection"),
    ("POST", "/model/new"),
    ("POST", "/config/update"),
    ("POST", "/key/generate"),
    ("GET", "/v1/model/info"),
    ("GET", "/model/info"),
    ("GET", "/health"),
    ("GET", "/get/config/callbacks"),
    ("POST", "/mcp-rest/tools/call"),
    ("POST", "//v1/chat/completions"),
    ("POST", "/v1/chat/completions/../../anthropic/v1/messages"),
)
"""Paths of LiteLLM that go to a provider, change the gateway, or tell where things are."""


def _paths(sender: _Sender) -> Iterator[Leak]:
    mesh = sender.mesh
    clouds = _clouds(sender)
    cloud = clouds[0] if clouds else "deepseek"
    for client in mesh.clients:
        for method, path in PASS_THROUGH:
            model = private_routes(mesh)[0] if private_routes(mesh) else cloud
            request = post(CHAT[0], model, sender.text("@CASE@"), sender.key(client))
            request |= {"method": method, "path": path.format(cloud=cloud), "body": request["body"] if method == "POST" else None}
            yield Leak("", "path", f"{client}: {method} {path}", request)


def _counting(sender: _Sender) -> Iterator[Leak]:
    """Counting tokens: the gateway does it itself, so nobody at all sees the prompt. LiteLLM would ask Anthropic."""
    mesh = sender.mesh
    for client, declared in mesh.clients.items():
        for route in mesh.routes:
            request = post(COUNT, route, sender.text("@CASE@"), sender.key(client))
            want = frozenset({200 if route in declared.routes else 403})
            yield Leak("", "counting", f"{client} has the tokens of a prompt for {route} counted", request, want=want)


def _foreign_routes(sender: _Sender) -> Iterator[Leak]:
    """Every client on every route that is not its own."""
    mesh = sender.mesh
    for client, declared in mesh.clients.items():
        for route in mesh.routes:
            if route not in declared.routes:
                for endpoint in _served(mesh, route):
                    request = post(endpoint, route, f"[[drill @CASE@]] {WORDS}", sender.key(client))
                    what = f"{client} asks {route} on {endpoint.name}, which is not its own"
                    yield Leak("", "foreign route", what, request, want=frozenset({403}))


def _keys(sender: _Sender) -> Iterator[Leak]:
    mesh = sender.mesh
    route = next(iter(mesh.routes))
    for key in ("", "wrong", "sk-1234", "Bearer", "sk-drill-" + "0" * 32, "ключ"):
        for endpoint in _served(mesh, route):
            request = post(endpoint, route, f"[[drill @CASE@]] {WORDS}", key)
            yield Leak("", "key", f"the key {key!r} on {endpoint.name}", request, want=frozenset({400, 401, 403}))


def _headers(sender: _Sender) -> Iterator[Leak]:
    """Headers of the client on routes that it may use: the answer is an ordinary one, and no provider sees them."""
    mesh = sender.mesh
    for route in mesh.routes:
        for client in clients_of(mesh, route)[:1]:
            for endpoint in _served(mesh, route):
                request = post(endpoint, route, f"[[drill @CASE@]] {WORDS}", sender.key(client))
                headers = {**request["headers"], **{name.removeprefix("header "): value for name, value in CANARIES.items()}}
                groups = local_groups(mesh, route)
                what = f"{client} asks {route} on {endpoint.name} with headers of its own"
                yield Leak("", "headers", what, {**request, "headers": headers}, groups, frozenset({200}))
