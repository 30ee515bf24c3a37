"""Which narrower arithmetic explains an output: trials of each, and what makes one of them a proof.

An arithmetic is proved where nothing but float32 noise is left under it, in every channel; where the outputs are enough
that chance would not have done that; and where the output has the bits that this arithmetic has.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cnnlens.checking.evidence import Evidence
from cnnlens.checking.noise.arithmetic import Arithmetic, candidates
from cnnlens.checking.noise.case import Array, arrays_of
from cnnlens.checking.noise.formats import BFLOAT16, FLOAT16, TF32, Format, Rounding, to_format
from cnnlens.checking.noise.nonfinite import strays
from cnnlens.checking.noise.prediction import (
    constant_off,
    gated,
    has_steps,
    has_sum,
    leans,
    predict,
    selected,
    spread_of,
)
from cnnlens.checking.noise.tally import WORST, Tally, bits

__all__ = ["has_bits", "like_noise", "narrower", "overflow", "rounded_to", "small"]

# Tensor cores cut what they add, so what narrow operands leave unexplained may be this much more than float32's noise.
_TENSOR_CORE = 4.0
_JUMP = 3.0  # bits that rounding the operands must gain to count as a proof
# Bits that a trial must gain over all outputs together: a fault would be explained as well with a chance of 2^-24,
# times the dozen arithmetics that are tried. Where another layer of the run was proved to be in it, 2^-6 will do.
_PROOF, _PROOF_AGAIN = 24.0, 6.0
_STEPS = 2.0  # of the format's last bit, from what a trial allows: there is always a next number
_BESIDE = 3.0  # of the same: how far beside a band of results one of them is no rounding
_FEW_STEPS = 12.0  # in units of the noise's scale: what steps that no trial knows may add up to in one output
_BAND_BITS = 15.0  # how near a trial with a band of results is to what it predicts
_BELOW = 2.0  # bits below what a format has that chance may leave a layer computed in it


def has_bits(tally: Tally, wanted: Format) -> bool:
    return _reaches(tally, wanted.level - _BELOW)


def _reaches(tally: Tally, least: float) -> bool:
    """Whether the layer has so many bits, and each channel as many as chance leaves it."""
    return tally.bits >= least and not tally.below(least).any()


def small(evidence: Evidence, wanted: Format) -> bool:
    """Whether numbers that the format has no normal ones for are among the operands or the results, or were made on the
    way to one."""

    def any_below(array: Array, least: float) -> bool:
        return array.dtype.kind == "f" and bool(((array != 0) & (np.abs(array) < least)).any())

    least = 2.0**wanted.lowest
    for _, part in evidence.blocks.parts():
        low = predict(part).low
        if any(any_below(x, least) for x in (*arrays_of((part.args, dict(part.kwargs), dict(part.weights))), low)):
            return True
        # A negative x whose gate, about exp(x), is below it has silu(x) = x exp(x) below -x times it.
        if gated(part) and any_below(np.where(low < 0, low, 0), -np.log(least) * least):
            return True
    return False


def overflow(evidence: Evidence) -> str:
    """Whether infinities are float16's: what would be above 65,504 is infinite there, and the rest has its bits."""
    tally = evidence.tally
    finite = tally.count.sum() - tally.missed.sum()
    if FLOAT16 not in evidence.halves:
        return ""
    with np.errstate(all="ignore"):
        squares = tally.squares - 256.0 * tally.missed  # those that stand for another kind of number
        if finite and not bits(squares.sum(), finite) >= FLOAT16.level - _BELOW:
            return ""
    for first, part in evidence.blocks.parts():
        if strays(part, to_format(predict(part).low, FLOAT16), first) is not None:
            return ""
    count = sum(int(np.isinf(part.output).sum()) for _, part in evidence.blocks.parts())
    overflow = "outputs overflow" if count != 1 else "output overflows"
    return f"computed in float16, where {count:,} {overflow} (more than 65,504)"


def narrower(evidence: Evidence) -> list[Format]:
    """Find the narrower arithmetic that explains the errors: two where every output is a number of both and the outputs
    cannot tell them apart, as those below float16's normal numbers; empty without one, and ``evidence.base`` is then
    what most channels fit best.

    ``evidence.seen`` is then what factor on one channel's outputs the arithmetic does not explain.
    """
    found: list[Format] = []
    tally, parts = evidence.tally, evidence.blocks.parts
    spread = spread_of(next(parts())[1])
    stepwise, sums = has_steps(evidence.case), has_sum(evidence.case)
    for arithmetic in candidates(evidence.halves):
        if arithmetic.steps and not (sums if arithmetic.summed else stepwise):
            continue  # it is the arithmetic of one rounding once more
        if found and (arithmetic.format in found or not arithmetic.stored or arithmetic.wide):
            continue  # only the other format that the outputs are stored in may be meant as well
        trial = Tally(tally.terms, step=arithmetic.step, quantum=arithmetic.quantum)
        for number, (first, part) in enumerate(parts()):
            trial.add(part, predict(part, arithmetic, None if number else spread), first)
            if not number and trial.bits < tally.bits + _JUMP and _median(trial) <= _median(evidence.left) + 1:
                break  # a first part that is no nearer needs no second
        least = _least(arithmetic, evidence.floor)
        if not _counts(trial, tally):
            continue
        if trial.bits >= tally.bits + _JUMP and _explained(arithmetic, trial, least):
            if _proof(arithmetic, trial, tally) >= (_PROOF_AGAIN if arithmetic.name in evidence.proved else _PROOF):
                seen = trial.seen(least, arithmetic.step)
                if arithmetic.step:  # what no trial explains has still to be told from steps that none knows
                    seen = max(seen, _rounded_seen(evidence, tally, arithmetic.format))
                    if stepwise:  # and from what these steps would explain
                        steps = replace(arithmetic, stored="product", steps=True, summed=sums)
                        seen = max(seen, _band(evidence, steps))
                if not found:
                    evidence.base, evidence.left, evidence.seen = arithmetic, trial, seen
                evidence.seen = max(evidence.seen, seen)
                found.append(arithmetic.format)
                if len(found) >= len(evidence.halves):
                    return found
            elif not found:
                evidence.doubt = evidence.doubt or arithmetic
        elif not found and _median(trial) > _median(evidence.left) + 1:
            evidence.base, evidence.left = arithmetic, trial
    if found:
        return found
    for half in evidence.halves:
        # Steps that no trial knows may leave more than it does; still, roundings are near, and up as often as down.
        left, least = evidence.left, half.level - 1.5
        noise = _reaches(left, least) and not left.apart().any()
        alike = leans(evidence.case) or not left.outliers(least).any()
        if noise and alike and _rounds_to(evidence, half):
            evidence.seen = _rounded_seen(evidence, left, half)
            return [half]
    return []


def _band(evidence: Evidence, arithmetic: Arithmetic) -> float:
    """What factor less one on all outputs of a channel takes one of them out of the band that an arithmetic allows."""
    least: Array | None = None
    for _, part in evidence.blocks.parts():
        made = predict(part, arithmetic)
        with np.errstate(all="ignore"):
            width = np.asarray((made.high - made.low) / np.minimum(np.abs(made.low), np.abs(made.high)))
        width[~np.isfinite(width) | (part.output == 0)] = np.inf
        axis = part.channel(width)
        each = width.min(tuple(one for one in range(width.ndim) if one != axis), initial=np.inf)
        least = each if least is None else np.minimum(least, each)
    widest = 0.0 if least is None else float(np.where(np.isfinite(least), least, 0).max(initial=0.0))
    return widest + _BESIDE * arithmetic.step


def _leaning(evidence: Evidence, half: Format) -> float:
    """What factor less one on all outputs of a channel rounding may leave: where constants were rounded, theirs."""
    return 2.0**-half.mantissa * (1.0 if leans(evidence.case) else 0.125) + constant_off(evidence.case, half)


def _rounded_seen(evidence: Evidence, tally: Tally, half: Format) -> float:
    """What factor less one makes ``narrower`` refuse a format that results were stored in, whatever the steps."""
    # What is off by a factor was rounded once more, as what it is compared with was: a step may be lost by that.
    lost = 2.0**-half.mantissa
    return min(tally.seen(half.level - 1.5, 0), tally.seen_leaning(_leaning(evidence, half) + lost))


def _rounds_to(evidence: Evidence, half: Format) -> bool:
    """Whether most outputs are within two steps of the format from the reference, none is many steps away, and no
    channel and no input is off by a factor: what is far away, or what all rounding would have had to favour, is no
    rounding however wide the scale of noise is."""
    left, step = evidence.left, 2.0**-half.mantissa
    if left.leans(_leaning(evidence, half)) or left.worst > _FEW_STEPS * step:
        return False
    # Of one input a single rounding, such as that of a norm's deviation, may be all of a factor.
    if left.inputs_off(half.level - 1.5, step):
        return False
    near = total = 0
    for _, part in evidence.blocks.parts():
        exact = predict(part).low
        output = np.asarray(part.output, np.float64)
        used = np.isfinite(exact) & ((exact != 0) | (output != 0))
        exact, output = exact[used], output[used]
        near += int((np.abs(output - exact) <= np.abs(exact) * 2.0 ** (1 - half.mantissa)).sum())
        total += exact.size
    return 2 * near > total


def _least(arithmetic: Arithmetic, floor: float) -> float:
    """The bits that an arithmetic leaves where it was the one."""
    return arithmetic.format.level + 4 if arithmetic.stored else max(floor - _TENSOR_CORE, 14.5)


def _counts(trial: Tally, plain: Tally) -> bool:
    """Whether a trial says something of every output that the plain comparison counts: one whose operands overflow
    predicts no number, and what it leaves out explains nothing."""
    return trial.unknown <= plain.unknown and bool((trial.missed <= plain.missed).all())


def _explained(arithmetic: Arithmetic, trial: Tally, least: float) -> bool:
    """Whether float32 noise is all that is left: in every channel, in every input, in the worst output."""
    if not _reaches(trial, least):
        return False
    if arithmetic.steps and trial.steps < 1:
        return True  # one of several roundings may fall to the other side, in one output or in what an input's share
    if trial.inputs_off(least):
        return False
    if arithmetic.stored:
        return not trial.outliers(least).any() and (not arithmetic.step or trial.steps <= _STEPS)
    # Tensor cores cut towards zero: of n terms of one sign n / 2^26 of the sum.
    lost = 2.0**-17 + trial.terms * 2.0**-26
    near = trial.worst <= 2.0 ** (WORST - least)
    return near and not trial.outliers(17.5).any() and not trial.leans(lost)


def _proof(arithmetic: Arithmetic, trial: Tally, plain: Tally) -> float:
    """How many bits of what was seen a trial tells beforehand that chance would not: that every output is one of the
    format's numbers, or what the trial gains, which is no more than the width of the band that it allows."""
    if arithmetic.stored and not arithmetic.wide:
        each = 23.0 - arithmetic.format.mantissa
    else:
        each = min(trial.bits, _BAND_BITS if arithmetic.stored else 24.0) - plain.bits
    return float(trial.count.sum()) * each


def _median(tally: Tally) -> float:
    used = tally.channel_bits[tally.count > 0]
    return float(np.median(np.minimum(used, 60.0))) if used.size else float("inf")


def like_noise(tally: Tally, least: float) -> bool:
    """Whether every channel has the same, unsystematic noise of at least so many bits."""
    return _reaches(tally, least) and not tally.outliers().any()


def rounded_to(evidence: Evidence) -> list[Format]:
    """Name the formats that may have rounded every output of a layer that only picks or moves values: several where the
    outputs cannot tell them apart, as float16 and tf32 where none is beyond float16's range."""

    def all_rounded(wanted: Format, rounding: Rounding) -> bool:
        return all(
            np.array_equal(
                to_format(np.asarray(selected(part), np.float64), wanted, rounding), part.output, equal_nan=True
            )
            for _, part in evidence.blocks.parts()
        )

    halves = [half for half in (BFLOAT16, FLOAT16) if all_rounded(half, "even")]
    return halves + [TF32] * any(all_rounded(TF32, rounding) for rounding in ("even", "away", "down"))
