"""A model without a framework, ready to be run by the reference.

Everything that cnnlens shows or computes starts from a ``Network``: what a file, a live model or a conversion was read
into, whatever framework made it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from cnnlens.errors import in_one_line
from cnnlens.network.graph import Graph, Ref

__all__ = ["Network"]


@dataclass(repr=False)
class Network(Graph):
    """Holds a model without its framework: layers, arrays and the graph, which NumPy can run.

    ``cnnlens.open`` makes one. Nothing but the file's index is in memory; its attributes are those of ``Graph``:
    ``layers``, ``calls``, ``inputs``, ``outputs``, ``source``, ``notes``.

    >>> import cnnlens.sample
    >>> net = cnnlens.open(cnnlens.sample.MODEL)
    >>> [layer.name for layer in net.layers][:3]
    ['conv2d', 'max_pooling2d', 'conv2d_1']
    >>> len(net), net.parameters
    (8, 333526)
    >>> net.source.framework, net.source.format
    ('keras', 'keras')
    """

    def part(self, calls: Iterable[str]) -> Network:
        """Give the network without what stands behind or beside the calls named: its inputs are those that they need.

        The same network where they need none: something has to say how many examples there are.

        >>> import cnnlens.sample
        >>> net = cnnlens.open(cnnlens.sample.MODEL)
        >>> [call.name for call in net.part(["max_pooling2d"]).calls]
        ['input_layer', 'conv2d', 'max_pooling2d']
        """
        ends = list(calls)
        kept = tuple(self.needed(ends))
        names = {call.name for call in kept}
        inputs = tuple(ref for ref in self.inputs if ref.call in names)
        if not inputs:
            return self
        return replace(self, calls=kept, inputs=inputs, outputs=tuple(Ref(name) for name in ends))

    @in_one_line()
    def run(
        self, inputs: Any, layers: Iterable[str | int] | None = None, dtype: str = "float64", batch: int | None = None
    ) -> dict[str, NDArray[Any]]:
        """Compute feature maps with the NumPy reference; no framework is needed.

        Args:
            inputs: One array for a network with one input, else a sequence in the order of ``inputs`` or a mapping by
                input name, real numbers in the units that the model was trained on. Canonical axes
                ``(N, C, *spatial)`` or the file's own; where both fit, canonical.
            layers: Names or indices of the layers wanted; None for all.
            dtype: ``float64`` (the oracle) or ``float32``.
            batch: How many inputs go through at once; None lets the reference choose.

        Returns:
            Canonical arrays ``(N, C, *spatial)`` of ``dtype`` by name; a shared layer's second call is ``name:1``, a
            layer's second output ``name[1]``.

        Raises:
            UnsupportedLayerError: a needed layer is not in the reference; raised before anything runs.
            CnnlensError: the inputs do not fit, or a layer does not exist.

        >>> import cnnlens.sample
        >>> net = cnnlens.open(cnnlens.sample.MODEL)
        >>> images = cnnlens.images.load(cnnlens.sample.IMAGES, shape=(1, 28, 28))
        >>> maps = net.run(images.array, layers=["conv2d", "dense_1"])
        >>> for name, array in maps.items():
        ...     print(name, array.shape, array.dtype)
        conv2d (10, 32, 28, 28) float64
        dense_1 (10, 10) float64
        >>> cnnlens.sample.LABELS[maps["dense_1"][9].argmax()]
        'Ankle boot'
        """
        from cnnlens.reference.executor import Executor

        wanted: Sequence[str | int] | None = None if layers is None else list(layers)
        return Executor(self, dtype=dtype, layers=wanted).run(inputs, batch=batch)
