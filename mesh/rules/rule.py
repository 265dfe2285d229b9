"""What a rule is: a function over the spec that yields problems. Its docstring is its page in docs/rules.md."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from mesh.findings import Path, Severity
from mesh.hardware.placement import Lane, lanes
from mesh.rules.world import World
from mesh.spec.mesh import Mesh
from mesh.spec.providers import OllamaProvider, Provider
from mesh.suggest import Suggester


@dataclass(frozen=True, slots=True)
class Problem:
    """One breach of a rule. `on_key`: the place is the key of `path`, not its value."""

    path: Path
    message: str
    mend: str
    on_key: bool = False


@dataclass(frozen=True)
class Context:
    """What a rule looks at. References in the spec may dangle: that is for `reference-unknown` to say, and no rule may trip."""

    mesh: Mesh
    world: World
    suggest: Suggester

    @cached_property
    def ollamas(self) -> dict[str, OllamaProvider]:
        """The Ollama providers by name."""
        return self.mesh.ollamas

    @cached_property
    def lanes(self) -> dict[str, Lane]:
        """The Ollama providers that use cards, with what they are asked to hold."""
        return lanes(self.mesh)

    def provider_of(self, model: str) -> Provider | None:
        """The provider of a model by name; None where either is unknown."""
        found = self.mesh.models.get(model)
        return self.mesh.providers.get(found.at) if found else None

    def section(self, stack: str) -> str:
        """The part of the spec that declares a stack: an Ollama's is its provider."""
        return "providers" if stack in self.ollamas and stack not in self.mesh.stacks else "stacks"


Check = Callable[[Context], Iterator[Problem]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as it is registered."""

    id: str
    severity: Severity
    check: Check

    @property
    def page(self) -> str:
        """Its documentation: the docstring."""
        return inspect.getdoc(self.check) or ""


RULES: dict[str, Rule] = {}
"""Every rule by id, in the order of registration."""


def rule(rule_id: str, severity: Severity) -> Callable[[Check], Check]:
    """Register a function as the rule with this id."""

    def register(check: Check) -> Check:
        if rule_id in RULES:
            raise ValueError(f"two rules have the id {rule_id}")
        RULES[rule_id] = Rule(rule_id, severity, check)
        return check

    return register
