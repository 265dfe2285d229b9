"""The doubles on the drill's stage: one for each entry of the gateway's model_list, and the prompt says which of them fail.

A prompt carries `[[drill CASE GROUP=FAULT ...]]`: CASE is remembered with every call, GROUP is the entry that fails (`*`: all),
FAULT one of the doubles' own, `429:4` with a retry-after of 4 s, `cut:10` after ten tokens. Nothing is switched on or off
between requests, so hundreds of cases run side by side.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from mesh.doubles import cloud, ollama
from mesh.doubles.control import HEALTHY, Board, Fault
from mesh.doubles.ollama_state import Settings, Store

MARK = re.compile(r"\[\[drill (\S+)((?: [^\s=\]]+=[^\s\]]+)*)\]\]")
OLLAMA = "ollama"
SETTLE = 1.5
"""Seconds between the last token and a cut: a gateway that is busy with other cases must have passed the tokens on by then."""


@dataclass(frozen=True)
class Part:
    """One entry of model_list: its group, the double that plays it (`ollama` or a cloud provider's name), and its model."""

    group: str
    plays: str
    model: str
    port: int


@dataclass
class Log:
    """Every call that any double saw, by case; those without a mark under ''. `known` are values to recognise, by name."""

    known: Mapping[str, str] = field(default_factory=dict)
    calls: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def parse_mark(text: str) -> tuple[str, dict[str, Fault]]:
    """The case and the faults by group, of the last mark in a request; ('', {}) where there is none."""
    found = MARK.findall(text)
    if not found:
        return "", {}
    case, faults = found[-1]
    return case, {group: parse_fault(fault) for group, _, fault in (each.partition("=") for each in faults.split())}


def parse_fault(text: str) -> Fault:
    """`500`, `429:4` (retry-after in seconds), `cut:10` (tokens before it strikes)."""
    kind, _, number = text.partition(":")
    if not number:
        return Fault(kind)
    return Fault(kind, after_tokens=int(number), settle_s=SETTLE) if kind == "cut" else Fault(kind, retry_after=float(number))


class StagedBoard(Board):
    """The board of one entry: faults by the request's mark, calls into the common log."""

    def __init__(self, part: Part, log: Log) -> None:
        super().__init__()
        self.part, self.log = part, log

    def choose(self, provider: str, body: object) -> Fault:  # noqa: ARG002
        _, faults = parse_mark(_flat(body))
        return faults.get(self.part.group) or faults.get("*") or HEALTHY

    def record(self, provider: str, request: web.Request, body: object, fault: str, size: int) -> None:  # noqa: ARG002
        text = _flat(body)
        headers = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
        call = {
            "group": self.part.group,
            "method": request.method,
            "path": request.path,
            "fault": fault,
            "seen": sorted(name for name, value in self.log.known.items() if value in headers or value in text),
        }
        self.log.calls.setdefault(parse_mark(text)[0], []).append(call)


def _flat(body: object) -> str:
    return body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)


def build(part: Part, log: Log, folder: Path) -> web.Application:
    """The double of one entry. An Ollama holds the entry's model; its list of models is in `folder`."""
    board = StagedBoard(part, log)
    if part.plays != OLLAMA:
        return cloud.build(board)
    folder.mkdir(parents=True, exist_ok=True)
    Store(folder).add(part.model)
    return ollama.build(Settings(folder), board)
