"""Run by tests in a process of its own: Keras loads ``.keras`` files that cnnlens wrote, and runs them.

``python run_written_keras.py FOLDER`` takes every FOLDER/NAME.keras with FOLDER/NAME.npz (arrays ``input0`` … as
Keras takes them, and ``layer|variable`` as the file must hold them) and writes FOLDER/NAME.BACKEND.out.npz: its
outputs. What went wrong stands in FOLDER/BACKEND.json by name.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np


def run(path):
    model = keras.saving.load_model(path, compile=False)
    with np.load(path.with_suffix(".npz")) as stored:
        given = {name: stored[name] for name in stored.files}
    wanted = {name: array for name, array in given.items() if "|" in name}
    have = {}
    for layer in model.layers:
        for variable in layer.weights:
            if "seed" not in variable.path:
                have[f"{layer.name}|{variable.name}"] = keras.ops.convert_to_numpy(variable)
    if have.keys() != wanted.keys():
        raise ValueError(f"variables {sorted(have.keys() ^ wanted.keys())[:6]} are on one side alone")
    for name, array in wanted.items():
        if have[name].shape != array.shape or have[name].tobytes() != array.tobytes():
            raise ValueError(f"{name} differs")
    inputs = [given[name] for name in sorted(name for name in given if name.startswith("input"))]
    outputs = _compiled(model)(inputs if len(inputs) > 1 else inputs[0])
    listed = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    np.savez(path.with_suffix(f".{keras.backend.backend()}.out.npz"), *map(keras.ops.convert_to_numpy, listed))


def _compiled(model):
    """The model in one piece under JAX, which otherwise compiles each operation for itself: four times as long."""

    def call(x):
        return model(x, training=False)

    if keras.backend.backend() != "jax":
        return call
    import jax

    return jax.jit(call)


def _drawing_nothing():
    """Have layers begin as zeros, until the file's arrays take their place: JAX would compile a draw for each shape."""
    from keras.src.initializers import random_initializers

    def zeros(self, shape, dtype=None):
        return keras.ops.convert_to_tensor(np.zeros(shape, dtype or keras.backend.floatx()))

    for one in vars(random_initializers).values():
        if isinstance(one, type) and issubclass(one, keras.Initializer) and "__call__" in vars(one):
            one.__call__ = zeros


def main(folder):
    _drawing_nothing()
    wrong = {}
    for path in sorted(Path(folder).glob("*.keras")):
        try:
            run(path)
        except Exception as error:
            wrong[path.stem] = f"{type(error).__name__}: {str(error)[:400]}"
    (Path(folder) / f"{keras.backend.backend()}.json").write_text(json.dumps(wrong))


if __name__ == "__main__":
    main(sys.argv[1])
