"""Where in an output bits are lost: of a layer that fails, its errors place by place instead of as one number."""

from __future__ import annotations

import numpy as np

from cnnlens.checking.evidence import Array, Blocks
from cnnlens.checking.noise.prediction import errors, predict, ratios

__all__ = ["FULL", "lost_bits"]

FULL = 24.0
"""The bits of float32: whoever has as many has lost none."""


def lost_bits(blocks: Blocks, terms: int) -> Array | None:
    """Compute how many of float32's bits each place of an output has lost, over all examples.

    Args:
        blocks: The output, as it was recorded.
        terms: How many numbers are added for one of its numbers.

    Returns:
        Float32 ``(C, *spatial)``, canonical: ``FULL`` less the effective bits of the place, the logarithm of the root
        mean square of its errors in units of the noise's scale; from 0, where it has them all, to ``FULL``. NaN where
        nothing could be compared, infinite where NaN or infinity stands for a number or the other way round. None
        where blocks of the output have different sizes, so that it has no places.
    """
    squares: Array | None = None
    count = strayed = np.zeros(0)
    axis = 0
    for _, part in blocks.parts():
        prediction = predict(part)
        error = errors(part, prediction)
        ratio = ratios(error, prediction.scale, terms)
        places = error.shape[1:] or (1,)  # a number an example has one
        if squares is None:
            squares, count, strayed = (np.zeros(places) for _ in range(3))
            axis = max(part.channel(error) - 1, 0)
        elif squares.shape != places:
            return None
        error, ratio = error.reshape(-1, *places), ratio.reshape(-1, *places)
        compared = ~np.isnan(ratio)
        squares += np.where(compared, np.square(ratio), 0.0).sum(axis=0)
        count += compared.sum(axis=0)
        strayed += np.isinf(error).sum(axis=0)
    if squares is None:
        return None
    with np.errstate(all="ignore"):
        lost = np.clip(FULL + 0.5 * np.log2(squares / count), 0.0, FULL)
    lost[strayed > 0] = np.inf
    return np.moveaxis(lost, axis, 0).astype(np.float32)
