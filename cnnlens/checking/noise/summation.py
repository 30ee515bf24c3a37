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

from cnnlens.checking.noise.formats import in_pieces
from cnnlens.checking.noise.nonfinite import ANYTHING, NEARLY

__all__ = ["MANY", "averages_alike", "products_alike", "rounded_alike"]

Array = NDArray[Any]

#: Sums of fewer terms lose so little that the floor has room for it.
MANY = 32
_BINADES = 7  # a sum on 16 lanes in 4 blocks has 1/64 of the whole in each
_MOST = 12  # binades in which results are told apart; the sums of smaller ones are taken to be rounded at worst
_CHANCE = 12**-0.5  # the deviation of rounding to a step
_MARGIN = 2.0
_WALKS = 16
_VALUES = 4  # of an operand that has few


def rounded_alike(reduce: Callable[[Array], Any], x: Array, y: Array) -> Array | float:
    """Compute the scale of noise that equal terms leave in sums or means.

    Args:
        reduce: The sum or mean, of float64 arrays shaped like ``x``; linear, with one factor for all terms.
        x: Its operand, float64; ``y``: what it gives.

    Returns:
        The scale in units of eps, shaped like ``y``: 2^20 times the error; 0 where there are too few terms to matter,
        ``ANYTHING`` where the sum is more than float32 has.
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
    factor = terms / np.maximum(total, 1e-300)  # from a result to the sum of its terms
    sums = np.asarray(reduce(np.abs(x)) * factor)
    found = _lost(lambda step: reduce(_off(x, step)), sums, terms, factor) if terms >= MANY else 0.0
    return np.where(sums >= NEARLY, ANYTHING, found) if (sums >= NEARLY).any() else found


def products_alike(product: Callable[[Array, Array], Array], a: Array, b: Array, y: Array) -> Array | float:
    """Compute the scale of noise that equal terms leave in sums of products.

    Products can be equal in numbers only where an operand has few values; each of them is looked at by itself.

    Args:
        product: Bilinear in two operands, ``a`` and ``b``, float64; ``y``: what it gives.

    Returns:
        As ``rounded_alike`` does.
    """
    values = _few_values(a)
    if values is None:
        return 0.0 if _few_values(b) is None else products_alike(lambda one, other: product(other, one), b, a, y)
    if not y.size:
        return 0.0
    terms = product((a != 0).astype(np.float64), (b != 0).astype(np.float64))
    if terms.max(initial=0.0) < MANY:
        return 0.0
    marks = [(value, (a.astype(np.float32) == value).astype(np.float64)) for value in values if value]

    def off(step: int) -> Array:
        return sum((product(mark, _off(b * float(value), step)) for value, mark in marks), np.zeros_like(y))

    return _lost(off, product(np.abs(a), np.abs(b)), np.maximum(terms, 1.0), 1.0)


def averages_alike(shares: Array, value: Array, y: Array) -> Array | float:
    """Compute the scale of noise that equal terms leave in averages, as attention makes them.

    Some libraries multiply by shares that sum up to 1, others by what they are parts of, and divide the sum.

    Args:
        shares: ``(..., T, S)``; ``value``: ``(..., S, V)``, float64; ``y``: their product.

    Returns:
        As ``rounded_alike`` does.
    """
    largest = shares.max(axis=-1, keepdims=True)
    powers = shares / np.where(largest > 0, largest, 1)
    undivided = products_alike(np.matmul, powers, value, np.matmul(powers, value)) * largest
    return np.hypot(products_alike(np.matmul, shares, value, y), undivided)


def _few_values(x: Array) -> Array | None:
    """The values of an operand, as float32 tells them apart, if they are few."""
    if x.dtype.kind != "f" or not x.size:
        return None
    for some in (x.reshape(-1)[:: max(x.size // 64, 1)], x):
        found = np.unique(some.astype(np.float32))
        if found.size > _VALUES or not np.isfinite(found).all():
            return None
    return found


def _lost(off: Callable[[int], Any], sums: Array, terms: Any, factor: Any) -> Array | float:
    """What sums lose on the grids that their parts stood on.

    Args:
        off: How far all terms of a result are off a grid with steps of ``2^step``, together.
        sums: Of the sizes of ``terms`` terms each; ``factor``: from a result to the sum of its terms.
    """
    sums = np.nan_to_num(sums, nan=0.0, posinf=0.0)
    binade = np.frexp(sums)[1]
    worst = np.ldexp(terms, binade - 25) / factor  # every term off by half a step
    found = np.where(sums > 0, worst, 0.0)
    used = np.unique(binade[sums > 0])[-_MOST:]
    if not used.size:
        return 0.0
    steps = range(int(used[0]) - _BINADES, int(used[-1]) + 1)
    biases = {step: np.abs(np.asarray(off(step - 24))) for step in steps}
    for one in used:
        bias = np.max([biases[int(one) - below] for below in range(_BINADES)], axis=0)
        walk = np.ldexp(_CHANCE * terms**0.5, int(one) - 24) / factor  # the floor has room for what chance leaves
        found = np.where(binade == one, np.maximum(bias - walk, 0), found)
    return found * (_MARGIN * 2.0**20)


def _off(x: Array, exponent: int) -> Array:
    """How far each number is from the grid with steps of ``2^exponent``."""

    def off(some: Array) -> Array:
        scaled = np.ldexp(some, -exponent)
        found = np.ldexp(np.rint(scaled) - scaled, exponent)
        found[~np.isfinite(found)] = 0
        return found

    return in_pieces(off, x)
