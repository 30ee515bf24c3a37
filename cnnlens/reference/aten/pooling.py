"""Pooling of torch: windows with numeric padding, ceil mode, dilation and divisors of their own."""

from __future__ import annotations

from typing import Any

from cnnlens.reference.aten.given import Given, Translation
from cnnlens.reference.aten.operations import layer
from cnnlens.reference.aten.registry import aten
from cnnlens.reference.keras.pooling import AdaptivePooling, GlobalPooling, Pooling

__all__: list[str] = []

_RANKS = (1, 2, 3)


def _rank(given: Given) -> int:
    rank = next(rank for rank in _RANKS if f"{rank}d" in given.name)
    shape = given.known(given.tensor())
    if len(shape) != rank + 2:
        raise given.refuse(f"an input (N, C, …) of {rank + 2} axes was expected, its shape is {shape}")
    return rank


@aten(*(f"max_pool{rank}d{end}" for rank in _RANKS for end in ("", "_with_indices")), "mkldnn_max_pool2d")
def _max_pool(given: Given) -> Translation:
    return _windows(given, "MaxPooling", {})


@aten(*(f"avg_pool{rank}d" for rank in _RANKS))
def _avg_pool(given: Given) -> Translation:
    extra = {
        "count_include_pad": given.flag("count_include_pad", True),
        "divisor_override": given.get("divisor_override"),
    }
    return _windows(given, "AveragePooling", extra)


def _windows(given: Given, kind: str, extra: dict[str, Any]) -> Translation:
    rank = _rank(given)
    window = given.integers("kernel_size", rank, 1)
    config = {
        "pool_size": window,
        "strides": given.integers("stride", rank, window),
        "padding": [[pad, pad] for pad in given.integers("padding", rank, 0)],
        "dilation_rate": given.integers("dilation", rank, 1),
        "ceil_mode": given.flag("ceil_mode"),
        "data_format": "channels_first",
        **extra,
    }
    return layer(Pooling(f"{kind}{rank}D", config, (3,)), (given.tensor(),))


@aten(
    *(f"adaptive_{name}_pool{rank}d" for name in ("avg", "max") for rank in _RANKS),
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
)
def _adaptive(given: Given) -> Translation:
    rank = _rank(given)
    name = "Max" if "max" in given.name else "Average"
    sizes = given.integers("output_size", rank, 1)
    if all(size == 1 for size in sizes):
        config = {"keepdims": True, "data_format": "channels_first"}
        return layer(GlobalPooling(f"Global{name}Pooling{rank}D", config, (3,)), (given.tensor(),))
    config = {"output_size": sizes, "data_format": "channels_first"}
    return layer(AdaptivePooling(f"Adaptive{name}Pooling{rank}D", config, (3,)), (given.tensor(),))
