"""What fits a card and how fast it answers: cards, models and the engine's rules as data and pure functions.

Every size is in bytes, every time in seconds, every speed in tokens per second, unless a name says otherwise. The formulas
and where they come from are in docs/vram.md.
"""

GIB = 2**30
MIB = 2**20


def gib(count: float) -> str:
    """Bytes as GiB for a reader: `6.8 GiB`."""
    return f"{count / GIB:.1f} GiB"
