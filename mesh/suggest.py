"""`did you mean ...?`: the nearest known word to a mistyped one, with a bound on the work."""

from __future__ import annotations

from collections.abc import Collection

_LONGEST = 63
"""Longer words are not looked up: no name of the spec is longer."""


class Suggester:
    """Finds near words until its budget of comparisons is spent, so that a file of nonsense cannot buy hours of them."""

    def __init__(self, comparisons: int = 20_000) -> None:
        self._left = comparisons

    def nearest(self, word: str, known: Collection[str], cutoff: float = 0.6) -> str | None:
        """The known word that is most like `word`; None when none is near or the budget is spent.

        cutoff: how alike they must be, from 0 (nothing in common) to 1 (the same).
        """
        if not 0 < len(word) <= _LONGEST or self._left < len(known):
            return None
        self._left -= len(known)
        from difflib import get_close_matches

        near = get_close_matches(word, known, n=1, cutoff=cutoff)
        return near[0] if near else None

    def mend(self, word: str, known: Collection[str], otherwise: str) -> str:
        """`did you mean X?`, or else the known words when they are few, or else `otherwise`."""
        near = self.nearest(word, known)
        if near is not None:
            return f"did you mean `{near}`?"
        return f"known: {', '.join(sorted(known))}" if 0 < len(known) <= 12 else otherwise
