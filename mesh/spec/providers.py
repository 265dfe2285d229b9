"""Providers (where a request can go) and models (what answers it)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from mesh.spec.hosts import Port
from mesh.spec.types import Bytes, MonthlyMoney, Name, Seconds, Secret, Spec, Tokens, Window, parse_kv_heads

CloudKind = Literal["anthropic", "deepseek", "moonshot", "groq", "openai"]


class OllamaProvider(Spec):
    """An Ollama of the mesh: it never leaves the building. Deployed as the stack of the same name."""

    kind: Literal["ollama"]
    on: Name = Field(description="The host that runs it.")
    port: Port = 11434
    gpu: Literal["all", "none"] = Field(default="all", description="`none` makes it see no card: the batch lane.")
    timeout: Seconds = Field(
        default=120, validate_default=False, description="How long the gateway waits for it before it falls back."
    )
    parallel: int = Field(default=1, ge=1, le=64, description="Requests that a model answers side by side; each takes its cache.")
    kv_cache: Literal["f16", "q8_0", "q4_0"] = Field(
        default="f16", description="How the KV cache is stored: q8_0 takes half of f16. It is one setting for all its models."
    )
    flash_attention: bool = Field(default=True, description="Off, long contexts take gigabytes more, and kv_cache has to be f16.")
    max_loaded: int | None = Field(
        default=None, ge=1, le=64, description="Models held at once; by default the resident ones and one more."
    )
    env: dict[Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,62}$")], str] = Field(
        default_factory=dict, description="Further variables of Ollama's. What the spec says has its own key and is refused here."
    )

    @property
    def local(self) -> bool:
        return True


class Plan(Spec):
    """A flat plan with a rolling window, beside or in place of credits."""

    price: MonthlyMoney
    window: Seconds


class CloudProvider(Spec):
    """An API outside the building."""

    kind: CloudKind
    key: Secret | None = None
    base_url: str | None = Field(
        default=None, pattern=r"^https?://[^\s]+$", description="In place of the provider's own address."
    )
    through: Name | None = Field(default=None, description="A stack of the mesh that sits before it, such as caching-proxy.")
    plan: Plan | None = None
    timeout: Seconds = Field(
        default=60, validate_default=False, description="How long the gateway waits for it before it falls back."
    )

    first_token: Seconds | None = Field(
        default=None,
        description="How long a streamed answer may be silent before it falls back; as `timeout` where it is not given.",
    )

    @property
    def local(self) -> bool:
        return False


Provider = Annotated[OllamaProvider | CloudProvider, Field(discriminator="kind")]


class Rates(Spec):
    """US dollars for a million tokens."""

    in_: float = Field(alias="in", ge=0)
    out: float = Field(ge=0)
    cache_read: float | None = Field(default=None, ge=0)
    cache_write: float | None = Field(default=None, ge=0)


KvHeads = Annotated[int | tuple[int, ...], BeforeValidator(parse_kv_heads)]


class ModelArchitecture(Spec):
    """Numbers of a model that the catalogue does not know, or knows wrongly: `ollama show --verbose` lists them."""

    layers: int | None = Field(default=None, ge=1, le=4096, description="block_count")
    hidden: int | None = Field(default=None, ge=1, le=2**20, description="embedding_length")
    feed_forward: int | None = Field(default=None, ge=1, le=2**20, description="feed_forward_length, or that of one expert")
    heads: int | None = Field(default=None, ge=1, le=2**16, description="attention.head_count")
    kv_heads: KvHeads | None = Field(
        default=None, description="attention.head_count_kv: a number, or a list with one for every layer."
    )
    head_dim: int | None = Field(default=None, ge=1, le=2**16, description="attention.key_length")
    value_dim: int | None = Field(default=None, ge=1, le=2**16, description="attention.value_length, where it differs")
    vocab: int | None = Field(default=None, ge=1, le=2**24, description="Words of the tokenizer.")
    max_context: Tokens | None = Field(default=None, ge=256, le=2**31, description="context_length, in tokens.")
    tied: bool | None = Field(default=None, description="There is no output.weight: the token table is the output layer as well.")
    table_bytes: Bytes | None = Field(default=None, description="Size of token_embd.weight.")
    attention: Literal["full", "bidirectional"] | None = Field(default=None, description="bidirectional: an embedding model.")
    window: int | None = Field(default=None, ge=1, le=2**31, description="attention.sliding_window, in tokens.")
    full_layers: int | None = Field(default=None, ge=0, le=4096, description="With a window: layers that see the whole context.")
    experts: int | None = Field(default=None, ge=2, le=2**16, description="expert_count")
    experts_used: int | None = Field(default=None, ge=1, le=2**16, description="expert_used_count")
    active_bytes: Bytes | None = Field(default=None, description="Weights that a mixture of experts reads for a token.")


class OffPeak(Rates):
    """What tokens cost in the provider's quiet hours."""

    windows: tuple[Window, ...] = Field(default=(), description="Every day, in UTC: [16:30-00:30].")
    weekends: bool = Field(default=False, description="All of Saturday and Sunday (UTC) too.")


class Price(Rates):
    """US dollars for a million tokens."""

    off_peak: OffPeak | None = None


class Model(Spec):
    """One model at one provider: `tag` for an Ollama, `id` for a cloud API."""

    at: Name = Field(description="The provider.")
    tag: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$", description="Ollama's tag, such as llama3.1:8b."
    )
    id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$", description="The provider's model id.")
    kind: Literal["chat", "embedding"] = "chat"
    context: Tokens | None = Field(default=None, ge=256, description="Context length in tokens.")
    keep_alive: Seconds | None = Field(default=None, description="How long Ollama keeps it loaded after the last request.")
    resident: bool = Field(default=False, description="Always in VRAM: counted in every VRAM sum.")
    spill: Literal["allowed"] | None = Field(default=None, description="`allowed`: it may overflow into RAM and be slow.")
    weights: Bytes | None = Field(default=None, description="Size of the weights, for a model that the catalogue does not know.")
    projector: Bytes | None = Field(default=None, description="Size of a vision projector in a file of its own.")
    architecture: ModelArchitecture | None = Field(default=None, description="The model's numbers, in place of the catalogue's.")
    dimensions: int | None = Field(default=None, ge=1, description="Vector size of an embedding model.")
    price: Price | None = None

    @model_validator(mode="after")
    def _one_identity(self) -> Model:
        if (self.tag is None) == (self.id is None):
            raise PydanticCustomError(
                "model_identity",
                "a model has either a `tag` or an `id`",
                {"mend": "give `tag` for a model of Ollama, `id` for a model of a cloud API"},
            )
        return self
