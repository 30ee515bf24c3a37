"""Interpolation of torch, by sizes or by factors, with its own sampling positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnlens.reference.arithmetic.interpolation import Interpolation, nearest_places
from cnnlens.reference.aten.arguments import Arguments, Translation
from cnnlens.reference.aten.operations import layer
from cnnlens.reference.aten.registry import aten
from cnnlens.reference.keras.resizing import UpSampling

__all__: list[str] = []

_METHODS = {"nearest": "nearest", "linear": "linear", "bilinear": "linear", "trilinear": "linear", "bicubic": "bicubic"}
_SCALES = {1: ("scales",), 2: ("scales_h", "scales_w"), 3: ("scales_d", "scales_h", "scales_w")}


@aten(
    *(f"upsample_nearest{rank}d" for rank in (1, 2, 3)),
    *(f"_upsample_nearest_exact{rank}d" for rank in (1, 2, 3)),
    "upsample_linear1d",
    "upsample_bilinear2d",
    "upsample_trilinear3d",
    "upsample_bicubic2d",
)
def _upsample(args: Arguments) -> Translation:
    name = args.name.removeprefix("_").removeprefix("upsample_")
    rank = int(name[-2])
    exact = "exact" in name
    method = "nearest" if exact else _METHODS[name[:-2]]
    shape = args.known(args.tensor())
    if len(shape) != rank + 2:
        raise args.refuse(f"an input (N, C, …) of {rank + 2} axes was expected, its shape is {shape}")
    sizes = args.get("output_size")
    factors = args.get("scale_factors")
    if factors is None:
        found = [args.get(one) for one in _SCALES[rank]]
        factors = None if all(one is None for one in found) else found
    aligned = args.flag("align_corners")
    doubled = _whole_factors(shape, sizes, factors, rank)
    if method == "nearest" and not exact and doubled is not None:
        config: dict[str, Any] = {"size": doubled, "data_format": "channels_first"}
        return layer(UpSampling(f"UpSampling{rank}D", config, (3,)), (args.tensor(),))
    config = {
        "interpolation": method,
        "exact": exact,
        "align_corners": aligned,
        "size": sizes,
        "factors": factors,
        "data_format": "channels_first",
    }
    return layer(Interpolation(f"Interpolation{rank}D", config, (3,)), (args.tensor(),))


def _whole_factors(shape: Any, sizes: Any, factors: Any, rank: int) -> list[int] | None:
    """Whole factors by which every axis grows, where nearest is certain to be plain repetition."""
    found: list[int] = []
    for place in range(rank):
        size = shape[place + 2]
        factor = None if factors is None else factors[place]
        if factor is None:
            if sizes is None or size is None or sizes[place] % size:
                return None
            factor = sizes[place] // size
        if factor != int(factor):
            return None
        found.append(int(factor))
        if found[-1] & (found[-1] - 1) == 0:
            continue
        # The step is no binary fraction: float32 may fall short of the next cell.
        count = 0 if size is None else size * found[-1]
        places = nearest_places(size or 1, count, 1 / found[-1], exact=False)
        if size is None or not np.array_equal(places, np.arange(count) // found[-1]):
            return None
    return found
