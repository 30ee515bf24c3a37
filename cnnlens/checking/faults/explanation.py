"""What is wrong with a layer that is not rounding, in one sentence: named only where it explains every channel.

Every family of hypotheses is asked, the cheap before the dear: results turned round, the activation, the layout of the
kernel, where windows stand, gates, normalisation, single weights, fitted factors. Of those that leave nothing but
rounding the one that says most with the fewest fitted numbers is told, if it is ahead of its rivals by ``_MARGIN``
bits; rivals that are not behind by as much are told with it, the likely first. Where nothing fits, the sentence says
how large the difference is and where it lies.

A search looks at one block of the inputs, at those of it that are wrong. What it finds is held against all the others
before it is told, and the sentence says for which inputs it is true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from cnnlens.checking.evidence import Evidence
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
from cnnlens.checking.faults.problem import Hypothesis, Problem, Trial, channels, excused
from cnnlens.checking.finding import Cause
from cnnlens.checking.noise.arithmetic import EXACT, Arithmetic, candidates
from cnnlens.checking.noise.case import Array, Beside, Case
from cnnlens.checking.noise.prediction import Prediction, predict
from cnnlens.checking.noise.tally import Tally

__all__ = ["describe", "explain", "inputs"]

# Bits by which an explanation must be ahead of a rival, or of no explanation at all: odds of a thousand to one, and of
# four thousand to one where hundreds of hypotheses were asked.
_MARGIN = 10.0
_ENOUGH = 12.0
_MOST_NAMED = 6
_SHARE = 0.6  # of the bits that a fault takes, what an explanation may leave
_SMALLER = 0.125  # how much smaller outputs may be that would have shown the same fault
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


# Bits that a family pays for how seldom it is what happened, where it explains the same numbers as another: what is
# called by its place in the file (a bias, a kernel's layout, a setting) is mistaken by those who port a model; results
# turned round as a whole are rarer; a factor or a shift of what comes out is what nobody writes, and imitates many.
# Within a family the rarer choices pay for themselves (``activations.hypotheses``).
_PRIOR: Mapping[Cause, float] = {Cause.OUTPUTS: 2.0, Cause.FACTORS: 4.0}


@dataclass
class _Search:
    """What a search came to.

    Attributes:
        told: The hypotheses that may be told, the likely first; ``causes``: what each blames.
        enough: Whether they are better than none by far; what is not is no finding.
        possible: What would explain the outputs if there were more of them; ``count``: how many are clearly wrong.
        where: The inputs that were searched, where examples are computed one by one.
    """

    told: list[Hypothesis]
    causes: list[Cause]
    enough: bool
    possible: list[str]
    count: int
    where: list[int]


def explain(evidence: Evidence) -> tuple[str, Cause]:
    """Find the fault of a layer, in one sentence.

    Args:
        evidence: The output, the arithmetic that explains most of it, and its errors with that and without.

    Returns:
        One sentence, and what it blames: every channel of all inputs that the sentence is about is rounding under it. A
        mere description is ``UNEXPLAINED``, and several causes that cannot be told apart are ``AMBIGUOUS``.
    """
    with np.errstate(all="ignore"):
        # A narrow arithmetic may seem to explain a little of any fault: the plain one is asked first.
        said = _explain(evidence, EXACT, evidence.tally)
        if said[1] is not Cause.UNEXPLAINED:
            return said
        if evidence.base is EXACT:
            return _stored_narrow(evidence) or said
        text, cause = _explain(evidence, evidence.base, evidence.left)
        if cause is Cause.UNEXPLAINED and not _problem(evidence, evidence.base, evidence.left).narrow:
            return said
        return f"{text}, besides the rounding of {evidence.base.name}", cause


def _stored_narrow(evidence: Evidence) -> tuple[str, Cause] | None:
    """The fault of a layer whose results are all of a narrow format, where no channel is right that would tell which
    arithmetic gave them: each is tried."""
    parts = evidence.blocks.parts
    for arithmetic in candidates(evidence.halves) if evidence.halves else ():
        if not arithmetic.stored or arithmetic.wide:
            continue
        left = Tally(evidence.tally.terms, step=arithmetic.step)
        for first, part in parts():
            left.add(part, predict(part, arithmetic), first)
        text, cause = _explain(evidence, arithmetic, left)
        if cause is not Cause.UNEXPLAINED:
            return f"{text}, besides the rounding of {arithmetic.name}", cause
    return None


def inputs(numbers: Sequence[int]) -> str:
    """Write ``input 1`` or ``inputs 1, 3 and 4``, as channels are listed."""
    return channels(numbers).replace("channel", "input", 1)


def _would_show(evidence: Evidence, tally: Tally, few: Sequence[int]) -> bool:
    """Whether the same relative errors would have been seen in the other inputs: those are not much smaller."""
    steps = evidence.case.folded[1] if evidence.case.folded else 1
    sizes: dict[int, float] = {}
    for first, part in evidence.blocks.parts():
        for number, output in enumerate(part.output, first):
            size = float(np.abs(output[np.isfinite(output)]).max(initial=0.0))
            sizes[number // steps] = max(sizes.get(number // steps, 0.0), size)
    hit = max(sizes[number] for number in few)
    enough = all(size >= _SMALLER * hit for size in sizes.values())
    floor = min(evidence.floor, 22.0) + 2 * float(np.log2(_SMALLER))
    return enough and tally.few_inputs(floor, steps) == list(few)


def _problem(evidence: Evidence, base: Arithmetic, tally: Tally, case: Case | None = None) -> Problem:
    return Problem(evidence.case if case is None else case, base, tally, evidence.floor)


def _explain(evidence: Evidence, base: Arithmetic, tally: Tally) -> tuple[str, Cause]:
    steps = evidence.case.folded[1] if evidence.case.folded else 1
    few = tally.few_inputs(min(evidence.floor, 22.0), steps)
    total = len({number // steps for number in tally.examples})
    some = f"{inputs(few)} of {total}" if few else ""
    shown, alone = (f"it shows in {some}", f"in {some} alone") if few else ("", "")
    found = _searched(evidence, base, tally, few)
    if not found.enough:
        said = describe(evidence, base, tally) + _possible(found)
        where = alone if few and _would_show(evidence, tally, few) else shown
        return "; ".join(one for one in (said, where) if one), Cause.UNEXPLAINED
    wrong = _narrowed(found, _holding(evidence, base, tally, found, few))
    if not wrong:
        rest = f"while {some} are wrong" if few else "not in all others"
        where = f"so in {inputs(found.where)}, {rest}" if found.where else "not so in all inputs"
    elif not few:
        where = ""
    else:
        # What shows in some inputs may be in all: the others tell rivals apart, or say that it is not in them.
        right = sorted({number // steps for number in tally.examples} - set(few))
        everywhere = _narrowed(found, _holding(evidence, base, tally, found, right))
        where = shown if everywhere else alone
    return "; ".join(one for one in (_sentence(found), where) if one), _cause(found)


def _sentence(found: _Search) -> str:
    texts = list(dict.fromkeys(one.text for one in found.told))
    return texts[0] if len(texts) == 1 else f"{', or '.join(texts)}: these cannot be told apart here"


def _cause(found: _Search) -> Cause:
    return found.causes[0] if len(set(found.causes)) == 1 else Cause.AMBIGUOUS


def _narrowed(found: _Search, holding: list[bool]) -> bool:
    """Leave those that hold, if any does."""
    if any(holding):
        kept = [one for one in zip(found.told, found.causes, holding, strict=True) if one[2]]
        found.told, found.causes = [one for one, _, _ in kept], [one for _, one, _ in kept]
    return any(holding)


def _cases(evidence: Evidence, chosen: Sequence[int]) -> Iterator[tuple[int, list[int], Case]]:
    """Each block with its first example and, where examples are computed one by one, the numbers of its inputs; of
    those that are chosen alone, where some are."""
    for first, case in evidence.blocks.cases():
        case = case.numbers() if isinstance(case, Beside) else case
        if not case.splits:
            yield first, [], case
            continue
        numbers = np.arange(first, first + case.count) // (case.folded[1] if case.folded else 1)
        kept = np.isin(numbers, chosen) if chosen else np.ones(numbers.shape, np.bool_)
        if kept.any():
            part = case if kept.all() else case.part(cast("Any", np.flatnonzero(kept)))
            yield first, np.unique(numbers[kept]).tolist(), part


def _holding(evidence: Evidence, base: Arithmetic, tally: Tally, found: _Search, chosen: Sequence[int]) -> list[bool]:
    """Tell which hypotheses are true of all inputs, or of all that are chosen: one block after another."""
    holding = [True] * len(found.told)
    for _, numbers, case in _cases(evidence, chosen):
        if numbers != found.where or not case.splits:
            problem = _problem(evidence, base, tally, case)
            holding = [held and problem.holds(one) for held, one in zip(holding, found.told, strict=True)]
    return holding


def _searched(evidence: Evidence, base: Arithmetic, tally: Tally, chosen: Sequence[int]) -> _Search:
    """Ask every family about the block with the worst output."""
    where, case, own = _worst(evidence, base, tally, chosen)
    problem = _problem(evidence, base, own, case)
    trials = [(Cause.OUTPUTS, trial)] if (trial := _constant(problem)) is not None else _trials(problem)
    _, best = max(trials, key=lambda one: one[1].over(problem.plain), default=(None, problem.plain))
    told = sorted((one for one in trials if best.over(one[1]) < _MARGIN), key=lambda one: best.over(one[1]))
    texts = list(dict.fromkeys(one.hypothesis.text for _, one in told))
    enough = bool(told) and len(texts) <= _MOST_NAMED and (best.over(problem.plain) >= _ENOUGH or trial is not None)
    # What takes more bits than it explains is no cause to think of.
    possible = list(dict.fromkeys(one.hypothesis.text for _, one in told if one.over(problem.plain) > 0))
    count = int((problem.plain.left >= 2).sum())
    return _Search([one.hypothesis for _, one in told], [cause for cause, _ in told], enough, possible, count, where)


def _worst(evidence: Evidence, base: Arithmetic, tally: Tally, chosen: Sequence[int]) -> tuple[list[int], Case, Tally]:
    """The block with the worst output, what is chosen of it, and its own errors, or all where it hardly has any."""
    cases = _cases(evidence, chosen)
    _, where, case = next(cases)
    for first, numbers, other in cases:
        if first > (tally.position[0] if tally.position else 0):
            break
        where, case = numbers, other
    own = Tally(tally.terms)
    for start, part in case.parts():
        own.add(part, excused(part, predict(part, base)), start)
    faulty = own.faulty(min(evidence.floor, 22.0)).any()
    return where, case, own if faulty else replace(tally, position=own.position)


def _constant(problem: Problem) -> Trial | None:
    """Every output one number, where it should not be."""
    output, expected = np.asarray(problem.case.output), problem.expected.low
    if not np.all(output == output.flat[0]) or not np.any(expected != expected.flat[0]):
        return None
    value = float(output.flat[0]) + 0.0

    def view(made: Prediction) -> Prediction:
        low = np.full_like(made.low, value)
        return Prediction(low, low, made.scale)

    said = Hypothesis(f"every output is {value:.6g}", view=view)
    return Trial(said, np.zeros_like(problem.plain.left))


def _trials(problem: Problem) -> list[tuple[Cause, Trial]]:
    found: dict[str | int, tuple[Cause, Trial]] = {}
    for cause, hypotheses in _FAMILIES:
        for hypothesis in hypotheses(problem):
            claim = hypothesis.claim or len(found)
            trial = problem.trial(replace(hypothesis, cost=hypothesis.cost + _PRIOR.get(cause, 0.0)))
            if trial is not None and (claim not in found or trial.over(found[claim][1]) > 0):
                found[claim] = cause, trial
    return [one for one in found.values() if _explains(problem, one[1])]


def _explains(problem: Problem, trial: Trial) -> bool:
    """Whether little is left in the faulty channels: what could be rounding may still be half the fault."""
    before, after = (problem.rows(left)[:, problem.faulty] for left in (problem.plain.left, trial.left))
    return bool(after.sum() <= _SHARE * before.sum())


def _possible(found: _Search) -> str:
    """What would explain the numbers if there were more of them."""
    if not found.told:
        return ""
    outputs, them = (f"{found.count} wrong outputs", "them") if found.count > 1 else ("1 wrong output", "it")
    if not found.count:
        outputs, them = "errors as small as these", "them"
    some = f": {', or '.join(found.possible[:3])}, or another would explain {them}" if found.possible else ""
    return f"; {outputs} cannot tell causes apart{some}"


def describe(evidence: Evidence, base: Arithmetic, tally: Tally) -> str:
    """Say what can be said where nothing explains it: how large, how many, where; of all inputs."""
    wrong = total = 0
    largest = squares = size = 0.0
    off_somewhere = alive = np.zeros(evidence.case.output.shape[1:], np.bool_)  # in some example
    alike = evidence.case.output.ndim > 1
    for _, part in evidence.blocks.parts():
        made = predict(part, base)
        output = np.asarray((part.numbers() if isinstance(part, Beside) else part).output, np.float64)
        error = output - made.low
        finite = np.isfinite(error)
        off = (np.abs(error) > 2.0**-14 * made.scale) & finite
        wrong, total = wrong + int(off.sum()), total + off.size
        largest = max(largest, float(np.abs(error[finite]).max(initial=0.0)))
        squares += float(np.square(error[finite]).sum())
        size += float(np.nansum(np.square(made.low)))
        alike = alike and off.shape[1:] == off_somewhere.shape
        if alike:
            off_somewhere, alive = off_somewhere | off.any(axis=0), alive | (output != 0).any(axis=0)
    said = f"off by up to {largest:.3g} (relative RMS {np.sqrt(np.divide(squares, size)):.2g})"
    if not wrong:
        return f"{said}: small, systematic or not, and unexplained"
    many = f"{100 * wrong / total:.3g} % of the outputs" if wrong > 0.001 * total else f"{wrong:,} of {total:,} outputs"
    places = _places(_problem(evidence, base, tally), off_somewhere, alive) if alike else ()
    return ", ".join([f"{many} differ", said, *places])


def _places(problem: Problem, off: Array, alive: Array) -> Iterator[str]:
    """Where the wrong outputs are, if they keep together.

    Args:
        off, alive: Which outputs are wrong, and which are not zero, in some example: ``(*axes without the batch)``.
    """
    axis = problem.case.channel(problem.case.output) - 1
    if not problem.whole:
        # A channel that is off by too little to be called faulty is no right one.
        hit = np.flatnonzero(off.any(axis=tuple(place for place in range(off.ndim) if place != axis)))
        only = "only" if np.isin(hit, problem.faulty).all() else "mostly"
        dead = "" if np.take(alive, problem.faulty, axis=axis).any() else ", whose every output is 0"
        yield f"{only} in {channels(problem.faulty)}{dead}"
    spatial = [place for place in range(off.ndim) if place != axis]
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
