"""A model's architecture from where it can be read: a GGUF file, its address on the web, or a live Ollama."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from mesh.errors import MeshError
from mesh.hardware.gguf import Reader, file_reader, from_gguf
from mesh.hardware.models import Architecture, canonical, from_show
from mesh.live.http import get_json, stream_json
from mesh.spec.mesh import Mesh

_TIMEOUT = 20.0
_REDIRECTS = 5


def describe(source: str, mesh: Callable[[], Mesh]) -> Architecture:
    """The architecture behind `source`: a path, an http(s) address of a GGUF file, or PROVIDER:TAG of an Ollama of the mesh.

    mesh: the spec, read only where a provider is named. Raises MeshError where there is nothing to read, or nothing usable.
    """
    name = source.rstrip("/").rsplit("/", 1)[-1]
    if source.startswith(("http://", "https://")):
        return from_gguf(_range_reader(source), name, source)
    if Path(source).exists() or source.endswith(".gguf"):
        return from_gguf(file_reader(Path(source)), name, source)
    provider, _, tag = source.partition(":")
    ollamas = mesh().ollamas
    if provider not in ollamas or not tag:
        raise MeshError(
            "there is neither such a file nor such an Ollama",
            where=source,
            mend=f"give a .gguf file, its http(s) address, or PROVIDER:TAG with one of {', '.join(sorted(ollamas))}",
        )
    at = ollamas[provider]
    return of_ollama(f"http://{mesh().hosts[at.on].address}:{at.port}", tag)


def of_ollama(url: str, tag: str) -> Architecture:
    """What a live Ollama says about a model that it has. Raises MeshError where it has none of that tag."""
    listed = get_json(f"{url}/api/tags", timeout=_TIMEOUT)
    models = listed.get("models") if isinstance(listed, dict) else None
    sizes = {
        canonical(str(each.get("name"))): each.get("size")
        for each in (models if isinstance(models, list) else ())
        if isinstance(each, dict)
    }
    size = sizes.get(canonical(tag))
    if not isinstance(size, int):
        known = ", ".join(sorted(sizes)) or "none"
        raise MeshError(f"the Ollama has no model `{tag}`", where=url, mend=f"it has: {known}")
    answer = next(stream_json(f"{url}/api/show", {"model": tag}, timeout=_TIMEOUT), None)
    return from_show(tag, answer if isinstance(answer, dict) else {}, size)


def _range_reader(url: str) -> Reader:
    """Reads of a file on the web by ranges, so that gigabytes of weights stay where they are."""
    final = url

    def read(offset: int, length: int) -> bytes:
        nonlocal final
        for _ in range(_REDIRECTS):
            parts = urlsplit(final)
            kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
            connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT)
            try:
                path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
                connection.request("GET", path, headers={"Range": f"bytes={offset}-{offset + length - 1}"})
                answer = connection.getresponse()
                if answer.status in (301, 302, 303, 307, 308):
                    final = urljoin(final, answer.headers.get("Location", ""))
                    continue
                if answer.status == 416:
                    return b""
                if answer.status != 206 and not (answer.status == 200 and offset == 0):
                    why = f"it answered {answer.status} {answer.reason} to a range"
                    raise MeshError("the file cannot be read by ranges", where=url, why=why, mend="download it and give its path")
                return answer.read(length)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise MeshError("the file cannot be read", where=url, why=str(error), mend="check the address") from None
            finally:
                connection.close()
        raise MeshError("the address leads in circles", where=url, mend="give the file's own address")

    return read


def as_yaml(arch: Architecture) -> str:
    """What to write into the spec so that the model is known offline as well: `weights` and `architecture`."""
    block: dict[str, object] = {
        "layers": arch.layers,
        "hidden": arch.hidden,
        "feed_forward": arch.feed_forward or None,
        "heads": arch.heads,
        "kv_heads": list(arch.kv_heads_by_layer) or arch.kv_heads,
        "head_dim": arch.head_dim,
        "value_dim": arch.value_dim or None,
        "vocab": arch.vocab or None,
        "max_context": arch.max_context,
        "tied": arch.tied,
        "table_bytes": f"{arch.table_bytes}B" if arch.table_bytes else None,
        "attention": "bidirectional" if arch.encoder else None,
        "window": arch.window or None,
        "full_layers": arch.full_layers if arch.window else None,
        "experts": arch.experts or None,
        "experts_used": arch.experts_used or None,
        "active_bytes": f"{arch.active_bytes}B" if arch.active_bytes else None,
    }
    inner = ", ".join(f"{key}: {json.dumps(value).strip(chr(34))}" for key, value in block.items() if value is not None)
    return f"weights: {arch.blob_bytes}B\narchitecture: {{{inner}}}"
