"""Measurements of the mesh as the hardware model takes them. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from mesh.hardware.cards import cards, named
from mesh.hardware.models import Architecture, canonical, known_model
from mesh.hardware.placement import architecture
from mesh.hardware.speed import Calibration, Measured, read_bytes, reference_rows
from mesh.measure.record import Measurement
from mesh.spec.mesh import Mesh


def calibration(measurements: Iterable[Measurement], mesh: Mesh | None = None) -> Calibration:
    """The operator's own measurements, and the reference homelab's where there is none of the same model on the same card.

    mesh: tells cards of one name apart, and has the numbers of models that the catalogue does not know. Doubles measured nothing
    and are left out, and so are runs on a card or of a model that is known to neither, and runs on several cards: which of them
    answered is not told. Of several measurements of one model on one card the latest counts: drivers and engines change.
    """
    own: dict[tuple[str, str, bool], Measured] = {}
    for each in sorted(measurements, key=lambda each: each.taken):
        row = None if each.double else _row(each, mesh)
        if row is not None:
            own[row.card, row.model, row.spilled] = row
    theirs = [row for row in reference_rows() if not any(_same(row, mine) for mine in own.values())]
    return Calibration((*own.values(), *theirs))


def _same(one: Measured, other: Measured) -> bool:
    """Whether they are of the same model on the same card."""
    size = abs(one.file_bytes - other.file_bytes)
    return one.card == other.card and one.layers == other.layers and size <= 0.01 * other.file_bytes


def _row(each: Measurement, mesh: Mesh | None) -> Measured | None:
    card, arch = _card(each, mesh), _architecture(each, mesh)
    if card is None or arch is None:
        return None
    return Measured(
        card=card,
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


def _card(each: Measurement, mesh: Mesh | None) -> str | None:
    """The slug of the card that nvidia-smi named: the one that the spec has in that host, else the catalogue's first.

    The name alone does not tell a card of 6 GB from its sister of 12.
    """
    host = mesh.hosts.get(each.host) if mesh is not None else None
    declared = [gpu.card for gpu in host.gpus if gpu.card in cards()] if host is not None else []
    meant = named(each.card)
    return next((slug for slug in (*declared, *meant) if slug in meant), None)


def _architecture(each: Measurement, mesh: Mesh | None) -> Architecture | None:
    models = mesh.models.values() if mesh is not None else ()
    own = next(
        (model for model in models if model.at == each.stack and canonical(model.tag or "") == canonical(each.model)), None
    )
    found = architecture(own) if own is not None else known_model(each.model)
    return found if found is not None and found.layered else None
