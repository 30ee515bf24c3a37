"""Sums, means, extremes and spreads over axes.

What goes over all positions of a map is Keras' global pooling; the rest is an operation of ``keras.ops``, its axes
counted in the order in which the tensor lies.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

from cnnlens.conversion.to_keras.call_site import BY_CLASS, CallSite, aten
from cnnlens.conversion.to_keras.elementwise import write_operation
from cnnlens.conversion.to_keras.shapes import without
from cnnlens.conversion.to_keras.value import Value
from cnnlens.errors import UnsupportedLayerError

__all__: list[str] = []

_REDUCTIONS = {"mean": "Mean", "sum": "Sum", "amax": "Max", "amin": "Min", "prod": "Prod", "logsumexp": "Logsumexp",
               "max": "Max", "min": "Min", "argmax": "Argmax", "argmin": "Argmin"}  # fmt: skip
_GLOBAL = {"Mean": "Average", "Max": "Max"}


@aten(*_REDUCTIONS)
def _reduction(site: CallSite) -> Value:
    if site.args.get("other") is not None:
        return cast(Value, BY_CLASS.get(type(site.operation), write_operation)(site))
    kind = _REDUCTIONS[site.args.name]
    x = site.builder.plain(site.main)
    dims = site.args.axes("dim")
    axes = sorted({axis % x.rank for axis in dims}) if dims is not None else list(range(x.rank))
    if any(x.place(axis) == 0 for axis in axes):
        raise UnsupportedLayerError("it goes over the batch")
    keep = site.args.flag("keepdim")
    left = x.axes if keep else without(x.axes, axes)
    places = sorted(x.place(axis) for axis in axes)
    if kind in _GLOBAL and x.rank in (3, 4, 5) and places == list(range(1, x.rank - 1)):
        config = {"data_format": "channels_last", "keepdims": keep}
        made = site.layer(f"Global{_GLOBAL[kind]}Pooling{x.rank - 2}D", x, config, axes=left)
    else:
        setting: Any = places[0] if kind.startswith("Arg") else places
        made = site.operate(kind, [x], {"axis": setting, "keepdims": keep}, axes=left)
    return replace(made, at_least_zero=x.at_least_zero and kind in ("Mean", "Sum", "Max", "Min"))


@aten("linalg_vector_norm", "norm", "frobenius_norm")
def _norm(site: CallSite) -> Value:
    """A Euclidean norm: the root of a sum of squares."""
    order = site.args.get("p", site.args.get("ord", 2))
    x = site.builder.plain(site.main)
    axes = sorted({axis % x.rank for axis in site.args.axes("dim") or []})
    if order not in (2, "fro") or not axes or any(x.place(axis) == 0 for axis in axes):
        raise UnsupportedLayerError("it is no Euclidean norm over axes behind the batch")
    keep = site.args.flag("keepdim")
    left = x.axes if keep else without(x.axes, axes)
    squares = site.operate("Square", [x], shape=x.shape, axes=x.axes, name="_squares")
    settings = {"axis": sorted(x.place(axis) for axis in axes), "keepdims": keep}
    total = site.operate("Sum", [squares], settings, axes=left, name="_sum")
    return site.operate("Sqrt", [total], axes=left)


@aten("var", "std")
def _spread(site: CallSite) -> Value:
    x = site.builder.plain(site.main)
    axes = sorted({axis % x.rank for axis in site.args.axes("dim") or []})
    correction = site.args.get("correction", 1 if site.args.flag("unbiased", True) else 0)
    if not axes or any(x.place(axis) == 0 for axis in axes):
        raise UnsupportedLayerError("it goes over the batch")
    keep = site.args.flag("keepdim")
    left = x.axes if keep else without(x.axes, axes)
    settings = {"axis": sorted(x.place(axis) for axis in axes), "keepdims": keep}
    kind = "Var" if site.args.name == "var" else "Std"
    made = site.operate(kind, [x], settings, axes=left)
    if not correction:
        return made
    count = math.prod(cast(int, x.shape[axis]) for axis in axes)
    ratio = count / (count - float(correction))
    return site.operate("Multiply", [made, ratio if kind == "Var" else math.sqrt(ratio)], axes=left, name="_unbiased")


@aten("cumsum")
def _cumsum(site: CallSite) -> Value:
    x = site.builder.plain(site.main)
    return site.operate("Cumsum", [x], {"axis": x.place(site.args.integer("dim", 0))}, axes=x.axes)
