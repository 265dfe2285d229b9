"""Money."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.rules.rule import Context, Problem, rule
from mesh.spec.providers import CloudProvider


@rule("budget-missing", "warning")
def paid_models_need_a_budget(context: Context) -> Iterator[Problem]:
    """A client without a `budget` reaches a model that costs money, directly or as a fallback. Nothing ends a loop overnight.

    A cloud model counts as paid unless its `price` is zero or its provider is a flat `plan`.
    """
    for name, client in context.mesh.clients.items():
        if client.budget is not None:
            continue
        routes = [context.mesh.routes[route] for route in client.routes if route in context.mesh.routes]
        paid = [model for model in dict.fromkeys(model for route in routes for model in route.chain) if _costs(context, model)]
        if paid:
            message = f"clients.{name} has no budget and reaches {', '.join(paid)}, which cost money"
            yield Problem(("clients", name), message, "add budget: 10 USD/month, or take those routes away", on_key=True)


def _costs(context: Context, model: str) -> bool:
    provider = context.provider_of(model)
    if not isinstance(provider, CloudProvider) or provider.plan is not None:
        return False
    price = context.mesh.models[model].price
    return price is None or price.in_ > 0 or price.out > 0


@rule("budget-currency", "error")
def budgets_are_in_dollars(context: Context) -> Iterator[Problem]:
    """A client's budget is in another currency than US dollars. Prices are in US dollars and the gateway counts in them."""
    for name, client in context.mesh.clients.items():
        if client.budget is not None and client.budget.currency != "USD":
            message = f"clients.{name}: a budget in {client.budget.currency} cannot be counted, because prices are in USD"
            yield Problem(("clients", name, "budget"), message, f"write it in dollars: {client.budget.amount:g} USD/month")


@rule("price-missing", "error")
def prices_of_cloud_models_are_known(context: Context) -> Iterator[Problem]:
    """A route reaches a cloud model without a `price`, and its provider is no flat `plan`. No budget can count it."""
    used = dict.fromkeys(name for route in context.mesh.routes.values() for name in route.chain)
    for name in used:
        provider = context.provider_of(name)
        if isinstance(provider, CloudProvider) and provider.plan is None and context.mesh.models[name].price is None:
            message = f"models.{name} has no price, so what its answers cost cannot be counted"
            yield Problem(("models", name), message, "add price: {in: USD, out: USD} for a million tokens", on_key=True)
