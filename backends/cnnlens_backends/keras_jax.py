"""Keras on JAX: the walk as one ``jax.jit`` function, compiled once a batch shape.

The variables are arguments of that function, not constants in it: XLA would spend minutes on folding a large network's.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any

import numpy as np

from cnnlens.backend import NARROW
from cnnlens_backends._keras import KerasBackend
from cnnlens_backends._keras_walk import Array, Compiled, Walk, in_canonical_axes, turned, widened


class _Jax(KerasBackend):
    def compiled(
        self, walk: Walk, moves: Sequence[bool], variables: Sequence[Any], device: str, precision: str, chained: bool
    ) -> Compiled:
        jax, keras = import_module("jax"), import_module("keras")
        target = _device(device)

        def pure(values: Sequence[Any], tensors: Sequence[Any]) -> list[Any]:
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return walk(tensors)

        def turn(tensors: Sequence[Any]) -> list[Any]:
            return turned(tensors, moves)

        # The transpose stands apart: in one function with it, XLA lays convolutions out for it, at half their speed.
        # Fused, a layer may compute again what it reads, rounded otherwise than what is recorded of that. Where none
        # reads what another computes, that cannot be, and XLA compiles in half of the time.
        options: dict[str, Any] = {}
        if chained and precision == "strict" and target.platform == "cpu":
            options["xla_disable_hlo_passes"] = "fusion"
        if precision in NARROW:  # else XLA leaves out what is asked for: roundings between operations that it fuses
            options["xla_allow_excess_precision"] = False
        function, transpose = jax.jit(pure, compiler_options=options or None), jax.jit(turn)

        placed: dict[int, tuple[Any, Any]] = {}

        def on_device(variable: Any) -> Any:
            value = variable.value  # another array when a live model was trained on
            if placed.get(id(variable), (None, None))[0] is not value:
                placed[id(variable)] = (value, jax.device_put(value, target))
            return placed[id(variable)][1]

        def compute(arrays: Sequence[Array]) -> list[Any]:
            values = [on_device(variable) for variable in variables]
            return function(values, jax.device_put(list(arrays), target))

        def send(found: Sequence[Any]) -> Sequence[Any]:
            if target.platform == "cpu":
                return found
            there = transpose(found)
            for one in there:
                one.copy_to_host_async()
            return there

        def fetch(sent: Sequence[Any]) -> list[Array]:
            host = [np.asarray(one) for one in sent]
            if target.platform == "cpu":
                host = [in_canonical_axes(one, move) for one, move in zip(host, moves, strict=True)]
            return [widened(one) for one in host]

        return Compiled(compute, jax.block_until_ready, send, fetch)

    def peak(self, device: str) -> int:
        return _device(device).memory_stats()["peak_bytes_in_use"]

    def gpus(self) -> list[str]:
        jax = import_module("jax")
        try:
            return [one.device_kind for one in jax.devices("gpu")]
        except RuntimeError:  # JAX's way of saying that there are none
            return []

    def switched(self, precision: str) -> AbstractContextManager[None]:
        # Of convolutions too.
        return import_module("jax").default_matmul_precision("highest" if precision == "strict" else "tensorfloat32")


def _device(name: str) -> Any:
    kind, _, index = name.partition(":")
    return import_module("jax").devices(kind)[int(index or 0)]


BACKEND = _Jax("jax", "jax", "jax>=0.6")
