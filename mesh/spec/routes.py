"""Routes (the jobs that clients ask for by name), clients (who may ask) and the ledger (what is kept of it)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mesh.spec.types import Count, MonthlyMoney, Name, Retention, Secret, Spec, Tokens


class Volume(Spec):
    """Tokens a month that a route reads and writes: what it costs, and what another card would save."""

    in_: Count = Field(alias="in")
    out: Count


class Route(Spec):
    """A job. `to` answers; `fallback` is tried in order when it cannot; `overflow` when its plan or limit is spent."""

    to: Name
    fallback: tuple[Name, ...] = ()
    overflow: tuple[Name, ...] = ()
    privacy: Literal["any", "local"] = Field(default="any", description="`local`: nothing of it ever reaches a cloud provider.")
    context: Tokens | None = Field(
        default=None, ge=256, description="Tokens of prompt and answer that every model of the route must take."
    )
    availability: Literal["best-effort", "promised"] = Field(
        default="best-effort", description="`promised`: one dead card or provider must not end it."
    )
    retrieval: Literal["none", "required"] = Field(
        default="none", description="`required`: an error rather than an answer without sources."
    )
    volume: Volume | None = Field(default=None, description="Tokens a month: {in: 10M, out: 2M}.")

    @property
    def chain(self) -> tuple[str, ...]:
        """Every model that may answer, in the order in which they are tried."""
        return (self.to, *self.fallback, *self.overflow)


class Client(Spec):
    """Someone with an own key: a program, a pipeline, a person's laptop."""

    routes: tuple[Name, ...] = Field(min_length=1)
    budget: MonthlyMoney | None = None
    rpm: int | None = Field(default=None, ge=1, description="Requests per minute.")
    key: Secret | None = Field(default=None, description="Defaults to secret:client_<name>_key.")


class Ledger(Spec):
    """The gateway's record of requests: a row each, never the text."""

    keep: Retention = Field(
        default=400 * 86400,  # a year, and the month of a year ago beside it
        validate_default=False,
        description="How long a request's row is kept, such as 400d or `forever`. Budgets do not need the rows.",
    )
