"""What is private stays in the building."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.rules.fallbacks import MOST_NAMES, abridged, targets
from mesh.rules.rule import Context, Problem, rule


@rule("privacy-leak", "error")
def private_routes_stay_in_the_building(context: Context) -> Iterator[Problem]:
    """From a route with `privacy: local` some path reaches a model outside the building.

    Followed are `to`, `fallback` and `overflow`, and the chains of routes that are named there. A cloud provider is outside
    whatever its `base_url` says, and so is a tag of Ollama's that ends in `cloud`: Ollama hands those on to its own service.
    """
    way_out = _ways_out(context)
    for name, route in context.mesh.routes.items():
        if route.privacy != "local":
            continue
        for path, target in ((("routes", name, "to"), route.to), *targets(name, route)):
            if target in way_out:
                trail = _trail(way_out, target)
                way = abridged((name, *trail))
                message = f"routes.{name} is private, but {way} leaves the building: it is at {_where(context, trail[-1])}"
                yield Problem(path, message, f"remove `{target}`, name a model of an Ollama, or drop `privacy: local`")


def _ways_out(context: Context) -> dict[str, tuple[str, str]]:
    """Every model and route from which a request can leave: the next name on the shortest way out, and the model at its end."""
    mesh = context.mesh
    leads_to: dict[str, list[str]] = {}
    for name, route in mesh.routes.items():
        if name not in mesh.models:  # where both have the name, a target means the model
            for target in dict.fromkeys(route.chain):
                leads_to.setdefault(target, []).append(name)
    waiting = [name for name, model in mesh.models.items() if model.at in mesh.providers and not mesh.is_local(name)]
    way_out = {name: (name, name) for name in waiting}
    for name in waiting:  # grows while it is read: breadth first
        for earlier in leads_to.get(name, ()):
            if earlier not in way_out:
                way_out[earlier] = (name, way_out[name][1])
                waiting.append(earlier)
    return way_out


def _trail(way_out: dict[str, tuple[str, str]], start: str) -> list[str]:
    """The names on the way out, as many as a message has room for, and the last."""
    trail, end = [start], way_out[start][1]
    while trail[-1] != end and len(trail) < MOST_NAMES:
        trail.append(way_out[trail[-1]][0])
    return trail if trail[-1] == end else [*trail, end]


def _where(context: Context, model: str) -> str:
    at = context.mesh.models[model].at
    return f"`{at}`, by Ollama's cloud" if context.mesh.providers[at].local else f"`{at}`"
