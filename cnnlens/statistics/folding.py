"""What takes the batches of a run and folds them into statistics: nothing of a batch is kept but its few numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.backend.reductions import summary_of
from cnnlens.backend.summary import COLUMNS
from cnnlens.errors import MAKE_SPACE, CnnlensError
from cnnlens.inputs.stream import InputStream
from cnnlens.memory import refuse_beyond
from cnnlens.recording.format import Description
from cnnlens.recording.ledger import Part, Wanted
from cnnlens.recording.streaming import Plan
from cnnlens.statistics.layer import LayerStats
from cnnlens.statistics.result import Stats
from cnnlens.text import nearest, printable

__all__ = ["Folding", "Maker", "drawable", "named"]

_SAMPLE = 1 << 14  # values of a channel that quantiles are taken from, at most
_SAMPLES = 1 << 25  # of all channels together: 128 MB
_LEAST_SAMPLE = 1 << 9
_OTHERS = [COLUMNS.index(one) for one in ("finite", "nan", "inf", "-inf")]


class Maker:
    """Makes the ``LayerStats`` of each tensor of a plan.

    Attributes:
        tensors: What has a row for each input; ``notes``: what has not.
        most: How many values of a channel are sampled.
    """

    def __init__(self, what: Plan, top: int, by: str) -> None:
        self._network, self._top, self._by = what.network, top, by
        network = what.network
        self.tensors = tuple(name for name in what.computed if network.batch_axis(network.tensors[name]) == 0)
        if not self.tensors:
            raise CnnlensError(f"'{printable(what.computed[0])}' has no row for each input: there is nothing to count")
        uneven = [name for name in what.computed if name not in self.tensors]
        self.notes = (
            *what.notes,
            *(f"'{printable(one)}' has no row for each input, and is left out" for one in uneven),
        )
        shapes = [network.canonical_shape(network.tensors[name]) for name in self.tensors]
        channels = sum(shape[1] or 1 for shape in shapes if shape is not None and len(shape) > 1)
        kept = min(top, what.stream.count)
        refuse_beyond(
            32 * kept * channels,  # a score and whose it is, and both again while a batch is ranked
            f"keeping {kept:,} exciting inputs of each of {channels:,} channels",
            "ask for fewer with --top (in Python: top=N)",
        )
        fitting = 1 << (max(_SAMPLES // max(channels, 1), 1).bit_length() - 1)
        self.most = min(max(fitting, _LEAST_SAMPLE), _SAMPLE)

    def __call__(self, tensor: str, rows: NDArray[np.float64]) -> LayerStats:
        """Make it empty; the first ``rows`` to come show what the file may not say."""
        positions = int(rows[0, 0, _OTHERS].sum())
        known = self._shape(tensor)
        if known is None or math.prod(known[1:]) != positions:
            known = (rows.shape[1], positions)
        kind = self._network.calls_by_name[self._network.tensors[tensor].call].layer.shown_kind
        return LayerStats(tensor, kind, known, top=self._top, by=self._by, most=self.most)

    def _shape(self, tensor: str) -> tuple[int, ...] | None:
        shape = self._network.canonical_shape(self._network.tensors[tensor])
        sizes = [size for size in (shape or ())[1:] if size is not None]
        return None if shape is None or len(sizes) < len(shape) - 1 else tuple(sizes) or (1,)


class Folding:
    """Folds what a run gives into statistics; a ``Sink``."""

    first_alone = False

    def __init__(self, path: Path, description: Description, made: Maker) -> None:
        self.path, self.description = path, description
        self.done = 0
        self._made = made
        self._layers: dict[str, LayerStats] = {}
        self._complex: set[str] = set()

    def crc32(self, batch: int, tensor: str) -> int | None:
        return None

    def part(self, tensor: str, batch: int) -> Path:
        return self.path / f"{self.description.tensors.index(tensor)}-{batch}"

    def wanted(self, batch: int) -> dict[str, Wanted]:
        count = min((batch + 1) * self.description.batch, self.description.count)
        reduction = summary_of(count, self._made.most)
        return {tensor: Wanted(reduction=reduction, back=True) for tensor in self._made.tensors}

    def commit(self, batch: int, parts: Mapping[str, Part]) -> None:
        for tensor, part in parts.items():
            if tensor in self._made.tensors:
                self.add(tensor, np.fromfile(part.path, part.dtype).reshape(part.shape))
            part.path.unlink()
        self.done += 1

    def add(self, tensor: str, rows: NDArray[Any]) -> None:
        """Fold what ``summary`` made of the next inputs' maps."""
        if np.iscomplexobj(rows):
            self._complex.add(tensor)
            rows = np.real(rows)
        if tensor not in self._layers:
            self._layers[tensor] = self._made(tensor, rows)
        self._layers[tensor].add(rows)

    def trouble(self, error: OSError | str) -> CnnlensError:
        reason = error if isinstance(error, str) else (error.strerror or str(error))
        return CnnlensError(f"{printable(self.path, 300)}: it cannot be written ({reason}); {MAKE_SPACE}")

    def result(self, notes: Sequence[str], stream: InputStream, shown: str | None) -> Stats:
        """Give what there is so far."""
        layers = [self._layers[name] for name in self._made.tensors]
        for layer in layers:
            layer.names = named(self.description, (one.index for found in layer.exciting for one in found))
        exciting = self._layers[shown].names if shown is not None else ()
        pictures = {index: stream.batch(index, index + 1)[0][0] for index in exciting}
        measured = (
            f"'{printable(name)}' holds complex numbers: its statistics are of their magnitudes"
            for name in self._made.tensors
            if name in self._complex
        )
        return Stats(self.description, layers, (*notes, *measured), pictures, shown)


def named(description: Description, indices: Iterable[int]) -> dict[int, str]:
    """Name inputs after the files that they came from, as ``Recording.names`` does."""
    names: dict[int, str] = {}
    wanted, first = sorted(set(indices)), 0
    for name, count in next(iter(description.sources.values()), ()):
        while wanted and wanted[0] < first + count:
            index = wanted.pop(0)
            names[index] = name if count == 1 else f"{name} {index - first}"
        first += count
    return names


def drawable(what: Plan, wanted: str | int) -> str:
    """Find the tensor of a layer that is to be drawn.

    Raises:
        CnnlensError: it is not among those that are counted, or the inputs are no pictures.
    """
    name = wanted if isinstance(wanted, str) and wanted in what.computed else what.network[wanted].name
    if name not in what.computed:
        raise CnnlensError(
            f"draw: '{printable(name)}' is not among the layers asked for; {nearest(name, what.computed)}"
        )
    shape = what.stream.shapes[what.stream.names[0]]
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise CnnlensError(f"draw: pictures (1, H, W) or (3, H, W) were expected, and the inputs are {shape}")
    return name
