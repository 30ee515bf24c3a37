"""The layout detective: no false alarm on equal models, kinship told from chance, odd arrays and models survived."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnlens.cli.main import main
from cnnlens.differing.cause import tag_of
from cnnlens.differing.differ import diff
from cnnlens.differing.hypotheses.kinship import kinship, noise_level
from cnnlens.differing.moves import Chain, Flip, Reshape, Take, Transpose
from cnnlens.differing.proof import Line, identifier, proven, run, same, tiles
from cnnlens.differing.result import Diff
from cnnlens.errors import CnnlensError
from cnnlens.network.network import Network
from cnnlens.testing import NETWORKS, network
from tests.support.diff_models import (
    ARCHITECTURES,
    Array,
    Arrays,
    keras_model,
    replay,
    state_dict,
    torch_arrays,
    torch_model,
    weights,
)
from tests.support.random_networks import random_network


def changed(arrays: Arrays, change: Callable[[str, str, Array], Array]) -> Arrays:
    return {name: {role: change(name, role, array) for role, array in roles.items()} for name, roles in arrays.items()}


def statuses(found: Diff, role: str | None = None) -> list[str]:
    return [one.finding.status for row in found.rows for one in row.arrays if role in (None, one.role)]


# -- equal models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_random_networks_equal_themselves(seed: int) -> None:
    found = diff(random_network(seed), random_network(seed))
    assert found.equal, found
    assert set(statuses(found)) <= {"equal"}


@pytest.mark.parametrize("name", NETWORKS)
def test_small_networks_equal_themselves(name: str) -> None:
    found = diff(network(name), network(name))
    assert found.equal
    assert set(statuses(found)) == {"equal"}


@pytest.mark.slow
@pytest.mark.parametrize("size", ARCHITECTURES)
@pytest.mark.parametrize("seed", range(5))
def test_a_keras_model_equals_its_state_dict(size: str, seed: int) -> None:
    of = ARCHITECTURES[size]
    arrays = weights(of, seed)
    models = keras_model(of, arrays), torch_model(torch_arrays(of, arrays))
    for a, b in (models, models[::-1]):
        found = diff(a, b)
        assert found.equal, found
        assert set(statuses(found)) == {"equal"}
        assert found.verdict[0].startswith("equal: every array of A is B's")
        for row in found.to_json()["rows"]:
            for one in row["arrays"]:
                made = replay(one["line"], {one["b"]: b[row["b"]].weights[one["b"]]})
                np.testing.assert_array_equal(made, a[row["a"]].weights[one["a"]])


@pytest.mark.parametrize("size", ARCHITECTURES)
def test_layers_in_another_order_and_under_other_names_are_found(size: str) -> None:
    of = ARCHITECTURES[size]
    for seed in range(5):
        arrays = weights(of, seed)
        right = torch_arrays(of, arrays)
        order = np.random.default_rng(seed).permutation(list(right))
        found = diff(keras_model(of, arrays), torch_model({str(name): right[str(name)] for name in order}))
        assert found.equal, found


def test_a_copy_in_half_precision_is_the_same_model() -> None:
    of = ARCHITECTURES["different"]
    arrays = weights(of, 0)
    half = changed(torch_arrays(of, arrays), lambda name, role, array: array.astype(np.float16))
    for a, b in ((keras_model(of, arrays), torch_model(half)), (torch_model(half), keras_model(of, arrays))):
        found = diff(a, b)
        assert found.equal, found
        assert found.verdict[0].startswith("the same model, to float16's rounding")
        assert set(statuses(found)) == {"equal, stored otherwise"}


def test_fresh_models_tell_no_tales() -> None:
    """Zeros, ones and kernels of one value are equal under every hypothesis: none may be claimed."""
    of = ARCHITECTURES["square"]
    arrays = changed(weights(of, 0), lambda name, role, array: np.full_like(array, 0.25 if role == "kernel" else 1))
    assert diff(keras_model(of, arrays), torch_model(torch_arrays(of, arrays))).equal
    other = changed(arrays, lambda name, role, array: array * 2)
    found = diff(keras_model(of, arrays), keras_model(of, other))
    assert set(statuses(found)) == {"differs"}


# -- ambiguous ---------------------------------------------------------------------------------------------------------


def test_a_kernel_whose_halves_mirror_each_other_is_ambiguous() -> None:
    of = ARCHITECTURES["square"]
    arrays = weights(of, 3)
    kernel = arrays["conv1"]["kernel"]
    arrays["conv1"]["kernel"] = (kernel + kernel[::-1, ::-1]).astype(np.float32)  # turned by half it is itself
    wrong = torch_arrays(of, arrays)
    wrong["conv1"]["kernel"] = wrong["conv1"]["kernel"][:, :, ::-1]
    found = diff(keras_model(of, arrays), torch_model(wrong))
    one = next(row for row in found.rows if row.a == "conv1").arrays[0].finding
    assert one.status == "ambiguous"
    assert {"flip:H", "flip:W"} <= {tag_of(causes) for causes in one.possible}
    assert one.line is not None  # whichever it was, the line turns B's into A's
    # Where the other layers show which axis it was, it is no longer open.
    for name in ("conv0", "conv2", "depth"):
        wrong[name]["kernel"] = wrong[name]["kernel"][:, :, ::-1]
    found = diff(keras_model(of, arrays), torch_model(wrong))
    assert [one.finding.tag for row in found.rows for one in row.arrays if one.role == "kernel"][:4] == ["flip:H"] * 4
    assert "every convolution's kernel: flipped on H" in " ".join(found.verdict)


def test_what_speaks_for_two_explanations_alike_settles_none() -> None:
    of = ARCHITECTURES["square"]
    arrays = weights(of, 3)
    kernel = arrays["conv1"]["kernel"]
    arrays["conv1"]["kernel"] = (kernel + kernel[::-1, ::-1]).astype(np.float32)
    wrong = torch_arrays(of, arrays)
    wrong["conv1"]["kernel"] = wrong["conv1"]["kernel"][:, :, ::-1]

    def of_conv1() -> Any:
        found = diff(keras_model(of, arrays), torch_model(wrong))
        return next(row for row in found.rows if row.a == "conv1").arrays[0]

    wrong["conv0"]["kernel"] = wrong["conv0"]["kernel"][:, :, ::-1]
    assert of_conv1().finding.tag == "flip:H"  # one is sure, and none speaks against it
    wrong["conv2"]["kernel"] = wrong["conv2"]["kernel"][:, :, :, ::-1]
    one = of_conv1()
    assert one.finding.status == "ambiguous"  # one for each
    assert "flipped on H or flipped on W" in one.explanation
    wrong["conv0"]["kernel"] = wrong["conv0"]["kernel"][:, :, ::-1]  # right again
    assert of_conv1().finding.status == "explained"
    assert of_conv1().finding.tag == "flip:W"


def test_what_cannot_show_a_mistake_is_equal() -> None:
    """A kernel of one tap is the same flipped, and a symmetric one the same swapped."""
    of = ARCHITECTURES["points"]
    arrays = weights(of, 1)
    right = torch_arrays(of, arrays)
    wrong = changed(right, lambda name, role, array: array.swapaxes(2, 3) if array.ndim == 4 else array)
    found = diff(keras_model(of, arrays), torch_model(wrong))
    tags = {row.a: one.finding.tag for row in found.rows for one in row.arrays if one.role == "kernel"}
    assert tags == {
        "conv0": "same",
        "conv1": "hw",
        "conv2": "same",
        "depth": "same",
        "dense0": "same",
        "dense1": "same",
    }


# -- rounding, and what is no number -----------------------------------------------------------------------------------


def test_kernels_apart_by_the_last_places_are_equal_to_rounding() -> None:
    of = ARCHITECTURES["different"]
    arrays = weights(of, 0)
    right = torch_arrays(of, arrays)
    random = np.random.default_rng(0)
    near = changed(right, lambda name, role, x: np.nextafter(x, random.choice([-9, 9], x.shape).astype(np.float32)))
    wide = changed(right, lambda name, role, x: x.astype(np.float64) * (1 + random.uniform(-1, 1, x.shape) * 2.0**-26))
    for other in (near, wide):
        for a, b in ((keras_model(of, arrays), torch_model(other)), (torch_model(other), keras_model(of, arrays))):
            found = diff(a, b)
            assert found.equal, found
            assert found.verdict[0].startswith("the same model, to float32's rounding")
            assert "fine-tuned" not in str(found)
            for row in found.to_json()["rows"]:
                for one in row["arrays"]:
                    made = replay(one["line"], {one["b"]: b[row["b"]].weights[one["b"]]})
                    np.testing.assert_allclose(made, a[row["a"]].weights[one["a"]], rtol=5e-7)


@pytest.mark.parametrize("step", [1e-5, 1e-6])
def test_what_training_moves_is_no_rounding(step: float) -> None:
    of = ARCHITECTURES["different"]
    arrays = weights(of, 0)
    random = np.random.default_rng(0)
    tuned = changed(arrays, lambda name, role, x: (x + step * random.standard_normal(x.shape)).astype(np.float32))
    found = diff(keras_model(of, arrays), keras_model(of, tuned))
    assert not found.equal
    assert set(statuses(found, "kernel")) == {"fine-tuned"}


def test_a_format_that_the_file_keeps_is_named_before_one_that_fits() -> None:
    """Four numbers whose float16 and bfloat16 roundings are the same."""
    exact = np.array([1.0001, -0.50002, 2.00005, 0.250001], np.float32)
    kernel = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    bits = (kernel.view(np.uint32) + 0x8000 & 0xFFFF0000).view(np.float32)
    rounded = state_dict({"c.weight": bits, "c.bias": exact.astype(np.float16).astype(np.float32)})
    for weight in rounded.layers[0].stored.values():
        object.__setattr__(weight.stored, "stored_dtype", "bfloat16")
    found = diff(state_dict({"c.weight": kernel, "c.bias": exact}), rounded)
    assert found.rows[0].arrays[1].explanation == "equal to bfloat16's rounding, as B stores it", found


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("count", [1, 40])
def test_what_is_no_number_fits_nothing(value: float, count: int) -> None:
    of = ARCHITECTURES["different"]
    arrays = weights(of, 0)
    right = torch_arrays(of, arrays)
    spoilt = changed(right, lambda name, role, array: array)
    kernel = spoilt["conv1"]["kernel"].copy()
    kernel.reshape(-1)[np.random.default_rng(0).permutation(kernel.size)[:count]] = value
    spoilt["conv1"]["kernel"] = kernel
    for a, b, side in (
        (keras_model(of, arrays), torch_model(spoilt), "B"),
        (torch_model(spoilt), keras_model(of, arrays), "A"),
    ):
        found = diff(a, b)
        assert not found.equal
        (one,) = (one for row in found.rows for one in row.arrays if not one.finding.equal)
        assert one.finding.status == "differs"
        said = f"{count} number{'s' * (count > 1)} NaN or infinite in {side}"
        assert said in one.explanation, one.explanation
    assert diff(keras_model(of, arrays), torch_model(right)).equal
    assert diff(torch_model(spoilt), torch_model(spoilt)).equal


def test_numbers_too_large_for_a_narrow_file_are_its_infinities() -> None:
    kernel = np.random.default_rng(0).standard_normal((7, 5, 3, 2)).astype(np.float32)
    kernel[2, 3] *= 1e6
    with np.errstate(over="ignore"):
        half = kernel.astype(np.float16)
    found = diff(state_dict({"c.weight": kernel}), state_dict({"c.weight": half}))
    assert found.rows[0].explanation == "kernel: equal to float16's rounding, as B stores it", found


def test_as_many_steps_as_numbers_explain_nothing() -> None:
    """Whole numbers and a step for each row of one number: anything would be that."""
    random = np.random.default_rng(0)
    x = random.uniform(1, 2, (9, 1)).astype(np.float32)
    found = diff(state_dict({"c.weight": x}), state_dict({"c.weight": np.rint(x * 40).astype(np.int8)}))
    assert "int8" not in str(found.rows[0].explanation), found


def test_ones_in_two_vectors_are_not_exchanged() -> None:
    """A's gamma is all ones as B's variance is, and nothing took another's place."""
    ones = np.ones(6, np.float32)
    random = np.random.default_rng(0)
    gamma, variance = (random.uniform(0.5, 1.5, 6).astype(np.float32) for _ in range(2))
    names = ("weight", "bias", "running_mean", "running_var")

    def norm(*arrays: Array) -> Network:
        return state_dict({f"n.{name}": array for name, array in zip(names, arrays, strict=True)})

    zeros = np.zeros(6, np.float32)
    found = diff(norm(ones, zeros, zeros, variance), norm(gamma, zeros, zeros, ones))
    assert "exchanged" not in str(found)
    found = diff(norm(ones, zeros, zeros, variance), norm(variance, zeros, zeros, ones))
    assert "exchanged: A's gamma is B's moving_variance" in str(found)
    assert "exchanged: A's moving_variance is B's gamma" in str(found)


# -- kinship -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("size", ARCHITECTURES)
@pytest.mark.parametrize("seed", range(8))
def test_two_trainings_of_one_architecture(size: str, seed: int) -> None:
    of = ARCHITECTURES[size]
    one, two = weights(of, seed), weights(of, 1000 + seed)
    for a, b in (
        (keras_model(of, one), keras_model(of, two)),
        (keras_model(of, one), torch_model(torch_arrays(of, two))),
    ):
        found = diff(a, b)
        assert found.verdict[0].startswith("another model"), found.verdict
        assert "explained" not in statuses(found), found
        assert "fine-tuned" not in statuses(found), found
        assert all(line is None for line in (row.line for row in found.rows))


@pytest.mark.slow
@pytest.mark.parametrize("size", ARCHITECTURES)
@pytest.mark.parametrize("step", [1e-4, 1e-2, 0.1, 0.3])
def test_trained_further(size: str, step: float) -> None:
    of = ARCHITECTURES[size]
    random = np.random.default_rng(7)
    arrays = weights(of, 5)
    tuned = changed(
        arrays,
        lambda name, role, array: (array + step * array.std() * random.standard_normal(array.shape)).astype(np.float32),
    )
    found = diff(keras_model(of, arrays), torch_model(torch_arrays(of, tuned)))
    assert set(statuses(found, "kernel")) == {"fine-tuned"}, found
    assert set(statuses(found)) == {"fine-tuned"}, found
    assert found.verdict[0].startswith("fine-tuned")
    for row in found.rows:
        for one in row.arrays:
            if one.role == "kernel":
                old, new = arrays[str(row.a)]["kernel"], tuned[str(row.a)]["kernel"]
                distance = float(np.linalg.norm(old - new) / np.linalg.norm(old))
                assert one.finding.residual == pytest.approx(distance, rel=1e-3)


def test_trained_further_and_flipped() -> None:
    of = ARCHITECTURES["wide"]
    arrays = weights(of, 5)
    random = np.random.default_rng(7)
    right = torch_arrays(of, arrays)
    wrong = changed(
        right,
        lambda name, role, array: (
            array[:, :, ::-1, ::-1] + np.float32(0.01) * random.standard_normal(array.shape).astype(np.float32)
            if array.ndim == 4
            else array
        ),
    )
    found = diff(keras_model(of, arrays), torch_model(wrong))
    convolutions = [one.finding for row in found.rows for one in row.arrays if len(one.shape_a or ()) == 4]
    assert {one.tag for one in convolutions} == {"flip:HW+fine-tuned"}


@pytest.mark.slow
def test_chance_reaches_the_noise_level_as_seldom_as_said() -> None:
    random = np.random.default_rng(0)
    for count in (30, 200):
        level = noise_level(count)
        hits = sum(kinship(random.standard_normal(count), random.standard_normal(count)).related for _ in range(3000))
        assert hits == 0  # at one in a million
        many = random.standard_normal((20_000, count))
        other = random.standard_normal((20_000, count))
        many, other = (z - z.mean(axis=1, keepdims=True) for z in (many, other))
        found = np.abs((many * other).sum(axis=1)) / np.sqrt((many**2).sum(axis=1) * (other**2).sum(axis=1))
        assert found.max() < level < 1
        assert found.max() > 0.7 * level  # and the level is no wall that nothing comes near


# -- folded batch norms ------------------------------------------------------------------------------------------------


def folded(arrays: Arrays, epsilon: float) -> Arrays:
    found: Arrays = {}
    for name, roles in arrays.items():
        if name.startswith("norm") and name != "normflat":
            host = f"conv{name[4:]}"
            wide = {role: array.astype(np.float64) for role, array in roles.items()}
            factor = wide["gamma"] / np.sqrt(wide["moving_variance"] + epsilon)
            bias = wide["beta"] + (arrays[host]["bias"] - wide["moving_mean"]) * factor
            found[host] = {
                "kernel": (arrays[host]["kernel"] * factor).astype(np.float32),
                "bias": bias.astype(np.float32),
            }
        else:
            found[name] = roles
    return found


@pytest.mark.slow
@pytest.mark.parametrize("size", ARCHITECTURES)
@pytest.mark.parametrize("epsilon", [1e-3, 1e-5, 1e-6, 2e-4])
def test_folded_batch_norms(size: str, epsilon: float) -> None:
    of = ARCHITECTURES[size]
    for seed in range(3):
        arrays = weights(of, seed)
        whole, merged = keras_model(of, arrays), torch_model(torch_arrays(of, folded(arrays, epsilon)))
        for a, b, side in ((whole, merged, "B"), (merged, whole, "A")):
            found = diff(a, b)
            assert not found.equal
            kernels = [
                (row, one)
                for row in found.rows
                for one in row.arrays
                if one.finding.tag == "folded" and one.role == "kernel"
            ]
            assert len(kernels) == 3, found
            for row, one in kernels:
                options = [one.finding.detail["epsilon"], *one.finding.detail["alike"]]
                assert any(abs(option - epsilon) <= 0.02 * epsilon for option in options), (options, epsilon)
                assert f"folded into {side}'s kernel" in one.explanation
                assert one.finding.line is not None
                assert row.arrays[1].finding.tag == "folded"  # the bias
                assert row.arrays[1].finding.line is not None
            lone = [row for row in found.rows if row.a is None or row.b is None]
            assert [row.status for row in lone] == ["explained"] * 3


def assert_bias_is_told(of: Any, arrays: Arrays, merged: Arrays) -> None:
    """Whichever side was folded, the kernel is what the fold gives, and the bias is not."""
    models = keras_model(of, arrays), torch_model(torch_arrays(of, merged))
    for a, b in (models, models[::-1]):
        found = diff(a, b)
        row = next(row for row in found.rows if "conv1" in (row.a, row.b))
        assert row.arrays[0].finding.tag == "folded"
        assert row.arrays[1].finding.status == "differs"
        assert "not what the fold gives" in row.arrays[1].explanation


def test_a_fold_that_forgot_the_bias_is_told() -> None:
    of = ARCHITECTURES["wide"]
    arrays = weights(of, 0)
    merged = folded(arrays, 1e-3)
    merged["conv1"]["bias"] = arrays["conv1"]["bias"]
    assert_bias_is_told(of, arrays, merged)


def folded_behind(of: Any, arrays: Arrays, epsilon: float) -> Arrays:
    """The first two batch norms went into the convolutions behind them."""
    found = {name: roles for name, roles in arrays.items() if name not in ("norm0", "norm1")}
    for norm, host in (("norm0", "conv1"), ("norm1", "conv2")):
        wide = {role: array.astype(np.float64) for role, array in arrays[norm].items()}
        factor = wide["gamma"] / np.sqrt(wide["moving_variance"] + epsilon)
        shift = wide["beta"] - wide["moving_mean"] * factor
        kernel = arrays[host]["kernel"].astype(np.float64)
        found[host] = {
            "kernel": (kernel * factor[:, None]).astype(np.float32),
            "bias": (arrays[host]["bias"] + np.einsum("hwio,i->o", kernel, shift)).astype(np.float32),
        }
    return found


@pytest.mark.slow
@pytest.mark.parametrize("size", ARCHITECTURES)
@pytest.mark.parametrize("epsilon", [1e-3, 1e-5])
def test_batch_norms_folded_into_the_layer_behind(size: str, epsilon: float) -> None:
    of = ARCHITECTURES[size]
    for seed in range(3):
        arrays = weights(of, seed)
        merged = folded_behind(of, arrays, epsilon)
        models = keras_model(of, arrays), torch_model(torch_arrays(of, merged))
        for a, b, side in ((*models, "B"), (*models[::-1], "A")):
            found = diff(a, b)
            for host, norm in (("conv1", "norm0"), ("conv2", "norm1")):
                row = next(row for row in found.rows if host in (row.a, row.b))
                kernel, bias = row.arrays
                assert kernel.finding.tag == bias.finding.tag == "folded", found
                assert f"'{norm}' folded into {side}'s kernel behind it" in kernel.explanation
                assert kernel.finding.detail["axis"] == 1
                assert epsilon in [kernel.finding.detail["epsilon"], *kernel.finding.detail["alike"]]
                assert kernel.finding.line is not None
                assert bias.finding.status == "explained"
                assert bias.finding.line is not None
                assert (".sum(" in bias.finding.line.expression) is True
            lone = [row for row in found.rows if row.a is None or row.b is None]
            assert [row.status for row in lone] == ["explained"] * 2


def test_a_fold_behind_that_forgot_the_shift_is_told() -> None:
    of = ARCHITECTURES["different"]
    arrays = weights(of, 1)
    merged = folded_behind(of, arrays, 1e-3)
    merged["conv1"]["bias"] = arrays["conv1"]["bias"]
    assert_bias_is_told(of, arrays, merged)


@pytest.mark.parametrize("axis", [0, 1])
def test_one_channel_that_was_scaled_is_found_wherever_it_is(axis: int) -> None:
    kernel = np.random.default_rng(3).standard_normal((64, 48, 3, 3)).astype(np.float32)
    for place in (1, 17, 47):
        other = kernel.copy()
        np.moveaxis(other, axis, 0)[place] *= 2
        finding = diff({"a.weight": kernel}, {"a.weight": other}).rows[0].arrays[0].finding
        assert finding.tag == "scaled", finding
        assert finding.line is not None
        expected = [0.5 if one == place else 1.0 for one in range(kernel.shape[axis])]
        np.testing.assert_allclose(finding.detail["factors"], expected, rtol=1e-6)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 3, 1, 0), (3, 0, 2, 1)])
@pytest.mark.parametrize("shape", [(300, 70, 3, 5), (2, 3, 200, 260), (1, 1, 1, 90000), (0, 3, 2, 1), (40, 1, 30, 3)])
def test_tiles_cover_every_element_once(shape: tuple[int, ...], order: tuple[int, ...]) -> None:
    x = np.zeros(shape, np.uint8)
    y = np.zeros([shape[axis] for axis in order], np.uint8).transpose(np.argsort(order))
    for piece in tiles(x, y, 1 << 12):
        x[piece] += 1
    assert (x == 1).all()


# -- arrays in memory --------------------------------------------------------------------------------------------------


def test_a_mapping_of_arrays_is_a_state_dict() -> None:
    of = ARCHITECTURES["different"]
    arrays = weights(of, 0)
    held = torch_model(torch_arrays(of, arrays))
    mapping: dict[str, Any] = {
        f"{layer.name}.{name}": array for layer in held.layers for name, array in layer.weights.items()
    }
    found = diff(keras_model(of, arrays), {**mapping, "step": 3})
    assert found.equal, found
    mapping["body.2.weight"] = mapping["body.2.weight"][..., ::-1]
    found = diff(keras_model(of, arrays), mapping)
    assert [row.a for row in found.rows if not row.equal] == ["conv1"]
    with pytest.raises(CnnlensError, match=r"a mapping of arrays by name was expected, .* and 'model' came"):
        diff(keras_model(of, arrays), {"model": mapping})


@pytest.mark.framework
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_modules_state_dict(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 2), torch.nn.BatchNorm2d(5), torch.nn.Conv2d(5, 4, 3))
    other = {name: tensor.to(getattr(torch, dtype)) if tensor.ndim else tensor
             for name, tensor in module.state_dict().items()}  # fmt: skip
    found = diff(module.state_dict(), other)
    assert len(found.rows) == 3
    assert found.equal, found
    other["2.weight"] = other["2.weight"].flip(3)
    found = diff(module.state_dict(), other)
    assert [row.a for row in found.rows if not row.equal] == ["2"]


# -- orders of channels ------------------------------------------------------------------------------------------------


def test_permuted_channels_that_the_next_layer_undoes() -> None:
    of = ARCHITECTURES["wide"]
    arrays = weights(of, 0)
    right = torch_arrays(of, arrays)
    order = np.random.default_rng(3).permutation(8)
    turned = {name: dict(roles) for name, roles in right.items()}
    for role in right["conv0"]:
        turned["conv0"][role] = right["conv0"][role][order]
    for role in right["norm0"]:
        turned["norm0"][role] = right["norm0"][role][order]
    turned["conv1"]["kernel"] = right["conv1"]["kernel"][:, order]
    found = diff(keras_model(of, arrays), torch_model(turned))
    kernel = found.rows[0].arrays[0].finding
    assert kernel.detail["undone"] is True
    assert kernel.detail["out_order"] == np.argsort(order).tolist()
    turned["conv1"]["kernel"] = right["conv1"]["kernel"]
    found = diff(keras_model(of, arrays), torch_model(turned))
    assert found.rows[0].arrays[0].finding.detail["undone"] is False
    assert "does not undo it" in found.rows[0].explanation


def test_long_orders_have_a_name_in_the_line_and_are_whole_in_the_data() -> None:
    arrays = {"a.weight": np.random.default_rng(0).standard_normal((40, 7, 3, 3)).astype(np.float32)}
    order = np.random.default_rng(1).permutation(40)
    found = diff(state_dict(arrays), state_dict({"b.weight": arrays["a.weight"][order]}))
    line = found.to_json()["rows"][0]["line"]
    assert line["text"] == "weight = weight[order]"
    assert len(line["names"]["order"]) == 40
    made = replay(line, {"weight": arrays["a.weight"][order]})
    np.testing.assert_array_equal(made, arrays["a.weight"])


def test_vectors_under_each_others_names() -> None:
    of = ARCHITECTURES["different"]
    arrays = weights(of, 0)
    wrong = torch_arrays(of, arrays)
    wrong["norm1"]["gamma"], wrong["norm1"]["beta"] = wrong["norm1"]["beta"], wrong["norm1"]["gamma"]
    found = diff(keras_model(of, arrays), torch_model(wrong))
    row = next(row for row in found.rows if row.a == "norm1")
    assert [one.finding.tag for one in row.arrays] == ["exchanged", "exchanged", "same", "same"]


# -- what does not fit -------------------------------------------------------------------------------------------------


def test_models_without_common_structure() -> None:
    random = np.random.default_rng(0)
    one = state_dict({"a.weight": random.standard_normal((5, 3, 2, 4)), "a.bias": random.standard_normal(5)})
    two = state_dict({"b.weight": random.standard_normal((70, 11)), "b.bias": random.standard_normal(70)})
    found = diff(one, two)
    assert not found.equal
    assert found.verdict[0].startswith("the models share no structure; nearest by size: 'a'")


def test_another_head() -> None:
    random = np.random.default_rng(0)
    body = {"a.weight": random.standard_normal((5, 3, 2, 4)), "a.bias": random.standard_normal(5)}
    heads = [
        {"h.weight": random.standard_normal((units, 50)), "h.bias": random.standard_normal(units)} for units in (10, 7)
    ]
    found = diff(state_dict({**body, **heads[0]}), state_dict({**body, **heads[1]}))
    assert [row.status for row in found.rows] == ["equal", "another shape"]
    assert "(10, 50)" in found.rows[1].explanation
    assert "(7, 50)" in found.rows[1].explanation


def test_a_missing_bias() -> None:
    of = ARCHITECTURES["different"]
    arrays = weights(of, 0)
    without = {name: dict(roles) for name, roles in arrays.items()}
    del without["conv1"]["bias"]
    found = diff(keras_model(of, arrays), keras_model(of, without))
    row = next(row for row in found.rows if row.a == "conv1")
    assert row.status == "missing"
    assert "B has no bias" in row.explanation
    arrays["conv1"]["bias"] = np.zeros_like(arrays["conv1"]["bias"])
    assert diff(keras_model(of, arrays), keras_model(of, without)).equal  # zeros are what no bias is


def test_separable_convolution_and_the_two_that_it_is() -> None:
    def keras(arrays: dict[str, Array]) -> Network:
        from cnnlens.files.keras.network import keras_network
        from cnnlens.testing import MemoryModel

        entries = [
            {
                "module": "keras.layers",
                "class_name": "InputLayer",
                "config": {"batch_shape": [None, 9, 8, 4], "name": "i"},
            },
            {
                "module": "keras.layers",
                "class_name": "SeparableConv2D",
                "config": {"name": "s", "filters": 5, "kernel_size": [3, 2], "depth_multiplier": 2},
            },
        ]
        config = {"class_name": "Sequential", "config": {"name": "m", "layers": entries}}
        return keras_network(MemoryModel(config, {("s",): arrays}))  # type: ignore[arg-type]

    random = np.random.default_rng(0)
    depth = random.standard_normal((3, 2, 4, 2)).astype(np.float32)
    point = random.standard_normal((1, 1, 8, 5)).astype(np.float32)
    bias = random.standard_normal(5).astype(np.float32)
    a = keras({"depthwise_kernel": depth, "pointwise_kernel": point, "bias": bias})
    b = state_dict({
        "first.weight": depth.transpose(2, 3, 0, 1).reshape(8, 1, 3, 2),
        "second.weight": point.transpose(3, 2, 0, 1),
        "second.bias": bias,
    })  # fmt: skip
    for one, two in ((a, b), (b, a)):
        found = diff(one, two)
        assert found.equal, found
    assert [row.a for row in diff(a, b).rows] == ["s (depthwise)", "s (pointwise)"]


def test_a_transposed_convolution_in_a_state_dict_is_no_swap() -> None:
    kernel = np.random.default_rng(0).standard_normal((5, 5, 3, 3)).astype(np.float32)

    def keras(array: Array) -> Network:
        from cnnlens.files.keras.network import keras_network
        from cnnlens.testing import MemoryModel

        entries = [
            {
                "module": "keras.layers",
                "class_name": "InputLayer",
                "config": {"batch_shape": [None, 9, 8, 5], "name": "i"},
            },
            {
                "module": "keras.layers",
                "class_name": "Conv2DTranspose",
                "config": {"name": "t", "filters": 5, "kernel_size": [3, 3], "use_bias": False},
            },
        ]
        config = {"class_name": "Sequential", "config": {"name": "m", "layers": entries}}
        return keras_network(MemoryModel(config, {("t",): {"kernel": array}}))  # type: ignore[arg-type]

    found = diff(
        keras(kernel.transpose(2, 3, 1, 0)), state_dict({"t.weight": kernel})
    )  # (H, W, out, in), (in, out, H, W)
    assert found.equal, found


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int32", "uint8", "bool"])
def test_dtypes(dtype: str) -> None:
    array = (np.random.default_rng(0).standard_normal((4, 3, 2)) * 10).astype(dtype)
    one = state_dict({"a.weight": array})
    assert diff(one, state_dict({"a.weight": array.copy()})).equal
    other = array.copy()
    other[0, 0, 0] = not other[0, 0, 0] if dtype == "bool" else other[0, 0, 0] + 1
    assert not diff(one, state_dict({"a.weight": other})).equal


@pytest.mark.parametrize("channels", [False, True])
def test_a_file_that_keeps_levels_of_int8(channels: bool) -> None:
    kernel = np.random.default_rng(0).standard_normal((6, 5, 3, 3)).astype(np.float32)
    kernel *= np.linspace(0.2, 3, 6, dtype=np.float32).reshape(6, 1, 1, 1)
    largest = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True) if channels else np.abs(kernel).max()
    step = largest / 127
    levels = np.round(kernel / step).astype(np.int8)
    found = diff(state_dict({"a.weight": kernel}), state_dict({"a.weight": levels[:, :, ::-1]}))
    one = found.to_json()["rows"][0]["arrays"][0]
    assert one["tag"] == "flip:H+rounded:int8"
    made = replay(one["line"], {"weight": levels[:, :, ::-1]})
    assert (np.abs(made - kernel) <= 0.56 * step).all()


def test_odd_arrays() -> None:
    random = np.random.default_rng(0)
    kernel = random.standard_normal((6, 5, 3, 3)).astype(np.float32)
    kernel[0, 0, 0, 0] = np.nan
    kernel[1, 1, 1, 1] = np.inf
    arrays = {
        "a.weight": kernel,
        "b.scalar": np.array(3.0, np.float32),
        "c.empty": np.zeros((0, 4), np.float32),
        "d.one": np.array([2.5], np.float32),
        "e.nothing": np.full((3, 3), np.nan, np.float32),
    }
    assert diff(state_dict(arrays), state_dict({name: np.array(array) for name, array in arrays.items()})).equal
    turned = {**arrays, "a.weight": kernel[:, :, ::-1]}
    found = diff(state_dict(arrays), state_dict(turned))
    assert found.rows[0].arrays[0].finding.tag == "flip:H"
    for change in (lambda x: x + 1, lambda x: x * np.nan, lambda x: x[::-1], lambda x: np.zeros_like(x)):
        other = {name: np.asarray(change(np.atleast_1d(array))) for name, array in arrays.items()}
        json.dumps(diff(state_dict(arrays), state_dict(other)).to_json(), allow_nan=False)
    assert diff(state_dict({}), state_dict({})).equal


def test_names_out_of_a_file_never_run() -> None:
    """A line's variables are made of names that a stranger chose."""
    kernel = np.random.default_rng(0).standard_normal((6, 5, 3, 3)).astype(np.float32)
    for name in ("__import__('os').abort()", "np", "lambda", "a b\x1b[31m", "1", "", "weight = 1; x"):
        one, two = state_dict({f"a.{name}": kernel}), state_dict({f"b.{name}": kernel[:, :, ::-1]})
        found = diff(one, two)
        assert found.rows[0].line is not None
        assert found.rows[0].line.target.isidentifier()
        assert "\x1b" not in str(found)
        assert identifier(name).isidentifier()


# -- lines and moves ---------------------------------------------------------------------------------------------------


def test_a_line_that_does_not_keep_its_promise_does_not_exist() -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert proven(Line("a", "b.T"), {"b": array.T}, array) is not None
    assert proven(Line("a", "b.T"), {"b": array.T.copy() + 1e-9}, array) is None
    assert proven(Line("a", "b.reshape(7)"), {"b": array}, array) is None
    assert proven(Line("a", "open('x')"), {"b": array}, array) is None  # no built-in names are in reach
    assert run("np.flip(b)", {"b": array})[0, 0] == 5


def test_the_first_line_of_a_process_may_hold_a_sum() -> None:
    code = "import numpy as np; from cnnlens.differing.proof import run; print(run('x.sum()', {'x': np.arange(4)}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "6\n"


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_chain_its_text_and_its_indices_say_the_same(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    chain = Chain(shape)
    plain: list[Any] = []
    for _ in range(data.draw(st.integers(0, 6))):
        now = chain.target
        kind = data.draw(st.sampled_from(["reshape", "transpose", "flip", "take"]))
        axes = range(len(now))
        if kind == "reshape":
            move: Any = Reshape(tuple(data.draw(st.permutations(now))))
        elif kind == "transpose":
            move = Transpose(tuple(data.draw(st.permutations(axes))))
        elif kind == "flip":
            move = Flip(tuple(sorted(data.draw(st.sets(st.sampled_from(axes), min_size=1)))))
        else:
            axis = data.draw(st.sampled_from(axes))
            move = Take(axis, tuple(data.draw(st.permutations(range(now[axis])))))
        plain.append(move)
        chain = chain.then(move)
    array = np.arange(int(np.prod(shape))).reshape(shape)
    expected = Chain(shape, tuple(plain)).apply(array)
    np.testing.assert_array_equal(chain.apply(array), expected)
    np.testing.assert_array_equal(array.reshape(-1)[chain.back(np.arange(array.size))], expected.reshape(-1))
    np.testing.assert_array_equal(chain.inverse().apply(expected), array)
    text, names = chain.text("x")
    np.testing.assert_array_equal(run(text, {"x": array, **{n: np.array(v) for n, v in names.items()}}), expected)


def test_comparison_in_blocks_sees_every_element() -> None:
    random = np.random.default_rng(0)
    array = random.standard_normal((70, 90, 3, 30)).astype(np.float32)
    for view in (array, array.transpose(2, 3, 1, 0), array[:, ::-1], array.transpose(3, 2, 0, 1)[::-1]):
        copy = np.array(view, order="C")
        assert same(view, copy)
        for _ in range(20):
            place = tuple(int(random.integers(size)) for size in copy.shape)
            copy[place] += 1
            assert not same(view, copy)
            assert not same(copy, view)
            copy[place] = view[place]
    nan = array.copy()
    nan[3, 4, 1, 2] = np.nan
    assert same(nan, nan.copy())
    assert not same(nan, array)


# -- the command -------------------------------------------------------------------------------------------------------


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.numpy import save_file

    kernel = np.random.default_rng(0).standard_normal((6, 5, 3, 3)).astype(np.float32)
    save_file({"a.weight": kernel}, tmp_path / "a.safetensors")
    save_file({"b.weight": np.ascontiguousarray(kernel[:, :, ::-1, ::-1])}, tmp_path / "b.safetensors")
    a, b = str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")
    assert main(["diff", a, a]) == 0
    assert "equal" in capsys.readouterr().out
    assert main(["diff", a, b]) == 1
    shown = capsys.readouterr().out
    assert "flipped on H and W" in shown
    assert "weight = weight[:, :, ::-1, ::-1]" in shown
    assert main(["diff", a, b, "--json", "-o", str(tmp_path / "found.json")]) == 1
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["rows"][0]["line"]["executable"] == "weight = weight[:, :, ::-1, ::-1]"
    assert main(["diff", a, a, "--inputs", "random"]) == 2  # what was asked could not be told
    assert "need a graph" in capsys.readouterr().out
