"""Pictures show the numbers they were given: every cell in its place, in its colour, and nothing made up in between.

What is checked here is what a person reads off a picture: which cell has which colour, what the labels and notes say,
and that what cannot be drawn is refused in one line. Whole pictures are held against stored ones in `test_baseline`.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from PIL import Image

from cnnlens import plot
from cnnlens.errors import CnnlensError
from cnnlens.network.untrained import keras as initializers
from cnnlens.plot.colours import ACTIVATIONS, INFINITE, NAN, WEIGHTS, rgb
from cnnlens.plot.distribution import histograms
from cnnlens.plot.tiles import columns_for, shrink

RANDOM = np.random.default_rng(5)
KERNELS = RANDOM.normal(0, 0.2, (6, 4, 3, 2)).astype(np.float32)


def image_of(figure: Figure) -> np.ndarray:
    """The one image of a figure's first axes."""
    (image,) = figure.axes[0].images
    return np.asarray(image.get_array())


def cells(
    figure: Figure, words: str = r"tile (\d+), row (\d+), column (\d+)"
) -> dict[tuple[int, ...], tuple[int, ...]]:
    """(tile, row, column) -> colour, by what the figure itself says about a place; each cell must be one colour."""
    ax, image = figure.axes[0], image_of(figure)
    found: dict[tuple[int, ...], tuple[int, ...]] = {}
    for y in range(0, image.shape[0], 9):
        for x in range(0, image.shape[1], 9):
            said = re.fullmatch(words, ax.format_coord(x + 0.5, y + 0.5))
            if said:
                place = tuple(int(number) for number in said.groups())
                colour = tuple(image[y, x].tolist())
                assert found.setdefault(place, colour) == colour, f"{place} has more than one colour"
    return found


def looked_up(values: np.ndarray, colours: str, low: float, high: float) -> np.ndarray:
    place = np.rint((values.astype(np.float64) - low) / (high - low) * 255).astype(int)
    return (colormaps[colours](np.linspace(0, 1, 256), bytes=True)[:, :3])[place]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def draw(figure: Figure) -> np.ndarray:
    """Every pixel as it would be saved."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


# ------------------------------------------------------------------------------------------------------------- mosaic


@given(
    st.integers(1, 13), st.integers(1, 4), st.integers(1, 5), st.integers(1, 9), st.integers(0, 4), st.integers(1, 3),
    st.integers(1, 3), st.booleans(),
)  # fmt: skip
def test_tile_k_of_the_mosaic_is_tile_k(
    count: int, height: int, width: int, columns: int, gap: int, down: int, across: int, colours: bool
) -> None:
    tiles = np.random.default_rng(count).integers(1, 255, (count, height, width, 3)[: 4 if colours else 3], np.uint8)
    image, boxes = plot.mosaic(tiles, columns, scale=(down, across), gap=gap, fill=0)
    assert image.dtype == tiles.dtype
    assert image.shape[0] == math.ceil(count / columns) * (height * down + gap) - gap
    covered = np.zeros(image.shape[:2], int)
    for tile, (top, left, high, wide) in zip(tiles, boxes.tolist(), strict=True):
        inside = image[top : top + high, left : left + wide]
        np.testing.assert_array_equal(inside[::down, ::across], tile)
        np.testing.assert_array_equal(inside, tile.repeat(down, 0).repeat(across, 1))
        covered[top : top + high, left : left + wide] += 1
    assert covered.max() == 1, "tiles overlap"
    assert not image[covered == 0].any(), "something else than the fill lies between the tiles"


def test_a_frame_surrounds_each_tile_and_takes_no_place_from_it() -> None:
    tiles = np.full((5, 2, 3), 7)
    image, boxes = plot.mosaic(tiles, 2, gap=4, frame=1, line=9)
    top, left, height, width = boxes[3].tolist()
    np.testing.assert_array_equal(image[top - 1, left - 1 : left + width + 1], 9)
    np.testing.assert_array_equal(image[top : top + height, left + width], 9)
    assert (image == 7).sum() == tiles.size
    with pytest.raises(ValueError, match="do not fit into a gap"):
        plot.mosaic(tiles, 2, gap=1, frame=1)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (3, 3), (10, 5), (32, 8), (64, 8), (512, 32), (2048, 64)])
def test_a_grid_is_a_bit_wider_than_high_and_full(count: int, columns: int) -> None:
    assert columns_for(count) == columns


@given(st.integers(1, 5000), st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=40)
def test_there_are_never_more_columns_than_tiles(count: int, height: int, width: int) -> None:
    assert 1 <= columns_for(count, tile_height=height, tile_width=width) <= count


@pytest.mark.slow
def test_a_picture_on_disk_has_the_pixels_of_the_mosaic(tmp_path: Path) -> None:
    figure = plot.feature_maps(RANDOM.random((1, 17, 23)), axes="CHW")  # one: no numbers are written into it
    mosaic = image_of(figure)
    left, bottom, right, top = figure.axes[0].get_window_extent().extents.round().astype(int)
    with Image.open(plot.save(figure, tmp_path / "maps.png")) as opened:
        saved = np.asarray(opened.convert("RGB"))
    np.testing.assert_array_equal(saved[len(saved) - top : len(saved) - bottom, left:right], mosaic)
    figure.axes[0].set_xlim(mosaic.shape[1] / 2, mosaic.shape[1])  # a part of it, as a person zooms into a window
    figure.axes[0].set_ylim(mosaic.shape[0], mosaic.shape[0] / 2)
    with Image.open(plot.save(figure, tmp_path / "part.png")) as opened:
        zoomed = np.asarray(opened.convert("RGB"))
    part = mosaic[mosaic.shape[0] // 2 :, mosaic.shape[1] // 2 :]
    colours = {tuple(colour) for colour in part.reshape(-1, 3).tolist()}
    inside = zoomed[len(zoomed) - top + 2 : len(zoomed) - bottom - 2, left + 2 : right - 2]
    assert {tuple(colour) for colour in inside.reshape(-1, 3).tolist()} <= colours


@pytest.mark.slow
def test_large_maps_take_little_more_than_themselves(tmp_path: Path) -> None:
    maps = RANDOM.random((273, 743, 24), np.float32).transpose(2, 0, 1)  # as the reference leaves them: channels last
    figure = plot.feature_maps(maps[:2])
    plot.save(figure, tmp_path / "warm.png")
    tracemalloc.start()
    figure = plot.feature_maps(maps, axes="CHW")
    drawn = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    plot.save(figure, tmp_path / "maps.png")
    saved = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    pixels = image_of(figure).nbytes
    assert drawn < maps.nbytes / 4 + 5 * pixels
    assert saved < 8 * pixels


def test_kernels_of_one_cell_are_one_matrix() -> None:
    kernel = RANDOM.normal(size=(7, 5, 1, 1))
    np.testing.assert_array_equal(image_of(plot.kernels(kernel)), image_of(plot.kernels(kernel[..., 0, 0])))
    assert "kernels of 1 × 1 as one matrix" in texts(plot.kernels(kernel))
    assert image_of(plot.kernels(kernel, channel=2)).shape != image_of(plot.kernels(kernel)).shape


def test_many_histograms_are_one_page_that_names_each_and_says_what_is_broken() -> None:
    shown = [(f"layer_{index}", RANDOM.normal(size=(3, index + 1))) for index in range(7)]
    shown += [("zeros", np.zeros(9)), ("broken", np.array([1.0, np.nan, np.inf])), ("nothing", np.full(4, np.nan))]
    figure = histograms(shown, title="all")
    said = texts(figure)
    for name, _ in shown:
        assert name in said
    for text in ("every value is 0", "2 not finite", "4 not finite", "4", "3 × 1 · std"):
        assert any(one.startswith(text) for one in said), text
    assert "one\\x1b[0m" in texts(histograms([("one\x1b[0m", np.ones(2))]))
    filled, _, zeros, floors = figure.axes[0].collections
    assert len(filled.get_paths()) == len(zeros.get_paths()) == 8
    assert len(floors.get_paths()) == 10
    with pytest.raises(CnnlensError, match="do not fit on one page"):
        histograms(shown * 200)
    with pytest.raises(CnnlensError, match="no weights"):
        histograms([])


def test_shrinking_keeps_the_extremes_and_what_is_broken() -> None:
    values = np.array([[1.0, -3.0, 2.0, 0.5], [0.0, 2.0, np.nan, 1.0], [np.inf, 1.0, -np.inf, 2.0]])
    np.testing.assert_array_equal(shrink(values, 2, 2, "extreme"), [[-3, np.nan], [np.inf, -np.inf]])
    even = np.arange(15.0).reshape(3, 5)
    np.testing.assert_allclose(shrink(even, 2, 2, "mean"), [[3, 5, 6.5], [10.5, 12.5, 14]])


# ------------------------------------------------------------------------------------------------------------ kernels


def test_every_cell_of_a_kernel_has_the_colour_of_its_weight() -> None:
    figure = plot.kernels(KERNELS, channel=2)
    bound = float(np.abs(KERNELS[:, 2]).max())
    expected = looked_up(KERNELS[:, 2], WEIGHTS, -bound, bound)
    drawn = cells(figure)
    assert len(drawn) == 6 * 3 * 2
    for place, colour in drawn.items():
        assert colour == tuple(expected[place].tolist()), place


def test_the_limits_are_symmetric_so_that_zero_is_white() -> None:
    values = np.array([0.0, -0.4, 0.1, 0.05]).reshape(4, 1, 1, 1)
    figure = plot.kernels(values, channel=0)
    drawn = cells(figure)
    assert min(drawn[0, 0, 0]) > 240
    assert drawn[1, 0, 0][2] > drawn[1, 0, 0][0], "negative weights are blue"
    assert drawn[2, 0, 0][0] > drawn[2, 0, 0][2], "positive weights are red"
    bar = figure.axes[1]
    assert bar.get_ylim() == pytest.approx((-0.4, 0.4))
    assert [label.get_text() for label in bar.get_yticklabels()] == ["−0.4", "−0.2", "0", "0.2", "0.4"]
    assert figure.axes[0].images[0].get_array().dtype == np.uint8


def test_a_limit_makes_two_pictures_comparable() -> None:
    one = cells(plot.kernels(np.full((1, 1, 1, 1), 0.5), vmax=1.0, channel=0))
    other = cells(plot.kernels(np.array([0.5, 1.0]).reshape(2, 1, 1, 1), vmin=-1.0, channel=0))
    assert one[0, 0, 0] == other[0, 0, 0]
    with pytest.raises(CnnlensError, match="vmin must be below vmax"):
        plot.kernels(KERNELS, vmax=0)


@pytest.mark.slow
def test_all_channels_are_rows_of_outputs_and_columns_of_inputs() -> None:
    figure = plot.kernels(KERNELS, channel="all")
    bound = float(np.abs(KERNELS).max())
    expected = looked_up(KERNELS, WEIGHTS, -bound, bound)
    drawn = cells(figure, r"output (\d+), input (\d+), row (\d+), column (\d+)")
    assert len(drawn) == KERNELS.size
    for place, colour in drawn.items():
        assert colour == tuple(expected[place].tolist())
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == list("012345")
    assert [label.get_text() for label in ax.get_xticklabels()] == list("0123")
    assert any("rows are output channels" in text for text in texts(figure))
    tops = [ax.format_coord(x, y) for x, y in zip(ax.get_xticks(), [ax.get_yticks()[0]] * 4, strict=True)]
    assert [said.split(",")[:2] for said in tops] == [["output 0", f" input {index}"] for index in range(4)]


def test_three_channels_are_a_colour_picture_around_grey() -> None:
    values = RANDOM.normal(size=(5, 3, 2, 4))
    values[4] = 0
    figure = plot.kernels(values)
    bound = np.abs(values).max()
    expected = np.rint((0.5 + values / bound / 2) * 255)
    drawn = cells(figure)
    for (tile, row, column), colour in drawn.items():
        assert colour == tuple(expected[tile, :, row, column].astype(int).tolist())
    assert set(drawn[4, 0, 0]) <= {127, 128}
    assert any("RGB" in text and "grey is 0" in text for text in texts(figure))
    assert len(figure.axes) == 1, "a colour bar means nothing for RGB"


@pytest.mark.slow
def test_one_image_a_grid_however_many_kernels() -> None:
    for count in (1, 32, 512, 2048):
        figure = plot.kernels(RANDOM.normal(size=(count, 1, 3, 3)))
        assert sum(len(ax.images) for ax in figure.axes[:1]) == 1
        assert len(figure.axes) == 2
        width, height = figure.get_size_inches() * figure.dpi
        assert width < 2600
        assert height < 2600


def test_small_grids_number_each_tile_and_large_ones_their_rows() -> None:
    small = plot.kernels(RANDOM.normal(size=(12, 1, 3, 3)))
    assert {str(index) for index in range(12)} <= set(texts(small))
    assert not small.axes[0].get_yticklabels()
    large = plot.kernels(RANDOM.normal(size=(512, 1, 3, 3)))
    assert not {"0", "511"} & set(texts(large))
    assert [label.get_text() for label in large.axes[0].get_yticklabels()][:3] == ["0", "32", "64"]
    ax = large.axes[0]
    assert ax.format_coord(ax.get_xticks()[0], ax.get_yticks()[2]).startswith("tile 64,")


@pytest.mark.slow
def test_what_is_drawn_is_not_interpolated() -> None:
    figure = plot.kernels(KERNELS, channel=1, columns=6)  # one row, so that no number stands between tiles
    pixels, image = draw(figure), image_of(figure)
    box = figure.axes[0].get_window_extent()
    top, left = round(pixels.shape[0] - box.y1), round(box.x0)
    seen = pixels[top : top + image.shape[0], left : left + image.shape[1]]
    np.testing.assert_array_equal(seen, image)
    figure.set_dpi(2.5 * figure.dpi)  # and not at another size either
    pixels, box = draw(figure), figure.axes[0].get_window_extent()
    top, left = round(pixels.shape[0] - box.y1), round(box.x0)
    seen = pixels[top + 2 : round(pixels.shape[0] - box.y0) - 2, left + 2 : round(box.x1) - 2]
    weights = np.array([1 << 16, 1 << 8, 1])
    assert set(np.unique(seen @ weights)) <= set(np.unique(image @ weights)), "a colour between two weights"


def test_other_ranks() -> None:
    one = plot.kernels(RANDOM.normal(size=(5, 2, 7)), channel=1)  # Conv1D: one row a kernel
    assert len({place[1] for place in cells(one)}) == 5
    assert len({place[2] for place in cells(one)}) == 7
    volumes = RANDOM.normal(size=(3, 2, 4, 2, 5))
    figure = plot.kernels(volumes, channel=1)
    bound = float(np.abs(volumes[:, 1]).max())
    expected = looked_up(volumes[:, 1], WEIGHTS, -bound, bound)
    drawn = cells(figure, r"tile (\d+), slice (\d+), row (\d+), column (\d+)")
    assert len(drawn) == 3 * 4 * 2 * 5
    for place, colour in drawn.items():
        assert colour == tuple(expected[place].tolist())
    assert any("4 depth slices" in text for text in texts(figure))
    dense = RANDOM.normal(size=(3, 7))
    bound = float(np.abs(dense).max())
    image = image_of(plot.kernels(dense))
    down, across = image.shape[0] // 3, image.shape[1] // 7
    np.testing.assert_array_equal(
        image[down // 2 :: down, across // 2 :: across], looked_up(dense, WEIGHTS, -bound, bound)
    )
    assert image_of(plot.kernels(np.arange(4.0))).shape[1] % 4 == 0


def test_a_matrix_larger_than_the_picture_says_what_a_pixel_is_and_loses_no_extreme() -> None:
    values = np.zeros((40, 5000), np.float32)
    values[17, 4321] = -1
    figure = plot.kernels(values)
    assert any("largest magnitude of 1 × 5" in text for text in texts(figure))
    darkest = looked_up(np.array(-1.0), WEIGHTS, -1, 1)
    assert (image_of(figure) == darkest).all(axis=-1).any()


def test_nan_and_infinity_have_colours_of_their_own_and_a_note() -> None:
    values = KERNELS.copy()
    values[3, 1, 2, 0] = np.nan
    values[5, 1, 0, 1] = -np.inf
    figure = plot.kernels(values, channel=1)
    drawn = cells(figure)
    assert drawn[3, 2, 0] == rgb(NAN)
    assert drawn[5, 0, 1] == rgb(INFINITE)
    assert "1 × NaN in kernel 3" in texts(figure)
    assert "1 × Inf in kernel 5" in texts(figure)
    assert {place for place, colour in drawn.items() if colour in (rgb(NAN), rgb(INFINITE))} == {(3, 2, 0), (5, 0, 1)}
    for colours in (WEIGHTS, ACTIVATIONS):
        table = colormaps[colours](np.linspace(0, 1, 256), bytes=True)[:, :3].astype(int)
        for own in (NAN, INFINITE):
            assert np.abs(table - rgb(own)).max(axis=1).min() > 60, f"{own} could be taken for one of {colours}"


@pytest.mark.slow
@pytest.mark.parametrize("size", [0.0, 5e-324, 1e-45, 1.7e308])
def test_weights_of_any_size_are_drawn(size: float) -> None:
    figure = plot.kernels(np.array([size, -size]).reshape(2, 1, 1, 1))
    draw(figure)
    assert any("every weight is 0" in text for text in texts(figure)) == (size == 0)
    draw(plot.kernels(np.full((2, 1, 2, 2), np.nan)))
    draw(plot.feature_maps(np.array([[[size]], [[-size]]])))
    draw(plot.histogram(np.array([size, -size, size / 2])))


def test_what_is_larger_than_can_be_drawn_is_said_to_be() -> None:
    bar = plot.kernels(np.array([1e308, -1.0]).reshape(2, 1, 1, 1)).axes[1]
    assert bar.get_yticklabels()[-1].get_text() == "1e+280"
    assert plot.values.limits_of(np.array([[1e308], [-1.0]]), weights=True).extend == "max"
    figure = plot.histogram(np.array([1e308, -1e300, 5.0]))
    draw(figure)
    assert "2 of 3 values are ±1e+280 or beyond, drawn there" in texts(figure)
    low, high = figure.axes[0].get_ylim()
    assert (low, 0 < high < 1e-200) == (0.0, True)


def test_exciting_inputs_are_drawn_where_and_as_large_as_is_asked() -> None:
    pictures = RANDOM.random((3, 1, 28, 28))
    pictures[0, 0, 0, :2] = 1e308, -1e308
    rows = [[(pictures[0], 3e38), (pictures[1], 3.0)], [(pictures[2], 1.5)]]
    figure = plot.exciting(rows, size=(700, 500))
    assert draw(figure).shape[:2] == (500, 700)
    assert {"0", "1", "3e+38", "3", "1.5"} <= set(texts(figure))
    assert plot.exciting(rows, dpi=300).dpi == 300
    ax = Figure(figsize=(8, 5)).subplots()
    assert plot.exciting(rows, ax=ax, title="mine") is ax
    with pytest.raises(CnnlensError, match="size must be a width in whole pixels"):
        plot.exciting(rows, size="large")  # pyright: ignore


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (np.zeros((2, 3, 1, 1)), {"channel": 3}, "no input channel 3; the layer has channels 0 to 2"),
        (np.zeros((2, 3, 1, 1)), {"channel": -1}, "no input channel -1"),
        (np.zeros((2, 3, 1, 1)), {"channel": "red"}, "'red'"),
        (np.zeros((2, 3, 1, 1)), {"channel": 1.5}, "channel 1.5"),
        (np.zeros((2, 4, 1, 1)), {"channel": "rgb"}, "RGB needs"),
        (np.zeros((2, 0, 1, 1)), {}, "no values"),
        (np.zeros((2, 1, 1, 1), complex), {}, "real numbers"),
        (np.array([["a"]]), {}, "real numbers"),
        (np.array([[None]]), {}, "real numbers"),
        (np.zeros(()), {}, "axes is needed"),
        (np.zeros((1,) * 6), {}, "axes is needed"),
        (np.zeros((2000, 2000, 3, 3), np.float16), {"channel": "all"}, "do not fit into one picture"),
        (np.zeros((4, 1, 3, 3)), {"columns": -1}, "at least one, not -1"),
        (np.zeros((4, 1, 3, 3)), {"limits": "each", "vmax": 1}, "'each' and vmax contradict each other"),
        (np.zeros((4, 1, 3, 3)), {"limits": "both"}, "'both' are not known; give 'shared' or 'each'"),
        (np.zeros((4, 1, 3, 3)), {"vmin": 2, "vmax": 1}, "vmin must be below vmax"),
        (np.zeros((4, 1, 3, 3)), {"vmax": math.nan}, "vmax must be a finite number"),
        (np.zeros((4, 1, 3, 3)), {"vmax": 1e308}, "at most 1e+280 in size, not 1e+308"),
        (np.zeros((4, 1, 3, 3)), {"cmap": "greyr"}, "no colour map 'greyr'; did you mean 'grey_r'"),
        (np.zeros((4, 1, 3, 3)), {"channels": "0-4"}, "no kernel 4; the layer has kernels 0 to 3"),
        (np.zeros((4, 1, 3, 3)), {"channels": "3-1"}, "numbers and ranges were expected, as in 0-15,20"),
        (np.zeros((4, 1, 3, 3)), {"channels": [1.5]}, "whole numbers were expected"),
        (np.zeros((4, 1, 3, 3)), {"channels": []}, "no kernel was asked for"),
        (np.zeros((4, 1, 3, 3)), {"weight": "kernel"}, "weight is for a layer"),
        (np.zeros((4, 1, 3, 3)), {"seed": 3}, "seed is for a layer"),
        (np.zeros((4, 3, 3, 3)), {"channel": "rgb", "cmap": "gray"}, "leave cmap out, or name one channel"),
        (np.zeros((4, 3, 3, 3)), {"channel": "all", "columns": 2}, "leave columns out, or name one channel"),
        (np.zeros((4, 3)), {"columns": 2}, "one matrix, without tiles"),
        (np.zeros((4, 3, 5)), {"columns": 2}, "leave it out"),
        (np.zeros((4, 1, 3, 3)), {"size": 800, "dpi": 300}, "as in 800x600, or leave dpi out"),
        (np.zeros((4, 1, 3, 3)), {"size": 3}, "size must be from 100"),
        (np.zeros((4, 1, 3, 3)), {"size": (800, 99_999)}, "not 800 x 99999"),
        (np.zeros((4, 1, 3, 3)), {"dpi": 1}, "dpi must be from 10"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(array: np.ndarray, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CnnlensError, match=re.escape(message)) as caught:
        plot.kernels(array, **options)
    assert "\n" not in str(caught.value)


def test_numpy_integers_name_channels_too() -> None:
    assert cells(plot.kernels(KERNELS, channel=np.int64(2))) == cells(plot.kernels(KERNELS, channel=2))


# ------------------------------------------------------------------------------------------------------ names and axes

NAMES = [
    "$x$",
    r"$\frac{1$",
    "a_{b}^c",
    "名字",
    "🎉 party",
    "\x1b[31mred\n",
    "‮evil",
    "x" * 5000,
    "%s {0} \\n",
    "<b>&amp;",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_any_name_can_be_drawn_and_is_not_mathematics(name: str, tmp_path: Path) -> None:
    figures = [
        plot.kernels(KERNELS, title=name, subtitle=name),
        plot.feature_maps(RANDOM.uniform(size=(3, 4, 5)), title=name, subtitle=name),
        plot.feature_maps(RANDOM.uniform(size=2), labels=[name, "b"], title=name),
        plot.image(RANDOM.uniform(size=(3, 4)), title=name, subtitle=name),
        plot.histogram({name: [1.0, 2.0, 3.0]}, title=name, subtitle=name),
        plot.kernel_and_map(KERNELS[0], None, RANDOM.uniform(size=(4, 5)), title=name, subtitle=name),
    ]
    for index, figure in enumerate(figures):  # a missing glyph would warn, and warnings are errors here
        plot.save(figure, tmp_path / f"{index}.{('png', 'svg', 'pdf')[index % 3]}")
        for ax in figure.axes:
            for text in [*ax.texts, *ax.get_xticklabels(), *(ax.get_legend().get_texts() if ax.get_legend() else [])]:
                assert "$" not in text.get_text() or not text.get_parse_math()
    if name == "$x$":
        assert "$x$" in texts(figures[0])


def test_the_name_stays_recognisable_where_no_font_has_its_characters() -> None:
    shown = texts(plot.kernels(KERNELS, title="a\U0010ffff\x07b"))
    assert "a\\U0010ffff\\x07b" in shown


def test_a_font_that_has_the_characters_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnlens.plot import sheet

    try:
        monkeypatch.setattr(sheet, "_OTHER_FAMILIES", ("No Such Font",))  # whatever is installed here
        sheet._families.cache_clear()
        assert sheet.plain("\u2312 a") == ("\\u2312 a", ["DejaVu Sans"])
        monkeypatch.setattr(sheet, "_OTHER_FAMILIES", ("No Such Font", "DejaVu Sans Mono"))
        sheet._families.cache_clear()
        assert sheet.plain("\u2312 a") == ("\u2312 a", ["DejaVu Sans", "DejaVu Sans Mono"])
        draw(plot.kernels(KERNELS, title="\u2312 a"))
    finally:
        sheet._families.cache_clear()


def test_our_own_signs_are_in_every_face_of_the_font() -> None:
    from cnnlens.plot import sheet

    (_, characters), *_ = sheet._families()
    assert {ord(char) for char in sheet._SIGNS} <= characters
    assert set(range(0x20, 0x7F)) | set(range(0xA0, 0x180)) - {0xAD} <= characters


def test_a_picture_can_be_drawn_into_somebody_elses_axes() -> None:
    figure = Figure(figsize=(13, 9))
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3).ravel()
    places = [ax.get_position().frozen() for ax in axes]
    said = {"title": "a title that is as long as titles are", "subtitle": "and a subtitle that goes on for some time"}
    drawn: list[list[Any]] = []
    for ax, make, array in (
        (axes[0], plot.kernels, KERNELS), (axes[1], plot.feature_maps, RANDOM.uniform(size=(6, 5, 4))),
        (axes[2], plot.histogram, {"trained": KERNELS, "untrained": KERNELS}),
        (axes[3], plot.feature_maps, RANDOM.uniform(size=7)), (axes[4], plot.image, RANDOM.uniform(size=(9, 4))),
        (axes[5], plot.kernels, RANDOM.normal(size=(9, 70))),
    ):  # fmt: skip
        before = set(figure.axes)
        assert make(array, ax=ax, **said) is ax
        drawn.append([ax, *(set(figure.axes) - before)])
    assert [len(ax.images) for ax in axes] == [1, 1, 0, 0, 1, 1]
    draw(figure)
    for place, parts in zip(places, drawn, strict=True):  # all of a picture lies where its axes was
        for part in parts:
            box = figure.transFigure.inverted().transform_bbox(part.get_tightbbox())
            assert place.x0 - 0.004 < box.x0, part
            assert place.x1 + 0.004 > box.x1, part
            assert place.y0 - 0.004 < box.y0, part
            assert place.y1 + 0.004 > box.y1, part
    with pytest.raises(CnnlensError, match="leave them out, or ax"):
        plot.kernels(KERNELS, ax=axes[0], dpi=100)
    with pytest.raises(CnnlensError, match=r"has no room for a picture beside its texts; \d+ x \d+ has"):
        plot.kernels(KERNELS, ax=figure.add_axes((0, 0, 0.08, 0.08)), title="t")


def test_settings_of_the_user_do_not_turn_a_picture_over(tmp_path: Path) -> None:
    expected = plot.save(plot.kernels(KERNELS, title="t"), tmp_path / "a.png").read_bytes()
    with mpl.rc_context(
        {
            "image.origin": "lower",
            "image.interpolation": "bilinear",
            "figure.autolayout": True,
            "savefig.bbox": "tight",
            "savefig.dpi": 30,
            "savefig.facecolor": "black",
            "axes.grid": True,
            "axes.unicode_minus": False,
            "figure.constrained_layout.use": True,
        }
    ):
        assert plot.save(plot.kernels(KERNELS, title="t"), tmp_path / "b.png").read_bytes() == expected


@pytest.mark.slow
def test_drawing_needs_no_display_no_pyplot_and_no_framework() -> None:
    script = (
        "import sys, numpy; from cnnlens import plot; plot.kernels(numpy.ones((2, 1, 3, 3)));"
        "print([name for name in ('matplotlib.pyplot', 'keras', 'tensorflow', 'jax', 'torch', 'PIL.ImageTk') "
        "if name in sys.modules])"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "MPLBACKEND")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"


def test_a_notebook_can_show_the_figure() -> None:
    figure = plot.kernels(KERNELS)
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


# --------------------------------------------------------------------------------------------------------- histograms


def steps(figure: Figure) -> list[tuple[np.ndarray, np.ndarray]]:
    """(heights, edges) of each histogram, its outline alone."""
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, StepPatch) and not patch.get_fill()]
    return [(np.asarray(patch.get_data().values), np.asarray(patch.get_data().edges)) for patch in patches]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_trained_and_untrained_share_their_bins_and_have_area_one() -> None:
    trained, untrained = RANDOM.normal(0.1, 0.2, 700), RANDOM.uniform(-0.3, 0.3, (5, 80))
    figure = plot.histogram({"trained": trained, "untrained": untrained})
    (first, edges), (second, others) = steps(figure)
    np.testing.assert_array_equal(edges, others)
    assert len(first) == 20
    assert (first * np.diff(edges)).sum() == pytest.approx(1)
    assert (second * np.diff(edges)).sum() == pytest.approx(1)
    np.testing.assert_allclose(first, np.histogram(trained, edges, density=True)[0])
    said = legend(figure)
    assert said[0].startswith("trained:")
    assert f"mean {trained.mean():.3g}, std {trained.std():.3g}, 700 values" in said[0]
    assert said[1].startswith("untrained:")


def test_the_initializers_exact_density_lies_over_it() -> None:
    spec = {"class_name": "GlorotUniform", "config": {"seed": None}}
    shape = (3, 2, 5, 7)
    density = initializers.density(spec, shape)
    figure = plot.histogram({"trained": RANDOM.normal(0, 0.3, shape)}, density=density)
    (line,) = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 100]
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    bound = math.sqrt(6 / (5 * 6 + 7 * 6))
    np.testing.assert_allclose(y[np.abs(x) < bound * 0.999], 1 / (2 * bound))
    assert not y[np.abs(x) > bound * 1.001].any()
    rising = x[1:][np.diff(y) > 0]
    assert rising == pytest.approx([-bound], abs=1e-9), "the edge of a uniform density is upright"
    assert "uniform" in legend(figure)[1]


def test_any_object_with_a_density_will_do_and_atoms_are_lines() -> None:
    flat = SimpleNamespace(name="$flat$", support=(-1.0, 1.0), pdf=lambda x: np.where(np.abs(x) <= 1, 0.5, 0.0))
    assert "$flat$" in legend(plot.histogram(RANDOM.normal(size=50), density=flat))[1]
    zeros = initializers.density({"class_name": "Zeros", "config": {}}, (9,))
    figure = plot.histogram({"trained": RANDOM.normal(size=9), "untrained": np.zeros(9)}, density=zeros)
    assert len(steps(figure)) == 1, "nine equal values are a line, not a bar that dwarfs all"
    assert "untrained:  all 9 values are 0" in legend(figure)
    far = SimpleNamespace(name="far", support=(8.0, 9.0), pdf=lambda x: np.where((x > 8) & (x < 9), 1.0, 0.0))
    assert "outside this range" in legend(plot.histogram(RANDOM.normal(size=50), density=far))[1]


def test_broken_values_are_left_out_of_a_histogram_and_counted() -> None:
    values = np.array([1.0, np.nan, 2.0, np.inf, 4.0, 4.0])
    figure = plot.histogram(values)
    (heights, edges) = steps(figure)[0]
    assert (edges[0], edges[-1]) == (1, 4)
    assert (heights * np.diff(edges)).sum() == pytest.approx(1)
    assert "2 of 6 values are NaN or infinite, left out" in texts(figure)
    with pytest.raises(CnnlensError, match="no value is finite"):
        plot.histogram(np.full(3, np.nan))
    with pytest.raises(CnnlensError, match="no values to draw"):
        plot.histogram({"trained": []})
    with pytest.raises(CnnlensError, match="no weights"):
        plot.histogram({})


# ------------------------------------------------------------------------------------------------------- feature maps


def test_every_cell_of_a_feature_map_has_the_colour_of_its_activation() -> None:
    maps = np.maximum(RANDOM.normal(size=(6, 4, 5)), 0)
    maps[2] = 0
    figure = plot.feature_maps(maps, limits="shared")
    expected = looked_up(maps, ACTIVATIONS, 0, maps.max())
    drawn = cells(figure)
    assert len(drawn) == maps.size
    for place, colour in drawn.items():
        assert colour == tuple(expected[place].tolist()), place
    assert "1 of 6 are 0 everywhere: 2" in texts(figure)


def test_chosen_channels_keep_their_numbers() -> None:
    maps = RANDOM.uniform(size=(9, 4, 5))
    figure = plot.feature_maps(maps, channels=[7, 2], vmin=0, vmax=1)
    expected = looked_up(maps, ACTIVATIONS, 0, 1)
    assert {place[0] for place in cells(figure)} == {7, 2}
    for place, colour in cells(figure).items():
        assert colour == tuple(expected[place].tolist())
    assert {"7", "2"} <= set(texts(figure))
    for channels, message in (([9], "no channel 9"), ([], "no channel was asked for")):
        with pytest.raises(CnnlensError, match=message):
            plot.feature_maps(maps, channels=channels)


def test_each_channel_can_be_stretched_by_itself() -> None:
    maps = np.stack([np.linspace(0, 1, 12).reshape(3, 4), np.linspace(0, 100, 12).reshape(3, 4)])
    drawn = cells(plot.feature_maps(maps, limits="each"))
    assert [drawn[0, row, column] for row in range(3) for column in range(4)] == [
        drawn[1, row, column] for row in range(3) for column in range(4)
    ]
    assert [said for said in texts(plot.feature_maps(maps)) if said in ("1", "100")] == ["1", "1", "100"]


@pytest.mark.slow
def test_feature_maps_of_other_ranks() -> None:
    signals = RANDOM.uniform(size=(3, 11))
    image = image_of(plot.feature_maps(signals, axes="CL", vmin=0, vmax=1))
    down, across = image.shape[0] // 3, image.shape[1] // 11
    np.testing.assert_array_equal(
        image[down // 2 :: down, across // 2 :: across], looked_up(signals, ACTIVATIONS, 0, 1)
    )
    volume = RANDOM.uniform(size=(2, 20, 3, 5))
    figure = plot.feature_maps(volume, axes="CDHW")
    assert any("of 20 side by side" in text for text in texts(figure))
    vector = plot.feature_maps(np.array([0.1, 0.7, 0.2]), labels=["cat", "dog", "$x$"])
    (bars,) = [patch for patch in vector.axes[0].patches if isinstance(patch, StepPatch)]
    assert bars.get_data().values[::2].tolist() == [0.1, 0.7, 0.2]
    assert [label.get_text() for label in vector.axes[0].get_xticklabels()] == ["cat", "dog", "$x$"]
    assert {"0.100", "0.700", "0.200"} <= set(texts(vector))
    draw(plot.feature_maps(RANDOM.normal(size=4096)))
    draw(plot.feature_maps(np.array([np.nan, -1.0, np.inf])))
    with pytest.raises(CnnlensError, match="labels"):
        plot.feature_maps(np.zeros(3), labels=["a"])


def test_maps_too_large_for_a_picture_are_averaged_and_said_so() -> None:
    maps = np.zeros((64, 300, 310), np.float32)
    figure = plot.feature_maps(maps)
    assert any("the mean of 2 × 2" in text for text in texts(figure))
    assert max(image_of(figure).shape) < 2600


def test_a_kernel_beside_its_map() -> None:
    kernel, seen, made = KERNELS[0], RANDOM.uniform(size=(3, 10, 14)), RANDOM.uniform(size=(5, 7))
    figure = plot.kernel_and_map(kernel, seen, made, title="k")
    panels = [ax for ax in figure.axes if ax.images]
    assert len(panels) == 3
    picture = np.asarray(panels[0].images[0].get_array())
    low, high = 0, seen.max()
    expected = looked_up(np.moveaxis(seen, 0, -1), "gray", low, high)[..., 0]
    np.testing.assert_array_equal(picture, expected)
    result = np.asarray(panels[2].images[0].get_array())
    np.testing.assert_array_equal(result, looked_up(made, ACTIVATIONS, 0, made.max()))
    heights = {round(panel.get_window_extent().height) for panel in panels}
    assert len(heights) == 1, "three panels of one height"
    assert any("feature map  5 × 7" in text for text in texts(figure))
    assert len([ax for ax in plot.kernel_and_map(kernel, None, made).axes if ax.images]) == 2
    with pytest.raises(CnnlensError, match="the feature map"):
        plot.kernel_and_map(kernel, seen, made[None])


# ------------------------------------------------------------------------------------------------------------- saving


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "magic"),
    [("a.png", b"\x89PNG"), ("a.PDF", b"%PDF"), ("a.svg", b"<?xml"), ("a.jpg", b"\xff\xd8"), ("a.jpeg", b"\xff\xd8")],
)
def test_the_suffix_says_the_format_and_the_same_picture_is_the_same_file(
    tmp_path: Path, name: str, magic: bytes
) -> None:
    target = plot.save(plot.kernels(KERNELS), tmp_path / name)
    first = target.read_bytes()
    assert first.startswith(magic)
    assert plot.save(plot.kernels(KERNELS), tmp_path / name).read_bytes() == first
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_the_saved_picture_is_the_figure(tmp_path: Path) -> None:
    figure = plot.kernels(KERNELS)
    with Image.open(plot.save(figure, tmp_path / "a.png")) as saved:
        np.testing.assert_array_equal(np.asarray(saved.convert("RGB")), draw(figure))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.txt", "'.txt' is no picture format; end it in one of .png .pdf .svg .jpg .jpeg"),
        ("a", "a picture needs a suffix"),
        ("missing/a.png", "does not exist; make it first"),
        ("folder.png", "is a folder"),
        ("file.txt/a.png", "does not exist"),
        ("pipe.png", "is a device or a pipe"),
        ("n" * 300 + ".png", "cannot be written"),
        ("nul\0.png", "cannot be written"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_anything_is(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file.txt").touch()
    os.mkfifo(tmp_path / "pipe.png")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CnnlensError, match=re.escape(message)) as caught:
        plot.save(plot.kernels(KERNELS), tmp_path / name)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_disk_that_takes_no_more_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    script = (
        "import resource, sys, numpy; from cnnlens import plot; from cnnlens.errors import CnnlensError\n"
        "figure = plot.kernels(numpy.ones((8, 1, 3, 3)))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "try: plot.save(figure, sys.argv[1])\n"
        "except CnnlensError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(target)], capture_output=True, text=True, check=True)
    assert re.fullmatch(r".*a\.png: could not be written \(.*\); nothing was left\n", done.stdout), (
        done.stdout + done.stderr
    )
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_links_are_followed_and_permissions_kept(tmp_path: Path) -> None:
    real, link = tmp_path / "real.png", tmp_path / "link.png"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real)
    assert plot.save(plot.kernels(KERNELS), link) == real.resolve()
    assert link.is_symlink()
    assert real.read_bytes().startswith(b"\x89PNG")
    assert real.stat().st_mode & 0o777 == 0o640
