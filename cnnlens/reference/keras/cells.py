"""The cells of recurrent layers: one step each, from an input and the states before it to an output and new states.

LSTM (gates i, f, c, o), GRU (z, r, h, the reset before or after the product), SimpleRNN, ConvLSTM and stacks of them.
Dropout is for training. Source: the classes of these names in Keras (``keras.src.layers.rnn``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np

from cnnlens.errors import UnsupportedLayerError
from cnnlens.reference.arithmetic.functions import Activation, find_activation
from cnnlens.reference.keras.convolution import Convolution
from cnnlens.reference.keras.names import numbered
from cnnlens.reference.operation import Array, Shape, Weights, whole
from cnnlens.reference.stepwise import EXACT, Rounding, dense
from cnnlens.text import printable

__all__ = ["Cell", "Config", "States", "below", "make_cell", "own_entry"]

Config: TypeAlias = Mapping[str, Any]
States: TypeAlias = list[Array]

_KERAS = ("keras", "tf_keras", "tensorflow")


class Cell:
    """Computes one step of a recurrent layer.

    Attributes:
        units: The width of the output of a step.
        states: How many states it carries.
    """

    def __init__(self, kind: str, config: Config, keras_version: tuple[int, ...]) -> None:
        self.kind = kind
        self.units = 0
        self.states = 1
        self.activation = _elementwise(config.get("activation", "tanh"), keras_version)
        self.recurrent = _elementwise(config.get("recurrent_activation", "sigmoid"), keras_version)
        self.use_bias = bool(config.get("use_bias", True))

    def feature_shape(self, shape: Shape) -> Shape:
        """Give the shape of a step's output (and of each state), batch first, from that of its input."""
        return (shape[0], self.units)

    def state_shapes(self, shape: Shape) -> list[Shape]:
        """Give the shapes of the states for an input of ``shape``."""
        return [self.feature_shape(shape)] * self.states

    def project(self, weights: Weights, x: Array, rounding: Rounding = EXACT) -> Array:
        """Compute what the inputs of all steps give that no state has a part in: ``(N, T, ...)`` to ``(N, T, ...)``."""
        raise NotImplementedError

    def step(self, weights: Weights, x: Array, states: States, rounding: Rounding = EXACT) -> tuple[Array, States]:
        """Compute a step: from what ``project`` made of its input and the states before, the output and those after."""
        raise NotImplementedError


def _elementwise(spec: Any, keras_version: tuple[int, ...]) -> Activation | None:
    found = find_activation(spec, keras_version)
    if found is not None and found.halved is not None:
        raise UnsupportedLayerError(f"the activation {found.name} halves its input, which a recurrent cell cannot use")
    return found


def _activated(activation: Activation | None, x: Array, rounding: Rounding) -> Array:
    if activation is None:
        return x
    return rounding.function(activation, x, activation.apply(np.ascontiguousarray(x)))


class _MatrixCell(Cell):
    """A cell whose gates are matrix products, ``gates`` of them side by side in each kernel."""

    gates = 1

    def __init__(self, kind: str, config: Config, keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.units = whole(config.get("units"), "units")

    def bias(self, weights: Weights) -> Array | None:
        return _of_shape(weights["bias"], (self.gates * self.units,), "bias") if self.use_bias else None

    def project(self, weights: Weights, x: Array, rounding: Rounding = EXACT) -> Array:
        if x.ndim != 3:
            raise UnsupportedLayerError(f"it needs an input (N, T, C), not one of shape {x.shape}")
        kernel = _of_shape(weights["kernel"], (x.shape[-1], self.gates * self.units), "kernel")
        projected = dense(x.reshape(-1, x.shape[-1]), kernel, self.bias(weights), rounding)
        return projected.reshape(*x.shape[:2], -1)

    def recurrent_kernel(self, weights: Weights) -> Array:
        return _of_shape(weights["recurrent_kernel"], (self.units, self.gates * self.units), "recurrent kernel")

    def split(self, x: Array) -> list[Array]:
        """The parts of the gates."""
        return [x[..., gate * self.units : (gate + 1) * self.units] for gate in range(self.gates)]


def _of_shape(array: Array, shape: tuple[int, ...], what: str) -> Array:
    if array.shape != shape:
        raise ValueError(f"a {what} of shape {shape} was expected, {array.shape} came")
    return array


class SimpleRNNCell(_MatrixCell):
    """``h = activation(x W + h R + b)``."""

    def step(self, weights: Weights, x: Array, states: States, rounding: Rounding = EXACT) -> tuple[Array, States]:
        inner = dense(states[0], self.recurrent_kernel(weights), None, rounding)
        h = _activated(self.activation, rounding.value(x + inner), rounding)
        return h, [h]


class LSTMCell(_MatrixCell):
    """Gates i, f, c, o: ``c = f c + i activation(c')``, ``h = o activation(c)``; states h, c."""

    gates = 4

    def __init__(self, kind: str, config: Config, keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.states = 2

    def step(self, weights: Weights, x: Array, states: States, rounding: Rounding = EXACT) -> tuple[Array, States]:
        inner = dense(states[0], self.recurrent_kernel(weights), None, rounding)
        return _lstm(self, self.split(rounding.value(x + inner)), states[1], rounding)


def _lstm(cell: Cell, parts: Sequence[Array], carried: Array, rounding: Rounding) -> tuple[Array, States]:
    value = rounding.value
    i, f, o = (_activated(cell.recurrent, parts[gate], rounding) for gate in (0, 1, 3))
    c = value(value(f * carried) + value(i * _activated(cell.activation, parts[2], rounding)))
    h = value(o * _activated(cell.activation, c, rounding))
    return h, [h, c]


class GRUCell(_MatrixCell):
    """Gates z, r, h: ``h = z h + (1 - z) activation(h')``; r multiplies the state before its product, or after it.

    With ``reset_after`` the bias has two rows, the second for the recurrent product.
    """

    gates = 3

    def __init__(self, kind: str, config: Config, keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        # Keras before 2.1.3 knew no reset_after; every later file says it.
        self.reset_after = bool(config.get("reset_after", False))

    def _both(self, weights: Weights) -> Array:
        return _of_shape(weights["bias"], (2, self.gates * self.units), "bias")

    def bias(self, weights: Weights) -> Array | None:
        if self.use_bias and self.reset_after:
            return self._both(weights)[0]
        return super().bias(weights)

    def step(self, weights: Weights, x: Array, states: States, rounding: Rounding = EXACT) -> tuple[Array, States]:
        h, kernel, units, value = states[0], self.recurrent_kernel(weights), self.units, rounding.value
        x_z, x_r, x_h = self.split(x)
        if self.reset_after:
            inner = dense(h, kernel, self._both(weights)[1] if self.use_bias else None, rounding)
        else:
            inner = dense(h, kernel[:, : 2 * units], None, rounding)
        z = _activated(self.recurrent, value(x_z + inner[:, :units]), rounding)
        r = _activated(self.recurrent, value(x_r + inner[:, units : 2 * units]), rounding)
        if self.reset_after:
            inner_h = value(r * inner[:, 2 * units :])
        else:
            inner_h = dense(value(r * h), kernel[:, 2 * units :], None, rounding)
        candidate = _activated(self.activation, value(x_h + inner_h), rounding)
        h = value(value(z * h) + value(value(1 - z) * candidate))
        return h, [h]


class ConvLSTMCell(Cell):
    """An LSTM whose products are convolutions: the input's as configured, the state's ``same`` at stride 1."""

    def __init__(self, kind: str, config: Config, keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        rank = next((rank for rank in (1, 2, 3) if f"{rank}D" in kind), 2)
        self.states = 2
        self.units = whole(config.get("filters"), "filters")
        shared = {
            "kernel_size": config.get("kernel_size"),
            "data_format": config.get("data_format"),
            "filters": 4 * self.units,
        }
        spacing = {name: config.get(name, 1) for name in ("strides", "dilation_rate")}
        self.inputs = Convolution(
            f"Conv{rank}D", {**shared, **spacing, "padding": config.get("padding", "valid"), "use_bias": self.use_bias},
            keras_version,
        )  # fmt: skip
        self.inner = Convolution(f"Conv{rank}D", {**shared, "padding": "same", "use_bias": False}, keras_version)
        self.axis = 1 if self.inputs.channels_first else -1

    def feature_shape(self, shape: Shape) -> Shape:
        made = list(self.inputs.output_shape(shape))
        made[self.axis] = self.units
        return tuple(made)

    def project(self, weights: Weights, x: Array, rounding: Rounding = EXACT) -> Array:
        if x.ndim != self.inputs.rank + 3:
            raise UnsupportedLayerError(f"it needs an input of {self.inputs.rank + 3} axes, not one of shape {x.shape}")
        made = _convolved(self.inputs, weights, x.reshape(-1, *x.shape[2:]), rounding)
        return made.reshape(*x.shape[:2], *made.shape[1:])

    def step(self, weights: Weights, x: Array, states: States, rounding: Rounding = EXACT) -> tuple[Array, States]:
        inner = _convolved(self.inner, {"kernel": weights["recurrent_kernel"]}, states[0], rounding)
        return _lstm(self, np.split(rounding.value(x + inner), 4, axis=self.axis), states[1], rounding)


def _convolved(operation: Convolution, weights: Weights, x: Array, rounding: Rounding) -> Array:
    def spread() -> Array:
        return np.sqrt(operation.linear({name: np.square(array) for name, array in weights.items()}, np.square(x)))

    return rounding.total(operation.linear(weights, x), spread)


class StackedCells(Cell):
    """Cells one on top of another in each step; their states one after another."""

    def __init__(self, cells: Sequence[tuple[str, Cell]]) -> None:
        self.kind = "StackedRNNCells"
        self.cells = cells
        self.units = cells[-1][1].units
        self.states = sum(cell.states for _, cell in cells)

    def feature_shape(self, shape: Shape) -> Shape:
        for _, cell in self.cells:
            shape = cell.feature_shape(shape)
        return shape

    def state_shapes(self, shape: Shape) -> list[Shape]:
        found: list[Shape] = []
        for _, cell in self.cells:
            found += cell.state_shapes(shape)
            shape = cell.feature_shape(shape)
        return found

    def project(self, weights: Weights, x: Array, rounding: Rounding = EXACT) -> Array:
        name, first = self.cells[0]
        return first.project(below(weights, f"{name}/"), x, rounding)

    def step(self, weights: Weights, x: Array, states: States, rounding: Rounding = EXACT) -> tuple[Array, States]:
        after: States = []
        for number, (name, cell) in enumerate(self.cells):
            own = below(weights, f"{name}/")
            if number:
                x = cell.project(own, x[:, None], rounding)[:, 0]
            x, new = cell.step(own, x, states[len(after) : len(after) + cell.states], rounding)
            after += new
        return x, after


def below(weights: Weights, prefix: str) -> dict[str, Array]:
    """Give the weights whose names begin with ``prefix``, without it."""
    return {name[len(prefix) :]: array for name, array in weights.items() if name.startswith(prefix)}


_CELLS: Mapping[str, type[Cell]] = {
    "LSTMCell": LSTMCell,
    "GRUCell": GRUCell,
    "SimpleRNNCell": SimpleRNNCell,
    **{f"ConvLSTM{rank}DCell": ConvLSTMCell for rank in (1, 2, 3)},
}


def make_cell(entry: Any, keras_version: tuple[int, ...]) -> Cell:
    """Build the cell of an entry in a configuration, or of a list of entries.

    Raises:
        UnsupportedLayerError: It is none of Keras' own.
    """
    if isinstance(entry, list):  # RNN([cell, cell]) of Keras 2
        kind, config = "StackedRNNCells", cast("Config", {"cells": entry})
    else:
        kind, config = own_entry(entry, "cell")
    if kind == "StackedRNNCells":
        cells = cast("list[Any]", config.get("cells") or [])
        if not cells:
            raise UnsupportedLayerError("it stacks no cells")

        named = numbered([cast("Config", cell) for cell in cells])
        return StackedCells([(f"cells/{name}", make_cell(cell, keras_version)) for name, cell in named])
    if kind not in _CELLS:
        raise UnsupportedLayerError(f"its cell {printable(kind)} is none of Keras' own")
    return _CELLS[kind](kind, config, keras_version)


def own_entry(entry: Any, what: str) -> tuple[str, Config]:
    """Read class name and config of a nested entry that names a class of Keras' own."""
    if not isinstance(entry, Mapping):
        raise UnsupportedLayerError(f"its {what} is not said")
    found = cast("Config", entry)
    kind, config, module = found.get("class_name"), found.get("config"), found.get("module")
    if not isinstance(kind, str) or not isinstance(config, Mapping):
        raise UnsupportedLayerError(f"its {what} is not said")
    if (isinstance(module, str) and module.split(".", 1)[0] not in _KERAS) or found.get("registered_name") not in (
        None,
        kind,
    ):
        raise UnsupportedLayerError(f"its {what} {printable(kind)} is none of Keras' own")
    return kind, cast("Config", config)
