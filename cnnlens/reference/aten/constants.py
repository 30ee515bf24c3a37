"""Tensors that a graph makes of nothing: ranges, fills, and what stands for the batch in them."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from cnnlens.reference.aten.arguments import Arguments, Translation
from cnnlens.reference.aten.operations import BY_RUNNING, bare
from cnnlens.reference.aten.registry import aten
from cnnlens.reference.operation import Array
from cnnlens.text import printable

__all__: list[str] = []

_WHOLE: dict[str, Any] = {
    "bool": np.bool_,
    **{name: np.dtype(name).type for name in ("uint8", "int8", "int16", "int32", "int64")},
}


def _dtype(args: Arguments, *values: Any) -> Any:
    """The wanted type; without one whole numbers make int64, others float32."""
    name = args.get("dtype")
    if name is None:
        if all(isinstance(value, bool) for value in values) and values:
            return np.bool_
        return np.int64 if values and all(isinstance(value, int) for value in values) else np.float32
    name = str(name).removeprefix("torch.")
    if name in _WHOLE:
        return _WHOLE[name]
    if "float" not in name:
        raise args.refuse(f"no numbers of type {printable(name)} in the reference")
    return np.float32


@aten("arange")
def _arange(args: Arguments) -> Translation:
    start, step, end = args.get("start", 0), args.get("step", 1), args.get("end")
    dtype = _dtype(args, start, end, step)
    (size,) = args.sizes([end]) if not isinstance(end, float) else [end]

    def call(settings: Any, last: Any) -> Array:
        return cast("Array", np.arange(start, last, step)).astype(dtype)

    return bare(args, "Arange", call, BY_RUNNING, [size], {"start": start, "step": step})


@aten(*(f"{new}{name}" for new in ("", "new_") for name in ("full", "zeros", "ones", "empty")), "scalar_tensor")
def _filled(args: Arguments) -> Translation:
    plain = args.name.removeprefix("new_")
    value = args.get("s", args.get("fill_value", 1 if plain == "ones" else 0))
    dtype = _dtype(args, *((value,) if plain == "full" else ()))
    sizes = args.sizes(args.get("size", []))

    def call(settings: Any, shape: Any) -> Any:
        return np.full(shape, value, dtype)

    # What an empty tensor holds is nobody's to say, until it is written over.
    return bare(args, "Empty" if plain == "empty" else "Full", call, BY_RUNNING, [sizes], {"value": value})


@aten("linspace")
def _linspace(args: Arguments) -> Translation:
    start, end, steps = args.number("start", 0), args.number("end", 1), args.integer("steps", 100)

    def call(settings: Any) -> Any:
        return np.linspace(start, end, steps)

    return bare(args, "Linspace", call, BY_RUNNING, [], {"start": start, "end": end, "steps": steps})


@aten("eye")
def _eye(args: Arguments) -> Translation:
    n = args.integer("n", 1)
    m = args.integer("m", n)
    dtype = _dtype(args)

    def call(settings: Any) -> Any:
        return np.eye(n, m, dtype=dtype)

    return bare(args, "Eye", call, BY_RUNNING, [], {"n": n, "m": m})
