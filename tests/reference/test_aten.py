"""PyTorch's operators in the reference: each against PyTorch itself in float64, and the shape that it says beforehand.

Sizes all differ, so that no wrong axis passes; settings of convolutions, pooling and interpolation are swept in
``test_reference_aten_sweeps.py``, float32 and the audit are in ``test_reference_aten_audit.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cnnlens.errors import UnsupportedLayerError  # noqa: E402
from cnnlens.reference.aten import TRANSLATORS, Tensor, translate  # noqa: E402
from tests.support.aten_calls import agrees, called, draw, near  # noqa: E402
from tests.support.aten_cases import BINARY, CASES, COMPARISONS, RECURRENT, ROW, SCALAR, UNARY, P, X, pair, two, unary  # noqa: E402

aten = torch.ops.aten


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_number(name: str) -> None:
    agrees(unary(name))


@pytest.mark.parametrize("name", BINARY + COMPARISONS)
def test_functions_of_two_tensors(name: str) -> None:
    first, second = pair(name)
    agrees(called(two(name), first, second))
    agrees(called(two(name), first, ROW))
    agrees(called(two(name), first, draw(6, 1, 1)))
    # A weight stands where a tensor could.
    agrees(called(two(name), first, ROW, weights=("exponent" if name == "pow" else "other",)))


@pytest.mark.parametrize(("name", "overload", "value"), SCALAR)
def test_functions_of_a_tensor_and_a_number(name: str, overload: str, value: float) -> None:
    agrees(called(getattr(getattr(aten, name), overload), P if value == 0.75 else X, value))


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers(name: str) -> None:
    call = RECURRENT[name]
    near(call.reference(), call.torch())
    found = call.translation()
    assert found.operation.output_shape(*call.shapes) == [array.shape for array in call.torch()]


@pytest.mark.parametrize("name", CASES)
def test_operators(name: str) -> None:
    if name == "to":  # a cast between floating types is about storage; the reference has one type
        near(CASES[name].reference(), X.numpy())
        return
    agrees(CASES[name])


def test_what_a_call_does_not_say_is_what_the_schema_says() -> None:
    v, length = draw(6, 5, 3, 2), draw(6, 1, 1, 1, positive=True)
    agrees(called(aten._weight_norm.default, v, length, weights=("v", "g")))
    x = draw(7, 6, 5)
    agrees(called(aten.group_norm.default, x * 1e-3, 3))
    agrees(called(aten.conv_transpose1d.default, x, draw(6, 4, 3)))


def test_a_bilinear_layer_that_was_decomposed() -> None:
    tensors = draw(7, 5), draw(4, 5, 3), draw(7, 3)
    agrees(called(aten._trilinear.default, *tensors, [1, 3], [0], [1, 2], [2, 3], weights=("i2",)))


@pytest.mark.parametrize(
    ("call", "kind", "settings"),
    [
        (called(aten.expand_as.default, draw(1, 6), draw(7, 6)), "BroadcastTo", {}),
        (called(aten.view_as.default, draw(7, 6), draw(7, 3, 2)), "Reshape", {}),
        (called(aten.rsub.Tensor, draw(7, 6), draw(7, 6), alpha=3), "Subtract", {"alpha": 3}),
        (called(aten.rsub.Tensor, draw(7, 6), draw(7, 6)), "Subtract", {}),
        (
            called(aten.index_put.default, draw(7, 6), [torch.tensor([2, 0])], draw(2, 6)),
            "Scatter",
            {"accumulate": False},
        ),
        (
            called(aten.index_put.default, draw(7, 6), [torch.tensor([2, 2])], draw(2, 6), True),
            "Fold",
            {"accumulate": True},
        ),
    ],
    ids=lambda one: one if isinstance(one, str) else None,
)
def test_an_operation_is_called_by_what_it_is(call: Any, kind: str, settings: dict[str, Any]) -> None:
    operation = call.translation().operation
    assert operation.kind == kind
    assert operation.settings == settings


@pytest.mark.parametrize(
    ("size", "wanted", "kind"),
    [(4, 8, "UpSampling1D"), (4, 12, "UpSampling1D"), (4, 10, "Interpolation1D"), (4, 2, "Interpolation1D")],
)
def test_whole_factors_repeat_and_others_interpolate(size: int, wanted: int, kind: str) -> None:
    call = called(aten.upsample_nearest1d.default, draw(7, 6, size), [wanted])
    assert call.translation().operation.kind == kind
    agrees(call)


# --- the batch -------------------------------------------------------------------------------------------------------


def _given(target: str, arguments: dict[str, Any], weights: dict[str, Any], *tensors: Any, shapes: Any = None) -> Any:
    """What the reference makes of arguments that speak of the batch, on tensors of another batch than any number."""
    arrays = [x.numpy() for x in tensors]
    told = [(None, *x.shape[1:]) for x in arrays] if shapes is None else shapes
    found = translate(target, arguments, {name: x.shape for name, x in weights.items()}, told)
    held = {name: x.numpy() for name, x in weights.items()}
    assert found.args == tuple(Tensor(number) for number in range(len(found.args)))
    result = found.operation(found.unpack(held), *arrays[: len(found.args)])
    shape = found.operation.output_shape(*told[: len(found.args)])
    assert len(shape) == result.ndim
    assert all(a is None or a == b for a, b in zip(shape, result.shape, strict=True))
    return result, shape


SELF = {"self": {"tensor": 0}}


@pytest.mark.parametrize(
    ("sizes", "shape", "wanted"),
    [
        ([{"batch": 1}, 54, 11], (7, 6, 9, 11), (7, 54, 11)),
        ([{"batch": 1}, -1], (7, 6, 9, 11), (7, 594)),
        ([{"batch": 1}, 1, 6, 9, -1], (7, 6, 9, 11), (7, 1, 6, 9, 11)),
        ([{"batch": 3}, -1], (7, 6, 11), (21, 22)),
        ([{"batch": 2}, 3, 11], (7, 6, 11), (14, 3, 11)),
        ([{"batch": 1}, 2, 3, 11], (14, 3, 11), (7, 2, 3, 11)),
    ],
)
def test_a_view_says_the_batch(sizes: list[Any], shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    x = draw(*shape)
    got, told = _given("aten.view.default", {**SELF, "size": sizes}, {}, x)
    np.testing.assert_array_equal(got, x.numpy().reshape(wanted))
    assert told == (None, *wanted[1:])


def test_a_view_says_the_batch_on_another_axis() -> None:
    x = draw(3, 7, 4)
    sizes = [3, {"batch": 2}, 2]
    got, told = _given("aten.view.default", {**SELF, "size": sizes}, {}, x, shapes=[(3, None, 4)])
    np.testing.assert_array_equal(got, x.numpy().reshape(3, 14, 2))
    assert told == (3, None, 2)


def test_a_weight_is_expanded_to_the_batch_of_another_tensor() -> None:
    token, x = draw(1, 1, 4), draw(7, 3, 5)
    arguments = {"self": {"weight": "cls"}, "size": [{"batch": 1, "tensor": 0}, -1, -1]}
    got, told = _given("aten.expand.default", arguments, {"cls": token}, x)
    np.testing.assert_array_equal(got, np.broadcast_to(token.numpy(), (7, 1, 4)))
    assert told == (None, 1, 4)


def test_a_fill_has_the_batch_of_another_tensor() -> None:
    arguments = {"size": [1, {"batch": 2, "tensor": 0}, 5], "fill_value": 0.5}
    got, told = _given("aten.full.default", arguments, {}, draw(7, 3, 5))
    np.testing.assert_array_equal(got, np.full((1, 14, 5), 0.5, np.float32))
    assert told == (1, None, 5)


def test_a_batch_that_no_tensor_shows_is_refused() -> None:
    arguments = {"self": {"weight": "cls"}, "size": [{"batch": 1}, -1, -1]}
    with pytest.raises(UnsupportedLayerError, match="expand: a size depends on the batch, which none of its operands"):
        translate("aten.expand.default", arguments, {"cls": (1, 1, 4)}, [])


# --- constants -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "arguments", "wanted"),
    [
        ("aten.arange.default", {"end": 5}, np.arange(5)),
        ("aten.arange.default", {"end": 5.0}, np.arange(5, dtype=np.float32)),
        ("aten.arange.start_step", {"start": 1, "end": 8, "step": 3, "dtype": "float32"}, np.float32([1, 4, 7])),
        ("aten.zeros.default", {"size": [2, 3]}, np.zeros((2, 3), np.float32)),
        ("aten.ones.default", {"size": [2], "dtype": "int64"}, np.ones(2, np.int64)),
        ("aten.full.default", {"size": [2], "fill_value": True}, np.ones(2, np.bool_)),
        ("aten.scalar_tensor.default", {"s": 0.1}, np.float32(0.1)),
        ("aten.eye.default", {"n": 3}, np.eye(3, dtype=np.float32)),
        ("aten.linspace.default", {"start": 0, "end": 1, "steps": 5}, np.float32([0, 0.25, 0.5, 0.75, 1])),
    ],
)
def test_constants(target: str, arguments: dict[str, Any], wanted: Any) -> None:
    found = translate(target, arguments, {}, [])
    got = found.operation({})
    np.testing.assert_array_equal(got, wanted)
    assert got.dtype == np.asarray(wanted).dtype
    assert found.operation.output_shape() == got.shape


def test_numbers_of_whole_ones_do_not_widen_a_float32_run() -> None:
    arguments = {"self": {"tensor": 0}, "other": {"weight": "steps"}}
    found = translate("aten.mul.Tensor", arguments, {"steps": (3,)}, [(None, 3)])
    made = found.operation({"steps": np.arange(3)}, np.ones((2, 3), np.float32))
    assert made.dtype == np.float32
    halved = translate("aten.div.Tensor", {"self": {"weight": "steps"}, "other": 2}, {"steps": (3,)}, [])
    assert halved.operation({"steps": np.arange(3)}).dtype == np.float32


# --- refusals --------------------------------------------------------------------------------------------------------


CONV = {"input": {"tensor": 0}, "weight": {"weight": "weight"}}


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("aten.upsample_bicubic3d.default", SELF, "upsample_bicubic3d.default; did you mean 'upsample_bicubic2d'"),
    ("quantized.linear.default", SELF, "no operator quantized.linear.default: it is not one of PyTorch's own"),
    ("aten.dropout.default", {"input": {"tensor": 0}, "p": 0.5, "train": True}, "model.eval"),
    ("aten.rrelu.default", {**SELF, "training": True}, "model.eval"),
    ("aten.batch_norm.default", {"input": {"tensor": 0}, "training": True, "eps": 1e-5}, "model.eval"),
    ("aten.batch_norm.default", {"input": {"tensor": 0}, "training": False, "eps": 1e-5}, "no running statistics"),
    ("aten.conv2d.padding", {**CONV, "padding": "same", "stride": [2, 2]}, "padding 'same' with strides"),
    ("aten.conv2d.default", {**CONV, "groups": 5}, "4 filters cannot be cut into 5 groups"),
    ("aten.conv2d.default", {"input": {"tensor": 0}}, "conv2d: it has no weight"),
    ("aten.conv1d.default", CONV, "a kernel of 3 axes was expected"),
    ("aten.conv2d.default", {"input": {"tensor": 0}, "weight": {"weight": "w"}}, "has no weight 'w'"),
    ("aten.max_pool3d.default", {**SELF, "kernel_size": [2, 2, 2]}, "of 5 axes was expected"),
    ("aten.avg_pool2d.default", SELF, "kernel_size must be a whole number, not None"),
    (
        "aten.im2col.default",
        {**SELF, "kernel_size": [2, 2], "dilation": [1, 1], "padding": [0, 0], "stride": []},
        "stride must be a whole number, not None",
    ),
    (
        "aten.im2col.default",
        {**SELF, "kernel_size": [2, 0], "dilation": [1, 1], "padding": [0, 0], "stride": [1, 1]},
        "im2col: kernel_size must be at least 1, not [2, 0]",
    ),
    (
        "aten.col2im.default",
        {**SELF, "output_size": [8, 9], "kernel_size": [2, 2], "dilation": [1, 1], "padding": [0, 0], "stride": [0, 2]},
        "col2im: stride must be at least 1, not [0, 2]",
    ),
    ("aten.pad.default", {**SELF, "pad": [1, 1], "mode": "mirror"}, "no mode 'mirror'"),
    ("aten.addbmm.default", {**SELF, "batch1": {"tensor": 0}, "batch2": {"tensor": 1}}, "use baddbmm and a sum"),
    ("aten.relu.default", {"self": {"what": 0}}, "neither tensor, weight nor batch"),
    ("aten.permute.default", {**SELF, "dims": [0, 2, 1, 9]}, "axis 9 is outside"),
    ("aten.relu.default", {"self": {"tensor": 3}}, "relu: it takes tensor 3, and 2 came"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "arguments", "said"), REFUSED)
def test_refusals_name_the_operator_and_the_reason(target: str, arguments: dict[str, Any], said: str) -> None:
    shapes: list[Any] = [(None, 3, 8, 9), (4, 3, 2, 2)]
    with pytest.raises(UnsupportedLayerError) as caught:
        translate(target, arguments, {"weight": (4, 3, 2, 2)}, shapes)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_in_place_spelling_is_the_functional_one() -> None:
    for name in ("add", "relu", "mul", "hardtanh", "leaky_relu", "clamp", "sigmoid", "silu", "unsqueeze"):
        assert name in TRANSLATORS
        assert f"{name}_" not in TRANSLATORS
    found = translate("aten.relu_.default", {"self": {"tensor": 0}}, {}, [(None, 3)])
    near(found.operation({}, np.array([[-1.0, 0.5, 2.0]])), np.array([[0.0, 0.5, 2.0]]))
