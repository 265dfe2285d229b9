"""The header of a GGUF file: its metadata and the sizes of its tensors, without its weights.

The file may come from anywhere, so nothing it says is believed before it is bounded: a header that lies, however, costs an
error and never memory or time. Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mesh.errors import MeshError
from mesh.hardware.metadata import BLOCKS, architecture_of, with_tensors
from mesh.hardware.models import Architecture

Reader = Callable[[int, int], bytes]
"""read(offset, length) -> at most so many bytes: a local file, or an HTTP range."""

MOST_HEADER = 64 * 2**20
"""Bytes of a header that are read at most; the largest known (a vocabulary of 262 144 words) has 16 MiB."""
_MOST_KEYS, _MOST_TENSORS, _MOST_ARRAY, _MOST_KEY = 4096, 65_536, 2**21, 65_535
_MOST_DEPTH = 3
_KEPT = 4096
"""Elements of an array that are kept; of a longer one only the length."""
_CHUNK = 2**20

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


class GgufError(MeshError):
    """The file is no GGUF, or its header cannot be true."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(
            "the GGUF header cannot be read",
            where=where,
            why=why,
            mend="download the file again, or write the model's numbers under `architecture:`",
        )


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor. bytes: its size in the file."""

    name: str
    bytes: int
    kind: str


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says. end: its length in bytes, without the padding before the weights."""

    metadata: dict[str, Any]
    tensors: tuple[Tensor, ...]
    end: int


class _Cursor:
    """Reads forward in bounded chunks, and never past MOST_HEADER."""

    def __init__(self, read: Reader, where: str) -> None:
        self._read, self.where, self.at = read, where, 0
        self._start, self._buffer = 0, b""

    def fail(self, why: str) -> GgufError:
        return GgufError(self.where, f"{why} (at byte {self.at})")

    def take(self, length: int) -> bytes:
        if length < 0 or self.at + length > MOST_HEADER:
            raise self.fail(f"the header claims more than {MOST_HEADER >> 20} MiB")
        if self.at + length > self._start + len(self._buffer):
            kept = self._buffer[self.at - self._start :]
            wanted = max(length - len(kept), min(_CHUNK, MOST_HEADER - self.at - len(kept)))
            more = self._read(self.at + len(kept), wanted)[:wanted]
            self._buffer, self._start = kept + more, self.at
            if len(self._buffer) < length:
                raise self.fail("the file ends within its header")
        offset = self.at - self._start
        self.at += length
        return self._buffer[offset : offset + length]

    def number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0]

    def count(self, what: str, most: int) -> int:
        """A count, which the format has as unsigned: a negative one reads as more than 2**63."""
        value: int = self.number("Q")
        if value > most:
            shown = f"{value - 2**64}" if value >= 2**63 else f"{value}"
            raise self.fail(f"it claims {shown} {what}, and more than {most} cannot be true")
        return value

    def text(self, what: str, most: int = MOST_HEADER) -> str:
        return self.take(self.count(f"bytes in {what}", most)).decode("utf-8", "replace")


def read_header(read: Reader, where: str = "") -> Header:
    """The header behind `read`. Raises GgufError for whatever is wrong with it."""
    cursor = _Cursor(read, where)
    if cursor.take(4) != b"GGUF":
        raise GgufError(where, "it does not begin with GGUF")
    version = cursor.number("I")
    if version not in (2, 3):
        raise GgufError(where, f"it has version {version}; 2 and 3 are known (little-endian)")
    tensors = cursor.count("tensors", _MOST_TENSORS)
    keys = cursor.count("keys", _MOST_KEYS)
    metadata: dict[str, Any] = {}
    for _ in range(keys):
        key = cursor.text("a key", _MOST_KEY)
        metadata[key] = _value(cursor, cursor.number("I"), 0)
    return Header(metadata, tuple(_tensor(cursor) for _ in range(tensors)), cursor.at)


def _value(cursor: _Cursor, kind: int, depth: int) -> Any:
    if kind in _SCALARS:
        return cursor.number(_SCALARS[kind])
    if kind == _STRING:
        return cursor.text("a text")
    if kind != _ARRAY:
        raise cursor.fail(f"a value has the unknown type {kind}")
    if depth >= _MOST_DEPTH:
        raise cursor.fail("arrays are nested too deeply")
    inner, length = cursor.number("I"), cursor.count("elements in an array", _MOST_ARRAY)
    if inner in _SCALARS:
        form = _SCALARS[inner]
        raw = cursor.take(length * struct.calcsize(f"<{form}"))
        return list(struct.unpack(f"<{length}{form}", raw)) if length <= _KEPT else length
    kept = [_value(cursor, inner, depth + 1) for _ in range(min(length, _KEPT))]
    for _ in range(length - len(kept)):
        _value(cursor, inner, depth + 1)
    return kept if length <= _KEPT else length


def _tensor(cursor: _Cursor) -> Tensor:
    name = cursor.text("a tensor's name", _MOST_KEY)
    dimensions = cursor.number("I")
    if not 0 < dimensions <= 4:
        raise cursor.fail(f"tensor `{name[:60]}` has {dimensions} dimensions")
    elements = 1
    for _ in range(dimensions):
        elements *= cursor.count("elements in a tensor", 2**48)
    kind = cursor.number("I")
    cursor.number("Q")  # where its weights are
    if kind not in BLOCKS:
        raise cursor.fail(f"tensor `{name[:60]}` has the unknown type {kind}")
    block, size, label = BLOCKS[kind]
    count = -(-elements // block) * size
    if count > 2**50:
        raise cursor.fail(f"tensor `{name[:60]}` claims {count} bytes")
    return Tensor(name, count, label)


def from_gguf(read: Reader, tag: str, where: str = "") -> Architecture:
    """The architecture in a GGUF header. Raises GgufError or ArchitectureError, both MeshErrors.

    The token table, tied embeddings and experts are taken from the tensors: nothing is guessed.
    """
    header = read_header(read, where)
    kinds: dict[str, int] = {}
    for tensor in header.tensors:
        kinds[tensor.kind] = kinds.get(tensor.kind, 0) + tensor.bytes
    quant = max(kinds, key=lambda kind: kinds[kind], default="")
    size = header.end + sum(tensor.bytes for tensor in header.tensors)
    found = architecture_of(header.metadata, tag=tag, blob_bytes=size, quant=quant)
    return replace(with_tensors(found, {tensor.name: tensor.bytes for tensor in header.tensors}), source="the GGUF header")


def file_reader(path: Path) -> Reader:
    """Reads of a local file. Raises MeshError where it cannot be opened."""

    def read(offset: int, length: int) -> bytes:
        try:
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(length)
        except OSError as error:
            why = error.strerror or str(error)
            raise MeshError("the file cannot be read", where=str(path), why=why, mend="give the path of a .gguf file") from None

    return read
