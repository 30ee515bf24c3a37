"""What is tried of a kind: its options, the calls that they make, and which of their combinations cover all pairs.

A family is a table: each option with its values, the plainest first, and a function that makes the call of one choice,
or nothing where the framework refuses that choice. Settings are chosen so that any two values that can stand together
do so in one of them (a covering array), found greedily over all choices, of which a family has few enough to list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, product
from typing import Any, cast

__all__ = ["Called", "Family", "Operand", "Options", "Setting", "Shape", "as_json", "cover", "each"]

Options = Mapping[str, Any]
Shape = tuple[int, ...]

_MOST_CHOICES = 40_000  # of a family; more would be a table that nobody reads


@dataclass(frozen=True)
class Operand:
    """Says what goes into a call.

    Attributes:
        shape: Without the batch, in the call's own axes.
        below: Whole numbers from 0 to below this, where the call takes indices; 0 for real numbers.
        channel_axis: Where its channels stand: 1 or -1. It decides nothing but what is called canonical.
    """

    shape: Shape
    below: int = 0
    channel_axis: int = -1


@dataclass(frozen=True)
class Called:
    """Holds one call of a layer, an operation or an operator.

    Attributes:
        name: The class, or PyTorch's operator with its overload.
        config: Its settings as a file holds them.
        operands: What it takes.
        weights: The shapes of its arrays by role.
        module: Where a Keras class lives; empty for an operator of PyTorch.
        listed: Whether its operands are one list.
        extra: Arguments behind the tensors that are no tensors; ``named``: those that go by name.
    """

    name: str
    config: Mapping[str, Any]
    operands: tuple[Operand, ...]
    weights: Mapping[str, Shape] = field(default_factory=dict[str, Shape])
    module: str = "keras.layers"
    listed: bool = False
    extra: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Family:
    """Holds the table of a kind in one framework.

    Attributes:
        kind: Its row in ``cnnlens.kinds``.
        options: Each with its values, the plainest first; those in ``sizes`` are whole numbers from 1 up, which may
            become smaller than any in the table.
        make: Makes the call of a choice; None where the framework refuses it.
        framework: ``keras`` or ``torch``.
    """

    kind: str
    options: Mapping[str, Sequence[Any]]
    make: Callable[[Options], Called | None] = field(compare=False)
    sizes: frozenset[str] = frozenset()
    framework: str = "keras"

    def valid(self) -> list[dict[str, Any]]:
        """List every choice that the framework takes."""
        assert math.prod(map(len, self.options.values())) <= _MOST_CHOICES, self.kind
        names = list(self.options)
        choices = (dict(zip(names, values, strict=True)) for values in product(*self.options.values()))
        return [one for one in choices if self.make(one) is not None]

    def settings(self, strength: int = 2) -> tuple[list[Setting], int]:
        """Choose settings so that any ``strength`` values that can stand together do so in one; and count those."""
        chosen, count = cover(self.valid(), strength)
        return [Setting(self, one) for one in chosen], count


@dataclass(frozen=True)
class Setting:
    """Is a family with a value for each of its options.

    Attributes:
        ones: Whether its arrays hold ones instead of what is drawn: plainer, where that still shows a fault.
    """

    family: Family
    options: Options = field(hash=False)
    ones: bool = False

    @cached_property
    def call(self) -> Called:
        """Give its call."""
        made = self.family.make(self.options)
        assert made is not None, self.key
        return made

    @cached_property
    def key(self) -> str:
        """Name it: the same choice has the same key in every run."""
        shown = ", ".join(f"{name}={_plain(value)}" for name, value in self.options.items())
        return f"{self.family.framework} {self.family.kind}({shown}){' of ones' * self.ones}"

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Setting) and self.key == other.key

    def changed(self, **options: Any) -> Setting | None:
        """Give it with other values; None where the framework refuses that."""
        made = {**self.options, **options}
        return None if self.family.make(made) is None else replace(self, options=made)

    @property
    def unlike_plain(self) -> list[str]:
        """Name the options, sizes aside, whose value is not the plainest."""
        return [
            name
            for name, values in self.family.options.items()
            if name not in self.family.sizes and self.options[name] != values[0]
        ]


def each(value: Any) -> tuple[Any, ...]:
    """Give a value's parts, where it has several; else itself alone."""
    return cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (value,)


def as_json(value: Any) -> Any:
    """Give a value as JSON has it."""
    return list(each(value)) if isinstance(value, tuple) else value


def _plain(value: Any) -> str:
    return "x".join(map(str, each(value))) or str(value)


def cover(choices: Sequence[Options], strength: int = 2) -> tuple[list[Options], int]:
    """Choose few of ``choices`` in which any ``strength`` values stand together that do so in any; and count those.

    Of choices of fewer options all values stand in one, and none is counted: a value alone is no pair.

    >>> cover([{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 1}, {"a": 2, "b": 2}])[1]
    4
    >>> len(cover([{"a": a, "b": b, "c": c} for a in (1, 2) for b in (1, 2) for c in (1, 2)])[0])
    4
    >>> cover([{"a": 1}, {"a": 2}])
    ([{'a': 1}, {'a': 2}], 0)
    """
    number: dict[Any, int] = {}
    masks = [sum(1 << number.setdefault(one, len(number)) for one in _together(choice, strength)) for choice in choices]
    left, chosen = (1 << len(number)) - 1, list[Options]()
    while left:
        best = max(range(len(masks)), key=lambda place: (masks[place] & left).bit_count())
        left &= ~masks[best]
        chosen.append(choices[best])
    return chosen, sum(len(one) == strength for one in number)


def _together(choice: Options, strength: int) -> Iterator[Any]:
    items = [(name, str(value)) for name, value in choice.items()]
    return combinations(items, min(strength, len(items)))
