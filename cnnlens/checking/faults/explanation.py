"""What is wrong with a layer that is not rounding, in one sentence: named only where it explains every channel.

Hypotheses are tried from the plain to the fitted, the cheap before the dear: results turned round, the activation, the
layout of the kernel, where windows stand, normalisation, single channels, single weights. Whatever leaves more than
rounding is not told; where nothing fits, the sentence says how large the difference is and where it lies.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cnnlens.checking.faults import activations, fits, geometry, kernels, merging, normalization, outputs, patches
from cnnlens.checking.faults.problem import Hypothesis, Problem
from cnnlens.checking.noise.arithmetic import Arithmetic
from cnnlens.checking.noise.case import Case
from cnnlens.checking.noise.tally import Tally
from cnnlens.reference.keras.merging import Concatenate, Merge

__all__ = ["explain"]


def explain(case: Case, base: Arithmetic, tally: Tally, floor: float) -> tuple[str, bool]:
    """Find the fault of a layer, in one sentence.

    Args:
        case: The call with its recorded inputs and output.
        base: The arithmetic that explains most of it.
        tally: Its errors against the reference under that arithmetic.
        floor: The bits that float32 leaves; infinite where a layer may not round at all.

    Returns:
        One sentence, and whether it is an explanation (every channel is rounding under it) or but a description.
    """
    problem = Problem(case, base, tally, floor)
    with np.errstate(all="ignore"):
        for hypothesis in _ordered(problem):
            if problem.explains(hypothesis):
                return hypothesis.text, True
        return fits.describe(problem), False


def _ordered(problem: Problem) -> Iterator[Hypothesis]:
    if isinstance(problem.case.operation, Merge | Concatenate):
        yield from merging.hypotheses(problem)
    if problem.whole:
        yield from outputs.hypotheses(problem)
        yield from activations.hypotheses(problem)
        yield from kernels.hypotheses(problem)
        yield from normalization.hypotheses(problem)
        yield from geometry.hypotheses(problem)
        yield from merging.hypotheses(problem)
        yield from patches.hypotheses(problem)
        yield from fits.hypotheses(problem)
        return
    # A few channels of many: what turns a whole kernel round would have hit them all.
    yield from outputs.channel_order(problem)
    yield from fits.hypotheses(problem)
    yield from patches.hypotheses(problem)
    yield from normalization.hypotheses(problem)
    yield from outputs.hypotheses(problem)
    yield from activations.hypotheses(problem)
    yield from kernels.hypotheses(problem)
    yield from geometry.hypotheses(problem)
    yield from merging.hypotheses(problem)
