"""Models of recurrent layers, and a script that writes them with what Keras computes: ``recurrent_models.py FOLDER``.

A script for a process of its own. Each model gives ``<name>.keras``, ``<name>.h5`` and ``<name>.npz`` with its inputs
and its outputs in float64 under TensorFlow, which computes these layers in float64 throughout. Sizes all differ, biases
are not zero.
"""

from __future__ import annotations

import json
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


def _words(k: Any, L: Any, name: str = "words", width: int = 5) -> Any:
    i = k.Input((7,), name=name)
    return i, L.Embedding(9, width, mask_zero=True)(i)


@model
def masked(k: Any) -> Any:
    """Everything recurrent behind a mask: of words that are 0, and of steps that are -0.25 throughout."""
    L = k.layers
    i, x = _words(k, L)
    j = k.Input((6, 4), name="steps")
    y = L.Dropout(0.5)(L.Masking(-0.25)(j))
    through = L.LayerNormalization()(L.ReLU()(L.TimeDistributed(L.Dense(8))(x)))
    both, again = L.Bidirectional(L.GRU(3, return_sequences=True), merge_mode=None)(x)
    outputs = [
        L.LSTM(3)(x),
        *L.GRU(4, return_sequences=True, return_state=True)(x),
        L.SimpleRNN(6, go_backwards=True, return_sequences=True)(y),
        L.LSTM(2, return_sequences=True, zero_output_for_mask=True)(y),
        L.LSTM(10, zero_output_for_mask=True)(y),
        L.RNN([L.LSTMCell(8), L.GRUCell(2)], return_sequences=True)(y),
        L.GRU(5, unroll=True, return_sequences=True)(y),
        L.Bidirectional(L.LSTM(3, return_sequences=True))(y),
        L.Bidirectional(L.LSTM(4))(x),
        L.LSTM(3)(again),
        L.LSTM(2)(L.GRU(3, return_sequences=True)(L.Add()([both, again]))),
        L.GlobalAveragePooling1D()(through),
        L.GRU(7)(through),
        L.GRU(3)(L.SpectralNormalization(L.Dense(9))(y)),
        L.Softmax()(k.ops.squeeze(L.Dense(1)(x), -1)),
        L.LSTM(2)(L.RNN(L.GRUCell(3))(x)[:, None]),
        L.LSTM(3)(L.Conv1D(4, 2)(x)),
        k.Sequential([k.Input((7, 5)), L.Dense(4), L.LSTM(3)])(x),
    ]
    return k.Model([i, j], outputs)


@model
def masked_joins(k: Any) -> Any:
    """Masks that meet, that are handed to a call, and that end."""
    L = k.layers
    i, x = _words(k, L)
    j, y = _words(k, L, "words_too")
    own = k.ops.not_equal(j, 3)
    merges = (L.Add, L.Subtract, L.Average, L.Multiply, L.Maximum, L.Minimum)
    outputs = [L.GlobalAveragePooling1D()(layer()([x, y])) for layer in merges]
    outputs += [L.GlobalAveragePooling1D()(L.Add()([x, k.ops.tanh(y)])), L.Multiply()([x, k.ops.tanh(y)])]
    outputs += [L.Maximum()([k.ops.tanh(y), x])]
    outputs += [L.GRU(4)(L.Concatenate(axis=axis)([x, y])) for axis in (1, 2)]
    outputs += [L.GRU(3)(L.Concatenate(axis=1)([x, k.ops.tanh(y)]))]
    outputs += [L.LSTM(3)(x, mask=own), L.LSTM(6)(L.TimeDistributed(L.Dense(2))(x, mask=own))]
    h = L.GRU(8)(y)
    outputs += [L.GRU(8)(x, initial_state=h), L.GRU(8, return_sequences=True)(x, initial_state=h, mask=own)]
    outputs += [L.GlobalAveragePooling1D()(L.GRU(8, return_sequences=True)(x, initial_state=h))]
    return k.Model([i, j], outputs)


@model
def masked_attention(k: Any) -> Any:
    """Attention has tensors of its own each time: it takes their masks off them."""
    L = k.layers
    i, x = _words(k, L)
    j, y = _words(k, L, "words_too")

    def of(words: Any, width: int = 5) -> Any:
        return L.Dense(width)(words)

    v, z = of(x, 4), of(x)
    seen = k.ops.not_equal(i[:, :, None], j[:, None, :])
    heads = L.MultiHeadAttention(2, 3)(z, of(y))
    outputs = [
        heads,
        L.GlobalAveragePooling1D()(heads),
        L.LSTM(3)(L.Add()([z, heads])),
        *L.MultiHeadAttention(2, 3)(v, v, return_attention_scores=True),
        L.MultiHeadAttention(3, 2, dropout=0.5)(of(x, 3), of(y), use_causal_mask=True),
        L.MultiHeadAttention(3, 2)(of(x, 3), of(y, 6), attention_mask=seen),
        L.GroupQueryAttention(4, 6, 3)(of(x), of(y), k.ops.tanh(y)),
        L.Attention()([x, y]),
        L.GlobalAveragePooling1D()(L.Attention(use_scale=True, score_mode="concat")([x, y, k.ops.tanh(y)])),
        *L.AdditiveAttention()([x, y], return_attention_scores=True),
    ]
    return k.Model([i, j], outputs)


def given(generator: np.random.Generator, tensor: Any) -> np.ndarray:
    """Make an input of two; words that are 0, and steps that are -0.25, in front, behind and between."""
    drawn = generator.normal(0.1, 1.0, (2, *tensor.shape[1:])).astype("float32")
    if tensor.name.startswith("words"):
        drawn = generator.integers(1, 9, drawn.shape).astype("float32")
        drawn[0, 4:], drawn[1, 0], drawn[1, 3] = 0, 0, 0
        if tensor.name == "words_too":
            drawn = np.roll(drawn[::-1], 1, axis=1)
    if tensor.name == "steps":
        drawn[0, :2], drawn[1, 5], drawn[1, 2] = -0.25, -0.25, -0.25
    return drawn.astype("float64")


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


def supports_masks(k: Any, name: str) -> bool | None:
    """What a layer of this name says of masks; None where it wants more to be made."""
    for given in ((), (2,), (2, 3), (2, 3, 1), (k.layers.Dense(2),), (k.layers.GRU(2),), (k.layers.GRUCell(2),)):
        try:
            return bool(getattr(k.layers, name)(*given).supports_masking)
        except Exception:
            continue
    return None


def randomise(network: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    network.set_weights([rng.normal(0.05, 0.4, w.shape).astype("float32") for w in network.get_weights()])


def main() -> None:
    import keras

    folder = Path(sys.argv[1])
    # Sessions are cleared for the names of layers: to collect garbage would take a quarter of the time.
    for seed, (name, make) in enumerate(MODELS.items()):
        keras.utils.clear_session(free_memory=False)
        keras.backend.set_floatx("float32")
        plain = make(keras)
        randomise(plain, seed)
        plain.save(folder / f"{name}.keras")
        plain.save(folder / f"{name}.h5")
        keras.utils.clear_session(free_memory=False)
        keras.backend.set_floatx("float64")
        exact = make(keras)
        exact.set_weights(plain.get_weights())
        rng = np.random.default_rng(100 + seed)
        inputs = [given(rng, tensor) for tensor in exact.inputs]
        made = exact(inputs if len(inputs) > 1 else inputs[0])
        outputs = {f"y{n}": np.array(y) for n, y in enumerate(made if isinstance(made, (list, tuple)) else [made])}
        arrays: dict[str, Any] = {f"x{n}": x for n, x in enumerate(inputs)} | outputs
        np.savez(folder / f"{name}.npz", **arrays)
    # TorchModuleWrapper is made of a module alone, and imports PyTorch's compiler to say so.
    names = [name for name in dir(keras.layers) if name != "TorchModuleWrapper"]
    supports = {name: one for name in names if (one := supports_masks(keras, name)) is not None}
    (folder / "supports_masks.json").write_text(json.dumps(supports))
    keras.utils.clear_session(free_memory=False)
    keras.backend.set_floatx("float32")
    wide = audited(keras)
    wide.set_weights([w + np.float32(0.1) * (w.ndim == 1 or len(w) == 2) for w in wide.get_weights()])
    wide.save(folder / "audited.keras")


if __name__ == "__main__":
    main()
