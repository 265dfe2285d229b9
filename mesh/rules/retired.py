"""Model ids die. The catalogue knows when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from mesh.catalogue import CloudModel
from mesh.rules.rule import Context, Problem, rule
from mesh.spec.providers import CloudProvider


def _known_ends(context: Context) -> Iterator[tuple[str, str, date, CloudModel]]:
    """(name, id, last day, what is known) for every model whose end is known."""
    for name, model in context.mesh.models.items():
        provider = context.mesh.providers.get(model.at)
        if isinstance(provider, CloudProvider) and model.id is not None:
            known = context.world.catalogue.cloud_model(provider.kind, model.id)
            if known is not None and known.retired is not None:
                yield name, model.id, known.retired, known


def _mend(known: CloudModel) -> str:
    return f"write id: {known.successor}" if known.successor else "choose another model"


@rule("model-retired", "warning")
def model_ids_still_answer(context: Context) -> Iterator[Problem]:
    """The provider has retired the model's id: requests to it fail, or reach another model under the old name.

    The dates are data, in mesh/data/catalogue.yaml. If you know better, say so in inventory/catalogue.yaml.
    """
    for name, model_id, day, known in _known_ends(context):
        if day <= context.world.today:
            on = f" on {day}" if day != date.min else ""
            yield Problem(("models", name, "id"), f"models.{name}: the provider retired `{model_id}`{on}", _mend(known))


@rule("model-retiring", "warning")
def model_ids_keep_answering(context: Context) -> Iterator[Problem]:
    """The provider has announced the day on which the model's id stops answering."""
    for name, model_id, day, known in _known_ends(context):
        if day > context.world.today:
            left = (day - context.world.today).days
            days = "1 day" if left == 1 else f"{left} days"
            message = f"models.{name}: the provider retires `{model_id}` on {day}, in {days}"
            yield Problem(("models", name, "id"), message, _mend(known))
