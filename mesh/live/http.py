"""Small JSON requests to the mesh's own services. Plain http.client: it imports quickly and uses no proxy of the laptop's."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from mesh.errors import MeshError


class HttpError(MeshError):
    """No answer, or not the one that was asked for. `status` is 0 when there was none at all."""

    def __init__(self, what: str, *, where: str, why: str = "", status: int = 0) -> None:
        super().__init__(what, where=where, why=why)
        self.status = status


def get_json(
    url: str, *, headers: Mapping[str, str] | None = None, timeout: float = 5.0, answered_by: tuple[str, str] | None = None
) -> Any:
    """The JSON answer to a GET. Raises HttpError for anything else, within `timeout` seconds for every read.

    answered_by: a header and the value that the answer must bear.
    """
    connection, response = _open("GET", url, None, headers, timeout)
    try:
        if answered_by and response.getheader(answered_by[0]) != answered_by[1]:
            who = response.getheader(answered_by[0]) or "something else"
            raise HttpError(f"{answered_by[1]} does not answer, {who} does", where=url)
        return json.loads(_body(response, url))
    except ValueError:
        raise HttpError("the answer is not JSON", where=url, status=response.status) from None
    finally:
        connection.close()


def status_of(url: str, *, timeout: float = 5.0) -> int:
    """The HTTP status of a GET. Raises HttpError when there is no answer."""
    connection, response = _request("GET", url, None, None, timeout)
    connection.close()
    return response.status


def stream_json(url: str, body: Mapping[str, Any], *, timeout: float = 60.0) -> Iterator[Any]:
    """The JSON lines of a streamed answer to a POST. `timeout` is the longest silence in seconds."""
    connection, response = _open("POST", url, json.dumps(body).encode(), {"Content-Type": "application/json"}, timeout)
    try:
        for line in response:
            if line.strip():
                yield json.loads(line)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise HttpError("the answer broke off", where=url, why=_reason(error), status=response.status) from None
    finally:
        connection.close()


def _open(
    method: str, url: str, body: bytes | None, headers: Mapping[str, str] | None, timeout: float
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection, response = _request(method, url, body, headers, timeout)
    if response.status >= 400:
        why = _body(response, url)[:300].decode("utf-8", "replace")
        connection.close()
        raise HttpError(f"it answered {response.status} {response.reason}", where=url, why=why, status=response.status)
    return connection, response


def _request(
    method: str, url: str, body: bytes | None, headers: Mapping[str, str] | None, timeout: float
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    path = parts.path or "/"
    try:
        connection.request(method, f"{path}?{parts.query}" if parts.query else path, body, dict(headers or {}))
        return connection, connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        raise HttpError("no answer", where=url, why=_reason(error)) from None


def _body(response: http.client.HTTPResponse, url: str) -> bytes:
    try:
        return response.read()
    except (OSError, http.client.HTTPException) as error:
        raise HttpError("the answer broke off", where=url, why=_reason(error), status=response.status) from None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
