"""The caching proxy: what stands between the gateway and Anthropic. Today it passes everything through, byte for byte."""

from typing import Any

from mesh.compile.stack import Instance, StackKind
from mesh.errors import MeshError
from mesh.spec.providers import CloudProvider

ANTHROPIC = "https://api.anthropic.com"


def values(instance: Instance) -> dict[str, Any]:
    behind = {
        name: provider.base_url or ANTHROPIC
        for name, provider in instance.mesh.providers.items()
        if isinstance(provider, CloudProvider) and provider.through == instance.name
    }
    if len(set(behind.values())) > 1:
        raise MeshError(
            f"one caching proxy cannot serve providers at different addresses: {', '.join(sorted(behind))}",
            where=f"stacks.{instance.name}",
            mend="give each its own stack of kind caching-proxy, or the same base_url",
        )
    return {"upstream": next(iter(behind.values()), ANTHROPIC).rstrip("/")}


stack = StackKind(
    images={"caching-proxy": "ghcr.io/berriai/litellm:v1.106.2"},  # for its python3 and aiohttp
    port=4010,
    probe="/health",
    memory=256 * 1024**2,
    values=values,
)
