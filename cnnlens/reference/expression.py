"""A small language of arithmetic on one array, for layers whose code is never run: ``x / 255 - 0.5``.

It has ``x``, numbers, ``+ - * / **``, brackets and a few functions by name. It is parsed here and never evaluated as
Python; whatever is none of it is refused with its place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np

from cnnlens.errors import UnsupportedLayerError
from cnnlens.reference.arithmetic.functions import find_activation
from cnnlens.reference.operation import Array, Shape, Weights, register
from cnnlens.reference.stepwise import Rounding, Stepwise
from cnnlens.text import nearest, printable

__all__ = ["FUNCTIONS", "ExpressionLayer", "Node", "fold", "parse"]

_MOST_CHARACTERS = 1000
_MOST_LEVELS = 50
_MOST_OPERATIONS = 100

# The name in the language -> the operation in keras.ops, and how many operands it takes.
FUNCTIONS: Mapping[str, tuple[str, int]] = {
    "abs": ("Absolute", 1), "exp": ("Exp", 1), "log": ("Log", 1), "sqrt": ("Sqrt", 1), "tanh": ("Tanh", 1),
    "sigmoid": ("Sigmoid", 1), "relu": ("Relu", 1), "minimum": ("Minimum", 2), "maximum": ("Maximum", 2),
    "clip": ("Clip", 3),
}  # fmt: skip
_SIGNS = {"+": "Add", "-": "Subtract", "*": "Multiply", "/": "Divide", "**": "Power"}


@dataclass(frozen=True)
class Node:
    """Says what is done to what: an operation of ``keras.ops`` by its name on nodes and numbers; ``x`` has no name."""

    kind: str = ""
    operands: tuple[Node | float, ...] = ()


@dataclass(frozen=True)
class _Token:
    text: str
    place: int
    what: str  # number, name, sign or end


_NUMBER = r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
_TOKEN = re.compile(rf"\s*(?:{_NUMBER}|(?P<name>[A-Za-z_]\w*)|(?P<sign>\*\*|[-+*/(),]))", re.ASCII)


def parse(text: str) -> Node:
    """Read an expression.

    Raises:
        UnsupportedLayerError: it is none of the language; one line with the place in it, counted from 1.

    >>> from cnnlens.reference.expression import parse
    >>> parse("x / 255")
    Node(kind='Divide', operands=(Node(kind='', operands=()), 255.0))
    """
    if len(text) > _MOST_CHARACTERS:
        raise UnsupportedLayerError(f"an expression of {len(text):,} characters, where {_MOST_CHARACTERS:,} are taken")
    made = _Parser(text).whole()
    if not isinstance(made, Node):
        raise UnsupportedLayerError(f"the expression '{printable(text, 60)}' has no x in it")
    return made


def _tokens(text: str) -> Iterator[_Token]:
    place = 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None:
            place += len(text[place:]) - len(text[place:].lstrip())
            raise _wrong(
                text, place, f"'{printable(text[place])}' is none of x, numbers, + - * / **, brackets and names"
            )
        what = str(match.lastgroup)
        yield _Token(match[what], match.start(what), what)
        place = match.end()
    yield _Token("", len(text), "end")


def _wrong(text: str, place: int, reason: str) -> UnsupportedLayerError:
    return UnsupportedLayerError(f"the expression '{printable(text, 60)}' at character {place + 1}: {reason}")


class _Parser:
    """Goes down through sums, products, signs, powers and atoms, each of which may hold an expression in brackets."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(_tokens(text))
        self.next = 0
        self.level = 0
        self.operations = 0

    def whole(self) -> Node | float:
        made = self.sum()
        if self.here.what != "end":
            raise self.unexpected()
        return made

    @property
    def here(self) -> _Token:
        return self.tokens[self.next]

    def unexpected(self) -> UnsupportedLayerError:
        came = f"'{printable(self.here.text)}'" if self.here.text else "its end"
        return _wrong(self.text, self.here.place, f"{came} is not expected there")

    def took(self, *signs: str) -> str:
        if self.here.what == "sign" and self.here.text in signs:
            self.next += 1
            return self.tokens[self.next - 1].text
        return ""

    def deeper(self, read: Callable[[], Node | float]) -> Node | float:
        self.level += 1
        if self.level > _MOST_LEVELS:
            raise _wrong(self.text, self.here.place, f"it is more than {_MOST_LEVELS} levels deep")
        made = read()
        self.level -= 1
        return made

    def sum(self) -> Node | float:
        return self.row(self.product, "+", "-")

    def product(self) -> Node | float:
        return self.row(self.signed, "*", "/")

    def row(self, read: Callable[[], Node | float], *signs: str) -> Node | float:
        made = read()
        while sign := self.took(*signs):
            made = self.made(_SIGNS[sign], made, read())
        return made

    def signed(self) -> Node | float:
        if self.took("+"):
            return self.deeper(self.signed)
        if self.took("-"):
            return self.made("Negative", self.deeper(self.signed))
        base = self.atom()
        return self.made("Power", base, self.deeper(self.signed)) if self.took("**") else base

    def atom(self) -> Node | float:
        token = self.here
        if self.took("("):
            made = self.deeper(self.sum)
            if not self.took(")"):
                raise self.unexpected()
            return made
        if token.what == "number":
            self.next += 1
            return self.finite(float(token.text), token.place)
        if token.what != "name":
            raise self.unexpected()
        self.next += 1
        if token.text == "x":
            return Node()
        if token.text not in FUNCTIONS:
            near = nearest(token.text, ("x", *FUNCTIONS))
            raise _wrong(self.text, token.place, f"there is no '{printable(token.text)}'; {near}")
        if not self.took("("):
            raise self.unexpected()
        operands = [self.deeper(self.sum)]
        while self.took(","):
            operands.append(self.deeper(self.sum))
        if not self.took(")"):
            raise self.unexpected()
        kind, count = FUNCTIONS[token.text]
        if len(operands) != count or (kind == "Clip" and any(isinstance(one, Node) for one in operands[1:])):
            wanted = "x and two numbers" if kind == "Clip" else f"{count} of x and numbers"
            raise _wrong(self.text, token.place, f"{token.text} takes {wanted}")
        return self.made(kind, *operands, place=token.place)

    def made(self, kind: str, *operands: Node | float, place: int | None = None) -> Node | float:
        """A node; a number, where all operands are numbers."""
        self.operations += 1
        if self.operations > _MOST_OPERATIONS:  # what comes out is walked through as deep as it is
            raise _wrong(self.text, self.here.place, f"it has more than {_MOST_OPERATIONS} operations")
        if any(isinstance(one, Node) for one in operands):
            return Node(kind, operands)
        at = self.here.place if place is None else place
        with np.errstate(all="ignore"):
            return self.finite(float(_computed(kind, [np.float64(cast("float", one)) for one in operands])), at)

    def finite(self, value: float, place: int) -> float:
        if not math.isfinite(value):
            raise _wrong(self.text, place, "a number that is not finite comes of it")
        return value


_Result = TypeVar("_Result")


def fold(node: Node | float, x: _Result, make: Callable[[str, Sequence[Any]], _Result]) -> _Result | float:
    """Put an expression together: ``x`` for the array, ``make(kind, operands)`` for each operation on it."""
    if not isinstance(node, Node):
        return node
    if not node.kind:
        return x
    return make(node.kind, [fold(one, x, make) for one in node.operands])


_ACTIVATIONS = {kind: cast("Any", find_activation(kind.lower(), (3,))) for kind in ("Tanh", "Sigmoid", "Relu")}
_COMPUTED: Mapping[str, Callable[..., Any]] = {
    "Add": np.add, "Subtract": np.subtract, "Multiply": np.multiply, "Divide": np.true_divide, "Power": np.power,
    "Negative": np.negative, "Absolute": np.abs, "Exp": np.exp, "Log": np.log, "Sqrt": np.sqrt,
    "Minimum": np.minimum, "Maximum": np.maximum, "Clip": np.clip,
}  # fmt: skip


def _computed(kind: str, operands: Sequence[Any]) -> Any:
    if kind in _ACTIVATIONS:
        return _ACTIVATIONS[kind].apply(np.array(operands[0]))
    return _COMPUTED[kind](*operands)


@register("Expression")
class ExpressionLayer(Stepwise):
    """Computes an expression of each number by itself: what a person said that a Lambda of theirs computes.

    Attributes:
        node: The expression, parsed.
    """

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.node = parse(str(config.get("expression", "")))

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        if len(args) != 1 or not isinstance(args[0], tuple):
            raise self.refuse("it is called on something other than one tensor x")
        return cast("Shape", args[0])

    def rounded(self, rounding: Rounding, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])

        def make(kind: str, operands: Sequence[Any]) -> Array:
            values = [x.dtype.type(one) if isinstance(one, float) else one for one in operands]
            y = np.asarray(_computed(kind, values))
            if kind == "Power":  # exp(b log a), whose argument is rounded too
                return rounding.total(y, lambda: np.abs(y * values[1] * np.log(np.maximum(np.abs(values[0]), 1e-300))))
            activation = _ACTIVATIONS.get(kind)
            return rounding.value(y) if activation is None else rounding.function(activation, values[0], y)

        return np.asarray(fold(self.node, x, make))
