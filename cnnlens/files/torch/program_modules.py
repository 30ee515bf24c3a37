"""From the modules that each node says it is in, to layers and containers with the names that their author gave.

An exported graph is flat; every node carries the calls of modules around it. A module whose every call is one node is
a layer of its own; any other is a container, as a nested model is in Keras, and its functional calls (``x + y``, a
``flatten``) are numbered inside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from cnnlens.files.torch.program import Frame, Node, values

__all__ = ["Instance", "Step", "build_tree", "is_filler", "leaves"]

DEPTH = 100
"""Modules in modules; a Swin transformer has 6. Deeper ones are counted to the module at this depth."""

_FILLERS = frozenset(("zeros", "ones", "full", "empty", "scalar_tensor"))


@dataclass(eq=False)
class Instance:
    """Holds one call of a module: what runs in it, in order.

    Attributes:
        frame: The module; None for the whole model.
        above: The calls of modules around it, outermost first, without the whole model's.
        steps: Nodes, and calls of the modules inside.
    """

    frame: Frame | None
    above: tuple[Instance, ...]
    steps: list[Step] = field(default_factory=lambda: list[Step]())

    @property
    def path(self) -> str:
        return self.frame.path if self.frame is not None else ""

    @property
    def chain(self) -> tuple[Instance, ...]:
        """List the calls of modules that a node right inside is in."""
        return self.above if self.frame is None else (*self.above, self)


Step: TypeAlias = "Node | Instance"


def build_tree(nodes: Sequence[Node]) -> Instance:
    """Build the call of the whole model. A module's call ends where a node outside of it follows."""
    root = Instance(None, ())
    open_calls: list[Instance] = []
    for node in nodes:
        stack = node.stack[:DEPTH]
        shared = 0
        while shared < min(len(stack), len(open_calls)) and open_calls[shared].frame == stack[shared]:
            shared += 1
        del open_calls[shared:]
        for frame in stack[shared:]:
            inside = open_calls[-1] if open_calls else root
            inner = Instance(frame, inside.chain)
            inside.steps.append(inner)
            open_calls.append(inner)
        (open_calls[-1] if open_calls else root).steps.append(node)
    return root


def is_filler(node: Node) -> bool:
    """Tell whether a node makes an array of one number: the first state of an LSTM, which is no step of its module."""
    return node.op in _FILLERS and next(values(node.arguments), None) is None


def leaves(root: Instance) -> set[str]:
    """Find the paths of the modules that are layers: each of their calls is one node, always of the same operator."""
    targets: dict[str, set[str]] = {}
    composite: set[str] = set()
    queue = [step for step in root.steps if isinstance(step, Instance)]
    while queue:
        call = queue.pop()
        inner = [step for step in call.steps if isinstance(step, Instance)]
        queue.extend(inner)
        nodes = [step for step in call.steps if isinstance(step, Node) and not is_filler(step)]
        if inner or len(nodes) != 1:
            composite.add(call.path)
        else:
            targets.setdefault(call.path, set()).add(nodes[0].target)
    return {path for path, found in targets.items() if path not in composite and len(found) == 1}
