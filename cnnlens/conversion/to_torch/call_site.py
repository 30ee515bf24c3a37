"""One call of one layer, as the rule that converts it sees it: what it is, what feeds it, and where its code goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from cnnlens.conversion.to_torch.names import identifier
from cnnlens.conversion.to_torch.value import Value, canonical_order
from cnnlens.conversion.to_torch.weights import Entry, LayerWeights
from cnnlens.conversion.to_torch.writer import ClassWriter, Statement
from cnnlens.errors import UnsupportedLayerError
from cnnlens.kinds import KINDS
from cnnlens.network.graph import Shape
from cnnlens.reference import Operation

__all__ = ["RULES", "CallSite", "Results", "Rule", "rule"]

Results = Value | list[Value]


@dataclass
class CallSite:
    """Describes one call of one layer, and writes its code.

    Attributes:
        kind: Its Keras class, or the op's name.
        config: Its configuration; ``version``: the Keras that wrote it.
        operation: The reference's own reading of the configuration.
        name: Its name in its model, ``wanted`` the identifier that it would like.
        key: What is the same for every call of the layer in its class.
        args, kwargs: What it is called with, a ``Value`` for each tensor.
        shapes: Shapes of its results in Keras' axes; ``axis``: where their channels stand.
        seen: The shape of its first input over all its calls, open where they differ.
        target: The variable that the result will be given, if the result is one tensor.
    """

    kind: str
    config: Mapping[str, Any]
    version: tuple[int, ...]
    operation: Operation
    name: str
    key: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shapes: tuple[Shape | None, ...]
    axis: int
    seen: Shape | None
    weights: LayerWeights
    out: ClassWriter
    temporary: Callable[[str], str]
    comments: list[str] = field(default_factory=list[str])
    wanted: str = ""
    # Whether all that its result goes to can take a flattened map in another order than Keras'.
    keeps_flat: Callable[[], bool] = field(default=lambda: False)
    # For a wrapped model: writes its class, and gives its result on a tensor.
    nested: Callable[[Any, str, Value], Value] | None = None

    @property
    def x(self) -> Value:
        """Give its first tensor."""
        first: Any = self.args[0]
        while isinstance(first, (list, tuple)):
            first = cast("Any", first[0])
        if not isinstance(first, Value):
            raise UnsupportedLayerError("it is called on no tensor")
        return first

    @property
    def listed(self) -> list[Value]:
        """Give the tensors of its first argument, which is a list."""
        first: Any = self.args[0]
        items = list(cast("Sequence[Any]", first)) if isinstance(first, (list, tuple)) else [first]
        if not all(isinstance(item, Value) for item in items):
            raise UnsupportedLayerError("it is called on something other than tensors")
        return cast("list[Value]", items)

    @property
    def shape(self) -> Shape:
        """Give the shape of its first result."""
        if not self.shapes or self.shapes[0] is None:
            raise UnsupportedLayerError("the shape of its output cannot be worked out")
        return self.shapes[0]

    def refuse(self, reason: str) -> UnsupportedLayerError:
        return UnsupportedLayerError(reason)

    # -- comments ----------------------------------------------------------------------------------------------------

    def note(self, about: str, full: str, short: str = "") -> None:
        """Write a comment above the statement: in full the first time that ``about`` comes up, then in short."""
        text = short if about in self.out.file.said else full
        self.out.file.said.add(about)
        if text:
            self.comments.append(text)

    def remark(self, about: str, full: str, short: str = "") -> list[str]:
        """Write a comment above a member likewise."""
        text = short if about in self.out.file.said else full
        self.out.file.said.add(about)
        return [text] if text else []

    # -- code --------------------------------------------------------------------------------------------------------

    def is_new(self) -> bool:
        """Tell whether the layer's member has not been made yet."""
        return not self.out.has(f"{self.key}\0")

    def attribute(self, suffix: str = "") -> tuple[str, bool]:
        wanted = self.wanted or identifier(self.name)
        return self.out.attribute(f"{self.key}\0{suffix}", f"{wanted}_{suffix}" if suffix else wanted)

    def module(
        self,
        text: str | Callable[[], str],
        arrays: Mapping[str, Entry] | None = None,
        *,
        suffix: str = "",
        comments: Sequence[str] = (),
        main: bool = True,
    ) -> str:
        """Write a member module (made at the layer's first call), and give it as ``self.name``."""
        name, new = self.attribute(suffix)
        if new:
            self.out.member(name, text if isinstance(text, str) else text(), comments, arrays or {})
            if main:
                self.out.file.modules[self.key] = f"{self.out.prefix}{name}"
        return f"self.{name}"

    def parameter(self, shape: Sequence[int], entry: Entry, *, suffix: str = "", comments: Sequence[str] = ()) -> str:
        """Write a member that is an array to learn, and give it as ``self.name``."""
        name, new = self.attribute(suffix)
        if new:
            self.out.member(name, f"nn.Parameter(torch.zeros({sizes(shape)}))", comments, {"": entry})
        return f"self.{name}"

    def buffer(self, shape: Sequence[int], entry: Entry, *, suffix: str = "") -> str:
        """Write a member that is an array to keep, and give it as ``self.name``."""
        name, new = self.attribute(suffix)
        if new:
            dtype = ", dtype=torch.int64" if entry.dtype == "int64" else ""
            self.out.buffer(name, f"torch.zeros({sizes(shape)}{dtype})", (), {"": entry})
        return f"self.{name}"

    def let(self, text: str, name: str) -> str:
        """Write a statement of its own in front of the result's, whose value goes by ``name``."""
        variable = self.temporary(name)
        self.statement(f"{variable} = {text}")
        return variable

    def statement(self, text: str) -> None:
        """Write a statement in front of the result's, with the comments so far above it."""
        self.out.statements.append(Statement(text, self.comments[:]))
        self.comments.clear()

    def helper(self, name: str) -> str:
        return self.out.file.helper(name)

    def result(self, text: str, order: Sequence[int] | None = None, shape: Shape | None = None) -> Value:
        """Write the layer's result, held in ``order`` (as ``(N, C, *spatial)`` if not said)."""
        made = self.shape if shape is None else shape
        return Value(text, made, canonical_order(len(made), self.axis) if order is None else tuple(order), self.axis)


def sizes(shape: Sequence[int]) -> str:
    return ", ".join(str(size) for size in shape) if shape else "()"


Rule = Callable[[CallSite], Results]
RULES: dict[str, Rule] = {}


def rule(*kinds: str) -> Callable[[Rule], Rule]:
    """Decorator: the function converts layers of these kinds (Keras class names), by their older names too."""

    def add(function: Rule) -> Rule:
        for name in (name for kind in kinds for name in (kind, *KINDS[kind].older)):
            if name in RULES:
                raise ValueError(f"two rules for {name}")
            RULES[name] = function
        return function

    return add
