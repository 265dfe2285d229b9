"""`mesh plan --json`: its document, described in docs/plan.md. `version` rises when a key changes its meaning or goes.

Sizes are in bytes, times in seconds. No value of a secret is ever in it.
"""

from __future__ import annotations

from typing import Any

from mesh.cli.look import as_data, safe
from mesh.plan.effects import ServiceEffect, StackEffect
from mesh.plan.explain import Explanation
from mesh.plan.files import FileChange
from mesh.plan.vram import HostRoom
from mesh.state.plan import Plan

VERSION = 1


def plan_data(plan: Plan, meaning: Explanation) -> dict[str, Any]:
    """The plan and what it means, for programs."""
    return {
        "version": VERSION,
        "clean": plan.clean,
        **as_data(plan),
        "stacks": [_stack(each) for each in meaning.stacks],
        "files": [_file(each) for each in meaning.files],
        "pulls": [
            {"kind": each.kind, "name": each.name, "hosts": list(each.hosts), "bytes": each.size, "why": safe(each.why)}
            for each in meaning.pulls
        ],
        "vram": [_room(each) for each in meaning.vram],
        "risks": [
            {"host": each.host, "stack": each.stack, "kind": each.kind, "what": safe(each.what), "mend": safe(each.mend)}
            for each in meaning.risks
        ],
        "unread": [{"where": each.where, "why": safe(each.why), "mend": safe(each.mend)} for each in meaning.unread],
    }


def _stack(each: StackEffect) -> dict[str, Any]:
    return {
        "host": each.host,
        "stack": each.stack,
        "interruption": each.interruption,
        "last_seconds": each.seconds,
        "services": [_service(service) for service in each.services],
    }


def _service(each: ServiceEffect) -> dict[str, Any]:
    image = {"before": safe(each.image[0]), "after": safe(each.image[1])} if each.image else None
    return {"name": safe(each.name), "action": each.action, "why": list(map(safe, each.why)), "image": image}


def _file(each: FileChange) -> dict[str, Any]:
    text = None
    if each.diff is not None:
        text = {
            "added": each.diff.added,
            "removed": each.diff.removed,
            "lines": [safe(line) for line in each.diff.lines],
            "note": each.diff.note,
        }
    return {
        "host": each.host,
        "stack": each.stack,
        "path": safe(each.path),
        "verb": each.verb,
        "why": safe(each.why),
        "text": text,
    }


def _room(each: HostRoom) -> dict[str, Any]:
    loaded = None
    if each.loaded is not None:
        loaded = [{"model": safe(model.tag), "bytes": model.size, "on_card": model.size_vram} for model in each.loaded]
    cards = [
        {"card": card.card, "bytes": card.size, "used": card.used, "needed": card.needed, "over": card.over}
        for card in each.cards
    ]
    return {"host": each.host, "cards": cards, "loaded": loaded, "spilling": list(each.spilling)}
