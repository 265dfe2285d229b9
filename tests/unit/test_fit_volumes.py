"""Volumes of routes: tokens a month, written short, refused where they are not a count."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mesh.spec.routes import Route


@pytest.mark.parametrize(
    ("written", "tokens"), [("10M", 10**7), ("1.5M", 1_500_000), ("500k", 500_000), ("2G", 2 * 10**9), (42, 42), ("0", 0)]
)
def test_a_volume_is_a_count_of_tokens(written: Any, tokens: int) -> None:
    route = Route.model_validate({"to": "a", "volume": {"in": written, "out": written}})
    assert route.volume is not None
    assert (route.volume.in_, route.volume.out) == (tokens, tokens)


@pytest.mark.parametrize("written", ["10 million", "10m", "-1", -1, "10MB", True, None, 1.5, "1e9", [], "9" * 30])
def test_what_is_no_count_is_refused_with_an_example(written: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Route.model_validate({"to": "a", "volume": {"in": written, "out": 1}})
    assert caught.value.errors()[0]["ctx"]["mend"] == "write a number, or one with k, M or G, such as 10M"
