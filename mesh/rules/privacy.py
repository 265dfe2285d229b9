"""What is private stays in the building."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.findings import Path
from mesh.rules.fallbacks import targets
from mesh.rules.rule import Context, Problem, rule


@rule("privacy-leak", "error")
def private_routes_stay_in_the_building(context: Context) -> Iterator[Problem]:
    """From a route with `privacy: local` some path reaches a model outside the building.

    Followed are `to`, `fallback` and `overflow`, and the chains of routes that are named there. A cloud provider is outside
    whatever its `base_url` says, and so is a tag of Ollama's that ends in `cloud`: Ollama hands those on to its own service.
    """
    for name, route in context.mesh.routes.items():
        if route.privacy != "local":
            continue
        for path, trail in _reached(context, name):
            model = context.mesh.models.get(trail[-1])
            if model is not None and context.leaves_the_building(model):
                way = " -> ".join(trail)
                message = f"routes.{name} is private, but {way} leaves the building: it is at {_where(context, trail[-1])}"
                yield Problem(path, message, f"remove `{trail[-1]}`, name a model of an Ollama, or drop `privacy: local`")


def _reached(context: Context, start: str) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """(place in the starting route, the names passed on the way) for every model that the route may end at."""
    routes = context.mesh.routes
    waiting: list[tuple[Path, tuple[str, ...]]] = [((), (start,))]
    seen: set[str] = {start}
    for first, trail in waiting:  # grows while it is read: breadth first
        name = trail[-1]
        for path, target in ((("routes", name, "to"), routes[name].to), *targets(name, routes[name])):
            if target in seen:
                continue
            seen.add(target)
            if target in context.mesh.models:
                yield first or path, (*trail, target)
            elif target in routes:
                waiting.append((first or path, (*trail, target)))


def _where(context: Context, model: str) -> str:
    at = context.mesh.models[model].at
    return f"`{at}`, by Ollama's cloud" if context.mesh.providers[at].local else f"`{at}`"
