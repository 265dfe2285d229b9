"""Measurements of the mesh as the hardware model takes them. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from mesh.hardware.cards import cards
from mesh.hardware.models import known_model
from mesh.hardware.speed import Calibration, Measured, read_bytes, reference_rows
from mesh.measure.record import Measurement
from mesh.state.cards import SeenCard, same_card


def calibration(measurements: Iterable[Measurement]) -> Calibration:
    """The operator's own measurements, and the reference homelab's where there is none of the same model on the same card.

    Doubles measured nothing and are left out, and so are runs on a card or of a model that the catalogue does not know.
    Of several measurements of one model on one card the latest counts: drivers and engines change.
    """
    own: dict[tuple[str, str, bool], Measured] = {}
    for each in sorted(measurements, key=lambda each: each.taken):
        row = None if each.double else _row(each)
        if row is not None:
            own[row.card, row.model, row.spilled] = row
    theirs = [row for row in reference_rows() if not any(_same(row, mine) for mine in own.values())]
    return Calibration((*own.values(), *theirs))


def _same(one: Measured, other: Measured) -> bool:
    """Whether they are of the same model on the same card."""
    size = abs(one.file_bytes - other.file_bytes)
    return one.card == other.card and one.layers == other.layers and size <= 0.01 * other.file_bytes


def _row(each: Measurement) -> Measured | None:
    seen = SeenCard(each.card, "", None, None)
    card = next((card for card in cards().values() if same_card(card.slug, seen)), None)
    arch = known_model(each.model)
    if card is None or arch is None:
        return None
    return Measured(
        card=card.slug,
        model=each.model,
        layers=arch.layers,
        file_bytes=arch.blob_bytes,
        read_bytes=read_bytes(arch),
        tok_s=each.tok_s,
        context=each.tokens,
        engine=f"{each.engine} {each.version}, {each.taken[:10]}",
        spilled=each.spilled,
        moe=arch.active_bytes is not None,
        source=f"mesh bench on {each.host}",
        gpu_bytes=read_bytes(arch) * each.size_vram // each.size if each.spilled else None,
    )
