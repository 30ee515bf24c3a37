"""What became of the numbers once their order is known: multiplied, put on steps, or trained further.

Each is proven by the line of NumPy that takes it back, or by the distance that is left; the order in which they are
asked is from what leaves nothing to what leaves a little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnnlens.differing.cause import Cause, Causes, Kind, Status
from cnnlens.differing.finding import Finding
from cnnlens.differing.hypotheses.kinship import LEAST, Kinship, kinship
from cnnlens.differing.hypotheses.rounding import Quantised, levels_of, quantised, rounding_apart, steplike
from cnnlens.differing.hypotheses.scales import Scaled, scaled, tolerance
from cnnlens.differing.items import Item
from cnnlens.differing.moves import Chain
from cnnlens.differing.proof import Line, proven, tiles

__all__ = ["ArrayPair", "value_change"]

Array: TypeAlias = NDArray[Any]

_FULL = 1 << 24  # elements above which values are fitted on some output channels and proved on all by the line
_TILE = 1 << 16  # elements that are worked on at a time: what is computed of them stays in the cache


@dataclass
class ArrayPair:
    """Holds two arrays, and what a line calls them."""

    a: Item
    b: Item

    @property
    def target(self) -> str:
        return self.a.target

    @property
    def variable(self) -> str:
        return self.b.variable

    @cached_property
    def x(self) -> Array:
        return self.a.stored

    @cached_property
    def y(self) -> Array:
        return self.b.stored

    def canonical(self, stored: Array) -> Array:
        """Turn an array in A's stored order into a canonical one."""
        return self.a.chain.apply(stored)


def value_change(
    pair: ArrayPair, chain: Chain, causes: Causes, tries: int, detail: dict[str, Any] | None = None
) -> Finding | None:
    """Find factors, steps or kinship under one order of the elements."""
    x = pair.canonical(pair.x)
    y = pair.canonical(chain.apply(pair.y))
    step = -(-x.size // _FULL) if x.ndim > 1 else 1
    few = slice(None, None, step)
    probe = slice(None, None, max(step, -(-x.shape[0] // 16))) if x.ndim > 1 else few
    allowed = tolerance(pair.x.dtype, pair.y.dtype)
    across = max(1, x.shape[1] // 16) if x.ndim > 1 else 1
    wide = [np.asarray(z[probe, ::across] if z.ndim > 1 else z[probe], np.float64) for z in (x, y)]
    if not all(np.isfinite(z).all() for z in wide):
        return None
    near = kinship(x, y, tries)
    kept = rounding_apart(wide[0], wide[1], (pair.x.dtype, pair.y.dtype))
    if kept and rounding_apart(x, y, (pair.x.dtype, pair.y.dtype)):
        return _rounded(pair, chain, causes, kept, near, detail or {})
    if scaled(wide[0], wide[1], allowed, wide[0].size < x.size) is not None:
        factors = scaled(x.astype(np.float64), y.astype(np.float64), allowed)
        if factors is not None:
            return _scaled(pair, chain, causes, factors, near, detail or {})
    if near.correlation > LEAST and y.dtype.kind in "iu":
        levels = levels_of(x, y)
        made = None if levels is None else _levels(pair, chain, causes, levels, near)
        if made is not None:
            return made
    if abs(near.correlation) > 0.98 and near.distance < 0.2:
        pairs = [("B", x, y), ("A", y, x)]
        for side, origin, result in pairs:
            if not steplike(result):
                continue
            found = quantised(origin, result)
            if found is not None:
                made = _quantised(pair, chain, causes, side, found, near)
                if made is not None:
                    return made
    if near.related:
        moved = (("distance", near.distance), ("correlation", near.correlation))
        causes = (*causes, Cause(Kind.FINE_TUNED, "", moved))
        return Finding(Status.FINE_TUNED, causes, None, near.distance, chain, near, detail=detail or {})
    return None


def _rounded(
    pair: ArrayPair, chain: Chain, causes: Causes, name: str, near: Kinship, detail: dict[str, Any]
) -> Finding:
    """Apart by the last places of a format: two roundings of the same numbers, and no training."""

    def holds(made: Array, wanted: Array) -> bool:
        return bool(rounding_apart(wanted, made, (pair.x.dtype, pair.y.dtype)))

    text, names = chain.text(pair.variable)
    line = proven(Line(pair.target, text, names, f"to {name}'s rounding"), pair.b.sources, pair.x, holds)
    status = Status.EXPLAINED if causes else Status.STORED_OTHERWISE
    cause = Cause(Kind.ROUNDED, name, (("side", ""),))
    return Finding(status, (*causes, cause), line, near.distance, chain, near, detail=detail)


def _scaled(
    pair: ArrayPair, chain: Chain, causes: Causes, found: Scaled, near: Kinship, detail: dict[str, Any]
) -> Finding | None:
    allowed = tolerance(pair.x.dtype, pair.y.dtype)

    def holds(made: Array, wanted: Array) -> bool:
        return _within(made, wanted, 2 * allowed)

    moved, names = chain.text(pair.variable)
    line: Line | None = None
    if found.axis is None:
        for shown in _factor_texts(float(found.factors[0])):
            made = Line(pair.target, f"{moved} {shown}", names)
            exact = proven(made, pair.b.sources, pair.x)
            rough = exact or proven(replace(made, held="to float32's rounding"), pair.b.sources, pair.x, holds)
            line = exact or line or rough
            if exact is not None:
                break
    else:
        axis = pair.a.stored_axis(found.axis)
        if axis is not None:
            values = [float(np.float32(value)) if pair.x.dtype == np.float32 else float(value)
                      for value in found.factors]  # fmt: skip
            spread = _spread("scale", axis, pair.x.ndim)
            typed = f"np.asarray({spread}, np.{pair.x.dtype.name})" if pair.x.dtype.kind == "f" else spread
            made = Line(pair.target, f"{moved} * {typed}", {**names, "scale": values}, "to float32's rounding")
            line = proven(made, pair.b.sources, pair.x, holds)
    if line is None and (found.axis is None or pair.a.stored_axis(found.axis) is not None):
        return None
    numbers = {"axis": found.axis, "factors": [float(one) for one in found.factors], **detail}
    fields = (("axis", found.axis), ("factors", tuple(float(one) for one in found.factors)))
    causes = (*causes, Cause(Kind.SCALED, "", fields))
    return Finding(Status.EXPLAINED, causes, line, found.worst, chain, near, detail=numbers)


def _levels(pair: ArrayPair, chain: Chain, causes: Causes, found: Quantised, near: Kinship) -> Finding | None:
    """B keeps the numbers of the steps, as whole numbers, and the steps elsewhere."""
    axis = None if found.axis is None else pair.a.stored_axis(found.axis)
    if found.axis is not None and axis is None:
        return None
    moved, names = chain.text(pair.variable)
    spread = f"{float(found.steps[0])!r}" if axis is None else _spread("np.asarray(step)", axis, pair.x.ndim)
    values = {} if axis is None else {"step": [float(one) for one in found.steps]}
    steps = found.steps if axis is None else found.steps.reshape([-1 if n == axis else 1 for n in range(pair.x.ndim)])

    def half(made: Array, wanted: Array) -> bool:
        return bool((np.abs(made - wanted.astype(np.float64)) <= 0.56 * steps).mean() > 0.999)

    line = Line(pair.target, f"{moved} * {spread}", {**names, **values}, "to half a step of int8")
    line = proven(line, pair.b.sources, pair.x, half)
    if line is None:
        return None
    detail, cause = _to_int8(found, "B", levels=True)
    return Finding(Status.EXPLAINED, (*causes, cause), line, near.distance, chain, near, detail=detail)


def _quantised(
    pair: ArrayPair, chain: Chain, causes: Causes, side: str, found: Quantised, near: Kinship
) -> Finding | None:
    moved, names = chain.text(pair.variable)
    axis = None if found.axis is None else pair.a.stored_axis(found.axis)
    if found.axis is not None and axis is None:
        return None
    steps: Array = found.steps if axis is None else found.steps.reshape(
        [-1 if place == axis else 1 for place in range(pair.x.ndim)])  # fmt: skip
    steps = np.asarray(steps, np.float64)

    narrow = (0.51 * steps).astype(np.result_type(pair.x, pair.y, np.float32))

    def half(made: Array, wanted: Array) -> bool:
        # What lies beyond the outermost level is cut there.
        slack = np.broadcast_to(narrow, wanted.shape)
        good = sum(np.count_nonzero(np.abs(made[piece] - wanted[piece]) <= slack[piece])
                   for piece in tiles(made, wanted, _TILE))  # fmt: skip
        return bool(good > 0.999 * wanted.size)

    def whole(made: Array, wanted: Array) -> bool:
        apart = np.abs(made.astype(np.float64) - wanted)
        inside = apart <= 0.01 * steps
        return bool(inside.mean() > 0.995 and (apart <= 1.01 * steps).all())

    if side == "B":
        line = proven(Line(pair.target, moved, names, "to half a step of int8"), pair.b.sources, pair.x, half)
    else:
        values: dict[str, list[Any]] = {}
        step, offset = f"{float(found.steps[0])!r}", f"{float(found.offsets[0])!r}"
        if axis is not None:
            values = {"step": [float(one) for one in found.steps], "level": [float(one) for one in found.offsets]}
            step, offset = (_spread(f"np.asarray({name})", axis, pair.x.ndim) for name in ("step", "level"))
        if not found.offsets.any():
            values.pop("level", None)
            made = f"np.round({moved} / {step}) * {step}"
        else:
            made = f"np.round(({moved} - {offset}) / {step}) * {step} + {offset}"
        held = "to the rounding of its steps"
        line = proven(Line(pair.target, made, {**names, **values}, held), pair.b.sources, pair.x, whole)
    if line is None:
        return None
    detail, cause = _to_int8(found, side, levels=False)
    return Finding(Status.EXPLAINED, (*causes, cause), line, near.distance, chain, near, detail=detail)


def _to_int8(found: Quantised, side: str, *, levels: bool) -> tuple[dict[str, Any], Cause]:
    """The numbers of a finding about int8, and its cause."""
    steps = [float(one) for one in found.steps]
    fields = {"side": side, "axis": found.axis, "steps": tuple(steps), "levels": levels, "scheme": found.scheme}
    return {"axis": found.axis, "steps": steps, "side": side}, Cause(Kind.ROUNDED, "int8", tuple(fields.items()))


def _within(made: Array, wanted: Array, allowed: float) -> bool:
    """Whether elements are equal to ``allowed`` of themselves."""
    x, y = wanted.astype(np.float64), made.astype(np.float64)
    floor = allowed * 2.0**-20 * float(np.sqrt(np.square(x).mean())) if x.size else 0.0
    return bool((np.abs(x - y) <= allowed * np.abs(x) + floor).all())


def _factor_texts(factor: float) -> Iterator[str]:
    """How a factor may have been written, the plainest first."""
    for digits in (1, 2, 3, 4, 5, 6):
        short = float(f"{factor:.{digits}g}")
        if abs(short - factor) <= 3e-7 * abs(factor):
            yield f"* {short!r}"
            break
    if factor:
        for digits in (1, 2, 3, 4, 5):
            turned = float(f"{1 / factor:.{digits}g}")
            if abs(turned * factor - 1) <= 3e-7:
                yield f"/ {turned!r}"
                break
    yield f"* {float(np.float32(factor))!r}"
    yield f"* {factor!r}"


def _spread(name: str, axis: int, ndim: int) -> str:
    """``name`` indexed so that it runs along ``axis`` of an array of ``ndim`` axes."""
    behind = ndim - 1 - axis
    if not behind:
        return name
    return f"np.reshape({name}, (-1{', 1' * behind}))"
