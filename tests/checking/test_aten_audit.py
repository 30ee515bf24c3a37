"""The audit of PyTorch's own float32 results: rounding is called rounding, and planted faults are found and named.

Every operator of ``aten_cases.py`` is run by PyTorch in float32 and audited from its inputs and its output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from cnnlens.checking import audit  # noqa: E402
from cnnlens.checking.noise.prediction import FLOOR  # noqa: E402
from cnnlens.layout import Geometry  # noqa: E402
from cnnlens.network.graph import Call, Layer, Ref, Weight  # noqa: E402
from tests.support import aten_cases as operators  # noqa: E402
from tests.support.aten_calls import AtenCall, called, draw  # noqa: E402

aten = torch.ops.aten
Array = NDArray[Any]
X, Y = operators.X, operators.Y


def _audited(call: AtenCall) -> None:
    call.tensors = [x.astype(np.float32).astype(np.float64) if x.dtype.kind == "f" else x for x in call.tensors]
    found = call.audited(call.torch("float32"))
    assert found.verdict in ("exact", "float32"), found
    assert found.bits >= FLOOR, found


@pytest.mark.parametrize("name", operators.CASES)
def test_an_operator_in_float32_is_rounding(name: str) -> None:
    _audited(operators.CASES[name])


@pytest.mark.parametrize("name", operators.RECURRENT)
def test_a_recurrent_layer_in_float32_is_rounding(name: str) -> None:
    call = operators.RECURRENT[name]
    given = call.args[2]
    small = [torch.from_numpy(one.numpy().astype(np.float32)) for one in given]
    call.weights = {f"w{number}": one.numpy().astype(np.float64) for number, one in enumerate(small)}
    _audited(call)


@pytest.mark.parametrize("name", operators.UNARY)
def test_a_function_of_one_number_in_float32_is_rounding(name: str) -> None:
    _audited(operators.unary(name))


@pytest.mark.parametrize("name", operators.BINARY + operators.COMPARISONS)
def test_a_function_of_two_tensors_in_float32_is_rounding(name: str) -> None:
    first, second = operators.pair(name)
    argument = "exponent" if name == "pow" else "other"
    _audited(called(operators.two(name), first, second))
    _audited(called(operators.two(name), first, operators.ROW, weights=(argument,)))


@pytest.mark.parametrize(("name", "overload", "value"), operators.SCALAR)
def test_a_function_of_a_tensor_and_a_number_in_float32_is_rounding(name: str, overload: str, value: float) -> None:
    _audited(called(getattr(getattr(aten, name), overload), operators.P if value == 0.75 else X, value))


@pytest.mark.parametrize("depth", [64, 512])
def test_deep_sums_in_float32_are_rounding(depth: int) -> None:
    _audited(called(aten.conv2d.default, draw(2, depth, 9, 11), draw(24, depth, 3, 3), draw(24), [1, 1], [1, 1]))
    weight = draw(depth, 8, 4, 4)
    _audited(called(aten.conv_transpose2d.input, draw(2, depth, 5, 7), weight, draw(8), [2, 2], [1, 1]))
    _audited(called(aten.linear.default, draw(5, depth), draw(9, depth), draw(9)))
    _audited(called(aten.matmul.default, draw(2, 7, depth), draw(2, depth, 5)))


# --- what the reference may not pass over ----------------------------------------------------------------------------

CONV = called(aten.conv2d.default, draw(2, 6, 13, 11), draw(8, 6, 3, 3), draw(8), [2, 2], [1, 1])
GROUPED = called(aten.conv2d.default, draw(2, 6, 13, 11), draw(9, 2, 3, 3), draw(9), [1, 1], [1, 1], [1, 1], 3)
TRANSPOSED = called(aten.conv_transpose2d.input, draw(2, 6, 7, 5), draw(6, 8, 3, 3), draw(8), [2, 2], [1, 1], [1, 1])
LINEAR = called(aten.linear.default, draw(20, 12), draw(7, 12), draw(7))
NORM = called(
    aten.batch_norm.default, X, draw(6), draw(6, seed=1), draw(6, seed=2), draw(6, positive=True), False, 0.1, 1e-5,
    False,
)  # fmt: skip
MEANS = called(aten.avg_pool2d.default, X, [3, 3], [2, 2], [1, 1])
GELU = called(aten.gelu.default, X)
ADD = called(aten.add.Tensor, X, Y)
SCALED = called(aten.mul.Tensor, X, draw(6, 1, 1), weights=("other",))
RESIZED = called(aten.upsample_bilinear2d.vec, X, [17, 19], False, None)


def _changed(call: AtenCall, **settings: Any) -> Array:
    """What PyTorch gives in float32 with other arguments than the reference is told."""
    names = [argument.name for argument in call.op._schema.arguments]
    args = [settings.pop(name, value) for name, value in zip(names, call.args, strict=False)]
    made = AtenCall(call.op, tuple(args), settings, {}, {}, [], False).torch("float32")
    return np.array(made)


def _factor(call: AtenCall, channel: int = 3, factor: float = 1.001) -> Array:
    output = np.array(call.torch("float32"))
    output[:, channel] *= np.float32(factor)
    return output


def _cropped(call: AtenCall) -> Array:
    """Padding of two in front and none behind, where the model says one on both sides."""
    x = torch.nn.functional.pad(call.args[0], (2, 0, 2, 0))
    return _changed(call, input=x, padding=[0, 0])


def _pooled_shifted(call: AtenCall) -> Array:
    x = torch.nn.functional.pad(call.args[0], (2, 0, 2, 0))
    return _changed(call, self=x, padding=[0, 0])


PLANTED: dict[str, tuple[AtenCall, Callable[[AtenCall], Array], str]] = {
    "factor of a convolution": (CONV, _factor, "channel 3"),
    "factor of a grouped convolution": (GROUPED, _factor, "channel 3"),
    "factor of a transposed convolution": (TRANSPOSED, _factor, "channel 3"),
    "factor of a linear layer": (LINEAR, _factor, "channel 3"),
    "factor of a normalisation": (NORM, _factor, "channel 3"),
    "factor of a mean": (MEANS, _factor, "channel 3"),
    "factor of a scale": (SCALED, _factor, "channel 3"),
    "padding": (CONV, _cropped, "padding 2+0, 2+0 where the model's is 1+1, 1+"),
    "flipped kernel": (CONV, lambda c: _changed(c, weight=c.args[1].flip(2, 3)), "flipped along height and width"),
    "swapped height and width": (CONV, lambda c: _changed(c, weight=c.args[1].transpose(2, 3)), "swapped"),
    "no bias": (CONV, lambda c: _changed(c, bias=None), "the bias was dropped"),
    "flipped transposed kernel": (TRANSPOSED, lambda c: _changed(c, weight=c.args[1].flip(2, 3)), "flipped"),
    "crop": (TRANSPOSED, lambda c: _changed(c, padding=[0, 0])[:, :, 2:, 2:], "cut from the full result shifted"),
    "epsilon": (NORM, lambda c: _changed(c, eps=1e-3), "epsilon 0.001 where the model says 1e-05"),
    "batch statistics": (
        NORM, lambda c: _changed(c, training=True, running_mean=c.args[3].clone(), running_var=c.args[4].clone()),
        "the batch's own mean and variance",
    ),
    "padding in a mean": (MEANS, lambda c: _changed(c, count_include_pad=False), "the mean leaves the padding out"),
    "shifted windows": (MEANS, _pooled_shifted, "the window is shifted"),
    "another gelu": (GELU, lambda c: _changed(c, approximate="tanh"), "gelu"),
    "an operand left out": (ADD, lambda c: c.args[0].numpy().astype(np.float32), "input 2 of 2 was left out"),
    "corners": (RESIZED, lambda c: _changed(c, align_corners=True), "corners are aligned where the model"),
    "another interpolation": (
        RESIZED, lambda c: called(aten.upsample_bicubic2d.vec, c.args[0], [17, 19], False, None).torch("float32"),
        "interpolation bicubic where the model says linear",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found_and_named(name: str) -> None:
    call, plant, said = PLANTED[name]
    output = plant(call)
    assert output.shape == np.shape(call.torch("float32"))
    found = call.audited(output)
    assert found.verdict == "wrong", found
    assert said in found.explanation, found


@pytest.mark.parametrize(
    "name", ["permute", "flatten-last", "cat", "pad-reflect", "roll", "max-dim", "argmax", "where"]
)
def test_a_value_that_only_moves_may_not_change_at_all(name: str) -> None:
    call = operators.CASES[name]
    made = call.torch("float32")
    parts = [np.array(part, order="C") for part in (made if isinstance(made, list) else [made])]
    flat = parts[0].reshape(-1)
    place = int(np.argmax(np.abs(flat.astype(np.float64))))
    flat[place] = np.nextafter(flat[place], np.float32(np.inf)) if flat.dtype.kind == "f" else flat[place] + 1
    found = call.audited(parts if isinstance(made, list) else parts[0])
    assert found.verdict in ("wrong", "suspicious"), found
    if found.worst_position:
        assert found.worst_position == tuple(int(i) for i in np.unravel_index(place, parts[0].shape))


def test_constants_are_audited_too() -> None:
    call = called(aten.arange.default, 7)
    call.arguments = {"end": 7}
    assert call.audited(np.arange(7)).verdict == "exact"
    assert call.audited(np.arange(7)[::-1]).verdict == "wrong"
    empty = called(aten.empty.memory_format, [3, 2])
    assert empty.audited(np.full((3, 2), 1e30, np.float32)).verdict == "exact"


@pytest.mark.parametrize("said", ["was flattened channels last", "rows are channels last"])
def test_a_flatten_in_the_order_of_keras_is_named(said: str) -> None:
    """A linear layer behind a flatten of ``(C, H, W)``, fed or stored as a channels-last framework would."""
    maps, weight, bias = draw(20, 2, 3, 4), draw(7, 24), draw(7)
    call = called(aten.linear.default, maps.reshape(20, 24), weight, bias)
    if said.startswith("was"):
        output = _changed(call, input=maps.permute(0, 2, 3, 1).reshape(20, 24))
    else:
        output = _changed(call, weight=weight.reshape(7, 2, 3, 4).permute(0, 2, 3, 1).reshape(7, 24))
    found = call.translation()
    stored = Weight("weight", "Dense", "kernel", _Held(call.weights["weight"]), Geometry(flatten=(3, 4, 2)), "torch")
    layer = Layer("fc", "Linear", {}, stored={"weight": stored}, make_operation=lambda: found.operation)
    made = Call("fc", layer, (Ref("x"),), {}, (None,), 1)
    weights = {name: array.astype(np.float32) for name, array in found.unpack(call.weights).items()}
    named = audit(made, weights, [call.tensors[0].astype(np.float32)], {}, output)
    assert named.verdict == "wrong", named
    assert "flatten order" in named.explanation, named
    assert said in named.explanation, named


@dataclass(frozen=True)
class _Held:
    """An array that stands for one in a file."""

    array: Array
    stored_dtype: str = "float32"
    place: str = "fc.weight"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def read(self) -> Array:
        return self.array
