"""One kind of layer from one framework to another: the numbers that are printed, and the pictures of wrong readings.

What is printed is executed: each line of NumPy is evaluated on an array of distinct numbers and held against the way of
``cnnlens.layout`` through canonical axes, each worked element is looked up in both arrays, strides are NumPy's own.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from cnnlens import layout, plot
from cnnlens.cli.main import main
from cnnlens.errors import CnnlensError
from cnnlens.layout import FRAMEWORKS, KINDS, Geometry, listing
from cnnlens.layout.crossing import Crossing, crossings
from cnnlens.layout.names import PYTORCH_KINDS, framework_named, kind_named
from cnnlens.layout.readings import plan_of, readings, specimen, specimen_sizes
from cnnlens.layout.tables import ROWS, Absent
from cnnlens.plot import of_layouts
from cnnlens.plot.colours import paint
from cnnlens.sample import MODEL

PAIRS = [(source, target) for source in FRAMEWORKS for target in FRAMEWORKS if source != target]


def every_crossing(kind: str) -> list[Crossing]:
    flat = [(7, 5, 3)] if any(row.flat and kind in row.kinds for row in ROWS) else []
    return [
        one
        for source, target in PAIRS
        for flatten in (None, *flat)
        for one in crossings(kind, source, target, flatten=flatten)
    ]


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(1, int(np.prod(shape)) + 1, dtype=np.float32).reshape(shape)


def through_canonical(one: Crossing, array: np.ndarray) -> np.ndarray:
    """What the layout itself, by way of canonical axes, makes of an array."""
    assert one.source is not None
    assert one.target is not None
    sizes = dict(one.sizes)
    spatial = "".join(letter for letter in "DHW" if letter in sizes)
    flat = one.condition == "behind a Flatten"
    geometry = Geometry(
        groups=sizes.get("C", 1) if "M" in sizes else 1,
        depth_multiplier=sizes.get("M"),
        heads=sizes.get("A"),
        flatten=tuple(sizes[letter] for letter in f"{spatial}C") if flat else None,
        positions=tuple(sizes[letter] for letter in "XY" if letter in sizes) or None,
        kernel_size=tuple(sizes[letter] for letter in spatial) or None,
        reset_after={"reset_after=True": True, "reset_after=False": False}.get(one.condition),
    )
    canonical = layout.canonicalise(one.kind, one.weight, array, geometry, one.source.framework)
    return layout.arrange(one.kind, one.weight, canonical, one.target.framework, geometry)


def can_be_crossed(one: Crossing, array: np.ndarray) -> np.ndarray:
    """``array`` without what a second bias would lose."""
    assert one.source is not None
    if "B" in one.source.layout and one.target is not None and "B" not in one.target.layout:
        array[:, array.shape[1] // 2 :] = 0
    return array


# What is printed is true ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_line_element_and_strides_of_every_pair(kind: str) -> None:
    seen = 0
    for one in every_crossing(kind):
        if one.source is None or one.target is None:
            assert one.reason
            continue
        seen += 1
        array = can_be_crossed(one, numbered(one.source.shape))
        variable, _, line = one.numpy.partition(" = ")
        assert variable == one.target.variable
        result = eval(line, {"np": np, one.source.variable: array})

        np.testing.assert_array_equal(result, through_canonical(one, array))
        np.testing.assert_array_equal(result, one.apply(array))
        assert result.shape == one.target.shape
        assert array[one.here]
        assert result[one.there] == array[one.here]

        assert [4 * stride for stride in one.source.strides] == list(array.strides)
        assert [4 * stride for stride in one.target.strides] == list(np.empty(result.shape, np.float32).strides)
        if one.view is None:
            assert not np.may_share_memory(result, array)
        else:
            assert np.may_share_memory(result, array)
            moving = [place for place, size in enumerate(result.shape) if size > 1]
            assert [4 * one.view[place] for place in moving] == [result.strides[place] for place in moving]
    assert seen or kind in ("Normalization",)


@pytest.mark.parametrize("kind", KINDS)
def test_default_sizes_and_indices_all_differ(kind: str) -> None:
    for one in every_crossing(kind):
        if one.source is None or one.target is None:
            continue
        # Axes of one entry (a PReLU's shared ones, ONNX's directions) and square recurrent kernels cannot differ.
        large = [size for size in one.source.shape if size > 1]
        square = kind == "SimpleRNN" and one.weight == "recurrent_kernel"
        assert square or len(set(large)) == len(large)
        indices = [index for index, size in zip(one.here, one.source.shape, strict=True) if size > 1]
        assert len(set(indices)) == len(indices)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_what_a_framework_has_not_is_said_with_the_reason_of_the_table(source: str, target: str) -> None:
    for kind in KINDS:
        for one in crossings(kind, source, target):
            row = next(
                row for row in ROWS if kind in row.kinds and one.weight in row.weights and not row.flat
                and (row.reset_after is None or one.condition == f"reset_after={row.reset_after}")
            )  # fmt: skip
            stored = {each: row.stored(each) for each in (source, target)}
            absent = [f"{each} has {found.reason}" for each, found in stored.items() if isinstance(found, Absent)]
            assert one.reason == (absent[0] if absent else "")
            assert (one.source is None) == bool(absent)


def test_the_example_of_the_convolution() -> None:
    one = crossings("Conv2D", "keras", "torch", shape=(3, 3, 1, 32))[0]
    assert one.source is not None
    assert one.target is not None
    assert one.numpy == "weight = kernel.transpose(3, 2, 0, 1)"
    assert (one.source.shape, one.target.shape) == ((3, 3, 1, 32), (32, 1, 3, 3))
    assert one.source.strides == (96, 32, 32, 1)
    assert one.target.strides == (9, 9, 3, 1)
    assert one.view == (1, 32, 96, 32)
    h, w, i, o = one.here
    assert one.there == (o, i, h, w)
    assert len({h, w, i, o}) == 4
    assert [axis.meaning for axis in one.source.axes] == ["height", "width", "input channels", "output channels"]


def test_sizes_of_the_first_weight_hold_for_the_others() -> None:
    _, bias = crossings("Conv2D", "keras", "torch", shape=(3, 5, 4, 11))
    assert bias.source is not None
    assert bias.source.shape == (11,)
    _kernel, recurrent, bias = crossings("LSTM", "keras", "torch", shape=(6, 28))
    assert recurrent.source is not None
    assert recurrent.source.shape == (7, 28)
    assert recurrent.source.axes[0].meaning == "units of the step before"
    assert bias.target is not None
    assert bias.target.shape == (28,)


def test_gates_are_called_as_each_framework_calls_them() -> None:
    to_onnx, to_torch = (crossings("GRU", "keras", target)[0] for target in ("onnx", "torch"))
    assert to_onnx.source is not None
    assert to_onnx.source.gates == "zrh"
    assert to_onnx.target is not None
    assert to_onnx.target.gates == "zrh"
    assert to_torch.target is not None
    assert to_torch.target.gates == "rzn"
    # The element stands in a gate that moves.
    assert to_torch.here[1] != to_torch.there[0]


def test_behind_a_flatten() -> None:
    one = crossings("Dense", "keras", "torch", flatten=(7, 5, 3), shape=(105, 4))[0]
    assert one.condition == "behind a Flatten"
    assert one.numpy == "weight = kernel.reshape(7, 5, 3, 4).transpose(3, 2, 0, 1).reshape(4, 105)"
    (h, w, c), place = (1, 1, 1), one.here[0]
    assert place == (h * 5 + w) * 3 + c
    assert one.there[1] == (c * 7 + h) * 5 + w
    gamma = crossings("BatchNormalization", "keras", "torch", flatten=(4, 3), weight="gamma")[0]
    assert gamma.numpy == "weight = gamma.reshape(4, 3).T.reshape(12)"


def test_merged_axes_need_their_sizes_and_the_groups_of_a_transposed_convolution_are_refused() -> None:
    one = crossings("DepthwiseConv2D", "torch", "keras", shape=(12, 1, 5, 2), sizes={"M": 3})[0]
    assert one.target is not None
    assert one.target.shape == (5, 2, 4, 3)
    with pytest.raises(CnnlensError, match=r"sizes of C and M are not known; --sizes C=…,M=…"):
        crossings("DepthwiseConv2D", "torch", "keras", shape=(12, 1, 5, 2))
    (grouped, _) = crossings("Conv2DTranspose", "torch", "onnx", sizes={"G": 2})
    assert grouped.source is not None
    assert grouped.source.layout == "(GI)OHW"
    (refused, _) = crossings("Conv2DTranspose", "torch", "keras", sizes={"G": 2})
    assert refused.reason == "keras has no groups in a transposed convolution"


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.framework
def test_kinds_go_by_their_pytorch_names_and_in_any_case() -> None:
    torch = pytest.importorskip("torch")
    for name, kind in PYTORCH_KINDS.items():
        assert kind_named(name) == kind_named(name.lower()) == kind_named(name.upper()) == kind
        assert hasattr(torch.nn, name)
    for kind in KINDS:
        assert kind_named(kind.upper()) == kind
    assert kind_named("lstmcell") == "LSTM"
    assert [framework_named(name) for name in ("PyTorch", "tensorflow", "ONNX")] == ["torch", "keras", "onnx"]


def test_a_weight_goes_by_its_name_on_either_side() -> None:
    for name in ("recurrent_kernel", "weight_hh_l0"):
        (one,) = crossings("LSTM", "keras", "torch", weight=name)
        assert one.weight == "recurrent_kernel"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Conv2E", "keras", "torch"), r"no layout for kind 'Conv2E': did you mean .*'Conv2D'"),
        (("TimeDistributed", "keras", "torch"), r"TimeDistributed has no layout of its own"),
        (("Conv2D", "keras", "caffe"), r"no framework 'caffe': there are 'keras', 'torch'"),
        (("Conv2D", "tensorflow", "keras"), r"both sides are keras"),
        (("Conv2D", "keras", "torch", {"shape": (3, 3, 1)}),
         r"Conv2D kernel: keras stores it as HWIO \(height, width, input channels, output channels\), and "
         r"\(3, 3, 1\) does not fit: has 3 axes, \(3, 3, 1\), where HWIO has 4"),
        (("LSTM", "keras", "torch", {"shape": (5, 30)}), r"an axis of 30 entries does not hold Q·U with Q = 4"),
        (("Dense", "keras", "torch", {"shape": (100, 4), "flatten": (7, 5, 3)}), r"has 100 entries, which does not"),
        (("Conv2D", "keras", "torch", {"flatten": (7, 5, 3)}), r"holds no array that a Flatten"),
        (("Dense", "keras", "torch", {"flatten": (7,)}), r"the map in front of a Flatten is H,W,C"),
        (("Conv2D", "keras", "torch", {"weight": "gamma"}), r"Conv2D has no weight 'gamma'; there are 'kernel'"),
        (("Conv2D", "keras", "torch", {"sizes": {"T": 3}}), r"no axis is called 'T'"),
        (("PReLU", "keras", "torch", {"shape": (7, 5, 3)}), r"no slope a position in nn.PReLU"),
        (("Conv2D", "keras", "torch", {"shape": (3, 3, 99999, 99999)}), r"more than 134,217,728 elements"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(arguments: tuple[Any, ...], message: str) -> None:
    options: dict[str, Any] = arguments[3] if len(arguments) > 3 else {}
    names = arguments[:3]
    with pytest.raises(CnnlensError, match=message) as error:
        crossings(*names, **options)
    assert "\n" not in str(error.value)


# The command line -----------------------------------------------------------------------------------------------------


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["layouts", *arguments]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["layouts", *arguments]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def test_the_page_of_a_convolution(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "--from", "keras", "--to", "pytorch", "conv2d", "--shape", "3,3,1,32")
    assert text.startswith("Conv2D: from Keras to PyTorch\n")
    assert "HWIO  (3, 3, 1, 32)  H height, W width, I input channels, O output channels" in text
    assert "weight = kernel.transpose(3, 2, 0, 1)" in text
    here, there = re.search(r"kernel\[(.+?)\] here is weight\[(.+?)\] there", text).groups()  # type: ignore[union-attr]
    array = numbered((3, 3, 1, 32))
    at = [tuple(map(int, index.split(", "))) for index in (here, there)]
    assert array[at[0]] == array.transpose(3, 2, 0, 1)[at[1]]
    assert "(384, 128, 128, 4) bytes" in text
    assert "(4, 128, 384, 128) bytes" in text
    assert "(36, 36, 12, 4) bytes" in text
    assert "one axis on both sides: nothing to do" in text
    assert "Grouped: I is the input channels of one group" in text
    assert "traps\n  - `same` pads" in text


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_page_both_ways(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    for source, target in (("keras", "torch"), ("torch", "keras"), ("keras", "onnx"), ("flax", "torch")):
        text = printed(capsys, kind, "--from", source, "--to", target)
        for one in crossings(kind, source, target):
            assert one.weight in text
            if one.reason:
                assert one.reason in re.sub(r"\s+", " ", text)
        assert max(map(len, text.splitlines())) < 170


def test_json_is_plain_and_stable(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("GRU", "--from", "torch", "--to", "keras", "--json")
    first, second = printed(capsys, *arguments), printed(capsys, *arguments)
    data = json.loads(first)
    assert first == second
    assert (data["kind"], data["from"], data["to"]) == ("GRU", "torch", "keras")
    kernel = data["weights"][0]
    assert kernel["from"]["axes"][0] == {"letters": "(QU)", "meaning": "gates r, z, n × units", "size": 18}
    assert kernel["from"]["strides_bytes"] == [16, 4]
    assert kernel["view_strides"] is None
    assert [row["condition"] for row in data["weights"]] == [None, None, "reset_after=True", "reset_after=False"]
    assert data["weights"][3]["reason"] == "torch has no GRU that resets before the matrix product"
    assert data["traps"]
    assert data["special_cases"]
    assert data["picture"] is None
    assert data == {
        "format": "cnnlens.crossing/1",
        **listing.crossing_json(crossings("GRU", "torch", "keras")),
        **{key: data[key] for key in ("from", "to", "picture")},
    }


def test_layouts_without_a_direction_stay(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert printed(capsys, "Conv2D") == listing.as_table("Conv2D")
    assert printed(capsys, "nn.BatchNorm2d") == listing.as_table("BatchNormalization")
    assert json.loads(printed(capsys, "--json")) == {"format": "cnnlens.layouts/1", **listing.as_json()}
    printed(capsys, "Conv2D", "-o", str(tmp_path / "x.txt"))
    assert (tmp_path / "x.txt").read_text(encoding="utf-8") == listing.as_table("Conv2D")


def test_usage_that_lacks_or_mixes_options(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "--to is missing" in refused(capsys, "Conv2D", "--from", "keras")
    assert "a picture needs both sides" in refused(capsys, "Conv2D", "-o", str(tmp_path / "x.png"))
    assert "--shape needs --from and --to" in refused(capsys, "Conv2D", "--shape", "3,3,1,2")
    assert "which kind of layer?" in refused(capsys, "--from", "keras", "--to", "torch")
    both = ("--from", "keras", "--to", "torch")
    assert "KIND and --model are both given" in refused(capsys, "Conv2D", *both, "--model", str(MODEL))
    assert "--layer needs --model" in refused(capsys, "Conv2D", *both, "--layer", "x")
    assert "'.txt' is no picture format" in refused(capsys, "Conv2D", *both, "-o", str(tmp_path / "x.txt"))
    assert "Embedding embeddings has no picture" in refused(capsys, "Embedding", *both, "-o", str(tmp_path / "x.png"))
    assert list(tmp_path.iterdir()) == []


# Pictures -------------------------------------------------------------------------------------------------------------


def titles(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def panel_images(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def test_each_reading_is_what_its_line_of_numpy_makes() -> None:
    ways = (
        ("Conv2D", "keras", "torch"),
        ("GRU", "torch", "keras"),
        ("Conv2DTranspose", "flax", "onnx"),
        ("DepthwiseConv2D", "keras", "torch"),
        ("MultiHeadAttention", "keras", "torch"),
        ("LSTM", "keras", "onnx"),
        ("Conv3D", "tflite", "torch"),
    )
    for kind, source, target in ways:
        one = crossings(kind, source, target)[0]
        assert one.source is not None
        assert one.target is not None
        array = numbered(one.source.shape)
        found = readings(one, array)
        assert found[0].right
        assert not any(each.right for each in found[1:])
        assert len(found) > 2
        back = crossings(kind, target, source, shape=one.target.shape,
                         sizes={k: n for k, n in one.sizes if k in ("C", "M", "A", "F")})[0]  # fmt: skip
        for each in found:
            result = eval(each.code.partition(" = ")[2], {"np": np, one.source.variable: array})
            # Only the right one comes back whole.
            same = result.shape == one.target.shape and np.array_equal(back.apply(result), array)
            assert same == each.right, (kind, each.name)
            assert each.same_shape == (result.shape == one.target.shape), (kind, each.name)


def test_all_wrong_orders_of_a_flatten_are_there() -> None:
    one = crossings("Dense", "keras", "torch", flatten=(7, 5, 3), shape=(105, 4))[0]
    found = readings(one, numbered((105, 4)))
    assert [each.right for each in found] == [True] + 5 * [False]
    left = next(each for each in found if each.name.startswith("order left as it was"))
    assert left.code == "weight = kernel.T"
    np.testing.assert_array_equal(left.array, numbered((105, 4)).T.reshape(4, 3, 7, 5))

    back = crossings("Dense", "torch", "keras", flatten=(7, 5, 3), shape=(4, 105))[0]
    found = readings(back, numbered((4, 105)))
    assert [each.right for each in found] == [True] + 5 * [False]
    left = next(each for each in found if each.name.startswith("order left as it was"))
    assert left.code == "kernel = weight.T"


def test_letters_stand_upright_in_the_right_reading_alone() -> None:
    one = crossings("Conv2D", "keras", "torch", sizes={"O": 3, "I": 3, "H": 7, "W": 7})[0]
    kernel = specimen(one)
    right, *wrong = readings(one, kernel)
    letter = right.array[0, 0] > 0  # F: a bar at the top and one at the left
    assert letter[0].sum() == 5
    assert letter[:, 1].sum() == 7
    assert letter[6].sum() == 1
    assert {each.name for each in wrong} == {
        "reshaped, not transposed", "H and W swapped", "in and out swapped", "upside down: H flipped",
        "mirrored: W flipped",
    }  # fmt: skip
    assert all(each.same_shape for each in wrong)
    by_name = {each.name: each.array for each in wrong}
    np.testing.assert_array_equal(by_name["H and W swapped"], right.array.swapaxes(2, 3))
    np.testing.assert_array_equal(by_name["in and out swapped"], right.array.swapaxes(0, 1))
    np.testing.assert_array_equal(by_name["upside down: H flipped"], right.array[:, :, ::-1])
    np.testing.assert_array_equal(by_name["reshaped, not transposed"], kernel.reshape(3, 3, 7, 7))
    # No two tiles of any two readings can be mistaken for one another in the place where they stand.
    assert len({each.array.tobytes() for each in (right, *wrong)}) == 6


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3)])
def test_each_gate_has_its_letter_wherever_a_framework_keeps_it(kind: str, gates: int) -> None:
    """Whoever stores the specimen, canonical order has the same letters, but for the gate that is c, g, h or n."""
    seen: list[np.ndarray] = []
    for source, target in (("keras", "torch"), ("torch", "keras"), ("onnx", "keras")):
        sizes = specimen_sizes(crossings(kind, source, target)[0])
        assert sizes == {"Q": gates, "U": 7, "I": 7}
        one = crossings(kind, source, target, sizes={"U": 7, "I": 7})[0]
        seen.append(layout.canonicalise(kind, "kernel", specimen(one), framework=source).reshape(gates, 7, 7))
    for other in seen[1:]:
        named = [0, 1, 3][: gates - 1]
        np.testing.assert_array_equal(other[named], seen[0][named])
    assert len({tile.tobytes() for tile in seen[0]}) == gates
    assert all((tile > 0).sum() > 7 for tile in seen[0])


@pytest.mark.parametrize(
    ("kind", "target", "letters"),
    [
        ("Conv1D", "torch", {"O": 7, "I": 7, "W": 7}),
        ("Conv2D", "torch", {"O": 3, "I": 3, "H": 7, "W": 7}),
        ("DepthwiseConv2D", "torch", {"C": 3, "M": 2, "H": 7, "W": 7}),
        ("Dense", "torch", {"O": 14, "I": 14}),
        ("SimpleRNN", "torch", {"U": 14, "I": 14}),
        ("ConvLSTM2D", "flax", {"Q": 4, "U": 1, "I": 3, "H": 7, "W": 7}),
    ],
)
def test_no_check_of_shapes_sees_a_wrong_reading_of_a_specimen(kind: str, target: str, letters: dict[str, int]) -> None:
    sizes = specimen_sizes(crossings(kind, "keras", target)[0])
    assert sizes == letters
    one = crossings(kind, "keras", target, sizes={name: size for name, size in sizes.items() if name != "Q"})[0]
    found = readings(one, specimen(one))
    assert len(found) > 1
    assert all(each.same_shape for each in found)


def test_a_flip_is_forgotten_where_one_side_alone_has_it() -> None:
    def names(source: str, target: str) -> set[str]:
        one = crossings("Conv2DTranspose", source, target)[0]
        return {each.name for each in readings(one, specimen(one))}

    turned = {"upside down: H flipped", "mirrored: W flipped"}
    for other in ("keras", "torch", "onnx", "tflite"):
        for ways in (names("flax", other), names(other, "flax")):
            assert "flip forgotten" in ways
            assert not ways & turned
        if other != "torch":
            assert "flip forgotten" not in names("torch", other)
            assert names("torch", other) >= turned


@pytest.mark.parametrize(
    ("kind", "weight", "reason"),
    [
        ("Conv2D", "bias", "every framework stores it alike"),
        ("Embedding", "embeddings", "every framework stores it alike"),
        ("LSTM", "bias", "it is a vector"),
        ("LocallyConnected2D", "kernel", "it has too many axes"),
    ],
)
def test_what_has_no_picture_says_why(kind: str, weight: str, reason: str) -> None:
    (one, *_) = crossings(kind, "keras", "torch" if kind != "LocallyConnected2D" else "flax", weight=weight)
    with pytest.raises(CnnlensError, match=f"{kind} {weight} has no picture: {reason}; a kernel of a convolution"):
        plan_of(one)


def test_the_figure_draws_the_readings_with_their_titles() -> None:
    figure = of_layouts.layout_readings("Conv2d", "keras", "torch")
    said = titles(figure)
    assert "Conv2D kernel, from Keras to PyTorch" in said
    assert "HWIO (7, 7, 3, 3) to OIHW (3, 3, 7, 7)" in said
    assert said.count("✓") == 1
    assert said.count("✗") == 5
    assert "H and W swapped" in said
    assert "weight = kernel.transpose(3, 2, 1, 0)" in said
    images = panel_images(figure)
    assert len(images) == 6
    assert len({image.shape for image in images}) == 1
    # Left edge of F, then of the transposed F: ink where the letter has it.
    right, swapped = images[0], images[2]
    side = right.shape[0] // 3
    np.testing.assert_array_equal(right[2 : side - 6, 2 : side - 6], swapped[2 : side - 6, 2 : side - 6].swapaxes(0, 1))
    assert len({image.tobytes() for image in images}) == 6


@pytest.mark.slow
def test_a_real_kernel_is_drawn_with_its_own_weights(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "real.png"
    text = printed(
        capsys, "--from", "keras", "--to", "torch", "--model", str(MODEL), "--layer", "conv2d_1", "-o", str(path)
    )
    assert "HWIO  (3, 3, 32, 64)" in text
    assert f"wrote {path}" in text
    assert matplotlib.image.imread(path).shape[2] in (3, 4)

    import cnnlens

    network = cnnlens.open(MODEL)
    layer = network["conv2d_1"]
    figure = of_layouts.layout_readings(
        "Conv2D", "keras", "torch", weight="kernel", shape=(3, 3, 32, 64), model=(network, layer)
    )
    assert "conv2d_1: Conv2D kernel, from Keras to PyTorch" in titles(figure)
    assert layer.kernel is not None
    array = layer.kernel.array
    flat = printed(capsys, "--from", "torch", "--to", "keras", "--model", str(MODEL), "--layer", "dense")
    assert "kernel (behind a Flatten)" in flat
    assert "weight.reshape(100, 64, 7, 7)" in flat
    # The first tile's nine cells, in the colours of its nine weights.
    image, bar = panel_images(figure)[0], next(axes for axes in figure.axes if axes.get_ylim()[0] < 0)
    limit = max(
        float(np.abs(one.array).max())
        for one in readings(crossings("Conv2D", "keras", "torch", shape=(3, 3, 32, 64))[0], layer.weights["kernel"])
    )
    assert bar.get_ylim()[1] <= limit
    painted = paint(array[:1, 0], "RdBu_r", -bar.get_ylim()[1], bar.get_ylim()[1])[0]
    scale = (image.shape[1] // 7 - 4) // 3
    for row in range(3):
        for column in range(3):
            got = image[1 + row * scale + scale // 2, 1 + column * scale + scale // 2]
            np.testing.assert_array_equal(got, painted[row, column])


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    "Conv1D Conv3D Dense DepthwiseConv2D LSTM GRU MultiHeadAttention ConvLSTM2D LayerNormalization "
    "SeparableConv2D".split(),
)
def test_other_kinds_have_a_picture_too(kind: str) -> None:
    target = {"ConvLSTM2D": "flax"}.get(kind, "onnx")
    figure = of_layouts.layout_readings(kind, "keras", target)
    images = panel_images(figure)
    assert 2 <= len(images) <= 6
    assert titles(figure).count("✓") == 1
    assert len({image.tobytes() for image in images}) == len(images)


def test_plans_lay_out_every_axis_once() -> None:
    for kind in KINDS:
        for one in every_crossing(kind):
            try:
                plan = plan_of(one)
            except CnnlensError:
                continue
            assert sorted(plan.rows + plan.columns + plan.down + plan.across) == sorted(one.letters)


def test_panels_refuse_what_cannot_be_drawn() -> None:
    with pytest.raises(CnnlensError, match="no reading to draw"):
        plot.panels([])
    with pytest.raises(CnnlensError, match="an array of 4 axes is needed"):
        plot.panels([plot.Panel("x", np.zeros((3, 3)))])
