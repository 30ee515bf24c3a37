"""Matrix products, which read their axes in PyTorch's order, and resizing.

A product's operands are turned to PyTorch's order first. Resizing is said in Keras' layers only where they pick the
very same positions; what keeps its corners in place is a fixed matrix an axis.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.conversion.to_keras.call_site import CallSite, aten
from cnnlens.conversion.to_keras.value import Value, identity
from cnnlens.errors import UnsupportedLayerError
from cnnlens.reference.aten.arguments import Tensor, WeightName

__all__ = ["as_in_torch"]


def as_in_torch(site: CallSite, value: Any) -> Value:
    """Give a tensor with its axes in PyTorch's order."""
    tensor = site.tensor(value)
    return site.builder.turned(tensor, identity(tensor.rank))


def _matrix_product(site: CallSite) -> Value:
    args = site.args
    other = args.get("mat2", args.get("other"))
    if not isinstance(args.main, Tensor) or not isinstance(other, Tensor):
        raise UnsupportedLayerError("a parameter stands in a matrix product; Keras has no layer for that")
    first, second = as_in_torch(site, args.main), as_in_torch(site, other)
    return site.operate("Matmul", [first, second], axes=identity(len(site.shape)))


@aten("bmm")
def _bmm(site: CallSite) -> Value:
    return _matrix_product(site)


@aten("matmul", "mm", "linalg_matmul")
def _matmul(site: CallSite) -> Value:
    from cnnlens.conversion.to_keras.call_site import BY_CLASS
    from cnnlens.reference.keras.dense import Dense

    if isinstance(site.operation, Dense):
        return cast(Value, BY_CLASS[Dense](site))
    return _matrix_product(site)


@aten("einsum")
def _einsum(site: CallSite) -> Value:
    """Of tensors an operation; of a tensor and a parameter a layer, which keeps the parameter a weight."""
    operands = cast("list[Any]", site.args.get("tensors") or [])
    equation = str(site.args.get("equation")).replace(" ", "")
    axes = identity(len(site.shape))
    tensors = [as_in_torch(site, value) for value in operands if isinstance(value, Tensor)]
    if len(tensors) == len(operands):
        return site.operate("Einsum", tensors, {"subscripts": equation}, axes=axes)
    left, arrow, right = equation.partition("->")
    letters = left.split(",")
    if len(operands) != 2 or len(tensors) != 1 or not arrow or "." in equation or site.shape[0] is not None:
        raise UnsupportedLayerError("a parameter stands in a product of this form")
    place = 0 if isinstance(operands[1], Tensor) else 1
    weight = site.arrays[cast(WeightName, operands[place]).name]
    if place == 0:
        letters.reverse()
    config = {
        "equation": f"{','.join(letters)}->{right}",
        "output_shape": list(site.shape[1:]),
        "activation": "linear",
        "bias_axes": None,
    }
    return site.layer("EinsumDense", tensors[0], config, {"kernel": weight}, axes=axes)


# --- resizing ---------------------------------------------------------------------------------------------------------

_NEAREST = [f"upsample_nearest{rank}d" for rank in (1, 2, 3)]


def _factors(site: CallSite, x: Value) -> list[int] | None:
    """How often each position stands in the output, where that is a whole number everywhere."""
    pairs = list(zip(x.shape[2:], site.shape[2:], strict=True))
    if any(not before or not after or after % before for before, after in pairs):
        return None
    return [cast(int, after) // cast(int, before) for before, after in pairs]


def _fits(site: CallSite, x: Value) -> bool:
    """Whether a stated factor is the ratio of the sizes: PyTorch samples by the factor, Keras by the sizes."""
    scales = site.args.get("scale_factors")
    if scales is None:
        names = ("scales",) if x.rank == 3 else ("scales_d", "scales_h", "scales_w")[5 - x.rank :]
        scales = [site.args.get(name) for name in names]
    return all(
        scale is None or math.isclose(scale * cast(int, before), cast(int, after), rel_tol=1e-12)
        for scale, before, after in zip(scales, x.shape[2:], site.shape[2:], strict=False)
    )


def _upsampling(site: CallSite, x: Value, factors: list[int], method: str) -> Value:
    size: Any = factors[0] if x.rank == 3 else factors
    config: dict[str, Any] = {"size": size}
    if x.rank > 3:
        config["data_format"] = "channels_last"
    if x.rank == 4:
        config["interpolation"] = method
    return site.layer(f"UpSampling{x.rank - 2}D", x, config)


def _between_corners(site: CallSite, x: Value) -> Value:
    """Linear interpolation that leaves the corners where they are, which Keras has not: a fixed matrix an axis."""
    if x.rank not in (3, 4, 5):
        raise UnsupportedLayerError(f"a map was expected, its shape is {x.shape}")
    shape = list(x.shape)
    letters = "abcde"[: x.rank]
    for axis in range(2, x.rank):
        before, after = cast(int, x.shape[axis]), cast(int, site.shape[axis])
        if before == after:
            continue
        shape[axis] = after
        place = x.place(axis)
        made = letters[:place] + "z" + letters[place + 1 :]
        sizes = [shape[one] for one in x.axes][1:]
        config = {
            "equation": f"{letters},{letters[place]}z->{made}",
            "output_shape": sizes,
            "activation": "linear",
            "bias_axes": None,
            "trainable": False,
        }
        shares = f"the shares of neighbours in {site.call.layer.shown}"
        kernel = {"kernel": site.builder.rounded(_corner_weights(before, after), shares)}
        x = site.layer("EinsumDense", x, config, kernel, shape=tuple(shape), name=f"_{axis - 2}")
    return x


def _corner_weights(before: int, after: int) -> NDArray[Any]:
    """How much of each of ``before`` positions goes into each of ``after``, ``(before, after)``."""
    at = np.arange(after) * ((before - 1) / (after - 1) if after > 1 else 0.0)
    low = np.minimum(np.floor(at).astype(np.int64), before - 1)
    high = np.minimum(low + 1, before - 1)
    share = at - low
    weights = np.zeros((before, after))
    np.add.at(weights, (low, np.arange(after)), 1 - share)
    np.add.at(weights, (high, np.arange(after)), share)
    return weights


@aten("upsample_linear1d", "upsample_trilinear3d")
def _linear(site: CallSite) -> Value:
    if not site.args.flag("align_corners"):
        raise UnsupportedLayerError("Keras interpolates in two dimensions alone")
    return _between_corners(site, site.map())


@aten(*_NEAREST)
def _nearest(site: CallSite) -> Value:
    x = site.map()
    factors = _factors(site, x)
    if factors is None or not _fits(site, x):
        raise UnsupportedLayerError("Keras picks other pixels than PyTorch where the factor is no whole number")
    return _upsampling(site, x, factors, "nearest")


@aten("upsample_bilinear2d")
def _bilinear(site: CallSite) -> Value:
    x = site.map()
    if site.args.flag("align_corners"):
        return _between_corners(site, x)
    if not _fits(site, x):
        raise UnsupportedLayerError("its factor is not the ratio of its sizes, by which Keras samples")
    factors = _factors(site, x)
    if factors is not None:
        return _upsampling(site, x, factors, "bilinear")
    height, width = site.shape[2:]
    config = {
        "height": height,
        "width": width,
        "interpolation": "bilinear",
        "crop_to_aspect_ratio": False,
        "pad_to_aspect_ratio": False,
        "fill_mode": "constant",
        "fill_value": 0.0,
        "antialias": False,
        "data_format": "channels_last",
    }
    return site.layer("Resizing", x, config)
