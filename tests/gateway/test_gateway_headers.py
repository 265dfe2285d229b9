"""Headers at the real LiteLLM: a client's reach no provider, and one provider's reach no other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .ledgers import own_gateway
from .rig import Answer, Rig, call, secret_of

PLANTED = "planted-7f3a"
SENT = dict.fromkeys(("x-app", "x-request-id", "cookie", "referer", "x-forwarded-for", "openai-organization"), PLANTED)
BETA = "context-1m-2025-08-07"
PATHS = ["/v1/chat/completions", "/v1/messages", "/v1/responses"]


@contextmanager
def edited(rig: Rig, folder: Path, edits: dict[str, tuple[str, str]]) -> Iterator[Rig]:
    """A gateway with words of its own files exchanged, each of which must be there."""
    with own_gateway(rig, folder, {}) as own:
        written = own.write("litellm")
        for name, (old, new) in edits.items():
            path = written / "gateway" / name
            text = path.read_text(encoding="utf-8")
            assert old in text
            path.chmod(0o600)
            path.write_text(text.replace(old, new, 1), encoding="utf-8")
        argv, env = own.gateway_command(written, own.ports["litellm"])
        own.start("litellm", argv, env, "/health/liveliness")
        yield own


def ask(rig: Rig, route: str, path: str, headers: dict[str, str], **more: object) -> Answer:
    asked: dict[str, object] = {"model": route, **more, "max_tokens": 20, "messages": [{"role": "user", "content": "hello"}]}
    if path.endswith("responses"):
        asked = {"model": route, **more, "input": "hello"}
    return call(rig.gateway, "POST", path, asked, {"authorization": f"Bearer {secret_of('client_laptop_key')}", **headers})


def strangers(rig: Rig, ollama_after: int = 0) -> set[str]:
    """What any provider saw that was not meant for it: planted values, and what the client asked of Anthropic alone."""
    found = set()
    for seen in rig.cloud_calls():
        for name, value in seen["headers"].items():
            if PLANTED in value or (BETA in value and seen["provider"] != "anthropic"):
                found.add(f"{seen['provider']} saw {name}")
    for seen in rig.ollama_calls()[ollama_after:] if "ollama" in rig.processes else []:
        found |= {f"ollama saw {name}" for name, value in seen["headers"].items() if PLANTED in value or BETA in value}
    return found


WIDE = {"mesh_edge.py": ('PASSING = frozenset({b"host"', 'PASSING = frozenset({b"x-app", b"host"')}
FORWARDS = {"config.yaml": ("general_settings:\n", "general_settings:\n  forward_client_headers_to_llm_api: true\n")}


@pytest.mark.parametrize(
    ("edits", "seen"),
    [({}, set()), (WIDE, set()), (FORWARDS, set()), (WIDE | FORWARDS, {"deepseek saw x-app"})],
    ids=["as rendered", "the edge lets one through", "LiteLLM forwards", "both mistakes"],
)
def test_a_client_s_header_reaches_a_provider_only_by_two_mistakes_at_once(
    rig: Rig, tmp_path: Path, edits: dict[str, tuple[str, str]], seen: set[str]
) -> None:
    """The last case shows that the test would see one."""
    before = len(rig.ollama_calls())
    with edited(rig, tmp_path, edits) as own:
        for path in PATHS:
            assert ask(own, "bulk", path, SENT).status == 200
            assert ask(own, "private", path, SENT).status == 200
    assert strangers(rig, before) == seen | ({"ollama saw x-app"} if seen else set())


@pytest.mark.parametrize(
    ("route", "provider", "next_one"), [("write", "anthropic", "moonshot"), ("bulk", "deepseek", "anthropic")]
)
def test_headers_for_and_of_a_provider_that_fails_reach_no_other(
    rig: Rig, tmp_path: Path, route: str, provider: str, next_one: str
) -> None:
    names = ("request-id", "set-cookie", "x-ratelimit-reset", "anthropic-organization-id", "llm_provider-x")
    before = len(rig.ollama_calls())
    rig.fault(provider, "500", headers=dict.fromkeys(names, PLANTED))
    if route == "bulk":
        rig.stop("ollama")
    with edited(rig, tmp_path, {}) as own:
        for path, stream in zip(PATHS, (False, True, True), strict=True):
            answer = ask(own, route, path, {**SENT, "anthropic-version": "2023-06-01", "anthropic-beta": BETA}, stream=stream)
            assert answer.status == 200, answer.text
            assert PLANTED not in str(answer.headers) + answer.text
    assert [each["provider"] for each in rig.cloud_calls()] == [provider, next_one] * len(PATHS)
    assert strangers(rig, before) == set()
