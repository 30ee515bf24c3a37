"""Pooling of torch: windows with numeric padding, ceil mode, dilation and divisors of their own."""

from __future__ import annotations

from typing import Any

from cnnlens.reference.aten.arguments import Arguments, Translation
from cnnlens.reference.aten.operations import layer
from cnnlens.reference.aten.registry import aten
from cnnlens.reference.keras.pooling import AdaptivePooling, GlobalPooling, Pooling

__all__: list[str] = []

_RANKS = (1, 2, 3)


def _rank(args: Arguments) -> int:
    rank = next(rank for rank in _RANKS if f"{rank}d" in args.name)
    shape = args.known(args.tensor())
    if len(shape) != rank + 2:
        raise args.refuse(f"an input (N, C, …) of {rank + 2} axes was expected, its shape is {shape}")
    return rank


@aten(*(f"max_pool{rank}d{end}" for rank in _RANKS for end in ("", "_with_indices")), "mkldnn_max_pool2d")
def _max_pool(args: Arguments) -> Translation:
    return _windows(args, "MaxPooling", {})


@aten(*(f"avg_pool{rank}d" for rank in _RANKS))
def _avg_pool(args: Arguments) -> Translation:
    extra = {
        "count_include_pad": args.flag("count_include_pad", True),
        "divisor_override": args.get("divisor_override"),
    }
    return _windows(args, "AveragePooling", extra)


def _windows(args: Arguments, kind: str, extra: dict[str, Any]) -> Translation:
    rank = _rank(args)
    window = args.integers("kernel_size", rank)
    config = {
        "pool_size": window,
        "strides": args.integers("stride", rank, window),
        "padding": [[pad, pad] for pad in args.integers("padding", rank, 0)],
        "dilation_rate": args.integers("dilation", rank, 1),
        "ceil_mode": args.flag("ceil_mode"),
        "data_format": "channels_first",
        **extra,
    }
    return layer(Pooling(f"{kind}{rank}D", config, (3,)), (args.tensor(),))


@aten(
    *(f"adaptive_{name}_pool{rank}d" for name in ("avg", "max") for rank in _RANKS),
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
)
def _adaptive(args: Arguments) -> Translation:
    rank = _rank(args)
    name = "Max" if "max" in args.name else "Average"
    sizes = args.integers("output_size", rank)
    if all(size == 1 for size in sizes):
        config = {"keepdims": True, "data_format": "channels_first"}
        return layer(GlobalPooling(f"Global{name}Pooling{rank}D", config, (3,)), (args.tensor(),))
    config = {"output_size": sizes, "data_format": "channels_first"}
    return layer(AdaptivePooling(f"Adaptive{name}Pooling{rank}D", config, (3,)), (args.tensor(),))
