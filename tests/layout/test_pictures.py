"""The pictures of layouts: a number in a cell is the address of the value that stands there, and no mistake hides.

Each kind of picture is held against a stored one, too, in `baseline` at a fifth of its size. Who changes how they look
makes them anew, `pytest -n 0 tests/layout/test_pictures.py --mpl-generate-path=tests/layout/baseline`, and looks at
each.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import cnnlens
from cnnlens import layout, plot
from cnnlens.cli.main import main
from cnnlens.errors import CnnlensError
from cnnlens.layout.crossing import crossings
from cnnlens.layout.listing import memories
from cnnlens.layout.readings import plan_of, readings
from cnnlens.plot import of_layouts
from cnnlens.plot.colours import paint
from cnnlens.plot.panels import WRONG
from cnnlens.plot.strips import CELLS, Strip, strips
from cnnlens.sample import MODEL

BASELINE = Path(__file__).parent / "baseline"

READINGS: dict[str, tuple[str | None, str, str, dict[str, Any]]] = {
    "conv": ("Conv2D", "keras", "torch", {"shape": (3, 3, 1, 32)}),
    "conv_of_colours": ("Conv2D", "keras", "torch", {"shape": (3, 3, 3, 16)}),
    "conv_5": ("Conv2D", "torch", "keras", {"shape": (16, 3, 5, 5)}),
    "conv_1": ("Conv2D", "keras", "torch", {"shape": (1, 1, 16, 32)}),
    "conv_11": ("Conv2D", "tflite", "torch", {"shape": (64, 11, 11, 3)}),
    "conv_11_square": (
        "Conv2D",
        "keras",
        "torch",
        {"shape": (11, 11, 8, 8)},
    ),  # in and out swapped leave the first tile
    "conv_1d": ("Conv1D", "keras", "torch", {}),
    "conv_3d": ("Conv3D", "keras", "torch", {}),
    "transposed": ("Conv2DTranspose", "flax", "torch", {}),
    "depthwise": ("DepthwiseConv2D", "keras", "torch", {}),
    "separable": ("SeparableConv2D", "keras", "onnx", {"weight": "pointwise_kernel"}),
    "dense": ("Dense", "keras", "torch", {}),
    "flatten": ("Dense", "keras", "torch", {"flatten": (7, 7, 64)}),
    "flatten_back": ("Dense", "torch", "keras", {"flatten": (4, 4, 3)}),
    "lstm": ("LSTM", "keras", "onnx", {}),
    "gru": ("GRU", "keras", "torch", {}),
    "lstm_large": ("LSTM", "torch", "onnx", {"shape": (512, 128)}),
    "attention_back": ("MultiHeadAttention", "torch", "keras", {"shape": (16, 4), "sizes": {"A": 4}}),
    "gru_large": ("GRU", "torch", "onnx", {"shape": (192, 32)}),
    "attention": ("MultiHeadAttention", "keras", "torch", {}),
    "prelu": ("PReLU", "keras", "onnx", {}),
    "norm": ("LayerNormalization", "torch", "keras", {}),
    "norm_flat": ("BatchNormalization", "keras", "torch", {"flatten": (7, 7, 8)}),
    "conv_lstm": ("ConvLSTM2D", "keras", "flax", {}),
    "maps": (None, "NHWC", "NCHW", {"shape": (1, 28, 28, 3)}),
    "signals": (None, "NCW", "NWC", {}),
    "volumes": (None, "NDHWC", "NCDHW", {}),
}
MANY_CELLS = ("conv_of_colours", "conv_11", "transposed", "lstm", "norm_flat")  # a second or more to draw
MEMORY: dict[str, tuple[str | None, str, list[str], dict[str, Any]]] = {
    "conv": ("Conv2D", "keras", ["torch"], {"shape": (3, 3, 1, 32)}),
    "conv_of_all": ("Conv2D", "keras", ["torch", "flax", "onnx", "tflite"], {}),
    "gru": ("GRU", "keras", ["torch", "onnx"], {}),
    "flatten": ("Dense", "keras", ["torch"], {"flatten": (7, 7, 64)}),
    "transposed": ("Conv2DTranspose", "flax", ["torch"], {}),
    "maps": (None, "NHWC", ["NCHW"], {"shape": (1, 28, 28, 3)}),
    "norm": ("BatchNormalization", "keras", ["torch"], {}),
}


def drawn(name: str) -> Figure:
    kind, source, target, options = READINGS[name]
    return of_layouts.layout_readings(kind, source, target, **options)


def remembered(name: str) -> Figure:
    kind, source, targets, options = MEMORY[name]
    return of_layouts.layout_memory(kind, source, targets, **options)


seen_once = cache(drawn)  # several tests look at one picture
COMPARED: dict[str, Callable[[], Figure]] = {
    **{f"readings_{name}": partial(drawn, name) for name in ("conv", "conv_1d", "dense", "flatten", "gru", "maps")},
    **{f"memory_{name}": partial(remembered, name) for name in ("conv", "gru", "flatten")},
}


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def panels_of(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.images]


def cells(axes: Axes) -> list[tuple[int, float, float, str]]:
    """The numbers in the cells of a panel, where they stand in pixels from left and top, and their colours."""
    box, found = axes.get_window_extent(), list[tuple[int, float, float, str]]()
    for text in axes.texts:
        if text.get_text().isdigit():
            x, y = text.get_transform().transform(text.get_position())
            found.append((int(text.get_text()), float(x - box.x0), float(box.y1 - y), str(text.get_color())))
    return found


def addresses(axes: Axes) -> list[int]:
    return [each[0] for each in cells(axes)]


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.slow) if one in MANY_CELLS else one for one in READINGS]
)
def test_every_cell_has_the_address_of_its_value_and_no_two_panels_are_alike(name: str) -> None:
    """The numbers of each panel are those of its reading, in one selection of tiles and cells for all."""
    kind, source, target, options = READINGS[name]
    figure = seen_once(name)
    sizes = re.findall(r"\(([\d, ]+)\)", next(text for text in texts(figure) if " to " in text and "(" in text))
    shape = tuple(int(size) for size in sizes[0].strip(",").split(", ") if size)
    one = next(
        each
        for each in crossings(kind, source, target, **{**options, "shape": shape})
        if each.source is not None and each.weight == options.get("weight", each.weight)
    )
    plan = plan_of(one)
    seen = [each for each in readings(one) if each.same_shape]
    shown = panels_of(figure)
    assert len(shown) == len(seen) <= 8
    right = plan.tiles(seen[0].array, one.letters)
    place = {int(address): where for where, address in zip(np.ndindex(right.shape), right.ravel(), strict=True)}
    held = [addresses(axes) for axes in shown]
    for axes, numbers, each in zip(shown, held, seen, strict=True):
        grid = plan.tiles(each.array, one.letters)
        assert each.name in [text.get_text() for text in axes.texts]
        assert numbers == [grid[place[home]] for home in held[0]]
        for (_, x, y, _), (_, x_right, y_right, _) in zip(cells(axes), cells(shown[0]), strict=True):
            assert (x, y) == pytest.approx((x_right, y_right), abs=0.1)
    assert len({tuple(numbers) for numbers in held}) == len(held)
    pictures = [np.asarray(axes.images[0].get_array()).tobytes() for axes in shown]
    assert len({*pictures}) == len(pictures)


@pytest.mark.parametrize("name", READINGS)
def test_numbers_in_a_wrong_place_are_red_and_counted(name: str) -> None:
    right, *wrong = panels_of(seen_once(name))
    home = addresses(right)
    for axes in wrong:
        for (number, _, _, colour), belongs in zip(cells(axes), home, strict=True):
            assert (colour == WRONG) == (number != belongs)
        (said,) = [text.get_text() for text in axes.texts if "misplaced" in text.get_text()]
        moved, whole = (int(number.replace(",", "")) for number in re.findall(r"[\d,]+", said))
        assert sum(number != belongs for number, belongs in zip(addresses(axes), home, strict=True)) <= moved <= whole
        assert whole >= len(home)


def empty(figure: Figure, tmp_path: Path) -> float:
    """The share of squares of a fifth of an inch in which nothing is drawn."""
    figure.savefig(tmp_path / "x.png", dpi=150)
    pixels = matplotlib.image.imread(tmp_path / "x.png")[..., :3]
    side = 32
    high, wide = (size // side for size in pixels.shape[:2])
    squares = pixels[: high * side, : wide * side].reshape(high, side, wide, side, 3)
    return float((squares == 1).all(axis=(1, 3, 4)).mean())


@pytest.mark.parametrize(
    "name",
    [
        *("conv_1d", "dense"),
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("conv", "conv_of_colours", "flatten", "gru", "maps")),
    ],
)
def test_a_fifth_of_a_picture_is_empty_at_most(name: str, tmp_path: Path) -> None:
    assert empty(seen_once(name), tmp_path) < 0.2


def test_the_texts_of_a_picture() -> None:
    said = texts(seen_once("conv"))
    assert "Conv2D kernel, from Keras to PyTorch" in said
    assert any(text.startswith("HWIO (3, 3, 1, 32) to OIHW (32, 1, 3, 3)") for text in said)
    assert said.count("✓") == 1
    assert said.count("✗") == 4
    assert "weight = kernel.transpose(3, 2, 1, 0)" in said
    assert "weight = rearrange(kernel, 'h w i o -> o i w h')" in said
    assert "192 of 288 misplaced" in said
    whole = re.sub(r"\s", " ", " ".join(said))
    assert "in and out swapped (weight = kernel.transpose(2, 3, 0, 1))" in whole
    assert "kernel[1, 2, 0, 3] at address 163 here is weight[3, 0, 1, 2] at address 32 there" in whole


@pytest.mark.parametrize("name", MEMORY)
def test_a_strip_shows_each_step_where_it_ends(name: str) -> None:
    kind, source, targets, options = MEMORY[name]
    figure = remembered(name)
    found = [crossings(kind, source, target, **options)[0] for target in targets]
    told = memories(found, CELLS)
    strips_drawn = panels_of(figure)
    assert len(strips_drawn) == len(told) == len({str(one[0].pattern) + one[0].gates for one in told})
    for axes, (side, _, known) in zip(strips_drawn, told, strict=True):
        said = [text.get_text() for text in axes.texts]
        assert any(side.layout in text and str(side.shape) in text for text in said)
        for letter, step in known.steps.items():
            assert (f"stride of {letter} = {step:,}" in said) == (known.sizes[letter] > 1)
        ends = sorted(float(note.xy[0]) for note in axes.texts if hasattr(note, "xy"))
        steps = sorted(step for letter, step in known.steps.items() if known.sizes[letter] > 1)
        assert len(ends) == len(steps)
        first = next(text for text in axes.texts if text.get_text() == "0" and text.get_fontsize() == 6.5)
        start = first.get_position()[0] * axes.get_xlim()[1]
        for end, step in zip(ends, steps, strict=True):
            place = known.addresses.index(step)
            gaps = sum(b != a + 1 for a, b in zip(known.addresses[:place], known.addresses[1 : place + 1], strict=True))
            assert end - start == pytest.approx(25 * (place + gaps), abs=0.6)
    assert not [text for text in texts(figure) if re.search(r"(?<![:\w])-\d", text) and "::" not in text]


def test_strips_refuse_what_cannot_be_drawn() -> None:
    with pytest.raises(CnnlensError, match="no memory to draw"):
        strips([], title="x")
    with pytest.raises(CnnlensError, match="no memory to draw"):
        strips([Strip("x", layout.memory("HW", (2, 3), addresses=()))], title="x")


def test_panels_refuse_what_cannot_be_drawn() -> None:
    with pytest.raises(CnnlensError, match="no reading to draw"):
        plot.panels([])
    with pytest.raises(CnnlensError, match="an array of 4 axes is needed"):
        plot.panels([plot.Panel("x", np.zeros((3, 3)))])


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("NHWC",), ("Embedding",), ("Conv2D", "--from", "keras", "--to", "torch"), ("--from", "NHWC", "--to", "NCHW"),
        ("Dense", "--from", "keras", "--to", "torch", "--flatten", "7,7,64"), ("LSTM", "--memory", "--weight", "bias"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_pictures_from_the_command_line(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["layouts", *arguments, "-o", str(tmp_path / "x.png")]) == 0
    assert f"wrote {tmp_path / 'x.png'}" in capsys.readouterr().out
    assert matplotlib.image.imread(tmp_path / "x.png").shape[1] > 1400


def test_one_large_weight_pales_no_other_and_carries_a_mark() -> None:
    kernel = np.linspace(-1, 1, 240).reshape(2, 5, 4, 6)
    kernel[1, 2, 3, 4], kernel[0, 1, 0, 2] = 50, -70
    right = plot.Panel("right", kernel, right=True, numbers=np.arange(240).reshape(kernel.shape))
    figure = plot.panels([right, plot.Panel("upside down", kernel[:, :, ::-1])])
    limits = [axes.get_xlim() for axes in figure.axes]
    assert any(0.9 < high == -low <= 1 for low, high in limits)  # of the colour bar
    assert "cells above (▲) and below (▼) the colours are marked" in texts(figure)
    assert any("99 of 100 weights are no larger" in text for text in texts(figure))
    for axes in panels_of(figure):
        image = np.asarray(axes.images[0].get_array())
        found = {}
        for line in axes.lines:
            for x, y in line.get_xydata():  # type: ignore[union-attr]
                found.setdefault(line.get_marker(), []).append(image[int(y), int(x)].tolist())
        assert found == {"^": [[103, 0, 31]], "v": [[5, 48, 97]]}  # the ends of the colours


@pytest.mark.slow
def test_a_real_kernel_is_drawn_with_its_own_weights(capsys: pytest.CaptureFixture[str]) -> None:
    network = cnnlens.open(MODEL)
    layer = network["conv2d_1"]
    figure = of_layouts.layout_readings(
        "Conv2D", "keras", "torch", weight="kernel", shape=(3, 3, 32, 64), model=(network, layer)
    )
    assert "conv2d_1: Conv2D kernel, from Keras to PyTorch" in texts(figure)
    stored = layer.weights["kernel"].ravel()
    bar = next(axes for axes in figure.axes if axes.get_ylim()[0] < 0)
    limit = bar.get_ylim()[1]
    shown = [cells(axes) for axes in panels_of(figure)]
    assert limit == pytest.approx(max(abs(float(stored[address])) for numbers in shown for address, *_ in numbers))
    # Beside the number of each cell the colour of the weight at that address.
    for axes, numbers in zip(panels_of(figure), shown, strict=True):
        image = np.asarray(axes.images[0].get_array())
        for address, x, y, _ in numbers:
            expected = paint(stored[[address]], "RdBu_r", -limit, limit)[0]
            np.testing.assert_array_equal(image[int(y) + 9, int(x) - 9], expected)
    both = ["layouts", "--from", "torch", "--to", "keras", "--model", str(MODEL), "--layer", "dense"]
    assert main(both) == 0
    flat = capsys.readouterr().out
    assert "kernel (behind a Flatten)" in flat
    assert "weight.reshape(100, 64, 7, 7)" in flat


def test_every_stored_picture_is_compared() -> None:
    assert {path.stem for path in BASELINE.glob("*.png")} == {*COMPARED}
    assert sum(path.stat().st_size for path in BASELINE.glob("*.png")) < 420_000


def _compared(name: str, make: Callable[[], Figure]) -> Callable[[], Figure]:
    def test() -> Figure:
        return make()

    test.__name__ = f"test_picture_{name}"
    mark = pytest.mark.mpl_image_compare(
        baseline_dir=str(BASELINE), filename=f"{name}.png", tolerance=1.0, savefig_kwargs={"dpi": 30}, style="default"
    )
    many = name in ("readings_conv", "readings_flatten", "readings_gru", "readings_maps")
    return pytest.mark.slow(mark(test)) if many else mark(test)


for _name, _make in COMPARED.items():
    globals()[f"test_picture_{_name}"] = _compared(_name, _make)
