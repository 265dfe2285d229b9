"""Names that point at something: hosts, stacks, providers, models, routes."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from mesh.findings import Path
from mesh.rules.rule import Context, Problem, rule
from mesh.spec.mesh import Mesh
from mesh.spec.providers import OllamaProvider

Reference = tuple[Path, str, str, Collection[str]]
"""(where it stands, the name in it, what it has to be the name of, the names there are)"""


@rule("reference-unknown", "error")
def names_point_at_something(context: Context) -> Iterator[Problem]:
    """A name stands for something that the spec does not have.

    Checked are `on` (a host), `through` (a stack), `at` (a provider), `to`, `fallback` and `overflow` (models) and a
    client's `routes`. Mostly it is a typing mistake, and the nearest name there is comes with the message.
    """
    for path, name, kind, known in _references(context.mesh):
        if name not in known:
            owner = ".".join(str(part) for part in path[:2])
            mend = context.suggest.mend(name, known, f"declare it under `{kind}s:`, or correct the name")
            yield Problem(path, f"{owner}: there is no {kind} `{name}`", mend)


@rule("stack-unknown", "error")
def stacks_have_a_folder(context: Context) -> Iterator[Problem]:
    """A stack has no folder under stacks/ of its `kind` (which is its name where the spec gives none), and no `source`."""
    known = context.world.kinds
    for name, stack in context.mesh.stacks.items():
        kind = stack.kind or name
        if stack.source is None and kind not in known:
            mend = context.suggest.mend(kind, known, f"make the folder stacks/{kind}, or give `source:`")
            yield Problem(
                ("stacks", name, "kind"), f"stacks.{name}: there is no folder stacks/{kind}", mend, on_key=not stack.kind
            )


def _references(mesh: Mesh) -> Iterator[Reference]:
    for name, provider in mesh.providers.items():
        if isinstance(provider, OllamaProvider):
            yield ("providers", name, "on"), provider.on, "host", mesh.hosts
        elif provider.through is not None:
            yield ("providers", name, "through"), provider.through, "stack", mesh.stacks
    for name, model in mesh.models.items():
        yield ("models", name, "at"), model.at, "provider", mesh.providers
    for name, route in mesh.routes.items():
        yield ("routes", name, "to"), route.to, "model", mesh.models
        for field, targets in (("fallback", route.fallback), ("overflow", route.overflow)):
            for index, target in enumerate(targets):
                if target not in mesh.routes:  # `fallback-route` has more to say about those
                    yield ("routes", name, field, index), target, "model", mesh.models
    for name, client in mesh.clients.items():
        for index, route_name in enumerate(client.routes):
            yield ("clients", name, "routes", index), route_name, "route", mesh.routes
    for name, stack in mesh.stacks.items():
        yield ("stacks", name, "on"), stack.on, "host", mesh.hosts


@rule("model-identity", "error")
def models_are_named_as_their_provider_names_them(context: Context) -> Iterator[Problem]:
    """A model of an Ollama needs a `tag` (`llama3.1:8b`), a model of a cloud API an `id` (`claude-opus-5-5`)."""
    for name, model in context.mesh.models.items():
        provider = context.mesh.providers.get(model.at)
        if provider is None:
            continue
        wanted, given = ("tag", "id") if isinstance(provider, OllamaProvider) else ("id", "tag")
        if getattr(model, wanted) is None:
            message = f"models.{name}: `{model.at}` is of kind {provider.kind}, so the model needs `{wanted}`, not `{given}`"
            yield Problem(("models", name, given), message, f"write {wanted}: in place of {given}:", on_key=True)
