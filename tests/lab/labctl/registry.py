"""The lab's registry: hosts pull from it as in real life, by digest. It is given only what it does not hold."""

from __future__ import annotations

import http.client

from labctl.engine import Engine
from labctl.images import Image
from labctl.settings import PREFIX, REGISTRY, REGISTRY_ADDRESS
from labctl.shell import step, wait_until
from mesh.errors import MeshError

MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)


def wait_for_registry() -> None:
    if not wait_until(lambda: _ask("GET", "/v2/")[0] == 200, seconds=20, every=0.1):
        raise MeshError(
            f"the lab's registry at {REGISTRY} cannot be reached from this machine",
            where="lab",
            why="Docker Desktop and remote engines hide their containers' addresses; or the registry itself ended",
            mend=f"run the lab on Linux with Docker Engine on the same machine; see `docker logs {PREFIX}-registry`",
        )


def offer(engine: Engine, images: dict[str, Image]) -> dict[str, str]:
    """Pushes what is missing; name -> reference with tag and digest, as a host pulls it."""
    return {name: _reference(engine, image) for name, image in sorted(images.items()) if image.registry}


def reference(image: Image) -> str | None:
    """The image's reference if the registry holds it."""
    status, digest = _ask("HEAD", f"/v2/{image.name}/manifests/{image.tag}")
    return f"{REGISTRY}/{image.name}:{image.tag}@{digest}" if status == 200 and digest else None


def _reference(engine: Engine, image: Image) -> str:
    if (known := reference(image)) is not None:
        return known
    with step(f"pushing image {image.name} to the lab's registry"):
        port = engine.docker("port", f"{PREFIX}-registry", "5000/tcp").stdout.split()[0].rsplit(":", 1)[1]
        target = f"127.0.0.1:{port}/{image.name}:{image.tag}"
        engine.docker("tag", image.local, target)
        try:
            engine.docker("push", "--quiet", target)
        finally:
            engine.docker("rmi", target, check=False)
    if (known := reference(image)) is None:
        raise MeshError(f"the registry does not hold {image.name}:{image.tag} after the push", where="lab")
    return known


def _ask(method: str, path: str) -> tuple[int, str]:
    """Status and content digest; status 0 where nobody answers."""
    connection = http.client.HTTPConnection(REGISTRY_ADDRESS, 5000, timeout=5)
    try:
        connection.request(method, path, headers={"Accept": ", ".join(MANIFESTS)})
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get("Docker-Content-Digest", "")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()
