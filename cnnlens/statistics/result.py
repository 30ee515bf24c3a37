"""What a run of ``stats`` found: layers with their statistics, and what ran; it can be merged with another part's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack, cast, overload

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.page import Result
from cnnlens.statistics.layer import QUANTILES, LayerStats
from cnnlens.text import nearest, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cnnlens.plot.front import Look
    from cnnlens.recording.format import Description

__all__ = ["Stats"]


class Stats(Result, Mapping[str, LayerStats], listing="statistics.listing", name="stats"):
    """Gives the statistics of each layer's feature maps by its name, in the network's order.

    ``str`` is a table, a row a layer. It can be pickled, to be merged elsewhere.

    Attributes:
        info: What ran, as a recording's ``info``: ``model``, ``inputs``, ``backend``, ``versions``, ``device``, ….
        count: How many inputs it has seen; ``wanted``: how many there were. Fewer were seen where it was interrupted.
        notes: Remarks.
        pictures: The most exciting inputs of the layer that ``stats`` was asked to draw, canonical, by index.

    >>> import cnnlens.sample
    >>> stats = cnnlens.stats(cnnlens.sample.MODEL, cnnlens.sample.IMAGES, layers=["conv2d", "dense_1"])
    >>> stats
    <Stats fashion_mnist_cnn.keras: 2 layers over 10 inputs, reference on cpu>
    >>> list(stats), stats.count
    (['conv2d', 'dense_1'], 10)
    >>> stats["conv"]
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: there are no statistics of 'conv'; did you mean 'conv2d'?
    """

    def __init__(
        self,
        description: Description,
        layers: Sequence[LayerStats],
        notes: Sequence[str] = (),
        pictures: Mapping[int, NDArray[Any]] | None = None,
        drawn: str | None = None,
    ) -> None:
        """Made by ``cnnlens.stats``."""
        self.wanted = description.count
        self.count = layers[0].count if layers else 0
        self.info: dict[str, Any] = {**description.to_json(), "complete": self.count == self.wanted}
        self.notes = tuple(notes)
        self.pictures = dict(pictures or {})
        self._drawn = drawn
        self._layers = {one.name: one for one in layers}

    def __getitem__(self, name: str) -> LayerStats:
        if name not in self._layers:
            raise CnnlensError(f"there are no statistics of '{printable(name)}'; {nearest(name, self._layers)}")
        return self._layers[name]

    def __contains__(self, name: object) -> bool:
        return name in self._layers

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __repr__(self) -> str:
        seen = f"{self.count:,}" if self.count == self.wanted else f"{self.count:,} of {self.wanted:,}"
        return (
            f"<Stats {printable(self.info['model']['file'])}: {len(self)} layers over {seen} inputs, "
            f"{printable(self.info['backend'])} on {printable(self.info['device'])}>"
        )

    def merge(self, other: Stats) -> Stats:
        """Give the statistics over this one's inputs and, behind them, the other's.

        They are those of one run over all, bit for bit, as far as the backend computes an input alike in both.

        Raises:
            CnnlensError: they are of another model, of other layers, or were made otherwise.

        >>> import cnnlens.sample
        >>> model, images = cnnlens.sample.MODEL, sorted(cnnlens.sample.IMAGES.iterdir())
        >>> one, two, whole = (cnnlens.stats(model, some, batch=2) for some in (images[:4], images[4:], images))
        >>> merged = one.merge(two)
        >>> merged.count, all((merged[name].variance == whole[name].variance).all() for name in whole)
        (10, True)
        """
        for what in ("backend", "precision"):
            if self.info[what] != other.info[what]:
                mine, its = printable(self.info[what]), printable(other.info[what])
                raise CnnlensError(f"the {what} is {mine} here and {its} there; merge statistics that were made alike")
        if self.info["model"]["network_hash"] != other.info["model"]["network_hash"]:
            raise CnnlensError("they are statistics of two models; merge those of one")
        if list(self) != list(other):
            raise CnnlensError("they are statistics of other layers; merge those of the same, in one order")
        whole = copy.copy(self)
        whole._layers = {name: self[name].merge(other[name]) for name in self}
        both = self.pictures | {index + self.count: one for index, one in other.pictures.items()}
        kept = whole[self._drawn].names if self._drawn is not None else ()
        whole.pictures = {index: both[index] for index in kept if index in both}
        whole.count, whole.wanted = self.count + other.count, self.wanted + other.wanted
        whole.notes = tuple(dict.fromkeys((*self.notes, *other.notes)))
        inputs = {
            **self.info["inputs"],
            "sha256": None,
            "sources": {
                name: [*found, *other.info["inputs"]["sources"][name]]
                for name, found in self.info["inputs"]["sources"].items()
            },
        }
        whole.info = {**self.info, "count": whole.wanted, "complete": whole.count == whole.wanted, "inputs": inputs}
        return whole

    def to_xarray(self) -> Any:
        """Give an ``xarray.Dataset`` with an array ``(channel, statistic)`` for each layer.

        Raises:
            CnnlensError: xarray is not installed.

        >>> import cnnlens.sample
        >>> stats = cnnlens.stats(cnnlens.sample.MODEL, cnnlens.sample.IMAGES, layers=["conv2d"])
        >>> dataset = stats.to_xarray()
        >>> dataset["conv2d"].dims, dataset["conv2d"].sel(statistic="mean").shape
        (('conv2d_channel', 'statistic'), (32,))
        """
        try:
            import xarray
        except ImportError:
            raise CnnlensError("to_xarray needs xarray; install it with: pip install xarray") from None
        names = ["mean", "std", "min", *(f"q{share:g}" for share in QUANTILES), "max", "zeros", "nan", "infinite"]
        arrays = {
            name: (
                (f"{name}_channel", "statistic"),
                np.stack(
                    [one.mean, one.std, one.min, *map(one.quantile, QUANTILES), one.max, one.zeros, one.nan,
                     one.infinite],
                    axis=1,
                ),
            )
            for name, one in self.items()
        }  # fmt: skip
        return xarray.Dataset(arrays, coords={"statistic": names})

    @overload
    def draw(self, *, ax: Axes, **look: Unpack[Look]) -> Axes: ...
    @overload
    def draw(self, *, ax: None = None, **look: Unpack[Look]) -> Figure: ...
    def draw(self, *, ax: Axes | None = None, **look: Unpack[Look]) -> Figure | Axes:
        """Draw the inputs that excite the layer named by ``stats(draw=…)`` most, a row a channel, as ``plot.exciting``.

        Raises:
            CnnlensError: no layer was named, or the inputs are no pictures.

        >>> import cnnlens.sample
        >>> stats = cnnlens.stats(cnnlens.sample.MODEL, cnnlens.sample.IMAGES, layers=["conv2d"], draw="conv2d", top=3)
        >>> cnnlens.plot.save(stats.draw(), "exciting.png").name
        'exciting.png'
        """
        if self._drawn is None:
            raise CnnlensError("no layer's inputs were kept to be drawn; name it: stats(…, draw='layer')")
        from cnnlens.plot import exciting

        layer = self[self._drawn]
        file = printable(self.info["model"]["file"], 40)
        of = "largest activation" if layer.by == "max" else "mean activation"
        said: dict[str, Any] = {
            "title": f"{printable(layer.name, 40)}: the inputs that excite each channel most",
            "subtitle": f"{printable(layer.kind)} · by {of} · {self.count:,} inputs · {file}",
        }
        draw = cast("Callable[..., Figure | Axes]", exciting)
        return draw(
            [[(self.pictures[one.index], one.value) for one in found] for found in layer.exciting],
            silent=[int(channel) for channel in np.flatnonzero(layer.dead)],
            ax=ax,
            **{**said, **look},
        )
