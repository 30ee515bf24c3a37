"""What a float32 sum of many equal terms loses: they round alike, so that their errors add up and do not cancel.

A running sum keeps to a grid whose step is its last bit, and a term between two points of it is rounded by the same
amount wherever the sum stands on it. Terms that differ are rounded up and down by chance, a walk that the floor of a
layer allows for; the background of a picture, all of one colour, moves the sum by its rounding as often as it occurs
(20 effective bits were 15 over a constant map of 112 x 112, under TensorFlow, JAX and PyTorch). How the terms are
spread over lanes and blocks is the library's affair, so the grids of some binades below the whole sum are looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MANY", "rounded_alike"]

Array = NDArray[Any]

#: Sums of fewer terms lose so little that the floor has room for it.
MANY = 32
_BINADES = 7  # a sum on 16 lanes in 4 blocks has 1/64 of the whole in each
_MOST = 12  # binades in which results are told apart; the sums of smaller ones are taken to be rounded at worst
_CHANCE = 12**-0.5  # the deviation of rounding to a step
_MARGIN = 2.0
_WALKS = 16


def rounded_alike(reduce: Callable[[Array], Any], x: Array, y: Array) -> Array | float:
    """Compute the scale of noise that equal terms leave in sums or means.

    Args:
        reduce: The sum or mean, of float64 arrays shaped like ``x``; linear, with one factor for all terms.
        x: Its operand, float64; ``y``: what it gives.

    Returns:
        The scale in units of eps, shaped like ``y``: 2^20 times the error; 0 where there are too few terms to matter.
    """
    if not x.size or not y.size:
        return 0.0
    generator = np.random.default_rng(5)

    def walk() -> Array:
        signs = generator.integers(0, 2, x.shape, np.int8) * 2.0 - 1.0
        return np.square(np.asarray(reduce(signs)))

    total = np.abs(np.asarray(reduce(np.ones_like(x))))
    # How many terms a result has is what a walk through them says, of one result by itself no more than by chance.
    walks = np.mean([walk() for _ in range(max(_WALKS // y.size, 1))], axis=0) / np.maximum(np.square(total), 1e-300)
    terms = max(1 / max(float(walks.mean()), 1e-300), x.size / y.size)
    if terms < MANY:
        return 0.0
    factor = terms / np.maximum(total, 1e-300)  # from a result to the sum of its terms
    sums = np.nan_to_num(reduce(np.abs(x)) * factor, nan=0.0, posinf=0.0)
    binade = np.frexp(sums)[1]
    worst = np.ldexp(terms, binade - 25) / factor  # every term off by half a step
    found = np.where(sums > 0, worst, 0.0)
    used = np.unique(binade[sums > 0])[-_MOST:]
    if not used.size:
        return 0.0
    steps = range(int(used[0]) - _BINADES, int(used[-1]) + 1)
    biases = {step: np.abs(np.asarray(reduce(_off(x, step - 24)))) for step in steps}
    for one in used:
        bias = np.max([biases[int(one) - below] for below in range(_BINADES)], axis=0)
        walk = np.ldexp(_CHANCE * terms**0.5, int(one) - 24) / factor  # the floor has room for what chance leaves
        found = np.where(binade == one, np.maximum(bias - walk, 0), found)
    return found * (_MARGIN * 2.0**20)


def _off(x: Array, exponent: int) -> Array:
    """How far each number is from the grid with steps of ``2^exponent``."""
    scaled = np.ldexp(x, -exponent)
    off = np.ldexp(np.rint(scaled) - scaled, exponent)
    off[~np.isfinite(off)] = 0
    return off
