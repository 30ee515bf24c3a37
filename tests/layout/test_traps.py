"""What is said around the table of layouts, held against the table: gates, orders of axes, transposes, names.

A sentence that the table contradicts is found here, not by a reader. What is said of the frameworks' own defaults is
asked of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest

from cnnlens import layout
from cnnlens.layout import FRAMEWORKS, KINDS, listing
from cnnlens.layout.feature_maps import MAP_TRAPS, MAPS, maps_of
from cnnlens.layout.listing import title
from cnnlens.layout.tables import ROWS, Absent, Row
from cnnlens.layout.traps import TRAPS

_BY_TITLE = {title(each): each for each in FRAMEWORKS}
_NAMES = "|".join(_BY_TITLE)
SAID = [(kind, trap) for kind in KINDS for trap in TRAPS.get(kind, ())]


def rows(kind: str) -> Iterator[Row]:
    return (row for row in ROWS if kind in row.kinds)


def flat_order(kind: str, framework: str) -> str | None:
    """The letters of the merged axis behind a Flatten, in two dimensions: (H, W, C) as ``HWC``."""
    for row in rows(kind):
        stored = row.stored(framework)
        if row.flat and isinstance(stored, str):
            return re.search(r"\((.*?)\)", stored)[1].replace("*", "HW")  # type: ignore[index]
    return None


def test_every_trap_is_of_a_kind() -> None:
    assert {*TRAPS} == {*KINDS}
    assert all(text and text.rstrip().endswith(".") for _, text in SAID)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"])
def test_gates_are_in_the_order_and_letters_of_the_table(kind: str) -> None:
    page = str(listing.as_page(kind))
    said: dict[str, str] = {}
    for trap in TRAPS[kind]:
        said |= {name: letters for letters, name in re.findall(rf"((?:\w, )+\w) in ({_NAMES})", trap)}
        said |= dict(re.findall(rf"({_NAMES})(?:'s \w+)? has (?:the gates )?((?:\w, )+\w)\b", trap))
    assert said
    for framework, letters in said.items():
        gates = layout.convention(kind, "kernel", _BY_TITLE[framework]).gates
        assert ", ".join(gates) == letters
        assert f"[{gates}]" in page


def test_orders_of_flattened_maps_are_those_of_the_table() -> None:
    seen: set[str] = set()
    for kind, trap in SAID:
        for orders in re.findall(rf"in \((\w, \w, \w)\) order in ((?:{_NAMES})(?:(?:, | and )(?:{_NAMES}))*)", trap):
            for framework in re.findall(_NAMES, orders[1]):
                assert flat_order(kind, _BY_TITLE[framework]) == orders[0].replace(", ", ""), (kind, trap)
                seen.add(kind)
    assert seen == {"BatchNormalization", "PReLU"}
    assert "Keras flattens (H, W, C), PyTorch (C, H, W)" in TRAPS["Dense"][0]
    assert (flat_order("Dense", "keras"), flat_order("Dense", "torch")) == ("HWC", "CHW")
    assert flat_order("Dense", "onnx") == "CHW"


def test_every_flattened_kind_that_says_an_order_says_it_of_all_that_have_it() -> None:
    for kind in ("BatchNormalization", "PReLU"):
        told = next(trap for trap in TRAPS[kind] if "Flatten" in trap)
        have = {title(each) for each in FRAMEWORKS if flat_order(kind, each) is not None}
        assert {*re.findall(_NAMES, told)} == have


def test_transposes_fit_the_arrays_that_they_are_said_of() -> None:
    """``transpose(3, 2, 0, 1) … gives (M, C, H, W) here``: so it does with Keras' letters."""
    seen = 0
    for kind, trap in SAID:
        for numbers in re.findall(r"transpose\(([\d, ]+)\)", trap):
            order = [int(number) for number in numbers.split(", ")]
            keras = [layout.stored_axes(kind, each, "keras") for row in rows(kind) for each in row.weights]
            fitting = [layout.split_axes(axes) for axes in keras if len(layout.split_axes(axes)) == len(order)]
            assert fitting, (kind, trap)
            given = re.search(r"gives \(([\w, ]+)\) here", trap)
            if given:
                assert "".join(fitting[0][place] for place in order) == given[1].replace(", ", "")
            named = re.search(r"right for (Conv\dD)", trap)
            if named:
                assert layout.convention(named[1], "kernel", "torch").numpy == f"kernel.transpose({numbers})"
            seen += 1
    assert seen >= 4


def test_names_and_dimensions_are_those_of_the_kind() -> None:
    for kind, trap in SAID:
        for axes in re.findall(r"nn\.Conv(?:Transpose)?(\d)d", trap):
            assert f"{axes}D" in kind
        torch = {name.strip() for row in rows(kind) for name in re.split(r"[,(]", row.names.get("torch", ""))}
        for name in re.findall(r"\b(?:bias_ih_l0|in_proj_weight)\b", trap):
            assert name in torch
    assert "With reset_after=True the bias has two rows" in " ".join(TRAPS["GRU"])
    stored = [layout.stored_axes("GRU", "bias", "keras", layout.Geometry(reset_after=each)) for each in (True, False)]
    assert stored == ["B(QU)", "(QU)"]


def test_what_the_frameworks_lack_is_lacking() -> None:
    for kind in ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"):
        assert "Keras, Flax and TFLite have no groups here" in " ".join(TRAPS[kind])
        (row,) = (row for row in rows(kind) if "kernel" in row.weights)
        assert {title(each) for each in row.lacks} == {"Keras", "Flax", "TFLite"}
        flips = {each: layout.convention(kind, "kernel", each).flipped for each in FRAMEWORKS}
        assert [each for each, flipped in flips.items() if flipped] == ["flax"]
    for kind in ("LSTM", "GRU"):
        reason = next(row.flax for row in rows(kind) if "kernel" in row.weights)
        assert isinstance(reason, Absent)
        assert f"in a{'n' * (kind == 'LSTM')} {kind} cell" in reason.reason
    assert layout.stored_axes("Conv3D", framework="tflite") == layout.stored_axes("Conv3D")
    assert layout.stored_axes("Conv2D", framework="tflite") != layout.stored_axes("Conv2D")
    assert all(layout.convention(kind, "kernel", each).flipped == () for kind in ("Conv1D", "Conv2D", "Conv3D")
               for each in FRAMEWORKS)  # fmt: skip
    assert {layout.stored_axes("Embedding", "embeddings", each) for each in FRAMEWORKS} == {"VE"}
    prelu = {each: layout.convention("PReLU", "alpha", each).axes for each in ("torch", "flax")}
    assert prelu == {"torch": "C", "flax": ""}
    assert "one slope a channel (C)" in TRAPS["PReLU"][0]
    assert "linen.PReLU one in all" in TRAPS["PReLU"][0]


def test_traps_of_feature_maps() -> None:
    maps = np.arange(1 * 6 * 4 * 3).reshape(1, 6, 4, 3)
    # "reshape … the first channel then holds the top of the picture with all its channels interleaved"
    np.testing.assert_array_equal(maps.reshape(1, 3, 6, 4)[0, 0].ravel(), maps[0, :2].ravel())
    grey = maps[..., :1]
    np.testing.assert_array_equal(grey.reshape(1, 1, 6, 4), grey.transpose(0, 3, 1, 2))
    # "the channels … are axis -1 in NHWC and axis 1 in NCHW"
    assert all(
        name.index("C") == (1 if maps_of("torch", name) == name else len(name) - 1) for name in MAPS if "N" in name
    )
    # "behind NHWC it is (H, W, C), behind NCHW (C, H, W)"
    assert {each: layout.stored_axes("Dense", "kernel", each, layout.Geometry(flatten=(7, 5, 3)))
            for each in ("keras", "torch")} == {"keras": "(HWC)O", "torch": "O(CHW)"}  # fmt: skip
    assert all(text.endswith(".") for text in MAP_TRAPS)


@pytest.mark.framework
def test_defaults_are_those_of_the_frameworks() -> None:
    keras, torch = pytest.importorskip("keras"), pytest.importorskip("torch")
    assert "Epsilon is 1e-3 in Keras, 1e-5 in PyTorch" in TRAPS["BatchNormalization"][0]
    for name in ("BatchNormalization", "LayerNormalization", "GroupNormalization"):
        assert getattr(keras.layers, name)().epsilon == 1e-3
        assert TRAPS[name][0] == TRAPS["BatchNormalization"][0]
    assert torch.nn.BatchNorm2d(3).eps == torch.nn.LayerNorm(3).eps == torch.nn.GroupNorm(1, 3).eps == 1e-5
    assert round(((1 + 1e-3) / (1 + 1e-5)) ** 0.5, 4) == 1.0005
    assert "momentum 0.99 is PyTorch's 0.01" in " ".join(TRAPS["BatchNormalization"])
    assert keras.layers.BatchNormalization().momentum == 0.99
    assert "eps=1e-6" in TRAPS["RMSNormalization"][0]
    assert keras.layers.RMSNormalization().epsilon == 1e-6
    assert "reset_after=True (the default)" in " ".join(TRAPS["GRU"])
    assert keras.layers.GRU(2).reset_after
    assert [name for name, _ in torch.nn.GRU(2, 3).named_parameters()] == [
        "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0",
    ]  # fmt: skip
    assert torch.nn.PReLU().weight.shape == (1,)
    assert torch.nn.PReLU(4).weight.shape == (4,)
