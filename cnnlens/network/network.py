"""A model without a framework, ready to be run by the reference.

Everything that cnnlens shows or computes starts from a ``Network``: what a file, a live model or a conversion was read
into, whatever framework made it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from cnnlens.errors import in_one_line
from cnnlens.network.graph import Graph, Ref, layers_asked
from cnnlens.page import Page, Shown

if TYPE_CHECKING:
    from cnnlens.inputs.stream import Inputs

__all__ = ["Network"]


@dataclass(repr=False)
class Network(Graph, Shown, listing="network.summary"):
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

    def summary(self) -> Page:
        """Give what ``cnnlens summary`` prints: a notebook and a Python prompt show it, ``print`` prints it whole.

        >>> import cnnlens.sample
        >>> print(str(cnnlens.open(cnnlens.sample.MODEL).summary()).splitlines()[1])
        Sequential 'fashion_mnist_cnn' · Keras 3.15.1 · keras · 1,365,067 bytes · 333,526 parameters
        """
        return self._said("page")

    @in_one_line()
    def read(
        self, inputs: Any, *, scale: str = "auto", limit: int | None = None, allow_nonfinite: bool = False
    ) -> Inputs:
        """Read inputs as ``run`` and ``cnnlens.record`` take them, and say how they were understood.

        Args:
            inputs: Paths or arrays, a mapping by input name or a sequence in the order of ``inputs`` where there are
                several. A folder of PNG and JPEG files, ``.npy``, ``.npz``, IDX (``.gz`` too); images of whole numbers
                as ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)``. An array of real numbers that has the model's
                size is taken as it is, and so are whole numbers where the model takes no pictures.
            scale: As ``cnnlens.images.load`` takes it.
            limit: At most so many examples.
            allow_nonfinite: Keep NaN and infinities of what is read or scaled instead of refusing them.

        Returns:
            ``arrays`` by input name, in the units that the model was trained on; ``notes``: what was done, in words.

        Raises:
            CnnlensError: they do not fit; one line.

        >>> import cnnlens.sample
        >>> import numpy as np
        >>> net = cnnlens.open(cnnlens.sample.MODEL)
        >>> for note in net.read(np.full((5, 28, 28), 255, np.uint8)).notes:
        ...     print(note)
        (5, 28, 28) read as N, H, W: 5 of 1 channel, 28 × 28
        0..255 divided by 255, now 0..1
        >>> net.read(np.ones((5, 1, 28, 28)))
        <Inputs input_layer (5, 1, 28, 28) float64: input_layer: (5, 1, 28, 28), float64, kept as it is>
        """
        from cnnlens.inputs.stream import read_inputs

        return read_inputs(self, inputs, scale=scale, limit=limit, allow_nonfinite=allow_nonfinite)

    @in_one_line()
    def run(
        self, inputs: Any, layers: Iterable[str | int] | None = None, dtype: str = "float64", batch: int | None = None
    ) -> dict[str, NDArray[Any]]:
        """Compute feature maps with the NumPy reference; no framework is needed.

        Args:
            inputs: What ``cnnlens.record`` takes, scaled in the same way: paths, images of whole numbers, a mapping by
                input name or a sequence where there are several inputs; ``read`` says how they were understood. Arrays
                of real numbers in the units that the model was trained on are taken bit for bit, in canonical axes
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
        >>> maps = net.run(cnnlens.sample.IMAGES, layers=["conv2d", "dense_1"])
        >>> for name, array in maps.items():
        ...     print(name, array.shape, array.dtype)
        conv2d (10, 32, 28, 28) float64
        dense_1 (10, 10) float64
        >>> cnnlens.sample.LABELS[maps["dense_1"][9].argmax()]
        'Ankle boot'
        """
        from cnnlens.reference.executor import Executor

        executor = Executor(self, dtype=dtype, layers=layers_asked(layers))  # refuses before anything is read
        return executor.run(self.read(inputs).arrays, batch=batch)
