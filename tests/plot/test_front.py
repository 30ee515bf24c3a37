"""What Python draws by, and what is read off the pictures: limits, bins, axes, names, and where they are shown."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

import cnnlens
from cnnlens import plot, sample
from cnnlens.errors import CnnlensError
from cnnlens.network.kernel import statistics
from cnnlens.network.untrained import keras as initializers
from cnnlens.plot import of_models
from cnnlens.plot.colours import WEIGHTS
from cnnlens.plot.distribution import bin_values
from cnnlens.plot.values import chosen, limits_of, number, ticks
from tests.plot.test_baseline import PICTURES
from tests.plot.test_plot import cells, draw, image_of, legend, looked_up, steps, texts

RANDOM = np.random.default_rng(11)
NET = cnnlens.open(sample.MODEL)
PHOTOS = cnnlens.images.load(sample.IMAGES, shape=(1, 28, 28)).array
NOTEBOOK = """
import sys, nbformat, nbclient
head = sys.argv[1] + "; import cnnlens, cnnlens.sample; net = cnnlens.open(cnnlens.sample.MODEL)"
cells = [head, *sys.argv[2:]]
book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in cells])
nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
print([sum("image/png" in one.get("data", {}) for one in cell.outputs) for cell in book.cells[1:]])
"""


def everything(figure: Figure) -> Iterator[str]:
    """Every text that is drawn."""
    figure.canvas.draw()
    for ax in figure.axes:
        named = ax.get_legend().get_texts() if ax.get_legend() else []
        for text in (*ax.texts, *ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label, ax.yaxis.label, *named):
            if text.get_visible():
                yield text.get_text()


# ------------------------------------------------------------------------------------------------ what is given and how


@pytest.mark.slow
def test_a_layer_a_kernel_and_an_array_are_one_grid() -> None:
    layer = NET["conv2d_1"]
    drawn = [cells(plot.kernels(one, channel=3)) for one in (layer, layer.kernel, layer.kernel.array)]
    assert drawn[0] == drawn[1] == drawn[2]
    assert "conv2d_1: kernels" in texts(plot.kernels(layer))
    assert any("stored HWIO (3, 3, 32, 64)" in text for text in texts(plot.kernels(layer)))
    assert "fashion_mnist_cnn.keras" in " ".join(texts(plot.kernels(layer)))
    assert "Conv2D: kernel" in texts(plot.kernels(layer.kernel))
    assert "mine" in texts(plot.kernels(layer, title="mine", subtitle=""))
    assert [len(one[0]) for one in steps(plot.histogram(NET["dense_1"], weight="bias"))] == [20]
    with pytest.raises(CnnlensError, match=r"name it as net\['conv2d'\]"):
        plot.kernels(NET)  # type: ignore[call-overload]


def test_feature_maps_as_run_gives_them_are_maps_and_not_slices() -> None:
    maps = NET.run(PHOTOS, layers=["conv2d", "dense_1"], dtype="float32")
    one = plot.feature_maps(maps["conv2d"][9:])
    assert np.array_equal(image_of(one), image_of(plot.feature_maps(maps["conv2d"], index=9)))
    assert np.array_equal(image_of(one), image_of(plot.feature_maps(maps["conv2d"][9])))
    assert np.array_equal(image_of(one), image_of(plot.feature_maps(NET, sample.IMAGES, layer="conv2d", index=9)))
    assert any("(1, 32, 28, 28) read as N, C, H, W" in text for text in texts(one))
    assert len(cells(plot.feature_maps(maps["conv2d"], index=-1, channels=[4]))) == 28 * 28
    with pytest.raises(
        CnnlensError, match=r"10 examples, and one is drawn; name it with index 0 to 9, or say axes='CDHW'"
    ):
        plot.feature_maps(maps["conv2d"])
    with pytest.raises(CnnlensError, match="name it with index 0 to 9, or say axes='CL'"):
        plot.feature_maps(maps["dense_1"])
    assert "dense_1: activations" in texts(plot.feature_maps(NET, sample.IMAGES, layer="dense_1"))
    assert not plot.feature_maps(maps["dense_1"], index=3).axes[0].images


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((1, 5, 6), {}, "may be one map, axes='CHW', or 5 signals of one example, axes='NCL'"),
        ((2, 5, 6), {"axes": "NHWC"}, "axes are 'CHW' or 'NCL'"),
        ((2, 5, 6), {"axes": "CDHW"}, "axes are 'CHW' or 'NCL'"),
        ((2, 5, 6), {"index": 1}, "one example; axes with N are 'NCHW'"),
        ((2, 5, 6, 7), {"index": 2}, "there is no example 2; there are 0 to 1"),
        ((1,) * 6, {}, "1 to 5 axes"),
        ((2, 5, 6), {"layer": "conv2d"}, "layer is for a network"),
        ((2, 5, 6), {"labels": ["a", "b"]}, "labels name channels of one number each"),
        ((3,), {"columns": 2}, "drawn as bars"),
        ((3,), {"cmap": "gray"}, "cmap: one number a channel is drawn as a bar"),
    ],
)
def test_axes_that_may_mean_two_things_are_asked_for(shape: tuple[int, ...], options: Any, message: str) -> None:
    with pytest.raises(CnnlensError, match=re.escape(message)) as caught:
        plot.feature_maps(np.ones(shape), **options)
    assert "\n" not in str(caught.value)


def test_a_network_asks_for_what_it_needs() -> None:
    for options, message in (
        ({}, "give one as the second argument"),
        ({"axes": "NCHW"}, "a network knows its own"),
        ({"layer": "conv3d"}, "did you mean 'conv2d'"),
    ):
        with pytest.raises(CnnlensError, match=message):
            plot.feature_maps(NET, *([] if message.startswith("give") else [sample.IMAGES]), **options)
    with pytest.raises(CnnlensError, match="bias is for arrays"):
        plot.kernel_and_map(NET, sample.IMAGES, bias=1.0)
    with pytest.raises(CnnlensError, match="has no scale for counts"):
        plot.histogram(NET, counts=True)


def test_channels_are_numbers_and_ranges() -> None:
    assert chosen("0-2, 5", 6) == [0, 1, 2, 5]
    assert chosen(np.array([3, 1]), 6) == [3, 1]
    assert chosen(range(2), 6) == [0, 1]
    for text in ("0-999999999", "6", "-1", "1-", "a", "", "2-1"):
        with pytest.raises(CnnlensError, match="channels 0 to 5"):
            chosen(text, 6)


# --------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.slow
def test_one_large_weight_pales_nothing_and_is_marked() -> None:
    values = RANDOM.uniform(-0.2, 0.2, (32, 1, 3, 3)).astype(np.float32)
    values[13, 0, 2, 1], values[4, 0, 0, 0] = 3, -2
    figure = plot.kernels(values)
    usual = float(np.sort(np.abs(values).ravel())[math.ceil(0.99 * values.size) - 1])
    assert usual < 0.2
    expected = looked_up(np.clip(values[:, 0], -usual, usual), WEIGHTS, -usual, usual)
    drawn = cells(figure)
    assert {place: tuple(expected[place].tolist()) for place in drawn} == drawn
    assert any(f"full colour at ±{usual:.3g}" in text for text in texts(figure))
    assert any(
        re.search(r"1 above \(▲\) and \d+ below \(▼\), of 288 values, in kernels 4, 13", t) for t in texts(figure)
    )
    ax = figure.axes[0]
    (above,) = [line for line in ax.lines if line.get_marker() == "^"]
    assert ax.format_coord(*np.array(above.get_data())[:, 0]) == "tile 13, row 2, column 1"
    assert figure.axes[1].collections or figure.axes[1].patches, "the colour bar ends in arrows"
    assert limits_of(values, weights=True).extend == "both"
    whole = plot.kernels(values, limits="shared")
    assert not whole.axes[0].lines
    assert whole.axes[1].get_ylim() == (-3, 3)
    own = cells(plot.kernels(values, limits="each"))
    assert own[13, 2, 1] == own[5, *np.unravel_index(values[5].argmax(), (1, 3, 3))[1:]] or values[5].max() < 0.15


def test_weights_without_a_far_one_are_not_cut_off() -> None:
    for values in (RANDOM.uniform(-1, 1, 9), RANDOM.uniform(-1, 1, 10_000), np.zeros(8), np.eye(50)):
        found = limits_of(values[None], weights=True)
        assert (found.extend, found.said) == ("neither", "")


@pytest.mark.slow
def test_each_map_has_its_own_range_and_says_it() -> None:
    maps = np.maximum(RANDOM.normal(size=(6, 5, 4)), 0) * np.array([1e-3, 1, 10, 0, 5, 2])[:, None, None]
    figure = plot.feature_maps(maps)
    for tile, one in enumerate(maps):
        brightest = cells(figure)[tile, *np.unravel_index(one.argmax(), one.shape)]
        assert brightest == tuple(looked_up(np.array(float(one.max() > 0)), "magma", 0, 1).tolist())
        assert f"{one.max():.3g}" in texts(figure)
    assert any("the number over it is its largest value" in text for text in texts(figure))
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["smallest", "largest"]
    many = plot.feature_maps(np.repeat(maps, 200, axis=0))
    assert any(f"their largest values are from 0 to {maps.max():.3g}" in text for text in texts(many))


def test_maps_with_a_sign_diverge_from_white_zero() -> None:
    maps = RANDOM.normal(size=(4, 5, 6))
    maps[:, 0, 0] = 0
    for limits in ("each", "shared"):
        drawn = cells(plot.feature_maps(maps, limits=limits))
        for tile in range(4):
            assert min(drawn[tile, 0, 0]) > 240, "zero is white"
            below = drawn[tile, *np.unravel_index(maps[tile].argmin(), (5, 6))]
            assert below[2] > below[0], "below zero is blue"
    assert limits_of(np.maximum(maps, -1e-9), weights=False).signed is False


def test_constant_and_broken_maps_are_said() -> None:
    maps = RANDOM.uniform(size=(5, 3, 4))
    maps[1], maps[2], maps[3], maps[4, 0, 0] = 0, 0.25, np.nan, np.inf
    said = texts(plot.feature_maps(maps))
    assert "1 of 5 are 0 everywhere: 1" in said
    assert "1 of 5 are the same everywhere: 2" in said
    assert "12 × NaN in channel 3" in said
    assert "1 × Inf in channel 4" in said


# ----------------------------------------------------------------------------------------------------------------- bins


def test_a_uniform_law_is_seen_as_one() -> None:
    layer = NET["conv2d"]
    figure = plot.histogram(layer, untrained=True)
    low, high = initializers.density(layer.config["kernel_initializer"], (3, 3, 1, 32)).support
    (_, edges), (heights, same) = steps(figure)
    np.testing.assert_array_equal(edges, same)
    assert np.isclose(edges, low, rtol=0, atol=1e-12).any()
    assert np.isclose(edges, high, rtol=0, atol=1e-12).any()
    middles = (edges[1:] + edges[:-1]) / 2
    inside = (middles > low) & (middles < high)
    assert inside.sum() >= 6
    assert not heights[~inside].any(), "no bar where nothing can be drawn"
    even = 1 / (high - low)
    assert np.abs(heights[inside] / even - 1).max() < 4 / math.sqrt(288 / inside.sum())
    assert any("uniform −0.1421 to 0.1421" in text for text in legend(figure))
    counted = plot.histogram(layer, untrained=True, bins=10, counts=True)
    (trained, _), (drawn, ends) = steps(counted)
    np.testing.assert_array_equal(trained, np.histogram(layer.kernel.array, 10)[0])
    assert (ends[0], ends[-1]) == (low, high)
    assert drawn.sum() == 288


@pytest.mark.parametrize("far", [0.2, 3.0, 1e4])
def test_bins_end_where_the_law_does_however_far_training_went(far: float) -> None:
    law = initializers.density("glorot_uniform", (3, 3, 4, 5))
    trained, drawn = np.append(RANDOM.normal(0, 0.1, 999), far), RANDOM.uniform(*law.support, 1000)
    found = bin_values({"trained": trained, "untrained": drawn}, law)
    counts, edges = found["untrained"]
    assert counts.sum() == found["trained"].counts.sum() == 1000
    assert np.isclose(edges, law.support[0]).any()
    assert np.isclose(edges, law.support[1]).any()
    assert len(edges) < 10_001
    assert not counts[(edges[1:] <= law.support[0] * 1.0001) | (edges[:-1] >= law.support[1] * 0.9999)].any()


# -------------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_there_is_one_minus_sign_and_every_tick_is_round(name: str) -> None:
    figure = PICTURES[name]()
    for text in everything(figure):
        assert not re.search(r"(?<![\w)\\])-[\d.]", text), text
    for ax in figure.axes[1:]:
        for text in (one.get_text() for one in (*ax.get_xticklabels(), *ax.get_yticklabels())):
            digits = re.sub(r"[−.]|e.*", "", text).strip("0")
            assert not digits.isdigit() or len(digits) == 1 or digits in ("25", "75") or float(text) % 1 == 0, text


def test_a_bar_says_neither_one_nor_zero_of_what_is_not() -> None:
    said = texts(plot.feature_maps(np.array([0.99987, 0.00013, 0.0, 1.0, 0.5, -0.00013])))
    assert {">0.999", "<0.001", "0", "1", "0.500", ">−0.001"} <= set(said)
    assert not {"1.000", "0.000"} & set(said)
    drawn = plot.feature_maps(NET, sample.IMAGES, layer="dense_1", index=9, labels=sample.LABELS)
    assert [label.get_text() for label in drawn.axes[0].get_xticklabels()] == list(sample.LABELS)


def test_of_a_thousand_classes_the_largest_are_named() -> None:
    values = RANDOM.permutation(1000) / 1000
    figure = plot.feature_maps(values, labels=[f"class {index}" for index in range(1000)])
    best = np.argsort(-values)[:20]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == [f"class {index}" for index in best]
    assert "the 20 largest of 1,000 channels" in texts(figure)


def test_a_kernel_beside_its_map_says_all_that_happens() -> None:
    figure = plot.kernel_and_map(NET, sample.IMAGES, layer="conv2d", kernel=5, index=9)
    kernel, bias = NET["conv2d"].kernel.array[5, 0], float(NET["conv2d"].weights["bias"][5])
    said = texts(figure)
    for weight in kernel.ravel().tolist():
        assert f"{weight:.2g}".replace("-", "−") in said
    assert f"{'−' if bias < 0 else '+'} {abs(bias):.3g} (bias)" in said
    assert "relu" in said
    assert not any("bias" in text for text in texts(plot.kernel_and_map(kernel[None], None, kernel)))


# --------------------------------------------------------------------------------------------------- where it is drawn


def blank(figure: Figure) -> float:
    """The largest empty rectangle's share of the canvas; the inside of a plot with axes is not empty."""
    figure.canvas.draw()
    renderer: Any = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    width, height = figure.canvas.get_width_height(physical=True)
    taken = np.zeros((height // 8 + 1, width // 8 + 1), bool)
    boxes = [ax.get_window_extent() for ax in figure.axes if ax.axison or ax.lines or ax.collections]
    for ax in figure.axes:
        for text in (*ax.texts, *ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label, ax.yaxis.label):
            boxes += [text.get_window_extent(renderer)] * bool(text.get_text())
    for box in boxes:
        rows = slice(max(0, int((height - box.y1) // 8)), int((height - box.y0) // 8) + 1)
        taken[rows, max(0, int(box.x0 // 8)) : int(box.x1 // 8) + 1] = True
    best, free = 0, np.zeros(taken.shape[1], int)
    for row in taken:
        free = np.where(row, 0, free + 1)
        open_ones: list[tuple[int, int]] = []
        for place, tall in enumerate([*free.tolist(), 0]):
            start = place
            while open_ones and open_ones[-1][1] >= tall:
                start, high = open_ones.pop()
                best = max(best, high * (place - start))
            open_ones.append((start, tall))
    return best / taken.size


SIZES: dict[str, Callable[[], np.ndarray]] = {
    f"{count} of {'x'.join(map(str, shape))}": lambda count=count, shape=shape: RANDOM.normal(size=(count, *shape))  # type: ignore[misc]
    for count in (1, 3, 64, 2048)
    for shape in ((4, 1, 1), (1, 1, 1), (1, 3, 3), (3, 3, 3), (1, 11, 11), (2, 9), (1, 3, 3, 3))
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_no_more_than_a_fifth_of_a_canvas_is_empty(name: str) -> None:
    figure = plot.kernels(SIZES[name](), title="a_layer_of_some_name: kernels", subtitle="Conv2D · stored HWIO " * 4)
    assert blank(figure) <= 0.2


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 28, 28), (64, 7, 9), (2048, 5, 5), (10_000, 3, 3), (5, 4, 200)])
def test_nor_of_that_of_feature_maps(shape: tuple[int, ...]) -> None:
    figure = plot.feature_maps(RANDOM.uniform(size=shape), axes="CHW", subtitle="Conv2D · (1, 64, 7, 9) of a picture")
    assert blank(figure) <= 0.2


def test_the_users_taste_is_followed_and_nothing_of_it_changed() -> None:
    maps = RANDOM.uniform(size=(3, 4, 5))
    with mpl.rc_context({"image.cmap": "cividis", "font.family": "DejaVu Serif"}):
        before = dict(mpl.rcParams)
        figure = plot.feature_maps(maps, vmin=0, vmax=1)
        assert dict(mpl.rcParams) == before
        drawn = cells(figure)
        assert figure.axes[0].texts[0].get_fontfamily()[0] == "DejaVu Serif"
        draw(figure)
        assert cells(plot.feature_maps(maps, cmap="gray", vmin=0, vmax=1)) != drawn
        weights = image_of(plot.kernels(maps[:, None] - 0.5))
    expected = looked_up(maps, "cividis", 0, 1)
    assert {place: tuple(expected[place].tolist()) for place in drawn} == drawn
    assert np.array_equal(weights, image_of(plot.kernels(maps[:, None] - 0.5)))
    assert np.array_equal(
        image_of(plot.feature_maps(maps, cmap=colormaps["gray"])), image_of(plot.feature_maps(maps, cmap="gray"))
    )


@pytest.mark.slow
def test_a_picture_has_the_pixels_that_were_asked_for(tmp_path: Path) -> None:
    for size, dpi in (((800, 600), None), ((801, 333), 97.0), ((640, 480), 100.0)):
        for make in (
            lambda **size: plot.kernels(NET["conv2d"], **size),
            lambda **size: plot.histogram(NET["conv2d"], untrained=True, **size),
            lambda **size: plot.kernel_and_map(NET, sample.IMAGES, **size),
        ):
            with Image.open(plot.save(make(size=size, dpi=dpi), tmp_path / "x.png")) as opened:
                assert opened.size == size


@pytest.mark.slow
@pytest.mark.parametrize("head", ["import matplotlib.pyplot as plt", "pass"])
def test_a_notebook_shows_each_picture_once(head: str) -> None:
    pyplot = head != "pass"
    cells_and_pictures = [
        ("cnnlens.plot.kernels(net['conv2d'])", 1),
        ("for name in ('conv2d', 'conv2d_1'):\n    display(cnnlens.plot.kernels(net[name]))", 2),
        ("figure = cnnlens.plot.histogram(net)", int(pyplot)),
        ("figure", 1),
        ("1 + 1", 0),
    ]
    if pyplot:
        cells_and_pictures += [
            ("cnnlens.plot.kernels(net['conv2d'])\nplt.show()", 1),
            ("_, ax = plt.subplots()\ncnnlens.plot.kernels(net['conv2d'], ax=ax)", 1),
            ("_, ax = plt.subplots()\ncnnlens.plot.kernels(net['conv2d'], ax=ax)\nplt.show()", 1),
            ("assert not plt.get_fignums()", 0),
        ]
    code, expected = zip(*cells_and_pictures, strict=True)
    done = subprocess.run([sys.executable, "-c", NOTEBOOK, head, *code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == str(list(expected))


BACKEND = """
from matplotlib._pylab_helpers import Gcf
from matplotlib.backends.backend_agg import FigureCanvasAgg as FigureCanvas
from matplotlib.backend_bases import FigureManagerBase as FigureManager
shown = []
def show(*_, **__):
    shown.extend(manager.canvas.figure for manager in Gcf.get_all_fig_managers())
"""


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "shows"), [("module://window", True), ("agg", False)])
def test_pyplot_shows_what_a_window_would_and_keeps_few(tmp_path: Path, backend: str, shows: bool) -> None:
    (tmp_path / "window.py").write_text(BACKEND)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import window, matplotlib; matplotlib.use(sys.argv[2])\n"
        "import matplotlib.pyplot as plt, numpy; from cnnlens import plot\n"
        "figure = plot.kernels(numpy.ones((2, 1, 3, 3)))\n"
        "window.show(); print(window.shown == [figure])\n"
        "for _ in range(50): plot.kernels(numpy.ones((2, 1, 3, 3)))\n"
        "print(len(plt.get_fignums()))"
    )
    arguments = [sys.executable, "-W", "error", "-c", script, str(tmp_path), backend]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ([str(shows), "20"] if shows else ["False", "0"]), done.stderr


def test_an_axes_that_was_given_comes_back() -> None:
    figure = Figure()
    figure.canvas.draw()
    ax = figure.subplots()
    assert isinstance(plot.kernel_and_map(NET, sample.IMAGES, ax=ax), Axes)


@pytest.mark.slow
def test_every_step_of_the_notebook_is_a_command_and_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnlens.cli.main import main

    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "notebook.md").read_text(encoding="utf-8")
    first, *blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(first, names)
    figures = [eval(line, names) for block in blocks for line in block.strip().split("\n")]
    commands = re.findall(r"^\$ cnnlens (.+)$", page, re.MULTILINE)
    assert len(commands) == len(figures) == 10
    for command in commands:
        said = command.replace("$MODEL", str(sample.MODEL)).replace("$IMAGES", str(sample.IMAGES))
        assert main([word.strip('"') for word in said.split(" ")]) == 0
    drawn = [one for one in figures if isinstance(one, Figure)]
    assert len(drawn) == len(list(tmp_path.glob("*.png"))) == 9


# ---------------------------------------------------------------------------- what was asked for, and what does not fit


def bars(values: np.ndarray, **options: Any) -> tuple[Axes, dict[str, float]]:
    """The axes of a bar chart, and where the numbers over its bars stand, in pixels above its lower end."""
    figure = plot.feature_maps(values, **options)
    draw(figure)
    ax = figure.axes[0]
    bottom = ax.get_window_extent().y0
    return ax, {text.get_text(): text.get_window_extent().y0 - bottom for text in ax.texts}


def test_bars_end_where_it_was_asked_for_and_say_what_goes_on() -> None:
    ax, at = bars(np.array([0.25, 3.0, -0.5, -2.5, 2.0]), vmin=-1, vmax=2)
    assert ax.get_ylim() == (-1, 2)
    assert "beyond the ends: 1 above (▲) and 1 below (▼), of 5 values, in channels 1, 3" in at
    assert {(*line.get_xdata(), *line.get_ydata()) for line in ax.lines if len(line.get_xdata()) == 1} == {
        (1, 2),
        (3, -1),
    }
    height = ax.get_window_extent().height
    assert at["3.00"] >= height, "the number of a bar that goes on stands outside"
    assert at["−2.50"] < 0
    assert bars(np.array([0.25, -0.5]), vmin=-1, vmax=2)[0].get_ylim() == (-1, 2)
    assert bars(np.array([0.25, -0.5]), vmax=2)[0].get_ylim() == (-2, 2)
    low, high = bars(np.array([0.25, 0.5, 4]), vmin=0.375)[0].get_ylim()
    assert (low, high > 4) == (0.375, True)
    _, whole = bars(np.array([-1e-9, 2.0]))
    assert not any("beyond" in text for text in whole), "nothing was asked for"
    _, many = bars(RANDOM.normal(size=900), vmin=-1, vmax=1)
    assert not any("▲" in text for text in many), "bars of a pixel have no arrow"
    assert any(text.startswith("beyond the ends") for text in many)


def test_what_holds_no_number_is_not_called_0() -> None:
    _, at = bars(np.array([0.5, np.nan, np.inf, -np.inf]))
    assert {"NaN", "Inf", "−Inf"} <= set(at)
    assert "0" not in at
    maps = RANDOM.uniform(0.5, 1, (3, 5, 4))
    maps[1], maps[2] = np.nan, -np.inf
    said = texts(plot.feature_maps(maps))
    assert {"NaN", "−Inf"} <= set(said)
    assert "0" in said, "the number of the first tile"
    assert said.count("0") == 1
    many = texts(plot.feature_maps(np.repeat(maps, 400, axis=0)))
    assert any(f"from {maps[0].max():.3g} to {maps[0].max():.3g}" in text for text in many)
    assert {"NaN", "−Inf"} <= set(texts(plot.feature_maps(maps[:, 0], axes="CL")))


def test_a_channel_that_is_named_twice_is_one() -> None:
    assert chosen("0-3,2-5,0", 8) == [0, 1, 2, 3, 4, 5]
    assert chosen([2, 2, np.int64(0)], 8) == [2, 0]
    values = RANDOM.normal(size=(32, 1, 3, 3))
    assert any("6 of 32 kernels" in text for text in texts(plot.kernels(values, channels="0-3,2-5")))
    assert any("1 of 32 channels" in text for text in texts(plot.feature_maps(values[:, 0], channels="0,0,0")))


@pytest.mark.parametrize("channels", [[True, False], np.array([True, False, True]), [1.5], [math.inf], [math.nan], 3])
def test_channels_that_are_no_whole_numbers_are_refused(channels: Any) -> None:
    with pytest.raises(CnnlensError, match="numbers were expected") as caught:
        plot.feature_maps(np.ones((3, 4, 5)), channels=channels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(7, 8), (1, 3, 7, 8)])
def test_an_image_says_what_lies_beyond_its_ends(shape: tuple[int, ...]) -> None:
    values = RANDOM.uniform(0.2, 0.7, shape)
    values[..., 2, 3], values[..., 4, 5] = 0.9, 0.1
    figure = plot.image(values, vmin=0.15, vmax=0.8)
    count = values.size // 56
    assert any(f"{count} above (▲) and {count} below (▼), of {values.size} values" in text for text in texts(figure))
    assert {line.get_marker() for line in figure.axes[0].lines} == {"^", "v"}
    assert not any("beyond" in text for text in texts(plot.image(values)))


def test_a_mark_is_seen_in_its_cell() -> None:
    values = RANDOM.uniform(-0.5, 0.5, (4, 3, 5, 5))
    values[1, :, 2, 2], values[3, :, 1, 1] = 9, -9
    figure = plot.kernels(values, vmax=1)
    image = image_of(figure)
    marks = {line.get_marker(): line for line in figure.axes[0].lines}
    assert set(marks) == {"^", "v"}
    for line in marks.values():
        (x,), (y,) = line.get_data()
        behind = image[int(y), int(x)].mean()
        assert abs(np.array(mpl.colors.to_rgb(line.get_color())).mean() * 255 - behind) > 100


def test_a_note_names_only_signs_that_are_drawn() -> None:
    values = RANDOM.normal(size=(300, 1, 20, 20))
    for small in (values, values[:, 0, 0], values.reshape(300, -1)):
        said = " ".join(texts(plot.kernels(small, vmax=1)))
        assert re.search(r"beyond the colours: [\d,]+ above and [\d,]+ below", said)
    both = np.zeros((4, 3, 5, 5))
    both[1, :2, 2, 2] = 9, -9  # one cell in colour has one mark
    assert "1 above (▲) and 1 below, of" in " ".join(texts(plot.kernels(both, vmax=1)))
    large = " ".join(texts(plot.kernels(values[:4], vmax=1)))
    assert re.search(r"above \(▲\) and [\d,]+ below \(▼\)", large)


@pytest.mark.parametrize(
    "ends",
    [(1 - 1e-7, 1 + 1e-7), (1, np.nextafter(1, 2)), (-0.9, 0.9), (123_410, 123_560), (1e17, 1e17 + 64), (0, 5e-324)],
)
def test_two_ticks_at_least_are_told_apart_and_true(ends: tuple[float, float]) -> None:
    for most in (2, 3, 5, 7):
        named = ticks(*ends, most)
        assert len({text for _, text in named}) == len(named) >= 2
        for place, text in named:
            assert float(text.replace("−", "-")) == pytest.approx(place, rel=1e-14, abs=0) or ends[1] == 5e-324


def test_no_zero_has_a_sign() -> None:
    assert (number(-0.0), number(-0.0, 6), number(-0.5)) == ("0", "0", "−0.5")
    assert any("all 72 values are 0" in text for text in legend(plot.histogram(np.full((8, 9), -0.0))))
    assert not any("−0 " in f"{text} " for text in texts(plot.feature_maps(np.array([-0.0, 1.0]))))
    assert "min 0," in of_models._shown(statistics(np.full(3, -0.0, np.float32)))  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    ("draws", "options", "message"),
    [
        ("kernels", {"columns": 2.5}, "columns must be a whole number, not 2.5"),
        ("kernels", {"columns": "3"}, "columns must be a whole number, not '3'"),
        ("kernels", {"columns": True}, "columns must be a whole number, not True"),
        ("kernels", {"size": "800"}, "size must be a width in whole pixels, or a tuple of width and height, not '800'"),
        ("kernels", {"size": (800, 600, 3)}, "size must be"),
        ("kernels", {"dpi": "a"}, "dpi must be a number, not 'a'"),
        ("feature_maps", {"vmin": "a"}, "vmin must be a number, not 'a'"),
        ("feature_maps", {"cmap": 3}, "cmap must be the name of a colour map, or a Colormap, not 3"),
        ("feature_maps", {"index": "a"}, "index must be a whole number, not 'a'"),
        ("image", {"index": "a"}, "index must be a whole number, not 'a'"),
        ("image", {"vmax": [1]}, "vmax must be a number, not [1]"),
        ("histogram", {"bins": "auto"}, "bins must be a whole number, not 'auto'"),
        ("histogram", {"bins": 2.5}, "bins must be a whole number, not 2.5"),
        ("histogram", {"ax": "here"}, "ax must be an Axes of matplotlib's, not 'here'"),
    ],
)
def test_an_option_of_another_type_is_refused_in_one_line(draws: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CnnlensError, match=re.escape(message)) as caught:
        getattr(plot, draws)(RANDOM.uniform(size=(2, 1, 4, 5)), **options)
    assert "\n" not in str(caught.value)
    assert plot.kernels(KERNELS_OF_TWO, columns=np.int64(1), vmax=np.float32(2))


def test_one_name_for_a_list_and_a_mapping_for_an_array_are_said_to_be_that() -> None:
    net = cnnlens.open(sample.MODEL)
    with pytest.raises(CnnlensError, match=re.escape("a list of names was expected, as ['conv2d'], and a text came")):
        net.run(sample.IMAGES, layers="conv2d")
    with pytest.raises(CnnlensError, match=re.escape("this holds them by name; give ['conv2d']")):
        plot.feature_maps({"conv2d": np.zeros((3, 4, 5))})  # type: ignore[arg-type]


KERNELS_OF_TWO = RANDOM.normal(size=(2, 1, 3, 4))
