"""The Ollama server's HTTP API, without a model behind it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from mesh.doubles import BANNER, openai_api
from mesh.doubles.control import MAX_BODY_BYTES, Asked, Board, add_control
from mesh.doubles.ollama_models import look_up
from mesh.doubles.ollama_state import NO_SUCH, VERSION, Loaded, Memory, Settings, Store
from mesh.doubles.serve import sign
from mesh.doubles.text import Answer, answer, embed, flat, words
from mesh.doubles.wire import Dialect, Frame, Reply, deliver, ndjson, reset

NAME = "ollama"
FOR_EVER = "2318-09-03T00:00:00Z"  # what the real server shows for a negative keep_alive, roughly
PULL_STEPS = 10
TOKENS_PER_S = 100  # pretended, as is everything below
SPILLED_TOKENS_PER_S = 4
PROMPT_TOKENS_PER_S = 1000
LOAD_S = 1.5
NDJSON = "application/x-ndjson"


def _error(kind: str) -> tuple[int, dict[str, Any]]:
    texts = {
        "context": (400, "the input length exceeds the context length"),
        "content_policy": (400, "double: content policy (Ollama itself has none)"),
        "429": (503, "server busy, please try again.  maximum pending requests exceeded"),
        "401": (401, "unauthorized"),
        "500": (500, "llama runner process has terminated: exit status 2"),
    }
    status, text = texts.get(kind, (int(kind) if kind.isdigit() else 500, f"double: {kind}"))
    return status, {"error": text}


DIALECT = Dialect(error=_error, frame=ndjson)


def _stamp() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _number(seconds: float) -> int:
    return int(seconds * 1e9)


class Ollama:
    """One server: its store of pulled models, its pretended memory, its faults."""

    def __init__(self, settings: Settings, board: Board | None = None) -> None:
        self.board = board or Board()
        self.settings = settings
        self.store = Store(settings.models_dir)
        self.memory = Memory(settings)

    async def plain(self, request: web.Request) -> web.StreamResponse:
        """`GET /`, `/api/version`, `/api/tags`, `/api/ps`, `/v1/models`: what answers even when the work fails."""
        asked = await self.board.ask(request, NAME, work=False)
        if asked.fault.kind == "refused":
            return reset(request)
        if request.path == "/api/version":
            return web.json_response({"version": VERSION, "double": BANNER})
        if request.path == "/api/tags":
            return web.json_response({"models": self.store.listing()})
        if request.path == "/api/ps":
            return web.json_response({"models": self._running()})
        if request.path == "/v1/models":
            return web.json_response(openai_api.models((item["name"] for item in self.store.listing()), "library"))
        return web.Response(text=f"Ollama is running\n({BANNER}: NOT the real Ollama, no model answers here)\n")

    async def show(self, request: web.Request) -> web.StreamResponse:
        """`POST /api/show`."""
        asked = await self.board.ask(request, NAME, work=False)
        if asked.fault.kind == "refused":
            return reset(request)
        name, wrong = self._model(asked)
        if wrong is not None:
            return wrong
        model = look_up(name)
        return web.json_response(
            {
                "license": f"{BANNER}: no model, no licence",
                "modelfile": f"# {BANNER}\nFROM {name}",
                "parameters": "",
                "template": "{{ .Prompt }}",
                "details": model.details(),
                "model_info": model.info(),
                "capabilities": ["embedding"] if model.embedding else ["completion", "tools"],
                "modified_at": _stamp(),
            }
        )

    async def pull(self, request: web.Request) -> web.StreamResponse:
        """`POST /api/pull`: progress as NDJSON; a tag that does not exist is an `error` key inside the 200 stream."""
        asked = await self.board.ask(request, NAME)
        name = str(asked.body.get("model") or asked.body.get("name") or "")
        if not name:
            return web.json_response({"error": "model is required"}, status=400)
        failed = {"error": "pull model manifest: file does not exist"}
        if asked.body.get("stream", True) is not False:
            pause = 0.0 if name in self.store else self.settings.pull_seconds / PULL_STEPS
            reply = Reply({}, self._pull(name, failed), NDJSON, pause)
        else:
            if NO_SUCH in name and asked.fault.kind == "none":
                return web.json_response(failed, status=500)
            if asked.fault.kind == "none":
                self.store.add(name)
            reply = Reply({"status": "success"})
        return await deliver(request, asked.fault, reply, DIALECT)

    def _pull(self, name: str, failed: dict[str, Any]) -> Iterator[Frame]:
        yield Frame(ndjson({"status": "pulling manifest"}))
        if NO_SUCH in name:
            yield Frame(ndjson(failed))
            return
        model = look_up(name)
        digest, total = f"sha256:{model.digest}", model.blob_bytes
        first = PULL_STEPS if name in self.store else 1
        for step in range(first, PULL_STEPS + 1):
            progress = {"digest": digest, "total": total, "completed": total * step // PULL_STEPS}
            yield Frame(ndjson({"status": f"pulling {model.digest[:12]}", **progress}), token=True)
        yield Frame(ndjson({"status": "verifying sha256 digest"}))
        yield Frame(ndjson({"status": "writing manifest"}))
        self.store.add(name)
        yield Frame(ndjson({"status": "success"}))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """`DELETE /api/delete`."""
        asked = await self.board.ask(request, NAME, work=False)
        if asked.fault.kind == "refused":
            return reset(request)
        name, wrong = self._model(asked)
        if wrong is not None:
            return wrong
        self.store.remove(name)
        self.memory.unload(name)
        return web.Response()

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """`POST /api/chat` and `POST /api/generate`."""
        asked = await self.board.ask(request, NAME)
        name, wrong = self._model(asked)
        generate = request.path == "/api/generate"
        if wrong is None and look_up(name).embedding:
            verb = "generate" if generate else "chat"
            wrong = web.json_response({"error": f'"{name}" does not support {verb}'}, status=400)
        if wrong is not None and asked.fault.kind == "none":
            return wrong
        body = asked.body
        messages = [{"role": "user", "content": body.get("prompt")}] if generate else body.get("messages")
        options = body.get("options") or {}
        try:
            loaded, fresh = self._memory(asked).use(name, options.get("num_ctx"), body.get("keep_alive"), time.time())
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        if not messages or (generate and not body.get("prompt")):
            reason = "unload" if loaded.keep_alive_s == 0 else "load"
            empty = {"response": ""} if generate else {"message": {"role": "assistant", "content": ""}}
            done = {"model": name, "created_at": _stamp(), **empty, "done": True, "done_reason": reason}
            return await deliver(request, asked.fault, Reply(done), DIALECT)
        tools = [tool["function"]["name"] for tool in body.get("tools") or [] if isinstance(tool.get("function"), dict)]
        stream = body.get("stream", True) is not False
        said = answer(f"ollama:{name}", messages, tools, options.get("num_predict"))
        return await deliver(
            request, asked.fault, _say(name, said, loaded, fresh=fresh, generate=generate, stream=stream), DIALECT
        )

    async def embed(self, request: web.Request) -> web.StreamResponse:
        """`POST /api/embed`, and `POST /api/embeddings`, its older form."""
        asked = await self.board.ask(request, NAME)
        name, wrong = self._model(asked)
        if wrong is not None and asked.fault.kind == "none":
            return wrong
        old = request.path == "/api/embeddings"
        texts = [flat(asked.body.get("prompt"))] if old else openai_api.inputs(asked.body)
        options = asked.body.get("options") or {}
        self._memory(asked).use(name, options.get("num_ctx"), asked.body.get("keep_alive"), time.time())
        vectors = [embed(text, look_up(name).hidden) for text in texts]
        whole: dict[str, Any] = {"embedding": vectors[0]} if old else {"model": name, "embeddings": vectors}
        if not old:
            whole |= {"total_duration": _number(0.02), "load_duration": 0, "prompt_eval_count": sum(map(words, texts))}
        return await deliver(request, asked.fault, Reply(whole), DIALECT)

    async def openai(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/chat/completions` and `/v1/embeddings`; num_ctx cannot be given here, as in the real server."""
        asked = await self.board.ask(request, NAME)
        name, wrong = self._model(asked, openai=True)
        if wrong is not None and asked.fault.kind == "none":
            return wrong
        self._memory(asked).use(name, None, None, time.time())
        if request.path == "/v1/embeddings":
            reply = openai_api.embeddings(asked.body, look_up(name).hidden)
        else:
            reply = openai_api.chat(f"ollama:{name}", asked.body, extra={"system_fingerprint": "fp_ollama"})
        return await deliver(request, asked.fault, reply, openai_api.dialect(NAME))

    def _memory(self, asked: Asked) -> Memory:
        """The server's memory; a request that is made to fail must not leave a model loaded."""
        return self.memory if asked.fault.kind == "none" else Memory(self.settings)

    def _model(self, asked: Asked, openai: bool = False) -> tuple[str, web.Response | None]:
        """The model asked for, and the answer to give when it is not there."""
        name = str(asked.body.get("model") or asked.body.get("name") or "")
        if name and name in self.store:
            return name, None
        status, text = (404, f"model '{name}' not found") if name else (400, "model is required")
        body: dict[str, Any] = {"error": text}
        if openai:
            body = {"error": {"message": text, "type": "not_found_error", "param": None, "code": None}}
        return name or "none", web.json_response(body, status=status)

    def _running(self) -> list[dict[str, Any]]:
        listed = []
        for name, item in self.memory.listing(time.time()).items():
            endless = item.until == float("inf")
            until = FOR_EVER if endless else datetime.fromtimestamp(item.until, UTC).isoformat().replace("+00:00", "Z")
            listed.append(
                {
                    "name": name,
                    "model": name,
                    "size": item.size,
                    "digest": item.model.digest,
                    "details": item.model.details(),
                    "expires_at": until,
                    "size_vram": item.size_vram,
                    "context_length": item.num_ctx,
                }
            )
        return listed


def _say(name: str, said: Answer, loaded: Loaded, *, fresh: bool, generate: bool, stream: bool) -> Reply:
    """The answer of chat or generate, whole and as NDJSON; a prompt longer than num_ctx is cut without a word."""
    prompt = min(said.prompt_tokens, loaded.num_ctx)
    rate = TOKENS_PER_S if loaded.size_vram >= loaded.size else SPILLED_TOKENS_PER_S
    load, reading, writing = (LOAD_S if fresh else 0.03), prompt / PROMPT_TOKENS_PER_S, said.output_tokens / rate
    end = {
        "done": True,
        "done_reason": "length" if said.cut_short else "stop",
        "total_duration": _number(load + reading + writing),
        "load_duration": _number(load),
        "prompt_eval_count": prompt,
        "prompt_eval_duration": _number(reading),
        "eval_count": said.output_tokens,
        "eval_duration": _number(writing),
    }

    def part(text: str, **rest: Any) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        return {
            "model": name,
            "created_at": _stamp(),
            **({"response": text} if generate else {"message": {**message, **rest}}),
        }

    call = {"tool_calls": [{"function": {"name": said.tool, "arguments": said.call}}]} if said.tool else {}
    if not stream:
        return Reply({**part(said.text, **call), **end})

    def frames() -> Iterator[Frame]:
        for piece in said.pieces:
            yield Frame(ndjson({**part(piece), "done": False}), token=True)
        if call:
            yield Frame(ndjson({**part("", **call), "done": False}), token=True)
        yield Frame(ndjson({**part(""), **end}))

    return Reply({}, frames(), NDJSON)


def build(settings: Settings, board: Board | None = None) -> web.Application:
    """The application."""
    server = Ollama(settings, board)
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    sign(app, NAME)
    add_control(app, server.board, only=NAME)
    for path in ("/", "/api/version", "/api/tags", "/api/ps", "/v1/models"):
        app.router.add_get(path, server.plain)
    app.router.add_post("/api/show", server.show)
    app.router.add_post("/api/pull", server.pull)
    app.router.add_delete("/api/delete", server.delete)
    for path in ("/api/chat", "/api/generate"):
        app.router.add_post(path, server.chat)
    for path in ("/api/embed", "/api/embeddings"):
        app.router.add_post(path, server.embed)
    for path in ("/v1/chat/completions", "/v1/embeddings"):
        app.router.add_post(path, server.openai)
    return app
