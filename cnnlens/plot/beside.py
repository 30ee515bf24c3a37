"""One kernel between what goes into it and the feature map that comes out: what a convolution does, in one picture.

The picture for a first lesson: no formula, only input, kernel and result with their sizes.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from cnnlens.plot.colours import ACTIVATIONS, WEIGHTS, paint, scale_of
from cnnlens.plot.sheet import PALE, RULE, number, put, sheet, show
from cnnlens.plot.tiles import mosaic
from cnnlens.plot.values import Floats, broken_notes, largest, real_numbers, value_range

__all__ = ["kernel_and_map"]

_SIDE = 420  # pixels of a panel: a multiple of most sizes of maps, so that their cells come out equal


def kernel_and_map(
    kernel: ArrayLike,
    image: ArrayLike | None,
    feature_map: ArrayLike,
    *,
    title: str = "kernel and feature map",
    subtitle: str = "",
) -> Figure:
    """Draw what goes in, the kernel that it meets, and the feature map that comes out, side by side.

    Args:
        kernel: ``(in, H, W)``, one kernel of a layer.
        image: ``(C, H, W)``, what the layer saw: grey (C = 1), in colour (C = 3), each over its own range, or a grid.
            None leaves it out.
        feature_map: ``(H, W)``, what the kernel made of it.
        title, subtitle: As in `kernels`.

    Returns:
        The figure: an axes a panel, with a colour bar under the kernel and under the map.

    Raises:
        CnnlensError: An array of another rank, nothing to draw, or no real numbers.

    >>> import cnnlens.sample
    >>> net = cnnlens.open(cnnlens.sample.MODEL)
    >>> image = cnnlens.images.load(cnnlens.sample.IMAGES, shape=(1, 28, 28), limit=1).array
    >>> maps = net.run(image, layers=["conv2d"])["conv2d"]
    >>> figure = cnnlens.plot.kernel_and_map(net["conv2d"].kernel.array[5], image[0], maps[0, 5])
    >>> cnnlens.plot.save(figure, "kernel-5.png").name
    'kernel-5.png'
    """
    weights = real_numbers(kernel, "the kernel", 3, 3)
    result = real_numbers(feature_map, "the feature map", 2, 2)
    bound = largest(weights, None)
    low, high = value_range(result[None], None)
    notes = [*broken_notes(weights, "input channel"), *broken_notes(result[None], "", [0])]
    panels: list[tuple[str, NDArray[np.uint8]]] = []
    if image is not None:
        seen = real_numbers(image, "the image", 3, 3)
        panels.append((f"input  {' × '.join(map(str, seen.shape))}", _picture(seen)))
    panels.append((f"kernel  {' × '.join(map(str, weights.shape))}", _tiled(paint(weights, WEIGHTS, -bound, bound))))
    panels.append((f"feature map  {' × '.join(map(str, result.shape))}", paint(result, ACTIVATIONS, low, high)))

    side, between = _SIDE, 120
    width = side * len(panels) + between * (len(panels) - 1)
    frame = sheet(width, side, ax=None, title=title, subtitle=[subtitle], notes=notes, top=26, bottom=70)
    frame.set_axis_off()
    figure = cast(Figure, frame.get_figure(root=True))
    whole = frame.get_position()
    for index, (name, painted) in enumerate(panels):
        scale = max(1, side // max(painted.shape[:2]))
        enlarged = painted.repeat(scale, axis=0).repeat(scale, axis=1)
        high_px, wide_px = min(side, enlarged.shape[0]), min(side, enlarged.shape[1])
        x = index * (side + between) + (side - wide_px) / 2
        y = (side - high_px) / 2
        box = (
            whole.x0 + x / width * whole.width,
            whole.y0 + y / side * whole.height,
            wide_px / width * whole.width,
            high_px / side * whole.height,
        )
        panel = figure.add_axes(box)
        show(panel, enlarged)
        for spine in panel.spines.values():
            spine.set_color(RULE)
        panel.set_xticks([])
        panel.set_yticks([])
        put(panel, name, shift=(0, 9), color=PALE)
        if index:
            sign = "→" if index == len(panels) - 1 else "∗"
            place = (index * (side + between) - between / 2) / width
            put(frame, sign, at=(place, 0.5), size=22, color=PALE, ha="center", va="center")
        kind = {"kernel": scale_of(WEIGHTS, -bound, bound), "feature": scale_of(ACTIVATIONS, low, high)}.get(
            name.split()[0]
        )
        if kind is not None:
            left, right = index * (side + between) + side * 0.15, side * 0.7
            rail = figure.add_axes(
                (
                    whole.x0 + left / width * whole.width,
                    whole.y0 - 30 / side * whole.height,
                    right / width * whole.width,
                    12 / side * whole.height,
                )
            )
            ends = (-bound, 0.0, bound) if name.startswith("kernel") else (low, high)
            bar = figure.colorbar(kind, cax=rail, orientation="horizontal", ticks=list(ends))
            bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
            rail.set_xticks(list(ends), [number(end) for end in ends])
            rail.tick_params(length=0, labelsize=7.5, labelcolor=PALE, pad=4)
    return figure


def _picture(image: Floats) -> NDArray[np.uint8]:
    """``(C, H, W)`` as people would see it: over its own range, grey or RGB; other counts as a grid of maps."""
    low, high = value_range(image.reshape(1, -1), None)
    if image.shape[0] == 1:
        return paint(image[0], "gray", low, high)
    if image.shape[0] == 3:
        return np.stack([paint(plane, "gray", low, high)[..., 0] for plane in image], axis=-1)
    return _tiled(paint(image, ACTIVATIONS, low, high))


def _tiled(painted: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if len(painted) == 1:
        return painted[0]
    height, width = painted.shape[1:3]
    columns = math.ceil(math.sqrt(len(painted) * height / width))
    scale = max(1, min((_SIDE // columns - 2) // width, (_SIDE // math.ceil(len(painted) / columns) - 2) // height))
    return mosaic(painted, columns, scale=scale, gap=2 if scale > 2 else 1, fill=255).image
