"""``linear`` that a program has as a transposed kernel and a product is one layer again, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from cnnlens.files.torch.program import Node, Program, Value
from cnnlens.files.torch.program_linear import with_linears

TURNED = ("t", {})
SHAPES: dict[str, Any] = {
    "w": ({"": 5}, {"": 3}),
    "b": ({"": 5},),
    "x": ({"": 2}, {"": 3}),
    "table": ({"": 2}, {"": 5}),
}


def program(turn: tuple[str, dict[str, Any]], product: tuple[str, dict[str, Any]], outputs: tuple[str, ...]) -> Program:
    nodes = (
        Node("turn", f"aten.{turn[0]}.default", {"self": Value("w"), **turn[1]}, ("turned",), ()),
        Node("product", f"aten.{product[0]}.default", product[1], ("y",), ()),
    )
    return Program(("x",), {"w": "fc.weight", "b": "fc.bias"}, frozenset(), nodes, outputs, SHAPES, {})


ADDMM = {"self": Value("b"), "mat1": Value("x"), "mat2": Value("turned")}


@pytest.mark.parametrize("turn", [TURNED, ("permute", {"dims": [1, 0]}), ("permute", {"dims": [-1, 0]}),
                                  ("transpose", {"dim0": -2, "dim1": 1})])  # fmt: skip
@pytest.mark.parametrize(
    ("product", "bias"),
    [
        (("addmm", {**ADDMM, "beta": 1, "alpha": 1}), Value("b")),
        (("mm", {"self": Value("x"), "mat2": Value("turned")}), None),
        (("matmul", {"self": Value("x"), "other": Value("turned")}), None),
    ],
)
def test_a_linear_layer_is_one_node(turn: Any, product: Any, bias: Value | None) -> None:
    (node,) = with_linears(program(turn, product, ("y",))).nodes
    assert (node.target, node.outputs) == ("aten.linear.default", ("y",))
    assert dict(node.arguments) == {
        "input": Value("x"), "weight": Value("w"), **({} if bias is None else {"bias": bias}),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("turn", "product"),
    [
        (("permute", {"dims": [0, 1]}), ("addmm", ADDMM)),
        (("permute", {"dims": 1}), ("addmm", ADDMM)),
        (("permute", {"dims": [Value("x"), 0]}), ("addmm", ADDMM)),
        (("transpose", {"dim0": 0, "dim1": 0}), ("addmm", ADDMM)),
        (("relu", {}), ("addmm", ADDMM)),
        (TURNED, ("addmm", {**ADDMM, "beta": 2})),
        (TURNED, ("addmm", {**ADDMM, "alpha": 0.5})),
        (TURNED, ("addmm", {**ADDMM, "self": Value("table")})),
        (TURNED, ("mm", {"self": Value("turned"), "mat2": Value("x")})),
        (TURNED, ("add", {"self": Value("x"), "other": Value("turned")})),
    ],
)
def test_whatever_is_no_linear_layer_stays(turn: Any, product: Any) -> None:
    before = program(turn, product, ("y",))
    assert with_linears(before).nodes == before.nodes


def test_a_kernel_that_is_read_turned_elsewhere_stays_there() -> None:
    found = with_linears(program(TURNED, ("addmm", ADDMM), ("y", "turned"))).nodes
    assert [node.op for node in found] == ["t", "linear"]
