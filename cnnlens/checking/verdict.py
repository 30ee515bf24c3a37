"""The audit of one layer: from its recorded inputs and output to a verdict, with its proof.

A layer passes as float32 when its errors are rounding noise of float32, for the layer, for every channel and for the
worst output. Otherwise the layer is computed again under each narrower arithmetic, and passes under that name when
nothing but float32 noise is left, its outputs are enough to tell, and it has the bits that this arithmetic has. What
remains is a fault, and ``cnnlens.checking.faults.explanation`` is asked which.

Recordings are read some inputs at a time, as often as a trial asks for them: what is held is never more than a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.finding import Cause, Verdict
from cnnlens.checking.noise.arithmetic import EXACT, Arithmetic, candidates
from cnnlens.checking.noise.case import HUGE, Case, arrays_of, wide
from cnnlens.checking.noise.condition import rounds_once, selects
from cnnlens.checking.noise.formats import BFLOAT16, FLOAT16, Format, fits, to_format
from cnnlens.checking.noise.nonfinite import channels, nonfinite_weights, strays
from cnnlens.checking.noise.prediction import floor_of, predict, spread_of, terms_of
from cnnlens.checking.noise.tally import Tally, bits
from cnnlens.checking.noise.threads import one_blas_thread
from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.network.graph import CONFIG_ERRORS, Call
from cnnlens.reference.bare.ops import BareOperation
from cnnlens.text import printable

__all__ = ["Audit", "Block", "audit", "audit_blocks"]

Array = NDArray[Any]

_GROSS = 12.0  # fewer effective bits than this, unexplained, is no small matter
# Tensor cores cut what they add, so what narrow operands leave unexplained may be this much more than float32's noise.
_TENSOR_CORE = 4.0
_JUMP = 3.0  # bits that rounding the operands must gain to count as a proof
# Bits that a trial must gain over all outputs together: a fault would be explained as well with a chance of 2^-24,
# times the dozen arithmetics that are tried. Where another layer of the run was proved to be in it, 2^-6 will do.
_PROOF, _PROOF_AGAIN = 24.0, 6.0
_BELOW = 2.0  # bits below what a format has that chance may leave a layer computed in it


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


class Block(NamedTuple):
    """Holds some of the inputs of a call: the first one's number, ``args`` and ``kwargs`` as ``audit`` takes them, and
    what was recorded."""

    first: int
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    output: NDArray[Any] | Sequence[NDArray[Any]]


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
    return audit_blocks(call, weights, lambda: [Block(0, args, kwargs, output)], strict)


@one_blas_thread()
def audit_blocks(
    call: Call,
    weights: Mapping[str, NDArray[Any]],
    blocks: Callable[[], Iterable[Block]],
    strict: bool = True,
    proved: Iterable[Verdict] = (),
) -> Audit:
    """Audit one call as ``audit`` does, its inputs some at a time.

    Args:
        blocks: Gives the inputs from the first to the last, each time it is called.
        proved: Narrow arithmetics that other layers of the same run were proved to be in.
    """
    name, kind = call.name, call.layer.kind
    try:
        weights = {name: array if array.size > HUGE else wide(array) for name, array in weights.items()}
        first = next(iter(blocks()))
        several = len(first.output) if isinstance(first.output, (list, tuple)) else 0
        audits = [
            _output(call, weights, _Recorded(call, weights, blocks, index), strict, [one.value for one in proved])
            for index in (range(several) if several else [None])
        ]
        return max(audits, key=lambda one: (one.verdict.rank, -one.channel_bits))
    except UnsupportedLayerError as error:
        return Audit(name, kind, Verdict.NOT_AUDITED, reason=str(error))
    except CONFIG_ERRORS as error:
        reason = f"its config, weights and recorded input do not fit together ({printable(error, 200)})"
        return Audit(name, kind, Verdict.NOT_AUDITED, reason=reason)


@dataclass(frozen=True)
class _Recorded:
    """One output of a call, as cases of some inputs each; ``index`` where the call has several."""

    call: Call
    weights: Mapping[str, Array]
    blocks: Callable[[], Iterable[Block]]
    index: int | None

    def cases(self) -> Iterator[tuple[int, Case]]:
        """Each block as a case, with the number of its first example."""
        layer, axis, index = self.call.layer, self.call.channel_axis, self.index
        for block in self.blocks():
            output = block.output if index is None else cast("Sequence[Array]", block.output)[index]
            case = Case.of(layer, axis, self.weights, tuple(block.args), block.kwargs, np.asarray(output))
            if index is not None:
                case = case.picked(index)
            yield block.first * (case.folded[1] if case.folded else 1), case

    def parts(self) -> Iterator[tuple[int, Case]]:
        """The same in pieces that float64 has room for."""
        for first, case in self.cases():
            for start, part in case.parts():
                yield first + start, part

    def case_of(self, example: int) -> Case:
        """The block that has an example."""
        cases = self.cases()
        _, found = next(cases)
        for first, case in cases:
            if first > example:
                break
            found = case
        return found


# --- one output ------------------------------------------------------------------------------------------------------


def _output(
    call: Call, weights: Mapping[str, Array], recorded: _Recorded, strict: bool, proved: Sequence[str]
) -> Audit:
    weighed = nonfinite_weights(call.layer, weights)
    found = Audit(call.name, call.layer.kind, Verdict.EXACT, float("inf"), None, float("inf"), explanation=weighed,
                  cause=Cause.STORED if weighed else None)  # fmt: skip
    _, case = next(recorded.cases())
    made = isinstance(case.operation, BareOperation)  # a range or a fill that the graph makes of nothing
    if (not call.refs and not made) or case.operation.kind == "Empty" or not case.output.size:
        return found
    stray = None
    tally = Tally(terms_of(case))
    exact = True
    odd = total = 0
    for first, part in recorded.parts():
        odd += part.output.size - int(np.isfinite(part.output).sum())
        total += part.output.size
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
    if odd and stray is None:
        found = _nonfinite(found, odd, total)
    if exact and stray is None:
        return found
    if found.verdict is Verdict.NOT_AUDITED:
        return found
    return _judged(_Judged(recorded, case, tally, floor_of(case), found, strict, proved), stray)


def _nonfinite(found: Audit, odd: int, total: int) -> Audit:
    """What is to be said of outputs that are NaN or infinite on both sides: nothing was compared there."""
    if odd == total:
        reason = f"its output is NaN or infinite everywhere, as float32's reference is ({total:,} numbers)"
        return Audit(found.name, found.kind, Verdict.NOT_AUDITED, reason=reason, cause=Cause.NONFINITE)
    if found.explanation:
        return found
    text = f"{odd:,} of {total:,} outputs are NaN or infinite, as the reference's are; the others were compared"
    return replace(found, explanation=text, cause=Cause.NONFINITE)


def _selected(case: Case) -> Array:
    """What a layer that only selects, or rounds once, must give: bit for bit, computed in the recording's own dtype."""
    with np.errstate(all="ignore"):
        result = np.asarray(case.operation(case.weights, *case.args, **case.kwargs))
        return result.astype(case.output.dtype, copy=False)


@dataclass
class _Judged:
    """An output that is not bit-equal, and what is known of it.

    ``case`` is a first block, ``tally`` the errors of all; ``base`` and ``left`` are the arithmetic that most of it is
    explained by, and the errors under that; ``doubt`` is the arithmetic that would explain too few outputs.
    """

    recorded: _Recorded
    case: Case
    tally: Tally
    floor: float
    found: Audit
    strict: bool
    proved: Sequence[str]
    base: Arithmetic = EXACT
    left: Tally = field(init=False)
    doubt: Arithmetic | None = None

    def __post_init__(self) -> None:
        self.left = self.tally


def _judged(judged: _Judged, stray: tuple[str, tuple[int, ...]] | None) -> Audit:
    """The verdict on an output that is not bit-equal."""
    case, tally = judged.case, judged.tally
    channel, channel_bits = _worst_channel(tally)
    found = judged.found = replace(
        judged.found,
        verdict=Verdict.FLOAT32,
        bits=tally.bits,
        worst_channel=channel,
        channel_bits=channel_bits,
        worst_position=case.canonical(tally.position),
        worst_error=tally.error,
    )
    if stray is not None:
        text, position = stray
        overflow = _overflow(judged)
        cause = Cause.OVERFLOW if overflow else Cause.NONFINITE
        found = replace(found, verdict=Verdict.WRONG, cause=cause, explanation=overflow or text)
        return replace(found, worst_position=case.canonical(position))
    if selects(case.operation):
        if tally.worst == 0:
            return replace(found, verdict=Verdict.EXACT, bits=float("inf"), channel_bits=float("inf"))
        judged.floor = float("inf")
        narrow = next((one for one in (BFLOAT16, FLOAT16) if _all_rounded(judged, one)), None)
    elif tally.clean(judged.floor):
        return found
    else:
        narrow = _narrower(judged)
    return _fault(judged) if narrow is None else _narrow(judged, narrow)


def _narrow(judged: _Judged, wanted: Format) -> Audit:
    """The verdict on an output that a narrower arithmetic explains; it must have the bits that this arithmetic has."""
    found = judged.found
    if not _has_bits(judged.tally, wanted):
        if not _small(judged, wanted):
            return _fault(judged)
        least = 2.0**wanted.lowest
        text = f"computed in {wanted.name}, which keeps few digits of numbers below {least:.2g}, or none"
        return replace(found, verdict=Verdict.WRONG, cause=Cause.UNDERFLOW, explanation=text)
    found = replace(found, verdict=Verdict(wanted.name))
    text = f"computed in {wanted.name}, where strict precision means float32"
    return replace(found, cause=Cause.PRECISION, explanation=text) if judged.strict else found


def _has_bits(tally: Tally, wanted: Format) -> bool:
    least = wanted.level - _BELOW
    return tally.bits >= least and not tally.below(least).any()


def _small(judged: _Judged, wanted: Format) -> bool:
    """Whether numbers that the format has no normal ones for are among the operands or the results."""
    return any(
        bool(((array != 0) & (np.abs(array) < 2.0**wanted.lowest)).any())
        for _, part in judged.recorded.parts()
        for array in (*arrays_of((part.args, dict(part.kwargs), dict(part.weights))), predict(part).low)
        if array.dtype.kind == "f"
    )


def _overflow(judged: _Judged) -> str:
    """Whether infinities are float16's: what would be above 65,504 is infinite there, and the rest has its bits."""
    tally = judged.tally
    finite = tally.count.sum() - tally.missed.sum()
    if not all(fits(part.output, FLOAT16) for _, part in judged.recorded.parts()):
        return ""
    with np.errstate(all="ignore"):
        squares = tally.squares - 256.0 * tally.missed  # those that stand for another kind of number
        if finite and not bits(squares.sum(), finite) >= FLOAT16.level - _BELOW:
            return ""
    for first, part in judged.recorded.parts():
        if strays(part, to_format(predict(part).low, FLOAT16), first) is not None:
            return ""
    count = sum(int(np.isinf(part.output).sum()) for _, part in judged.recorded.parts())
    overflow = "outputs overflow" if count != 1 else "output overflows"
    return f"computed in float16, where {count:,} {overflow} (more than 65,504)"


def _all_rounded(judged: _Judged, wanted: Format) -> bool:
    return all(
        np.array_equal(to_format(np.asarray(_selected(part), np.float64), wanted), part.output, equal_nan=True)
        for _, part in judged.recorded.parts()
    )


def _narrower(judged: _Judged) -> Format | None:
    """Find the narrower arithmetic that explains the errors, or else the one under which most channels fit best."""
    tally, parts = judged.tally, judged.recorded.parts
    spread = spread_of(next(parts())[1])
    halves = [half for half in (BFLOAT16, FLOAT16) if all(fits(part.output, half) for _, part in parts())]
    for arithmetic in candidates(halves):
        trial = Tally(tally.terms)
        for number, (first, part) in enumerate(parts()):
            trial.add(part, predict(part, arithmetic, None if number else spread), first)
            if not number and trial.bits < tally.bits + _JUMP:
                break  # a first part that is not explained needs no second
        if _explained(arithmetic, trial, tally, judged.floor):
            if _proof(arithmetic, trial, tally) >= (_PROOF_AGAIN if arithmetic.name in judged.proved else _PROOF):
                judged.base, judged.left = arithmetic, trial
                return arithmetic.format
            judged.doubt = judged.doubt or arithmetic
        elif _median(trial) > _median(judged.left) + 1:
            judged.base, judged.left = arithmetic, trial
    for half in halves:
        if _like_noise(judged.left, half.level - 1.5):
            return half
    return None


def _explained(arithmetic: Arithmetic, trial: Tally, plain: Tally, floor: float) -> bool:
    """Whether float32 noise is all that is left, in every channel, and much less than before."""
    if trial.bits < plain.bits + _JUMP:
        return False
    least = arithmetic.format.level + 4 if arithmetic.stored else max(floor - _TENSOR_CORE, 14.5)
    apart = trial.outliers(least if arithmetic.stored else 17.5)
    return trial.bits >= least and not trial.below(least).any() and not apart.any()


def _proof(arithmetic: Arithmetic, trial: Tally, plain: Tally) -> float:
    """How many bits of what was seen a trial tells beforehand that chance would not: what it gains, and that every
    output is one of the format's numbers."""
    gained = min(trial.bits, 24.0) - plain.bits
    return float(trial.count.sum()) * (gained + (23 - arithmetic.format.mantissa if arithmetic.stored else 0))


def _median(tally: Tally) -> float:
    used = tally.channel_bits[tally.count > 0]
    return float(np.median(np.minimum(used, 60.0))) if used.size else float("inf")


def _like_noise(tally: Tally, least: float) -> bool:
    """Whether every channel has the same, unsystematic noise of at least so many bits."""
    return tally.bits >= least and not tally.below(least).any() and not tally.outliers().any()


def _fault(judged: _Judged) -> Audit:
    """A layer that no rounding explains."""
    from cnnlens.checking.faults.explanation import explain

    tally, base, found = judged.left, judged.base, judged.found
    if judged.doubt is not None:
        outputs = int(judged.tally.count.sum())
        shown = "one output is" if outputs == 1 else f"{outputs} outputs are"
        text = f"the rounding of {judged.doubt.name} would explain it, or a fault: {shown} too few to tell them apart"
        return replace(found, verdict=Verdict.SUSPICIOUS, cause=Cause.UNEXPLAINED, explanation=text)
    case = judged.recorded.case_of(tally.position[0] if tally.position else 0)
    if case.splits:  # what is asked of the search is one block, and its own errors
        own = Tally(tally.terms)
        for start, part in case.parts():
            own.add(part, predict(part, base), start)
        tally = own if own.faulty(min(judged.floor, 22.0)).any() else replace(tally, position=own.position)
    try:
        text, cause = explain(case, base, tally, judged.floor)
    except (CnnlensError, *CONFIG_ERRORS) as error:
        # The verdict stands without a name; that none was found for this reason is said.
        text, cause = f"unexplained (the search for the fault failed: {printable(error, 200)})", Cause.UNEXPLAINED
    gross = min(found.bits, judged.left.bits, found.channel_bits) < _GROSS
    named = cause is not Cause.UNEXPLAINED
    if not named and _like_noise(judged.left, 7.0):
        gross = False
    if base is not EXACT:
        text = f"{text}, besides the rounding of {base.name}"
    steps = case.folded[1] if case.folded else 1
    few = judged.left.few_inputs(min(judged.floor, 22.0), steps)
    if few:
        of = len({number // steps for number in judged.left.examples})
        text = f"{text}; in {_inputs(few)} of {of} alone"
    verdict = Verdict.WRONG if named or gross else Verdict.SUSPICIOUS
    return replace(found, verdict=verdict, cause=cause, explanation=text)


def _inputs(numbers: Sequence[int]) -> str:
    """``input 1`` or ``inputs 1, 3 and 4``, as channels are listed."""
    return channels(numbers).replace("channel", "input", 1)


def _worst_channel(tally: Tally) -> tuple[int | None, float]:
    each = np.where(tally.count > 0, tally.channel_bits, np.inf)
    if not each.size or not np.isfinite(each).any():
        return None, float("inf")
    channel = int(each.argmin())
    return channel, float(each[channel])
