"""What is drawn, before it has a colour: checked arrays, the range of their colours, and what must be said about them.

Kernels, feature maps and histograms refuse the same things in the same words, and name broken weights the same way.
Which value gets the end of the colours is chosen in one place, `limits_of`.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnlens.errors import CnnlensError
from cnnlens.plot.colours import INFINITE, MOST, NAN
from cnnlens.text import printable

__all__ = [
    "Floats", "Limits", "Note", "broken_notes", "chosen", "extremes", "few", "joined", "largest", "limits_of",
    "normalised", "number", "own_ends", "real_numbers", "span", "ticks",
]  # fmt: skip

Floats: TypeAlias = NDArray[np.floating[Any]]
Note: TypeAlias = tuple[str, str | None]
"""What is said under a picture, and the colour in it that this explains."""

_SHARE = 0.99  # of the weights that keep their colour where a few are far larger than all others
_FAR = 1.5  # times that weight: what is no larger is not cut off


def real_numbers(array: ArrayLike, what: str, least: int, most: int) -> Floats:
    """Check that ``array`` holds real numbers of a rank from ``least`` to ``most``, and at least one."""
    values = np.asarray(array)
    if values.dtype.kind not in "fiub":
        raise CnnlensError(f"{what}: real numbers are needed, not {values.dtype}; there is nothing to draw")
    if not least <= values.ndim <= most:
        ranks = f"{least}" if least == most else f"{least} to {most}"
        raise CnnlensError(f"{what}: an array of {ranks} axes is needed, not of shape {values.shape}")
    if values.size == 0:
        raise CnnlensError(f"{what}: the array of shape {values.shape} has no values to draw")
    return values.astype(np.float64 if values.dtype.itemsize > 4 else np.float32, copy=False)


def largest(values: Floats, limit: float | None = None) -> float:
    """Find the weight that gets the full colour: ``limit``, or the largest finite magnitude; 1 where all are 0."""
    if limit is not None:
        if not (math.isfinite(limit) and limit > 0):
            raise CnnlensError(f"the colour limit must be a number above 0, not {limit}")
        return float(limit)
    return float(np.max(np.abs(values), where=np.isfinite(values), initial=0.0)) or 1.0


class Limits(NamedTuple):
    """Says which values get the first and the last colour, and why.

    Attributes:
        low, high: ``(K,)`` where each of the K tiles has its own, else ``()``.
        each: Whether each tile has its own.
        signed: Whether there are values on both sides of 0, or may be: the colours then diverge from it.
        clipped: ``(K,)``: which tiles hold values beyond the ends.
        extend: At which ends there are such: ``neither``, ``min``, ``max`` or ``both``.
        said: The rule in words, where the colour bar alone does not say it.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    each: bool
    signed: bool
    clipped: NDArray[np.bool_]
    extend: str
    said: str


def limits_of(
    values: Floats,
    *,
    weights: bool,
    limits: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    ends: tuple[Floats, Floats] | None = None,
) -> Limits:
    """Choose which values of ``(K, ...)`` tiles get the ends of the colours.

    Weights, and maps with values below 0, are coloured alike on both sides of 0; other maps from dark to bright.

    Args:
        weights: Whether the tiles are weights; else they are feature maps.
        limits: ``"shared"``: from the largest magnitude below 0 to that above it, or from 0 to the largest value, for
            all tiles. ``"each"``: every tile by itself, its largest magnitude on both sides of 0, or from its smallest
            value to its largest. None: feature maps each, for with one scale the loudest leaves the others dark;
            weights shared, but where the largest magnitude is more than 1.5 times the one that 99 of 100 weights do
            not exceed, that one, so that a single large weight does not pale all others.
        vmin, vmax: Ends for all tiles; of signed values one alone gives the other with the other sign.
        ends: What `extremes` says of the values, where it is known.

    Raises:
        CnnlensError: There are no such limits, or they contradict each other.

    >>> import numpy as np
    >>> from cnnlens.plot.values import limits_of
    >>> maps = np.array([[[0.0, 4.0]], [[1.0, 2.0]]])
    >>> limits_of(maps, weights=False).high.tolist(), float(limits_of(maps, weights=False, limits="shared").high)
    ([4.0, 2.0], 4.0)
    >>> weights = np.append(np.linspace(-1, 1, 199), 9.0)[None]
    >>> limits_of(weights, weights=True).said, limits_of(weights, weights=True).extend
    ('full colour at ±1: 99 of 100 weights are no larger', 'max')
    """
    if limits not in (None, "shared", "each"):
        raise CnnlensError(f"limits '{printable(limits)}' are not known; give 'shared' or 'each', or vmin and vmax")
    given = {name: end for name, end in (("vmin", vmin), ("vmax", vmax)) if end is not None}
    wrong = next((name for name, end in given.items() if not abs(float(end)) <= MOST), None)
    if wrong:
        raise CnnlensError(f"{wrong} must be a finite number of at most {MOST:g} in size, not {given[wrong]:g}")
    if given and limits == "each":
        raise CnnlensError(f"limits 'each' and {' and '.join(given)} contradict each other; leave one of them out")
    lows, highs = extremes(values) if ends is None else ends
    lows, highs = lows.astype(np.float64), highs.astype(np.float64)
    magnitudes = np.maximum(-lows, highs)
    most = float(magnitudes.max())
    signed = weights or float(lows.min()) < -1e-6 * most
    said = ""
    if limits == "each" or (limits is None and not given and not weights):
        if signed:
            high = np.where(magnitudes > 0, magnitudes, 1.0)
            low = -high
            said = "each over ± its own largest magnitude"
        else:
            flat = lows == highs
            low = np.where(flat, np.minimum(lows, 0), lows)
            high = np.where(flat & (highs <= 0), 1.0, highs)
            said = "each from its own smallest value to its largest"
    elif given:
        low, high = _given_ends(vmin, vmax, signed, min(float(lows.min()), 0.0), most or 1.0)
    elif signed:
        bound = most or 1.0
        if limits is None and weights:
            usual = _usual(values)
            if 0 < usual < MOST and most > _FAR * usual:
                bound = usual
                said = f"full colour at ±{bound:.3g}: {_SHARE * 100:.0f} of 100 weights are no larger"
        low, high = np.array(-bound), np.array(bound)
    else:
        low, high = np.array(0.0), np.array(most or 1.0)
    if low.ndim == 0:
        low, high = np.clip(low, -MOST, MOST), np.clip(high, -MOST, MOST)
    under, over = lows < low, highs > high
    extend = ("neither", "min", "max", "both")[int(under.any()) + 2 * int(over.any())]
    return Limits(low, high, low.ndim > 0, signed, under | over, extend, said)


def _given_ends(
    vmin: float | None, vmax: float | None, signed: bool, lowest: float, most: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The ends where at least one was asked for."""
    low = vmin if vmin is not None else (-cast(float, vmax) if signed else lowest)
    high = vmax if vmax is not None else (-cast(float, vmin) if signed else most)
    if not low < high:
        other = "vmax" if vmax is None else "vmin"
        way = f"; give {other} too" if None in (vmin, vmax) else ""
        raise CnnlensError(f"vmin must be below vmax, and they are {low:g} and {high:g}{way}")
    return np.array(low, np.float64), np.array(high, np.float64)


def _usual(values: Floats) -> float:
    """The finite magnitude that 99 of 100 do not exceed."""
    magnitudes = np.abs(values[np.isfinite(values)])
    if not magnitudes.size:
        return 0.0
    place = math.ceil(_SHARE * magnitudes.size) - 1
    return float(np.partition(magnitudes, place)[place])


def normalised(values: Floats, limits: Limits) -> tuple[Floats, float, float]:
    """Give values and the two ends that colour them: where each tile has its own, values from 0 (or -1) to 1."""
    if not limits.each:
        return values, float(limits.low), float(limits.high)
    low, high = (end.reshape(-1, *[1] * (values.ndim - 1)) for end in (limits.low, limits.high))
    if limits.signed:
        return values / high, -1.0, 1.0
    return (values - low) / (high - low), 0.0, 1.0


def own_ends(limits: Limits) -> list[tuple[float, str]]:
    """Name the ends of the colours where each tile has its own; none where all share the numbers of a colour bar."""
    if not limits.each:
        return []
    return (
        [(-1.0, "−largest"), (0.0, "0"), (1.0, "+largest")] if limits.signed else [(0.0, "smallest"), (1.0, "largest")]
    )


def extremes(values: Floats) -> tuple[Floats, Floats]:
    """Find the smallest and the largest finite value of each entry of the first axis; 0 where it has none.

    Both are looked for in the order of memory, and without a copy: large maps lie channels last.
    """
    others = tuple(range(1, values.ndim))
    with np.errstate(invalid="ignore"):
        low, high = np.asarray(values.min(axis=others)).copy(), np.asarray(values.max(axis=others)).copy()
    for place in np.flatnonzero(~(np.isfinite(low) & np.isfinite(high))).tolist():
        finite = np.asarray(values[place])[np.isfinite(values[place])]
        low[place], high[place] = (finite.min(), finite.max()) if finite.size else (0, 0)
    return low, high


def chosen(channels: Sequence[int] | str | None, total: int, what: str = "channel") -> list[int]:
    """Read which of ``total`` channels are wanted: numbers, or text such as ``"0-15,20"``; all where it is None.

    One that is named twice is wanted once, at its first place.

    Raises:
        CnnlensError: There is no such one, none is named, or they are no whole numbers.

    >>> from cnnlens.plot.values import chosen
    >>> chosen("0-3,2-4,7", 8)
    [0, 1, 2, 3, 4, 7]
    """
    if channels is None:
        return list(range(total))
    there = f"the layer has {span(total, what)}"
    found: list[int] = []
    if isinstance(channels, str):
        for part in channels.split(","):
            match = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if first > last:
                asked = f"channels '{printable(channels, 60)}'"
                raise CnnlensError(f"{asked}: numbers and ranges were expected, as in 0-15,20; {there}")
            if last >= total:
                raise CnnlensError(f"there is no {what} {last}; {there}")
            found += range(first, last + 1)
    else:
        try:
            given = list(channels)
            masked = any(isinstance(one, bool | np.bool_) for one in given)
            found = [] if masked else [operator.index(one) for one in given]
        except TypeError:
            raise CnnlensError(
                f"channels {printable(channels, 60)}: whole numbers were expected, or '0-15,20'; {there}"
            ) from None
        if masked:
            raise CnnlensError(
                f"channels {printable(channels, 60)}: numbers were expected, not True and False; "
                "np.flatnonzero gives those of a mask"
            )
        wrong = next((one for one in found if not 0 <= one < total), None)
        if wrong is not None:
            raise CnnlensError(f"there is no {what} {wrong}; {there}")
    if not found:
        raise CnnlensError(f"no {what} was asked for; {there}")
    return list(dict.fromkeys(found))


def broken_notes(values: Floats, what: str, names: Sequence[int] | None = None) -> list[Note]:
    """Say which entries of the first axis hold NaN or infinities, with the colour they are drawn in."""
    notes: list[Note] = []
    flat = values.reshape(len(values), -1)
    for word, colour, bad in (("NaN", NAN, np.isnan(flat)), ("Inf", INFINITE, np.isinf(flat))):
        if bad.any():
            hit = np.flatnonzero(bad.any(axis=1)).tolist()
            which = [names[index] for index in hit] if names is not None else hit
            where = f" in {what} {few(which)}" if what else ""
            notes.append((f"{int(bad.sum()):,} × {word}{where}", colour))
    return notes


def few(numbers: Sequence[int], most: int = 12) -> str:
    """Write the first of ``numbers``, and how many more there are."""
    shown = ", ".join(map(str, numbers[:most]))
    return shown if len(numbers) <= most else f"{shown} and {len(numbers) - most} more"


def span(count: int, what: str = "channel") -> str:
    """Say which channels a layer of ``count`` has, in words."""
    return f"{what}s 0 to {count - 1}" if count > 1 else f"{what} 0 only"


def joined(left: str, right: str, by: str = "  ·  ") -> str:
    """Join both texts with ``by`` between them, or give the one that is not empty."""
    return left + by + right if left and right else left or right


def number(value: float, digits: int = 3) -> str:
    """Write a few digits with a true minus sign, which 0 never has.

    >>> from cnnlens.plot.values import number
    >>> number(-0.25), number(-0.0), number(float("nan")), number(-float("inf"))
    ('−0.25', '0', 'NaN', '−Inf')
    """
    text = f"{value + 0.0:.{digits}g}".replace("-", "−")
    return text if math.isfinite(value) else text.replace("nan", "NaN").replace("inf", "Inf")


def ticks(low: float, high: float, most: int = 5) -> list[tuple[float, str]]:
    """Choose round numbers from ``low`` to ``high``, at most ``most``, and write them with as many digits as differ.

    There are two at least: where no round step gives so many, one or two more than ``most``, or the ends.

    >>> from cnnlens.plot.values import ticks
    >>> [text for _, text in ticks(-1.25, 1.25)], [text for _, text in ticks(0, 0.358, 3)]
    (['−1.0', '−0.5', '0', '0.5', '1.0'], ['0', '0.2'])
    >>> [text for _, text in ticks(1 - 1e-7, 1 + 1e-7)]
    ['0.99999995', '1', '1.00000005', '1.0000001']
    """
    width = high / most - low / most
    if not (width > 1e-300 and math.isfinite(width)):
        return [(low, number(low)), (high, number(high))]
    power = 10.0 ** math.floor(math.log10(width))
    # The finest round step that does not make too many, or else the coarsest that makes two.
    steps = [one * power for one in (1, 2, 5, 10, 20, 50)]
    made = [(last - first + 1, step) for step in steps for first, last in (_multiples(low, high, step),)]
    made = [(count, step) for count, step in made if count > 1] or made[:1]
    step = next((step for count, step in made if count <= most), made[-1][1])
    first, last = _multiples(low, high, step)
    places = [place * step for place in range(first, last + 1)]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    largest_place = max(map(abs, places), default=0.0)
    if decimals > 4 or largest_place >= 1e5:
        ahead = math.floor(math.log10(largest_place or step) + 1e-9) - math.floor(math.log10(step) + 1e-9)
        named = [(place, number(place, min(max(3, ahead + 1), 17))) for place in places]
    else:
        named = [(place, f"{place:.{decimals}f}".replace("-", "−") if place else "0") for place in places]
    if len({text for _, text in named}) < max(len(named), 2):  # the ends are next to each other as floats
        return [(low, number(low, 17)), (high, number(high, 17))]
    return named


def _multiples(low: float, high: float, step: float) -> tuple[int, int]:
    """The first and the last multiple of ``step`` within the ends."""
    return math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
