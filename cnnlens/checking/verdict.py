"""The audit of one layer: from its recorded inputs and output to a verdict, with its proof.

A layer passes as float32 when its errors are rounding noise of float32, for the layer, for every channel and for the
worst output. Otherwise the layer is computed again under each narrower arithmetic, and passes under that name when
nothing but float32 noise is left, its outputs are enough to tell, and it has the bits that this arithmetic has. What
remains is a fault, and ``cnnlens.checking.faults.explanation`` is asked which.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.evidence import Block, Blocks, Evidence, Finite, Predictions
from cnnlens.checking.finding import Cause, FaultClass, Known, Verdict
from cnnlens.checking.lost import lost_bits
from cnnlens.checking.narrower import has_bits, like_noise, narrower, overflow, rounded_to, small
from cnnlens.checking.noise.case import HUGE, arrays_of, wide
from cnnlens.checking.noise.condition import rounds_once, selects
from cnnlens.checking.noise.formats import Format
from cnnlens.checking.noise.nonfinite import NEARLY, Strays, nonfinite_weights, strays
from cnnlens.checking.noise.prediction import excused, floor_of, flushes, has_subnormal, predict, selected, terms_of
from cnnlens.checking.noise.tally import Tally
from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.network.graph import CONFIG_ERRORS, Call
from cnnlens.reference.bare.ops import BareOperation
from cnnlens.reference.threads import one_blas_thread
from cnnlens.text import printable

__all__ = ["Audit", "as_asked", "audit", "audit_blocks"]

Array = NDArray[Any]

_FLUSHED = "numbers below 2^-126 are taken for zero, as many a library has it; all others are equal"
_GROSS = 12.0  # fewer effective bits than this, unexplained, is no small matter
_CLASSES = {
    Cause.NONFINITE: FaultClass.NONFINITE, Cause.OVERFLOW: FaultClass.NONFINITE, Cause.PRECISION: FaultClass.LOST,
    Cause.UNDERFLOW: FaultClass.LOST, Cause.SHAPE: FaultClass.SHAPE,
}  # fmt: skip


@dataclass
class Audit:
    """Says what the audit of one recorded output found.

    Attributes:
        name, kind: Of the call and of its layer.
        verdict: Rounding of which format, or a fault.
        bits: Effective bits of the layer against exact arithmetic; infinite where it is bit-equal, NaN if not audited.
        worst_channel: The channel with the fewest bits, None where there is none; ``channel_bits``: its bits.
        sees: What factor less one on the outputs of any channel would have been found; NaN where nothing is rounded.
        alike: The other formats whose rounding the outputs may be as well as that of the verdict.
        worst_position: Canonical index ``(N, C, *spatial)`` of the worst output; ``worst_error``: its error.
        cause: What it does otherwise; None for rounding.
        explanation: The same in one sentence.
        reason: Why it was not audited.
        lost: Of what is no float32, how many bits each place has lost, ``(C, *spatial)``; see ``lost_bits``.
        known: The disagreement of the atlas that it looks like, where ``check`` found one; it changes no verdict.
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
    sees: float = float("nan")
    alike: tuple[Verdict, ...] = ()
    lost: Array | None = field(default=None, repr=False, compare=False)
    known: Known | None = None

    @property
    def fault_class(self) -> FaultClass | None:
        """Name the sort of fault that it is; None where it is none. Unexplained with many bits, digits were lost."""
        if self.verdict.passes("strict") or self.verdict is Verdict.NOT_AUDITED:
            return None
        if self.cause in (None, Cause.UNEXPLAINED):
            return FaultClass.LOST if min(self.bits, self.channel_bits) > _GROSS else FaultClass.WRONG
        return _CLASSES.get(self.cause, FaultClass.WRONG)

    def among(self, wanted: Collection[Verdict]) -> Audit:
        """Give the verdict the name that is wanted, where its outputs cannot tell that from its own."""
        other = None if self.verdict in wanted else next((one for one in self.alike if one in wanted), None)
        if other is None:
            return self
        rest = tuple(one for one in (self.verdict, *self.alike) if one is not other)
        return replace(self, verdict=other, alike=rest)


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
        args, kwargs: ``call.args`` and ``call.operand_kwargs`` with recorded arrays where Refs stand, in the file's own
            axes.
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
    proved: Collection[Verdict] = (),
    known: Predictions | None = None,
    explained: bool = True,
) -> Audit:
    """Audit one call as ``audit`` does, its inputs some at a time.

    Args:
        blocks: Gives the inputs from the first to the last, each time it is called.
        proved: Narrow arithmetics that other layers of the same run were proved to be in.
        known: Predictions of this call on these inputs, which are used and added to.
        explained: Whether a fault is searched for a name, which takes longer than to see that there is one.
    """
    name, kind = call.name, call.layer.kind
    try:
        weights = {name: array if array.size > HUGE else wide(array) for name, array in weights.items()}
        first = next(iter(blocks()))
        several = len(first.output) if isinstance(first.output, (list, tuple)) else 0
        audits = [
            _output(call, weights, Blocks(call, weights, blocks, index, known), strict, proved, explained)
            for index in (range(several) if several else [None])
        ]
        return max(audits, key=lambda one: (one.verdict.rank, -one.channel_bits))
    except UnsupportedLayerError as error:
        return Audit(name, kind, Verdict.NOT_AUDITED, reason=str(error))
    except CONFIG_ERRORS as error:
        reason = f"its config, weights and recorded input do not fit together ({printable(error, 200)})"
        return Audit(name, kind, Verdict.NOT_AUDITED, reason=reason)


def as_asked(found: Audit, precision: str) -> Audit:
    """Say of an audit what it is in a run that was asked for ``precision``.

    Where its outputs cannot tell formats apart, the one that was asked for is meant. Few digits of what is below
    float16's normal numbers are float16's own rounding to whoever asked for it: that is noted, and no fault; where
    nothing is left but zeros, nothing can be told. What has fewer bits than were asked for is said.
    """
    found = found.among([Verdict.asked(precision)])
    if precision == "float16" and found.cause is Cause.UNDERFLOW:
        if found.verdict is Verdict.SUSPICIOUS:
            return Audit(found.name, found.kind, Verdict.NOT_AUDITED, reason=found.explanation, cause=found.cause)
        return replace(found, verdict=Verdict.FLOAT16)
    if found.verdict.narrow and Verdict.asked(precision).narrow and not found.verdict.passes(precision):
        text = f"computed in {found.verdict}, which has fewer bits than {precision}, which was asked for"
        return replace(found, cause=Cause.PRECISION, explanation=text)
    return found


# --- one output ------------------------------------------------------------------------------------------------------


def _output(
    call: Call,
    weights: Mapping[str, Array],
    recorded: Blocks,
    strict: bool,
    proved: Collection[Verdict],
    explained: bool,
) -> Audit:
    weighed = nonfinite_weights(call.layer, weights)
    found = Audit(call.name, call.layer.kind, Verdict.EXACT, float("inf"), None, float("inf"), explanation=weighed,
                  cause=Cause.STORED if weighed else None)  # fmt: skip
    _, case = next(recorded.cases())
    made = isinstance(case.operation, BareOperation)  # a range or a fill that the graph makes of nothing
    if (not call.refs and not made) or case.operation.kind == "Empty" or not case.output.size:
        return found
    stray: Strays | None = None
    tally = Tally(terms_of(case))
    exact, flushed = True, False
    odd = total = 0
    for first, part in recorded.parts():
        total += part.output.size
        if selects(part.operation) or rounds_once(part.operation, part.args):
            expected = selected(part)
            if np.array_equal(expected, part.output, equal_nan=expected.dtype.kind == "f"):
                if not selects(part.operation):  # an infinity that is only moved, or made, is no overflow
                    odd += part.output.size - int(np.isfinite(part.output).sum())
                continue
            if has_subnormal(part) and flushes(part, expected):
                flushed = True
                continue
        if any(map(np.iscomplexobj, (part.output, *arrays_of(part.args)))):
            reason = "it reads or gives complex numbers, and the arithmetic of real ones alone is known"
            return Audit(found.name, found.kind, Verdict.NOT_AUDITED, reason=reason)
        prediction = recorded.predicted(first, part)
        if prediction.low.shape != part.output.shape:
            shapes = f"{tuple(part.output.shape)} where the reference gives {tuple(prediction.low.shape)}"
            found = replace(found, verdict=Verdict.WRONG, bits=0.0, channel_bits=0.0)
            return replace(found, cause=Cause.SHAPE, explanation=f"the output's shape is {shapes}")
        with np.errstate(all="ignore"):
            exact = exact and np.array_equal(prediction.low.astype(np.float32), part.output, equal_nan=True)
        odd += int(((prediction.scale >= NEARLY) | ~np.isfinite(part.output)).sum())
        strayed = strays(part, prediction.low, first, excused(part, prediction))
        stray = strayed if stray is None else stray + strayed
        tally.add(part, prediction, first)
    if odd and stray is None:
        found = _nonfinite(found, odd, total)
    if (exact and stray is None) or found.verdict is Verdict.NOT_AUDITED:
        if flushed and found.verdict is Verdict.EXACT:
            return replace(found, verdict=Verdict.FLOAT32, explanation=found.explanation or _FLUSHED)
        return found
    found = _judged(Evidence(recorded, case, tally, floor_of(case), proved, explained), found, stray, strict)
    return (
        found
        if not explained or found.verdict.passes("strict" if strict else "native")
        else replace(found, lost=lost_bits(recorded, tally.terms))
    )


def _nonfinite(found: Audit, odd: int, total: int) -> Audit:
    """What is to be said of outputs that are rightly NaN or infinite: nothing was compared there."""
    if odd == total:
        reason = f"its output is NaN or infinite everywhere, or float32 keeps no digit on the way ({total:,} numbers)"
        return Audit(found.name, found.kind, Verdict.NOT_AUDITED, reason=reason, cause=Cause.NONFINITE)
    if found.explanation:
        return found
    text = (
        f"{odd:,} of {total:,} outputs are NaN or infinite, or float32 keeps no digit on the way to them; the others "
        "were compared"
    )
    return replace(found, explanation=text, cause=Cause.NONFINITE)


def _judged(evidence: Evidence, found: Audit, stray: Strays | None, strict: bool) -> Audit:
    """The verdict on an output that is not bit-equal."""
    case, tally = evidence.case, evidence.tally
    channel, channel_bits = _worst_channel(tally)
    found = replace(
        found,
        verdict=Verdict.FLOAT32,
        bits=tally.bits,
        worst_channel=channel,
        channel_bits=channel_bits,
        worst_position=case.canonical(tally.position),
        worst_error=tally.error,
        sees=evidence.seen,
    )
    if stray is not None:
        if not evidence.explained:
            return _unnamed(found, Cause.NONFINITE)
        overflowing = overflow(evidence)
        cause = Cause.OVERFLOW if overflowing else Cause.NONFINITE
        text = overflowing or stray.text + _beside(evidence, found, strict)
        found = replace(found, verdict=Verdict.WRONG, cause=cause, explanation=text)
        return replace(found, worst_position=case.canonical(stray.position))
    if selects(case.operation):
        if tally.worst == 0:
            return replace(found, verdict=Verdict.EXACT, bits=float("inf"), channel_bits=float("inf"))
        if strict and not evidence.explained:
            return _unnamed(found)
        evidence.floor, evidence.seen = float("inf"), float("nan")
        found.sees = evidence.seen
        formats = rounded_to(evidence)
    elif tally.clean(evidence.floor):
        return found
    elif strict and not evidence.explained:
        return _unnamed(found)
    else:
        formats = narrower(evidence)
    return _narrow(evidence, found, formats, strict) if formats else _fault(evidence, found)


def _unnamed(found: Audit, cause: Cause = Cause.UNEXPLAINED) -> Audit:
    """A fault that nobody asked the name of: in strict precision all that is neither rounding of float32 nor exact."""
    return replace(found, verdict=Verdict.WRONG, cause=cause, explanation="")


def _narrow(evidence: Evidence, found: Audit, formats: Sequence[Format], strict: bool) -> Audit:
    """The verdict on an output that a narrower arithmetic explains, or several that cannot be told apart; it must have
    the bits that this arithmetic has."""
    wanted = next((one for one in formats if one.name in evidence.proved), formats[0])
    if not has_bits(evidence.tally, wanted):
        if not small(evidence, wanted) or not any(part.output.any() for _, part in evidence.blocks.parts()):
            return _few_bits(evidence, _fault(evidence, found), wanted)  # zeros alone may have any cause
        least = 2.0**wanted.lowest
        text = f"computed in {wanted.name}, which keeps few digits of numbers below {least:.2g}, or none"
        return replace(found, verdict=Verdict.WRONG, cause=Cause.UNDERFLOW, explanation=text, sees=evidence.seen)
    alike = tuple(Verdict(one.name) for one in formats if one != wanted and has_bits(evidence.tally, one))
    found = replace(found, verdict=Verdict(wanted.name), sees=evidence.seen, alike=alike)
    names = " or ".join(one.name for one in formats)
    apart = "" if len(formats) == 1 else " (these cannot be told apart here)"
    text = f"computed in {names}{apart}, where strict precision means float32"
    return replace(found, cause=Cause.PRECISION, explanation=text) if strict else found


def _few_bits(evidence: Evidence, fault: Audit, wanted: Format) -> Audit:
    """What is to be said where an arithmetic explains every output but leaves fewer bits than it has, as beside an
    activation's jump, which roundings cross: nothing is left then that could be described."""
    if fault.cause is not Cause.UNEXPLAINED or not fault.explanation or evidence.doubt is not None:
        return fault
    text = f"{min(fault.bits, fault.channel_bits):.1f} effective bits are fewer than it has"
    return replace(fault, explanation=f"the rounding of {wanted.name} would explain it, or a fault: {text}")


def _fault(evidence: Evidence, found: Audit) -> Audit:
    """A layer that no rounding explains."""
    from cnnlens.checking.faults.explanation import explain

    if evidence.doubt is not None:
        name = evidence.doubt.name
        if not any(part.output.any() for _, part in evidence.blocks.parts()):
            text = f"all outputs are 0, as {name} would make numbers so small, or a fault: zeros may have any cause"
            return replace(found, verdict=Verdict.SUSPICIOUS, cause=Cause.UNDERFLOW, explanation=text)
        outputs = int(evidence.tally.count.sum())
        shown = "one output is" if outputs == 1 else f"{outputs} outputs are"
        text = f"the rounding of {name} would explain it, or a fault: {shown} too few to tell them apart"
        return replace(found, verdict=Verdict.SUSPICIOUS, cause=Cause.UNEXPLAINED, explanation=text)
    if not evidence.explained:
        return _unnamed(found)
    try:
        text, cause = explain(evidence)
    except (CnnlensError, *CONFIG_ERRORS) as error:
        # The verdict stands without a name; that none was found for this reason is said.
        text, cause = f"unexplained (the search for the fault failed: {printable(error, 200)})", Cause.UNEXPLAINED
    gross = min(found.bits, evidence.left.bits, found.channel_bits) < _GROSS
    named = cause is not Cause.UNEXPLAINED
    if not named and like_noise(evidence.left, 7.0):
        gross = False
    verdict = Verdict.WRONG if named or gross else Verdict.SUSPICIOUS
    return replace(found, verdict=verdict, cause=cause, explanation=text)


def _beside(evidence: Evidence, found: Audit, strict: bool) -> str:
    """What the numbers show beside NaN or infinity in the wrong places, where they are no rounding either."""
    blocks = Finite(**vars(evidence.blocks))
    tally = Tally(evidence.tally.terms)
    for first, part in blocks.parts():
        tally.add(part, predict(part), first)
    case = next(blocks.cases())[1]
    other = _judged(Evidence(blocks, case, tally, floor_of(case), evidence.proved), found, None, strict)
    return f"; besides, {other.explanation}" if other.verdict.fault else ""


def _worst_channel(tally: Tally) -> tuple[int | None, float]:
    each = np.where(tally.count > 0, tally.channel_bits, np.inf)
    if not each.size or not np.isfinite(each).any():
        return None, float("inf")
    channel = int(each.argmin())
    return channel, float(each[channel])
