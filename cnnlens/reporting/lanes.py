"""The graph as a list with lanes at its side, as version control draws branches: a row a call, in the network's order.

A lane is held by a tensor from the call that makes it to the last one that takes it. A call goes on in the lane of an
input that ends there, or opens the first that is free; so a chain is one lane, and a branch stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["lanes"]


def lanes(feeds: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """Find where each call of a graph stands and what runs past it.

    Args:
        feeds: For each call, in topological order, the earlier ones that feed it.

    Returns:
        A row a call: ``lane``, where it stands; ``through``, the lanes that run past it from above to below; ``from``,
        those that reach it from above; ``out``, whether something below takes what it makes.

    >>> for row in lanes([[], [0], [1], [2, 0]]):  # a chain with a way around its middle
    ...     print(row)
    {'lane': 0, 'through': [], 'from': [], 'out': True}
    {'lane': 1, 'through': [0], 'from': [0], 'out': True}
    {'lane': 1, 'through': [0], 'from': [1], 'out': True}
    {'lane': 0, 'through': [], 'from': [0, 1], 'out': False}
    """
    last: dict[int, int] = {}
    for call, sources in enumerate(feeds):
        for source in sources:
            last[source] = call
    held: list[int | None] = []  # by lane, the call whose tensor runs in it
    place: dict[int, int] = {}
    rows: list[dict[str, Any]] = []
    for call, sources in enumerate(feeds):
        taken = sorted({place[source] for source in sources})
        ended = sorted({place[source] for source in sources if last[source] == call})
        for lane in ended:
            held[lane] = None
        through = [lane for lane, holder in enumerate(held) if holder is not None]
        free = (number for number, holder in enumerate(held) if holder is None)
        lane = ended[0] if ended else next(free, len(held))
        if call in last:
            held += [None] * (lane + 1 - len(held))
            held[lane] = call
        place[call] = lane
        rows.append({"lane": lane, "through": through, "from": taken, "out": call in last})
    return rows
