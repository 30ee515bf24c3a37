"""One kind of layer from one framework to another: the numbers that are printed, and the pictures of wrong readings.

What is printed is executed: each line of NumPy is evaluated on an array of distinct numbers and held against the way of
``cnnlens.layout`` through canonical axes, each worked element is looked up in both arrays, strides are NumPy's own.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from einops import rearrange
from hypothesis import given
from hypothesis import strategies as st

from cnnlens import layout
from cnnlens.cli.main import main
from cnnlens.errors import CnnlensError
from cnnlens.layout import FRAMEWORKS, KINDS, Geometry, Pattern, listing
from cnnlens.layout.addresses import stretches
from cnnlens.layout.crossing import Crossing, crossings
from cnnlens.layout.feature_maps import MAPS, maps_of, other_maps
from cnnlens.layout.names import PYTORCH_KINDS, framework_named, kind_named
from cnnlens.layout.patterns import apply, steps
from cnnlens.layout.readings import plan_of, readings, specimen_sizes
from cnnlens.layout.tables import ROWS, Absent
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
        added = {one.source.second: np.zeros_like(array)} if one.source.second else {}  # a second bias
        result = eval(line, {"np": np, one.source.variable: array, **added})

        np.testing.assert_array_equal(result, through_canonical(one, array))
        arranged = eval(
            one.einops.partition(" = ")[2], {"np": np, "rearrange": rearrange, one.source.variable: array, **added}
        )
        np.testing.assert_array_equal(arranged, result)
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
    assert printed(capsys, "Conv2D") == str(listing.as_page("Conv2D"))
    assert printed(capsys, "nn.BatchNorm2d") == str(listing.as_page("BatchNormalization"))
    assert json.loads(printed(capsys, "--json")) == {"format": "cnnlens.layouts/1", **listing.as_json()}
    printed(capsys, "Conv2D", "-o", str(tmp_path / "x.txt"))
    assert (tmp_path / "x.txt").read_text(encoding="utf-8") == str(listing.as_page("Conv2D"))


def test_usage_that_lacks_or_mixes_options(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "--to is missing" in refused(capsys, "Conv2D", "--from", "keras")
    assert "which kind of layer?" in refused(capsys, "-o", str(tmp_path / "x.png"))
    assert "'.txt' is no picture format" in refused(capsys, "Conv2D", "--memory", "-o", str(tmp_path / "x.txt"))
    assert "no such layer; its mean and variance" in refused(capsys, "Normalization", "--memory")
    assert "--shape needs --from and --to" in refused(capsys, "Conv2D", "--shape", "3,3,1,2")
    assert "which kind of layer?" in refused(capsys, "--from", "keras", "--to", "torch")
    both = ("--from", "keras", "--to", "torch")
    assert "KIND and --model are both given" in refused(capsys, "Conv2D", *both, "--model", str(MODEL))
    assert "--layer needs --model" in refused(capsys, "Conv2D", *both, "--layer", "x")
    assert "'.txt' is no picture format" in refused(capsys, "Conv2D", *both, "-o", str(tmp_path / "x.txt"))
    assert "Embedding embeddings has no picture" in refused(capsys, "Embedding", *both, "-o", str(tmp_path / "x.png"))
    assert list(tmp_path.iterdir()) == []


# Feature maps ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout_of_maps", MAPS)
def test_feature_maps_from_one_layout_to_the_other(layout_of_maps: str) -> None:
    (one,) = crossings(None, layout_of_maps, other_maps(layout_of_maps))
    assert one.source is not None
    assert one.target is not None
    array = numbered(one.source.shape)
    assert len({*array.shape}) == array.ndim
    names = {"np": np, "rearrange": rearrange, "maps": array}
    result = eval(one.numpy.partition(" = ")[2], names)
    np.testing.assert_array_equal(result, eval(one.einops.partition(" = ")[2], names))
    last, first = (result, array) if one.target.layout.endswith("C") else (array, result)
    if "N" in layout_of_maps:
        np.testing.assert_array_equal(layout.to_canonical_maps(last), first)
    np.testing.assert_array_equal(np.moveaxis(last, -1, int("N" in layout_of_maps)), first)
    assert result[one.there] == array[one.here]
    assert one.view == tuple(stride // 4 for stride in result.strides)
    assert one.traps


def test_the_layout_of_a_framework_is_that_of_its_maps(capsys: pytest.CaptureFixture[str]) -> None:
    assert {each: maps_of(each, "NHWC") for each in FRAMEWORKS} == {
        "keras": "NHWC", "torch": "NCHW", "flax": "NHWC", "onnx": "NCHW", "tflite": "NHWC",
    }  # fmt: skip
    named = printed(capsys, "NHWC", "--from", "keras", "--to", "torch", "--shape", "1,28,24,3")
    plain = printed(capsys, "--from", "nhwc", "--to", "NCHW", "--shape", "1,28,24,3")
    assert named.partition("\n")[2] == plain.partition("\n")[2]
    assert "maps = maps.transpose(0, 3, 1, 2)" in named
    assert "maps = rearrange(maps, 'n h w c -> n c h w')" in named
    assert "(2016, 72, 3, 1)" in named


def test_the_page_of_feature_maps(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "NHWC")
    for part in (
        "NHWC feature maps",
        "PyTorch",
        "maps.transpose(0, 3, 1, 2)",
        "'n h w c -> n c h w'",
        "traps",
        "strides",
    ):
        assert part in text
    rows = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ") and line.split()}
    assert "NCHW" in rows["PyTorch"]
    assert "NHWC  maps" in rows["Flax"]
    (row,) = json.loads(printed(capsys, "NCW", "--json"))["layouts"]
    assert row["frameworks"]["torch"]["axes"] == row["canonical"] == "NCW"
    assert row["frameworks"]["torch"]["from_keras_einops"] == "rearrange(maps, 'n w c -> n c w')"


@pytest.mark.framework
def test_a_transposed_view_is_what_torch_calls_channels_last() -> None:
    torch = pytest.importorskip("torch")
    (one,) = crossings(None, "NHWC", "NCHW", shape=(2, 5, 7, 3))
    maps = torch.zeros(2, 3, 5, 7).contiguous(memory_format=torch.channels_last)
    assert maps.stride() == one.view
    assert tuple(maps.shape) == one.target.shape  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("NHWC", "NCW"), "NHWC and NCW have other axes; from NHWC the way is to NCHW"),
        (("NHWC", "flax"), "both sides are NHWC, which leaves nothing to convert; the other is NCHW"),
        (("NHWC", "NCHW", {"sizes": {"O": 3}}), "no axis of NHWC is called 'O'"),
        (("NHWC", "NCHW", {"shape": (1, 28, 3)}), r"has 3 axes, \(1, 28, 3\), where NHWC has 4"),
        (("NHWC", "NCHW", {"flatten": (7, 5, 3)}), "neither --weight nor --flatten"),
        (("NHWC", "caffe"), "no framework 'caffe'"),
    ],
)  # fmt: skip
def test_feature_maps_that_do_not_fit(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(CnnlensError, match=message):
        crossings(None, *arguments[:2], **(arguments[2] if len(arguments) > 2 else {}))


# Memory ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, "NHWC", "NDHWC", "CW"])
def test_what_lies_at_each_address_is_what_numpy_puts_there(kind: str) -> None:
    """For each letter an array of the indices along it, in plain order, goes the way of the steps."""
    for one in every_crossing(kind) if kind in KINDS else crossings(None, kind, other_maps(kind)):
        if one.source is None or one.target is None:
            continue
        for side in (one.source, one.target):
            sizes = {**dict(side.pattern.filled), **dict(one.sizes)}
            found = layout.memory(side.pattern, side.shape, sizes)
            letters = tuple(found.steps)
            plain = Pattern(tuple((letter,) for letter in letters), gates=side.pattern.gates)
            extent = [found.sizes[letter] for letter in letters]
            for letter, index in zip(letters, np.indices(extent, np.int32), strict=True):
                stored = apply(steps(plain, side.pattern), index, found.sizes)
                assert stored.shape == side.shape
                assert stored.ravel().tolist() == list(found.indices[letter])
            assert list(found.strides) == [stride // 4 for stride in np.empty(side.shape, np.int32).strides]
            for letter in letters:  # one step further along it, by counting
                if found.sizes[letter] > 1 and letter not in side.pattern.flipped:
                    assert found.indices[letter][found.steps[letter]] == 1
                    assert set(found.indices[letter][: found.steps[letter]]) == {0}


def test_memory_refuses_what_does_not_fit() -> None:
    for arguments, message in (
        (("HWIO", (3, 3, 1)), "HWIO has 4 axes"),
        (("(HWC)O", (105, 4)), "an axis of 105 entries does not hold H = …, W = …, C = …"),
        (("(HWC)O", (105, 4), {"H": 7, "W": 5, "C": 4}), "does not hold H = 7, W = 5, C = 4"),
    ):
        with pytest.raises(CnnlensError, match=re.escape(message)):
            layout.memory(*arguments)  # type: ignore[arg-type]
    with pytest.raises(CnnlensError, match="the addresses go from 0 to 287"):
        layout.memory("HWIO", (3, 3, 1, 32), addresses=[288])


@given(st.lists(st.integers(0, 500), max_size=6), st.integers(1, 600), st.integers(30, 60))
def test_stretches_show_the_first_and_every_point_in_the_room(points: list[int], size: int, cells: int) -> None:
    found = stretches(points, size, cells)
    shown = [address for stretch in found for address in stretch]
    assert shown == sorted({*shown})
    assert {0, *(point for point in points if point < size)} <= {*shown} <= {*range(size)}
    assert len(shown) + len(found) - 1 <= max(cells, 1)
    assert len(shown) == size or len(shown) + len(found) >= cells - 1


def test_memory_in_text_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "Conv2D", "--from", "keras", "--to", "torch", "--memory", "--shape", "3,3,1,32")
    assert "Keras: kernel, HWIO (3, 3, 1, 32), strides (96, 32, 32, 1)" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("  ")]
    addresses = next(row for row in rows if row[0] == "address")
    for letter, step in (("W", "32"), ("H", "96")):
        row = next(row for row in rows if row[0] == letter)
        assert row[addresses.index(step)] == "1"
        assert row[addresses.index(step) - 1] != "1"
    assert "kernel[1, 2, 0, 3] lies at address 163" in text
    assert "weight[3, 0, 1, 2] lies at address 32" in text
    data = json.loads(printed(capsys, "GRU", "--memory", "--json"))
    assert [(one["frameworks"], one["gates"]) for one in data["memory"]] == [
        (["keras"], "zrh"), (["torch"], "rzn"), (["onnx"], "zrh"),
    ]  # fmt: skip
    assert data["memory"][0]["steps"] == {"I": 18, "Q": 6, "U": 1}
    every = json.loads(printed(capsys, "Conv2D", "--memory", "--json"))["memory"]
    assert [one["frameworks"] for one in every] == [["keras", "flax"], ["torch", "onnx"], ["tflite"]]


# Readings -------------------------------------------------------------------------------------------------------------


def test_each_reading_is_what_its_lines_make() -> None:
    """Addresses go through NumPy's line and einops', and back from the target: only the right ones come back whole."""
    ways = (
        ("Conv2D", "keras", "torch"),
        ("GRU", "torch", "keras"),
        ("Conv2DTranspose", "flax", "onnx"),
        ("DepthwiseConv2D", "keras", "torch"),
        ("MultiHeadAttention", "keras", "torch"),
        ("LSTM", "keras", "onnx"),
        ("Conv3D", "tflite", "torch"),
        (None, "NHWC", "NCHW"),
        (None, "NCW", "NWC"),
    )
    for kind, source, target in ways:
        one = crossings(kind, source, target)[0]
        assert one.source is not None
        assert one.target is not None
        array = np.arange(np.prod(one.source.shape)).reshape(one.source.shape)
        found = readings(one)
        assert found[0].right
        assert not any(each.right for each in found[1:])
        assert len(found) > 2
        back = crossings(kind, target, source, shape=one.target.shape,
                         sizes={k: n for k, n in one.sizes if k in ("C", "M", "A", "F")})[0]  # fmt: skip
        for each in found:
            names = {"np": np, "rearrange": rearrange, one.source.variable: array}
            result = eval(each.code.partition(" = ")[2], names)
            np.testing.assert_array_equal(eval(each.einops.partition(" = ")[2], names), result)
            # Only the right one comes back whole.
            same = result.shape == one.target.shape and np.array_equal(back.apply(result), array)
            assert same == each.right, (kind, each.name)
            assert each.same_shape == (result.shape == one.target.shape), (kind, each.name)
            assert sorted(each.array.ravel().tolist()) == list(range(array.size))
            if each.same_shape and kind == "Conv2D":  # canonical order is the target's
                np.testing.assert_array_equal(each.array, result)


def test_all_wrong_orders_of_a_flatten_are_there() -> None:
    for source, target, shape, line in (
        ("keras", "torch", (105, 4), "weight = kernel.T"), ("torch", "keras", (4, 105), "kernel = weight.T")
    ):  # fmt: skip
        one = crossings("Dense", source, target, flatten=(7, 5, 3), shape=shape)[0]
        found = readings(one)
        assert [each.right for each in found] == [True] + 5 * [False]
        left = next(each for each in found if each.name.startswith("not reordered"))
        assert left.code == line
    one = crossings("Dense", "keras", "torch", flatten=(7, 5, 3), shape=(105, 4))[0]
    left = next(each for each in readings(one) if each.name.startswith("not reordered"))
    np.testing.assert_array_equal(left.array, np.arange(420).reshape(105, 4).T.reshape(4, 3, 7, 5))


def test_mistakes_of_a_square_kernel() -> None:
    one = crossings("Conv2D", "keras", "torch", sizes={"O": 3, "I": 3, "H": 3, "W": 3})[0]
    kernel = np.arange(81).reshape(3, 3, 3, 3)
    right, *wrong = readings(one)
    np.testing.assert_array_equal(right.array, kernel.transpose(3, 2, 0, 1))
    by_name = {each.name: each.array for each in wrong}
    assert by_name.keys() == {
        "taken as it is", "H and W swapped", "in and out swapped", "upside down: H flipped", "mirrored: W flipped",
    }  # fmt: skip
    assert all(each.same_shape for each in wrong)
    np.testing.assert_array_equal(by_name["H and W swapped"], right.array.swapaxes(2, 3))
    np.testing.assert_array_equal(by_name["in and out swapped"], right.array.swapaxes(0, 1))
    np.testing.assert_array_equal(by_name["upside down: H flipped"], right.array[:, :, ::-1])
    np.testing.assert_array_equal(by_name["taken as it is"], kernel)
    one = crossings(None, "NHWC", "NCHW", shape=(1, 6, 6, 3))[0]
    by_name = {each.name: each.array for each in readings(one)}
    np.testing.assert_array_equal(by_name["RGB taken for BGR"], by_name["right"][:, ::-1])
    # The first channel of what was only reshaped is the top of the picture, its channels interleaved.
    assert by_name["reshaped, not transposed"][0, 0].ravel().tolist() == list(range(36))


@pytest.mark.parametrize(
    ("kind", "target", "letters"),
    [
        ("Conv1D", "torch", {"O": 4, "I": 4, "W": 3}),
        ("Conv2D", "torch", {"O": 3, "I": 3, "H": 3, "W": 3}),
        ("DepthwiseConv2D", "torch", {"C": 3, "M": 2, "H": 3, "W": 3}),
        ("Dense", "torch", {"O": 8, "I": 8}),
        ("SimpleRNN", "torch", {"U": 8, "I": 8}),
        ("GRU", "torch", {"Q": 3, "U": 10, "I": 4}),
        ("MultiHeadAttention", "torch", {"A": 4, "F": 4, "I": 4}),
        ("ConvLSTM2D", "flax", {"Q": 4, "U": 1, "I": 3, "H": 3, "W": 3}),
    ],
)
def test_no_check_of_shapes_sees_a_wrong_reading_at_these_sizes(
    kind: str, target: str, letters: dict[str, int]
) -> None:
    sizes = specimen_sizes(crossings(kind, "keras", target)[0])
    assert sizes == letters
    one = crossings(kind, "keras", target, sizes={name: size for name, size in sizes.items() if name != "Q"})[0]
    found = readings(one)
    assert len(found) > 1
    assert all(each.same_shape for each in found)


def test_a_flip_is_forgotten_where_one_side_alone_has_it() -> None:
    def names(source: str, target: str) -> set[str]:
        return {each.name for each in readings(crossings("Conv2DTranspose", source, target)[0])}

    turned = {"upside down: H flipped", "mirrored: W flipped"}
    for other in ("keras", "torch", "onnx", "tflite"):
        for ways in (names("flax", other), names(other, "flax")):
            assert "flip forgotten" in ways
            assert not ways & turned
        if other != "torch":
            assert "flip forgotten" not in names("torch", other)
            assert names("torch", other) >= turned


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_no_picture_says_why_and_it_is_so(kind: str) -> None:
    for one in every_crossing(kind):
        try:
            plan_of(one)
            said = ""
        except CnnlensError as error:
            said = str(error)
        if one.source is None or one.target is None:
            assert one.reason in said
            continue
        array = can_be_crossed(one, numbered(one.source.shape))
        moved = one.apply(array).ravel()
        kept = moved[moved != 0].tolist() == array[array != 0].ravel().tolist()
        assert kept == (f"one order in {one.source.framework} and {one.target.framework}" in said), said
        if said and not kept:
            assert ("it is a vector" in said) == one.weight.endswith("bias"), said


def test_plans_lay_out_every_axis_once() -> None:
    for kind in KINDS:
        for one in every_crossing(kind):
            try:
                plan = plan_of(one)
            except CnnlensError:
                continue
            assert sorted(plan.rows + plan.columns + plan.down + plan.across) == sorted(one.letters)
