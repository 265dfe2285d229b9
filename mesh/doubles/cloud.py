"""The cloud model APIs on one port: `/deepseek`, `/moonshot`, `/groq`, `/anthropic`, and any other `/<name>`."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

from aiohttp import web

from mesh.doubles import BANNER, anthropic_api, openai_api
from mesh.doubles.control import MAX_BODY_BYTES, Asked, Board, add_control
from mesh.doubles.prefix_cache import Block, PrefixCache, block
from mesh.doubles.serve import sign
from mesh.doubles.text import flat, words
from mesh.doubles.wire import Dialect, Reply, deliver

PROVIDERS = ("deepseek", "moonshot", "groq", "anthropic")
MODELS = {
    "deepseek": ("deepseek-chat", "deepseek-reasoner", "deepseek-flash", "deepseek-v4-pro"),
    "moonshot": ("kimi-k2-0905-preview", "kimi-k2.6", "kimi-k3"),
    "groq": ("llama-3.3-70b-versatile", "openai/gpt-oss-120b", "openai/gpt-oss-20b"),
    "anthropic": ("claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-5-5"),
}
NO_SUCH = "no-such"  # a model whose name contains this does not exist


class Cloud:
    """All providers of one double: their faults, calls and prompt caches."""

    def __init__(self, board: Board | None = None) -> None:
        self.board = board or Board()
        self.cache = PrefixCache()

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """`chat/completions`."""
        asked = await self._asked(request)
        refusal = _refusal(request, asked)
        if refusal is not None:
            return refusal
        label = f"{asked.provider}:{asked.body.get('model')}"
        reply = openai_api.chat(label, asked.body, self._usage(request, asked), _extra(asked))
        return await deliver(request, asked.fault, reply, openai_api.dialect(asked.provider))

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        """`embeddings`."""
        asked = await self._asked(request)
        refusal = _refusal(request, asked)
        if refusal is not None:
            return refusal
        return await deliver(request, asked.fault, openai_api.embeddings(asked.body), openai_api.dialect(asked.provider))

    async def models(self, request: web.Request) -> web.StreamResponse:
        """`models`."""
        asked = await self._asked(request)
        if not _key(request) and asked.fault.kind == "none":
            return web.json_response(_dialect(request, asked).error("401")[1], status=401)
        reply = Reply(openai_api.models(MODELS.get(asked.provider, ()), asked.provider))
        return await deliver(request, asked.fault, reply, _dialect(request, asked))

    async def messages(self, request: web.Request) -> web.StreamResponse:
        """Anthropic's `v1/messages`, also DeepSeek's `anthropic/v1/messages`."""
        asked = await self._asked(request)
        refusal = _refusal(request, asked)
        if refusal is not None:
            return refusal
        label = f"{asked.provider}:{asked.body.get('model')}"
        if asked.fault.kind != "none":  # a request that fails leaves nothing in the provider's prompt cache
            reply = anthropic_api.messages(label, asked.body, PrefixCache(), "", time.time())
        else:
            reply = anthropic_api.messages(label, asked.body, self.cache, _scope(request, asked), time.time())
        return await deliver(request, asked.fault, reply, anthropic_api.DIALECT)

    async def count_tokens(self, request: web.Request) -> web.StreamResponse:
        """Anthropic's `v1/messages/count_tokens`."""
        asked = await self._asked(request)
        refusal = _refusal(request, asked)
        if refusal is not None:
            return refusal
        return await deliver(request, asked.fault, Reply(anthropic_api.count_tokens(asked.body)), anthropic_api.DIALECT)

    async def unknown(self, request: web.Request) -> web.Response:
        """Any other path below a provider: remembered, then 404, as the providers do."""
        await self.board.ask(request, request.match_info["provider"], work=False)
        return web.json_response({"error": {"message": f"double: no such path {request.path}"}}, status=404)

    async def _asked(self, request: web.Request) -> Asked:
        return await self.board.ask(request, request.match_info["provider"])

    def _usage(self, request: web.Request, asked: Asked) -> dict[str, Any]:
        """DeepSeek caches every prefix by itself and says so in its own two fields."""
        if asked.provider != "deepseek" or asked.fault.kind != "none":
            return {}
        use = self.cache.observe(_scope(request, asked), _automatic(asked.body), time.time())
        written = use.fresh + use.written_5m + use.written_1h
        return {"prompt_cache_hit_tokens": use.read, "prompt_cache_miss_tokens": written}


def _key(request: web.Request) -> str:
    return request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ").strip()


def _anthropic_style(request: web.Request) -> bool:
    return "/v1/messages" in request.path or "anthropic-version" in request.headers


def _dialect(request: web.Request, asked: Asked) -> Dialect:
    return anthropic_api.DIALECT if _anthropic_style(request) else openai_api.dialect(asked.provider)


def _refusal(request: web.Request, asked: Asked) -> web.Response | None:
    """What a healthy provider refuses: no key, no JSON object, a model that is not there. A fault goes first."""
    wrong = _wrong(request, asked) if asked.fault.kind == "none" else None
    return None if wrong is None else web.json_response(wrong[1], status=wrong[0])


def _wrong(request: web.Request, asked: Asked) -> tuple[int, dict[str, Any]] | None:
    if not _key(request):
        return _dialect(request, asked).error("401")
    anthropic = _anthropic_style(request)
    model = str(asked.body.get("model") or "")
    text = None if model else "the body must be a JSON object with a model"
    if anthropic and not text:
        text = anthropic_api.complaint(asked.body, {name.lower(): value for name, value in request.headers.items()})
    if text:
        plain = {"error": {"message": text, "type": "invalid_request_error", "param": None, "code": None}}
        return 400, anthropic_api.failure(400, text) if anthropic else plain
    if NO_SUCH in model:
        return (404, anthropic_api.failure(404, f"model: {model}")) if anthropic else openai_api.not_found(model)
    return None


def _scope(request: web.Request, asked: Asked) -> str:
    key = hashlib.sha256(_key(request).encode()).hexdigest()
    return f"{asked.provider} {asked.body.get('model')} {key}"


def _automatic(body: dict[str, Any]) -> list[Block]:
    """Every message is a cache boundary, as with DeepSeek's automatic caching."""
    found = [message for message in body.get("messages") or [] if isinstance(message, dict)]
    return [Block(block(message).payload, words(flat(message.get("content"))), "1h") for message in found]


def _extra(asked: Asked) -> dict[str, Any]:
    if asked.provider == "groq":  # LiteLLM fails on a Groq answer without service_tier
        return {"service_tier": "on_demand", "x_groq": {"id": "req_double"}}
    return {"system_fingerprint": "fp_double"}


async def _root(_: web.Request) -> web.Response:
    text = f"{BANNER} of cloud model APIs: NOT a real provider, no model answers here.\n"
    return web.Response(text=text + "".join(f"/{name}\n" for name in PROVIDERS) + json.dumps({"control": "/_double/calls"}))


def build(board: Board | None = None) -> web.Application:
    """The application; providers need no registration, every first path segment is one."""
    cloud = Cloud(board)
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    sign(app, "cloud")
    add_control(app, cloud.board, on_reset=cloud.cache.clear)
    app.router.add_get("/", _root)
    for base in ("/{provider}", "/{provider}/v1", "/{provider}/openai/v1", "/{provider}/beta"):
        app.router.add_post(f"{base}/chat/completions", cloud.chat)
        app.router.add_post(f"{base}/embeddings", cloud.embeddings)
        app.router.add_get(f"{base}/models", cloud.models)
    for base in ("/{provider}/v1", "/{provider}/anthropic/v1"):
        app.router.add_post(f"{base}/messages", cloud.messages)
        app.router.add_post(f"{base}/messages/count_tokens", cloud.count_tokens)
    app.router.add_route("*", "/{provider}/{rest:.*}", cloud.unknown)
    return app
