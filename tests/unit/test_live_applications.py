"""What Open WebUI goes by against the spec. The server is a STUB that answers as 0.12.4 does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from mesh.live.applications import Asked, settings_of
from mesh.state.deployment import Deployment, File, HostDeployment, Probe, SecretPart, Service, StackRelease

PASSWORD = "sk-planted-password"
ENVIRONMENT = {
    "WEBUI_ADMIN_EMAIL": "admin@closet.internal",
    "ENABLE_SIGNUP": "false",
    "OPENAI_API_BASE_URL": "http://10.0.0.2:4000/v1",
    "RAG_EMBEDDING_BATCH_SIZE": "16",
    "RAG_EMBEDDING_MODEL": "embed",
}
AS_WANTED = {
    "ui.enable_signup": False,
    "openai.api_base_urls": ["http://10.0.0.2:4000/v1"],
    "openai.api_keys": ["sk-planted-key"],
    "rag.embedding_batch_size": 16,
    "rag.embedding_model": "embed",
}


class Stub(BaseHTTPRequestHandler):
    settings: dict[str, Any] = {}

    def do_POST(self) -> None:
        account = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        good = self.path == "/api/v1/auths/signin" and account["password"] == PASSWORD
        self.answer(200 if good else 400, {"token": "t"} if good else {"detail": "no"})

    def do_GET(self) -> None:
        good = self.path == "/api/v1/configs/export" and self.headers["Authorization"] == "Bearer t"
        self.answer(200 if good else 401, self.settings)

    def answer(self, status: int, data: Any) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(data).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Stub.settings = dict(AS_WANTED)
    server = HTTPServer(("127.0.0.1", 0), Stub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def ask(url: str, password: str = PASSWORD) -> Asked:
    env = File("/opt/mesh/stacks/chat/secrets/env", ("A='x'\nWEBUI_ADMIN_PASSWORD=", SecretPart("admin", "shell"), "\n"), 0o400)
    service = Service("open-webui", "chat-open-webui-1", "i", "d", ENVIRONMENT, {})
    stack = StackRelease("chat", "open-webui", "/opt/mesh/stacks/chat", (env,), (service,), Probe(f"{url}/health"))
    inventory: Any = SimpleNamespace(secrets=SimpleNamespace(value=lambda _: password))
    return settings_of(inventory, Deployment("closet", {"vm": HostDeployment("vm", "10.0.0.2", "/opt/mesh", (stack,))}))


def test_settings_as_the_spec_has_them_are_no_drift(url: str) -> None:
    assert ask(url) == Asked()


def test_a_setting_changed_in_its_pages_is_named_with_what_it_should_be(url: str) -> None:
    Stub.settings |= {"rag.embedding_model": "other", "ui.enable_signup": True}
    odd = ask(url).odd
    assert [(each.subject, each.name) for each in odd] == [("setting", "ENABLE_SIGNUP"), ("setting", "RAG_EMBEDDING_MODEL")]
    assert "it goes by 'other', should be 'embed'" in odd[1].why
    assert "docker restart chat-open-webui-1" in odd[1].mend
    assert "sk-planted" not in str(odd)


def test_another_password_is_said_and_is_not_drift(url: str) -> None:
    asked = ask(url, "wrong")
    assert asked.odd == ()
    assert asked.unknown[0].where == "vm/chat"
    assert "administrator's password" in asked.unknown[0].mend


def test_something_else_on_its_port_is_said(url: str) -> None:
    Stub.settings = []  # type: ignore[assignment]
    assert "does not answer like Open WebUI" in ask(url).unknown[0].why
