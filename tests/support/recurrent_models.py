"""Models of recurrent layers, and a script that writes them with what Keras computes: ``recurrent_models.py FOLDER``.

A script for a process of its own. Each model gives ``<name>.keras``, ``<name>.h5`` and ``<name>.npz`` with its inputs
and its outputs in float64 under TensorFlow, which computes these layers in float64 throughout. Sizes all differ, biases
are not zero.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MODELS: dict[str, Callable[[Any], Any]] = {}


def model(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    MODELS[make.__name__] = make
    return make


def _layers(k: Any, *layers: Any, shape: tuple[int, ...] = (7, 5)) -> Any:
    """A model with one input and an output (or several) for each layer."""
    i = k.Input(shape)
    outputs: list[Any] = []
    for layer in layers:
        made = layer(i)
        outputs += list(made) if isinstance(made, (list, tuple)) else [made]
    return k.Model(i, outputs)


@model
def lstm(k: Any) -> Any:
    L = k.layers
    return _layers(
        k,
        L.LSTM(3),
        L.LSTM(4, return_sequences=True),
        L.LSTM(6, return_state=True, go_backwards=True, return_sequences=True),
        L.LSTM(8, use_bias=False, activation="relu", recurrent_activation="hard_sigmoid", unit_forget_bias=False),
        L.LSTM(2, unroll=True, dropout=0.5, recurrent_dropout=0.5, activation="softsign"),
        L.LSTM(9, activation="linear", recurrent_activation="sigmoid", go_backwards=True),
        L.LSTM(10, activation="softmax"),
    )


@model
def gru(k: Any) -> Any:
    L = k.layers
    return _layers(
        k,
        L.GRU(3),
        L.GRU(4, reset_after=False, return_sequences=True),
        L.GRU(6, use_bias=False, return_state=True),
        L.GRU(8, use_bias=False, reset_after=False, go_backwards=True),
        L.GRU(2, return_sequences=True, go_backwards=True, return_state=True, recurrent_activation="hard_sigmoid"),
        L.GRU(9, reset_after=False, activation="elu"),
    )


@model
def simple(k: Any) -> Any:
    L = k.layers
    return _layers(
        k,
        L.SimpleRNN(3),
        L.SimpleRNN(4, return_sequences=True, activation="relu"),
        L.SimpleRNN(6, use_bias=False, return_state=True, go_backwards=True),
    )


@model
def cells(k: Any) -> Any:
    L = k.layers
    return _layers(
        k,
        L.RNN(L.LSTMCell(3), return_state=True),
        L.RNN(L.GRUCell(4, reset_after=False), return_sequences=True),
        L.RNN(L.SimpleRNNCell(6), go_backwards=True),
        L.RNN([L.LSTMCell(8), L.GRUCell(2), L.LSTMCell(9), L.SimpleRNNCell(11)], return_sequences=True),
        L.RNN(L.StackedRNNCells([L.GRUCell(3), L.GRUCell(4)])),
    )


@model
def stacked_states(k: Any) -> Any:
    L = k.layers
    i = k.Input((7, 5))
    output, first, second = L.RNN([L.LSTMCell(3), L.LSTMCell(4)], return_state=True)(i)
    return k.Model(i, [output, *first, *second])


@model
def bidirectional(k: Any) -> Any:
    L = k.layers
    return _layers(
        k,
        *(
            L.Bidirectional(L.LSTM(3, return_sequences=True), merge_mode=mode)
            for mode in ("concat", "sum", "ave", "mul")
        ),
        L.Bidirectional(L.GRU(4), merge_mode=None),
        L.Bidirectional(L.LSTM(6, return_state=True)),
        L.Bidirectional(L.SimpleRNN(2, return_state=True, return_sequences=True), merge_mode=None),
        L.Bidirectional(
            L.GRU(8, return_sequences=True),
            backward_layer=L.GRU(8, return_sequences=True, go_backwards=True, activation="relu"),
        ),
        L.Bidirectional(L.RNN([L.LSTMCell(3), L.GRUCell(4)])),
    )


@model
def initial_states(k: Any) -> Any:
    L = k.layers
    i, j = k.Input((7, 5)), k.Input((6, 4))
    _, h, c = L.LSTM(3, return_state=True)(i)
    decoded = L.LSTM(3, return_sequences=True)(j, initial_state=[h, c])
    gated = L.GRU(3)(j, initial_state=h)
    both = L.Bidirectional(L.LSTM(3))(j, initial_state=[h, c, c, h])
    again = L.RNN(L.GRUCell(3))(j, initial_state=[c])
    return k.Model([i, j], [decoded, gated, both, again])


@model
def convolutional(k: Any) -> Any:
    L = k.layers
    i, j = k.Input((4, 9, 8, 3)), k.Input((6, 9, 2))
    outputs = [
        L.ConvLSTM2D(5, (3, 2))(i),
        L.ConvLSTM2D(2, (2, 3), strides=(2, 1), padding="same", return_sequences=True)(i),
        L.ConvLSTM2D(4, 2, dilation_rate=2, use_bias=False, go_backwards=True)(i),
        *L.ConvLSTM2D(6, 3, padding="same", return_state=True, recurrent_activation="hard_sigmoid")(i),
        L.ConvLSTM1D(7, 2, use_bias=False)(j),
        L.ConvLSTM1D(3, 4, return_sequences=True, activation="relu")(j),
        L.Bidirectional(L.ConvLSTM1D(3, 2, return_sequences=True))(j),
    ]
    return k.Model([i, j], outputs)


@model
def inside(k: Any) -> Any:
    """Recurrent layers among others: over time steps of images, in front of a Dense, in a nested model, shared."""
    L = k.layers
    i = k.Input((6, 9, 8, 3))
    images = L.TimeDistributed(k.Sequential([k.Input((9, 8, 3)), L.Conv2D(5, (3, 2)), L.Flatten()]))(i)
    shared = L.GRU(7, return_sequences=True)
    x = shared(L.Dense(7)(images))
    x = shared(x)
    nested = k.Sequential([k.Input((6, 7)), L.Bidirectional(L.LSTM(4, return_sequences=True)), L.Dense(3)])
    return k.Model(i, [nested(x), L.TimeDistributed(L.LSTM(2))(L.Reshape((6, 7, 1))(x))])


def audited(k: Any) -> Any:
    """Long sequences and wide layers, for audits under each backend."""
    L = k.layers
    i, j, q = k.Input((60, 12)), k.Input((25, 40)), k.Input((6, 9, 8, 3))
    states = L.LSTM(19, return_state=True)(i)
    stacked = L.RNN([L.LSTMCell(16), L.GRUCell(7)], return_sequences=True, return_state=True)(j)
    outputs = [
        *(layer(64, return_sequences=True)(i) for layer in (L.LSTM, L.GRU, L.SimpleRNN)),
        L.GRU(33, reset_after=False)(j),
        L.LSTM(17, activation="relu", recurrent_activation="hard_sigmoid")(j),
        L.LSTM(18, unroll=True)(j),
        L.Bidirectional(L.LSTM(20, return_sequences=True))(i),
        L.Bidirectional(L.GRU(21), merge_mode="mul")(j),
        *states,
        L.LSTM(19, return_sequences=True)(j, initial_state=[states[1], states[2]]),
        stacked[0],
        *stacked[1],
        stacked[2],
        L.GRU(48, return_sequences=True, go_backwards=True)(j),
        L.ConvLSTM2D(5, (3, 2), return_sequences=True)(q),
        L.ConvLSTM2D(8, 3, padding="same")(q),
    ]
    return k.Model([i, j, q], outputs)


def randomise(network: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    network.set_weights([rng.normal(0.05, 0.4, w.shape).astype("float32") for w in network.get_weights()])


def main() -> None:
    import keras

    folder = Path(sys.argv[1])
    for seed, (name, make) in enumerate(MODELS.items()):
        keras.utils.clear_session()
        keras.backend.set_floatx("float32")
        plain = make(keras)
        randomise(plain, seed)
        plain.save(folder / f"{name}.keras")
        plain.save(folder / f"{name}.h5")
        keras.utils.clear_session()
        keras.backend.set_floatx("float64")
        exact = make(keras)
        exact.set_weights(plain.get_weights())
        rng = np.random.default_rng(100 + seed)
        given = [rng.normal(0.1, 1.0, (2, *i.shape[1:])).astype("float32").astype("float64") for i in exact.inputs]
        made = exact(given if len(given) > 1 else given[0])
        outputs = {f"y{n}": np.array(y) for n, y in enumerate(made if isinstance(made, (list, tuple)) else [made])}
        arrays: dict[str, Any] = {f"x{n}": x for n, x in enumerate(given)} | outputs
        np.savez(folder / f"{name}.npz", **arrays)
    keras.utils.clear_session()
    keras.backend.set_floatx("float32")
    wide = audited(keras)
    wide.set_weights([w + np.float32(0.1) * (w.ndim == 1 or len(w) == 2) for w in wide.get_weights()])
    wide.save(folder / "audited.keras")


if __name__ == "__main__":
    main()
