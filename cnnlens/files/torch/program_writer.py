"""A program put together call by call, for files that hold modules or code and no shapes: these are worked out here.

The shapes are those that the reference says its operations make; where it has none, or a size is open, the shape stays
open. What the input looks like is read from the first calls that it goes through, unless the file says it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.files.torch.operations import made_shapes, translated
from cnnlens.files.torch.program import Frame, Node, Program, Size, Sizes, Value, map_values, values
from cnnlens.files.torch.program_batch import open_shape
from cnnlens.files.torch.program_entries import entry_of
from cnnlens.files.torch.program_symbols import Linear, multiple_of, sized
from cnnlens.kinds import operator_kind
from cnnlens.network.graph import CONFIG_ERRORS, Shape
from cnnlens.network.weight import Stored

__all__ = ["BATCH", "ProgramWriter", "input_shape", "settled_shape"]

BATCH = "batch"
_SYMBOLS = frozenset({BATCH})
_PRIME = 101
"""A size of the batch that hardly divides any other size."""
_ARRAY = "array:"
_OUTPUTS = {f"adaptive_max_pool{n}d": 2 for n in (1, 2, 3)} | {
    "lstm": 3, "gru": 2, "rnn_tanh": 2, "rnn_relu": 2, "var_mean": 2, "std_mean": 2, "topk": 2, "sort": 2,
}  # fmt: skip
_LISTS = frozenset("chunk split split_with_sizes unbind tensor_split unsafe_chunk unsafe_split".split())


class ProgramWriter:
    """Writes a program.

    Args:
        arrays: The model's arrays by their names in it.
        shapes: The shape of each input, None for a size that is open; None as a whole where nothing is known.
        dtypes: The types of those inputs that are not float32.
        most: How many calls there may be.
    """

    def __init__(
        self, arrays: Mapping[str, Stored], shapes: Mapping[str, Shape | None], dtypes: Mapping[str, str], most: int
    ) -> None:
        self.nodes: list[Node] = []
        self.shapes: dict[str, Sizes] = {}
        self._arrays = arrays
        self._most = most
        self._inputs = tuple(shapes)
        self._dtypes = dict(dtypes)
        self._weights: dict[str, str] = {}
        self._known: dict[str, list[Shape | None]] = {}
        for name, shape in shapes.items():
            if shape is not None:
                self.shapes[name] = tuple(
                    _grown(size, size) if size is not None or axis else {BATCH: 1} for axis, size in enumerate(shape)
                )

    def array(self, name: str) -> Value:
        """Give the tensor that stands for one of the model's arrays.

        Raises:
            UnsupportedLayerError: it is none that can be shown.
        """
        if name not in self._arrays:
            raise UnsupportedLayerError(f"the array {name} is no plain one")
        self._weights[_ARRAY + name] = name
        self.shapes[_ARRAY + name] = tuple({"": size} if size else {} for size in self._arrays[name].shape)
        return Value(_ARRAY + name)

    def shape(self, value: Value) -> Shape | None:
        """Give a tensor's shape, None for every size that is open."""
        return open_shape(self.shapes.get(value.name))

    def call(
        self, target: str, arguments: Mapping[str, Any], stack: Sequence[Frame], pieces: int = 0
    ) -> Value | list[Value]:
        """Write a call; ``pieces`` is how many tensors an operator gives that gives a list.

        Raises:
            UnsupportedLayerError: there are more calls than a file of its size has.
        """
        if len(self.nodes) >= self._most:
            raise UnsupportedLayerError(f"more than {self._most:,} calls, which no model of its size makes")
        name = f"n{len(self.nodes)}"
        base = target.split(".")[1].removesuffix("_")
        listed = base in _LISTS
        count = pieces if listed else _OUTPUTS.get(base, 2 if target.endswith((".max.dim", ".min.dim")) else 1)
        outputs = tuple(name if not index else f"{name}:{index}" for index in range(count))
        node = Node(name, target, dict(arguments), outputs, tuple(stack), listed)
        self.nodes.append(node)
        found = zip(outputs, self._made(node), strict=False)
        self.shapes.update((one, shape) for one, shape in found if shape is not None)
        made = [Value(one) for one in outputs]
        return made if listed or count > 1 else made[0]

    @property
    def surplus(self) -> int | None:
        """How many features more than it takes the first linear layer is given; None where that is not known."""
        for node in self.nodes:
            operand, weight = node.arguments.get("input"), node.arguments.get("weight")
            if node.op == "linear" and isinstance(operand, Value) and isinstance(weight, Value):
                given, wanted = self.shape(operand), self.shape(weight)
                return given[-1] - (wanted[-1] or 0) if given and wanted and given[-1] is not None else None
        return 0

    def _made(self, node: Node) -> list[Sizes | None]:
        """The shapes of what a call makes; where one size of the batch leaves it open what is the batch, of two."""
        if any(one.name not in self.shapes for one in values(node.arguments)):
            return []
        try:
            one = self._made_for(node, _PRIME)
            certain = all(shape and not any(size and size % _PRIME == 0 for size in shape[1:]) for shape in one)
            other = [_with_batch(shape, 1) for shape in one] if certain else self._made_for(node, 1)
        except (CnnlensError, *CONFIG_ERRORS):
            return []
        return [
            tuple(map(_grown, many, single)) if many is not None and single is not None else None
            for many, single in zip(one, other, strict=False)
            if many is None or single is None or len(many) == len(single)
        ]

    def _made_for(self, node: Node, batch: int) -> list[Shape | None]:
        def counted(part: Any) -> Any:
            times = multiple_of(dict(part.expression), _SYMBOLS) if isinstance(part, Size) else None
            return part if times is None else times * batch

        numbered = replace(node, arguments={name: map_values(one, counted) for name, one in node.arguments.items()})
        entry = entry_of(numbered, self._weights, "", _SYMBOLS, lambda tensors: None)
        weights = {name: self._arrays[self._weights[place]].shape for name, place in entry.weights.items()}
        shapes = [sized(self.shapes.get(name), _SYMBOLS, batch) for name in entry.tensors]
        key = repr((entry.data, weights, shapes))
        if key not in self._known:
            self._known[key] = made_shapes(translated(entry.data, weights, shapes), shapes)
        return self._known[key]

    def program(self, outputs: Sequence[Value], root: str) -> Program:
        """Give what was written, with the tensors that it hands out and the class of the whole model."""
        made = tuple(value.name for value in outputs)
        nodes, none = tuple(self.nodes), frozenset[str]()
        return Program(self._inputs, self._weights, none, nodes, made, self.shapes, self._dtypes, root)


def _with_batch(shape: Shape | None, batch: int) -> Shape | None:
    """A shape that a batch of ``_PRIME`` made, where no size but the first depends on it."""
    first = shape[0] if shape else None
    return shape if not shape or not first or first % _PRIME else (first // _PRIME * batch, *shape[1:])


def _grown(many: int | None, single: int | None) -> Linear | None:
    """A size that is ``many`` for a batch of ``_PRIME`` and ``single`` for one of one."""
    if many is None or single is None:
        return None
    if many == single:
        return {"": many} if many else {}
    return {BATCH: single} if many == single * _PRIME else None


_LARGEST_SIDE = 1024
_MOST_TRIED = 400


def settled_shape(
    write: Callable[[Shape], ProgramWriter], shape: Shape, first: ProgramWriter
) -> tuple[int, int] | None:
    """Find which sizes of an open input, the same on all its spatial axes, give a linear layer what it takes.

    Args:
        write: Writes the program for an input of this shape.
        shape: The input's ``(N, C, *spatial)``, open behind the channels.
        first: What it writes for that.

    Returns:
        The smallest and the largest; None where the program takes any, or none that was tried.
    """
    if len(shape) < 3 or first.surplus is not None or len(first.nodes) > _MOST_TRIED:
        return None

    def smallest(least: int) -> int:
        """The first side with at least so many features too many; what is too small for a layer has none."""
        low, high = 1, _LARGEST_SIDE
        while low < high:
            middle = (low + high) // 2
            surplus = write((*shape[:2], *[middle] * (len(shape) - 2))).surplus
            low, high = (low, middle) if surplus is not None and surplus >= least else (middle + 1, high)
        return low

    found = smallest(0)
    fits = write((*shape[:2], *[found] * (len(shape) - 2))).surplus == 0
    return (found, max(found, smallest(1) - 1)) if fits else None


_AXES = re.compile(r"([123])d$")


def input_shape(nodes: Sequence[Node], name: str, arrays: Mapping[str, tuple[int, ...]]) -> tuple[Shape | None, str]:
    """Read an input's shape and type from the first calls that it goes through, unchanged but for its sizes.

    Args:
        nodes: The calls, in order.
        name: The input.
        arrays: The shapes of the arrays that the calls take, by their names in the graph.
    """
    same, dtype = {name}, "float32"
    axes: int | None = None
    channels: int | None = None
    recurrent = any(operator_kind(node.op).cell for node in nodes)
    for node in nodes:
        first = next(iter(values([one for one in node.arguments.values() if not _is_array(one)])), None)
        if first is None or first.name not in same:
            continue
        op = re.sub(r"_with_indices$", "", node.op)
        kind = operator_kind(node.op)
        weight = node.arguments.get("weight")
        shape = arrays.get(weight.name, ()) if isinstance(weight, Value) else ()
        found = _AXES.search(op)
        axes = axes if axes is not None else int(found[1]) if found else None
        if op.startswith("conv_transpose") and shape:
            channels = channels or shape[0]
        elif op.startswith("conv") and len(shape) > 2:
            groups = node.arguments.get("groups", 1)
            axes, channels = len(shape) - 2, channels or shape[1:2][0] * (groups if isinstance(groups, int) else 1)
        elif operator_kind(op).cell:
            params = cast("Sequence[Value]", node.arguments.get("params") or ())
            taken = arrays.get(params[0].name, ()) if params else ()
            return ((None, None, taken[1]) if len(taken) == 2 else None), dtype
        elif op == "linear" and shape and recurrent:
            return (None, None, shape[-1]), dtype  # of each step
        elif op == "linear" and shape:
            axes, channels = axes or 0, channels or shape[-1]
        elif op == "embedding":
            axes, dtype = 0, "int64"
        elif op in ("batch_norm", "group_norm", "instance_norm"):
            channels = channels or next(iter(shape), None)
        elif op == "flatten" and axes is None:
            axes = 2  # of all that can be flattened, an image is the likeliest
        if not kind.keeps_features and not any(word in op for word in ("pool", "upsample", "pad")):
            break
        same.add(node.outputs[0])
    if dtype == "int64":
        return (None, None), dtype
    return (None if axes is None else (None, channels, *[None] * axes)), dtype


def _is_array(value: Any) -> bool:
    return isinstance(value, Value) and value.name.startswith(_ARRAY)
