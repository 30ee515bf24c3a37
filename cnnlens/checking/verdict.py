"""The audit of one layer: from its recorded inputs and output to a verdict, with its proof.

A layer passes as float32 when its errors are rounding noise of float32, for the layer, for every channel and for the
worst output. Otherwise the layer is computed again under each narrower arithmetic, and passes under that name when
nothing but float32 noise is left. What remains is a fault, and ``cnnlens.checking.faults.explanation`` is asked which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.finding import Cause, Verdict
from cnnlens.checking.noise.arithmetic import EXACT, Arithmetic, candidates
from cnnlens.checking.noise.case import Case
from cnnlens.checking.noise.condition import rounds_once, selects
from cnnlens.checking.noise.formats import BFLOAT16, FLOAT16, Format, fits, to_format
from cnnlens.checking.noise.nonfinite import nonfinite_weights, strays
from cnnlens.checking.noise.prediction import floor_of, predict, spread_of, terms_of
from cnnlens.checking.noise.tally import Tally
from cnnlens.checking.noise.threads import one_blas_thread
from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.network.graph import CONFIG_ERRORS, Call
from cnnlens.reference.bare.ops import BareOperation
from cnnlens.text import printable

__all__ = ["Audit", "audit"]

Array = NDArray[Any]

_GROSS = 12.0  # fewer effective bits than this, unexplained, is no small matter
# Tensor cores cut what they add, so what narrow operands leave unexplained may be this much more than float32's noise.
_TENSOR_CORE = 4.0
_JUMP = 3.0  # bits that rounding the operands must gain to count as a proof


@dataclass
class Audit:
    """Says what the audit of one recorded output found.

    Attributes:
        name, kind: Of the call and of its layer.
        verdict: Rounding of which format, or a fault.
        bits: Effective bits of the layer against exact arithmetic; infinite where it is bit-equal, NaN if not audited.
        worst_channel: The channel with the fewest bits, None where there is none; ``channel_bits``: its bits.
        worst_position: Canonical index ``(N, C, *spatial)`` of the worst output; ``worst_error``: its error.
        cause: What it does otherwise; None for rounding.
        explanation: The same in one sentence.
        reason: Why it was not audited.
    """

    name: str
    kind: str
    verdict: Verdict
    bits: float = float("nan")
    worst_channel: int | None = None
    channel_bits: float = float("nan")
    worst_position: tuple[int, ...] = ()
    worst_error: float = 0.0
    explanation: str = ""
    reason: str = ""
    cause: Cause | None = None


@one_blas_thread()
def audit(
    call: Call,
    weights: Mapping[str, NDArray[Any]],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    output: NDArray[Any] | Sequence[NDArray[Any]],
    strict: bool = True,
) -> Audit:
    """Audit one call of one layer by itself: its recorded inputs against its recorded output.

    Args:
        call: The call; its layer's operation is the reference.
        weights: ``Layer.computing_weights()``: as stored, by name.
        args, kwargs: ``call.args`` and ``call.kwargs`` with recorded arrays where Refs stand, in the file's own axes.
        output: Recorded, in the file's own axes; a sequence where the call has several outputs (the worst is told).
        strict: Whether narrower arithmetic was forbidden; it is then explained, the verdict being the same.

    Returns:
        The verdict with its numbers. Never raises for what is in the arrays: shapes that do not fit are ``wrong``.
    """
    name, kind = call.name, call.layer.kind
    try:
        if isinstance(output, (list, tuple)):
            parts = cast("Sequence[Array]", output)
            audits = [_output(call, weights, args, kwargs, one, strict, number) for number, one in enumerate(parts)]
            return max(audits, key=lambda one: (one.verdict.rank, -one.channel_bits))
        return _output(call, weights, args, kwargs, cast("Array", output), strict, None)
    except UnsupportedLayerError as error:
        return Audit(name, kind, Verdict.NOT_AUDITED, reason=str(error))
    except CONFIG_ERRORS as error:
        reason = f"its config, weights and recorded input do not fit together ({printable(error, 200)})"
        return Audit(name, kind, Verdict.NOT_AUDITED, reason=reason)


# --- one output ------------------------------------------------------------------------------------------------------


def _output(
    call: Call,
    weights: Mapping[str, Array],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    output: Array,
    strict: bool,
    index: int | None,
) -> Audit:
    case = Case.of(call.layer, call.channel_axis, weights, tuple(args), kwargs, np.asarray(output))
    if index is not None:
        case = case.picked(index)
    weighed = nonfinite_weights(call.layer, weights)
    found = Audit(call.name, call.layer.kind, Verdict.EXACT, float("inf"), None, float("inf"), explanation=weighed,
                  cause=Cause.STORED if weighed else None)  # fmt: skip
    made = isinstance(case.operation, BareOperation)  # a range or a fill that the graph makes of nothing
    if (not call.refs and not made) or case.operation.kind == "Empty" or not case.output.size:
        return found
    stray = None
    tally = Tally(terms_of(case))
    exact = True
    for first, part in case.parts():
        if selects(part.operation) or rounds_once(part.operation, part.args):
            expected = _selected(part)
            if np.array_equal(expected, part.output, equal_nan=expected.dtype.kind == "f"):
                continue
        prediction = predict(part)
        if prediction.low.shape != part.output.shape:
            shapes = f"{tuple(part.output.shape)} where the reference gives {tuple(prediction.low.shape)}"
            found = replace(found, verdict=Verdict.WRONG, bits=0.0, channel_bits=0.0)
            return replace(found, cause=Cause.SHAPE, explanation=f"the output's shape is {shapes}")
        with np.errstate(all="ignore"):
            exact = exact and np.array_equal(prediction.low.astype(np.float32), part.output, equal_nan=True)
        stray = stray or strays(part, prediction.low, first)
        tally.add(part, prediction, first)
    if exact and stray is None:
        return found
    return _judged(case, tally, stray, found, strict)


def _selected(case: Case) -> Array:
    """What a layer that only selects, or rounds once, must give: bit for bit, computed in the recording's own dtype."""
    with np.errstate(all="ignore"):
        result = np.asarray(case.operation(case.weights, *case.args, **case.kwargs))
        return result.astype(case.output.dtype, copy=False)


def _judged(case: Case, tally: Tally, stray: tuple[str, tuple[int, ...]] | None, found: Audit, strict: bool) -> Audit:
    """The verdict on an output that is not bit-equal."""
    channel, channel_bits = _worst_channel(tally)
    found = replace(
        found,
        verdict=Verdict.FLOAT32,
        bits=tally.bits,
        worst_channel=channel,
        channel_bits=channel_bits,
        worst_position=case.canonical(tally.position),
        worst_error=tally.error,
    )
    if stray is not None:
        text, position = stray
        overflow = _overflow(case)
        cause = Cause.OVERFLOW if overflow else Cause.NONFINITE
        found = replace(found, verdict=Verdict.WRONG, cause=cause, explanation=overflow or text)
        return replace(found, worst_position=case.canonical(position))
    floor = floor_of(case)
    if selects(case.operation):
        if tally.worst == 0:
            return replace(found, verdict=Verdict.EXACT, bits=float("inf"), channel_bits=float("inf"))
        narrow = next((one for one in (BFLOAT16, FLOAT16) if _all_rounded(case, one)), None)
        if narrow is not None:
            return _narrow(found, narrow, strict)
        floor = float("inf")
    elif tally.clean(floor):
        return found
    base = EXACT
    if floor < float("inf"):
        proved, base, tally = _narrower(case, tally, floor)
        if proved is not None:
            return _narrow(found, proved, strict)
    return _fault(case, base, tally, floor, found)


def _narrow(found: Audit, wanted: Format, strict: bool) -> Audit:
    found = replace(found, verdict=Verdict(wanted.name))
    text = f"computed in {wanted.name}, where strict precision means float32"
    return replace(found, cause=Cause.PRECISION, explanation=text) if strict else found


def _overflow(case: Case) -> str:
    """Whether infinities are float16's: what would be above 65,504 is infinite there."""
    if not fits(case.output, FLOAT16):
        return ""
    for first, part in case.parts():
        if strays(part, to_format(predict(part).low, FLOAT16), first) is not None:
            return ""
    count = int(np.isinf(case.output).sum())
    overflow = "outputs overflow" if count != 1 else "output overflows"
    return f"computed in float16, where {count:,} {overflow} (more than 65,504)"


def _all_rounded(case: Case, wanted: Format) -> bool:
    return all(
        np.array_equal(to_format(np.asarray(_selected(part), np.float64), wanted), part.output, equal_nan=True)
        for _, part in case.parts()
    )


def _narrower(case: Case, tally: Tally, floor: float) -> tuple[Format | None, Arithmetic, Tally]:
    """The narrower arithmetic that explains the errors, or else the one under which most channels fit best."""
    best, base = tally, EXACT
    parts = list(case.parts())
    spread = spread_of(parts[0][1])
    for arithmetic in candidates(case.output):
        trial = Tally(tally.terms)
        for number, (first, part) in enumerate(parts):
            trial.add(part, predict(part, arithmetic, None if number else spread), first)
            if not number and trial.bits < tally.bits + _JUMP:
                break  # a first part that is not explained needs no second
        if _explained(arithmetic, trial, tally, floor):
            return arithmetic.format, arithmetic, trial
        if _median(trial) > _median(best) + 1:
            best, base = trial, arithmetic
    for half in (BFLOAT16, FLOAT16):
        if fits(case.output, half) and _like_noise(best, half.level - 1.5):
            return half, base, best
    return None, base, best


def _explained(arithmetic: Arithmetic, trial: Tally, plain: Tally, floor: float) -> bool:
    """Whether float32 noise is all that is left, in every channel, and much less than before."""
    if trial.bits < plain.bits + _JUMP:
        return False
    least = arithmetic.format.level + 4 if arithmetic.stored else max(floor - _TENSOR_CORE, 14.5)
    apart = trial.outliers(least if arithmetic.stored else 17.5)
    return trial.bits >= least and not trial.below(least).any() and not apart.any()


def _median(tally: Tally) -> float:
    used = tally.channel_bits[tally.count > 0]
    return float(np.median(np.minimum(used, 60.0))) if used.size else float("inf")


def _like_noise(tally: Tally, least: float) -> bool:
    """Whether every channel has the same, unsystematic noise of at least so many bits."""
    return tally.bits >= least and not tally.below(least).any() and not tally.outliers().any()


def _fault(case: Case, base: Arithmetic, tally: Tally, floor: float, found: Audit) -> Audit:
    """A layer that no rounding explains."""
    from cnnlens.checking.faults.explanation import explain

    try:
        text, cause = explain(case, base, tally, floor)
    except (CnnlensError, *CONFIG_ERRORS) as error:
        # The verdict stands without a name; that none was found for this reason is said.
        text, cause = f"unexplained (the search for the fault failed: {printable(error, 200)})", Cause.UNEXPLAINED
    gross = min(found.bits, tally.bits, found.channel_bits) < _GROSS
    named = cause is not Cause.UNEXPLAINED
    if not named and _like_noise(tally, 7.0):
        gross = False
    verdict = Verdict.WRONG if named or gross else Verdict.SUSPICIOUS
    return replace(found, verdict=verdict, cause=cause, explanation=text)


def _worst_channel(tally: Tally) -> tuple[int | None, float]:
    each = np.where(tally.count > 0, tally.channel_bits, np.inf)
    if not each.size or not np.isfinite(each).any():
        return None, float("inf")
    channel = int(each.argmin())
    return channel, float(each[channel])
