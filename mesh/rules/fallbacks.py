"""Chains of fallbacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mesh.findings import Path
from mesh.rules.rule import Context, Problem, rule
from mesh.spec.routes import Route


def targets(name: str, route: Route) -> Iterator[tuple[Path, str]]:
    """(place, target) for every fallback and overflow target of a route."""
    for field, names in (("fallback", route.fallback), ("overflow", route.overflow)):
        for index, target in enumerate(names):
            yield ("routes", name, field, index), target


@rule("fallback-repeats", "error")
def a_chain_names_each_model_once(context: Context) -> Iterator[Problem]:
    """A route falls back to the model that has just failed, or names a target twice in one list: a dead target."""
    for name, route in context.mesh.routes.items():
        seen: set[tuple[str, str]] = set()
        for path, target in targets(name, route):
            field = str(path[2])
            if target == route.to:
                message = f"routes.{name}: `{target}` is the route's own `to`, so it cannot stand in for it"
                yield Problem(path, message, f"remove it from `{field}`")
            elif (field, target) in seen:
                yield Problem(path, f"routes.{name}: `{target}` is in `{field}` twice", "remove one of the two")
            seen.add((field, target))


@rule("fallback-route", "error")
def fallback_targets_are_models(context: Context) -> Iterator[Problem]:
    """A fallback target is the name of a route. Targets are models: what happens after a failure is then all in one line."""
    for name, route in context.mesh.routes.items():
        for path, target in targets(name, route):
            other = context.mesh.routes.get(target)
            if other is not None and target not in context.mesh.models:
                message = f"routes.{name}: `{target}` is a route; a fallback target is a model"
                yield Problem(path, message, f"name its models: {', '.join(dict.fromkeys(other.chain))}")


@rule("fallback-cycle", "error")
def chains_end(context: Context) -> Iterator[Problem]:
    """Routes that name each other as fallbacks never end: a failing request would go round."""
    finished: set[str] = set()
    for start in context.mesh.routes:
        trail: list[str] = []
        position: dict[str, int] = {}
        pending = [iter((start,))]
        while pending:
            name = next(pending[-1], None)
            if name is None:
                pending.pop()
                if trail:
                    left = trail.pop()
                    del position[left]
                    finished.add(left)
            elif name in position:
                circle = abridged((*trail[position[name] :], name))
                message = f"routes.{name}: its fallbacks come back to it: {circle}"
                yield Problem(("routes", name), message, f"take `{name}` out of the chain of `{trail[-1]}`", on_key=True)
            elif name not in finished:
                position[name] = len(trail)
                trail.append(name)
                onward = dict.fromkeys(target for _, target in targets(name, context.mesh.routes[name]))
                pending.append(iter([target for target in onward if target in context.mesh.routes]))


MOST_NAMES = 8
"""How many names of a chain a message spells out."""


def abridged(names: Sequence[str]) -> str:
    """`a -> b -> c`, with the middle left out where there are many."""
    shown = names if len(names) <= MOST_NAMES else (*names[: MOST_NAMES - 2], "...", names[-1])
    return " -> ".join(shown)


@rule("fallback-mixed", "error")
def chat_and_embedding_do_not_mix(context: Context) -> Iterator[Problem]:
    """A chat model stands in for an embedding model or the other way round. The answer would not even have the same shape."""
    models = context.mesh.models
    for name, route in context.mesh.routes.items():
        first = models.get(route.to)
        for path, target in targets(name, route):
            other = models.get(target)
            if first is not None and other is not None and first.kind != other.kind:
                message = f"routes.{name}: `{route.to}` is a model for {first.kind}, `{target}` one for {other.kind}"
                yield Problem(path, message, f"remove `{target}`, or name a model for {first.kind}")


@rule("fallback-embedding", "error")
def embeddings_have_no_fallback(context: Context) -> Iterator[Problem]:
    """An embedding route has a fallback. Vectors of two models do not compare, so a silent change of model spoils the index.

    An embedding route answers from its own model or not at all; the client sees the error and tries again later.
    """
    models = context.mesh.models
    for name, route in context.mesh.routes.items():
        first = models.get(route.to)
        for path, target in targets(name, route):
            other = models.get(target)
            if first is not None and other is not None and first.kind == other.kind == "embedding" and target != route.to:
                message = f"routes.{name}: vectors of `{target}` do not compare with those of `{route.to}`"
                yield Problem(path, message, f"remove `{path[2]}`: an embedding route errors rather than change its model")


@rule("route-context", "error")
def every_model_takes_what_the_route_promises(context: Context) -> Iterator[Problem]:
    """A model of the chain takes fewer tokens than the route's `context`, or nobody has declared how many it takes.

    A prompt that the first model would have taken then fails, or loses its beginning, just when another has to answer.
    """
    models = context.mesh.models
    for name, route in context.mesh.routes.items():
        for path, target in [(("routes", name, "to"), route.to), *targets(name, route)] if route.context else []:
            model = models.get(target)
            if model is not None and (model.context or 0) < (route.context or 0):
                takes = f"takes {model.context}" if model.context else "declares no context"
                message = f"routes.{name} promises {route.context} tokens, and `{target}` {takes}"
                yield Problem(path, message, f"remove `{target}`, declare its context, or promise less")


@rule("route-availability", "warning")
def a_promised_route_outlives_its_first_provider(context: Context) -> Iterator[Problem]:
    """A route promises `availability`, and all of its models are on one card or at one provider: it dies with it."""
    for name, route in context.mesh.routes.items():
        places = {context.mesh.models[each].at for each in route.chain if each in context.mesh.models}
        if route.availability != "promised" or not places:
            continue
        hosts = {found.on if (found := context.ollamas.get(place)) else place for place in places}
        if len(hosts) == 1:
            message = f"routes.{name} promises availability, and everything that answers it is at {', '.join(sorted(places))}"
            yield Problem(("routes", name, "availability"), message, "add a fallback elsewhere, or drop `availability: promised`")
