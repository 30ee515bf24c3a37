"""``same`` at stride 2: where Keras puts its zeros and where PyTorch's ``padding=1`` does, and what that shifts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.inputs import images
from cnnlens.network.graph import Layer
from cnnlens.reference.arithmetic.patches import same_padding
from cnnlens.reference.builder import build
from cnnlens.reporting.packing import Packer

__all__ = ["padding"]

_SIZES = range(4, 11)
_EXERCISES = ((28, 3, 2), (7, 3, 2), (32, 5, 2), (224, 7, 2), (15, 3, 2), (10, 3, 1), (9, 5, 3), (112, 3, 2))


def padding(packer: Packer, layer: Layer, picture: Path) -> dict[str, Any]:
    """Convolve a picture with a layer's kernels at stride 2, padded as each framework does.

    Returns:
        ``axis``: for each size of an axis ``same``, the zeros before and behind it; ``cases``: the same for other
        kernels and strides; ``maps``: Keras' and PyTorch's map of the kernel where they are most apart, and the
        difference (packed), with ``kernel`` and the ends of their colours.
    """
    whole = np.moveaxis(images.load(picture).array.astype(np.float64), 1, -1)
    side = whole.shape[1]
    weights = {role: array.astype(np.float64) for role, array in layer.weights.items()}
    pads = same_padding(side, 3, 2, 1)
    keras, torch = (
        np.asarray(build("Conv2D", None, {**layer.config, "strides": (2, 2), "padding": mode})(weights, x))[0]
        for mode, x in (("same", whole), ("valid", np.pad(whole, ((0, 0), (1, 1), (1, 1), (0, 0)))))
    )
    apart = np.abs(keras - torch)
    kernel = int(apart.max(axis=(0, 1)).argmax())
    one, other = keras[..., kernel], torch[..., kernel]
    top = float(max(one.max(), other.max()))
    end = float(apart[..., kernel].max())
    shown = (("keras", one, [0.0, top]), ("torch", other, [0.0, top]), ("difference", one - other, [-end, end]))
    return {
        "axis": [{"size": size, "same": list(same_padding(size, 3, 2, 1))} for size in _SIZES],
        "cases": [
            {"size": size, "kernel": taps, "stride": stride, "same": list(same_padding(size, taps, stride, 1))}
            for size, taps, stride in _EXERCISES
        ],
        "kernel": kernel,
        "maps": [
            {"name": name, "array": packer.add(f"padding.{name}", array.astype(np.float32)), "ends": ends}
            for name, array, ends in shown
        ],
        "places": {
            "side": str(side),
            "before": str(pads[0]),
            "behind": str(pads[1]),
            "output": str(len(one)),
            "kernel": str(kernel),
            "apart": f"{end:.2g}",
            "top": f"{top:.2g}",
        },
    }
