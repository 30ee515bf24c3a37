"""A recording may keep less than whole maps: what it keeps is right, is said, and is never taken for what it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnlens
from cnnlens.backend.chunks import as_stored
from cnnlens.backend.reductions import NumpyOps, check_reduction, reduced, reduced_shape
from cnnlens.cli.main import main
from cnnlens.errors import CnnlensError
from cnnlens.sample import IMAGES, MODEL

LAYERS = ["conv2d", "dense_1"]


@pytest.fixture
def maps() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, 3, 7, 5), np.float32)


# -- what is kept ----------------------------------------------------------------------------------------------------


def test_reductions_are_numpys(maps: np.ndarray) -> None:
    flat = maps.reshape(4, 3, 35)
    assert np.allclose(reduced("mean", maps, NumpyOps), flat.mean(-1), atol=1e-6)
    assert np.array_equal(reduced("max", maps, NumpyOps), flat.max(-1))
    moments = reduced("moments", maps, NumpyOps)
    assert np.allclose(moments[..., 0], flat.mean(-1), atol=1e-6)
    assert np.allclose(moments[..., 1], flat.var(-1), atol=1e-6)
    largest = reduced("topk:4", maps, NumpyOps)
    assert np.array_equal(largest[..., 0], -np.sort(-flat, axis=-1)[..., :4])
    assert np.array_equal(np.take_along_axis(flat, largest[..., 1].astype(int), -1), largest[..., 0])
    assert np.allclose(
        reduced("down:2", maps, NumpyOps), maps[:, :, :6, :4].reshape(4, 3, 3, 2, 2, 2).mean((3, 5)), atol=1e-6
    )


@pytest.mark.parametrize("text", ["mean", "max", "moments", "topk:3", "topk:99", "down:2", "down:3", "down:9"])
@pytest.mark.parametrize("shape", [(4, 3, 7, 5), (4, 3, 9), (4, 3, 5, 7, 2), (4, 3)])
def test_both_orders_of_axes_give_one_result_of_the_shape_that_is_said(text: str, shape: tuple[int, ...]) -> None:
    maps = np.random.default_rng(1).standard_normal(shape, np.float32)
    first = reduced(text, maps, NumpyOps)
    assert first.shape == reduced_shape(text, shape)
    last = reduced(text, np.ascontiguousarray(np.moveaxis(maps, 1, -1)), NumpyOps, channels_last=True)
    assert np.allclose(first, last, atol=1e-6)


@pytest.mark.parametrize("text", ["median", "topk", "topk:0", "topk:-1", "down", "down:1", "mean:2", "summary:4", ""])
def test_what_is_no_reduction_is_refused(text: str) -> None:
    with pytest.raises(CnnlensError, match="topk:K"):
        check_reduction(text)


@pytest.mark.parametrize("text", ["mean", "moments", "topk:3", "down:2"])
def test_a_recording_keeps_what_the_whole_one_reduces_to(text: str) -> None:
    whole = cnnlens.record(MODEL, IMAGES, layers=LAYERS, batch=4)
    small = cnnlens.record(MODEL, IMAGES, layers=LAYERS, batch=4, reduce=text)
    wanted = reduced(text, np.asarray(whole["conv2d"]), NumpyOps)
    assert small["conv2d"].shape == wanted.shape
    assert np.allclose(small["conv2d"], wanted, rtol=1e-5, atol=1e-7)
    assert np.array_equal(small["input_layer"], whole["input_layer"])
    assert np.array_equal(small["dense_1"], whole["dense_1"])
    assert small.info["reduction"] == text
    assert small.info["reduced"] == ["conv2d"]
    assert small.verify() < whole.verify()


def test_float16_is_kept_of_floats_alone_and_refuses_what_it_cannot_hold() -> None:
    assert as_stored(np.array([1, 70000]), "<f2", "x").dtype == np.int64
    assert as_stored(np.array([0.1], np.float32), "<f2", "x").tobytes() == np.float16(0.1).tobytes()
    assert np.isinf(as_stored(np.array([np.inf], np.float32), "<f2", "x")[0])
    with pytest.raises(CnnlensError, match="'x' holds 70000, and float16 ends at 65,504"):
        as_stored(np.array([1.0, 7e4], np.float32), "<f2", "x")
    whole = cnnlens.record(MODEL, IMAGES, layers=LAYERS, batch=4)
    half = cnnlens.record(MODEL, IMAGES, layers=LAYERS, batch=4, store="float16")
    assert np.array_equal(half["conv2d"], np.asarray(whole["conv2d"]).astype(np.float16))
    assert half["input_layer"].dtype == np.float32


def test_values_beyond_float16_stop_the_run_in_one_line(tmp_path: Path) -> None:
    huge = np.full((2, 28, 28), 1e8, np.float32)
    with pytest.raises(CnnlensError, match="float16 ends at 65,504"):
        cnnlens.record(MODEL, huge, layers=LAYERS, store="float16", out=tmp_path / "run.zarr")
    assert not (tmp_path / "run.zarr").exists()


# -- what is said of it ----------------------------------------------------------------------------------------------


def test_check_audits_what_is_whole_and_says_what_is_reduced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cnnlens.record(MODEL, IMAGES, out=tmp_path / "run.zarr", reduce="mean")
    assert main(["check", str(MODEL), str(tmp_path / "run.zarr")]) == 0
    said = capsys.readouterr().out
    assert "not audited: conv2d: 'conv2d' is reduced to mean" in said
    result = cnnlens.check(MODEL, recordings=[tmp_path / "run.zarr"])
    verdicts = {row.name: str(row.audits["reference"].verdict) for row in result.rows}
    assert verdicts["conv2d"] == verdicts["flatten"] == "not audited"
    assert verdicts["dense_1"] == "float32"


@pytest.mark.parametrize("how", [{"store": "float16"}, {"reduce": "max", "layers": ["conv2d"]}])
def test_check_refuses_what_nothing_can_be_audited_of(how: dict[str, Any], tmp_path: Path) -> None:
    cnnlens.record(MODEL, IMAGES, out=tmp_path / "run.zarr", **how)
    with pytest.raises(CnnlensError, match="nothing in it can be audited"):
        cnnlens.check(MODEL, recordings=[tmp_path / "run.zarr"])


def test_two_recordings_that_are_not_reduced_alike_are_not_compared(tmp_path: Path) -> None:
    for name, how in (("a", {}), ("b", {"reduce": "mean"})):
        cnnlens.record(MODEL, IMAGES, out=tmp_path / f"{name}.zarr", **how)
    result = cnnlens.check(MODEL, recordings=[tmp_path / "a.zarr", tmp_path / "b.zarr"])
    (pairs,) = result.pairs.values()
    assert "conv2d" not in pairs
    assert pairs["dense_1"].equal


def test_a_run_goes_on_only_as_it_began(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["record", str(MODEL), "-i", str(IMAGES), "--layers", "conv2d", "-o", str(tmp_path / "run.zarr")]
    assert main([*command, "--reduce", "mean"]) == 0
    assert "reduced to mean: 1 of 2 arrays" in capsys.readouterr().out
    assert main([*command, "--reduce", "mean"]) == 0
    assert main([*command, "--reduce", "max"]) == 2
    assert "the reduction then: mean; now: max" in capsys.readouterr().err
    assert main([*command, "--reduce", "topk:3", "--store", "float16"]) == 2
    assert "positions" in capsys.readouterr().err


# -- inputs that cannot be read --------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        Image.fromarray(np.full((28, 28), 40 * number, np.uint8)).save(folder / f"{number}.png")
    good = (folder / "4.png").read_bytes()
    (folder / "4.png").write_bytes(good[: len(good) // 2])
    return folder


def test_a_bad_picture_stops_the_run_and_what_was_done_is_gone_on_with(pictures: Path, tmp_path: Path) -> None:
    run = {"out": tmp_path / "run.zarr", "layers": ["dense_1"], "batch": 2}
    with pytest.raises(CnnlensError, match=r"4\.png") as caught:
        cnnlens.record(MODEL, pictures, **run)
    assert "\n" not in str(caught.value)
    assert cnnlens.Recording.open(tmp_path / "run.zarr").recorded == 4
    Image.fromarray(np.full((28, 28), 160, np.uint8)).save(pictures / "4.png")
    assert cnnlens.record(MODEL, pictures, **run).complete


def test_bad_pictures_are_skipped_and_counted(pictures: Path) -> None:
    recording = cnnlens.record(MODEL, pictures, layers=["dense_1"], skip_bad=True)
    assert recording.names == ["0", "1", "2", "3", "5"]
    assert (
        "1 of 6 pictures cannot be read or are of another size, and are left out: 4.png"
        in recording.info["inputs"]["notes"]
    )
