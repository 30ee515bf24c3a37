"""An exported graph without writes in place and without nodes that compute nothing.

``relu_(x)`` changes its operand, so that every later use of ``x`` means the result. Here such a node becomes a plain
``relu`` and later uses are renamed. A tensor that is read after it was changed through another view of it (a slice,
a transpose) has no such name: its reader is refused, and says why.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from cnnlens.files.torch.program import Node, Program, Value, map_values, values
from cnnlens.text import printable

__all__ = ["straightened"]

# Operators whose result is (or may be) their first operand's memory seen in another way.
_VIEWS = frozenset(
    "view view_as reshape reshape_as flatten unflatten ravel transpose permute movedim moveaxis swapaxes swapdims t "
    "numpy_T mT mH adjoint slice select narrow squeeze unsqueeze expand expand_as broadcast_to chunk split "
    "split_with_sizes tensor_split hsplit vsplit dsplit unbind unfold diagonal as_strided _unsafe_view real imag "
    "unsafe_chunk unsafe_split unsafe_split_with_sizes atleast_1d atleast_2d atleast_3d to type_as float double half "
    "_reshape_alias view_as_real view_as_complex contiguous".split()
)
# Operators whose result is their first operand itself, number for number and in the same memory.
_SAME = frozenset(
    "detach alias dropout feature_dropout alpha_dropout feature_alpha_dropout lift lift_fresh requires_grad".split()
)
# Of these, those that a person never wrote as a step of the model, and what export adds to constants.
_SILENT = frozenset("detach alias contiguous lift lift_fresh requires_grad".split())
# Operators that copy: silent where what they copy is a weight.
_COPIES = frozenset(("lift_fresh_copy", "clone"))

# Of operators that change their first operand, how the one is called that leaves it: where it is not without the mark
# alone, its arguments that have another name, and those that have no such twin.
_OVERLOADS = {
    "pow_.Scalar": "Tensor_Scalar", "pow_.Tensor": "Tensor_Tensor", "float_power_.Scalar": "Tensor_Scalar",
    "float_power_.Tensor": "Tensor_Tensor", "floor_divide_.Tensor": "default", "ldexp_.default": "Tensor",
    "transpose_.default": "int", "bernoulli_.float": "p",
}  # fmt: skip
_ARGUMENTS = {f"{kind}dropout": {"self": "input"} for kind in ("", "feature_", "alpha_", "feature_alpha_")}
_ALONE = frozenset(
    "fill_diagonal normal _no_grad_normal _no_grad_fill _no_grad_zero _no_grad_uniform _fill_mem_eff_dropout_mask "
    "_sobol_engine_initialize_state _sobol_engine_scramble _sobol_engine_ff".split()
)
_ODD = frozenset(("copy_.Tensor", "copy_.int", "copy_.float", "set_.source_Tensor_storage_offset",
                  "_index_put_impl_.hacked_twin"))  # fmt: skip
_DECOMPOSED = "export the model again, with .run_decompositions({})"


def plain_form(node: Node) -> Node:
    """Give the operator that computes what ``node`` does and changes no operand; refused where torch has none."""
    name, _, overload = node.target.partition(".")[2].partition(".")
    overload = overload or "default"
    if not node.in_place:
        writes = overload.endswith("out") and "out" in node.arguments
        return (
            replace(node, refused=node.refused or f"it writes into a tensor (out=); {_DECOMPOSED}") if writes else node
        )
    if node.op in _ALONE or f"{name}.{overload}" in _ODD:
        return replace(
            node, refused=node.refused or "it changes its operand, and PyTorch has no form of it that does not"
        )
    renamed = _ARGUMENTS.get(node.op, {})
    target = f"aten.{node.op}.{_OVERLOADS.get(f'{name}.{overload}', overload)}"
    return replace(node, target=target, arguments={renamed.get(key, key): one for key, one in node.arguments.items()})


class _Memory:
    """Which tensors share memory: exactly (one name for the same numbers) or as views."""

    def __init__(self) -> None:
        self._storage: dict[str, str] = {}
        self._same: dict[str, str] = {}
        self._of_storage: dict[str, set[str]] = {}
        self.now: dict[str, str] = {}  # what a name means at this point of the program
        self.stale: dict[str, str] = {}  # names whose numbers are lost, and the node that changed them

    def new(self, name: str, like: str | None = None, same: bool = False) -> None:
        storage = self._storage.get(like, like) if like is not None else name
        self._storage[name] = storage
        self._same[name] = self._same.get(like, like) if like is not None and same else name
        self._of_storage.setdefault(storage, set()).add(name)
        self.now[name] = name

    def meaning(self, part: Any) -> Any:
        """A tensor under the name that its numbers have now; anything else as it is."""
        return Value(self.now.get(part.name, part.name)) if isinstance(part, Value) else part

    def write(self, name: str, result: str, node: str) -> None:
        """``name``'s memory now holds ``result``."""
        for other in self._of_storage.get(self._storage.get(name, name), {name}):
            if self._same.get(other) == self._same.get(name):
                self.now[other] = result
                self.stale.pop(other, None)
            else:
                self.stale[other] = node
        self.new(result, name, same=True)

    def lose(self, name: str, node: str) -> None:
        """``name``'s memory was changed by ``node``, which says nothing of the result."""
        self.stale.update(dict.fromkeys(self._of_storage.get(self._storage.get(name, name), {name}), node))


def straightened(program: Program) -> Program:
    """Rewrite ``program`` with every node that matters, none in place, its weights' copies taken away."""
    memory = _Memory()
    for name in (*program.inputs, *program.weights):
        memory.new(name)
    nodes: list[Node] = []
    changed: dict[str, None] = {}
    for node in program.nodes:
        read = [value.name for value in values(node.arguments)]
        lost = [name for name in read if name in memory.stale]
        arguments = map_values(node.arguments, memory.meaning)
        first = read[0] if read else None
        if first is not None and _silent(node, memory.now.get(first, first) in program.weights):
            made = node.outputs[0]
            memory.new(made, None if node.op in _COPIES else first, same=node.op in _SAME)
            memory.now[made] = memory.now.get(first, first)
            if lost:
                memory.stale[made] = memory.stale[lost[0]]
            continue
        plain = plain_form(replace(node, arguments=arguments))
        if lost:
            how = f"'{printable(memory.stale[lost[0]])}' changed in place through a view of it or in a list"
            plain = replace(plain, refused=f"it reads a tensor that {how}; {_DECOMPOSED}, or write it without")
        nodes.append(plain)
        if node.in_place and not node.outputs:
            for name in read:
                memory.lose(name, node.name)
        elif node.in_place and first is not None:
            written = memory.now.get(first, first)
            if written in program.weights and first in program.weights:
                changed[program.weights[written]] = None
            memory.write(first, node.outputs[0], node.name)
        else:
            like = first if node.op in _VIEWS or node.op in _SAME else None
            for made in node.outputs:
                memory.new(made, like, same=node.op in _SAME)
    outputs = [memory.now.get(name, name) for name in program.outputs]
    lost_outputs = [name for name in program.outputs if name in memory.stale]
    kept = _used(nodes, outputs)
    notes = list(program.notes)
    if changed:
        shown = ", ".join(printable(name, 60) for name in list(changed)[:3])
        notes.append(f"the model changes {shown} as it runs; here every run begins with what is stored")
    if lost_outputs:
        notes.append("an output is changed in place through a view of it, which is not followed")
    return replace(program.with_nodes(kept, outputs), notes=tuple(notes))


def _silent(node: Node, of_weight: bool) -> bool:
    if not node.target.startswith("aten.") or len(node.outputs) != 1:
        return False
    return node.op in _SILENT or (node.op in _COPIES and of_weight)


def _used(nodes: Iterable[Node], outputs: Iterable[str]) -> list[Node]:
    """The nodes that an output depends on: assertions and the arithmetic of sizes go."""
    wanted = set(outputs)
    kept: list[Node] = []
    for node in reversed(list(nodes)):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(value.name for value in values(node.arguments))
    return kept[::-1]
