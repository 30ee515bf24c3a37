"""The layouts: what every framework stores, and that every way between them is exact.

Three independent witnesses: arrays built element by element from the axis letters alone, the axes as the frameworks
document them written out here, and native PyTorch modules that run with converted weights beside Keras.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnlens import errors, layout
from cnnlens.errors import CnnlensError
from cnnlens.layout import FRAMEWORKS, KINDS, Description, Geometry, listing
from cnnlens.layout.crossing import crossings
from cnnlens.layout.lookup import pattern_of
from cnnlens.layout.patterns import apply, solve, steps
from cnnlens.layout.tables import ROWS, Row
from cnnlens.network.kernel import Kernel
from tests.support import SUPPORT

WEIGHTS = [
    (description, f"{description.kind}-{description.weight}-{description.condition}")
    for kind in KINDS
    for description in layout.describe(kind)
]


def row_of(description: Description) -> Row:
    """The table line behind a description."""
    flat = description.condition == "behind a Flatten"
    reset = {"reset_after=True": True, "reset_after=False": False}.get(description.condition)
    found = [
        row
        for row in ROWS
        if description.kind in row.kinds
        and description.weight in row.weights
        and row.flat == flat
        and row.reset_after == reset
    ]
    assert len(found) == 1
    return found[0]


# Witness 1: element by element ----------------------------------------------------------------------------------------


def axes_of(letters: str) -> list[str]:
    """``(CM)1HW`` -> ["CM", "", "H", "W"]."""
    return [axis.strip("()").replace("1", "") for axis in re.findall(r"\(.*?\)|.", letters)]


def built(
    letters: str, sizes: dict[str, int], flipped: tuple[str, ...], gates: str, fill: dict[str, int]
) -> np.ndarray:
    """The array of a weight whose element at (H=h, W=w, ...) is a number made of h, w, ..., stored as ``letters`` say.

    Nothing of cnnlens takes part. Gates are numbered by their names, not by their places; entries beyond the first of a
    filled letter are zero.
    """
    sizes = {**sizes, **fill}
    names = sorted(sizes)
    axes = axes_of(letters)
    array = np.zeros([int(np.prod([sizes[letter] for letter in axis], dtype=int)) for axis in axes], np.int64)
    for place in np.ndindex(*array.shape):
        at = dict.fromkeys(names, 0)
        for axis, index in zip(axes, place, strict=True):
            for letter in reversed(axis):
                index, at[letter] = divmod(index, sizes[letter])
        for letter in flipped:
            at[letter] = sizes[letter] - 1 - at[letter]
        if gates:
            at["Q"] = "cfghiknorz".index(gates[at["Q"]])
        if any(at[letter] for letter in fill):
            continue
        code = 1
        for letter in names:
            code = code * 16 + at[letter]
        array[place] = code
    return array


def geometry_of(row: Row, sizes: dict[str, int]) -> Geometry:
    """What a caller knows of a layer with these sizes."""
    spatial = "W" if "1D" in row.kinds[0] else "HW"
    known = {
        name: tuple(sizes[each] for each in letters.replace("*", spatial))
        for letters, name in row.hints
        if not row.flat
    }
    return Geometry(
        ndim=2,
        flatten=tuple(sizes[letter] for letter in "HWC") if row.flat else None,
        reset_after=row.reset_after,
        groups=known.get("groups", (1,))[0],
        depth_multiplier=known.get("depth_multiplier", (None,))[0],
        heads=known.get("heads", (None,))[0],
        positions=known.get("positions"),
        kernel_size=known.get("kernel_size"),
    )


def all_letters(description: Description) -> str:
    shown = description.canonical + "".join(each.axes or "" for each in description.conventions)
    return "".join(sorted(set(re.sub(r"[()1]", "", shown))))


@pytest.mark.slow
@pytest.mark.parametrize("description", [pytest.param(each, id=name) for each, name in WEIGHTS])
@given(data=st.data())
@settings(max_examples=4, deadline=None)
def test_every_framework_holds_the_same_numbers_where_its_letters_say(
    description: Description, data: st.DataObject
) -> None:
    row = row_of(description)
    letters = all_letters(description)
    fixed = {"Q": len(row.gates.get("canonical", ""))} | dict(row.fixed)
    free = [letter for letter in letters if letter not in fixed]
    drawn = data.draw(st.permutations(range(2, 3 + len(free))))
    sizes = {
        letter: fixed[letter] if letter in fixed else drawn[number]
        for number, letter in enumerate((*free, *fixed))
        if letter in letters
    }
    if "G" in row.canonical:
        sizes["G"] = 1
    for each in description.conventions:
        if each.axes is None:
            continue
        now = dict(sizes)
        for letter in now:
            # What a framework has no letter for is possible at size 1 alone.
            if letter not in "".join(axes_of(each.axes)) or letter not in "".join(
                axes_of(description.conventions[0].axes or "")
            ):
                now[letter] = 1
        fill = row.fill.get(each.framework, {})
        core = {letter: size for letter, size in now.items() if letter not in fill}
        keras_gates, gates = row.gates.get("keras", ""), row.gates.get(each.framework, "")
        geometry = geometry_of(row, now)
        keras = built(description.conventions[0].axes or "", core | dict.fromkeys(fill, 1), (), keras_gates, {})
        canonical = built(description.canonical, core | dict.fromkeys(fill, 1), (), row.gates.get("canonical", ""), {})
        there = built(each.axes, core | dict.fromkeys(fill, 1), each.flipped, gates, dict(fill))
        kind, weight = description.kind, description.weight

        got = layout.canonicalise(kind, weight, keras, geometry)
        np.testing.assert_array_equal(got, canonical)
        arranged = layout.arrange(kind, weight, got, each.framework, geometry)
        np.testing.assert_array_equal(arranged, there)
        np.testing.assert_array_equal(layout.canonicalise(kind, weight, there, geometry, each.framework), canonical)
        np.testing.assert_array_equal(layout.arrange(kind, weight, canonical, "keras", geometry), keras)

        assert layout.canonical_shape(kind, weight, keras.shape, geometry) == canonical.shape
        assert layout.canonical_shape(kind, weight, there.shape, geometry, each.framework) == canonical.shape
        assert layout.arranged_shape(kind, weight, canonical.shape, each.framework, geometry) == there.shape

        variable = weight.rpartition("/")[2]
        line = layout.expression(kind, weight, "keras", each.framework, geometry, keras.shape)
        np.testing.assert_array_equal(eval(line, {"np": np, variable: keras}), there)
        back = layout.expression(kind, weight, each.framework, "keras", geometry, there.shape)
        np.testing.assert_array_equal(eval(back, {"np": np, variable: there}), keras)
        # The table's own line has letters for sizes.
        assert each.numpy is not None
        assert each.numpy_back is not None
        named = core | dict.fromkeys(fill, 2) | {"np": np}
        np.testing.assert_array_equal(eval(each.numpy, named | {variable: keras}), there)
        np.testing.assert_array_equal(eval(each.numpy_back, named | {variable: there}), keras)


@pytest.mark.slow
@given(st.permutations([2, 3, 4, 5, 6]), st.sampled_from(["Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"]))
@settings(deadline=None)
def test_grouped_transposed_kernels_go_between_torch_and_onnx_and_are_refused_elsewhere(
    sizes: list[int], kind: str
) -> None:
    spatial = sizes[2 : 2 + int(kind[4])]
    groups, outs, ins = 7, sizes[0], sizes[1]
    torch = np.arange(groups * ins * outs * int(np.prod(spatial))).reshape(groups * ins, outs, *spatial)
    geometry = Geometry(groups=groups)
    canonical = layout.canonicalise(kind, "kernel", torch, geometry, "torch")
    assert canonical.shape == (groups * outs, ins, *spatial)
    for group in range(groups):
        for o in range(outs):
            for i in range(ins):
                np.testing.assert_array_equal(canonical[group * outs + o, i], torch[group * ins + i, o])
    np.testing.assert_array_equal(layout.arrange(kind, "kernel", canonical, "onnx", geometry), torch)
    for framework in ("keras", "flax", "tflite"):
        with pytest.raises(CnnlensError, match="no groups in a transposed convolution"):
            layout.arrange(kind, "kernel", canonical, framework, geometry)


# Witness 2: the axes as documented ------------------------------------------------------------------------------------

DOCUMENTED = {
    # (kind, weight): canonical, keras, torch, flax, onnx, tflite
    ("Conv1D", "kernel"): ("OIW", "WIO", "OIW", "WIO", "OIW", "O1WI"),
    ("Conv2D", "kernel"): ("OIHW", "HWIO", "OIHW", "HWIO", "OIHW", "OHWI"),
    ("Conv3D", "kernel"): ("OIDHW", "DHWIO", "OIDHW", "DHWIO", "OIDHW", "DHWIO"),
    ("DepthwiseConv1D", "kernel"): ("(CM)1W", "WCM", "(CM)1W", "W1(CM)", "(CM)1W", "11W(CM)"),
    ("DepthwiseConv2D", "kernel"): ("(CM)1HW", "HWCM", "(CM)1HW", "HW1(CM)", "(CM)1HW", "1HW(CM)"),
    ("SeparableConv2D", "depthwise_kernel"): ("(CM)1HW", "HWCM", "(CM)1HW", "HW1(CM)", "(CM)1HW", "1HW(CM)"),
    ("SeparableConv2D", "pointwise_kernel"): ("OIHW", "HWIO", "OIHW", "HWIO", "OIHW", "OHWI"),
    ("Conv1DTranspose", "kernel"): ("OIW", "WOI", "IOW", "WIO", "IOW", "O1WI"),
    ("Conv2DTranspose", "kernel"): ("OIHW", "HWOI", "IOHW", "HWIO", "IOHW", "OHWI"),
    ("Conv3DTranspose", "kernel"): ("OIDHW", "DHWOI", "IODHW", "DHWIO", "IODHW", "DHWOI"),
    ("Dense", "kernel"): ("OI", "IO", "OI", "IO", "OI", "OI"),
    ("Embedding", "embeddings"): ("VE", "VE", "VE", "VE", "VE", "VE"),
    ("LSTM", "kernel"): ("(QU)I", "I(QU)", "(QU)I", None, "1(QU)I", None),
    ("GRU", "bias"): ("B(QU)", "B(QU)", "B(QU)", None, "1(BQU)", None),
    ("PReLU", "alpha"): ("CHW", "HWC", "C", "", "CHW", "HWC"),
}


@pytest.mark.parametrize(("kind", "weight"), DOCUMENTED)
def test_axes_are_those_of_the_documentation(kind: str, weight: str) -> None:
    canonical, *stored = DOCUMENTED[kind, weight]
    assert layout.canonical_axes(kind, weight) == canonical
    assert [layout.convention(kind, weight, framework).axes for framework in FRAMEWORKS] == stored


def test_the_dense_behind_a_flatten_has_a_line_of_its_own() -> None:
    geometry = Geometry(flatten=(4, 5, 3))
    axes = [layout.convention("Dense", "kernel", framework, geometry=geometry).axes for framework in FRAMEWORKS]
    assert axes == ["(HWC)O", "O(CHW)", "(HWC)O", "O(CHW)", "O(HWC)"]
    assert layout.convention("Dense", "bias", "torch", geometry=geometry).axes == "O"


LINES = {
    ("Conv1D", "kernel", "torch"): "kernel.transpose(2, 1, 0)",
    ("Conv2D", "kernel", "torch"): "kernel.transpose(3, 2, 0, 1)",
    ("Conv2D", "kernel", "flax"): "kernel",
    ("Conv3D", "kernel", "torch"): "kernel.transpose(4, 3, 0, 1, 2)",
    ("DepthwiseConv2D", "kernel", "torch"): "kernel.transpose(2, 3, 0, 1).reshape(C*M, 1, H, W)",
    ("DepthwiseConv2D", "kernel", "flax"): "kernel.reshape(H, W, 1, C*M)",
    ("Conv2DTranspose", "kernel", "torch"): "kernel.transpose(3, 2, 0, 1)",
    ("Conv2DTranspose", "kernel", "flax"): "kernel[::-1, ::-1].transpose(0, 1, 3, 2)",
    ("Dense", "kernel", "torch"): "kernel.T",
    ("LSTM", "kernel", "torch"): "kernel.T",
    ("GRU", "kernel", "torch"): "kernel.reshape(I, Q, U)[:, [1, 0, 2]].transpose(1, 2, 0).reshape(Q*U, I)",
    ("LayerNormalization", "gamma", "torch"): "gamma.transpose(2, 0, 1)",
    ("BatchNormalization", "gamma", "torch"): "gamma",
}


@pytest.mark.parametrize(("kind", "weight", "framework"), LINES)
def test_the_numpy_line_is_the_short_one_that_a_person_would_write(kind: str, weight: str, framework: str) -> None:
    assert layout.convention(kind, weight, framework).numpy == LINES[kind, weight, framework]


def test_from_an_order_to_itself_there_is_nothing_to_do() -> None:
    for row in ROWS:
        for framework in ("canonical", *FRAMEWORKS):
            if isinstance(row.stored(framework), str):
                pattern = pattern_of(row, framework, "HW", 3)
                sizes = {letter: size for size, letter in enumerate(pattern.letters, 2)} | dict(pattern.filled)
                shape = [int(np.prod([sizes[letter] for letter in axis], dtype=int)) for axis in pattern.axes]
                array = np.arange(1, np.prod(shape) + 1).reshape(shape)
                known = solve(pattern, pattern, shape, sizes)
                np.testing.assert_array_equal(apply(steps(pattern, pattern), array, known), array)


def test_gate_orders() -> None:
    def gates(kind: str) -> list[str]:
        return [layout.convention(kind, "kernel", framework).gates for framework in ("keras", "torch", "onnx")]

    assert gates("LSTM") == ["ifco", "ifgo", "iofc"]
    assert gates("GRU") == ["zrh", "rzn", "zrh"]


def test_the_stored_shape_of_the_sample_layer_in_every_framework() -> None:
    canonical = layout.canonical_shape("Conv2D", "kernel", (3, 3, 1, 32))
    assert canonical == (32, 1, 3, 3)
    assert layout.arranged_shapes("Conv2D", "kernel", canonical) == {
        "keras": (3, 3, 1, 32),
        "torch": (32, 1, 3, 3),
        "flax": (3, 3, 1, 32),
        "onnx": (32, 1, 3, 3),
        "tflite": (32, 3, 3, 1),
    }


# Witness 3: native PyTorch --------------------------------------------------------------------------------------------


@pytest.mark.framework
@pytest.mark.skipif(
    importlib.util.find_spec("keras") is None or importlib.util.find_spec("torch") is None,
    reason="needs keras and torch",
)
def test_native_torch_with_converted_weights_agrees_with_keras() -> None:
    path = os.pathsep.join([str(Path(errors.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, str(SUPPORT / "layout_ground_truth.py")],
        env={**os.environ, "KERAS_BACKEND": "torch", "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    results: dict[str, tuple[float, float]] = json.loads(ran.stdout.splitlines()[-1])
    assert len(results) >= 24
    wrong = {name: errors for name, errors in results.items() if not errors[0] < 2e-6}
    assert not wrong, "relative error of converted weights, and of spoilt ones"
    blind = {name: errors for name, errors in results.items() if not errors[1] > 1e-2}
    assert not blind, "these comparisons cannot see a reversed array"


# What else a caller meets ---------------------------------------------------------------------------------------------


def test_unknown_kinds_and_weights_pass_unchanged() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    for kind, weight in (("MyLayer", "var0"), ("Conv2D", "lora_kernel_a"), ("SpectralNormalization", "vector_u")):
        for framework in FRAMEWORKS:
            assert layout.canonicalise(kind, weight, array, Geometry(groups=3), framework) is array
            assert layout.arrange(kind, weight, array, framework) is array
        assert layout.canonical_axes(kind, weight, rank=3) == "abc"


def test_old_names_mean_the_new_kinds() -> None:
    assert layout.convention("Convolution2D").axes == "HWIO"
    assert layout.convention("LSTMCell", "recurrent_kernel", "torch").name == "weight_hh_l0"
    assert layout.canonical_shape("DepthwiseConv2D", "depthwise_kernel", (3, 5, 4, 2)) == (8, 1, 3, 5)
    assert layout.canonical_shape("MultiHeadAttention", "query_dense/kernel", (6, 2, 3)) == (6, 6)


def test_transposes_are_views_and_keep_the_dtype() -> None:
    kernel = np.zeros((3, 2, 5, 7), np.float16)
    canonical = layout.canonicalise("Conv2D", "kernel", kernel)
    assert np.shares_memory(canonical, kernel)
    assert canonical.dtype == np.float16
    assert np.shares_memory(layout.arrange("Conv2DTranspose", "kernel", canonical, "flax"), kernel)


def test_a_depthwise_kernel_goes_back_only_when_its_channels_are_known() -> None:
    stored = np.arange(3 * 5 * 4 * 2).reshape(3, 5, 4, 2)
    canonical = layout.canonicalise("DepthwiseConv2D", "kernel", stored)
    with pytest.raises(CnnlensError, match="sizes of C and M are not known"):
        layout.arrange("DepthwiseConv2D", "kernel", canonical, "keras")
    completed = layout.completed("DepthwiseConv2D", "kernel", stored.shape)
    assert (completed.groups, completed.depth_multiplier) == (4, 2)
    for geometry in (completed, Geometry(groups=4), Geometry(depth_multiplier=2)):
        np.testing.assert_array_equal(layout.arrange("DepthwiseConv2D", "kernel", canonical, "keras", geometry), stored)


def test_a_one_channel_depthwise_kernel_is_completed_too() -> None:
    stored = np.arange(3 * 5 * 1 * 4).reshape(3, 5, 1, 4)
    geometry = layout.completed("DepthwiseConv2D", "kernel", stored.shape)
    canonical = layout.canonicalise("DepthwiseConv2D", "kernel", stored, geometry)
    np.testing.assert_array_equal(layout.arrange("DepthwiseConv2D", "kernel", canonical, "keras", geometry), stored)


@pytest.mark.parametrize(
    ("equation", "shape", "torch"),
    [
        ("ab,bc->ac", (5, 7), (7, 5)),
        ("abc,cde->abde", (5, 2, 3), (6, 5)),
        ("abde,dec->abc", (2, 3, 5), (5, 6)),
        ("...x,xy->...y", (5, 7), (7, 5)),
        ("abcd,dcef->abfe", (5, 4, 7, 6), (42, 20)),
    ],
)
def test_an_einsum_kernel_is_a_linear_of_the_letters_that_it_sums(
    equation: str, shape: tuple[int, ...], torch: tuple[int, int]
) -> None:
    kernel = np.random.default_rng(0).standard_normal(shape)
    geometry = layout.completed("EinsumDense", "kernel", shape, Geometry(equation=equation))
    canonical = layout.canonicalise("EinsumDense", "kernel", kernel, geometry)
    assert canonical.shape == torch
    assert layout.arranged_shape("EinsumDense", "kernel", torch, "torch", geometry) == torch
    np.testing.assert_array_equal(layout.arrange("EinsumDense", "kernel", canonical, "keras", geometry), kernel)


def test_an_einsum_that_keeps_a_shared_axis_is_no_linear() -> None:
    geometry = layout.completed("EinsumDense", "kernel", (4, 5, 7), Geometry(equation="bhi,hio->bho"))
    canonical = layout.canonicalise("EinsumDense", "kernel", np.arange(140).reshape(4, 5, 7), geometry)
    assert canonical.shape == (4, 7, 5)
    with pytest.raises(CnnlensError, match="batched matrix product"):
        layout.arrange("EinsumDense", "kernel", canonical, "torch", geometry)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Conv2D", "kernel", (3, 3, 8)), "has 3 axes, (3, 3, 8), where HWIO has 4"),
        (("Dense", "kernel", (47, 10), Geometry(flatten=(4, 4, 3))), "axis 0 (H·W·C) has 47 entries"),
        (
            ("DepthwiseConv2D", "kernel", (3, 3, 8, 2), Geometry(groups=5)),
            "axis 2 (C) has 8 entries, which does not fit C = 5",
        ),
        (("Conv1D", "kernel", (7, 3, 2, 5), Geometry(), "tflite"), "axis 1"),
        (("Conv2D", "kernel", (3, 3, 8, 4), Geometry(), "caffe"), "no framework 'caffe'"),
        (("LSTM", "kernel", (5, 7), Geometry(), "flax"), "one array for each gate"),
        (("LSTM", "kernel", (1, 26, 5), Geometry(), "onnx"), "axis 1 (Q·U) has 26 entries"),
    ],
)
def test_what_does_not_fit_is_said_with_the_axis(arguments: tuple, message: str) -> None:
    with pytest.raises(CnnlensError, match=re.escape(message)):
        layout.canonical_shape(*arguments)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: layout.arrange("Conv2D", "kernel", np.zeros((8, 4, 3, 5)), "caffe"),
        lambda: layout.arranged_shape("Conv2D", "kernel", (8, 4, 3, 5), "caffe"),
        lambda: layout.canonicalise("Conv2D", "kernel", np.zeros((3, 5, 4, 8)), framework="caffe"),
        lambda: layout.canonical_shape("Unknown", "kernel", (3, 5), framework="caffe"),
        lambda: layout.completed("Conv2D", "kernel", (3, 5, 4, 8), framework="caffe"),
        lambda: layout.stored_axes("Conv2D", framework="caffe"),
        lambda: layout.convention("Conv2D", "kernel", "caffe", ndim=4),
        lambda: layout.expression("Conv2D", "kernel", "caffe", "torch"),
        lambda: layout.expression("Conv2D", "kernel", "keras", "caffe"),
        lambda: layout.roles_in("caffe", "Dense"),
        lambda: layout.expression("Conv2D", "kernel", "keras", "caffe", shape=(3, 5, 4, 8)),
        lambda: Kernel.from_stored("Conv2D", np.zeros((3, 5, 4, 8), np.float32)).to("caffe"),
    ],
)
def test_an_unknown_framework_is_refused_wherever_it_is_named(ask: Callable[[], object]) -> None:
    with pytest.raises(
        CnnlensError, match=r"no framework 'caffe': there are 'keras', 'torch', 'flax', 'onnx', 'tflite'$"
    ):
        ask()


def test_what_a_framework_cannot_express_is_refused_with_the_reason() -> None:
    alpha = np.zeros((4, 5, 3))
    canonical = layout.canonicalise("PReLU", "alpha", alpha)
    with pytest.raises(CnnlensError, match=r"no slope a position in nn\.PReLU"):
        layout.arrange("PReLU", "alpha", canonical, "torch")
    shapes = layout.arranged_shapes("PReLU", "alpha", canonical.shape)
    assert shapes == {"keras": (4, 5, 3), "torch": None, "flax": None, "onnx": (3, 4, 5), "tflite": (4, 5, 3)}
    assert layout.convention("ConvLSTM2D", "kernel", "torch").axes is None
    assert "no ConvLSTM layer" in (layout.convention("ConvLSTM2D", "kernel", "torch").reason or "")


def test_a_second_recurrent_bias_that_is_not_zero_is_not_dropped() -> None:
    bias = np.arange(1, 21.0)
    onnx = layout.arrange("LSTM", "bias", bias, "onnx")
    assert onnx.shape == (1, 40)
    assert not onnx[0, 20:].any()
    onnx = onnx.copy()
    onnx[0, 27] = 1
    added = layout.canonicalise("LSTM", "bias", onnx, framework="onnx") - layout.canonicalise(
        "LSTM", "bias", layout.arrange("LSTM", "bias", bias, "onnx"), framework="onnx"
    )
    assert sorted(added) == [0.0] * 19 + [1.0]
    torch, keras = (
        listing.crossing_text(crossings("LSTM", one, other), one, other)
        for one, other in (("torch", "keras"), ("keras", "torch"))
    )
    assert "bias = bias_ih_l0 + bias_hh_l0" in torch
    assert "bias_hh_l0 is zeros" in keras


def test_both_gru_biases_are_found_by_their_axes_or_by_the_geometry() -> None:
    assert layout.canonical_shape("GRU", "bias", (2, 21)) == (2, 21)
    assert layout.canonical_shape("GRU", "bias", (21,)) == (21,)
    with pytest.raises(CnnlensError, match="resets before the matrix product"):
        layout.arranged_shape("GRU", "bias", (21,), "torch")
    assert layout.canonical_shape("GRU", "bias", (1, 42), Geometry(reset_after=True), "onnx") == (2, 21)
    assert layout.canonical_shape("GRU", "bias", (1, 42), Geometry(reset_after=False), "onnx") == (21,)


def test_describe_names_the_nearest_kind_and_explains_wrappers() -> None:
    with pytest.raises(CnnlensError, match="did you mean 'Conv2D'"):
        layout.describe("Conv2d")
    with pytest.raises(CnnlensError, match="the layer that it wraps"):
        layout.describe("TimeDistributed")


def test_every_kind_has_traps_in_one_line_each() -> None:
    for kind in KINDS:
        traps = layout.describe(kind)[0].traps
        assert traps, kind
        assert all("\n" not in trap and trap.endswith(".") for trap in traps)
    assert any("1e-3" in trap for trap in layout.convention("BatchNormalization", "gamma").traps)


def test_every_letter_has_a_meaning() -> None:
    used = {letter for description, _ in WEIGHTS for letter in all_letters(description)}
    assert used <= set(layout.LEGEND)


NAMES = st.sampled_from([*KINDS, "MyLayer", "Convolution2D", "LSTMCell"])
WEIGHT_NAMES = st.sampled_from(
    sorted({weight for row in ROWS for weight in row.weights} | {"var0", "query_dense/kernel"})
)
GEOMETRIES = st.builds(
    Geometry,
    groups=st.integers(0, 5),
    flatten=st.none() | st.lists(st.integers(0, 4), min_size=0, max_size=6).map(tuple),
    depth_multiplier=st.none() | st.integers(0, 3),
    ndim=st.none() | st.integers(-1, 5),
    heads=st.none() | st.integers(0, 3),
    equation=st.none()
    | st.sampled_from(["ab,bc->ac", "abc,cde->abde", "nonsense", "", "aa,aa->aa"])
    | st.text(max_size=9),
    positions=st.none() | st.lists(st.integers(0, 3), max_size=3).map(tuple),
    kernel_size=st.none() | st.lists(st.integers(0, 3), max_size=3).map(tuple),
    reset_after=st.sampled_from([None, True, False]),
)


@pytest.mark.slow
@given(NAMES, WEIGHT_NAMES, st.lists(st.integers(0, 8), max_size=7), GEOMETRIES, st.sampled_from(FRAMEWORKS))
@settings(max_examples=400, deadline=None)
def test_any_shape_is_converted_or_refused_in_one_line(
    kind: str, weight: str, shape: list[int], geometry: Geometry, framework: str
) -> None:
    said = ""
    try:
        canonical = layout.canonical_shape(kind, weight, shape, geometry, framework)
    except CnnlensError as error:
        said = str(error)
        with pytest.raises(CnnlensError, match=re.escape(said)):
            layout.canonicalise(kind, weight, np.zeros(shape), geometry, framework)
    else:
        assert layout.canonicalise(kind, weight, np.zeros(shape), geometry, framework).shape == canonical
    assert "\n" not in said
    layout.completed(kind, weight, shape, geometry, framework)


# Feature maps ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 5, 3), (2, 5, 7, 3), (2, 5, 7, 4, 3)])
def test_feature_maps_go_to_channels_first_and_back_as_views(shape: tuple[int, ...]) -> None:
    maps = np.arange(int(np.prod(shape))).reshape(shape)
    canonical = layout.to_canonical_maps(maps)
    if len(shape) > 2:
        assert canonical.shape == (shape[0], shape[-1], *shape[1:-1])
        assert canonical[(1, 2, *(0 for _ in shape[1:-1]))] == maps[(1, *(0 for _ in shape[1:-1]), 2)]
    assert np.shares_memory(canonical, maps)
    np.testing.assert_array_equal(layout.from_canonical_maps(canonical), maps)
    assert layout.to_canonical_maps(maps, "channels_first") is maps


def test_feature_map_letters() -> None:
    assert layout.feature_map_axes(4) == "NCHW"
    assert layout.feature_map_axes(4, "channels_last") == "NHWC"
    assert layout.feature_map_axes(2, "channels_last") == "NC"
    with pytest.raises(CnnlensError, match="channels_last or channels_first"):
        layout.to_canonical_maps(np.zeros((1, 2, 3)), "NHWC")
