"""Convolution as arithmetic on channels-last arrays: patches, matrix products, sums over taps.

A convolution is a matrix product over patches. The patches of a whole image would not fit in the cache, so they are
gathered for a block of output positions at a time, multiplied, and given bias and activation while the block is still
near. Everything large is one NumPy call that lets other threads run, and working memory belongs to the thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided

from cnnlens.reference.arithmetic.functions import Activation
from cnnlens.reference.operation import Array, block_ranges, scratch

__all__ = ["Finish", "Pads", "convolve", "depthwise", "finisher", "multiply_rows", "output_sizes", "same_padding"]

# Bytes of patches and of the outputs that they become, for one block. Measured on one core with 2 MB of L2 (float32,
# OpenBLAS, 14x14x32 -> 64 by 3x3, per image): 95 us with one image's patches (0.28 MB), 82 with two, 86 with four, 89
# with eight; of the 82, the product takes 60 (97 GFLOP/s), gathering 12, bias and ReLU 8.
_BLOCK_BYTES = 640 << 10
# Deep kernels (512 channels and more) are read once a block, so a block must not get small: 7x7x512 by 3x3 takes
# 6.8 ms in two blocks and 4.6 ms in one.
_LEAST_POSITIONS = 256
# With so few input channels the contiguous runs of a patch are too short to copy fast: gather a row a tap instead.
# 28x28x1 -> 32 by 3x3: 21 us an image, of which gathering takes 4.
_FEW_CHANNELS = 4
# Elements of a depthwise block; bias and activation then find it in the cache.
_DEPTHWISE_ELEMENTS = 1 << 16

Finish = Callable[[Array], None]
Pads = tuple[tuple[int, int], ...]


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Count the zeros before and behind an axis under ``same``: they depend on its size; the odd one is behind."""
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def finisher(bias: Array | None, activation: Activation | None) -> Finish:
    """Make what happens to a fresh block of outputs ``(positions, channels)`` while it is in the cache."""

    def finish(block: Array) -> None:
        if bias is not None:
            np.add(block, bias, out=block)
        if activation is not None:
            activation.function(block, block)

    return finish


def output_sizes(
    sizes: Sequence[int], taps: Sequence[int], strides: Sequence[int], pads: Pads, dilation: Sequence[int]
) -> tuple[int, ...]:
    """Work out the spatial sizes of a convolution's output."""
    return tuple(
        (size + before + after - (tap - 1) * gap - 1) // stride + 1
        for size, (before, after), tap, gap, stride in zip(sizes, pads, taps, dilation, strides, strict=True)
    )


def _pad_images(x: Array, pads: Pads) -> Array:
    """``x`` with zeros around its spatial axes; ``x`` itself where there are none. Scratch: use at once."""
    if not any(before or after for before, after in pads):
        return np.ascontiguousarray(x)
    sizes = [size + before + after for size, (before, after) in zip(x.shape[1:-1], pads, strict=True)]
    padded = scratch("padded", (x.shape[0], *sizes, x.shape[-1]), x.dtype)
    inner: list[slice] = [slice(None)] * x.ndim
    for axis, (before, after) in enumerate(pads, 1):
        edge = list(inner)
        edge[axis] = slice(0, before)
        padded[tuple(edge)] = 0
        edge[axis] = slice(padded.shape[axis] - after, None)
        padded[tuple(edge)] = 0
        inner[axis] = slice(before, before + x.shape[axis])
    padded[tuple(inner)] = x
    return padded


def _image_groups(x: Array, pads: Pads, images: int) -> Iterator[tuple[slice, Array]]:
    """Padded images, as many at once as one block can take."""
    if not any(before or after for before, after in pads):
        yield slice(0, x.shape[0]), _pad_images(x, pads)
        return
    for start in range(0, x.shape[0], images):
        part = slice(start, min(start + images, x.shape[0]))
        yield part, _pad_images(x[part], pads)


def _windows(
    padded: Array, block: tuple[slice, ...], taps: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> Array:
    """A view ``(images, *positions, *taps, channels)`` of the patches under a block of output positions."""
    start = tuple(slice(part.start * step, None) for part, step in zip(block[1:], strides, strict=True))
    corner = padded[(block[0], *start)]
    shape = tuple(part.stop - part.start for part in block) + tuple(taps) + (padded.shape[-1],)
    steps = padded.strides[1:-1]
    return as_strided(
        corner,
        shape,
        (
            padded.strides[0],
            *(step * stride for step, stride in zip(steps, strides, strict=True)),
            *(step * gap for step, gap in zip(steps, dilation, strict=True)),
            padded.strides[-1],
        ),
        writeable=False,
    )


def convolve(
    x: Array,
    kernel: Array,
    bias: Array | None,
    strides: Sequence[int],
    pads: Pads,
    dilation: Sequence[int],
    groups: int,
    activation: Activation | None,
) -> Array:
    """Correlate ``x (N, *spatial, C)`` with ``kernel (*taps, C / groups, F)`` to ``(N, *spatial', F)``."""
    taps, filters = kernel.shape[:-2], kernel.shape[-1]
    sizes = output_sizes(x.shape[1:-1], taps, strides, pads, dilation)
    out = np.empty((x.shape[0], *sizes, filters), x.dtype)
    depth = math.prod(kernel.shape[:-1])
    positions = max(_BLOCK_BYTES // ((depth + filters) * x.itemsize), _LEAST_POSITIONS)
    if math.prod(taps) == 1 and groups == 1:
        rows = _pad_images(x, pads)
        if any(stride > 1 for stride in strides):
            rows = rows[(slice(None), *(slice(None, None, stride) for stride in strides))]
        matrix, target = kernel.reshape(kernel.shape[-2:]), out.reshape(-1, filters)
        multiply_rows(rows.reshape(-1, x.shape[-1]), matrix, target, positions, finisher(bias, activation))
        return out
    few = groups == 1 and kernel.shape[-2] <= _FEW_CHANNELS
    matrices = [np.ascontiguousarray(part.reshape(depth, -1)) for part in np.split(kernel, groups, axis=-1)]
    if few and bias is not None:
        # A row of ones carries the bias through the product.
        matrices = [np.concatenate([matrices[0], bias.reshape(1, -1)])]
    finish = finisher(None if few else bias, activation)
    images = max(positions // max(math.prod(sizes), 1), 1)
    for part, padded in _image_groups(x, pads, images):
        for block in block_ranges((part.stop - part.start, *sizes), positions):
            windows = _windows(padded, block, taps, strides, dilation)
            target = out[part][block].reshape(-1, filters)
            if few:
                _taps_as_rows(windows, matrices[0], len(taps), target)
            else:
                _taps_as_columns(windows, matrices, target)
            finish(target)
    return out


def _taps_as_rows(windows: Array, matrix: Array, rank: int, target: Array) -> None:
    """Patches as ``(taps, positions)``: each row is a shifted copy of the image, contiguous where channels are few."""
    depth = math.prod(windows.shape[rank + 1 :])
    rows = scratch("patches", (matrix.shape[0], target.shape[0]), windows.dtype)
    moved = windows.transpose((*range(rank + 1, 2 * rank + 2), *range(rank + 1)))
    np.copyto(rows[:depth].reshape(moved.shape), moved)
    rows[depth:] = 1
    np.matmul(rows.T, matrix, out=target)


def _taps_as_columns(windows: Array, matrices: Sequence[Array], target: Array) -> None:
    """Patches as ``(positions, taps x channels)``: runs of kernel width x channels are contiguous on both sides."""
    depth, filters = matrices[0].shape
    channels = windows.shape[-1] // len(matrices)
    patches = scratch("patches", (target.shape[0], depth), windows.dtype)
    for group, matrix in enumerate(matrices):
        some = windows[..., group * channels : (group + 1) * channels]
        np.copyto(patches.reshape(some.shape), some)
        if len(matrices) == 1:
            np.matmul(patches, matrix, out=target)
        else:
            target[:, group * filters : (group + 1) * filters] = patches @ matrix


def multiply_rows(rows: Array, matrix: Array, target: Array, positions: int, finish: Finish) -> None:
    """Compute ``rows @ matrix`` into ``target``, block by block, each finished while it is in the cache."""
    for (part,) in block_ranges((rows.shape[0],), positions):
        np.matmul(rows[part], matrix, out=target[part])
        finish(target[part])


def depthwise(
    x: Array, kernel: Array, strides: Sequence[int], pads: Pads, dilation: Sequence[int], finish: Finish
) -> Array:
    """Convolve each channel of ``x (N, *spatial, C)`` by itself, taps ``(*taps, C, M)``: ``(N, *spatial', C * M)``.

    One einsum a block, whose inner loop multiplies and adds along the channels without a temporary. Measured against
    shifted products and sums over whole rows: 14x14x384 0.19 ms against 0.53, 7x7x960 0.10 against 0.31, 56x56x144
    1.8 against 2.1, 112x112x32 2.9 against 1.8.
    """
    taps, multiplier = kernel.shape[:-2], kernel.shape[-1]
    if multiplier > 1:
        # Output channel c * M + m: as if every input channel were there M times.
        x = np.repeat(x, multiplier, axis=-1)
    channels = x.shape[-1]
    table = np.ascontiguousarray(kernel.reshape(*taps, channels))
    sizes = output_sizes(x.shape[1:-1], taps, strides, pads, dilation)
    out = np.empty((x.shape[0], *sizes, channels), x.dtype)
    rank = len(taps)
    places = list(range(rank + 1))
    slots = list(range(rank + 1, 2 * rank + 1))
    channel = 2 * rank + 1
    images = max(_DEPTHWISE_ELEMENTS // max(math.prod(sizes) * channels, 1), 1)
    positions = max(_DEPTHWISE_ELEMENTS // channels, 1)
    for part, padded in _image_groups(x, pads, images):
        for block in block_ranges((part.stop - part.start, *sizes), positions):
            windows = _windows(padded, block, taps, strides, dilation)
            target = out[part][block]
            np.einsum(windows, [*places, *slots, channel], table, [*slots, channel], [*places, channel], out=target)
            finish(target.reshape(-1, channels))
    return out
