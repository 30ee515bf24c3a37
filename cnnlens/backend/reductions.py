"""Feature maps made smaller before they leave the device: a full dump of a data set is rarely what people need.

What each reduction computes stands here once, in operations that NumPy, Keras and PyTorch have under the same names. A
session that has ``reduced`` applies it on its device; for all others core does, on the canonical arrays that they give.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.backend.summary import drawn, example_numbers, summary
from cnnlens.errors import CnnlensError
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.backend.seam import Session
    from cnnlens.network.network import Network

__all__ = [
    "AS_IT_LIES",
    "NumpyOps",
    "begun",
    "check_reduction",
    "computed",
    "reduced",
    "reduced_shape",
    "remaining",
    "summary_of",
]

Array = NDArray[Any]

AS_IT_LIES = "as-it-lies"  # no reduction: canonical axes over whatever order of memory the framework computed in
_SUMMARY = "summary"
_FORMS = {"mean": r"", "max": r"", "moments": r"", "topk": r":([1-9]\d{0,4})", "down": r":([2-9]|[1-9]\d{1,2})"}


def check_reduction(text: str) -> None:
    """Refuse what is no reduction.

    Raises:
        CnnlensError: it is none of mean, max, moments, topk:K and down:N.
    """
    _parsed(text)


def _parsed(text: str) -> tuple[str, int]:
    for kind, form in _FORMS.items():
        match = re.fullmatch(kind + form, text)
        if match is not None:
            return kind, int(match[1]) if form else 0
    raise CnnlensError(
        f"no reduction '{printable(text)}': mean, max, moments, topk:K (the K largest and where) or down:2 (averages "
        "of 2 x 2) was expected"
    )


def summary_of(count: int, most: int) -> str:
    """Name the reduction that statistics are made of, which core alone computes: ``summary``, and as many values of
    each map as ``count`` examples have in a sample of ``most``; how large a map is shows where it is computed."""
    return f"{_SUMMARY}:{count}:{most}"


def reduced_shape(text: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Say what shape feature maps ``(N, C, *spatial)`` have when they are reduced; without spatial axes they stay."""
    kind, number = _parsed(text)
    whole = tuple(shape)
    if len(whole) < 3:
        return whole
    if kind == "down":
        return (*whole[:2], *(size // min(number, size) for size in whole[2:]))
    return whole[:2] + {"moments": (2,), "topk": (min(number, math.prod(whole[2:])), 2)}.get(kind, ())


def reduced(text: str, maps: Any, ops: Any, channels_last: bool = False, name: str = "") -> Any:
    """Reduce a tensor of any framework over its spatial axes; one without them stays as it is.

    Args:
        text: ``mean`` and ``max``: ``(N, C)``. ``moments``: ``(N, C, 2)``, mean and variance. ``topk:K``:
            ``(N, C, K, 2)``, the K largest values and the positions of each in the flattened map. ``down:2``: ``(N, C,
            *spatial / 2)``, averages of 2 x 2; a last odd row or column is left out.
        maps: ``(N, C, *spatial)``, or ``(N, *spatial, C)`` with ``channels_last``; of numbers, which become float32.
        ops: The operations: those of `NumpyOps`, which ``keras.ops`` has too.
        name: The tensor's.

    Raises:
        CnnlensError: the numbers are complex, which have no order and no float32.
    """
    kind, number = _parsed(text)
    if len(maps.shape) < 3:
        return maps
    if "complex" in str(maps.dtype):
        raise CnnlensError(
            f"reduce {text}: '{printable(name)}' holds complex numbers, and real ones were expected; record it "
            "unreduced, or leave it out with --layers"
        )
    maps = ops.cast(maps, "float32")
    sizes = [int(size) for size in maps.shape]
    if kind == "down":
        for axis in range(1, len(sizes) - 1) if channels_last else range(2, len(sizes)):
            window = min(number, sizes[axis])
            kept = sizes[axis] // window
            maps = maps[(*[slice(None)] * axis, slice(0, kept * window))]
            maps = ops.mean(ops.reshape(maps, (*sizes[:axis], kept, window, *sizes[axis + 1 :])), axis=axis + 1)
            sizes[axis] = kept
        return ops.moveaxis(maps, -1, 1) if channels_last else maps
    positions = math.prod(sizes[1:-1] if channels_last else sizes[2:])
    axis = 1 if channels_last else 2
    flat = (sizes[0], positions, sizes[-1]) if channels_last else (*sizes[:2], positions)
    maps = ops.reshape(maps, flat)
    if kind == "mean":
        return ops.mean(maps, axis=axis)
    if kind == "max":
        return ops.max(maps, axis=axis)
    if kind == "moments":
        mean = ops.mean(maps, axis=axis, keepdims=True)
        both = (ops.reshape(mean, (sizes[0], -1)), ops.mean(ops.square(maps - mean), axis=axis))
        return ops.stack(both, axis=-1)
    if positions >= 1 << 24:
        raise CnnlensError(f"topk keeps positions as float32, which counts to 16,777,216, and a map has {positions:,}")
    values, where = ops.top_k(ops.moveaxis(maps, 1, 2) if channels_last else maps, min(number, positions))
    return ops.stack((values, ops.cast(where, "float32")), axis=-1)


class NumpyOps:
    """Holds what reductions are made of; ``keras.ops`` has the same under these names."""

    mean, max, reshape, moveaxis, square, stack = np.mean, np.max, np.reshape, np.moveaxis, np.square, np.stack

    @staticmethod
    def cast(array: Array, dtype: str) -> Array:
        return array.astype(dtype, copy=False)

    @staticmethod
    def top_k(array: Array, number: int) -> tuple[Array, Array]:
        where = np.argsort(-array, axis=-1, kind="stable")[..., :number]
        return np.take_along_axis(array, where, -1), where


# -- where it is applied -----------------------------------------------------------------------------------------------


def computed(
    session: Session, network: Network, inputs: Sequence[Array], wanted: Mapping[str, str | None]
) -> Mapping[str, Array]:
    """Have a session compute tensors of a batch in canonical axes, reduced on its device where it can.

    On a CPU the axes of all that is not reduced are canonical over whatever order of memory they lie in: who writes
    them turns them block by block in its cache, at four times the speed of a pass over the whole.

    Args:
        wanted: For each tensor its reduction, or None. One without a row for each input is not reduced.
    """
    own = _own(session, network, wanted)
    return session.feature_maps(inputs, list(wanted)) if own is None else own[0](inputs, own[1])


def begun(
    session: Session, network: Network, inputs: Sequence[Array], wanted: Mapping[str, str | None]
) -> Callable[[], Mapping[str, Array]] | None:
    """Have a session begin what ``computed`` gives, and give what waits for it; None where it cannot."""
    begin: Callable[..., Callable[[], Mapping[str, Array]] | None] | None = getattr(session, "begin", None)
    if begin is None:
        return None
    own = _own(session, network, wanted)
    return begin(inputs, dict.fromkeys(wanted, "") if own is None else own[1])


def remaining(
    session: Session, network: Network, inputs: Sequence[Array], wanted: Mapping[str, str | None]
) -> dict[str, Callable[[Array], Array]]:
    """Say what core has to do yet with some of what ``computed`` gives, in the thread that writes them."""
    asked = _asked(network, wanted)
    folded = {name: text for name, text in asked.items() if text.startswith(_SUMMARY)}
    rows = example_numbers(inputs) if folded else np.zeros(0, np.uint32)
    later: dict[str, Callable[[Array], Array]] = {name: partial(_summary, rows, text) for name, text in folded.items()}
    if _own(session, network, wanted) is None:
        later |= {
            name: partial(reduced, text, ops=NumpyOps, name=name) for name, text in asked.items() if name not in folded
        }
    return later


def _asked(network: Network, wanted: Mapping[str, str | None]) -> dict[str, str]:
    return {name: text for name, text in wanted.items() if text and network.batch_axis(network.tensors[name]) == 0}


def _own(
    session: Session, network: Network, wanted: Mapping[str, str | None]
) -> tuple[Callable[..., Mapping[str, Array]], dict[str, str]] | None:
    """The session's own ``reduced`` and what it is told, where it has it and can be told of every tensor."""
    own: Callable[..., Mapping[str, Array]] | None = getattr(session, "reduced", None)
    if own is None or any(network.batch_axis(network.tensors[name]) != 0 for name in wanted):
        return None
    # A GPU turns its tensors faster than its host does.
    plain = AS_IT_LIES if str(session.device).startswith("cpu") else ""
    told = {name: AS_IT_LIES if text and text.startswith(_SUMMARY) else text or plain for name, text in wanted.items()}
    return (own, told) if told and all(told.values()) else None


def _summary(rows: NDArray[np.uint32], text: str, maps: Array) -> Array:
    if len(maps) != len(rows):  # several windows an input: one more axis of space
        maps = np.moveaxis(maps.reshape(len(rows), -1, *maps.shape[1:]), 1, 2)
    count, most = map(int, text.split(":")[1:])
    return summary(maps, rows, drawn(count, math.prod(maps.shape[2:]), most)[0])
