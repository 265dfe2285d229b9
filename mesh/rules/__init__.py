"""The rules of `mesh check`. One file a subject; importing a file registers its rules."""

from __future__ import annotations

from mesh.findings import Finding, sorted_by_place
from mesh.rules import (  # noqa: F401
    addresses,
    budgets,
    fallbacks,
    gateway,
    ignores,
    images,
    names,
    ports,
    privacy,
    references,
    retired,
    secrets,
    vram,
    vram_engine,
    vram_fit,
    vram_schedule,
)
from mesh.rules.rule import RULES, Context
from mesh.rules.world import World
from mesh.spec.load import LoadedSpec
from mesh.suggest import Suggester


def check(loaded: LoadedSpec, world: World) -> tuple[Finding, ...]:
    """Every finding of every rule, in the order of the file."""
    context = Context(loaded.mesh, world, Suggester())
    findings = [
        Finding(
            rule.id,
            rule.severity,
            problem.message,
            problem.mend,
            loaded.source.locate(problem.path, key=problem.on_key),
            problem.path,
        )
        for rule in RULES.values()
        for problem in rule.check(context)
    ]
    return tuple(sorted_by_place(findings))
