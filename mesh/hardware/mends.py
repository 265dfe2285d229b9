"""What would make a model fit: each is found by trying it, so every one that is offered holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mesh.hardware.cards import cards
from mesh.hardware.footprint import KV_BYTES, Verdict
from mesh.hardware.models import Architecture, family, known_models
from mesh.hardware.schedule import Place, Wanted, loaded_with

LEAST_CONTEXT = 2048
"""Tokens; a smaller context is offered to nobody."""


def fits(model: Wanted, used: Sequence[int], places: Sequence[Place]) -> bool:
    """Whether it is wholly on the cards, by the prediction's middle."""
    return loaded_with(model, used, places).verdict is not Verdict.SPILLS


def largest_context(model: Wanted, used: Sequence[int], places: Sequence[Place]) -> int:
    """The largest context (a multiple of 256 tokens, at least LEAST_CONTEXT) below the model's own that fits; 0 for none."""
    low, high = LEAST_CONTEXT // 256 - 1, (model.context - 1) // 256
    while low < high:
        middle = (low + high + 1) // 2
        if fits(replace(model, context=middle * 256), used, places):
            low = middle
        else:
            high = middle - 1
    return low * 256 if low * 256 >= LEAST_CONTEXT else 0


def kv_types(model: Wanted, used: Sequence[int], places: Sequence[Place]) -> str:
    """The first KV type, from precise to coarse, with which it fits and that stores less than its own; empty for none."""
    if not model.flash:
        return ""
    coarser = [kind for kind in KV_BYTES if KV_BYTES[kind] < KV_BYTES[model.kv_type]]
    return next((kind for kind in coarser if fits(replace(model, kv_type=kind), used, places)), "")


def sibling(model: Wanted, used: Sequence[int], places: Sequence[Place]) -> Architecture | None:
    """The largest known model of the same family that is smaller and fits with the same context; None for none."""
    name = family(model.arch.tag)
    smaller = [each for each in known_models().values() if family(each.tag) == name and each.blob_bytes < model.arch.blob_bytes]
    for each in sorted(smaller, key=lambda arch: arch.blob_bytes, reverse=True):
        if each.max_context >= min(model.context, model.arch.max_context) and fits(replace(model, arch=each), used, places):
            return each
    return None


def vram_needed(model: Wanted, used: Sequence[int], places: Sequence[Place]) -> int:
    """Bytes of VRAM of the smallest card of the catalogue that would hold it in place of the first card; 0 for none."""
    for card in sorted(cards().values(), key=lambda card: card.vram_bytes):
        if fits(model, used, (Place(card, places[0].reserves), *places[1:])):
            return card.vram_bytes
    return 0
