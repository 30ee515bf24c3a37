"""The batch size of an exported program: the symbol that it is, or the number that it was exported with.

``torch.export.export(model, (x,))`` writes the example's batch size into every shape and into every ``view``. Where
the shapes prove that the number is the batch and nothing else, it becomes a symbol, so that the network takes any
number of inputs; else the program stays as it is, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from cnnlens.errors import CnnlensError
from cnnlens.files.torch.operations import made_shapes, translated
from cnnlens.files.torch.program import Node, Program, Size, Value, values
from cnnlens.files.torch.program_entries import entry_of
from cnnlens.files.torch.program_modules import is_filler
from cnnlens.files.torch.program_symbols import Linear, constant, multiple_of, sized
from cnnlens.network.graph import CONFIG_ERRORS, Shape
from cnnlens.network.weight import Stored

__all__ = ["Batched", "open_shape", "shows_batch", "with_batch"]

_BATCH = "batch"
_SHAPED = {"view": "size", "reshape": "shape", "_unsafe_view": "size", "expand": "size"}


@dataclass(frozen=True)
class Batched:
    """Holds a program whose batch size is known by name.

    Attributes:
        program: The program, its batch size a symbol wherever it could be told.
        symbols: Names of the batch size; empty where it is a fixed number.
        notes: What the person should know of it.
    """

    program: Program
    symbols: frozenset[str]
    notes: tuple[str, ...] = ()


def open_shape(sizes: tuple[Linear | None, ...] | None) -> Shape | None:
    """Give a shape with None for the batch and for every size that is no number."""
    if sizes is None:
        return None
    return tuple(None if size is None else constant(size) for size in sizes)


def shows_batch(program: Program, symbols: frozenset[str], tensors: Iterable[str]) -> str | None:
    """Find the input that shows how large a batch is, where the first axis of none of ``tensors`` does."""

    def shows(name: str) -> bool:
        shape = program.shapes.get(name)
        return bool(shape) and shape[0] is not None and multiple_of(shape[0], symbols) == 1

    return (
        None if any(shows(name) for name in tensors) else next((name for name in program.inputs if shows(name)), None)
    )


def with_batch(program: Program, arrays: Mapping[str, Stored]) -> Batched:
    """Find the batch size: the first axis of the inputs."""
    leading = [program.shapes[name][0] for name in program.inputs if program.shapes.get(name)]
    symbols = {
        name for size in leading if size is not None and constant(size) is None for name in size if set(size) == {name}
    }
    if symbols:
        return Batched(_spelled_out(program, frozenset(symbols)), frozenset(symbols))
    sizes = {None if size is None else constant(size) for size in leading}
    size = next(iter(sizes)) if len(sizes) == 1 else None
    if not size:
        return Batched(program, frozenset())
    found = _Generaliser(program, arrays, size)
    try:
        general = found.program()
    except _NotProvenError as error:
        note = (
            f"exported for {size} input{'s' if size != 1 else ''} at a time, which is kept ({error}); export it with a "
            "dynamic batch for any number"
        )
        return Batched(program, frozenset(), (note,))
    return Batched(_spelled_out(general, frozenset({_BATCH})), frozenset({_BATCH}))


def _spelled_out(program: Program, symbols: frozenset[str]) -> Program:
    """``program`` with numbers for the -1 of a ``view`` that leaves two sizes open: its own and the batch."""
    nodes: list[Node] = []
    for node in program.nodes:
        argument = _SHAPED.get(node.op, "")
        sizes: Any = node.arguments.get(argument)
        operand = next(iter(values(node.arguments)), None)
        made = program.shapes.get(node.outputs[0]) if node.outputs else None
        plain = operand is not None and shows_batch(program, symbols, [operand.name]) is None
        if (
            node.op == "expand"
            or plain
            or not isinstance(sizes, list)
            or made is None
            or len(made) != len(cast("list[Any]", sizes))
        ):
            nodes.append(node)
            continue
        known = [None if size is None else constant(size) for size in made]
        written = cast("list[Any]", sizes)
        several = any(isinstance(size, Size) for size in written)
        spelled = [
            number if size == -1 and several and number is not None else size
            for size, number in zip(written, known, strict=True)
        ]
        nodes.append(replace(node, arguments={**node.arguments, argument: spelled}))
    return program.with_nodes(nodes, program.outputs)


class _NotProvenError(Exception):
    """Why the batch size of a static program may be more than that."""


class _Generaliser:
    def __init__(self, program: Program, arrays: Mapping[str, Stored], size: int) -> None:
        self.before = program
        self.arrays = arrays
        self.size = size
        self.shapes: dict[str, tuple[Linear | None, ...]] = {
            name: shape for name, shape in program.shapes.items() if name in program.weights
        }
        self.ahead: dict[str, int] = {}  # where the batch is one factor of an axis: the product of those before it
        for name in program.inputs:
            shape = program.shapes.get(name)
            if shape is not None:
                self.shapes[name] = ({_BATCH: 1}, *shape[1:])

    def program(self) -> Program:
        nodes = [self._node(node) for node in self.before.nodes]
        for name in self.before.outputs:
            if self.shapes.get(name) and not self._leads(name) and name not in self.before.weights:
                raise _NotProvenError(f"the output '{name}' does not grow with it")
        return replace(self.before.with_nodes(nodes, self.before.outputs), shapes=self.shapes)

    def _node(self, node: Node) -> Node:
        node = self._resized(node)
        stated = [self.before.shapes.get(made) for made in node.outputs]
        found = self._inferred(node)
        if found is None:
            # Not in the reference: the batch is taken to go through on the first axis.
            goes_through = any(self._leads(value.name) for value in values(node.arguments))
            found = [None if shape is None else self._passed_on(shape, goes_through) for shape in stated]
        for made, shape, sizes in zip(node.outputs, stated, found, strict=False):
            if shape is not None and sizes is not None:
                self.shapes[made] = self._agreed(node, shape, sizes)
        first = next(iter(values(node.arguments)), None)
        if node.op not in _SHAPED and first is not None and len(node.outputs) == 1:
            self.ahead[node.outputs[0]] = self.ahead.get(first.name, 1)
        return node

    def _passed_on(self, shape: tuple[Linear | None, ...], goes_through: bool) -> Shape:
        numbers = open_shape(shape) or ()
        opens = goes_through and bool(numbers) and numbers[0] is not None and numbers[0] % self.size == 0
        return (None, *numbers[1:]) if opens else numbers

    def _agreed(self, node: Node, stated: tuple[Linear | None, ...], found: Shape) -> tuple[Linear | None, ...]:
        """The stated shape with a multiple of the batch wherever the inferred one is open."""
        if len(stated) != len(found):
            raise _NotProvenError(f"'{node.name}' makes another shape with another batch")
        result: list[Linear | None] = []
        for axis, (size, inferred) in enumerate(zip(stated, found, strict=True)):
            number = None if size is None else constant(size)
            if inferred is None and number is not None:
                if number % self.size:
                    raise _NotProvenError(f"axis {axis} of '{node.name}' is no multiple of it")
                result.append({_BATCH: number // self.size})
            elif number is not None and number != inferred:
                raise _NotProvenError(f"'{node.name}' makes another shape with another batch")
            else:
                result.append(size)
        return tuple(result)

    def _inferred(self, node: Node) -> list[Shape | None] | None:
        """The shapes that a node makes, None where they vary with the batch; None where the reference has no such op.

        Raises:
            _NotProvenError: with another batch the node does not work.
        """
        entry = entry_of(node, self.before.weights, "", frozenset({_BATCH}), self._batch_of)
        weights = {
            name: self.arrays[self.before.weights[placeholder]].shape
            for name, placeholder in entry.weights.items()
            if self.before.weights[placeholder] in self.arrays
        }
        shapes = [open_shape(self.shapes.get(name)) for name in entry.tensors]
        try:
            translation = translated(entry.data, weights, shapes)
        except CnnlensError:
            return None
        try:
            return made_shapes(translation, shapes)
        except (CnnlensError, *CONFIG_ERRORS):
            pass  # an operand may be several times the batch, which an open size does not say: two batches do
        try:
            symbols, known = frozenset({_BATCH}), [self.shapes.get(name) for name in entry.tensors]
            two, three = (
                made_shapes(translation, [sized(shape, symbols, batch) for shape in known]) for batch in (2, 3)
            )
        except (CnnlensError, *CONFIG_ERRORS):
            raise _NotProvenError(f"'{node.name}' fits no other") from None
        return [
            None if one is None or other is None else _where_equal(one, other)
            for one, other in zip(two, three, strict=True)
        ]

    def _batch_of(self, tensors: Iterable[str]) -> str | None:
        return shows_batch(replace(self.before, shapes=self.shapes), frozenset({_BATCH}), tensors)

    def _leads(self, name: str) -> bool:
        shape = self.shapes.get(name)
        return bool(shape) and shape[0] is not None and multiple_of(shape[0], frozenset({_BATCH})) is not None

    def _resized(self, node: Node) -> Node:
        """A ``view`` or ``expand`` to the batch's number, with the batch's symbol instead."""
        if is_filler(node) and self.size > 1 and isinstance(node.arguments.get("size"), list):
            sizes = [Size(((_BATCH, 1),)) if one == self.size else one for one in node.arguments["size"]]
            return replace(node, arguments={**node.arguments, "size": sizes})
        argument = _SHAPED.get(node.op, "")
        sizes = node.arguments.get(argument)
        operand = next(iter(values(node.arguments)), None)
        times: Any = node.arguments.get("repeats")
        if node.op == "repeat" and operand is not None and operand.name in self.before.weights:
            if isinstance(times, list) and times[:1] == [self.size]:
                # A class token, once for every input.
                return replace(node, arguments={**node.arguments, "repeats": [Size(((_BATCH, 1),)), *times[1:]]})
            return node
        made = open_shape(self.before.shapes.get(node.outputs[0])) if node.outputs else None
        if (
            operand is None
            or not isinstance(sizes, list)
            or made is None
            or None in made
            or len(made) != len(cast("list[Any]", sizes))
        ):
            return node
        written = cast("list[Any]", sizes)
        whole = cast("tuple[int, ...]", made)
        places = (
            self._expanded(operand, whole) if node.op == "expand" else self._reshaped(node.outputs[0], operand, whole)
        )
        changed = [
            Size(((_BATCH, places[axis]),)) if axis in places and size != -1 else size
            for axis, size in enumerate(written)
        ]
        return replace(node, arguments={**node.arguments, argument: changed})

    def _multiples(self, name: str) -> list[int | None]:
        """For each axis of a tensor, how many times the batch it is; None where it is a number."""
        shape = self.shapes.get(name, ())
        return [None if size is None else multiple_of(size, frozenset({_BATCH})) for size in shape]

    def _expanded(self, operand: Value, made: tuple[int, ...]) -> dict[int, int]:
        """Which axes of an ``expand`` are the batch, and how many times it."""
        own = self._multiples(operand.name)
        shift = len(made) - len(own)
        found = {axis + shift: times for axis, times in enumerate(own) if times is not None}
        if not found and operand.name in self.before.weights and made and made[0] == self.size:
            return {0: 1}  # a class token, once for every input
        return found

    def _reshaped(self, made_name: str, operand: Value, made: tuple[int, ...]) -> dict[int, int]:
        """Which axis of a ``view`` is the batch: the one that begins where the operand's begins, counted in numbers.

        Raises:
            _NotProvenError: it may be one of several, as with an example of one input.
        """
        own = self._multiples(operand.name)
        before = open_shape(self.before.shapes.get(operand.name))
        places = [axis for axis, times in enumerate(own) if times is not None]
        if len(places) != 1 or before is None or None in before:
            return {}
        sizes = cast("tuple[int, ...]", before)
        begins = math.prod(sizes[: places[0]]) * self.ahead.get(operand.name, 1)
        starts = [math.prod(made[:axis]) for axis in range(len(made))]
        alone = [axis for axis, size in enumerate(made) if starts[axis] == begins and size == self.size]
        whole = [axis for axis, size in enumerate(made) if starts[axis] == begins and size == sizes[places[0]]]
        inside = [
            axis
            for axis, size in enumerate(made)
            if starts[axis] <= begins and begins * self.size <= starts[axis] * size and size % self.size == 0
        ]
        chosen = alone or whole or inside
        if not chosen or (len(chosen) > 1 and chosen is inside):
            raise _NotProvenError(f"which axis of '{made_name}' it is cannot be told")
        self.ahead[made_name] = max(1, begins // max(1, starts[chosen[0]]))
        return {chosen[0]: made[chosen[0]] // self.size}


def _where_equal(one: Shape, other: Shape) -> Shape:
    return tuple(a if a == b else None for a, b in zip(one, other, strict=True))
