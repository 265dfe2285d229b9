"""The gateway: the one LiteLLM that every client asks."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.rules.rule import Context, Problem, rule


def _gateways(context: Context) -> list[str]:
    return [name for name, stack in context.mesh.stacks.items() if stack.source is None and (stack.kind or name) == "litellm"]


@rule("gateway-missing", "warning")
def routes_have_a_gateway(context: Context) -> Iterator[Problem]:
    """The spec has routes, and no stack of kind litellm that would answer on them."""
    if context.mesh.routes and not _gateways(context):
        message = f"nothing answers on the {len(context.mesh.routes)} routes: there is no stack of kind litellm"
        yield Problem(("routes",), message, "add it under `stacks:`, such as litellm: {on: HOST}", on_key=True)


@rule("gateway-many", "error")
def there_is_one_gateway(context: Context) -> Iterator[Problem]:
    """The spec has two stacks of kind litellm. Budgets and keys live in the gateway, so there is only one."""
    first, *more = _gateways(context) or [""]
    for name in more:
        yield Problem(("stacks", name), f"stacks.{name}: `{first}` is the gateway already", "delete one of the two", on_key=True)


@rule("retrieval-not-enforced", "error")
def required_retrieval_is_enforced(context: Context) -> Iterator[Problem]:
    """A route says `retrieval: required`, which this version's gateway cannot enforce yet.

    The promise is an error rather than an answer without sources. Deploying the route would break it in silence, so the
    route is refused instead.
    """
    for name, route in context.mesh.routes.items():
        if route.retrieval == "required":
            message = f"routes.{name}: this version cannot enforce `retrieval: required`, so it refuses the route"
            yield Problem(("routes", name, "retrieval"), message, "drop `retrieval: required`, or the route")
