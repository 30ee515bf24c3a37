"""A linear layer put together again where a program has it as a transposed kernel and a product.

``torch.jit`` of torch 1.4 and ``run_decompositions`` write ``linear`` as ``addmm(bias, x, t(weight))``. Taken as it
stands, the kernel would be an array of a transposition and no layer's, and the bias that of another layer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, cast

from cnnlens.files.torch.program import Node, Program, Value, values

__all__ = ["with_linears"]

# Of each product: its operands' names, the second of which is the kernel.
_PRODUCTS = {"addmm": ("mat1", "mat2"), "mm": ("self", "mat2"), "matmul": ("self", "other")}


def with_linears(program: Program) -> Program:
    """Give the program with ``linear`` in place of products with a parameter that is transposed for them alone."""
    turned = {node.outputs[0]: kernel for node in program.nodes if (kernel := _turned(node, program)) is not None}
    if not turned:
        return program
    nodes = [_linear(node, turned, program) or node for node in program.nodes]
    read = Counter(value.name for node in nodes for value in values(node.arguments))
    read.update(program.outputs)
    spare = {name for name in turned if not read[name]}
    return program.with_nodes([node for node in nodes if spare.isdisjoint(node.outputs)], program.outputs)


def _turned(node: Node, program: Program) -> Value | None:
    """The parameter of two axes that a node exchanges, and nothing more."""
    given = node.arguments.get("self", node.arguments.get("input"))
    if not isinstance(given, Value) or given.name not in program.weights or len(node.outputs) != 1 or node.refused:
        return None
    if len(program.shapes.get(given.name) or ()) != 2:
        return None
    exchanged: Any = {
        "permute": node.arguments.get("dims"), "transpose": [node.arguments.get("dim0"), node.arguments.get("dim1")],
        "t": [1, 0],
    }.get(node.op)  # fmt: skip
    axes = cast("list[Any]", exchanged) if isinstance(exchanged, list) else []
    if len(axes) != 2 or not all(isinstance(axis, int) for axis in axes):
        return None
    first, second = axes[0] % 2, axes[1] % 2
    return given if first != second and (node.op != "permute" or first) else None


def _linear(node: Node, turned: dict[str, Value], program: Program) -> Node | None:
    """A product with such a parameter as a linear layer's call; None for any other node."""
    names = _PRODUCTS.get(node.op)
    if names is None or node.refused:
        return None
    given, kernel = (node.arguments.get(name) for name in names)
    if not isinstance(given, Value) or not isinstance(kernel, Value) or kernel.name not in turned:
        return None
    arguments: dict[str, Any] = {"input": given, "weight": turned[kernel.name]}
    if node.op == "addmm":
        bias = node.arguments.get("self")
        scaled = any(node.arguments.get(name, 1) != 1 for name in ("beta", "alpha"))
        if scaled or not isinstance(bias, Value) or len(program.shapes.get(bias.name) or ()) != 1:
            return None
        arguments["bias"] = bias
    return replace(node, target="aten.linear.default", arguments=arguments)
