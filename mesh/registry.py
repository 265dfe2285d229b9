"""Container registries (OCI distribution API): the digest of an image's tag, and its size. Reads only, without credentials."""

from __future__ import annotations

import hashlib
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from mesh.errors import MeshError

_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
"""The index comes first: its digest serves hosts of every architecture."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SECONDS = 20
_LARGEST = 4 * 1024**2
"""Bytes of a manifest or token that are read."""

_MOST_PAGES = 50

T = TypeVar("T")


def resolve(repo: str, tag: str) -> str:
    """`sha256:...` of `repo:tag`, as Docker would pull it. Raises MeshError in the registry's own words."""
    return _asked(repo, tag, f"{repo}:{tag}", _digest, _SECONDS)


def pull_size(repo: str, reference: str, platform: str, seconds: float) -> int:
    """Bytes that a pull of the image would move for a platform such as `linux/amd64`, if none of its layers is there yet.

    reference: a tag, or `sha256:...`. seconds: for each of up to five requests. Raises MeshError in the registry's own words.
    """
    where = f"{repo}{'@' if ':' in reference else ':'}{reference}"
    manifest = _asked(repo, reference, where, _manifest, seconds)
    if isinstance(manifest.get("manifests"), list):
        chosen = [each for each in manifest["manifests"] if isinstance(each, dict) and _is_for(each, platform)]
        if not chosen:
            raise MeshError(f"the image is not made for {platform}", where=where)
        manifest = _asked(repo, str(chosen[0].get("digest")), where, _manifest, seconds)
    layers = manifest.get("layers")
    if not isinstance(layers, list):
        raise MeshError("the registry sent no manifest that is understood", where=where)
    sizes = [each.get("size") for each in (manifest.get("config"), *layers) if isinstance(each, dict)]
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise MeshError("the registry sent no manifest that is understood", where=where)
    return sum(size for size in sizes if isinstance(size, int))


def tags(repo: str) -> tuple[str, ...]:
    """Every tag of a repository. Raises MeshError in the registry's own words."""
    found: list[str] = []
    path = "tags/list?n=1000"
    for _ in range(_MOST_PAGES):
        names, following = _at(repo, path, repo, _tags, _SECONDS)
        found += names
        if not following:
            return tuple(found)
        path = f"tags/list?{following}"
    raise MeshError(f"the registry lists more than {_MOST_PAGES} pages of tags", where=repo)


def _tags(
    opener: urllib.request.OpenerDirector, url: str, headers: Mapping[str, str], where: str, seconds: float
) -> tuple[list[str], str]:
    """The tags of one page, and the query of the next one: of its link only that is taken, never another place."""
    with opener.open(urllib.request.Request(url, headers=dict(headers)), timeout=seconds) as reply:
        link = re.search(r"<([^>]*)>;\s*rel=\"?next", str(reply.headers.get("Link", "")))
        try:
            answer: Any = json.loads(reply.read(_LARGEST))
            names = [str(each) for each in answer["tags"] or ()]
        except (ValueError, KeyError, TypeError):
            raise MeshError("the registry sent no list of tags", where=where) from None
    return names, urlsplit(link[1]).query if link else ""


def _is_for(entry: Mapping[str, Any], platform: str) -> bool:
    stated = entry.get("platform")
    return isinstance(stated, dict) and f"{stated.get('os')}/{stated.get('architecture')}" == platform


_Ask = Callable[[urllib.request.OpenerDirector, str, Mapping[str, str], str, float], T]


def _asked(repo: str, reference: str, where: str, ask: _Ask[T], seconds: float) -> T:
    """What `ask` makes of the address of a manifest, with an anonymous token where the registry wants one."""
    return _at(repo, f"manifests/{quote(reference, safe=':')}", where, ask, seconds)


def _at(repo: str, path: str, where: str, ask: _Ask[T], seconds: float) -> T:
    host, name = split(repo)
    base = f"{'http' if _is_near(host) else 'https'}://{host}"
    url = f"{base}/v2/{name}/{path}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({})) if _is_near(host) else urllib.request.build_opener()
    headers = {"Accept": _MANIFESTS, "User-Agent": "homelab-mesh"}
    try:
        try:
            return ask(opener, url, headers, where, seconds)
        except urllib.error.HTTPError as error:
            challenge = error.headers.get("WWW-Authenticate", "")
            if error.code != 401 or not challenge.lower().startswith("bearer "):
                raise
            error.close()
            token = _token(opener, challenge, f"repository:{name}:pull", near=_is_near(host), where=where, seconds=seconds)
            return ask(opener, url, {**headers, "Authorization": f"Bearer {token}"}, where, seconds)
    except urllib.error.HTTPError as error:
        raise _refusal(error, where, host) from None
    except (OSError, HTTPException) as error:
        why = str(getattr(error, "reason", "") or error or type(error).__name__)
        raise MeshError("the registry cannot be reached", where=where, why=f"{base}: {why}", mend="is the network up?") from None


def _manifest(
    opener: urllib.request.OpenerDirector, url: str, headers: Mapping[str, str], where: str, seconds: float
) -> dict[str, Any]:
    with opener.open(urllib.request.Request(url, headers=dict(headers)), timeout=seconds) as reply:
        try:
            answer: Any = json.loads(reply.read(_LARGEST))
        except ValueError:
            answer = None
    if not isinstance(answer, dict):
        raise MeshError("the registry sent no manifest that is understood", where=where)
    return answer


def split(repo: str) -> tuple[str, str]:
    """Registry and name of a repository, by Docker's rules: `qdrant/qdrant` and `redis` are on Docker Hub."""
    first, slash, rest = repo.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        host, name = first, rest
    else:
        host, name = "docker.io", repo
    if host in ("docker.io", "index.docker.io"):
        return "registry-1.docker.io", name if "/" in name else f"library/{name}"
    return host, name


def _is_near(host: str) -> bool:
    """A registry on this machine or a private address, given with its port, speaks plain HTTP: Docker's `insecure-registries`."""
    address, colon, _ = host.rpartition(":")
    if not colon:
        return False
    try:
        return ip_address(address.strip("[]")).is_private
    except ValueError:
        return address == "localhost"


def _digest(opener: urllib.request.OpenerDirector, url: str, headers: Mapping[str, str], where: str, seconds: float) -> str:
    """From the header of a HEAD; a registry that sends none is asked for the manifest itself."""
    with opener.open(urllib.request.Request(url, headers=dict(headers), method="HEAD"), timeout=seconds) as reply:
        digest = str(reply.headers.get("Docker-Content-Digest", ""))
    if not digest:
        with opener.open(urllib.request.Request(url, headers=dict(headers)), timeout=seconds) as reply:
            digest = f"sha256:{hashlib.sha256(reply.read(_LARGEST)).hexdigest()}"
    if not _DIGEST.fullmatch(digest):
        raise MeshError("the registry sent no sha256 digest", where=where, why=digest[:100])
    return digest


def _token(opener: urllib.request.OpenerDirector, challenge: str, scope: str, *, near: bool, where: str, seconds: float) -> str:
    """An anonymous pull token from the place that the registry names."""
    given = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = given.get("realm", "")
    if urlsplit(realm).scheme != "https" and not (near and urlsplit(realm).scheme == "http"):
        raise MeshError("the registry names no safe place for tokens", where=where, why=realm[:200])
    query = urlencode({"service": given.get("service", ""), "scope": given.get("scope", scope)})
    with opener.open(f"{realm}{'&' if '?' in realm else '?'}{query}", timeout=seconds) as reply:
        try:
            answer: Any = json.loads(reply.read(_LARGEST))
        except ValueError:
            answer = None
    token = (answer.get("token") or answer.get("access_token")) if isinstance(answer, dict) else None
    if not isinstance(token, str) or not token.isprintable():
        raise MeshError("the registry gave no token", where=where, why=realm)
    return token


def _refusal(error: urllib.error.HTTPError, where: str, host: str) -> MeshError:
    """What the status means; registries answer 401 for a private image and for one that does not exist alike."""
    error.close()
    if error.code == 404:
        return MeshError(f"{host} has no such tag", where=where, mend="correct the image under `images:` or in the stack")
    if error.code in (401, 403):
        mend = "correct its name; a private image has to be pinned by hand, as repo:tag@sha256:..."
        return MeshError(f"{host} has no such image, or it is private", where=where, mend=mend)
    if error.code == 429:
        return MeshError(f"{host} limits how often it is asked", where=where, mend="try again in an hour")
    return MeshError(f"{host} answered {error.code} {error.reason}", where=where, mend="try again later")
