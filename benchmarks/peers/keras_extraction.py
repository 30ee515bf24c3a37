"""Feature maps of a few layers by every good way that one framework has, and by the adapter, in turn.

``python -m benchmarks.peers.keras_extraction BACKEND MODEL LAYERS BATCH COUNT ROUNDS`` prints JSON: for each way the
images a second of each round. All begin with the same NumPy images, batch by batch, and end with contiguous NumPy
arrays ``(N, C, H, W)``; only ``predict``, which nobody transposes, ends with what Keras gives. ``load BACKEND MODEL``
opens one instead.
"""

import importlib
import json
import os
import sys
import time


def measure(name: str, path: str, layers: list[str], batch: int, count: int, rounds: int) -> dict[str, list[float]]:
    backend = importlib.import_module("cnnlens_backends." + name.replace("-", "_")).BACKEND
    os.environ.update(backend.environment("cpu", "native"))
    import numpy as np

    import cnnlens
    from benchmarks.peers import keras_loops

    network = cnnlens.open(path)
    session = backend.load(network, "cpu", "native")
    images = np.random.default_rng(0).random((count, *network.shape(network.inputs[0])[1:]), np.float32)
    batches = [images[start : start + batch] for start in range(0, count, batch)]
    model = keras_loops.cut(path, layers)

    ways = {
        "adapter": lambda one: list(session.feature_maps([np.moveaxis(one, -1, 1)], layers).values()),
        "predict": lambda one: model.predict(one, batch_size=batch, verbose=0),
        **keras_loops.ways(model),
    }
    truth = ways["adapter"](batches[0])
    for way, run in ways.items():  # compiled, and the same, before anything is timed
        for _ in range(3):
            found = run(batches[0])
        for ours, theirs in zip(truth, found, strict=True):
            theirs = np.moveaxis(theirs, -1, 1) if way == "predict" else theirs
            assert way == "predict" or theirs.flags.c_contiguous, way
            assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(ours).max(), way
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    listed = list(ways.items())
    for turn in range(rounds):
        for way, run in listed[turn % len(listed) :] + listed[: turn % len(listed)]:  # nobody is always first
            start = time.perf_counter()
            for one in batches:
                run(one)
            seconds[way].append(count / (time.perf_counter() - start))
    return seconds


def load(name: str, path: str) -> None:
    """Prints the seconds from a file to a session, without importing the framework."""
    backend = importlib.import_module("cnnlens_backends." + name.replace("-", "_")).BACKEND
    os.environ.update(backend.environment("cpu", "native"))
    import keras

    import cnnlens

    keras.ops.convert_to_numpy(keras.ops.zeros((1,)))  # what a framework does at its first array is not the model's
    start = time.perf_counter()
    backend.load(cnnlens.open(path), "cpu", "native")
    print(time.perf_counter() - start)


if __name__ == "__main__":
    if sys.argv[1] == "load":
        load(*sys.argv[2:])
    else:
        backend_name, file, wanted, *numbers = sys.argv[1:]
        print(json.dumps(measure(backend_name, file, wanted.split(","), *map(int, numbers))))
