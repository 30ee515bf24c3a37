"""The order in which Keras lists the layers of a functional model: by depth, and by how they are reached at one depth.

A ``.keras`` file counts layers of one class in that order, so a config whose layers are listed otherwise would be given
each other's arrays. This is ``map_graph`` of ``keras/src/ops/function.py`` (Keras 3.15.1), without the recursion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["depth_order"]

Node = tuple[str, int]


def depth_order(parents: Mapping[Node, Sequence[Node]], inputs: Sequence[str], outputs: Sequence[Node]) -> list[str]:
    """Sort layer names into Keras' order; those that lead to no output are left out, inputs are kept.

    Args:
        parents: For each call ``(layer, number)`` the calls that it takes tensors from, in the order of its arguments.
        inputs: Names of the input layers.
        outputs: The calls whose tensors are the model's outputs.
    """
    finished, reached = _walk(parents, outputs)
    node_depths: dict[Node, int] = {}
    layer_depths: dict[str, int] = {}
    for node in reversed(finished):
        depth = max(node_depths.get(node, 0), layer_depths.get(node[0], 0))
        node_depths[node] = layer_depths[node[0]] = depth
        for parent in parents[node]:
            node_depths[parent] = max(depth + 1, node_depths.get(parent, 0))
    for name in inputs:
        if name not in layer_depths:
            layer_depths[name], reached[name] = 0, -1
    return sorted(layer_depths, key=lambda name: (-layer_depths[name], reached[name]))


def _walk(parents: Mapping[Node, Sequence[Node]], outputs: Sequence[Node]) -> tuple[list[Node], dict[str, int]]:
    """Depth first from the outputs: calls in the order in which they are done, layers by when they were first met."""
    finished: dict[Node, None] = {}
    reached: dict[str, int] = {}
    for output in outputs:
        if output in finished:
            continue
        reached.setdefault(output[0], len(reached))
        stack = [(output, iter(parents[output]))]
        while stack:
            node, rest = stack[-1]
            parent = next((one for one in rest if one not in finished), None)
            if parent is None:
                finished[node] = None
                stack.pop()
            else:
                reached.setdefault(parent[0], len(reached))
                stack.append((parent, iter(parents[parent])))
    return list(finished), reached
