"""What is wrong with a layer that is not rounding, in one sentence: named only where it explains every channel.

Every family of hypotheses is asked, the cheap before the dear: results turned round, the activation, the layout of the
kernel, where windows stand, gates, normalisation, single weights, fitted factors. Of those that leave nothing but
rounding the one that says most with the fewest fitted numbers is told, if it is ahead of its rivals by ``_MARGIN``
bits; rivals that are not behind by as much are told with it. Where nothing fits, the sentence says how large the
difference is and where it lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from cnnlens.checking.faults import (
    activations,
    fits,
    geometry,
    kernels,
    merging,
    normalization,
    outputs,
    patches,
    recurrent,
)
from cnnlens.checking.faults.problem import Hypothesis, Problem, Trial, channels
from cnnlens.checking.finding import Cause
from cnnlens.checking.noise.arithmetic import EXACT, Arithmetic
from cnnlens.checking.noise.case import Array, Case
from cnnlens.checking.noise.prediction import predict
from cnnlens.checking.noise.tally import Tally

__all__ = ["describe", "explain"]

# Bits by which an explanation must be ahead of a rival, or of no explanation at all: odds of a thousand to one, and of
# four thousand to one where hundreds of hypotheses were asked.
_MARGIN = 10.0
_ENOUGH = 12.0
_MOST_NAMED = 6
_SHARE = 0.6  # of the bits that a fault takes, what an explanation may leave
_BORDER = 2  # positions from an edge that are the border

_FAMILIES: tuple[tuple[Cause, Callable[[Problem], Iterator[Hypothesis]]], ...] = (
    (Cause.MERGING, merging.hypotheses),
    (Cause.OUTPUTS, outputs.hypotheses),
    (Cause.CHANNELS, outputs.channel_order),
    (Cause.ACTIVATION, activations.hypotheses),
    (Cause.KERNEL, kernels.hypotheses),
    (Cause.GATES, recurrent.hypotheses),
    (Cause.FACTORS, fits.operands),
    (Cause.NORMALIZATION, normalization.hypotheses),
    (Cause.GEOMETRY, geometry.hypotheses),
    (Cause.WEIGHTS, patches.hypotheses),
    (Cause.FACTORS, fits.hypotheses),
)


def explain(case: Case, base: Arithmetic, tally: Tally, floor: float) -> tuple[str, Cause]:
    """Find the fault of a layer, in one sentence.

    Args:
        case: The call with its recorded inputs and output.
        base: The arithmetic that explains most of it.
        tally: Its errors against the reference under that arithmetic.
        floor: The bits that float32 leaves; infinite where a layer may not round at all.

    Returns:
        One sentence, and what it blames: every channel is rounding under it. A mere description is ``UNEXPLAINED``,
        and several causes that cannot be told apart are ``AMBIGUOUS``.
    """
    with np.errstate(all="ignore"):
        if base is EXACT:
            return _explain(Problem(case, base, tally, floor))
        # A narrow arithmetic may seem to explain a little of any fault: the plain one is asked first.
        exact = Tally(tally.terms)
        for first, part in case.parts():
            exact.add(part, predict(part), first)
        said = _explain(Problem(case, EXACT, exact, floor))
        if said[1] is not Cause.UNEXPLAINED:
            return said
        problem = Problem(case, base, tally, floor)
        text, cause = _explain(problem)
        if cause is Cause.UNEXPLAINED and not problem.narrow:
            return said
        return f"{text}, besides the rounding of {base.name}", cause


def _explain(problem: Problem) -> tuple[str, Cause]:
    output = np.asarray(problem.case.output)
    expected = problem.expected.low
    if np.all(output == output.flat[0]) and np.any(expected != expected.flat[0]):
        return f"every output is {output.flat[0] + 0.0:.6g}", Cause.OUTPUTS
    found: dict[str | int, tuple[Cause, Trial]] = {}
    for cause, hypotheses in _FAMILIES:
        for hypothesis in hypotheses(problem):
            claim = hypothesis.claim or len(found)
            trial = problem.trial(hypothesis)
            if trial is not None and (claim not in found or trial.over(found[claim][1]) > 0):
                found[claim] = cause, trial
    trials = [(cause, trial) for cause, trial in found.values() if _explains(problem, trial)]
    _, best = max(trials, key=lambda one: one[1].over(problem.plain), default=(None, problem.plain))
    told = [(cause, one) for cause, one in trials if best.over(one) < _MARGIN]
    texts = list(dict.fromkeys(one.hypothesis.text for _, one in told))
    if best.over(problem.plain) < _ENOUGH or len(texts) > _MOST_NAMED:
        return describe(problem) + _possible(problem, texts), Cause.UNEXPLAINED
    if len(texts) == 1:
        return texts[0], told[0][0]
    causes = {cause for cause, _ in told}
    text = f"{', or '.join(texts)}: these cannot be told apart here"
    return text, causes.pop() if len(causes) == 1 else Cause.AMBIGUOUS


def _explains(problem: Problem, trial: Trial) -> bool:
    """Whether little is left in the faulty channels: what could be rounding may still be half the fault."""
    before, after = (problem.rows(left)[:, problem.faulty] for left in (problem.plain.left, trial.left))
    return bool(after.sum() <= _SHARE * before.sum())


def _possible(problem: Problem, texts: list[str]) -> str:
    """What would explain the numbers if there were more of them."""
    if not texts:
        return ""
    count = int((problem.plain.left >= 2).sum())
    outputs, them = (f"{count} wrong outputs", "them") if count != 1 else ("1 wrong output", "it")
    return f"; {outputs} cannot tell causes apart: {', or '.join(texts[:3])}, or another would explain {them}"


def describe(problem: Problem) -> str:
    """Say what can be said where nothing explains it: how large, how many, where."""
    case = problem.sample
    output = np.asarray(case.output, np.float64)
    error = output - problem.expected.low
    off = np.abs(error) > 2.0**-14 * problem.expected.scale
    off &= np.isfinite(error)
    relative = float(np.sqrt(np.nansum(np.square(error)) / np.nansum(np.square(problem.expected.low))))
    share = float(off.mean()) if off.size else 0.0
    finite = np.abs(error[np.isfinite(error)])
    size = f"off by up to {finite.max(initial=0.0):.3g} (relative RMS {relative:.2g})"
    if share == 0:
        return f"{size}: small, systematic or not, and unexplained"
    many = f"{100 * share:.3g} % of the outputs" if share > 0.001 else f"{int(off.sum()):,} of {off.size:,} outputs"
    return ", ".join([f"{many} differ", size, *_places(problem, off)])


def _places(problem: Problem, off: Array) -> Iterator[str]:
    """Where the wrong outputs are, if they keep together."""
    axis = problem.sample.channel(off)
    if not problem.whole:
        # A channel that is off by too little to be called faulty is no right one.
        hit = np.flatnonzero(off.any(axis=tuple(place for place in range(off.ndim) if place != axis)))
        only = "only" if np.isin(hit, problem.faulty).all() else "mostly"
        rows = problem.rows(np.asarray(problem.sample.output))[:, problem.faulty]
        yield f"{only} in {channels(problem.faulty)}{'' if rows.any() else ', whose every output is 0'}"
    spatial = [place for place in range(1, off.ndim) if place != axis]
    names = {1: ["position"], 2: ["row", "column"], 3: ["slice", "row", "column"]}.get(len(spatial), [])
    inner = tuple(slice(None) if place not in spatial else slice(_BORDER, -_BORDER) for place in range(off.ndim))
    edges: list[str] = []
    for place, name in zip(spatial, names, strict=False):
        hit = np.flatnonzero(off.any(axis=tuple(other for other in range(off.ndim) if other != place)))
        size = off.shape[place]
        if size > 4 and hit.size <= 2 and all(index in (0, 1, size - 2, size - 1) for index in hit):
            edges.append(f"only in {name} {' and '.join(str(int(index)) for index in hit)} of {size}")
    if not edges and names and 4 * off[inner].size > off.size and not off[inner].any():
        edges = [f"only within {_BORDER} {' and '.join(f'{name}s' for name in names)} of the border"]
    yield from edges
    images = np.flatnonzero(off.any(axis=tuple(range(1, off.ndim))))
    if off.shape[0] > 2 and images.size == 1:
        yield "only in one example of the batch"
