"""A data set streamed through some layers by hand, as someone who knows the framework writes it; nothing of cnnlens.

``python -m benchmarks.peers.keras_dataset MODE MODEL LAYERS IMAGES BATCH …`` with images ``(N, H, W, C)`` of bytes:

- ``first``: the first batch alone, compiled: the floor of every cold call.
- ``names``: the loops that ``record`` has, as JSON.
- ``record LOOP FOLDER``: the maps of all images in memory-mapped ``.npy`` files, canonical, on the disk when it ends.
- ``rounds``: prints its ways as JSON, then for each line ``WAY`` the seconds in which all maps were NumPy arrays. The
  way ``forward`` computes what the whole model gives, and leaves it on the device.
- ``timed``: the same, of batches that are numbers already.
"""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np


def batches(images, size):
    for start in range(0, len(images), size):
        yield start, images[start : start + size].astype(np.float32) / 255


def loops():
    """Name the loops: every compiled way, whose results are stored at once or by a thread during the next batch."""
    ways = {"tensorflow": ["tf.function"], "jax": ["jax.jit"], "torch": ["inference_mode"]}[os.environ["KERAS_BACKEND"]]
    if ways == ["inference_mode"]:
        ways.append("torch without Keras, NCHW")
    return [f"{way}{how}" for way in ways for how in ("", ", a thread stores")]


def computing(model, way):
    """What computes a batch, and what stores one of its results in a part of an array ``(N, C, H, W)``."""
    import keras

    from benchmarks.peers import keras_loops

    def assign(result, target):
        target[...] = result

    if keras.backend.backend() != "torch" or "NCHW" in way:
        return next(run for name, run in keras_loops.ways(model).items() if name.startswith(way)), assign

    import torch

    def compute(one):
        with torch.inference_mode():
            return [y.permute(0, 3, 1, 2) for y in model(torch.from_numpy(one), training=False)]

    def copy(result, target):  # turned while it is copied, on all cores
        torch.from_numpy(target).copy_(result)

    return compute, copy


def record(path, layers, images, batch, loop, folder):
    from benchmarks.peers import keras_loops

    model = keras_loops.cut(path, layers)
    compute, store = computing(model, loop.removesuffix(", a thread stores"))
    files = []
    for name, output in zip(layers, model.outputs, strict=True):
        shape = (len(images), output.shape[-1], *output.shape[1:-1])
        files.append(np.lib.format.open_memmap(Path(folder) / f"{name}.npy", "w+", np.float32, shape))

    def keep(start, found):
        for result, file in zip(found, files, strict=True):
            store(result, file[start : start + batch])

    if loop.endswith("a thread stores"):
        with ThreadPoolExecutor(1) as thread:
            pending = None
            for start, one in batches(images, batch):
                found = compute(one)
                if pending is not None:
                    pending.result()
                pending = thread.submit(keep, start, found)
            pending.result()
    else:
        for start, one in batches(images, batch):
            keep(start, compute(one))
    for name, file in zip(layers, files, strict=True):
        file.flush()
        handle = os.open(Path(folder) / f"{name}.npy", os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def rounds(path, layers, images, batch, ready):
    import keras

    from benchmarks.peers import keras_loops

    ways = keras_loops.ways(keras_loops.cut(path, layers))
    ways["forward"] = forward(keras.models.load_model(path, compile=False))
    made = list(batches(images, batch)) if ready else None
    for run in ways.values():
        for _ in range(3):
            run(images[:batch].astype(np.float32) / 255)
    print(json.dumps(list(ways)), flush=True)
    for line in sys.stdin:
        run = ways[line.strip()]
        start = time.perf_counter()
        for _, one in made or batches(images, batch):
            run(one)
        print(time.perf_counter() - start, flush=True)


def forward(model):
    """The whole model's outputs, waited for and left where they are."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(lambda images: model(images, training=False), autograph=False)

        def run(one):
            found = compiled(tf.convert_to_tensor(one))
            if tf.config.list_logical_devices("GPU"):
                tf.test.experimental.sync_devices()
            return found

        return run
    if keras.backend.backend() == "jax":
        import jax

        call = jax.jit(lambda *given: model.stateless_call(*given, training=False)[0])
        state = [one.value for one in model.trainable_variables], [one.value for one in model.non_trainable_variables]
        return lambda one: jax.block_until_ready(call(*state, one))
    import torch

    def run(one):
        with torch.inference_mode():
            found = model(torch.from_numpy(one), training=False)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            return found

    return run


def main(mode, path, layers, images, batch, *more):
    if mode == "names":
        print(json.dumps(loops()))
        return
    pixels, wanted = np.load(images, mmap_mode="r"), layers.split(",")
    if mode == "first":
        from benchmarks.peers import keras_loops

        compute, _ = computing(keras_loops.cut(path, wanted), loops()[0])  # nothing that a plain loop does not import
        [np.asarray(one) for one in compute(pixels[: int(batch)].astype("f4") / 255)]
    elif mode == "record":
        record(path, wanted, pixels, int(batch), *more)
    else:
        rounds(path, wanted, pixels, int(batch), mode == "timed")


if __name__ == "__main__":
    main(*sys.argv[1:])
