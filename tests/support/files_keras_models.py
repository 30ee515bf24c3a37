"""Builds a model of every kind with the installed Keras, saves it in every container, and dumps what Keras loads.

Run as a program, in a process of its own: ``KERAS_BACKEND=… python files_keras_models.py FOLDER``. The tests read what
lies in FOLDER afterwards: ``manifest.json``, the model files, and one ``.npz`` of the truth beside each. Importing it
imports no framework. All axes of an array differ, so that no transposed or exchanged array goes unseen.
"""

from __future__ import annotations

import gc
import json
import random
import sys
from pathlib import Path
from typing import Any

CONTAINERS = (".keras", "directory", ".h5", ".weights.h5", ".weights.json")
KINDS: dict[str, Any] = {}


def kind(build: Any) -> Any:
    """Registers a builder under its name."""
    KINDS[build.__name__] = build
    return build


@kind
def sequential(k: Any) -> Any:
    L = k.layers
    return k.Sequential(
        [
            k.Input((9, 8, 3)),
            L.Conv2D(4, (3, 2), activation="relu", name="stem"),
            L.MaxPooling2D(2),
            L.Conv2D(5, (2, 3)),
            L.BatchNormalization(),
            L.Flatten(),
            L.Dropout(0.4),
            L.Dense(7, name="head"),
            L.Dense(6),
        ]
    )


@kind
def unbuilt_sequential(k: Any) -> Any:
    model = k.Sequential([k.layers.Dense(4), k.layers.ReLU(), k.layers.Dense(3, use_bias=False)])
    model.build((None, 5))
    return model


@kind
def conv_1d_and_3d(k: Any) -> Any:
    L = k.layers
    a, b = k.Input((11, 3)), k.Input((7, 6, 5, 2))
    x = L.Conv1D(4, 5, padding="causal", dilation_rate=2)(a)
    y = L.Conv3D(5, (4, 3, 2))(b)
    return k.Model([a, b], [x, y])


@kind
def separable_and_depthwise(k: Any) -> Any:
    L = k.layers
    i, j = k.Input((9, 8, 3)), k.Input((9, 3))
    x = L.SeparableConv2D(5, (3, 2), depth_multiplier=4)(i)
    x = L.DepthwiseConv2D((2, 3), depth_multiplier=6)(x)
    y = L.SeparableConv1D(5, 4, depth_multiplier=2)(j)
    y = L.DepthwiseConv1D(3, depth_multiplier=4, use_bias=False)(y)
    return k.Model([i, j], [x, y])


@kind
def transposed(k: Any) -> Any:
    L = k.layers
    a, b, c = k.Input((5, 3)), k.Input((5, 4, 3)), k.Input((5, 4, 3, 2))
    return k.Model(
        [a, b, c],
        [
            L.Conv1DTranspose(4, 5, strides=2)(a),
            L.Conv2DTranspose(6, (4, 5), strides=2, output_padding=1)(b),
            L.Conv3DTranspose(6, (3, 4, 5))(c),
        ],
    )


@kind
def grouped_and_dilated(k: Any) -> Any:
    i = k.Input((12, 11, 6))
    x = k.layers.Conv2D(8, (5, 4), groups=2, padding="same")(i)
    return k.Model(i, k.layers.Conv2D(7, (3, 2), dilation_rate=2, use_bias=False)(x))


@kind
def branches_and_bare_ops(k: Any) -> Any:
    L = k.layers
    i = k.Input((8, 7, 3))
    z = L.Conv2D(4, (3, 2), padding="same", name="z_last")(i)
    a = L.Conv2D(4, (2, 3), padding="same", name="a_first")(i)
    x = k.ops.relu(L.Add()([z, a]) + a * 2.0)
    x = L.Add()([x, z]) + 1.0
    x = L.Concatenate()([L.Conv2D(5, 1, name="conv2d")(x), L.Activation("tanh")(a)])
    return k.Model(i, L.Dense(6, name="conv2d_1")(L.GlobalAveragePooling2D()(x)))


@kind
def creation_order(k: Any) -> Any:
    """Layers made in another order than the graph visits them, named after each other's groups."""
    L = k.layers
    deep, shallow, first = L.Dense(5, name="dense"), L.Dense(4, name="dense_2"), L.Dense(6, name="dense_1")
    i = k.Input((3,))
    return k.Model(i, L.Concatenate()([deep(first(i)), shallow(i)]))


@kind
def nested(k: Any) -> Any:
    L = k.layers
    i = k.Input((8, 7, 3))
    inner = k.Sequential(
        [k.Input((8, 7, 4)), L.Conv2D(5, (2, 3), name="same_name"), L.BatchNormalization()], name="enc"
    )
    j = k.Input((7, 5, 5))
    projector = k.Model(j, L.Conv2D(6, (3, 2), name="same_name")(j), name="projector")
    x = L.Conv2D(4, (1, 2), padding="same", name="same_name")(i)
    return k.Model(i, projector(inner(x)))


@kind
def nested_twice(k: Any) -> Any:
    L = k.layers
    i, j, h = k.Input((4,)), k.Input((5,)), k.Input((6,))
    deepest = k.Model(h, L.Dense(7)(h), name="deepest")
    middle = k.Model(j, L.Dense(8)(deepest(L.Dense(6)(j))), name="middle")
    return k.Model(i, L.Dense(3)(middle(L.Dense(5)(i))))


@kind
def shared_layer(k: Any) -> Any:
    L = k.layers
    i = k.Input((8, 7, 3))
    shared = L.Conv2D(3, (3, 2), padding="same", name="shared")
    return k.Model(i, L.Conv2D(5, (2, 3))(shared(L.ReLU()(shared(i)))))


@kind
def shared_model(k: Any) -> Any:
    i, j, h = k.Input((4,)), k.Input((4,)), k.Input((4,))
    twin = k.Model(h, k.layers.Dense(5)(h), name="twin")
    return k.Model([i, j], k.layers.Dense(3)(k.layers.Subtract()([twin(i), twin(j)])))


@kind
def shared_between_models(k: Any) -> Any:
    shared = k.layers.Conv2D(3, (3, 2), padding="same", name="cross")
    i, j = k.Input((8, 7, 3)), k.Input((8, 7, 3))
    inner = k.Model(j, shared(j), name="sub")
    return k.Model(i, k.layers.Dense(4)(inner(shared(i))))


@kind
def time_distributed(k: Any) -> Any:
    L = k.layers
    i = k.Input((4, 9, 8, 3))
    x = L.TimeDistributed(L.Conv2D(5, (3, 2), name="inside"), name="td")(i)
    return k.Model(i, L.TimeDistributed(L.Dense(6))(L.TimeDistributed(L.GlobalMaxPooling2D())(x)))


@kind
def time_distributed_model(k: Any) -> Any:
    L = k.layers
    inner = k.Sequential([k.Input((9, 8, 3)), L.Conv2D(5, (3, 2)), L.GlobalAveragePooling2D(), L.Dense(4)], name="cnn")
    i = k.Input((6, 9, 8, 3))
    return k.Model(i, L.GRU(7)(L.TimeDistributed(inner)(i)))


@kind
def bidirectional(k: Any) -> Any:
    L = k.layers
    i = k.Input((7, 5))
    x = L.Bidirectional(L.LSTM(3, return_sequences=True, dropout=0.1), name="both")(i)
    x = L.Bidirectional(
        L.GRU(4, return_sequences=True), backward_layer=L.GRU(4, return_sequences=True, go_backwards=True)
    )(x)
    return k.Model(i, L.Dense(2)(x))


@kind
def recurrent(k: Any) -> Any:
    L = k.layers
    i = k.Input((7, 5))
    x = L.LSTM(3, return_sequences=True, recurrent_dropout=0.1)(i)
    x = L.GRU(4, return_sequences=True, reset_after=False)(x)
    x = L.SimpleRNN(6, return_sequences=True, use_bias=False)(x)
    return k.Model(i, L.RNN(L.LSTMCell(2), name="by_cell")(x))


@kind
def stacked_cells(k: Any) -> Any:
    L = k.layers
    i = k.Input((7, 5))
    return k.Model(i, L.RNN([L.LSTMCell(3), L.GRUCell(4), L.LSTMCell(6)])(i))


@kind
def convolutional_lstm(k: Any) -> Any:
    i, j = k.Input((4, 9, 8, 3)), k.Input((4, 9, 3))
    return k.Model([i, j], [k.layers.ConvLSTM2D(5, (3, 2))(i), k.layers.ConvLSTM1D(6, 2, use_bias=False)(j)])


@kind
def spectral_normalization(k: Any) -> Any:
    L = k.layers
    i = k.Input((9, 8, 3))
    x = L.SpectralNormalization(L.Conv2D(5, (3, 2)))(i)
    return k.Model(i, L.SpectralNormalization(L.Dense(4, use_bias=False), name="sn")(x))


@kind
def attention(k: Any) -> Any:
    L = k.layers
    i = k.Input((7, 6))
    x = L.MultiHeadAttention(2, 3, value_dim=5, dropout=0.1)(i, i)
    x = L.MultiHeadAttention(4, 5, use_bias=False, name="mha")(x, x)
    x = L.Attention(use_scale=True, score_mode="concat")([x, x])
    return k.Model(i, L.AdditiveAttention()([x, x]))


@kind
def grouped_attention(k: Any) -> Any:
    i = k.Input((7, 6))
    return k.Model(i, k.layers.GroupQueryAttention(5, 4, 2)(i, i))


@kind
def normalizations(k: Any) -> Any:
    L = k.layers
    i = k.Input((5, 6))
    x = L.BatchNormalization(scale=False)(i)
    x = L.BatchNormalization(center=False)(x)
    x = L.BatchNormalization(scale=False, center=False)(x)
    x = L.BatchNormalization(trainable=False)(x)
    x = L.LayerNormalization()(x)
    x = L.LayerNormalization(center=False)(x)
    x = L.GroupNormalization(3)(x)
    x = L.RMSNormalization()(x)
    return k.Model(i, L.UnitNormalization()(x))


@kind
def preprocessing(k: Any) -> Any:
    import numpy as np

    L = k.layers
    adapted = L.Normalization()
    adapted.adapt(np.random.default_rng(5).normal(size=(13, 4)).astype("float32"))
    i = k.Input((4,))
    x = L.Normalization(mean=[1.0, 2.0, 3.0, 4.0], variance=[2.0, 1.0, 3.0, 0.5])(adapted(i))
    return k.Model(i, L.GaussianNoise(0.1)(L.Dense(3)(L.Rescaling(0.5)(x))))


@kind
def embedding_and_prelu(k: Any) -> Any:
    i = k.Input((7,), dtype="int32")
    x = k.layers.Embedding(11, 5)(i)
    return k.Model(i, k.layers.PReLU()(k.layers.PReLU(shared_axes=[1])(x)))


@kind
def einsum_dense(k: Any) -> Any:
    i = k.Input((7, 6))
    x = k.layers.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d")(i)
    return k.Model(i, k.layers.EinsumDense("abc,cde->abde", output_shape=(None, 4, 3))(x))


@kind
def precisions(k: Any) -> Any:
    L = k.layers
    i = k.Input((9, 8, 3))
    x = L.Conv2D(4, (3, 2), dtype="mixed_float16")(i)
    x = L.Conv2D(5, (2, 3), dtype="float16")(x)
    x = L.BatchNormalization(dtype="float64")(x)
    return k.Model(i, L.Dense(6)(x))


@kind
def bfloat16(k: Any) -> Any:
    i = k.Input((9, 8, 3))
    x = k.layers.Conv2D(4, (3, 2), dtype="bfloat16")(i)
    return k.Model(i, k.layers.Dense(6, dtype="mixed_bfloat16")(x))


@kind
def frozen(k: Any) -> Any:
    L = k.layers
    inner = k.Sequential([k.Input((6,)), L.Dense(5, name="cold"), L.Dense(4, name="warm")], name="inner")
    inner.layers[0].trainable = False
    i = k.Input((6,))
    return k.Model(i, L.Dense(3, trainable=False)(L.BatchNormalization(trainable=False)(inner(i))))


@kind
def with_optimizer(k: Any) -> Any:
    i = k.Input((6,))
    model = k.Model(i, k.layers.Dense(3)(k.layers.Dropout(0.2)(k.layers.Dense(5)(i))))
    model.compile(optimizer="adam", loss="mse", metrics=["mae"])
    model.optimizer.build(model.trainable_variables)
    return model


@kind
def lora(k: Any) -> Any:
    L = k.layers
    i = k.Input((9, 8, 3))
    conv, dense = L.Conv2D(5, (3, 2)), L.Dense(4)
    model = k.Model(i, dense(conv(i)))
    conv.enable_lora(2)
    dense.enable_lora(3)
    return model


def _quantised(k: Any, mode: str) -> Any:
    model = k.Sequential([k.Input((6,)), k.layers.Dense(5), k.layers.Dense(7, use_bias=False)])
    model.quantize(mode)
    return model


@kind
def int8(k: Any) -> Any:
    return _quantised(k, "int8")


@kind
def int4(k: Any) -> Any:
    return _quantised(k, "int4")


@kind
def float8(k: Any) -> Any:
    return _quantised(k, "float8")


@kind
def custom_layer(k: Any) -> Any:
    @k.saving.register_keras_serializable(package="mine")
    class TwoMatrices(k.layers.Layer):
        def build(self, shape: Any) -> None:
            self.left = self.add_weight(name="left", shape=(shape[-1], 4))
            self.right = self.add_weight(name="right", shape=(4, 3), trainable=False)
            self.inside = k.layers.Dense(5)
            self.inside.build((None, 3))
            self.built = True

        def call(self, x: Any) -> Any:
            return self.inside(k.ops.matmul(k.ops.matmul(x, self.left), self.right))

    i = k.Input((6,))
    return k.Model(i, k.layers.Dense(2)(TwoMatrices()(i)))


@kind
def subclassed(k: Any) -> Any:
    @k.saving.register_keras_serializable(package="mine")
    class Net(k.Model):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            L = k.layers
            self.stem = L.Conv2D(4, (3, 2), name="named_stem")
            self.blocks = [L.Conv2D(5, (2, 3)), L.Conv2D(6, (1, 2))]
            self.head = L.Dense(7)

        def call(self, x: Any) -> Any:
            x = self.stem(x)
            for block in self.blocks:
                x = block(x)
            return self.head(k.ops.mean(x, axis=(1, 2)))

    model = Net()
    model(k.ops.ones((1, 9, 8, 3)))
    return model


# ---------------------------------------------------------------------------------------------------------------------


def _walk(layer: Any, path: tuple[str, ...], found: dict[str, Any]) -> None:
    """Every variable below ``layer`` by the path that Keras' own attributes and layer names give it."""
    own = [*layer._trainable_variables, *layer._non_trainable_variables]
    kind = type(layer).__name__
    for variable in own if path else ():
        name = "layer_kernel" if kind == "SpectralNormalization" and variable.name == "kernel" else variable.name
        found["/".join(path) + "|" + name] = _numpy(variable)
    if kind in ("Functional", "Sequential"):
        for inner in layer.layers:
            _walk(inner, (*path, inner.name), found)
        return
    if kind == "Net":
        for inner in layer._flatten_layers(include_self=False, recursive=False):
            _walk(inner, (*path, inner.name), found)
        return
    if kind == "Bidirectional":
        inside = ("forward_layer", "backward_layer")
    elif kind in ("MultiHeadAttention", "GroupedQueryAttention"):
        inside = ("query_dense", "key_dense", "value_dense", "output_dense")
    else:
        inside = tuple(name for name in ("layer", "cell", "inside") if hasattr(layer, name))
    for attribute in inside:
        inner = getattr(layer, attribute, None)
        if inner is None:
            inner = getattr(layer, "_" + attribute)
        _walk(inner, (*path, attribute), found)
    for name, inner in _numbered(getattr(layer, "cells", [])):
        _walk(inner, (*path, "cells", name), found)


def _numbered(items: Any) -> list[tuple[str, Any]]:
    from keras.src.utils.naming import to_snake_case

    seen: dict[str, int] = {}
    named = []
    for item in items:
        stem = to_snake_case(type(item).__name__)
        seen[stem] = seen.get(stem, -1) + 1
        named.append((f"{stem}_{seen[stem]}" if seen[stem] else stem, item))
    return named


def _numpy(variable: Any) -> Any:
    import keras
    import numpy as np

    array = keras.ops.convert_to_numpy(variable)
    return array.astype("float32") if array.dtype.name == "bfloat16" else np.asarray(array)


def _randomise(model: Any, seed: int) -> None:
    """Another value in every element of every floating-point variable; variances stay positive."""
    import numpy as np

    rng = np.random.default_rng(seed)
    for variable in [*model.trainable_variables, *model.non_trainable_variables]:
        name = str(variable.dtype)
        if "float" in name and "seed" not in variable.path:
            variable.assign(np.abs(rng.normal(size=variable.shape)).astype("float32") + 0.5)


def _save(k: Any, model: Any, folder: Path, name: str, container: str) -> Path:
    if container == "directory":
        k.saving.save_model(model, folder / f"{name}.dir", zipped=False)
        return folder / f"{name}.dir"
    if container == ".weights.json":
        largest = max(_numpy(variable).nbytes for variable in model.weights)
        model.save_weights(folder / f"{name}.weights.json", max_shard_size=1.3 * largest / 1024**3)
        return folder / f"{name}.weights.json"
    path = folder / f"{name}{container}"
    (model.save_weights if container == ".weights.h5" else model.save)(path)
    return path


def _load(k: Any, path: Path, container: str, name: str) -> Any:
    if container.startswith(".weights"):
        model = KINDS[name](k)
        model.load_weights(path)
        return model
    return k.saving.load_model(path, compile=False)


def main(folder: Path) -> None:
    """Builds, saves, loads and dumps everything into ``folder``."""
    # Keras' NumPy backend needs none of it, and importing it takes longer than all the rest.
    sys.modules["tensorflow"] = None  # type: ignore[assignment]
    import keras as k
    import numpy as np

    # Keras collects garbage whenever it is reset; without what importing it left behind, that takes no time.
    gc.freeze()
    manifest: dict[str, dict[str, str]] = {}
    for at, (name, build) in enumerate(KINDS.items()):
        k.backend.clear_session()
        random.seed(at)
        model = build(k)
        if name not in ("int8", "int4"):
            _randomise(model, at)
        memory: dict[str, Any] = {}
        _walk(model, (), memory)
        for container in CONTAINERS:
            case = f"{name}{container}"
            entry = manifest[case] = {"kind": name, "container": container}
            try:
                path = _save(k, model, folder, name, container)
            except Exception as error:
                entry["not saved"] = f"{type(error).__name__}: {str(error)[:200]}"
                continue
            entry["path"] = path.name
            truth = memory
            try:
                k.backend.clear_session()
                loaded = _load(k, path, container, name)
                truth = {}
                _walk(loaded, (), truth)
            except Exception as error:
                entry["not loaded"] = f"{type(error).__name__}: {str(error)[:200]}"
            np.savez(folder / f"{case}.npz", **{key.replace("/", "\\"): value for key, value in truth.items()})
        (folder / f"{name}.json").write_text("{}" if name == "subclassed" else model.to_json())
    manifest["versions"] = {"keras": k.__version__}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
