"""What runs a recording's batches elsewhere than here, and how it is found.

An engine spreads the batches of a run over processes or machines: the entry-point group ``cnnlens.engines`` names a
function that starts one. Core imports none, and what one machine does needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Any, Protocol, runtime_checkable

from cnnlens.errors import CnnlensError
from cnnlens.recording.ledger import Part
from cnnlens.recording.runners import Loaded
from cnnlens.recording.sinks import Sink
from cnnlens.text import nearest, printable

__all__ = ["GROUP", "Cluster", "engine"]

GROUP = "cnnlens.engines"


@runtime_checkable
class Cluster(Loaded, Protocol):
    """Runs a network on workers that take batches by themselves, all with one framework on one kind of device."""

    def results(self, sink: Sink, batches: Sequence[int]) -> Iterator[dict[str, Part]]:
        """Have batches computed in whatever order, and give what ``sink`` wants of them in theirs."""
        ...


def engine(name: str) -> Callable[[Any], Cluster]:
    """Import what starts the engine of that name for a ``Plan``.

    Raises:
        CnnlensError: there is none; names the nearest.
    """
    points = {point.name: point for point in metadata.entry_points(group=GROUP)}
    if name not in points:
        raise CnnlensError(f"no engine is named '{printable(name)}'; {nearest(name, points)}")
    return points[name].load()
