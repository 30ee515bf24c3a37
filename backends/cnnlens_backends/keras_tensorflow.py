"""Keras on TensorFlow: the walk as one ``tf.function``, traced once a batch shape."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from cnnlens_backends._keras import KerasBackend
from cnnlens_backends._keras_walk import Array, Compiled, Walk, in_canonical_axes, turned, widened


class _TensorFlow(KerasBackend):
    copies_beside = False  # a copy waits for all that the GPU has been given

    def compiled(
        self, walk: Walk, moves: Sequence[bool], variables: Sequence[Any], device: str, precision: str, chained: bool
    ) -> Compiled:
        tf = import_module("tensorflow")

        # On a CPU TensorFlow's own transpose takes five times as long as NumPy's.
        later = device == "cpu"

        def both(*tensors: Any) -> list[Any]:
            found = walk(tensors)
            return found if later else turned(found, moves)

        # Autograph would rewrite Keras' Python for nothing: shapes are known and there is no control flow on values.
        function = tf.function(both, autograph=False)

        def compute(arrays: Sequence[Array]) -> list[Any]:
            return function(*(tf.convert_to_tensor(array) for array in arrays))

        def wait(_: Sequence[Any]) -> None:
            if device != "cpu":  # where the function returns when all is computed
                tf.test.experimental.sync_devices()

        def fetch(found: Sequence[Any]) -> list[Array]:
            # ``numpy()`` copies even what lies in this memory; an array over a view keeps the tensor's memory.
            here = [later and one.dtype != tf.bfloat16 for one in found]
            host = [
                np.asarray(memoryview(one)) if view else widened(one.numpy())
                for one, view in zip(found, here, strict=True)
            ]
            return [in_canonical_axes(one, later and move) for one, move in zip(host, moves, strict=True)]

        return Compiled(compute, wait, list, fetch)

    def peak(self, device: str) -> int:
        return import_module("tensorflow").config.experimental.get_memory_info(device.upper())["peak"]

    def gpus(self) -> list[str]:
        config = import_module("tensorflow").config
        found = config.list_physical_devices("GPU")
        return [config.experimental.get_device_details(one).get("device_name", "GPU") for one in found]

    @contextmanager
    def switched(self, precision: str) -> Generator[None]:
        config = import_module("tensorflow").config.experimental
        # Op determinism has a switch for "on" alone in TensorFlow's public names; it changes nothing in what CPUs give.
        if precision == "strict" and self.gpus():
            config.enable_op_determinism()
        before = config.tensor_float_32_execution_enabled()
        config.enable_tensor_float_32_execution(precision == "tf32")
        try:
            yield
        finally:
            config.enable_tensor_float_32_execution(before)


_WHEEL = "tensorflow" if sys.platform == "darwin" else "tensorflow-cpu"

BACKEND = _TensorFlow("tensorflow", "tensorflow|tensorflow-cpu", f"{_WHEEL}>=2.18")
