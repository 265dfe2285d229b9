"""Qdrant: the vector store. Also the smallest example of a stack of the mesh: read compose.yaml.j2 beside it."""

from mesh.compile.stack import Instance, StackKind
from mesh.spec.types import SecretRef

API_KEY = SecretRef("qdrant_api_key")


def secrets(_: Instance) -> dict[str, SecretRef]:
    return {"QDRANT__SERVICE__API_KEY": API_KEY}


stack = StackKind(
    images={"qdrant": "qdrant/qdrant:v1.19.0"},
    port=6333,
    probe="/readyz",
    memory=1024**3,
    volumes=("storage",),
    secrets=secrets,
)
