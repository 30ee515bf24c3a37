"""Faults of recurrent layers: gates in another order, the reset gate's place, biases left out, the other direction.

Frameworks put the same gates beside each other in different orders (Keras' GRU has z, r, h, PyTorch's r, z, n), store
one bias or two, and let a GRU's reset gate multiply the state before its product or after it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import permutations
from typing import Any, cast

import numpy as np

from cnnlens.checking.faults.problem import Hypothesis, Problem
from cnnlens.checking.noise.case import Array, Case, Picked
from cnnlens.reference.arithmetic.functions import named_activation
from cnnlens.reference.keras.cells import GRUCell
from cnnlens.reference.keras.recurrent import Bidirectional, Recurrent
from cnnlens.reference.operation import Operation

__all__ = ["hypotheses"]

_GATES = {4: "ifco", 3: "zrh"}
_ROLES = ("kernel", "recurrent_kernel", "bias")
_SHOWN = {"kernel": "the kernel", "recurrent_kernel": "the recurrent kernel", "bias": "the bias"}


def hypotheses(problem: Problem) -> Iterator[Hypothesis]:
    """Suggest other gates, biases, directions and activations."""
    operation = problem.case.operation
    operation = operation.inner if isinstance(operation, Picked) else operation
    if not isinstance(operation, Recurrent | Bidirectional):
        return
    cell = cast("Any", operation.forward if isinstance(operation, Bidirectional) else operation).cell
    gates, units = int(getattr(cell, "gates", 1)), int(cell.units)
    if gates in _GATES:
        yield from _orders(gates, units)
    yield from _biases(gates, units, cell)
    yield from _squares(gates, units)
    if isinstance(cell, GRUCell):
        yield _reset(cell)
    yield from _settings(operation, cell)


def _weights(change: Callable[[Array], Array], *roles: str) -> Callable[[Case], Case]:
    """Change every weight of these roles, in each direction and layer."""

    def changed(case: Case) -> Case:
        weights = {
            name: change(np.asarray(array, np.float64)) if name.rsplit("/", 1)[-1] in roles else array
            for name, array in case.weights.items()
        }
        return replace(case, weights=weights)

    return changed


def _by_gate(function: Callable[[list[Array]], list[Array]], gates: int, units: int) -> Callable[[Array], Array]:
    def change(array: Array) -> Array:
        if array.shape[-1] != gates * units:
            raise ValueError("no gates side by side")
        return np.concatenate(function(np.split(array, gates, axis=-1)), axis=-1)

    return change


def _orders(gates: int, units: int) -> Iterator[Hypothesis]:
    letters = _GATES[gates]
    for order in permutations(range(gates)):
        apart = [place for place in range(gates) if order[place] != place]
        if not apart:
            continue
        change = _by_gate(lambda parts, order=order: [parts[place] for place in order], gates, units)
        if len(apart) == 2:
            first, second = (letters[place] for place in apart)
            said = f"the gates {first} and {second} are exchanged"
            for role in _ROLES:
                yield Hypothesis(f"{said} in {_SHOWN[role]} alone", _weights(change, role))
        else:
            said = f"the gates stand in the order {', '.join(letters[place] for place in order)}"
        said += f", where the model has {', '.join(letters)}"
        yield Hypothesis(said, _weights(change, *_ROLES))


def _biases(gates: int, units: int, cell: Any) -> Iterator[Hypothesis]:
    if not cell.use_bias:
        return
    for factor, said in ((0.0, "dropped"), (2.0, "added twice")):
        change = _weights(lambda bias, factor=factor: bias * factor, "bias")
        yield Hypothesis(f"the bias was {said}", change, claim="the bias")
    if getattr(cell, "reset_after", False):
        for row, name in enumerate(("input", "recurrent")):
            kept = np.arange(2)[:, None] != row
            change = _weights(lambda bias, kept=kept: bias * kept, "bias")
            yield Hypothesis(f"the bias of the {name} product was dropped", change)
        change = _weights(lambda bias: bias[::-1], "bias")
        yield Hypothesis("the biases of the input and of the recurrent product are exchanged", change)
        change = _weights(lambda bias: np.stack([bias.sum(axis=0), np.zeros_like(bias[0])]), "bias")
        yield Hypothesis("the bias of the recurrent product is added outside the reset gate", change)
    if gates == 4:
        for step, said in ((1.0, "added to"), (-1.0, "missing in")):
            forget = _by_gate(lambda parts, step=step: [p + step * (n == 1) for n, p in enumerate(parts)], gates, units)
            yield Hypothesis(f"one is {said} the bias of the forget gate", _weights(forget, "bias"))


def _squares(gates: int, units: int) -> Iterator[Hypothesis]:
    change = _by_gate(lambda parts: [np.swapaxes(part, -1, -2) for part in parts], gates, units)
    yield Hypothesis("the recurrent kernel of each gate is transposed", _weights(change, "recurrent_kernel"))
    zero = _weights(np.zeros_like, "recurrent_kernel")
    yield Hypothesis("the state is not fed back (the recurrent kernel is zero)", zero)


def _reset(cell: GRUCell) -> Hypothesis:
    """The other place of the reset gate; two rows of biases become their sum, one becomes the input's."""
    after = cell.reset_after

    def bias(array: Array) -> Array:
        return array.sum(axis=0) if after else np.stack([array, np.zeros_like(array)])

    def change(case: Case) -> Case:
        case = _weights(bias, "bias")(case) if cell.use_bias else case
        return _with_operation(case, _in_each(lambda layer: setattr(layer.cell, "reset_after", not after)))

    ways = ("after", "before") if after else ("before", "after")
    said = f"the reset gate multiplies the state {ways[1]} its product, where the model says {ways[0]} (reset_after)"
    return Hypothesis(said, change)


def _in_each(change: Callable[[Any], None]) -> Callable[[Operation], Operation]:
    """Copy a layer and change it, in both directions where it has two."""

    def single(layer: Recurrent) -> Recurrent:
        layer = copy.copy(layer)
        layer.cell = copy.copy(layer.cell)
        change(layer)
        return layer

    def changed(operation: Operation) -> Operation:
        if isinstance(operation, Bidirectional):
            operation = copy.copy(operation)
            operation.forward, operation.backward = single(operation.forward), single(operation.backward)
            return operation
        return single(cast("Recurrent", operation))

    return changed


def _with_operation(case: Case, change: Callable[[Operation], Operation]) -> Case:
    operation = case.operation
    if isinstance(operation, Picked):
        picked = copy.copy(operation)
        picked.inner = change(operation.inner)
        return replace(case, operation=picked)
    return replace(case, operation=change(operation))


def _settings(operation: Recurrent | Bidirectional, cell: Any) -> Iterator[Hypothesis]:
    def with_setting(name: str, value: Any) -> Callable[[Case], Case]:
        return lambda case: _with_operation(case, _in_each(lambda layer: setattr(layer.cell, name, value)))

    for name, what in (("activation", "activation"), ("recurrent", "recurrent activation")):
        own = getattr(cell, name)
        for version in (3, 2):  # hard_sigmoid changed its meaning
            for other in ("linear", "relu", "tanh", "sigmoid", "hard_sigmoid"):
                if (version == 3 or other == "hard_sigmoid") and other != (own.name if own is not None else "linear"):
                    said = f"the {what} is {other}{' of Keras 2' if version == 2 else ''}"
                    said += f" where the model says {own.name if own is not None else 'linear'}"
                    yield Hypothesis(said, with_setting(name, named_activation(other, (version,))))

    def turn(layer: Any) -> None:
        layer.backwards = not layer.backwards

    if isinstance(operation, Bidirectional):
        yield from _directions(operation)
    else:
        said = "the sequence is gone through in the other direction"
        yield Hypothesis(said, lambda case: _with_operation(case, _in_each(turn)))


def _directions(operation: Bidirectional) -> Iterator[Hypothesis]:
    def exchanged(case: Case) -> Case:
        names: Mapping[str, str] = {"forward_layer": "backward_layer", "backward_layer": "forward_layer"}
        weights = {
            "/".join([names.get(head, head), *rest]): array
            for (head, *rest), array in ((name.split("/"), array) for name, array in case.weights.items())
        }
        return replace(case, weights=weights)

    yield Hypothesis("the weights of the two directions are exchanged", exchanged)

    def forwards(layer: Operation) -> Operation:
        changed = copy.copy(cast("Bidirectional", layer))
        changed.backward = copy.copy(changed.backward)
        changed.backward.backwards = not changed.backward.backwards
        return changed

    said = "the second direction goes through the sequence in the same direction as the first"
    yield Hypothesis(said, lambda case: _with_operation(case, forwards))
