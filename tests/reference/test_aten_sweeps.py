"""Settings of PyTorch's operators, swept: strides, padding, dilation, groups, ceil mode, sizes, factors.

Hypothesis draws the settings; PyTorch in float64 says what is right, and what it refuses is not asked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tests.support.aten_calls import agrees, called, draw, near  # noqa: E402

aten = torch.ops.aten
swept = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much])
RANKS = st.sampled_from([1, 2, 3])


def a_size(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


def each(data: st.DataObject, rank: int, low: int, high: int) -> list[int]:
    return data.draw(st.lists(a_size(low, high), min_size=rank, max_size=rank))


def spatial(data: st.DataObject, rank: int, low: int) -> list[int]:
    """Sizes that all differ, or all the same."""
    first = data.draw(a_size(low, low + 6))
    return [first + 2 * axis for axis in range(rank)] if data.draw(st.booleans()) else [first] * rank


def channels(data: st.DataObject) -> tuple[int, int, int]:
    """Inputs, outputs and groups."""
    groups = data.draw(st.sampled_from([1, 1, 2, 3]))
    return groups * data.draw(a_size(1, 3)), groups * data.draw(a_size(1, 3)), groups


@swept
@given(st.data())
def test_convolutions(data: st.DataObject) -> None:
    rank = data.draw(RANKS)
    inputs, outputs, groups = channels(data)
    kernel, stride, dilation = each(data, rank, 1, 4), each(data, rank, 1, 3), each(data, rank, 1, 2)
    padding, sizes = each(data, rank, 0, 3), spatial(data, rank, 3)
    assume(all(n + 2 * p > (k - 1) * d for n, p, k, d in zip(sizes, padding, kernel, dilation, strict=True)))
    x, weight = draw(2, inputs, *sizes), draw(outputs, inputs // groups, *kernel, seed=1)
    bias = draw(outputs, seed=2) if data.draw(st.booleans()) else None
    op = getattr(aten, f"conv{rank}d").default
    agrees(called(op, x, weight, bias, stride, padding, dilation, groups))
    arguments = (x, weight, bias, stride, padding, dilation, False, [0] * rank, groups)
    agrees(called(aten.convolution.default, *arguments))


@swept
@given(st.data())
def test_convolutions_padded_by_name(data: st.DataObject) -> None:
    rank, name = data.draw(RANKS), data.draw(st.sampled_from(["same", "valid"]))
    kernel, dilation, sizes = each(data, rank, 1, 4), each(data, rank, 1, 2), spatial(data, rank, 7)
    op = getattr(aten, f"conv{rank}d").padding
    # PyTorch warns that an even kernel may copy the input; it is right all the same.
    agrees(called(op, draw(2, 3, *sizes), draw(4, 3, *kernel), draw(4), [1] * rank, name, dilation))


@swept
@given(st.data())
def test_transposed_convolutions(data: st.DataObject) -> None:
    rank = data.draw(RANKS)
    inputs, outputs, groups = channels(data)
    kernel, stride, dilation = each(data, rank, 1, 4), each(data, rank, 1, 3), each(data, rank, 1, 2)
    padding, extra, sizes = each(data, rank, 0, 2), each(data, rank, 0, 2), spatial(data, rank, 2)
    rows = list(zip(sizes, kernel, stride, dilation, padding, extra, strict=True))
    assume(all(e < max(s, d) and (n - 1) * s - 2 * p + d * (k - 1) + e + 1 > 0 for n, k, s, d, p, e in rows))
    x, weight = draw(2, inputs, *sizes), draw(inputs, outputs // groups, *kernel, seed=1)
    bias = draw(outputs, seed=2) if data.draw(st.booleans()) else None
    op = getattr(aten, f"conv_transpose{rank}d")
    op = op.default if rank == 1 else op.input
    agrees(called(op, x, weight, bias, stride, padding, extra, groups, dilation))
    arguments = (x, weight, bias, stride, padding, dilation, True, extra, groups)
    agrees(called(aten.convolution.default, *arguments))


@swept
@given(st.data())
def test_max_pooling(data: st.DataObject) -> None:
    rank = data.draw(RANKS)
    window, stride, dilation = each(data, rank, 1, 4), each(data, rank, 1, 3), each(data, rank, 1, 2)
    padding, sizes = [data.draw(a_size(0, k // 2)) for k in window], spatial(data, rank, 3)
    ceil = data.draw(st.booleans())
    assume(all(n + 2 * p > (k - 1) * d for n, p, k, d in zip(sizes, padding, window, dilation, strict=True)))
    op = getattr(aten, f"max_pool{rank}d").default
    agrees(called(op, draw(2, 3, *sizes) - 9, window, stride, padding, dilation, ceil))
    if rank > 1:
        op = getattr(aten, f"max_pool{rank}d_with_indices").default
        agrees(called(op, draw(2, 3, *sizes) - 9, window, [], padding, dilation, ceil), first=True)


@swept
@given(st.data())
def test_mean_pooling(data: st.DataObject) -> None:
    rank = data.draw(RANKS)
    window, stride = each(data, rank, 1, 4), each(data, rank, 1, 3)
    padding, sizes = [data.draw(a_size(0, k // 2)) for k in window], spatial(data, rank, 3)
    ceil, counted = data.draw(st.booleans()), data.draw(st.booleans())
    assume(all(n + 2 * p >= k for n, p, k in zip(sizes, padding, window, strict=True)))
    arguments: list[Any] = [draw(2, 3, *sizes), window, stride, padding, ceil, counted]
    if rank > 1 and data.draw(st.booleans()):
        arguments.append(data.draw(a_size(1, 5)))
    agrees(called(getattr(aten, f"avg_pool{rank}d").default, *arguments))


@swept
@given(st.data())
def test_adaptive_pooling(data: st.DataObject) -> None:
    rank = data.draw(RANKS)
    sizes, wanted = spatial(data, rank, 2), each(data, rank, 1, 7)
    agrees(called(getattr(aten, f"adaptive_avg_pool{rank}d").default, draw(2, 3, *sizes), wanted))
    agrees(called(getattr(aten, f"adaptive_max_pool{rank}d").default, draw(2, 3, *sizes), wanted), first=True)


SMOOTH = ["upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d"]


@swept
@given(st.data())
def test_smooth_interpolation(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(SMOOTH))
    rank, aligned = int(name[-2]), data.draw(st.booleans())
    sizes = spatial(data, rank, 1)
    x, op = draw(2, 3, *sizes), getattr(aten, name)
    if data.draw(st.booleans()):
        agrees(called(op.vec, x, each(data, rank, 1, 12), aligned, None))
        return
    factors = data.draw(st.lists(st.floats(0.4, 3.5), min_size=rank, max_size=rank))
    assume(all(int(size * factor) > 0 for size, factor in zip(sizes, factors, strict=True)))
    agrees(called(op.vec, x, None, aligned, factors), 1e-11)
    wanted = [int(size * factor) for size, factor in zip(sizes, factors, strict=True)]
    agrees(called(op.default, x, wanted, aligned, *factors), 1e-11)


@swept
@given(st.data())
def test_nearest_interpolation(data: st.DataObject) -> None:
    """In float32, where PyTorch finds the nearest cell for a float32 model."""
    rank, exact = data.draw(RANKS), data.draw(st.booleans())
    sizes = spatial(data, rank, 1)
    op = getattr(aten, f"{'_upsample_nearest_exact' if exact else 'upsample_nearest'}{rank}d").vec
    x = draw(2, 3, *sizes)
    if data.draw(st.booleans()):
        call = called(op, x, each(data, rank, 1, 40), None)
    else:
        factors = data.draw(st.lists(st.sampled_from([0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 2.3]), min_size=rank,
                                     max_size=rank))  # fmt: skip
        assume(all(int(size * factor) > 0 for size, factor in zip(sizes, factors, strict=True)))
        call = called(op, x, None, factors)
    found = call.translation()
    wanted = call.torch("float32")
    near(call.reference(found), wanted.astype(np.float64), 0)
    assert found.operation.output_shape(call.shapes[0]) == (None, *wanted.shape[1:])


@swept
@given(st.data())
def test_padding(data: st.DataObject) -> None:
    mode = data.draw(st.sampled_from(["constant", "reflect", "replicate", "circular"]))
    rank = data.draw(RANKS)
    sizes = spatial(data, rank, 4)
    least = -1 if mode == "constant" else 0
    agrees(called(aten.pad.default, draw(2, 3, *sizes), each(data, 2 * rank, least, 3), mode))


@swept
@given(st.data())
def test_patches(data: st.DataObject) -> None:
    taps, dilation, stride = each(data, 2, 1, 3), each(data, 2, 1, 2), each(data, 2, 1, 3)
    padding, sizes = each(data, 2, 0, 2), spatial(data, 2, 5)
    x = draw(2, 3, *sizes)
    call = called(aten.im2col.default, x, taps, dilation, padding, stride)
    agrees(call)
    columns = torch.from_numpy(call.torch())
    agrees(called(aten.col2im.default, columns, sizes, taps, dilation, padding, stride))


@swept
@given(st.data())
def test_views_and_orders(data: st.DataObject) -> None:
    rank = data.draw(a_size(2, 5))
    x = draw(*range(2, 2 + rank))
    order = data.draw(st.permutations(range(rank)))
    agrees(called(aten.permute.default, x, order, fixed=order[0] != 0))
    first, last = sorted(data.draw(st.lists(st.integers(0, rank - 1), min_size=2, max_size=2)))
    agrees(called(aten.flatten.using_ints, x, first, last, fixed=first == 0))
    agrees(called(aten.movedim.int, x, first, last, fixed=first == 0))
    agrees(called(aten.transpose.int, x, first, last - rank, fixed=first == 0))
    agrees(called(aten.unsqueeze.default, x, first + 1))


@swept
@given(st.data())
def test_einsums(data: st.DataObject) -> None:
    """Letters in any order, summed over or kept, also twice in one operand."""
    sizes = dict(zip("abcde", (2, 3, 4, 5, 6), strict=True))
    first = data.draw(st.permutations("abc"))
    second = data.draw(st.permutations("bcde"))[: data.draw(a_size(1, 4))]
    made = data.draw(st.permutations(sorted(set(first) | set(second))))[: data.draw(a_size(0, 4))]
    equation = f"{''.join(first)},{''.join(second)}->{''.join(made)}"
    x, y = (draw(*(sizes[letter] for letter in letters)) for letters in (first, second))
    agrees(called(aten.einsum.default, equation, [x, y], fixed=True))
