"""`mesh fit --json`: its documents. Sizes in bytes, speeds in tokens a second; `version` rises when a key changes its meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mesh.fit.verdict import Bar, HostFit, ModelFit
from mesh.fit.volumes import Ledger, Volume
from mesh.fit.whatif import Ranked, Swap
from mesh.hardware.speed import Speed

VERSION = 1


def of_hosts(hosts: Sequence[HostFit]) -> dict[str, Any]:
    return {"version": VERSION, "fits": all(host.fits for host in hosts), "hosts": [_host(host) for host in hosts]}


def of_swap(found: Swap, ledger: Ledger | None) -> dict[str, Any]:
    return {
        "version": VERSION,
        "volumes": {"from": "the spec"} if ledger is None else {"from": "the ledger", "days": round(ledger.days, 2)},
        "fits": found.then.fits,
        "host": found.host,
        "today": _host(found.today),
        "then": _host(found.then),
        "usable": list(found.usable),
        "contexts": dict(found.contexts),
        "candidates": [{"tag": each.tag, "context": each.context, "tok_s": _speed(each.speed)} for each in found.candidates],
        "in_house": [
            {
                "route": each.route,
                "now": each.now,
                "could": list(each.could),
                "usd_a_month": each.month.usd if each.month else None,
                "tokens_a_month": {"in": round(each.month.tokens_in), "out": round(each.month.tokens_out)}
                if each.month
                else None,
                "hours_a_month": each.hours,
                "kwh_a_month": each.kwh,
            }
            for each in found.in_house
        ],
        "watts": {"today": found.watts[0], "then": found.watts[1]},
    }


def _tokens(month: Volume | None) -> dict[str, int] | None:
    return None if month is None else {"in": round(month.tokens_in), "out": round(month.tokens_out)}


def of_ranking(ranked: Mapping[str, Sequence[Ranked]]) -> dict[str, Any]:
    hosts = {
        host: [
            {
                "card": each.card.slug,
                "vram": each.card.vram_bytes,
                "fitting": each.fitting,
                "models": each.models,
                "daily": _speed(each.daily),
                "daily_fits": each.daily_fits,
                "watts": each.card.tdp_w,
            }
            for each in cards
        ]
        for host, cards in ranked.items()
    }
    return {"version": VERSION, "hosts": hosts}


def _host(host: HostFit) -> dict[str, Any]:
    return {
        "host": host.host,
        "fits": host.fits,
        "cards": [_bar(bar) for bar in host.bars],
        "models": [_model(model) for model in host.models],
    }


def _bar(bar: Bar) -> dict[str, Any]:
    parts = [{"name": part.name, "kind": part.kind, "bytes": part.size} for part in bar.parts]
    return {"card": bar.card, "vram": bar.total, "over": bar.over, "parts": parts}


def _model(model: ModelFit) -> dict[str, Any]:
    need, placed = model.need, model.placed
    return {
        "name": model.name,
        "tag": model.tag,
        "ollama": model.lane,
        "context": model.context,
        "resident": model.resident,
        "verdict": model.verdict.value if model.verdict else None,
        "spill_allowed": model.allowed,
        "takes": None
        if need is None
        else {
            "total": need.total,
            "weights": need.weights,
            "kv": need.kv,
            "compute": need.compute,
            "projector": need.projector,
        },
        "spare": model.spare if model.verdict else None,
        "layers": None if placed is None else {"on_card": placed.layers_gpu, "all": placed.layers},
        "context_that_fits": model.context_that_fits,
        "evicts": list(model.evicts),
        "tok_s": {"short": _speed(model.short), "full": _speed(model.full)},
        "load_s": list(model.load),
    }


def _speed(speed: Speed | None) -> dict[str, Any] | None:
    if speed is None:
        return None
    return {"tok_s": speed.tok_s, "low": speed.low, "high": speed.high, "basis": speed.basis, "note": speed.note}
