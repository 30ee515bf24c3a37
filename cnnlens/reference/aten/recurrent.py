"""LSTM, GRU and plain recurrent layers of torch: several layers, both directions, states in one array.

The cells are Keras' own; torch stores one kernel a layer and direction, gates beside each other in its own order, two
biases, and the states of all of them in one array ``(layers * directions, N, units)``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from cnnlens.reference.aten.arguments import IN_EVAL, Arguments, Tensor, Translation, WeightName
from cnnlens.reference.aten.registry import aten
from cnnlens.reference.keras.recurrent import Recurrent
from cnnlens.reference.operation import Array, Shape, Weights
from cnnlens.reference.stepwise import Rounding

__all__ = ["AtenRecurrent"]

# Operator -> (Keras' layer, its activation, Keras' gates in torch's order).
_KINDS: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "lstm": ("LSTM", "tanh", (0, 1, 2, 3)),
    "gru": ("GRU", "tanh", (1, 0, 2)),  # torch: r, z, n
    "rnn_tanh": ("SimpleRNN", "tanh", (0,)),
    "rnn_relu": ("SimpleRNN", "relu", (0,)),
}


class AtenRecurrent(Recurrent):
    """Runs layers and directions one after another; weights are Keras', a prefix ``0/``, ``1/`` … a run.

    Called with the sequence and the initial states. Gives the outputs of the last layer and the last states of all.
    """

    # The states have the layers on their first axis, so a batch cannot be cut by slices of it.
    axes = (0,)

    def __init__(self, kind: str, config: Mapping[str, Any], runs: tuple[int, int], batch_first: bool) -> None:
        super().__init__(kind, {**config, "return_sequences": True, "return_state": True}, (3,))
        self.layers, self.directions = runs
        self.batch_first = batch_first

    def output_shape(self, *args: Any, **kwargs: Any) -> Any:
        x, *states = cast("tuple[Shape, ...]", args)
        if len(x) != 3:
            raise self.refuse(f"it needs a sequence of 3 axes, not an input of {len(x)}")
        return [(*x[:2], self.cell.units * self.directions), *states]

    def rounded(self, rounding: Rounding, weights: Weights, *args: Any, **kwargs: Any) -> Any:
        x, *initial = cast("tuple[Array, ...]", args)
        x = x if self.batch_first else np.swapaxes(x, 0, 1)
        last: list[list[Array]] = [[] for _ in initial]
        for layer in range(self.layers):
            made: list[Array] = []
            for direction in range(self.directions):
                number = layer * self.directions + direction
                found = {
                    name.removeprefix(f"{number}/"): array
                    for name, array in weights.items()
                    if name.startswith(f"{number}/")
                }
                single = copy.copy(self)
                single.backwards = direction == 1
                output, states = single.run(found, x, [state[number] for state in initial], rounding)
                made.append(output[:, ::-1] if direction else output)
                for place, state in zip(last, states, strict=True):
                    place.append(state)
            x = np.concatenate(made, axis=-1)
        return [x if self.batch_first else np.swapaxes(x, 0, 1), *(np.stack(states) for states in last)]


@aten(*_KINDS)
def _recurrent(args: Arguments) -> Translation:
    if args.overload != "input":
        raise args.refuse("packed sequences are not computed")
    if args.flag("train") and args.number("dropout", 0.0):
        raise args.refuse(f"it drops values at random (training); {IN_EVAL}")
    kind, activation, order = _KINDS[args.name]
    params: list[Any] = list(args.get("params", []))
    layers, directions = args.integer("num_layers", 1), 1 + args.flag("bidirectional")
    biased = args.flag("has_biases", True)
    each = 4 if biased else 2
    if any(isinstance(one, Tensor) for one in params):
        raise args.refuse(
            "its weights are computed in the graph; store them plain "
            "(torch.nn.utils.parametrize.remove_parametrizations, torch.nn.utils.remove_weight_norm)"
        )
    if len(params) != layers * directions * each or not all(isinstance(one, WeightName) for one in params):
        raise args.refuse(f"{layers * directions * each} weights of the layer were expected (no projections)")
    names = [cast("WeightName", one).name for one in params]
    given_states = args.get("hx")
    states: list[Any] = list(given_states) if isinstance(given_states, list) else [given_states]  # type: ignore[arg-type]
    if not all(isinstance(state, Tensor) for state in states):
        raise args.refuse("its initial states must be tensors")
    units = args.known(WeightName(names[1]))[1]
    config = {"units": units, "activation": activation, "use_bias": biased, "reset_after": True}
    operation = AtenRecurrent(kind, config, (layers, directions), args.flag("batch_first"))

    def turned(array: Array) -> Array:
        """Gates ``(gates * units, ...)`` in Keras' order, on the last axis."""
        gates = np.reshape(np.asarray(array), (len(order), -1, *array.shape[1:]))[list(order)]
        return np.reshape(gates, array.shape).T

    def unpack(arrays: Mapping[str, Array]) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for number in range(layers * directions):
            some = [turned(arrays[name]) for name in names[number * each : (number + 1) * each]]
            found[f"{number}/kernel"], found[f"{number}/recurrent_kernel"] = some[:2]
            if biased:
                # Only a GRU keeps both biases apart: its reset gate stands between them.
                biases = [bias.astype(np.float64) for bias in some[2:]]
                found[f"{number}/bias"] = np.stack(some[2:]) if kind == "GRU" else biases[0] + biases[1]
        return found

    biases = ("input_bias", "recurrent_bias") if kind == "GRU" else ("bias", "bias")
    roles = ["kernel", "recurrent_kernel", *(biases if biased else ())]
    weights = {name: (kind, role) for name, role in zip(names, roles * (layers * directions), strict=True)}
    return Translation(operation, (args.tensor(), *states), weights, unpack)
