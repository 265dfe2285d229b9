"""The small types of the spec: names, sizes, durations, money, references to secrets.

Each is written by the operator as a short string (`500MiB`, `10m`, `20 USD/month`, `secret:groq_api_key`) and holds
one number in one unit afterwards. A bare number is refused where the unit would have to be guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError

NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""A name of ours: lower case, digits, `.`, `_`, `-`; at most 63 characters. Safe as host, project and file name."""


class Spec(BaseModel):
    """Base of every part of the spec: unknown keys are errors, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, populate_by_name=True)


_BYTE_UNITS = {"B": 1} | {
    prefix + suffix: base**power
    for power, prefix in enumerate(("K", "M", "G", "T"), start=1)
    for suffix, base in (("B", 1000), ("iB", 1024))
}
_COUNTS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
FOREVER = -1
"""A duration without an end, in seconds, as Ollama's `keep_alive` writes it."""


def _refused(kind: str, value: Any, expected: str, mend: str) -> PydanticCustomError:
    """The error for `value`; `mend` travels with it to the finding that the operator reads."""
    shown = "it" if isinstance(value, dict | list) else f"`{str(value)[:40].encode(errors='backslashreplace').decode()}`"
    return PydanticCustomError(kind, "{shown} is not {expected}", {"shown": shown, "expected": expected, "mend": mend})


def parse_bytes(value: Any) -> int:
    """`500MiB` (2**20) or `12GB` (10**9) to bytes. Raises PydanticCustomError for anything else."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([KMGT]?i?B)\s*", value)
        if match and match[2] in _BYTE_UNITS:
            return int(float(match[1]) * _BYTE_UNITS[match[2]])
    raise _refused("size", value, "a size", _size_mend(value))


def _size_mend(value: Any) -> str:
    """What was probably meant by `12 gb`, `12G` or 12, in both readings; bits (`12Gb`) are asked about as bytes."""
    match = (
        re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([kmgtKMGT])(?:i?[bB])?\s*", value) if isinstance(value, str) else None
    )
    if match is None:
        return "write a number and a unit, such as 500MiB or 12GB (GiB and GB differ)"
    number, prefix = match[1], match[2].upper()
    binary, decimal = (_BYTE_UNITS[prefix + suffix] * float(number) for suffix in ("iB", "B"))
    return f"write {number}{prefix}iB ({binary:.0f} bytes) or {number}{prefix}B ({decimal:.0f} bytes)"


def parse_count(value: Any) -> int:
    """`10M` (10**6), `500k`, `2G` or a plain number to a count. Raises PydanticCustomError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15:
        return value
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([kMG]?)\s*", value)
        if match:
            return int(float(match[1]) * _COUNTS[match[2]])
    raise _refused("count", value, "a count", "write a number, or one with k, M or G, such as 10M")


def parse_card(value: Any) -> Any:
    """A card's name as it is, but one written as nvidia-smi or a shop does is refused with the one that is meant."""
    if not isinstance(value, str) or not re.search(r"[A-Za-z0-9]", value) or re.fullmatch(NAME_PATTERN, value):
        return value
    from mesh.hardware.cards import named, slug_of

    meant = " or ".join(f"`{slug}`" for slug in named(value[:100])) or f"`{slug_of(value[:63])}`"
    raise _refused("card", value, "a card's name in the catalogue", f"write {meant}: lower case, with dashes")


def parse_tokens(value: Any) -> Any:
    """A number of tokens. `16k` is refused: it is 16000 to some and 16384 to others."""
    match = re.fullmatch(r"\s*([0-9]{1,6})\s*[kK](?:i?[bB]?)?\s*", value) if isinstance(value, str) else None
    if match is not None:
        mend = f"write {int(match[1]) * 1024} (or {int(match[1]) * 1000}, if that was meant)"
        raise _refused("tokens", value, "a number of tokens", mend)
    return value


def parse_kv_heads(value: Any) -> int | tuple[int, ...]:
    """KV heads of a model: one number, or one for every layer (0: the layer has no cache)."""
    listed = value if isinstance(value, list | tuple) else [value]
    whole = all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each <= 2**16 for each in listed)
    if whole and any(listed) and len(listed) <= 4096:
        return tuple(listed) if isinstance(value, list | tuple) else value
    raise _refused("kv_heads", value, "a number of KV heads", "write a number such as 8, or a list with one for every layer")


def parse_duration(value: Any) -> int:
    """`30s`, `10m`, `5h`, `1d` or `forever` to seconds (`forever` is -1)."""
    if value == "forever":
        return FOREVER
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]{1,9})\s*([smhd])\s*", value)
        if match:
            return int(match[1]) * _SECONDS[match[2]]
    raise _refused("duration", value, "a duration", "write a number and s, m, h or d, such as 10m, or `forever`")


def parse_window(value: Any) -> str:
    """`16:30-00:30`, hours of a day; the end is not in it, and may be on the next day."""
    hour = r"([01][0-9]|2[0-3]):[0-5][0-9]"
    if isinstance(value, str) and re.fullmatch(f"{hour}-{hour}", value):
        return value
    raise _refused("window", value, "a span of a day", "write it as 16:30-00:30")


def parse_retention(value: Any) -> int:
    """How long records are kept: a duration of a day at least, in seconds, or `forever` (-1)."""
    seconds = parse_duration(value)
    if seconds != FOREVER and seconds < _SECONDS["d"]:
        raise _refused("retention", value, "a day or more", "write days, such as 400d, or `forever`")
    return seconds


Count = Annotated[int, BeforeValidator(parse_count)]
Tokens = Annotated[int, BeforeValidator(parse_tokens)]
CardName = Annotated[Name, BeforeValidator(parse_card)]
Window = Annotated[str, BeforeValidator(parse_window)]
Bytes = Annotated[int, BeforeValidator(parse_bytes)]
Seconds = Annotated[int, BeforeValidator(parse_duration)]
Retention = Annotated[int, BeforeValidator(parse_retention)]


@dataclass(frozen=True, slots=True)
class Money:
    """An amount for a month, in the currency the operator wrote."""

    amount: float
    currency: str


def parse_money(value: Any) -> Money:
    """`20 USD/month` to Money."""
    if isinstance(value, Money):
        return value
    match = (
        re.fullmatch(r"\s*([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([A-Z]{3})\s*/\s*month\s*", value) if isinstance(value, str) else None
    )
    if not match:
        raise _refused("money", value, "a monthly sum", "write it as 20 USD/month")
    return Money(float(match[1]), match[2])


MonthlyMoney = Annotated[Money, BeforeValidator(parse_money)]


@dataclass(frozen=True, slots=True)
class SecretRef:
    """The name of a secret, never its value."""

    name: str

    def __str__(self) -> str:
        return f"secret:{self.name}"


def parse_secret_ref(value: Any) -> SecretRef:
    """`secret:anthropic_api_key` to SecretRef. A value that looks like the secret itself is refused, and not repeated."""
    if isinstance(value, SecretRef):
        return value
    match = re.fullmatch(r"secret:([a-z0-9][a-z0-9_]{0,62})", value) if isinstance(value, str) else None
    if not match:
        raise PydanticCustomError(
            "secret_ref",
            "the value is not a reference to a secret",
            {"mend": "write secret:NAME (lower case, digits and _), never the value itself; `mesh secrets set NAME` stores it"},
        )
    return SecretRef(match[1])


Secret = Annotated[SecretRef, BeforeValidator(parse_secret_ref)]


def parse_env_value(value: Any) -> SecretRef | str:
    """A variable's value: text, a whole number, or `secret:NAME`. YAML would write `true` and `1.10` in its own way."""
    if isinstance(value, SecretRef) or (isinstance(value, str) and value.startswith("secret:")):
        return parse_secret_ref(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.replace("\n", "").replace("\t", "").isprintable():
        raise _refused("env_value", value, "text", 'quote it, such as "true", "1.10" or ""')
    return value


EnvValue = Annotated[SecretRef | str, BeforeValidator(parse_env_value)]
