"""Means, sums, extremes, spreads and norms over some axes or all, and running sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnlens.reference.aten.arguments import Arguments, Tensor, Translation
from cnnlens.reference.aten.elementwise import binary
from cnnlens.reference.aten.operations import bare, layer, unary
from cnnlens.reference.aten.registry import aten
from cnnlens.reference.bare.functions import logsumexp
from cnnlens.reference.bare.rules import axes_of, reduced
from cnnlens.reference.keras.pooling import GlobalPooling

__all__: list[str] = []

Settings = Mapping[str, Any]

_REDUCTIONS: dict[str, tuple[str, Callable[..., Any]]] = {
    "mean": ("Mean", np.mean), "sum": ("Sum", np.sum), "amax": ("Max", np.max), "amin": ("Min", np.min),
    "prod": ("Prod", np.prod), "any": ("Any", np.any), "all": ("All", np.all),
}  # fmt: skip
_GLOBAL = {"mean": "Average", "amax": "Max"}


def _settings(args: Arguments) -> dict[str, Any]:
    axes = args.axes("dim")
    return {"axis": None if axes is None else tuple(axes), "keepdims": args.flag("keepdim")}


def _twice(settings: Settings, x: Any) -> Any:
    """Two results of the reduced shape."""
    return [reduced(settings, x)] * 2


@aten(*_REDUCTIONS)
def _reduction(args: Arguments) -> Translation:
    kind, function = _REDUCTIONS[args.name]
    settings = _settings(args)
    rank = args.rank()
    axes = axes_of(settings["axis"], rank)
    if args.name in _GLOBAL and isinstance(args.main, Tensor) and sorted(axes) == [2, 3, 4][: rank - 2] and axes:
        config = {"keepdims": settings["keepdims"], "data_format": "channels_first"}
        pooling = GlobalPooling(f"Global{_GLOBAL[args.name]}Pooling{rank - 2}D", config, (3,))
        return layer(pooling, (args.tensor(),))

    def call(given_settings: Settings, x: Any) -> Any:
        return function(x, axis=axes, keepdims=settings["keepdims"])

    return bare(args, kind, call, reduced, [args.main], settings)


@aten("max", "min")
def _extreme(args: Arguments) -> Translation:
    """Of everything, of two operands, or along one axis with the places (as the second of two results)."""
    largest = args.name == "max"
    if args.get("other") is not None:
        function = np.maximum if largest else np.minimum
        return binary(args, "Maximum" if largest else "Minimum", function, args.main, args.get("other"))
    kind = "Max" if largest else "Min"
    function: Callable[..., Any] = np.max if largest else np.min
    settings = _settings(args)
    if settings["axis"] is None:
        return unary(args, kind, function, settings, reduced)
    place = np.argmax if largest else np.argmin
    (axis,), keep = settings["axis"], settings["keepdims"]

    def call(_: Settings, x: Any) -> Any:
        return [function(x, axis=axis, keepdims=keep), place(x, axis=axis, keepdims=keep)]

    return bare(args, kind, call, _twice, [args.main], settings)


@aten("argmax", "argmin")
def _place(args: Arguments) -> Translation:
    kind, function = ("Argmax", np.argmax) if args.name == "argmax" else ("Argmin", np.argmin)
    settings = _settings(args)
    axis = None if settings["axis"] is None else settings["axis"][0]

    def call(_: Settings, x: Any) -> Any:
        return function(x, axis=axis, keepdims=settings["keepdims"])

    return bare(args, kind, call, reduced, [args.main], settings)


@aten("std", "var", "std_mean", "var_mean")
def _spread(args: Arguments) -> Translation:
    settings = _settings(args)
    correction = args.get("correction", 1 if args.flag("unbiased", True) else 0)
    function = np.std if args.name.startswith("std") else np.var
    keep = settings["keepdims"]

    def call(_: Settings, x: Any) -> Any:
        axis = axes_of(settings["axis"], np.ndim(x))
        # Whole numbers of degrees of freedom are the usual case, but torch takes any.
        spread = function(x, axis=axis, ddof=correction, keepdims=keep)
        return [spread, np.mean(x, axis=axis, keepdims=keep)] if args.name.endswith("_mean") else spread

    settings = {**settings, "correction": correction}
    kind = "Std" if args.name.startswith("std") else "Var"
    return bare(args, kind, call, _twice if args.name.endswith("_mean") else reduced, [args.main], settings)


@aten("norm", "linalg_vector_norm", "frobenius_norm")
def _norm(args: Arguments) -> Translation:
    order = args.get("p", args.get("ord", 2))
    if isinstance(order, str):
        order = float(order)
    settings = _settings(args)
    axes = axes_of(settings["axis"], args.rank())
    keep = settings["keepdims"]

    def call(_: Settings, x: Any) -> Any:
        size = np.abs(x)
        if order == np.inf:
            return size.max(axis=axes, keepdims=keep)
        if order == -np.inf:
            return size.min(axis=axes, keepdims=keep)
        if order == 0:
            return (size != 0).sum(axis=axes, keepdims=keep).astype(size.dtype)
        if order == 1:
            return size.sum(axis=axes, keepdims=keep)
        if order == 2:
            return np.sqrt(np.square(x).sum(axis=axes, keepdims=keep))
        return (size**order).sum(axis=axes, keepdims=keep) ** (1 / order)

    return bare(args, "Norm", call, reduced, [args.main], {**settings, "ord": order})


@aten("logsumexp")
def _logsumexp(args: Arguments) -> Translation:
    settings = _settings(args)
    return bare(args, "Logsumexp", logsumexp, reduced, [args.main], settings)


@aten("cumsum", "cumprod")
def _running(args: Arguments) -> Translation:
    axis = args.integer("dim", 0)
    kind = args.name.capitalize()
    function: Callable[..., Any] = np.cumsum if args.name == "cumsum" else np.cumprod

    def call(x: Any) -> Any:
        return function(x, axis=axis)

    return unary(args, kind, call, {"axis": axis})
