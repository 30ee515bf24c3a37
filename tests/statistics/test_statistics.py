"""Statistics equal NumPy's on the stored maps, and parts of a data set merge to the whole bit for bit."""

from __future__ import annotations

import json
import math
import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

import cnnlens
from cnnlens.backend.reductions import remaining, summary_of
from cnnlens.backend.seam import Session
from cnnlens.backend.summary import COLUMNS, drawn, example_numbers, places, summary
from cnnlens.cli.main import main
from cnnlens.errors import CnnlensError
from cnnlens.sample import IMAGES, MODEL
from cnnlens.statistics.exact import ExactSums, square_over
from cnnlens.statistics.layer import LayerStats

LAYERS = ["conv2d", "dense_1"]


def images(count: int, seed: int = 0) -> np.ndarray:
    """Noise of a brightness of its own each, so that maps differ in more than noise."""
    generator = np.random.default_rng(seed)
    return (generator.random((count, 28, 28)) * generator.integers(1, 256, (count, 1, 1))).astype(np.uint8)


def folded(maps: np.ndarray, cuts: list[int], most: int = 1 << 14, **options: Any) -> LayerStats:
    """Statistics of maps that came in batches that end at ``cuts``."""
    layer = LayerStats("layer", "Conv2D", maps.shape[1:], most=most, **options)
    for start, stop in zip([0, *cuts], [*cuts, len(maps)], strict=True):
        part = maps[start:stop]
        many = drawn(stop, math.prod(maps.shape[2:]), most)[0]
        layer.add(summary(part, example_numbers([part]), many))
    return layer


def told(layer: LayerStats) -> list[np.ndarray]:
    """Everything that it says of its channels."""
    numbers = [layer.mean, layer.variance, layer.min, layer.max, layer.zeros, layer.nan, layer.infinite, layer.dead]
    exciting = [np.array([[(one.index, one.value) for one in found] for found in layer.exciting])]
    return [*numbers, layer.constant, *(layer.quantile(share) for share in (0.0, 0.3, 0.5, 1.0)), *exciting]


@pytest.fixture
def maps() -> np.ndarray:
    """40 maps of 3 channels of 7 x 5: far from 0, near it, and never above it."""
    values = np.random.default_rng(1).standard_normal((40, 3, 7, 5), np.float32)
    values *= np.float32([0.01, 1, 1])[:, None, None]
    values[:, 0] += 1000
    values[:, 2] = np.minimum(values[:, 2], 0)
    return values


# -- exact -----------------------------------------------------------------------------------------------------------


def test_sums_are_those_of_fractions_in_any_order_and_any_parts() -> None:
    values = np.random.default_rng(0).standard_normal((200, 3)) * 10.0 ** np.arange(-150, 150, 1.5)[:, None]
    wanted = [sum(map(Fraction, column)) for column in values.T.tolist()]
    one, two = ExactSums(3), ExactSums(3)
    one.add(values[::-1][:70])
    two.add(values[::-1][70:])
    two.merge(one)
    assert two.totals() == wanted
    assert [float(total) for total in two.totals()] == [math.fsum(column) for column in values.T]


def test_sums_of_more_rows_than_a_float_counts_are_exact_too() -> None:
    sums, count = ExactSums(1), (1 << 23) + (1 << 20) + 1
    sums.add(np.broadcast_to(1 - 2.0**-53, (count, 1)))  # all of its 53 bits are ones
    assert sums.totals() == [count * (1 - Fraction(1, 1 << 53))]


def test_a_number_that_is_not_finite_leaves_its_own_sum_alone_infinite() -> None:
    sums = ExactSums(2)
    sums.add(np.array([[1.0, np.inf], [2.0, 1.0]]))
    assert sums.totals() == [3, None]


def test_a_square_over_a_count_has_twice_the_bits() -> None:
    values, counts = np.random.default_rng(0).random(50) * 1e6, np.arange(1.0, 51.0)
    for value, count, high, low in zip(values, counts, *square_over(values, counts), strict=True):
        wanted = Fraction(value) ** 2 / Fraction(count)
        assert abs(Fraction(high) + Fraction(low) - wanted) <= wanted * Fraction(2) ** -100


def test_an_input_whose_mean_is_no_number_excites_nothing() -> None:
    maps = np.ones((3, 1, 512))
    maps[1, 0] = np.repeat([1e308, -1e308], 256)  # its sum leaves float64 in both directions
    maps[2] = 2
    layer = folded(maps, [2], by="mean", top=1)
    assert [(one.index, one.value) for one in layer.exciting[0]] == [(2, 2.0)]


# -- one layer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", [(9, 3, 7, 5), (9, 3, 400, 3), (9, 3, 11), (9, 3), (9, 1, 600, 400)])
def test_they_are_numpys_on_the_maps_in_any_order_of_memory(shape: tuple[int, ...], last: bool) -> None:
    maps = np.random.default_rng(2).standard_normal(shape, np.float32) + 2
    maps[maps < 1.5] = 0
    if last:
        maps = np.moveaxis(np.ascontiguousarray(np.moveaxis(maps, 1, -1)), -1, 1)
    layer = folded(maps, [4])
    flat = maps.astype(np.float64).reshape(len(maps), shape[1], -1).swapaxes(0, 1).reshape(shape[1], -1)
    assert np.allclose(layer.mean, flat.mean(1), rtol=1e-6)
    assert np.allclose(layer.variance, flat.var(1), rtol=1e-6)
    assert np.array_equal(layer.min, flat.min(1))
    assert np.array_equal(layer.max, flat.max(1))
    assert np.array_equal(layer.zeros, (flat == 0).mean(1))
    if layer.rank_error == 0:
        assert np.allclose(layer.quantile(0.3), np.quantile(flat, 0.3, axis=1))
    assert math.isclose(layer.all_mean, flat.mean(), rel_tol=1e-6)
    assert math.isclose(layer.all_std, flat.std(), rel_tol=1e-6)


def test_a_small_deviation_far_from_zero_is_kept(maps: np.ndarray) -> None:
    wanted = maps[:, 0].astype(np.float64).var()  # a ten-billionth of the mean's square
    assert math.isclose(folded(maps, [7]).variance[0], wanted, rel_tol=1e-9)
    constant = np.full((5, 1, 6, 7), 0.1, np.float32)
    assert folded(constant, []).variance[0] == 0
    assert folded(constant, []).constant[0]


@pytest.mark.parametrize("cuts", [[20], [1, 2, 39], [13, 26]])
@pytest.mark.parametrize("most", [64, 512, 1 << 14])
@pytest.mark.parametrize("by", ["max", "mean"])
def test_parts_merge_to_the_whole_bit_for_bit(maps: np.ndarray, cuts: list[int], most: int, by: str) -> None:
    maps[5, 1, 0, 0], maps[30, 0, 2, 2] = np.nan, np.inf
    whole = folded(maps, [], most, by=by)
    parts = [folded(part, [], most, by=by) for part in np.split(maps, cuts)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    for mine, its in zip(told(merged), told(whole), strict=True):
        np.testing.assert_array_equal(mine, its)
    assert merged.rank_error == whole.rank_error
    for mine, its in zip(told(folded(maps, cuts, most, by=by)), told(whole), strict=True):  # and in other batches
        np.testing.assert_array_equal(mine, its)


def test_what_is_not_finite_is_counted_apart(maps: np.ndarray) -> None:
    maps[3, 0, 1] = np.nan
    maps[4, 1, 0, 0], maps[4, 1, 0, 1] = np.inf, -np.inf
    maps[:, 2] = np.nan
    layer = folded(maps, [])
    assert layer.nan.tolist() == [5, 0, 1400]
    assert layer.infinite.tolist() == [0, 2, 0]
    kept = maps[:, 1][np.isfinite(maps[:, 1])].astype(np.float64)
    assert math.isclose(layer.variance[1], kept.var(), rel_tol=1e-6)
    assert math.isclose(layer.quantile(0.5)[1], float(np.median(kept)), rel_tol=1e-12)
    assert np.isnan([layer.mean[2], layer.max[2], layer.quantile(0.5)[2]]).all()
    assert layer.exciting[2] == []
    assert not layer.dead[2]


def test_dead_channels_and_exciting_inputs(maps: np.ndarray) -> None:
    layer = folded(maps, [11], top=3)
    assert layer.dead.tolist() == [False, False, True]
    peaks = maps[:, 1].reshape(40, -1).max(1)
    assert [one.index for one in layer.exciting[1]] == np.argsort(-peaks, kind="stable")[:3].tolist()
    assert [one.value for one in layer.exciting[1]] == sorted(peaks.tolist(), reverse=True)[:3]
    means = maps[:, 1].astype(np.float64).reshape(40, -1).mean(1)
    assert folded(maps, [11], by="mean").exciting[1][0].index == means.argmax()


@pytest.mark.parametrize("top", [17, 10**12])
def test_many_exciting_inputs_take_no_more_room_than_there_are_inputs(maps: np.ndarray, top: int) -> None:
    layer = folded(maps, [7, 19], top=top)
    peaks = maps[:, 1].reshape(40, -1).max(1)
    order = np.argsort(-peaks, kind="stable")[:top].tolist()
    assert [one.index for one in layer.exciting[1]] == order
    merged = folded(maps[:23], [5], top=top).merge(folded(maps[23:], [], top=top))
    assert merged.exciting == layer.exciting
    few = folded(maps, [7, 19], top=16)  # looked for one after the other
    assert few.exciting == [found[:16] for found in layer.exciting]


def test_more_exciting_inputs_than_memory_holds_are_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("cnnlens.memory.available", lambda: 1 << 26)
    np.save(tmp_path / "many.npy", np.zeros((70_000, 28, 28), np.uint8))
    assert run("-i", tmp_path / "many.npy", "--layers", "conv2d", "--top", 10**9) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "keeping 70,000 exciting inputs of each of 32 channels takes 0.1 GB of memory" in said
    assert "ask for fewer with --top" in said


@pytest.mark.parametrize("most", [256, 2048])
def test_quantiles_are_within_the_error_that_they_state(most: int) -> None:
    generator = np.random.default_rng(3)
    rows = np.linspace(-3, 3, 20)[:, None]  # top and bottom of a map differ: a sample of some places would be off
    maps = (generator.standard_normal((600, 4, 20, 11)) + rows * [[[1.0]], [[0.0]], [[-2.0]], [[3.0]]]).astype(
        np.float32
    )
    layer = folded(maps, list(range(50, 600, 50)), most)
    flat = np.sort(maps.swapaxes(0, 1).reshape(4, -1), axis=1)
    assert 0.01 < layer.rank_error < 0.15
    for share in (0.01, 0.25, 0.5, 0.75, 0.99):
        for channel, value in enumerate(layer.quantile(share)):
            rank = np.searchsorted(flat[channel], value) / flat.shape[1]
            assert abs(rank - share) <= layer.rank_error


def test_inputs_that_repeat_tell_no_more_of_quantiles_than_one_of_them() -> None:
    one = np.arange(100, dtype=np.float32).reshape(1, 1, 10, 10)
    wide = folded(np.repeat(one, 50, 0), [30], 512).rank_error  # eight places of one map, 50 times
    assert wide == folded(one, [], 8).rank_error
    for value in range(4):  # 300 times one input: all or none of it is in a sample of 64
        layer = folded(np.full((300, 1, 5), value, np.float32), [150], 64)
        assert layer.rank_error == 1
        assert layer.quantile(0.5)[0] == value or np.isnan(layer.quantile(0.5)[0])


def test_the_places_of_fewer_are_the_first_of_more_and_all_are_all() -> None:
    numbers = np.array([0, 5, 2**32 - 1], np.uint32)
    more = places(numbers, 84, 200)
    assert np.array_equal(np.sort(more, axis=1), np.tile(np.arange(84), (3, 1)))
    assert np.array_equal(places(numbers, 84, 8), more[:, :8])


@pytest.mark.parametrize("size", [1, 4, 7])
def test_windows_of_a_map_are_drawn_from_alike_whatever_the_batch(size: int) -> None:
    """A file does not say into how many windows a map is taken apart: here 28 x 28 places, and there 4 of 3 x 5."""
    network, session = cnnlens.open(MODEL), cast(Session, object())
    given = images(14)
    maps = np.random.default_rng(1).standard_normal((14 * 4, 32, 3, 5)).astype(np.float32)
    layer = LayerStats("conv2d", "Conv2D", (32, 60), most=512)
    for start in range(0, 14, size):
        stop = min(start + size, 14)
        later = remaining(session, network, [given[start:stop]], {"conv2d": summary_of(stop, 512)})
        layer.add(later["conv2d"](maps[start * 4 : stop * 4]))
    turned = np.moveaxis(maps.reshape(14, 4, 32, 15), 1, 2).reshape(14, 32, 60)
    whole = LayerStats("conv2d", "Conv2D", (32, 60), most=512)
    whole.add(summary(turned, example_numbers([given]), drawn(14, 60, 512)[0]))
    assert layer.rank_error == whole.rank_error
    assert np.array_equal(layer.quantile(0.5), whole.quantile(0.5))


def test_workers_without_an_engine_are_refused(given: np.ndarray) -> None:
    with pytest.raises(CnnlensError, match="no engine has them"):
        cnnlens.stats(MODEL, given[:2], workers=2)


@pytest.mark.slow
def test_the_memory_does_not_grow_with_the_examples() -> None:
    block = np.random.default_rng(0).standard_normal((256, 8, 6, 5), np.float32)
    layer = LayerStats("layer", "Conv2D", (8, 6, 5), most=1024)
    sizes = []
    for start in range(0, 256 * 64, 256):
        rows = summary(block, example_numbers([block + np.float32(start)]), drawn(start + 256, 30, 1024)[0])
        layer.add(rows)
        sizes.append(len(pickle.dumps(layer)))
    assert max(sizes[32:]) < 1.1 * max(sizes[:32])
    assert layer.count == 256 * 64


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("space", [(20, 20), (5, 3), (149,), (131, 71)])
def test_sums_of_a_few_numbers_in_float32_are_good_for_a_millionth(space: tuple[int, ...], last: bool) -> None:
    shape = (9, 6, math.prod(space))
    maps = np.random.default_rng(4).standard_normal(shape, np.float32)
    maps[:, 1] = np.maximum(maps[:, 1], 0)
    maps[:, 2, : shape[2] // 2] = 0.1  # float32 sums of it round in one direction
    maps[:, 3] = 0.7 + maps[:, 3] * 0.3
    maps[2, 4] += 1e4  # float32 sums of squares would keep nothing of its deviation
    maps[5, 5] = 7
    flat = maps.astype(np.float64)
    wanted = flat.max(2), flat.min(2), flat.sum(2), flat.var(2) * shape[2], (flat == 0).sum(2)
    maps[3, 0, 5], maps[4, 1, 6], maps[6, 5, 7] = np.nan, np.inf, -np.inf
    odd = ~np.isfinite(maps).all(2)
    maps, numbers = maps.reshape(*shape[:2], *space), np.arange(9, dtype=np.uint32)
    if last:
        maps = np.moveaxis(np.ascontiguousarray(np.moveaxis(maps, 1, -1)), -1, 1)
    found = summary(maps, numbers, 4)
    for column, values in enumerate(wanted):
        mine, its = found[..., column][~odd], values[~odd]
        if column == 2:
            assert (np.abs(mine - its) <= 1e-6 * np.sqrt(shape[2] * (wanted[3] + its_square(flat)))[~odd]).all()
        else:
            np.testing.assert_allclose(mine, its, rtol=1e-6 if column == 3 else 0)
    assert found[..., 6:9][odd].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert (found[..., 5] == shape[2] - odd).all()
    for cut in (1, 5):  # of an example alone, whatever batch it came in
        halves = [summary(maps[some], numbers[some], 4) for some in (slice(0, cut), slice(cut, 9))]
        np.testing.assert_array_equal(np.concatenate(halves), found)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("two", [(1.37, 0.42), (1.09, 4.6), (1.7, 1.69), (3e-22, -3e-22), (3e22, 1e22)])
def test_maps_of_two_colours_of_any_size_keep_their_squares(two: tuple[float, float], last: bool) -> None:
    maps = np.full((3, 9, 20, 29), two[0], np.float32)  # whose sums of float32 round always in one direction
    for channel in range(9):
        maps[:, channel, : channel + 1] = two[1]
    maps[1] = two[0]
    flat = maps.astype(np.float64).reshape(3, 9, -1)
    if last:
        maps = np.moveaxis(np.ascontiguousarray(np.moveaxis(maps, 1, -1)), -1, 1)
    found = summary(maps, np.arange(3, dtype=np.uint32), 4)
    np.testing.assert_allclose(found[..., 2], flat.sum(2), rtol=1e-6, atol=1e-6 * np.abs(flat).sum(2).max())
    np.testing.assert_allclose(found[::2, :, 3], flat[::2].var(2) * flat.shape[2], rtol=1e-6)
    assert not found[1, :, 3].any()
    np.testing.assert_array_equal(summary(maps[1:2], np.ones(1, np.uint32), 4), found[1:2])


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kind", ["of a ReLU", "above 0 in one channel", "below 0 in the end", "-0.0", "infinite"])
def test_extremes_and_zeros_are_numpys_whatever_a_first_block_is_like(kind: str, last: bool) -> None:
    maps = np.maximum(np.random.default_rng(6).standard_normal((70, 8, 29, 40), np.float32), 0)  # four blocks and more
    if kind == "above 0 in one channel":
        maps[66, 5] += 1
    elif kind == "below 0 in the end":
        maps[69, 7, 28, 39] = -3
    elif kind == "-0.0":
        maps[3, 2] = -0.0
    elif kind == "infinite":
        maps[2, 1, 4, 4] = np.inf
    flat = maps.reshape(70, 8, -1)
    known = np.where(np.isfinite(flat), flat, 0)
    wanted = known.max(2), flat.min(2), (flat == 0).sum(2)
    if last:
        maps = np.moveaxis(np.ascontiguousarray(np.moveaxis(maps, 1, -1)), -1, 1)
    found = summary(maps, np.arange(70, dtype=np.uint32), 0)
    for column, values in zip((0, 1, 4), wanted, strict=True):
        np.testing.assert_array_equal(found[..., column], values)


def its_square(flat: np.ndarray) -> np.ndarray:
    """The squares of the mean, at every place."""
    return flat.mean(2) ** 2 * flat.shape[2]


# -- a run -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def given() -> np.ndarray:
    return images(96)


@pytest.fixture(scope="module")
def whole(given: np.ndarray) -> cnnlens.Stats:
    return cnnlens.stats(MODEL, given, layers=LAYERS, batch=32, top=3)


@pytest.mark.slow
def test_a_run_agrees_with_the_maps_that_record_keeps(given: np.ndarray, whole: cnnlens.Stats) -> None:
    recording = cnnlens.record(MODEL, given, layers=LAYERS, batch=32)
    for name, layer in whole.items():
        flat = np.asarray(recording[name], np.float64).swapaxes(0, 1).reshape(layer.shape[0], -1)
        assert np.allclose(layer.mean, flat.mean(1), rtol=1e-6, atol=0)
        assert np.allclose(layer.variance, flat.var(1), rtol=1e-6, atol=1e-300)
        assert np.array_equal(layer.max, flat.max(1))
        for share in (0.25, 0.5, 0.99):
            low, high = (
                np.quantile(flat, min(max(share + off, 0), 1), axis=1) for off in (-layer.rank_error, layer.rank_error)
            )
            assert ((low <= layer.quantile(share)) & (layer.quantile(share) <= high)).all()


def test_two_halves_merged_are_the_whole_run(given: np.ndarray, whole: cnnlens.Stats) -> None:
    one = pickle.loads(pickle.dumps(cnnlens.stats(MODEL, given[:64], layers=LAYERS, batch=32, top=3)))
    merged = one.merge(cnnlens.stats(MODEL, given[64:], layers=LAYERS, batch=32, top=3))
    assert (merged.count, merged.wanted) == (96, 96)
    for name in LAYERS:
        for mine, its in zip(told(merged[name]), told(whole[name]), strict=True):
            np.testing.assert_array_equal(mine, its)


def test_other_runs_are_not_merged(given: np.ndarray, whole: cnnlens.Stats) -> None:
    for other in ({"layers": ["conv2d"]}, {"layers": LAYERS, "top": 4}, {"layers": LAYERS, "precision": "strict"}):
        with pytest.raises(CnnlensError, match="merge"):
            whole.merge(cnnlens.stats(MODEL, given[:2], **other))


def test_it_says_itself_in_three_lines_a_table_json_and_xarray(whole: cnnlens.Stats) -> None:
    assert len(repr(whole).splitlines()) <= 3
    assert "conv2d   Conv2D  (N, 32, 28, 28)" in str(whole)
    assert whole._repr_html_().startswith('<div class="cnnlens">')
    found = json.loads(json.dumps(whole.to_json(), allow_nan=False))
    assert found["complete"]
    assert found["run"]["complete"]
    assert found["layers"][0]["channels"]["mean"] == whole["conv2d"].mean.tolist()
    assert whole.to_xarray()["dense_1"].sel(statistic="max").values.tolist() == whole["dense_1"].max.tolist()


def test_without_xarray_it_says_what_installs_it(whole: cnnlens.Stats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "xarray", None)
    with pytest.raises(CnnlensError, match="pip install xarray"):
        whole.to_xarray()


@pytest.mark.slow
def test_backends_beside_each_other_agree_with_themselves(given: np.ndarray) -> None:
    found = cnnlens.stats(MODEL, given[:20], backends=["reference", "reference"], layers=LAYERS, batch=8, keep=2)
    assert list(found.stats) == ["reference", "reference#2"]
    assert [(one.layer, one.max_abs, one.rel_rms) for one in found.apart] == [(name, 0.0, 0.0) for name in LAYERS]
    assert not found.kept
    assert "none differs" in str(found)
    alone = cnnlens.stats(MODEL, given[:20], layers=LAYERS, batch=8)
    for name in LAYERS:
        np.testing.assert_allclose(found.stats["reference"][name].variance, alone[name].variance, rtol=1e-6)


@pytest.mark.framework
def test_backends_are_apart_by_their_rounding_and_the_worst_maps_are_kept(given: np.ndarray, tmp_path: Path) -> None:
    found = cnnlens.stats(MODEL, given[:30], backends=["reference", "keras-jax"], layers=LAYERS, batch=8, keep=2)
    recordings = [cnnlens.record(MODEL, given[:30], backend=name, layers=LAYERS, batch=8) for name in found.stats]
    for one in found.apart:
        a, b = (np.asarray(recording[one.layer], np.float64) for recording in recordings)
        assert one.max_abs == np.abs(a - b).max()
        assert math.isclose(one.rel_rms, math.sqrt(np.square(a - b).sum() / np.square(b).sum()), rel_tol=1e-9)
    assert found.apart[-1].max_abs > 0
    with np.load(found.save(tmp_path / "kept.npz")) as kept:
        index = next(iter(found.kept))
        assert np.array_equal(kept[f"{index}/keras-jax/conv2d"], recordings[1]["conv2d"][index])
    mine, its = found.stats.values()
    np.testing.assert_allclose(mine["conv2d"].mean, its["conv2d"].mean, rtol=1e-5, atol=1e-7)


# -- the command -----------------------------------------------------------------------------------------------------


def run(*arguments: Any) -> int:
    return main(["stats", str(MODEL), *map(str, arguments)])


def test_the_command_prints_a_row_a_layer_and_of_one_layer_a_row_a_channel(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-i", IMAGES, "--layers", "conv2d,dense_1") == 0
    assert "channel" not in capsys.readouterr().out
    assert run("-i", IMAGES, "--layers", "dense_1", "--top", "1") == 0
    said = capsys.readouterr().out
    assert "9-ankle-boot 1" in said.splitlines()[-1]


@pytest.mark.slow
def test_the_sheet_of_one_layer_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-i", IMAGES, "--layers", "conv2d", "-o", tmp_path / "sheet.png") == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert min(sheet.size) > 500
    assert run("-i", IMAGES, "-o", tmp_path / "other.png") == 2
    assert "--draw LAYER" in capsys.readouterr().err
    assert not (tmp_path / "other.png").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--draw", "conv2d"], "give -o FILE too"),
        (["--keep", "x.npz"], "give --backends A,B"),
        (["--backends", "reference"], "two or more are compared"),
        (["--layers", "nosuch"], "no layer is named 'nosuch'"),
        (["--layers", "conv2d", "--draw", "dense_1", "-o", "x.png"], "is not among the layers asked for"),
    ],
)
def test_what_does_not_fit_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("-i", IMAGES, *arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def folder_with_a_bad_one(path: Path) -> Path:
    path.mkdir()
    for number, picture in enumerate(images(6)):
        Image.fromarray(picture).save(path / f"{number}.png")
    good = (path / "4.png").read_bytes()
    (path / "4.png").write_bytes(good[: len(good) // 2])
    return path


def test_a_picture_that_cannot_be_read_is_named_or_skipped_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_with_a_bad_one(tmp_path / "pictures")
    assert run("-i", folder, "--layers", "dense_1", "--batch", 2) == 2
    found = capsys.readouterr()
    assert "4.png" in found.err
    assert found.err.count("\n") == 1
    assert "4 of 6 inputs through reference" in found.out  # what was done is not lost
    assert run("-i", folder, "--layers", "dense_1", "--batch", 2, "--json") == 2
    assert json.loads(capsys.readouterr().out)["format"] == "cnnlens.error/1"  # one object
    assert run("-i", folder, "--layers", "dense_1", "--skip-bad") == 0
    assert "1 of 6 pictures cannot be read or are of another size, and are left out: 4.png" in capsys.readouterr().out
    stats = cnnlens.stats(MODEL, folder, layers=["dense_1"], skip_bad=True)
    assert stats.count == 5
    assert {one.name for found in stats["dense_1"].exciting for one in found} == {"0", "1", "2", "3", "5"}


def test_an_empty_folder_and_a_folder_of_bad_ones_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert run("-i", tmp_path / "empty") == 2
    assert "a folder with nothing" in capsys.readouterr().err
    folder = folder_with_a_bad_one(tmp_path / "bad")
    for good in "01235":
        (folder / f"{good}.png").unlink()
    assert run("-i", folder, "--skip-bad") == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_ctrl_c_prints_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    def pressed(done: int, count: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    seen: list[cnnlens.Stats] = []
    with pytest.raises(KeyboardInterrupt):
        cnnlens.stats(MODEL, images(10), layers=LAYERS, batch=2, progress=pressed, on_stop=seen.append)
    assert (seen[0].count, seen[0].wanted) == (4, 10)
    whole = cnnlens.stats(MODEL, images(10)[:4], layers=LAYERS, batch=2)
    np.testing.assert_array_equal(seen[0]["conv2d"].variance, whole["conv2d"].variance)
    assert "4 of 10 inputs" in str(seen[0])


def test_the_columns_are_as_the_statistics_read_them() -> None:
    maps = np.array([[[3.0, 0.0, -1.0, np.nan, np.inf]]], np.float32)
    row = dict(zip(COLUMNS, summary(maps, np.array([7], np.uint32), 0)[0, 0], strict=True))
    wanted = {"max": 3, "min": -1, "sum": 2, "zeros": 1, "finite": 3, "nan": 1, "inf": 1, "-inf": 0, "number": 7}
    assert {name: row[name] for name in wanted} == wanted
    assert math.isclose(row["squares"], np.var([3, 0, -1]) * 3)
