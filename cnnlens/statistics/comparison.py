"""Backends beside each other on the same inputs: statistics of each, how far apart they are, and the worst maps kept.

How far two runs are apart inherits every error before; whether a layer is right, ``check`` alone says.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.backend import seam as seam
from cnnlens.backend.summary import drawn, example_numbers, summary
from cnnlens.backend.worker import Chunk
from cnnlens.inputs.stream import InputStream
from cnnlens.page import Result
from cnnlens.recording.format import Description
from cnnlens.recording.ledger import Part, Wanted
from cnnlens.recording.runners import Runner
from cnnlens.statistics.apart import Apart
from cnnlens.statistics.folding import Folding, Maker, named
from cnnlens.statistics.result import Stats
from cnnlens.text import printable

__all__ = ["Comparing", "StatsComparison"]

Array = NDArray[Any]


@dataclass(frozen=True, repr=False)
class StatsComparison(Result, listing="statistics.listing", of="comparison", name="stats-comparison"):
    """Holds the statistics of several backends over the same inputs, and how far their feature maps are apart.

    Attributes:
        stats: By backend.
        apart: A row a layer and pair of backends, the first backend against each other.
        kept: Of the inputs on which they differ most, by index, the most first: by backend and layer the feature maps.
        names: Of those inputs.
        notes: Remarks.

    >>> import cnnlens.sample
    >>> found = cnnlens.stats(
    ...     cnnlens.sample.MODEL, cnnlens.sample.IMAGES, backends=["reference", "reference"], layers=["dense_1"]
    ... )
    >>> found.apart[0].max_abs, found.kept  # of what differs nowhere nothing is kept
    (0.0, {})
    """

    stats: Mapping[str, Stats]
    apart: Sequence[Apart]
    kept: Mapping[int, Mapping[str, Mapping[str, Array]]]
    names: Mapping[int, str]
    notes: Sequence[str] = ()

    def __repr__(self) -> str:
        first = next(iter(self.stats.values()))
        worst = max((one.rel_rms for one in self.apart), default=0.0)
        return (
            f"<StatsComparison of {', '.join(map(printable, self.stats))}: {len(first)} layers over {first.count:,} "
            f"inputs, at most {worst:.2g} of a layer's size apart>"
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the maps that were kept to an ``.npz``, as ``INDEX/BACKEND/LAYER``; whole or not at all.

        Raises:
            CnnlensError: it cannot be written.
        """
        from cnnlens.output import replacing

        arrays = {
            f"{index}/{backend}/{layer}": array
            for index, found in self.kept.items()
            for backend, maps in found.items()
            for layer, array in maps.items()
        }
        with replacing(path) as part, open(part, "wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        return Path(path)


class Comparing:
    """Takes the whole maps of several backends, batch after batch, and lets them go again; a ``Sink``."""

    first_alone = False

    def __init__(
        self, path: Path, labels: Sequence[str], descriptions: Sequence[Description], made: Maker, keep: int
    ) -> None:
        self.path, self.description = path, descriptions[0]
        self.done = 0
        self._made, self._keep = made, keep
        self._labels = _unlike(labels)
        self._foldings = [Folding(path, one, made) for one in descriptions]
        self._apart = {
            (layer, other): Apart(layer, (self._labels[0], self._labels[other]))
            for other in range(1, len(labels))
            for layer in made.tensors
        }
        self._kept: list[tuple[float, int, dict[str, dict[str, Array]]]] = []

    def beside(self, runners: Sequence[Runner]) -> Runner:
        """Make one runner of several: each computes each batch."""
        return _Beside(runners)

    def crc32(self, batch: int, tensor: str) -> int | None:
        return None

    def part(self, tensor: str, batch: int) -> Path:
        return self._foldings[0].part(tensor, batch)

    def wanted(self, batch: int) -> dict[str, Wanted]:
        return {tensor: Wanted() for tensor in self._made.tensors}

    def trouble(self, error: OSError | str) -> Any:
        return self._foldings[0].trouble(error)

    def commit(self, batch: int, parts: Mapping[str, Part]) -> None:
        start = batch * self.description.batch
        count = self.description.samples(batch)
        numbers = example_numbers([_read(parts[name])[:count] for name in self.description.inputs])
        maps = [
            {layer: _read(parts[f"{number}/{layer}"])[:count] for layer in self._made.tensors}
            for number in range(len(self._labels))
        ]
        for folding, found in zip(self._foldings, maps, strict=True):
            for layer, array in found.items():
                many = drawn(start + count, math.prod(array.shape[2:]), self._made.most)[0]
                folding.add(layer, summary(array, numbers, many))
        scores = np.zeros(count)
        for (layer, other), apart in self._apart.items():
            scores = np.maximum(scores, apart.add(maps[0][layer], maps[other][layer], start))
        for place in np.argsort(-scores, kind="stable")[: self._keep]:
            if scores[place] > (self._kept[-1][0] if len(self._kept) == self._keep else 0):
                found = {
                    label: {layer: np.array(array[place]) for layer, array in one.items()}
                    for label, one in zip(self._labels, maps, strict=True)
                }
                self._kept = sorted([*self._kept, (float(scores[place]), start + int(place), found)], key=_order)
                del self._kept[self._keep :]
        for part in parts.values():
            part.path.unlink()
        self.done += 1

    def result(self, notes: Sequence[str], stream: InputStream, shown: str | None) -> StatsComparison:
        """Give what there is so far."""
        stats = {
            label: folding.result((), stream, shown)
            for label, folding in zip(self._labels, self._foldings, strict=True)
        }
        names = named(self.description, [one.worst for one in self._apart.values()])
        for one in self._apart.values():
            one.name = names[one.worst]
        names = named(self.description, [index for _, index, _ in self._kept])
        kept = {index: found for _, index, found in self._kept}
        every = dict.fromkeys((*notes, *(note for one in stats.values() for note in one.notes)))
        return StatsComparison(stats, list(self._apart.values()), kept, names, tuple(every))


class _Beside:
    """Runs each batch under several backends; what comes is named ``NUMBER/TENSOR``."""

    at_once = 2

    def __init__(self, runners: Sequence[Runner]) -> None:
        self._runners = runners
        self.versions, self.device, self.layout = runners[0].versions, runners[0].device, runners[0].layout

    @property
    def notes(self) -> Sequence[str]:
        return [note for runner in self._runners for note in runner.notes]

    def begin(self, inputs: Sequence[Chunk], outputs: Mapping[str, Chunk], count: int, label: str) -> None:
        for number, runner in enumerate(self._runners):
            own = {
                name: replace(chunk, path=chunk.path.with_name(f"{chunk.path.name}.{number}"))
                for name, chunk in outputs.items()
            }
            runner.begin(inputs, own, count, label)

    def finish(self) -> dict[str, Part]:
        return {
            f"{number}/{name}": part
            for number, runner in enumerate(self._runners)
            for name, part in runner.finish().items()
        }

    def weights(self) -> Mapping[str, Mapping[str, seam.Fingerprint]]:
        return self._runners[0].weights()

    def release(self) -> None:
        for runner in self._runners:
            runner.release()


def _order(one: tuple[float, int, Any]) -> tuple[float, int]:
    return -one[0], one[1]


def _read(part: Part) -> Array:
    return np.fromfile(part.path, part.dtype).reshape(part.shape)


def _unlike(labels: Sequence[str]) -> list[str]:
    """The labels, with ``#2`` after one that was there before."""
    return [
        label if label not in labels[:at] else f"{label}#{labels[: at + 1].count(label)}"
        for at, label in enumerate(labels)
    ]
