"""What the detective supposes of two arrays, one hypothesis at a time, on arrays whose truth is planted by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cnnlens.differing.cause import Kind
from cnnlens.differing.differ import diff
from cnnlens.differing.hypotheses.kinship import kinship
from cnnlens.differing.hypotheses.layouts import plan
from cnnlens.differing.hypotheses.rounding import levels_of, quantised, representable, rounding_apart, steplike
from cnnlens.differing.hypotheses.scales import scaled
from cnnlens.differing.items import Item, item_of
from cnnlens.differing.moves import Chain, Flip, Reshape, Take, Transpose
from cnnlens.differing.other_sizes import function_of, repeated
from cnnlens.differing.pairing import pair
from cnnlens.differing.parts import parts_of
from cnnlens.files import StoredArray
from cnnlens.files.keras.network import keras_network
from cnnlens.layout import Geometry
from cnnlens.network.graph import Call, Layer, Ref
from cnnlens.network.network import Network
from cnnlens.network.weight import Weight
from cnnlens.testing import MemoryModel
from tests.support.diff_models import Array, state_dict


def item(role: str, array: Array, kind: str = "", framework: str = "torch", groups: int = 1) -> Item:
    stored = StoredArray(array.shape, array.dtype, array.dtype.name, role, lambda: array)
    return item_of(Weight(role, kind, role, stored, Geometry(groups=groups), framework), role)


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def keras(kind: str, channels: int, config: dict[str, Any], arrays: dict[str, Array]) -> Network:
    size = [None, 9, 8, channels]
    entries: list[dict[str, Any]] = [
        {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": size, "name": "i"}},
        {"module": "keras.layers", "class_name": kind, "config": {"name": "c", "use_bias": False, **config}},
    ]
    model = {"class_name": "Sequential", "config": {"name": "m", "layers": entries}}
    return keras_network(MemoryModel(model, {("c",): arrays}))  # type: ignore[arg-type]


def depthwise(kernel: Array) -> Network:
    settings = {"kernel_size": list(kernel.shape[:2]), "depth_multiplier": kernel.shape[3]}
    return keras("DepthwiseConv2D", kernel.shape[2], settings, {"kernel": kernel})


def test_a_normed_kernel_goes_to_the_layer_that_takes_it() -> None:
    """Not to the one that comes first, nor to the module around what makes it."""
    size, direction, kernel = np.abs(drawn(5, 1, 1, 1)) + 1, drawn(5, 3, 4, 2, seed=1), drawn(3, 6, 4, 2)
    stored = state_dict({"first.weight": kernel, "norm.weight_g": size, "norm.weight_v": direction})
    first, norm, last, module = stored["first"], stored["norm"], Layer("last", "Conv2d", {}), Layer("list", "List", {})
    calls = (
        Call("x", Layer("x", "InputLayer", {}), (), {}, (None,), 1),
        Call("first", first, (Ref("x"),), {}, (None,), 1),
        Call("norm", norm, (), {}, (None,), 1),
        Call("list", replace(module, container=True), (Ref("norm"),), {}, (None,), 1),
        Call("last", last, (Ref("first"), Ref("list")), {}, (None,), 1),
    )
    parts = {part.name: part for part in parts_of(replace(stored, layers=(first, norm, last), calls=calls))}
    assert parts["last"].family == "conv"
    assert parts["last"].kernel.shape == (5, 3, 4, 2)
    assert not parts["first"].kernel.joined


# -- steps -------------------------------------------------------------------------------------------------------------


def test_whole_numbers_are_of_no_float_format() -> None:
    assert not representable(np.arange(5), "float16")
    assert representable(np.arange(5.0), "float16")


def test_all_256_levels_are_found() -> None:
    random = np.random.default_rng(0)
    levels = np.r_[-128:128, random.integers(-128, 128, 1024)].reshape(16, 80)
    y = levels * np.float32(0.03)
    x = y + random.uniform(-0.014, 0.014, y.shape).astype(np.float32)
    found = quantised(x, y)
    assert found is not None
    assert found.axis is None
    np.testing.assert_allclose(found.steps, 0.03, rtol=1e-5)


def test_steps_that_no_quantiser_would_choose_are_found_in_the_numbers() -> None:
    """Eleven levels, of a step that is a 4th of the largest value, say."""
    x = np.clip(drawn(40, 90), -2, 2)
    y = (np.rint(x / 0.37) * 0.37).astype(np.float32)
    found = quantised(x, y)
    assert found is not None
    np.testing.assert_allclose(found.steps, 0.37, rtol=1e-5)
    assert found.scheme == "symmetric"
    assert quantised(x, np.where(np.arange(90) == 70, np.nan, y)) is None


def test_steps_of_each_channel_are_its_own() -> None:
    scale = np.array([0.1, 3.0, 0.7], np.float32)
    for axis, shape in ((0, (3, 1)), (1, (1, 3))):
        x = (drawn(3, 200) if axis == 0 else drawn(200, 3)) * scale.reshape(shape)
        steps = np.abs(x).max(axis=1 - axis) / 127
        y = (np.rint(x / steps.reshape(shape)) * steps.reshape(shape)).astype(np.float32)
        found = quantised(x, y)
        assert found is not None
        assert found.axis == axis
        np.testing.assert_allclose(found.steps, steps, rtol=1e-6)


def test_rows_that_stand_between_the_steps_are_seen_wherever_they_are() -> None:
    x = drawn(64, 1000)
    step = np.abs(x).max() / 127
    y = (np.rint(x / step) * step).astype(np.float32)
    assert quantised(x, y) is not None
    y[60] += 0.3 * step
    assert quantised(x, y) is None


def test_a_level_of_nothing_is_zero() -> None:
    levels = np.random.default_rng(0).integers(-127, 128, (5, 40))
    found = levels_of((levels * np.float32(0.25)), levels.astype(np.int8))
    assert found is not None
    np.testing.assert_allclose(found.steps, 0.25)
    assert not found.offsets.any()


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("shift", [0.0, 5.3])
def test_which_side_stands_on_steps_is_told_with_the_line_that_puts_the_other_there(
    channels: bool, shift: float
) -> None:
    kernel = drawn(6, 5, 3, 3) * np.linspace(0.2, 3, 6, dtype=np.float32).reshape(6, 1, 1, 1) + np.float32(shift)
    axes = (1, 2, 3) if channels else None
    low, high = (kernel.min(axis=axes, keepdims=True), kernel.max(axis=axes, keepdims=True))
    step, level = ((high - low) / 255, low) if shift else (np.maximum(high, -low) / 127, np.float32(0))
    stepped = (np.rint((kernel - level) / step) * step + level).astype(np.float32)
    ones, others = state_dict({"a.weight": kernel}), state_dict({"a.weight": stepped})
    for a, b, side in ((ones, others, "B"), (others, ones, "A")):
        found = diff(a, b).rows[0].arrays[0].finding
        assert found.tag == "rounded:int8", found
        assert found.causes[0]["side"] == side
        assert found.line is not None
        needed = ({"step", "level"} if shift else {"step"}) if channels and side == "A" else set()
        assert set(found.line.names) == needed


def test_a_number_that_cancelled_keeps_the_rounding_of_what_it_was_made_of() -> None:
    x, dtypes = np.array([1.0, -1, 1, -1, 0]), [np.dtype(np.float32)] * 2
    size = 2.0**-23 * np.sqrt(0.8)  # half a unit in the last place of what the numbers are on average
    assert rounding_apart(x, np.array([1, -1, 1, -1, 0.9 * size]), dtypes) == "float32"
    assert not rounding_apart(x, np.array([1, -1, 1, -1, 1.1 * size]), dtypes)


# -- factors -----------------------------------------------------------------------------------------------------------


def test_a_channel_of_zeros_has_no_factor_and_hides_none() -> None:
    y = drawn(5, 12).astype(np.float64)
    y[2] = 0
    factors = np.array([2.0, 0.5, 1.0, 3.0, 7.0])
    found = scaled(y * factors[:, None], y, 1e-12)
    assert found is not None
    assert found.axis == 0
    np.testing.assert_allclose(found.factors, factors)
    assert scaled(np.zeros((5, 12)), np.zeros((5, 12)), 1e-12) is None


def test_channels_of_any_sign_and_size_do_not_hide_a_flip_of_what_is_nearly_symmetric() -> None:
    kernel = drawn(6, 5, 3, 2)
    kernel = (kernel + np.float32(0.8) * kernel[:, :, ::-1]) * np.float32(1e-3)
    factors = np.array([2, -3, 0.5, -1, 4, -0.25], np.float32).reshape(6, 1, 1, 1)
    found = diff(state_dict({"c.weight": kernel}), state_dict({"c.weight": kernel[:, :, ::-1] * factors}))
    assert found.rows[0].arrays[0].finding.tag == "flip:H+scaled", found


# -- kinship -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(300_000,), (1500, 200), (2, 3, 200, 260)])
def test_large_arrays_are_related_by_some_of_their_numbers(shape: tuple[int, ...]) -> None:
    x, noise = drawn(*shape), drawn(*shape, seed=1)
    near = kinship(x, x + np.float32(0.75) * noise)
    assert near.correlation == pytest.approx(0.8, abs=0.02)  # 1 / sqrt(1 + 0.75 ** 2)
    assert near.distance == pytest.approx(0.75, abs=0.02)
    assert not kinship(x, noise).related


# -- orders ------------------------------------------------------------------------------------------------------------


def test_an_order_is_taken_back_by_its_inverse() -> None:
    chain = Chain((2, 4)).then(Take(1, (1, 2, 3, 0)))
    x = np.arange(8).reshape(2, 4)
    np.testing.assert_array_equal(chain.apply(x), [[1, 2, 3, 0], [5, 6, 7, 4]])
    np.testing.assert_array_equal(chain.inverse().apply(chain.apply(x)), x)


def test_gates_in_the_order_that_is_expected_are_no_mistake() -> None:
    kernel = item("kernel", drawn(12, 3), "LSTM")
    ways = plan(kernel, kernel).ways
    said = [cause for way in ways for causes in (way.causes, *way.others) for cause in causes]
    orders = [cause["order"] for cause in said if cause.kind is Kind.GATES]
    assert len(set(orders)) == 23
    assert {cause["expected"] for cause in said if cause.kind is Kind.GATES}.isdisjoint(orders)


def test_a_number_without_axes_has_one_way() -> None:
    scalar = item("scale", np.array(2.5, np.float32), groups=2)
    assert [way.causes[0].kind for way in plan(scalar, scalar).ways] == [Kind.SAME]


def test_of_axes_that_no_table_knows_every_order_is_tried_where_they_are_few() -> None:
    for shape, swapped in (((2, 3, 2, 3), True), ((2, 3, 2, 3, 2), False)):
        unknown = item("foo", drawn(*shape))
        kinds = {way.causes[0].kind for way in plan(unknown, unknown).ways}
        assert (Kind.SWAPPED in kinds) is swapped


def test_a_transpose_of_axes_of_one_is_kept_in_front_of_a_flip() -> None:
    x = np.arange(3).reshape(1, 3)
    np.testing.assert_array_equal(Chain((1, 3)).then(Transpose((1, 0)), Flip((0,))).apply(x), [[2], [1], [0]])
    assert Chain((1, 3)).then(Transpose((1, 0)), Reshape((3,))).moves == (Reshape((3,)),)


def test_axes_that_no_table_knows_are_told_from_known_ones() -> None:
    assert item("foo", drawn(5, 3)).gates is None
    assert item("kernel", drawn(5), "LSTM").gates is None  # of a rank that no LSTM's has
    assert item("kernel", drawn(12, 3), "LSTM").gates is not None
    assert not item("foo", drawn(5, 3)).exact
    assert item("kernel", drawn(5, 3), "Dense").exact


def test_a_quarter_of_the_rows_says_nothing_of_the_levels_of_all() -> None:
    array = drawn(400, 300)
    array[:100] = 0
    assert not steplike(array)
    assert steplike(np.rint(array * 20))


def test_what_is_contrived_stands_behind_what_is_plain() -> None:
    keras, torch = item("kernel", drawn(12, 5), "Dense", "keras"), item("kernel", drawn(5, 12), "Dense")
    ways = plan(keras, torch, [(3, 2, 2), (3, 4, 1)]).ways
    poured = [way for way in ways if way.causes[0].kind is Kind.RESHAPED]
    plain = [way for way in ways if len(way.causes) == 1 and way.causes[0].kind is not Kind.RESHAPED]
    assert min(way.rank for way in poured) > max(way.rank for way in plain)
    assert {way.causes[0]["side"] for way in poured} == {"A", "B"}
    natural = [way.natural for way in plan(keras, torch, [(3, 2, 2), (2, 3, 2)]).ways]
    assert natural == [True] * 3 + [False] * (len(natural) - 3)  # as it is, and flattened from either map


# -- other sizes -------------------------------------------------------------------------------------------------------


def test_one_number_is_no_function_of_another() -> None:
    """Four is the square of two, and anything is something of anything."""
    for count in (1, 6):
        variance = np.linspace(4, 9, count, dtype=np.float32)
        found = function_of(*(item("moving_variance", x, "BatchNorm2d") for x in (variance, np.sqrt(variance))))
        assert (found is not None) == (count > 1)


def test_one_slope_for_many_is_told_with_a_line_either_way() -> None:
    many, one = (item("alpha", np.full(count, 0.3, np.float32), "PReLU") for count in (6, 1))
    for a, b, side in ((many, one, "A"), (one, many, "B")):
        found = repeated(a, b)
        assert found is not None
        assert found.line is not None
        assert found.causes[0]["side"] == side


# -- parts and pairs ---------------------------------------------------------------------------------------------------


def test_a_part_more_in_front_moves_the_others_down() -> None:
    """Numbers that have nothing in common, so that order and sizes alone say what belongs together."""
    a = {"c.weight": drawn(5, 3, 3, 2), "d.weight": drawn(4, 7, seed=1)}
    b = {"x.weight": drawn(9, 8), "c.weight": drawn(5, 3, 3, 2, seed=2), "d.weight": drawn(4, 7, seed=3)}
    sides = [parts_of(state_dict(arrays)) for arrays in (a, b)]
    for (one, other), lone in ((sides, "only_b"), (sides[::-1], "only_a")):
        found = pair(one, other)
        assert [(each.a.name, each.b.name, each.how) for each in found.pairs] == [
            ("c", "c", "order"),
            ("d", "d", "order"),
        ]
        assert [part.name for part in getattr(found, lone)] == ["x"]


def test_arrays_that_the_other_holds_one_by_one_are_one_layer_called_by_the_last() -> None:
    """No layer of B is A's by its kind; together they hold what A's one holds."""

    def chain(*layers: tuple[str, str, dict[str, Array]]) -> Network:
        entries: list[dict[str, Any]] = [
            {"module": "keras.layers", "class_name": kind, "config": {"name": name}} for kind, name, _ in layers
        ]
        first = {
            "module": "keras.layers",
            "class_name": "InputLayer",
            "config": {"batch_shape": [None, 6], "name": "i"},
        }
        model = {"class_name": "Sequential", "config": {"name": "m", "layers": [first, *entries]}}
        return keras_network(MemoryModel(model, {(name,): arrays for _, name, arrays in layers}))  # type: ignore[arg-type]

    one, other = drawn(6), drawn(6, seed=1)
    whole = chain(("LayerNormalization", "n", {"gamma": one, "beta": other}))
    apart = chain(("PReLU", "p", {"alpha": one}), ("PReLU", "q", {"alpha": other}))
    found = diff(whole, apart)
    assert [(row.a, row.b) for row in found.rows] == [("n", "q (with p)")]
    assert [(row.a, row.b) for row in diff(apart, whole).rows] == [("q (with p)", "n")]


@pytest.mark.parametrize(("rows", "halves"), [(9, ["query", "key", "value"]), (8, [""])])
def test_an_array_is_cut_in_three_where_it_can_be(rows: int, halves: list[str]) -> None:
    found = parts_of(state_dict({"m.in_proj_weight": drawn(rows, 3), "m.in_proj_bias": drawn(rows)}))
    assert [part.half for part in found] == halves
    if rows == 9:
        for number, part in enumerate(found):
            np.testing.assert_array_equal(part.items["kernel"].stored, drawn(9, 3)[3 * number : 3 * number + 3])


def test_a_vector_that_was_flattened_in_another_order_is_named() -> None:
    """Both files hold weights alone: the map in front is what the convolution's channels allow."""
    roles = ("weight", "bias", "running_mean", "running_var")
    vectors = {f"n.{role}": np.abs(drawn(12, seed=number)) for number, role in enumerate(roles)}
    other = {name: x.reshape(3, 2, 2).transpose(1, 2, 0).reshape(-1) for name, x in vectors.items()}
    front = {"c.weight": drawn(3, 5, 4, 1, seed=9)}
    found = diff(state_dict({**front, **vectors}), state_dict({**front, **other}))
    assert [one.finding.tag for one in found.rows[1].arrays] == ["flatten"] * 4


@pytest.mark.parametrize("tuned", [1, 2])
def test_a_short_vector_goes_with_most_kernels(tuned: int) -> None:
    arrays = {f"c{number}.weight": drawn(6, 5, 3, 2, seed=number) for number in range(3)}
    arrays["n.weight"] = np.array([1, 2, 3, 4], np.float32)
    moved = {name: x + np.float32(0.01) * drawn(*x.shape, seed=7) for name, x in arrays.items()}
    kept = {name: x for name, x in arrays.items() if name in ("c1.weight", "c2.weight")[tuned - 1 :]}
    found = diff(state_dict(arrays), state_dict({**moved, **kept}))
    statuses = [row.arrays[0].finding.status for row in found.rows]
    assert statuses[:3] == ["fine-tuned"] * tuned + ["equal"] * (3 - tuned)
    assert statuses[3] == ("fine-tuned" if tuned == 2 else "differs")


def test_an_array_under_a_name_of_ones_own_is_held_against_the_kernel_that_it_may_be() -> None:
    """Square, so that no size says that inputs and outputs took each other's place."""
    kernel = drawn(5, 5)
    found = diff(state_dict({"d.weight": kernel}), state_dict({"d.w": kernel.T.copy()}))
    finding = found.rows[0].arrays[0].finding
    assert finding.status == "explained", found
    assert finding.causes[0].kind is Kind.IN_AND_OUT


def test_factors_of_channels_that_share_an_axis_have_no_line() -> None:
    kernel, factors = drawn(3, 2, 4, 2), np.linspace(0.5, 4, 8, dtype=np.float32)
    other = (kernel * factors.reshape(4, 2)).transpose(2, 3, 0, 1).reshape(8, 1, 3, 2)
    found = diff(depthwise(kernel), state_dict({"d.weight": other}))
    finding = found.rows[0].arrays[0].finding
    assert finding.tag == "scaled"
    assert finding.line is None
    np.testing.assert_allclose(finding.detail["factors"], 1 / factors, rtol=1e-6)


@pytest.mark.parametrize("kind", ["Conv2D", "Conv2DTranspose"])
def test_a_normed_kernel_is_read_as_the_other_files_kind(kind: str) -> None:
    """As many channels in as out, so that values alone say which axis is which."""
    size, direction = np.abs(drawn(5, 1, 1, 1)) + 1, drawn(5, 5, 3, 2, seed=1)
    normed = state_dict({"c.weight_g": size, "c.weight_v": direction})
    kernel = size * direction / np.sqrt(np.square(direction).sum(axis=(1, 2, 3), keepdims=True))

    def plain(array: Array) -> Network:
        return keras(kind, 5, {"filters": 5, "kernel_size": [3, 2]}, {"kernel": array.transpose(2, 3, 1, 0)})

    for a, b in ((normed, plain(kernel)), (plain(kernel), normed)):
        found = diff(a, b)
        assert found.equal, found
        assert found.rows[0].line is not None
    for a, b in ((normed, plain(direction)), (plain(direction), normed)):
        finding = diff(a, b).rows[0].arrays[0].finding
        assert finding.status == "explained"
        assert finding.tag == "left out:weight_g", finding
