"""Faults of windows, of pooling, of normalisation and of layers that only move values, each found under its name."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.audited import Audited, expect


@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2D", "MaxPooling2D", "AveragePooling2D"])
@pytest.mark.parametrize("side", [8, 14, 15])
def test_padding_on_the_wrong_side(kind: str, side: int) -> None:
    size = {"pool_size": 3} if "Pooling" in kind else {"kernel_size": 3}
    filters = {"filters": 5} if kind == "Conv2D" else {}
    layer = Audited(kind, (2, side, 8, 4), strides=2, padding="same", **size, **filters)
    value = -np.inf if kind == "MaxPooling2D" else 0.0
    padded = np.pad(layer.x, ((0, 0), (1, side % 2), (1, 0), (0, 0)), constant_values=value)
    output = layer.run(x=padded, padding="valid")
    if kind == "AveragePooling2D":
        output /= layer.run(x=np.pad(np.ones_like(layer.x), ((0, 0), (1, side % 2), (1, 0), (0, 0))), padding="valid")
    said = "the window is shifted along" + (" the width" if side % 2 else " the height by 1")
    expect(layer, output, said, "the width by 1")


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("kind", ["MaxPooling2D", "AveragePooling2D"])
def test_pooling_window_shifted_by_one(kind: str, padding: str) -> None:
    layer = Audited(kind, (3, 10, 9, 5), pool_size=2, strides=2, padding=padding)
    x = np.roll(layer.x, -1, axis=1)
    value = -np.inf if kind == "MaxPooling2D" else 0.0
    x[:, -1] = value
    if padding == "same" and kind == "AveragePooling2D":
        x[:, -1] = layer.x[:, -1]  # a mean over real cells alone
    expect(layer, layer.run(x=x), "the window is shifted along the height by 1")


@pytest.mark.parametrize("side", [6, 8])
def test_average_pooling_edges(side: int) -> None:
    layer = Audited("AveragePooling2D", (2, side, 8, 3), pool_size=3, strides=2, padding="same")
    wide = ((0, 0), (0, 1), (0, 1), (0, 0))
    zeros = layer.run(x=np.pad(layer.x, wide), padding="valid")
    expect(layer, zeros, "counts the padding as zeros")
    edges = layer.run(x=np.pad(layer.x, wide, mode="edge"), padding="valid")
    expect(layer, edges, "repeats the edge")
    expect(
        layer,
        Audited("MaxPooling2D", (2, side, 8, 3), pool_size=3, strides=2, padding="same").run(x=layer.x),
        "maximum",
    )


def test_global_pooling() -> None:
    layer = Audited("GlobalAveragePooling2D", (3, 7, 6, 5))
    expect(layer, layer.x.max(axis=(1, 2)), "the maximum was taken instead of the mean")
    expect(layer, layer.x.sum(axis=(1, 2)), "the sum was taken")


@pytest.mark.parametrize(("padding", "shift"), [("same", 1), ("valid", -1)])
def test_transposed_convolution_shifted(padding: str, shift: int) -> None:
    layer = Audited(
        "Conv2DTranspose", (2, 6, 7, 3), filters=5, kernel_size=3, strides=2, padding=padding, use_bias=False
    )
    full = layer.run(padding="valid")
    full = np.pad(full, ((0, 0), (2, 2), (2, 2), (0, 0)))
    height, width = layer.honest.shape[1:3]
    output = full[:, 2 + shift : 2 + shift + height, 2 : 2 + width]
    expect(layer, output, f"cut from the full result shifted along the height by {shift:+d}")


BATCH_NORMS = [(4, 6), (3, 5, 4, 7), (2, 9, 8, 33)]


@pytest.mark.parametrize("shape", BATCH_NORMS)
@pytest.mark.parametrize(("own", "other"), [(1e-3, 1e-5), (1e-5, 1e-3), (1e-3, 1e-4), (1e-3, 1.1e-3)])
def test_batch_norm_epsilon(shape: tuple[int, ...], own: float, other: float) -> None:
    layer = Audited("BatchNormalization", shape, epsilon=own)
    expect(layer, layer.run(epsilon=other), f"epsilon {other:g} where the model says {own:g}")


@pytest.mark.parametrize("shape", BATCH_NORMS)
def test_batch_norm_weights(shape: tuple[int, ...]) -> None:
    layer = Audited("BatchNormalization", shape)
    weights = layer.weights
    for changed, said in (
        ({"gamma": np.ones_like(weights["gamma"])}, "gamma was left out"),
        ({"beta": np.zeros_like(weights["beta"])}, "beta was left out"),
        ({"moving_mean": 0 * weights["moving_mean"]}, "the moving mean is not subtracted"),
        ({"gamma": weights["beta"], "beta": weights["gamma"]}, "gamma and beta are exchanged"),
        ({"moving_variance": weights["moving_variance"] ** 2}, "no square root"),
        ({"moving_variance": weights["moving_variance"] * np.float32(64 / 63)}, "n / (n - 1) for n = 64"),
    ):
        expect(layer, layer.run(changed), said)
    axes = tuple(range(len(shape) - 1))
    own = {"moving_mean": layer.x.mean(axes), "moving_variance": layer.x.var(axes)}
    expect(layer, layer.run(own), "training mode")


def test_batch_norm_channels_exchanged() -> None:
    layer = Audited("BatchNormalization", (3, 5, 4, 7))
    order = [0, 3, 2, 1, 4, 5, 6]
    expect(layer, layer.honest[..., order], "output channels 1 and 3 are exchanged")


@pytest.mark.parametrize("kind", ["LayerNormalization", "GroupNormalization"])
def test_other_normalisations(kind: str) -> None:
    groups = {"groups": 4} if kind.startswith("Group") else {}
    layer = Audited(kind, (3, 5, 6, 8), **groups)
    expect(layer, layer.run(epsilon=1e-6), "epsilon 1e-06 where the model says 0.001")
    expect(layer, layer.run({"beta": 0 * layer.weights["beta"]}), "beta was left out")
    if groups:
        expect(layer, layer.run(groups=2), "2 groups where the model says 4")


def test_shaping_and_merging() -> None:
    flatten = Audited("Flatten", (3, 5, 4, 7))
    expect(flatten, flatten.x.transpose(0, 3, 1, 2).reshape(3, -1), "flattened channels first")
    subtract = Audited("Subtract", [(3, 5, 4), (3, 5, 4)])
    expect(subtract, -subtract.honest, "order 2, 1")
    concatenate = Audited("Concatenate", [(3, 5, 4), (3, 5, 4), (3, 5, 4)])
    expect(concatenate, np.concatenate([concatenate.inputs[i] for i in (0, 2, 1)], -1), "order 1, 3, 2")
    add = Audited("Add", [(3, 5, 4), (3, 5, 4)])
    expect(add, add.honest / 2, "Average where the model says Add")
    up = Audited("UpSampling2D", (2, 5, 6, 3), size=2, interpolation="bilinear")
    expect(up, up.run(interpolation="nearest"), "interpolation nearest")
    moved = up.x
    for axis in (1, 2):  # cells begin at whole numbers where the model has their centres there
        size = moved.shape[axis]
        place = np.arange(2 * size) / 2
        low, share = place.astype(int), np.float32(place % 1).reshape(-1, *[1] * (3 - axis))
        next_one = moved.take(np.minimum(low + 1, size - 1), axis)
        moved = moved.take(low, axis) * (1 - share) + next_one * share
    expect(up, moved, "bilinear interpolation with pixel corners instead of pixel centres")


@pytest.mark.parametrize("groups", [2, 4])
def test_interleaved_input_channels_are_named_by_their_groups(groups: int) -> None:
    layer = Audited("Conv2D", (3, 7, 6, 8), filters=5, kernel_size=3)
    order = np.arange(8).reshape(groups, -1).T.reshape(-1)
    expect(layer, layer.run(x=layer.x[..., order]), f"the input's channels are interleaved by {groups} groups")


def test_a_norm_over_another_axis_of_the_same_size_is_named() -> None:
    layer = Audited("LayerNormalization", (3, 5, 4, 4), axis=-1)
    expect(layer, layer.run(axis=[2]), "normalised over axis 2 where the model says 3")


def test_a_factor_that_no_variance_can_have_is_a_factor() -> None:
    """Outputs a thousand times too large leave less than epsilon of the variance: that is looked for, and not found."""
    layer = Audited("BatchNormalization", (3, 5, 4, 6))
    found = layer.check(layer.honest * np.float32(1000))
    assert found.verdict == "wrong"
    assert "1000" in found.explanation
    assert "failed" not in found.explanation
