"""Receptive fields: which part of the network's inputs each position of a feature map is computed from.

A position's field is a box, from the first to the last cell on each spatial axis of an input, so each axis is followed
by itself. What mixes all positions of an axis sees what any of them sees. Through a layer whose cells are not known
here no field is followed, and what stands behind it says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.kinds import ACTIVATIONS, kind_of
from cnnlens.network.graph import CONFIG_ERRORS, Call, Graph, Ref, find_refs, map_refs
from cnnlens.reference.arithmetic.functions import Activation
from cnnlens.reference.arithmetic.interpolation import Interpolation
from cnnlens.reference.aten.operations import AtenOperation
from cnnlens.reference.bare.ops import BareOperation
from cnnlens.reference.bare.table import BINARY, UNARY
from cnnlens.reference.expression import ExpressionLayer
from cnnlens.reference.keras.activations import ActivationLayer, Identity, PReLU
from cnnlens.reference.keras.attention import HeadAttention, PlainAttention
from cnnlens.reference.keras.dense import Dense
from cnnlens.reference.keras.merging import Concatenate, Merge
from cnnlens.reference.keras.normalization import (
    BatchNormalization,
    CustomScaleLayer,
    GroupNormalization,
    LayerNormalization,
    LayerScale,
    Normalization,
    Rescaling,
    RMSNormalization,
    UnitNormalization,
)
from cnnlens.reference.keras.pooling import AdaptivePooling, GlobalPooling
from cnnlens.reference.keras.recurrent import Bidirectional, Recurrent
from cnnlens.reference.keras.resizing import CenterCrop, Resizing, UpSampling
from cnnlens.reference.keras.shaping import Cropping, Flatten, ZeroPadding
from cnnlens.reference.operation import Operation, normalise_axis
from cnnlens.reference.windows import NOTHING, inside, windows_of
from cnnlens.reference.wrappers import Container

__all__ = ["Field", "Fields", "receptive_fields"]

Cells: TypeAlias = NDArray[np.int64]  # (positions, taps) of one axis: what each position of the output is made of

_ELEMENTWISE = (BatchNormalization, Container, CustomScaleLayer, ExpressionLayer, Identity, LayerScale, Merge,
                Normalization, PReLU, Rescaling)  # fmt: skip
_ALL = (Flatten, GlobalPooling, GroupNormalization, HeadAttention, PlainAttention, Recurrent, Bidirectional)
_PROBED = (AdaptivePooling, CenterCrop, Interpolation, Resizing, UpSampling)
_MOST_PROBED = 1 << 28  # elements in all: what a picture of 512 pixels a side has
_FAR = np.iinfo(np.int64).max  # in front of nothing


@dataclass(frozen=True)
class Field:
    """Says what the positions of a tensor see of one input.

    Attributes:
        first, last: For each spatial axis of the input the first and the last cell that is seen, an entry for each
            position on the tensor's own axis of that number, or one entry for all positions. Where nothing is seen,
            as from a position of padding, the last is in front of the first.
    """

    first: tuple[NDArray[np.int64], ...]
    last: tuple[NDArray[np.int64], ...]

    def through(self, cells: Sequence[Cells]) -> Field:
        """Give what is seen through the cells of each axis; axes without an entry stay as they are."""
        first, last = list(self.first), list(self.last)
        for axis, taken in enumerate(cells[: len(first)]):
            held = np.minimum(taken, len(first[axis]) - 1)  # one entry stands for all positions
            first[axis] = np.where(taken == NOTHING, _FAR, self.first[axis][held]).min(axis=1)
            last[axis] = np.where(taken == NOTHING, NOTHING, self.last[axis][held]).max(axis=1)
        return Field(tuple(first), tuple(last))

    def joined(self, other: Field) -> Field:
        """Give the smallest box about what either sees."""
        return Field(
            tuple(np.minimum(a, b) for a, b in zip(self.first, other.first, strict=True)),
            tuple(np.maximum(a, b) for a, b in zip(self.last, other.last, strict=True)),
        )


Fields: TypeAlias = "dict[str, Field] | str"  # by the input's name; a sentence where it is not known


def receptive_fields(network: Graph, sizes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, Fields]:
    """Work out the receptive field of every tensor of a network.

    Args:
        network: The network, with a graph.
        sizes: Canonical shapes ``(N, C, *spatial)`` of the inputs by name, where the file leaves them open.

    Returns:
        By tensor what its positions see of each input, or why that is not known.

    >>> import cnnlens.sample
    >>> fields = receptive_fields(cnnlens.open(cnnlens.sample.MODEL))
    >>> seen = fields["conv2d_1"]["input_layer"]  # two convolutions of 3, and a pooling of 2 between them
    >>> int(seen.first[0][5]), int(seen.last[0][5])
    (7, 14)
    """
    shapes: dict[Ref, tuple[int, ...] | None] = {}
    found: dict[Ref, Fields] = {}
    for call in network.calls:
        outputs = [Ref(call.name, index) for index in range(len(call.shapes))]
        try:
            shapes.update(zip(outputs, _shapes(network, call, shapes, sizes or {}), strict=False))
            fields = _fields(network, call, shapes, found)
        except CnnlensError as error:
            fields = str(error)
        except CONFIG_ERRORS:
            fields = _unknown(call)
        found.update((ref, fields) for ref in outputs)
    return {ref.name: fields for ref, fields in found.items()}


def _unknown(call: Call) -> str:
    return f"not followed through {call.layer.shown}"


def _shapes(
    network: Graph, call: Call, known: Mapping[Ref, Any], sizes: Mapping[str, tuple[int, ...]]
) -> list[tuple[int, ...] | None]:
    """The shapes of a call's outputs in the file's own axes, of one example; None where a size is open."""
    made: list[Any] = list(call.shapes)
    if call.layer.kind == "InputLayer" and call.name in sizes:
        batch, channels, *spatial = sizes[call.name]
        moved = call.channel_axis != 1
        made = [(batch, *spatial, channels) if moved else (batch, channels, *spatial)]
    elif any(shape is not None and None in shape[1:] for shape in made):
        worked_out: Any = call.layer.operation.output_shape(*map_refs(call.args, known.__getitem__))
        made = cast("list[Any]", worked_out) if isinstance(worked_out, list) else [worked_out]
    return [None if shape is None or None in shape[1:] else (1, *shape[1:]) for shape in made]


def _first(count: int) -> NDArray[np.int64]:
    """The first so many cells of an axis."""
    return np.arange(count, dtype=np.int64)


def _places(shape: Sequence[int], channel_axis: int) -> tuple[int, ...]:
    """The spatial axes of a shape."""
    if len(shape) < 3:
        return ()
    return tuple(range(2, len(shape))) if channel_axis == 1 else tuple(range(1, len(shape) - 1))


def _fields(network: Graph, call: Call, shapes: Mapping[Ref, Any], found: Mapping[Ref, Fields]) -> Fields:
    if call.layer.kind == "InputLayer":
        shape = shapes[Ref(call.name)]
        axes = tuple(_first(shape[place]) for place in _places(shape, call.channel_axis))
        return {call.name: Field(axes, axes)}
    if call.masks:
        return _unknown(call)
    refs = list(find_refs((call.args, dict(call.operand_kwargs))))
    merged: dict[str, Field] = {}
    for number, ref in enumerate(refs):
        seen = found[ref]
        if isinstance(seen, str):
            return seen
        cells = _cells(network, call, shapes, refs, number)
        if cells is None and any(len(axis) > 1 for field in seen.values() for axis in field.first):
            return _unknown(call)  # of what sees all there is to see, whatever is computed sees the same
        for name, field in seen.items():
            through = field.through(cells or [])
            merged[name] = merged[name].joined(through) if name in merged else through
    return merged


def _cells(
    network: Graph, call: Call, shapes: Mapping[Ref, Any], refs: Sequence[Ref], number: int
) -> list[Cells] | None:
    """The cells of operand ``number`` that each position takes, on each spatial axis; None where they are not known."""
    operation = call.layer.operation
    taken, made = shapes[refs[number]], shapes[Ref(call.name)]
    places = _places(taken, network.calls_by_name[refs[number].call].channel_axis)
    outputs = _places(made, call.channel_axis)
    sizes, counts = [taken[place] for place in places], [made[place] for place in outputs]
    every = [_first(size)[None] for size in sizes]
    if isinstance(operation, _ALL) or not places:
        return every
    if len(places) != len(outputs):
        return None
    own = [_first(count)[:, None] for count in counts]
    windows = windows_of(operation, sizes)
    if windows is not None:
        cells = [one.cells(size, count) for one, size, count in zip(windows, sizes, counts, strict=True)]
    elif isinstance(operation, (ZeroPadding, Cropping)):
        sign = -1 if isinstance(operation, ZeroPadding) else 1
        befores = [sign * before for before, _ in operation.edges]
        cells = [inside(one + before, size) for one, before, size in zip(own, befores, sizes, strict=True)]
    elif isinstance(operation, _PROBED):
        if sum(sizes) * math.prod(sizes) > _MOST_PROBED:
            return None
        cells = [_probed(operation, taken, places, *axes) for axes in zip(places, outputs, strict=True)]
    elif isinstance(operation, Concatenate):
        axis = normalise_axis(operation.axis, len(made))
        offset = sum(shapes[ref][axis] for ref in refs[:number])
        befores = [offset if place == axis else 0 for place in places]
        cells = [inside(one - before, size) for one, before, size in zip(own, befores, sizes, strict=True)]
    elif _by_position(call, operation):
        cells = [one if size > 1 else one * 0 for one, size in zip(own, sizes, strict=True)]
    else:
        return None
    mixed = _mixed(operation, len(made))
    if isinstance(operation, Dense):
        return [every[axis] if place in mixed else cells[axis] for axis, place in enumerate(outputs)]
    return [cells[axis].reshape(1, -1) if place in mixed else cells[axis] for axis, place in enumerate(outputs)]


def _by_position(call: Call, operation: Operation) -> bool:
    """Whether each position of the output comes of that position of the operands, where one position may be spread
    over all; on which axes it mixes them ``_mixed`` says."""
    if isinstance(operation, BareOperation):
        kind = operation.kind
        if not isinstance(operation, AtenOperation):
            kind = operation.resolved(call.args, call.kwargs)[0]
        row = kind_of(kind)
        return kind in UNARY or kind in BINARY or (row.activation in ACTIVATIONS and _pointwise(row.activation))
    if isinstance(operation, ActivationLayer):
        return operation.activation is None or operation.activation.halved is None
    return isinstance(operation, (*_ELEMENTWISE, Dense, LayerNormalization, RMSNormalization, UnitNormalization))


def _pointwise(name: str) -> bool:
    return name not in ("softmax", "log_softmax", "sparsemax", "glu")


def _mixed(operation: Operation, rank: int) -> set[int]:
    """The axes on which an output is made of all positions."""
    if isinstance(operation, (LayerNormalization, RMSNormalization, UnitNormalization)):
        return {normalise_axis(axis, rank) for axis in operation.axes}
    found = {rank - 1} if isinstance(operation, Dense) else set[int]()
    activation: Activation | None = getattr(operation, "activation", None)
    if activation is not None and not activation.elementwise:
        axes: Any = getattr(activation.function, "keywords", {}).get("axis", activation.halved)
        axes = cast("Sequence[int]", axes if isinstance(axes, (list, tuple)) else [axes])
        found |= {normalise_axis(axis, rank) for axis in axes}
    return found


def _probed(operation: Operation, shape: Sequence[int], places: Sequence[int], place: int, output: int) -> Cells:
    """What an operation without weights makes of NaN at each cell of an axis: which positions became NaN is what that
    cell is part of. The other axes are as they are, with one channel."""
    channel = next(axis for axis in range(1, len(shape)) if axis not in places)
    one = [1 if axis == channel else size for axis, size in enumerate(shape)]
    seen: list[NDArray[np.bool_]] = []
    for cell in range(shape[place]):
        x = np.zeros(one, np.float32)
        x[(slice(None),) * place + (cell,)] = np.nan
        broken = np.isnan(operation({}, x))
        seen.append(broken.any(axis=tuple(axis for axis in range(broken.ndim) if axis != output)))
    table = np.stack(seen, axis=1)
    cells = np.arange(shape[place])
    first = np.where(table, cells, shape[place]).min(axis=1)
    last = np.where(table, cells, NOTHING).max(axis=1)
    return np.stack([inside(first, shape[place]), last], axis=1)
