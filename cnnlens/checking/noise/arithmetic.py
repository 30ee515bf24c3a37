"""The arithmetics that a layer may have run in, as data: what is rounded, to which format, and when.

A verdict such as ``tf32`` is proved by computing the layer again with exactly these roundings and finding that the
recorded output is explained by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.noise.formats import BFLOAT16, FLOAT16, FLOAT32, TF32, Format, Rounding, to_format

__all__ = ["EXACT", "Arithmetic", "candidates"]

Array = NDArray[Any]
# Which intermediate results are stored in the format: the result alone, also what goes into the activation, or also
# the matrix product before the bias.
Stored = Literal["result", "activation", "product"]

# Half the width of the band of pre-activations that a float32 accumulator may give, in units of the noise's scale.
# Tensor cores cut the products that they add, so this is wider than float32 itself needs.
_BAND = 2.0**-16
# The same after the activation, which adds up nothing.
_AFTER = 2.0**-21
_SUMS = 2.0  # half steps that a sum of rounded sums may be off, and half of one for each halving of what is summed


@dataclass(frozen=True)
class Arithmetic:
    """Describes one way to compute a layer.

    Attributes:
        format: The format that gives the verdict its name.
        operands: Whether the operands of products are rounded to it; ``rounding``: how.
        stored: Which results are rounded to it as well; None where results stay float32.
        weights: Whether weights that are no product's operand (bias, batch-norm statistics) are rounded too.
        wide: Whether what comes after the product stays float32 although the product was stored: XLA leaves out
            roundings that a later float32 result would undo (``xla_allow_excess_precision``).
        steps: Whether an activation is computed as JAX writes it, with each of its steps rounded: what is left of large
            numbers when the largest is taken off has few digits, of which a softmax' ``exp`` makes much. A recurrence
            or attention has each of its results rounded.
        summed: Whether the sum in a softmax is rounded number by number as well, in an order that is not known, and so
            is its inverse, which the numbers are then multiplied by (Eigen, which is TensorFlow without oneDNN).
        kept: Whether a softmax's exponentials, or some of them, are stored in the format before their float32 sum
            divides them: PyTorch does so over an axis that is not the last, but for whole vectors of it (seen in 2.13).
        cut: Whether a product is stored by leaving float32's last bits away, as TensorFlow's matrix product does in
            bfloat16 on processors without AVX-512 (seen in 2.21); all else is rounded.
    """

    format: Format
    operands: bool = False
    rounding: Rounding = "even"
    stored: Stored | None = None
    weights: bool = True
    wide: bool = False
    steps: bool = False
    summed: bool = False
    kept: bool = False
    cut: bool = False

    @property
    def name(self) -> str:
        return self.format.name

    @property
    def step(self) -> float:
        """Give the last bit of the results, beside one; 0 where they are float32's."""
        return 2.0**-self.format.mantissa if self.stored and not self.wide else 0.0

    @property
    def quantum(self) -> float:
        """Give the last bit of the smallest results, or float32's smallest normal number: what is less many a library
        takes for zero. 0 where results are float32's."""
        return max(self.step * 2.0**self.format.lowest, 2.0**-126) if self.step else 0.0

    def lost(self, loss: Array) -> Array:
        """Turn a loss in units of this format's last bit into numbers; what is made on the way may be very small."""
        return loss * self.step + self.step * 2.0**self.format.lowest

    def operand(self, x: Array) -> Array:
        """Round ``x`` as a product sees it."""
        return to_format(x, self.format, self.rounding) if self.operands else x

    def weight(self, x: Array) -> Array:
        """Round a weight that is added, not multiplied with a kernel."""
        return to_format(x, self.format, self.rounding) if self.operands and self.weights else x

    def result(self, x: Array) -> Array:
        return to_format(x, self.format) if self.stored else x

    def softmax(self, x: Array, axis: Any, output: Array, logarithm: bool) -> Array:
        """Compute a softmax, or its logarithm, step by step.

        Args:
            output: What was recorded: where numbers are rounded as they are summed up, each row's sum is that near the
                exact one which explains the most of it.
        """
        shifted = self.result(x - x.max(axis, keepdims=True))
        raised = self.result(np.exp(shifted))
        total = raised.sum(axis, keepdims=True)

        def made(total: Array) -> Array:
            if logarithm:
                return self.result(shifted - self.result(np.log(total)))
            if self.summed:
                return self.result(raised * self.result(1 / total))
            return self.result(raised / self.result(total))

        best = made(total)
        if not self.summed:
            return best
        least = np.abs(best - output).sum(axis, keepdims=True)
        for steps in range(1, int(_SUMS + 0.5 * np.log2(x.size / total.size)) + 1):
            for side in (1, -1):
                other = made(total * (1 + side * steps * self.step / 2))
                left = np.abs(other - output).sum(axis, keepdims=True)
                nearer = left < least
                best: Array = np.where(nearer, other, best)
                least: Array = np.where(nearer, left, least)
        return best

    def band(
        self,
        product: Array,
        bias: Array | None,
        spread: Array,
        finish: Callable[[Array], tuple[Array, Array | None]],
        axis: Any = None,
    ) -> tuple[Array, Array]:
        """Bound the results that honest accumulation gives, from below and above.

        Args:
            product: What is computed before ``finish``, without ``bias`` where that is given apart.
            spread: The scale of noise in ``product``.
            finish: The activation, with what it loses inside: in units of float32's last bit, or of this format's where
                steps are rounded.
            axis: That of a softmax, each of whose results hangs on the largest number too.
        """
        values: list[tuple[int, Array]] = []
        for side in (-1, 0, 1):
            shift = side * _BAND
            value = product + shift * spread if shift else product
            if self.stored == "product":
                value = to_format(value, self.format, "down" if self.cut else "even")
            if bias is not None:
                value = value + bias
            if self.stored in ("activation", "product") and not self.wide:
                value = self.result(value)
            values.append((side, value))
        if axis is not None:  # the largest may have been rounded up where the others were rounded down
            top = values[1][1] == values[1][1].max(axis, keepdims=True)
            below, above = values[0][1], values[2][1]
            values += [(-1, np.where(top, above, below)), (1, np.where(top, below, above))]
        results: list[Array] = []
        for side, value in values:
            y, loss = finish(value)
            # The activation is computed in float32 before its result is rounded.
            slack = np.abs(y) * (side * _AFTER)
            if loss is not None:
                slack += side * (self.lost(loss) if self.steps else loss * _AFTER)
            results.append(y + slack if self.wide else self.result(y + slack))
        return reduce(np.minimum, results), reduce(np.maximum, results)


#: Nothing is rounded: the reference itself.
EXACT = Arithmetic(FLOAT32)

_TF32 = (
    Arithmetic(TF32, True, "away", None, False),
    Arithmetic(TF32, True, "even", None, False),
    Arithmetic(TF32, True, "down", None, False),
)


def _halves(wanted: Format, *, results: bool) -> Iterator[Arithmetic]:
    if results:
        for stored in ("result", "activation", "product"):
            yield Arithmetic(wanted, True, "even", stored, True)
        yield Arithmetic(wanted, True, "even", "result", False)
        for cut in (False, True) if wanted is BFLOAT16 else (False,):
            if cut:
                yield Arithmetic(wanted, True, "even", "product", True, cut=True)
            yield Arithmetic(wanted, True, "even", "product", True, steps=True, cut=cut)
            yield Arithmetic(wanted, True, "even", "product", True, steps=True, summed=True, cut=cut)
        yield Arithmetic(wanted, True, "even", "product", True, steps=True, kept=True)
    else:
        yield Arithmetic(wanted, True, "even", None, False)
        yield Arithmetic(wanted, True, "even", None, True)
        yield Arithmetic(wanted, True, "even", "product", True, wide=True)


def candidates(halves: Sequence[Format]) -> Iterator[Arithmetic]:
    """List what may have given an output, the likely first.

    Args:
        halves: The narrow formats that every number of the output is one of: it was stored in such a one; an output
            that was not is at most made from operands of it.
    """
    for half in halves:
        yield from _halves(half, results=True)
    if not halves:
        yield from _TF32
    for half in (BFLOAT16, FLOAT16):
        yield from _halves(half, results=False)
