"""The Ollama double's state: settings from OLLAMA_*, pulled models on disk, loaded models in pretended VRAM."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mesh.doubles.ollama_models import MIB, Model, full_name, look_up

VERSION = "0.32.15"
NO_SUCH = "no-such"  # a tag that contains this does not exist in the pretended registry
FIT_MARGIN_BYTES = 1024 * MIB  # what llama.cpp leaves free on a card
JOIN_SHARE = 0.8  # a further model joins the loaded ones when it needs at most this share of what is free
_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_keep_alive(value: object) -> float:
    """Seconds of a keep_alive: a number of seconds or a Go duration like `1h30m`; negative = for ever (infinity)."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        text = str(value).strip()
        if re.fullmatch(r"-?\d+", text):
            seconds = float(text)
        else:
            parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)", text)
            if not parts or "".join(a + b for a, b in parts) != text.lstrip("-"):
                raise ValueError(f'time: invalid duration "{text}"')
            seconds = sum(float(number) * _UNITS[unit] for number, unit in parts) * (-1 if text.startswith("-") else 1)
    return math.inf if seconds < 0 else seconds


def parse_host(text: str) -> tuple[str, int]:
    """Address and port of an OLLAMA_HOST value: `host`, `:port`, `host:port`, with or without a scheme."""
    bare = text.strip().strip("\"'").split("://", 1)[-1].split("/", 1)[0]
    host, colon, port = bare.rpartition(":")
    if not colon:
        host, port = bare, ""
    return host or "127.0.0.1", int(port) if port.isdigit() else 11434


@dataclass(frozen=True)
class Settings:
    """What the double reads from its environment."""

    models_dir: Path
    keep_alive_s: float = 300.0
    context_length: int = 0  # 0 = by the card's size, as the real server decides
    max_loaded: int = 3
    parallel: int = 1
    vram_bytes: int = 12282 * MIB  # what an RTX 4070 Ti has
    pull_seconds: float = 0.3

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read the OLLAMA_* variables of the real server and the double's own DOUBLE_*."""
        default_dir = Path(env.get("HOME", "/root")) / ".ollama" / "models"
        return cls(
            models_dir=Path(env.get("OLLAMA_MODELS") or default_dir),
            keep_alive_s=parse_keep_alive(env.get("OLLAMA_KEEP_ALIVE") or "5m"),
            context_length=int(env.get("OLLAMA_CONTEXT_LENGTH") or 0),
            max_loaded=int(env.get("OLLAMA_MAX_LOADED_MODELS") or 0) or 3,
            parallel=int(env.get("OLLAMA_NUM_PARALLEL") or 1) or 1,
            vram_bytes=int(env.get("DOUBLE_VRAM_BYTES") or cls.vram_bytes),
            pull_seconds=float(env.get("DOUBLE_PULL_SECONDS") or cls.pull_seconds),
        )

    def default_context(self) -> int:
        """Context in tokens for a request without num_ctx: set by the operator, or stepped by VRAM as the server does."""
        if self.context_length:
            return self.context_length
        gib = self.vram_bytes / 1024**3
        return 262144 if gib >= 47 else 32768 if gib >= 23 else 4096


class Store:
    """The pulled models, kept in one JSON file of the models folder so that a volume keeps them."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "homelab-mesh-double.json"
        folder.mkdir(parents=True, exist_ok=True)
        self._pulled: dict[str, str] = json.loads(self._file.read_text()) if self._file.exists() else {}
        self._save()  # a folder that cannot be written is found at start, not at the first pull

    def __contains__(self, name: str) -> bool:
        return full_name(name) in self._pulled

    def add(self, name: str) -> None:
        """Keep a model that was pulled just now."""
        self._pulled[full_name(name)] = datetime.now(UTC).isoformat()
        self._save()

    def remove(self, name: str) -> None:
        """Forget a model."""
        del self._pulled[full_name(name)]
        self._save()

    def listing(self) -> list[dict[str, Any]]:
        """The models of `/api/tags`, newest first."""
        return [
            {
                "name": name,
                "model": name,
                "modified_at": at,
                "size": look_up(name).size,
                "digest": look_up(name).digest,
                "details": look_up(name).details(),
            }
            for name, at in sorted(self._pulled.items(), key=lambda item: item[1], reverse=True)
        ]

    def _save(self) -> None:
        scratch = self._file.with_suffix(".tmp")
        scratch.write_text(json.dumps(self._pulled, indent=1))
        scratch.replace(self._file)


@dataclass
class Loaded:
    """One model in pretended memory; `until` in seconds since the epoch."""

    model: Model
    num_ctx: int
    size: int
    size_vram: int
    keep_alive_s: float
    until: float


class Memory:
    """Which models are loaded, and how much of each is in VRAM."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loaded: dict[str, Loaded] = {}

    def listing(self, now: float) -> dict[str, Loaded]:
        """The loaded models whose keep_alive has not run out."""
        self._loaded = {name: item for name, item in self._loaded.items() if item.until > now}
        return dict(self._loaded)

    def unload(self, name: str) -> None:
        """Drop a model; nothing happens when it is not loaded."""
        self._loaded.pop(full_name(name), None)

    def use(self, name: str, num_ctx: object, keep_alive: object, now: float) -> tuple[Loaded, bool]:
        """Load a model or touch it; says whether it had to be loaded. Another num_ctx means loading it again."""
        tag, model = full_name(name), look_up(name)
        wanted = int(num_ctx) if isinstance(num_ctx, int | float) and num_ctx else self._settings.default_context()
        context = min(wanted, model.max_context)
        seconds = self._settings.keep_alive_s if keep_alive is None else parse_keep_alive(keep_alive)
        self.listing(now)
        item = self._loaded.get(tag)
        fresh = item is None or item.num_ctx != context
        if item is None or fresh:
            self._loaded.pop(tag, None)
            size = model.memory_bytes(context, 1 if model.embedding else self._settings.parallel)
            self._make_room(size)
            item = Loaded(model, context, size, min(size, max(0, self._free() - FIT_MARGIN_BYTES)), seconds, 0.0)
            self._loaded[tag] = item
        item.keep_alive_s, item.until = seconds, now + seconds
        if seconds == 0:
            self._loaded.pop(tag)
        return item, fresh

    def _free(self) -> int:
        return self._settings.vram_bytes - sum(item.size_vram for item in self._loaded.values())

    def _make_room(self, size: int) -> None:
        """Evict until the new model fits; the shortest keep_alive goes first. Alone, a model loads whatever its size."""
        while self._loaded and (len(self._loaded) >= self._settings.max_loaded or size > JOIN_SHARE * self._free()):
            victim = min(self._loaded, key=lambda name: (self._loaded[name].keep_alive_s, name))
            del self._loaded[victim]
