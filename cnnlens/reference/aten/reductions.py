"""Means, sums, extremes, spreads and norms over some axes or all, and running sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnlens.reference.aten.elementwise import binary
from cnnlens.reference.aten.given import Given, Tensor, Translation
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


def _settings(given: Given) -> dict[str, Any]:
    axes = given.axes("dim")
    return {"axis": None if axes is None else tuple(axes), "keepdims": given.flag("keepdim")}


def _twice(settings: Settings, x: Any) -> Any:
    """Two results of the reduced shape."""
    return [reduced(settings, x)] * 2


@aten(*_REDUCTIONS)
def _reduction(given: Given) -> Translation:
    kind, function = _REDUCTIONS[given.name]
    settings = _settings(given)
    rank = given.rank()
    axes = axes_of(settings["axis"], rank)
    if given.name in _GLOBAL and isinstance(given.main, Tensor) and sorted(axes) == [2, 3, 4][: rank - 2] and axes:
        config = {"keepdims": settings["keepdims"], "data_format": "channels_first"}
        pooling = GlobalPooling(f"Global{_GLOBAL[given.name]}Pooling{rank - 2}D", config, (3,))
        return layer(pooling, (given.tensor(),))

    def call(given_settings: Settings, x: Any) -> Any:
        return function(x, axis=axes, keepdims=settings["keepdims"])

    return bare(given, kind, call, reduced, [given.main], settings)


@aten("max", "min")
def _extreme(given: Given) -> Translation:
    """Of everything, of two operands, or along one axis with the places (as the second of two results)."""
    largest = given.name == "max"
    if given.get("other") is not None:
        function = np.maximum if largest else np.minimum
        return binary(given, "Maximum" if largest else "Minimum", function, given.main, given.get("other"))
    kind = "Max" if largest else "Min"
    function: Callable[..., Any] = np.max if largest else np.min
    settings = _settings(given)
    if settings["axis"] is None:
        return unary(given, kind, function, settings, reduced)
    place = np.argmax if largest else np.argmin
    (axis,), keep = settings["axis"], settings["keepdims"]

    def call(_: Settings, x: Any) -> Any:
        return [function(x, axis=axis, keepdims=keep), place(x, axis=axis, keepdims=keep)]

    return bare(given, kind, call, _twice, [given.main], settings)


@aten("argmax", "argmin")
def _place(given: Given) -> Translation:
    kind, function = ("Argmax", np.argmax) if given.name == "argmax" else ("Argmin", np.argmin)
    settings = _settings(given)
    axis = None if settings["axis"] is None else settings["axis"][0]

    def call(_: Settings, x: Any) -> Any:
        return function(x, axis=axis, keepdims=settings["keepdims"])

    return bare(given, kind, call, reduced, [given.main], settings)


@aten("std", "var", "std_mean", "var_mean")
def _spread(given: Given) -> Translation:
    settings = _settings(given)
    correction = given.get("correction", 1 if given.flag("unbiased", True) else 0)
    function = np.std if given.name.startswith("std") else np.var
    keep = settings["keepdims"]

    def call(_: Settings, x: Any) -> Any:
        axis = axes_of(settings["axis"], np.ndim(x))
        # Whole numbers of degrees of freedom are the usual case, but torch takes any.
        spread = function(x, axis=axis, ddof=correction, keepdims=keep)
        return [spread, np.mean(x, axis=axis, keepdims=keep)] if given.name.endswith("_mean") else spread

    settings = {**settings, "correction": correction}
    kind = "Std" if given.name.startswith("std") else "Var"
    return bare(given, kind, call, _twice if given.name.endswith("_mean") else reduced, [given.main], settings)


@aten("norm", "linalg_vector_norm", "frobenius_norm")
def _norm(given: Given) -> Translation:
    order = given.get("p", given.get("ord", 2))
    if isinstance(order, str):
        order = float(order)
    settings = _settings(given)
    axes = axes_of(settings["axis"], given.rank())
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

    return bare(given, "Norm", call, reduced, [given.main], {**settings, "ord": order})


@aten("logsumexp")
def _logsumexp(given: Given) -> Translation:
    settings = _settings(given)
    return bare(given, "Logsumexp", logsumexp, reduced, [given.main], settings)


@aten("cumsum", "cumprod")
def _running(given: Given) -> Translation:
    axis = given.integer("dim", 0)
    kind = given.name.capitalize()
    function: Callable[..., Any] = np.cumsum if given.name == "cumsum" else np.cumprod

    def call(x: Any) -> Any:
        return function(x, axis=axis)

    return unary(given, kind, call, {"axis": axis})
