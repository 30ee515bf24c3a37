"""Tensors that a graph makes of nothing: ranges, fills, and what stands for the batch in them."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from cnnlens.reference.aten.given import Given, Translation
from cnnlens.reference.aten.operations import BY_RUNNING, bare
from cnnlens.reference.aten.registry import aten
from cnnlens.reference.operation import Array
from cnnlens.text import printable

__all__: list[str] = []

_WHOLE: dict[str, Any] = {
    "bool": np.bool_,
    **{name: np.dtype(name).type for name in ("uint8", "int8", "int16", "int32", "int64")},
}


def _dtype(given: Given, *values: Any) -> Any:
    """The wanted type; without one whole numbers make int64, others float32."""
    name = given.get("dtype")
    if name is None:
        if all(isinstance(value, bool) for value in values) and values:
            return np.bool_
        return np.int64 if values and all(isinstance(value, int) for value in values) else np.float32
    name = str(name).removeprefix("torch.")
    if name in _WHOLE:
        return _WHOLE[name]
    if "float" not in name:
        raise given.refuse(f"no numbers of type {printable(name)} in the reference")
    return np.float32


@aten("arange")
def _arange(given: Given) -> Translation:
    start, step, end = given.get("start", 0), given.get("step", 1), given.get("end")
    dtype = _dtype(given, start, end, step)
    (size,) = given.sizes([end]) if not isinstance(end, float) else [end]

    def call(settings: Any, last: Any) -> Array:
        return cast("Array", np.arange(start, last, step)).astype(dtype)

    return bare(given, "Arange", call, BY_RUNNING, [size], {"start": start, "step": step})


@aten(*(f"{new}{name}" for new in ("", "new_") for name in ("full", "zeros", "ones", "empty")), "scalar_tensor")
def _filled(given: Given) -> Translation:
    plain = given.name.removeprefix("new_")
    value = given.get("s", given.get("fill_value", 1 if plain == "ones" else 0))
    dtype = _dtype(given, *((value,) if plain == "full" else ()))
    sizes = given.sizes(given.get("size", []))

    def call(settings: Any, shape: Any) -> Any:
        return np.full(shape, value, dtype)

    # What an empty tensor holds is nobody's to say, until it is written over.
    return bare(given, "Empty" if plain == "empty" else "Full", call, BY_RUNNING, [sizes], {"value": value})


@aten("linspace")
def _linspace(given: Given) -> Translation:
    start, end, steps = given.number("start", 0), given.number("end", 1), given.integer("steps", 100)

    def call(settings: Any) -> Any:
        return np.linspace(start, end, steps)

    return bare(given, "Linspace", call, BY_RUNNING, [], {"start": start, "end": end, "steps": steps})


@aten("eye")
def _eye(given: Given) -> Translation:
    n = given.integer("n", 1)
    m = given.integer("m", n)
    dtype = _dtype(given)

    def call(settings: Any) -> Any:
        return np.eye(n, m, dtype=dtype)

    return bare(given, "Eye", call, BY_RUNNING, [], {"n": n, "m": m})
