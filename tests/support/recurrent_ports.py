"""Recurrent layers as Keras and as PyTorch hold them, ported rightly and with the mistakes that porters make.

The arrays are PyTorch's; what Keras should hold is written out here by hand, not taken from the layout table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnlens.files.keras.network import keras_network
from cnnlens.network.network import Network
from cnnlens.testing import MemoryModel
from tests.support.diff_models import state_dict

Array = np.ndarray
State = dict[str, Array]

GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}
SIZES = {"steps": 6, "inputs": 5, "units": 7}
_PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def torch_state(kind: str, levels: int = 1, both: bool = False, seed: int = 0, units: int = 7) -> State:
    """What a PyTorch module ``rnn`` of this kind holds."""
    random = np.random.default_rng([seed, levels, both, GATES[kind]])
    rows = GATES[kind] * units
    state: State = {}
    for level in range(levels):
        inputs = SIZES["inputs"] if not level else units * (1 + both)
        for suffix in ("", "_reverse") if both else ("",):
            for part, shape in zip(_PARTS, ((rows, inputs), (rows, units), (rows,), (rows,)), strict=True):
                array = random.uniform(-0.5, 0.5, shape).astype(np.float32)
                state[f"rnn.{part}_l{level}{suffix}"] = array
    return state


def in_order(array: Array, kind: str, order: tuple[int, ...]) -> Array:
    """PyTorch's gates, one below the other, in another order."""
    gates = array.reshape(GATES[kind], -1, *array.shape[1:])
    return np.concatenate([gates[gate] for gate in order])


RIGHT = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "SimpleRNN": (0,)}


def keras_arrays(
    kind: str, state: State, suffix: str = "_l0", order: tuple[int, ...] | None = None,
    bias: Callable[[Array, Array], Array] | None = None,
) -> State:  # fmt: skip
    """Keras' kernel, recurrent kernel and bias of one cell; ``order`` and ``bias`` say what a porter made of it."""
    parts = [in_order(state[f"rnn.{part}{suffix}"], kind, order or RIGHT[kind]) for part in _PARTS]
    joined = bias or (lambda i, h: np.stack([i, h]) if kind == "GRU" else i + h)
    made = {"kernel": parts[0].T, "recurrent_kernel": parts[1].T, "bias": joined(parts[2], parts[3])}
    return {role: np.ascontiguousarray(array) for role, array in made.items()}


def keras_model(kind: str, cells: Mapping[str, State], both: bool = False) -> Network:
    """A Keras model of one layer for each level: ``cells`` by the suffixes of PyTorch's names."""
    units = next(iter(cells.values()))["recurrent_kernel"].shape[0]
    shape = [None, SIZES["steps"], SIZES["inputs"]]
    entries: list[dict[str, Any]] = [
        {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": shape, "name": "i"}}
    ]
    arrays: dict[tuple[str, ...], State] = {}
    for suffix in [suffix for suffix in cells if not suffix.endswith("_reverse")]:
        config = {"name": f"rnn{suffix}", "units": units, "return_sequences": True, "dtype": "float32",
                  "activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True,
                  **({"reset_after": True} if kind == "GRU" else {})}  # fmt: skip
        entry = {"module": "keras.layers", "class_name": kind, "config": config}
        if not both:
            entries.append(entry)
            arrays[f"rnn{suffix}", "cell"] = cells[suffix]
            continue
        backwards = {**entry, "config": {**config, "name": f"back{suffix}", "go_backwards": True}}
        name = f"both{suffix}"
        wrapped = {"name": name, "layer": entry, "backward_layer": backwards, "merge_mode": "concat",
                   "dtype": "float32"}  # fmt: skip
        entries.append({"module": "keras.layers", "class_name": "Bidirectional", "config": wrapped})
        arrays[name, "forward_layer", "cell"] = cells[suffix]
        arrays[name, "backward_layer", "cell"] = cells[f"{suffix}_reverse"]
    return keras_network(MemoryModel({"class_name": "Sequential", "config": {"name": "m", "layers": entries}}, arrays))  # type: ignore[arg-type]


def ported(kind: str, state: State, both: bool = False) -> Network:
    """The right port of a state dict."""
    suffixes = [name.removeprefix("rnn.weight_ih") for name in state if name.startswith("rnn.weight_ih")]
    return keras_model(kind, {suffix: keras_arrays(kind, state, suffix) for suffix in suffixes}, both)


def torch_network(state: State) -> Network:
    return state_dict(state)


def _rows(change: Callable[[Array, Array], tuple[Array, Array]]) -> Callable[[Array, Array], Array]:
    return lambda i, h: np.stack(change(i, h))


def _with_kernel(kind: str, state: State, change: Callable[[Array], Array]) -> State:
    right = keras_arrays(kind, state)
    return {**right, "recurrent_kernel": np.ascontiguousarray(change(right["recurrent_kernel"]))}


def _blocks(kind: str) -> Callable[[Array], Array]:
    """Each gate's square block as it was, where it should have been transposed."""
    return lambda kernel: np.concatenate([block.T for block in np.split(kernel, GATES[kind], axis=1)], axis=1)


# Kind, what Keras then holds of PyTorch's arrays, the arrays that are wrong, and the words that must name it.
MISTAKES: dict[str, tuple[str, Callable[[State], State], tuple[str, ...], str]] = {
    "GRU: gates not exchanged": (
        "GRU", lambda s: keras_arrays("GRU", s, order=(0, 1, 2)), ("kernel", "recurrent_kernel", "bias"),
        "gates not exchanged",
    ),
    "GRU: gates of the bias not exchanged": (
        "GRU", lambda s: {**keras_arrays("GRU", s), "bias": keras_arrays("GRU", s, order=(0, 1, 2))["bias"]},
        ("bias",), "gates not exchanged",
    ),
    "GRU: candidate first": (
        "GRU", lambda s: keras_arrays("GRU", s, order=(2, 1, 0)), ("kernel", "recurrent_kernel", "bias"),
        "gates in the order",
    ),
    "LSTM: gates as ONNX has them": (
        "LSTM", lambda s: keras_arrays("LSTM", s, order=(0, 3, 1, 2)), ("kernel", "recurrent_kernel", "bias"),
        "gates in ",
    ),
    "LSTM: candidate second": (
        "LSTM", lambda s: keras_arrays("LSTM", s, order=(0, 2, 1, 3)), ("kernel", "recurrent_kernel", "bias"),
        "gates in the order",
    ),
    "LSTM: input bias alone": (
        "LSTM", lambda s: keras_arrays("LSTM", s, bias=lambda i, h: i), ("bias",), "the recurrent bias is left out",
    ),
    "LSTM: recurrent bias alone": (
        "LSTM", lambda s: keras_arrays("LSTM", s, bias=lambda i, h: h), ("bias",), "the input bias is left out",
    ),
    "SimpleRNN: input bias alone": (
        "SimpleRNN", lambda s: keras_arrays("SimpleRNN", s, bias=lambda i, h: i), ("bias",),
        "the recurrent bias is left out",
    ),
    "GRU: input bias alone": (
        "GRU", lambda s: keras_arrays("GRU", s, bias=_rows(lambda i, h: (i, 0 * h))), ("bias",),
        "the recurrent bias is left out",
    ),
    "GRU: biases summed": (
        "GRU", lambda s: keras_arrays("GRU", s, bias=_rows(lambda i, h: (i + h, 0 * h))), ("bias",),
        "the sum of the two biases in one",
    ),
    "GRU: biases summed, gates not exchanged": (
        "GRU", lambda s: keras_arrays("GRU", s, order=(0, 1, 2), bias=_rows(lambda i, h: (i + h, 0 * h))),
        ("kernel", "recurrent_kernel", "bias"), "gates not exchanged",
    ),
    "GRU: biases exchanged": (
        "GRU", lambda s: keras_arrays("GRU", s, bias=_rows(lambda i, h: (h, i))), ("bias",),
        "input bias is B's recurrent bias",
    ),
    **{
        f"{kind}: recurrent blocks not transposed": (
            kind, lambda s, kind=kind: _with_kernel(kind, s, _blocks(kind)), ("recurrent_kernel",),
            "in and out swapped",
        )
        for kind in GATES
    },
    "LSTM: recurrent kernel poured": (
        "LSTM", lambda s: _with_kernel("LSTM", s, lambda kernel: kernel.T.reshape(kernel.shape)), ("recurrent_kernel",),
        "reshaped where it should have been transposed",
    ),
}  # fmt: skip
