"""TorchScript's code followed with shapes in the place of tensors: a program of PyTorch's operators, as export has it.

A traced module's code is a straight line of calls. A scripted one has branches and loops too, and those of torch's own
modules are decided by constants and by how many axes a tensor has. So the code is gone through once: numbers are
computed, calls on tensors are written down. What depends on the numbers in a tensor cannot be followed, and is refused.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

from cnnlens.errors import UnsupportedLayerError
from cnnlens.files.torch.module_tree import Module
from cnnlens.files.torch.operators import named_arguments
from cnnlens.files.torch.pickle_values import is_plain
from cnnlens.files.torch.program import SCALAR_TYPES, Frame, Size, Unknown, Value
from cnnlens.files.torch.program_writer import BATCH, ProgramWriter
from cnnlens.files.torch.script_language import Code, Expression, Function, Statement
from cnnlens.text import printable

__all__ = ["Script", "followed", "forward_inputs"]

_STEPS = 200_000
"""Expressions that are looked at in one program: 50 scripted bottlenecks have 20,000."""
_CALLS = 60
"""Calls in calls."""

_SAMENESS: Mapping[str, Callable[[Any, Any], Any]] = {
    "__is__": operator.is_, "__isnot__": operator.is_not, "eq": operator.eq, "ne": operator.ne,
}  # fmt: skip
_BINARY: dict[str, Any] = {
    "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge, "add": operator.add,
    "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "remainder": operator.mod,
    "floordiv": operator.floordiv, "floor_divide": operator.floordiv, "__and__": operator.and_, "__or__": operator.or_,
}  # fmt: skip
_UNARY: Mapping[str, Callable[[Any], Any]] = {
    "neg": operator.neg, "__not__": operator.not_, "floor": lambda x: int(x // 1), "ceil": lambda x: int(-(-x // 1)),
    "int": int, "float": float, "bool": bool, "Int": int, "Float": float, "abs": abs,
}  # fmt: skip
_LARGEST = 1 << 63
_LONGEST = 1_000
"""Items of a list that two are joined to."""
_IGNORED = frozenset(("warn", "format", "list", "device", "requires_grad_", "set_grad_enabled"))
_RAISES = "ops.prim.RaiseException"
_FORWARD = re.compile(r"forward_{0,2}\d*")
"""A module's calls: of one that is called twice, the second has a method of its own in a trace."""
_SAME = frozenset(("annotate", "unchecked_cast", "ops.prim.NumToTensor", "ops.prim.data", "torch.alias"))
# Numbers of types in TorchScript (c10::ScalarType) and in exported programs are one apart, up to the quantised ones.
_BFLOAT16 = 15


@dataclass(frozen=True)
class _Path:
    """A dotted name that leads to functions: ``torch.relu``, ``__torch__.torch.nn.functional.relu``."""

    name: str


@dataclass(frozen=True)
class _Bound:
    """A module's method."""

    module: Module
    name: str


@dataclass(frozen=True)
class _ReturnedError(Exception):
    value: Any


@dataclass
class Script:
    """Holds what a TorchScript archive says of one model.

    Attributes:
        root: Its modules.
        code: Gives a file of its code by its dotted name; None where there is none.
        constants: How many tensors the code names as ``CONSTANTS.c0`` and so on.
    """

    root: Module
    code: Callable[[str], Code | None]
    constants: int = 0

    def method(self, module: Module, name: str) -> Function | None:
        """Find a method of a module's class."""
        place, _, own = module.record.kind.rpartition(".")
        code = self.code(place)
        return None if code is None else code.methods.get((own, name))


def forward_inputs(script: Script) -> list[str]:
    """List what the model's ``forward`` takes.

    Raises:
        UnsupportedLayerError: it has none.
    """
    forward = script.method(script.root, "forward")
    if forward is None:
        raise UnsupportedLayerError("its code has no forward")
    return [name for name, default in forward.parsed[0][1:] if default is None]


def followed(script: Script, module: Module, writer: ProgramWriter, inputs: Sequence[Value]) -> list[Value]:
    """Write the program of a module's ``forward``.

    Args:
        script: The archive.
        module: The module: the whole model, or one in it.
        writer: What writes it.
        inputs: What it is called with.

    Returns:
        The tensors that it gives.

    Raises:
        UnsupportedLayerError: its code cannot be followed; says what stands in the way.
    """
    found: list[Value] = []
    work = [_Follower(script, writer).method(module, "forward", list(inputs), {})]
    while work:
        one = work.pop(0)
        if isinstance(one, Value):
            found.append(one)
        elif isinstance(one, (list, tuple)):
            work = [*cast("list[Any]", one), *work]
        elif one is not None:
            raise UnsupportedLayerError("it gives something that is no tensor")
    if not found:
        raise UnsupportedLayerError("it gives no tensor")
    return found


@dataclass
class _Follower:
    script: Script
    writer: ProgramWriter
    stack: list[Frame] = field(default_factory=lambda: list[Frame]())
    steps: int = _STEPS
    depth: int = 0
    entered: int = 0

    # -- functions ---------------------------------------------------------------------------------------------------

    def method(self, module: Module, name: str, given: Sequence[Any], named: Mapping[str, Any]) -> Any:
        function = self.script.method(module, name)
        if function is None:
            raise UnsupportedLayerError(f"{printable(module.name, 60)} has no code for its {printable(name, 40)}")
        entered = _FORWARD.fullmatch(name) is not None and bool(module.path)
        if entered:
            self.entered += 1
            self.stack.append(Frame(f"{module.path}@{self.entered}", module.path, module.kind))
        made = self._run(function, [module, *given], named)
        if entered:
            self.stack.pop()
        return made

    def _run(self, function: Function, given: Sequence[Any], named: Mapping[str, Any]) -> Any:
        parameters, body = function.parsed
        self.depth += 1
        if self.depth > _CALLS:
            raise UnsupportedLayerError(f"calls in calls, more than {_CALLS} deep")
        if len(given) > len(parameters):
            raise UnsupportedLayerError("a call with more than its function takes")
        known: dict[str, Any] = dict(zip((name for name, _ in parameters), given, strict=False)) | dict(named)
        for name, default in parameters:
            if name not in known and default is None:
                raise UnsupportedLayerError(f"a call without its '{printable(name, 40)}'")
            if name not in known:
                known[name] = self._value(cast(Expression, default), known)
        try:
            self._block(body, known)
        except _ReturnedError as returned:
            return returned.value
        finally:
            self.depth -= 1
        return None

    def _block(self, body: Sequence[Statement], known: dict[str, Any]) -> None:
        for statement in body:
            what = statement[0]
            if what == "assign":
                self._assign(statement[1], self._value(statement[2], known, len(statement[1])), known)
            elif what == "return":
                raise _ReturnedError(self._value(statement[1], known))
            elif what == "if":
                self._block(self._branch(statement, known), known)
            elif what == "for":
                items = self._value(statement[2], known)
                if not isinstance(items, (list, range)):
                    raise UnsupportedLayerError("a loop whose length depends on a tensor")
                for item in cast("list[Any]", items):
                    known[statement[1]] = item
                    self._block(statement[3], known)
            elif what == "set":
                raise UnsupportedLayerError(f"it changes its own '{printable(statement[1], 40)}' as it is called")
            else:
                self._value(statement[1], known)

    def _branch(self, statement: Statement, known: dict[str, Any]) -> Sequence[Statement]:
        condition = self._value(statement[1], known)
        if isinstance(condition, (bool, int)):
            return statement[2] if condition else statement[3]
        # A check of sizes that are open: the branch that complains is for callers that got it wrong.
        for branch, other in (statement[2:4], statement[3:1:-1]):
            if any(one[0] == "do" and one[1][0] == "call" and _dotted(one[1][1]) == _RAISES for one in branch):
                return other
        raise UnsupportedLayerError("a branch that depends on the size of the input, or on numbers in a tensor")

    def _assign(self, names: Sequence[str], value: Any, known: dict[str, Any]) -> None:
        if len(names) == 1:
            known[names[0]] = value
            return
        if not isinstance(value, (list, tuple)) or len(cast("list[Any]", value)) != len(names):
            raise UnsupportedLayerError("a tensor is taken apart into an unknown number of pieces")
        known.update(zip(names, cast("list[Any]", value), strict=True))

    # -- expressions -------------------------------------------------------------------------------------------------

    def _value(self, expression: Expression, known: dict[str, Any], pieces: int = 0) -> Any:
        self.steps -= 1
        if self.steps < 0:
            raise UnsupportedLayerError(f"code of more than {_STEPS:,} steps")
        what = expression[0]
        if what == "constant":
            return expression[1]
        if what == "name":
            name = expression[1]
            return known[name] if name in known else _Path(name)
        if what in ("list", "tuple"):
            return [self._value(one, known) for one in expression[1]]
        if what == "attribute":
            return self._attribute(self._value(expression[1], known), expression[2])
        if what == "item":
            return self._item(self._value(expression[1], known), self._value(expression[2], known))
        named = _dotted(expression[1]) if expression[1][0] in ("name", "attribute") else ""
        if named in ("annotate", "unchecked_cast", "uninitialized"):
            return self._value(expression[2][1], known) if len(expression[2]) == 2 else Unknown("nothing")
        function = self._value(expression[1], known)
        given = [self._value(one, known) for one in expression[2]]
        by_name = {name: self._value(one, known) for name, one in expression[3].items()}
        if isinstance(function, _Bound):
            return self.method(function.module, function.name, given, by_name)
        if not isinstance(function, _Path):
            raise UnsupportedLayerError("a call of what is no function")
        return self._call(function.name, given, by_name, pieces)

    def _attribute(self, of: Any, name: str) -> Any:
        if isinstance(of, _Path):
            if of.name == "CONSTANTS":
                return self.writer.array(f"CONSTANTS.{name}")
            return _Path(f"{of.name}.{name}")
        if not isinstance(of, Module):
            raise UnsupportedLayerError(f"the attribute '{printable(name, 40)}' of what is no module")
        if name in of.children:
            return of.children[name]
        if name in of.arrays:
            return self.writer.array(f"{of.path}.{name}" if of.path else name)
        if name == "training":
            return False  # as after model.eval(), which a note says
        if name in of.record.attributes:
            value = of.record.attributes[name]
            items = cast("list[Any]", value) if isinstance(value, (list, tuple)) else [value]
            if all(is_plain(one) for one in items):
                return list(items) if isinstance(value, (list, tuple)) else value
            raise UnsupportedLayerError(f"the attribute '{printable(name, 40)}' of a module is no number")
        return _Bound(of, name)

    def _item(self, of: Any, index: Any) -> Any:
        if not isinstance(of, (list, tuple)) or not isinstance(index, int):
            return Unknown("a part of something of unknown length")
        items = cast("list[Any]", of)
        if not -len(items) <= index < len(items):
            raise UnsupportedLayerError("an item that its list has not")
        return items[index]

    # -- calls -------------------------------------------------------------------------------------------------------

    def _call(self, name: str, given: list[Any], named: dict[str, Any], pieces: int) -> Any:
        if name in _SAME and given:
            return given[-1]
        if name == "getattr" and len(given) == 2 and isinstance(given[1], str):
            return self._attribute(given[0], given[1])
        if name == "range" and 1 <= len(given) <= 3 and all(isinstance(one, int) for one in given):
            items = range(*given)
            self.steps -= len(items)
            return items
        if name == _RAISES:
            raise UnsupportedLayerError("its code refuses inputs of the shape that its layers want")
        if name.startswith("__torch__."):
            place, _, own = name.rpartition(".")
            code = self.script.code(place)
            function = None if code is None else code.functions.get(own)
            if function is None:
                raise UnsupportedLayerError(f"the function {printable(own, 60)} is not in the archive")
            return self._run(function, given, named)
        space, _, own = name.rpartition(".")
        if space not in ("torch", "ops.aten", "ops.prim", ""):
            raise UnsupportedLayerError(f"it calls {printable(name, 80)}, which is not PyTorch's own")
        tensors = any(isinstance(one, Value) for one in _flat([*given, *named.values()]))
        if not tensors or own in ("__is__", "__isnot__"):
            return self._plain(own, given, named)
        if own in ("size", "len", "numel", "dim", "is_floating_point") and isinstance(given[0], Value):
            return self._measured(own, given[0], given[1:])
        if space == "ops.prim" or own in ("dtype", "device"):
            return None  # a tensor's type or place, which none of these calls has need of
        if own == "append":
            cast("list[Any]", given[0]).append(given[1])
            return None
        if own in _UNARY and not own.startswith(("neg", "floor", "ceil", "abs")):
            return Unknown("a number that is in a tensor") if isinstance(given[0], Value) else len(given[0])
        return self._operator(own, given, named, pieces)

    def _plain(self, name: str, given: list[Any], named: dict[str, Any]) -> Any:
        """A function of numbers, texts and lists of them."""
        if name in _IGNORED:
            return "cpu" if name == "device" else given[0] if name == "list" and given else None
        if name in ("zeros", "ones", "full", "arange"):
            return self._operator(name, given, named, 0)
        if name == "append" and isinstance(given[0], list):
            cast("list[Any]", given[0]).append(given[1])
            return cast("list[Any]", given[0])
        if name == "__contains__":
            return given[1] in given[0]
        if name in ("__is__", "__isnot__") and len(given) == 2:
            return _SAMENESS[name](*given)
        if any(isinstance(one, (Size, Unknown, Module)) for one in given):
            return self._symbolic(name, given)
        if name in _SAMENESS and len(given) == 2 and all(is_plain(one) for one in given):
            return _SAMENESS[name](*given)
        lists = [cast("list[Any]", one) for one in given if isinstance(one, list)]
        if name == "add" and len(lists) == len(given) == 2 and len(lists[0]) + len(lists[1]) <= _LONGEST:
            return lists[0] + lists[1]
        if name == "len" and len(lists) == len(given) == 1:
            return len(lists[0])
        if name == "slice" and lists and all(isinstance(one, int) or one is None for one in given[1:]):
            return lists[0][slice(*given[1:4]) if given[2:] else slice(given[1], None)]
        if name == "__derive_index" and len(given) == 3:
            return _computed("add", (_computed("mul", (given[0], given[2])), given[1]))
        if name == "__range_length" and len(given) == 3 and all(isinstance(one, int) for one in given) and given[2]:
            return len(range(*given))
        made = _computed(name, given)
        if made is not None:
            return made
        raise UnsupportedLayerError(f"the function {printable(name, 60)} of numbers")

    def _symbolic(self, name: str, given: list[Any]) -> Any:
        """A function of a size that is open: multiples of the batch stay such."""
        if name in ("int", "Int") and len(given) == 1:
            return given[0]
        numbers = [one for one in given if isinstance(one, int)]
        sizes = [one for one in given if isinstance(one, Size)]
        if name == "mul" and len(numbers) == len(sizes) == 1:
            return Size(tuple((symbol, times * numbers[0]) for symbol, times in sizes[0].expression))
        return Unknown("a size that is computed from the input's sizes")

    def _measured(self, name: str, tensor: Value, given: list[Any]) -> Any:
        shape = self.writer.shapes.get(tensor.name)
        if shape is None:
            return Unknown("a size that is computed from the input's sizes")
        if name in ("dim", "is_floating_point"):
            return len(shape) if name == "dim" else True
        sizes = [
            Unknown("an open size of the input") if size is None else self._number(size)
            for size in cast("Sequence[Mapping[str, int] | None]", shape)
        ]
        if name == "size":
            return self._item(sizes, given[0]) if given else sizes
        return sizes[0] if name == "len" and sizes else Unknown("a size that is computed from the input's sizes")

    @staticmethod
    def _number(size: Mapping[str, int]) -> Any:
        return Size(tuple(size.items())) if BATCH in size else size.get("", 0)

    def _operator(self, name: str, given: list[Any], named: dict[str, Any], pieces: int) -> Any:
        plain = name[:-1] if name.endswith("_") and not name.endswith("__") else name
        if plain == "split" and len(given) > 1 and isinstance(given[1], list):
            plain = "split_with_sizes"
        found = named_arguments(plain, given, named)
        if found is None:
            raise UnsupportedLayerError(f"{printable(name, 60)} is called in a way that is not known here")
        overload, arguments = found
        if plain in ("_convolution", "convolution"):
            plain, overload, arguments = self._convolution(arguments)
        if plain == "_convolution_mode":
            plain, overload = self._convolution(arguments)[0], "padding"
        for argument in set(arguments) & {"dtype", "layout", "device", "pin_memory", "memory_format"}:
            arguments[argument] = _typed(argument, arguments[argument])
        written = f"{plain}_" if name.endswith("_") and plain == name[:-1] else plain
        made = self.writer.call(f"aten.{written}.{overload}", arguments, self.stack, max(pieces, 1))
        return list(made) if isinstance(made, list) else made

    def _convolution(self, arguments: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
        """The convolution that the general one is, by the axes of its kernel."""
        weight = arguments.get("weight")
        shape = self.writer.shape(weight) if isinstance(weight, Value) else None
        if shape is None or not 3 <= len(shape) <= 5:
            raise UnsupportedLayerError("a convolution whose kernel is computed")
        plain = f"conv{'_transpose' if arguments.get('transposed') else ''}{len(shape) - 2}d"
        found = named_arguments(plain, (), {
            name: value for name, value in arguments.items()
            if name in ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
            or (name == "output_padding" and arguments.get("transposed"))
        })  # fmt: skip
        if found is None:
            _impossible()
        return (plain, *found)


def _computed(name: str, given: Sequence[Any]) -> Any:
    """A function of numbers; None where it is none, or its result no number that a shape could be."""
    function: Callable[..., Any] | None = (_UNARY if len(given) == 1 else _BINARY).get(name)
    if function is None or len(given) not in (1, 2) or not all(isinstance(one, (int, float)) for one in given):
        return None
    try:
        made = function(*given)
    except (ValueError, ArithmeticError, TypeError):
        return None
    return made if abs(made) < _LARGEST else None


def _impossible() -> NoReturn:
    raise UnsupportedLayerError("a convolution with other arguments than torch gives it")


def _typed(name: str, value: Any) -> Any:
    """An argument of a type, a layout or a place in the words of an exported program."""
    if name == "dtype" and isinstance(value, int):
        return "bfloat16" if value == _BFLOAT16 else SCALAR_TYPES.get(value + 1, "unknown")
    return "strided" if name == "layout" and value == 0 else None if name == "memory_format" else value


def _flat(values: Sequence[Any]) -> list[Any]:
    return [part for one in values for part in (cast("list[Any]", one) if isinstance(one, list) else [one])]


def _dotted(expression: Expression) -> str:
    """A name with its dots; empty for anything else."""
    parts: list[str] = []
    while expression[0] == "attribute":
        parts.append(expression[2])
        expression = expression[1]
    return ".".join([expression[1], *reversed(parts)]) if expression[0] == "name" else ""
