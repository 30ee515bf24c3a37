"""Changing the number of positions: up-sampling, resizing, cropping about the centre, by Keras' rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from cnnlens.conversion.to_torch.call_site import CallSite, rule
from cnnlens.conversion.to_torch.names import literal
from cnnlens.conversion.to_torch.rules.padding import alike, constant_pad, spatial, to_maps
from cnnlens.conversion.to_torch.value import Value, shown
from cnnlens.reference.keras.resizing import CenterCrop, Resizing, UpSampling, of_ratio

__all__ = ["resized"]

_LANCZOS = {"lanczos3": 3, "lanczos5": 5}


@rule("UpSampling1D", "UpSampling2D", "UpSampling3D")
def up_sampling(site: CallSite) -> Value:
    operation = cast("UpSampling", site.operation)
    x = to_maps(site, site.x, operation.rank, operation.channels_first)
    factors = operation.size
    if operation.method == "nearest":
        if all(_exact(factor) for factor in factors):
            text = f"{site.module(f'nn.Upsample(scale_factor={alike(factors)})')}({x.text})"
        else:
            text = x.text
            for axis, factor in enumerate(factors, 2):
                text = f"{text}.repeat_interleave({factor}, dim={axis})" if factor > 1 else text
        return Value(text, site.shape, x.order, site.axis)
    if operation.method == "bilinear":
        text = f'nn.Upsample(scale_factor={alike(factors)}, mode="bilinear", align_corners=False)'
        return Value(f"{site.module(text)}({x.text})", site.shape, x.order, site.axis)
    base = x if x.text.isidentifier() else x.new(site.let(x.text, "maps"))
    wanted = [
        str(size * factor) if size is not None else f"{base.text}.shape[{axis}] * {factor}"
        for axis, (size, factor) in enumerate(zip(spatial(x.shape, operation.channels_first), factors, strict=True), 2)
    ]
    return resized(site, base, f"({', '.join(wanted)})", operation.method, antialias=False)


def _exact(factor: int) -> bool:
    """Whether PyTorch's nearest positions, in float32, are Keras' repetition for maps of any usual size."""
    places = np.arange(20_000)
    step = np.float32(1.0) / np.float32(factor)
    return bool((np.floor(places.astype(np.float32) * step).astype(int) == places // factor).all())


def resized(site: CallSite, x: Value, size: str, method: str, *, antialias: bool) -> Value:
    """Resize ``x (N, C, H, W)`` to ``size``, the text of a pair."""
    made = Value("", site.shape, x.order, site.axis)
    more = ", antialias=True" if antialias else ""
    if method == "nearest":
        site.note("nearest", 'Keras takes the pixel under the centre: "nearest-exact", not "nearest".')
        return made.new(f'F.interpolate({x.text}, size={size}, mode="nearest-exact")')
    if method == "bilinear":
        return made.new(f'F.interpolate({x.text}, size={size}, mode="bilinear", align_corners=False{more})')
    if method == "bicubic" and antialias:
        return made.new(f'F.interpolate({x.text}, size={size}, mode="bicubic", align_corners=False{more})')
    if method == "bicubic":
        site.note("bicubic", "Keras' bicubic has a = -0.5 and a table of 1024 steps; PyTorch's has a = -0.75.")
        return made.new(f"{site.helper('resize_bicubic')}({x.text}, {size})")
    site.note("lanczos", "PyTorch has no Lanczos resampling.")
    radius = _LANCZOS[method]
    return made.new(f"{site.helper('resize_lanczos')}({x.text}, {size}, {radius}{more})")


def _known(site: CallSite, x: Value, channels_first: bool) -> tuple[int, int]:
    height, width = spatial(x.shape, channels_first)
    if height is None or width is None:
        raise site.refuse("what it crops or pads depends on the size of the image, which the file leaves open")
    return height, width


def _cut_to_ratio(site: CallSite, x: Value, sizes: tuple[int, int], wanted: Sequence[int]) -> Value:
    height, width = sizes
    tall, wide = of_ratio(height, width, wanted)
    tall, wide = max(min(height, tall), 1), max(min(width, wide), 1)
    top, left = (height - tall) // 2, (width - wide) // 2
    if (tall, wide) == (height, width):
        return x
    site.note("ratio", f"The middle {tall} x {wide} of the {height} x {width} pixels, which has the wanted ratio.")
    return x.new(f"{x.text}[{_middle((top, left), (tall, wide))}]")


def _middle(start: Sequence[int], sizes: Sequence[int]) -> str:
    return ", ".join([":", ":", *(f"{first}:{first + size}" for first, size in zip(start, sizes, strict=True))])


@rule("Resizing")
def resizing(site: CallSite) -> Value:
    operation = cast("Resizing", site.operation)
    x = to_maps(site, site.x, 2, operation.channels_first)
    if operation.crop:
        x = _cut_to_ratio(site, x, _known(site, x, operation.channels_first), operation.size)
    elif operation.pad:
        height, width = _known(site, x, operation.channels_first)
        tall, wide = of_ratio(height, width, operation.size)
        top, left = (max(height, tall) - height) // 2, (max(width, wide) - width) // 2
        if top or left:
            site.note("pad-ratio", "Bands on two sides give the wanted ratio.")
            x = x.new(constant_pad(x.text, ((top, top), (left, left)), literal(operation.value)))
    return resized(site, x, shown(operation.size), operation.method, antialias=operation.antialias)


@rule("CenterCrop")
def center_crop(site: CallSite) -> Value:
    operation = cast("CenterCrop", site.operation)
    x = to_maps(site, site.x, 2, operation.channels_first)
    height, width = _known(site, x, operation.channels_first)
    spare = [height - operation.size[0], width - operation.size[1]]
    if min(spare) >= 0:
        text = f"{x.text}[{_middle([one // 2 for one in spare], operation.size)}]" if max(spare) else x.text
        return Value(text, site.shape, x.order, site.axis)
    x = _cut_to_ratio(site, x, (height, width), operation.size)
    return resized(site, x, shown(operation.size), "bilinear", antialias=False)
