"""What is wrong with a layer that is not rounding, in one sentence: named only where it explains every channel.

Hypotheses are tried from the plain to the fitted, the cheap before the dear: results turned round, the activation, the
layout of the kernel, where windows stand, normalisation, single channels, single weights. Whatever leaves more than
rounding is not told; where nothing fits, the sentence says how large the difference is and where it lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from cnnlens.checking.faults import activations, fits, geometry, kernels, merging, normalization, outputs, patches
from cnnlens.checking.faults.problem import Hypothesis, Problem
from cnnlens.checking.finding import Cause
from cnnlens.checking.noise.arithmetic import Arithmetic
from cnnlens.checking.noise.case import Case
from cnnlens.checking.noise.tally import Tally
from cnnlens.reference.keras.merging import Concatenate, Merge

__all__ = ["explain"]


class _Family(NamedTuple):
    """Orders a family of hypotheses: its turn where the layer is wrong as a whole, and where a few channels of many are
    (what turns a whole kernel round would have hit them all); 0 where it is not asked."""

    cause: Cause
    hypotheses: Callable[[Problem], Iterator[Hypothesis]]
    whole: int
    few: int


_MERGING = _Family(Cause.MERGING, merging.hypotheses, 6, 9)
_FAMILIES = (
    _Family(Cause.CHANNELS, outputs.channel_order, 0, 1),
    _Family(Cause.OUTPUTS, outputs.hypotheses, 1, 5),
    _Family(Cause.ACTIVATION, activations.hypotheses, 2, 6),
    _Family(Cause.KERNEL, kernels.hypotheses, 3, 7),
    _Family(Cause.NORMALIZATION, normalization.hypotheses, 4, 4),
    _Family(Cause.GEOMETRY, geometry.hypotheses, 5, 8),
    _MERGING,
    _Family(Cause.WEIGHTS, patches.hypotheses, 7, 3),
    _Family(Cause.FACTORS, fits.hypotheses, 8, 2),
)


def explain(case: Case, base: Arithmetic, tally: Tally, floor: float) -> tuple[str, Cause]:
    """Find the fault of a layer, in one sentence.

    Args:
        case: The call with its recorded inputs and output.
        base: The arithmetic that explains most of it.
        tally: Its errors against the reference under that arithmetic.
        floor: The bits that float32 leaves; infinite where a layer may not round at all.

    Returns:
        One sentence, and what it blames: every channel is rounding under it. A mere description is ``UNEXPLAINED``.
    """
    problem = Problem(case, base, tally, floor)
    with np.errstate(all="ignore"):
        for cause, hypothesis in _ordered(problem):
            if problem.explains(hypothesis):
                return hypothesis.text, cause
        return fits.describe(problem), Cause.UNEXPLAINED


def _ordered(problem: Problem) -> Iterator[tuple[Cause, Hypothesis]]:
    turns = [(one.whole if problem.whole else one.few, one) for one in _FAMILIES]
    families = [one for turn, one in sorted(turns, key=lambda each: each[0]) if turn]
    first = [_MERGING] if isinstance(problem.case.operation, Merge | Concatenate) else []
    for family in (*first, *families):
        for hypothesis in family.hypotheses(problem):
            yield family.cause, hypothesis
