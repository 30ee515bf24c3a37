"""A recording is a plain Zarr group that anybody can open, and that nobody can make cnnlens trip over."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import cnnlens
import cnnlens.sample
from cnnlens.backend.chunks import DTYPES, write_chunk
from cnnlens.errors import CnnlensError
from cnnlens.recording.format import Description, array_names, dimension_names, dumps, header_line, log_line, read_log
from cnnlens.recording.ledger import Part
from cnnlens.recording.recording import Recording
from cnnlens.recording.writer import RecordingWriter

COUNT, BATCH = 7, 3
ARRAYS = {
    "image": np.random.default_rng(0).random((COUNT, 2, 5, 4), np.float32),
    "outer/conv[1]": np.moveaxis(np.random.default_rng(1).random((COUNT, 6, 4, 8), np.float32), -1, 1),
    "top": np.random.default_rng(2).integers(-9, 9, (COUNT, 10)).astype(np.int32),
    "mask": np.arange(COUNT) % 2 == 0,
}


def description(**changes: object) -> Description:
    fields: dict[str, object] = {
        "model": {"file": "a.keras", "sha256": "1" * 64, "network_hash": "2" * 64},
        "sources": {"image": (("folder", COUNT),)},
        "input_notes": ("read as it is",),
        "backend": "reference",
        "versions": {"numpy": "2"},
        "device": "cpu",
        "precision": "native",
        "batch": BATCH,
        "count": COUNT,
        "tensors": tuple(ARRAYS),
        "inputs": ("image",),
    }
    return Description(**{**fields, **changes})  # type: ignore[arg-type]


def write(path: Path, batches: int = 3, finish: bool = True, **changes: object) -> Path:
    writer = RecordingWriter(path, description(**changes))
    for batch in range(writer.done, batches):
        parts: dict[str, Part] = {}
        for name, array in ARRAYS.items():
            part = writer.part(name, batch)
            rows = array[batch * BATCH : (batch + 1) * BATCH]
            crc = write_chunk(part, [rows], BATCH)
            parts[name] = Part(part, crc, (BATCH, *array.shape[1:]), array.dtype.str)
        writer.commit(batch, parts)
    if finish:
        writer.finish("3" * 64)
    writer.close()
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "run.zarr")


# -- what it is ------------------------------------------------------------------------------------------------------


def test_what_was_written_is_read(path: Path) -> None:
    recording = Recording.open(path)
    assert (recording.complete, recording.count, recording.recorded, recording.batch) == (True, COUNT, COUNT, BATCH)
    assert list(recording) == list(ARRAYS)
    assert recording.inputs == ("image",)
    assert recording.names == [f"folder {index}" for index in range(COUNT)]
    assert recording.info["inputs"]["sha256"] == "3" * 64
    for name, array in ARRAYS.items():
        assert (recording[name].shape, recording[name].dtype) == (array.shape, array.dtype)
        assert np.array_equal(np.asarray(recording[name]), array)
    assert recording.verify() == 9 * (2 * 5 * 4 * 4 + 8 * 6 * 4 * 4 + 10 * 4 + 1)


INDICES = [
    *(0, -1, 5, slice(None), slice(2, 4), slice(1, 7, 2), slice(6, 0, -2), slice(4, 4), slice(-2, None), ...),
    *([0, 6, 6, 1], np.array([5, 2]), np.arange(COUNT) % 2 == 1, (), (slice(1, 5), 0), (3, slice(None), slice(1, 3))),
    *((slice(2, 7, 3), ..., 1), (..., 0), [], (np.array([1, 4]), slice(0, 2)), np.int64(4), None),
]


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_slices_are_numpys(path: Path, index: object) -> None:
    recording = Recording.open(path)
    for name in ("image", "outer/conv[1]"):
        expected = ARRAYS[name][index]  # type: ignore[index]
        found = recording[name][index]
        assert found.shape == expected.shape
        assert np.array_equal(found, expected)


def test_an_index_out_of_range_is_an_index_error(path: Path) -> None:
    with pytest.raises(IndexError):
        Recording.open(path)["image"][COUNT]


def test_xarray_opens_it_as_it_is(path: Path) -> None:
    with xarray.open_zarr(path) as dataset:
        assert dataset.sizes["sample"] == COUNT
        assert dataset["image"].dims == ("sample", "image_channel", "image_height", "image_width")
        assert dataset["top"].dims == ("sample", "top_channel")
        assert dataset["mask"].dims == ("sample",)
        for name, array in ARRAYS.items():
            found = dataset[Recording.open(path)[name].array_name]
            assert found.dtype == array.dtype
            assert np.array_equal(found.values, array)
        assert dataset.attrs["cnnlens"]["backend"] == "reference"


def test_zarr_reads_it_and_finds_only_standard_metadata(path: Path) -> None:
    group = zarr.open_group(path, mode="r")
    recording = Recording.open(path)
    for name, array in ARRAYS.items():
        found = group[recording[name].array_name]
        assert isinstance(found, zarr.Array)
        assert found.attrs["cnnlens_name"] == name
        assert found.chunks == (BATCH, *array.shape[1:])
        assert found.compressors == ()
        assert np.array_equal(found[:], array)


def test_what_is_not_recorded_yet_is_nan_to_others(tmp_path: Path) -> None:
    with xarray.open_zarr(write(tmp_path / "run.zarr", batches=2, finish=False)) as dataset:
        assert np.array_equal(dataset["image"][:6], ARRAYS["image"][:6])
        assert np.isnan(dataset["image"][6:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back(tmp_path: Path, dtype: str) -> None:
    array = (np.random.default_rng(0).random((5, 3)) * 100).astype(dtype)
    writer = RecordingWriter(tmp_path / "r.zarr", description(tensors=("x",), inputs=("x",), batch=5, count=5))
    part = writer.part("x", 0)
    crc = write_chunk(part, [array], 5)
    writer.commit(0, {"x": Part(part, crc, array.shape, array.dtype.str)})
    writer.finish("")
    writer.close()
    with xarray.open_zarr(tmp_path / "r.zarr") as dataset:
        assert np.array_equal(dataset["x"].values, array)
    found = Recording.open(tmp_path / "r.zarr")["x"]
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


def test_a_big_endian_or_strided_array_is_written_little_and_in_order(tmp_path: Path) -> None:
    array = np.arange(2 * 3 * 5, dtype=">f8").reshape(5, 3, 2).T
    assert write_chunk(tmp_path / "c", [array], 3)
    assert (tmp_path / "c").read_bytes() == array.astype("<f8").tobytes() + bytes(8 * 15)


# -- names -----------------------------------------------------------------------------------------------------------

HOSTILE_NAMES = [
    *("../../etc/passwd", "a/b", "a.b", "A/B", "", ".", "..", "con", "nul.txt", "zarr.json", "log.jsonl", "sample"),
    *("conv", "conv_channel", "conv_height", "CONV", "x[1]", "x_1", "\u202egnp", "\x1b[31mred", "n" * 5000, "n" * 5001),
    *("a\x00b", "a b", "a\\b", "-rf", "__reserved", ".parts", "sample_", "日本"),
]


def test_array_names_are_safe_and_unique() -> None:
    check_names(HOSTILE_NAMES)


@settings(deadline=None)
@given(st.lists(st.text(max_size=12) | st.sampled_from(HOSTILE_NAMES), unique=True, max_size=30))
def test_array_names_are_safe_and_unique_whatever_they_are(tensors: list[str]) -> None:
    check_names(tensors)


def check_names(tensors: list[str]) -> None:
    names = array_names(tensors)
    assert list(names) == tensors
    used = [name.lower() for name in names.values()]
    assert len(set(used)) == len(used)
    dimensions = {one.lower() for name in names.values() for rank in range(1, 7) for one in dimension_names(name, rank)}
    for name in used:
        assert name not in dimensions
        assert 0 < len(name) <= 100
        assert all(char.isascii() and (char.isalnum() or char in "._-") for char in name)
        assert not name.startswith((".", "-", "_"))
        assert name not in ("zarr.json", "log.jsonl", "con", "nul")


def test_plain_names_stay() -> None:
    assert array_names(["conv2d", "conv2d_1", "block1.conv"]) == {
        name: name for name in ("conv2d", "conv2d_1", "block1.conv")
    }


# -- going on --------------------------------------------------------------------------------------------------------


def tree(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("batches", [0, 1, 2, 3])
def test_an_interrupted_recording_goes_on_to_the_same_bytes(tmp_path: Path, path: Path, batches: int) -> None:
    cut = write(tmp_path / "cut.zarr", batches=batches, finish=False)
    assert tree(write(cut)) == tree(path)


@pytest.mark.slow
@pytest.mark.parametrize("keep", range(0, 1200, 37))
def test_a_log_cut_anywhere_goes_on_to_the_same_bytes(tmp_path: Path, path: Path, keep: int) -> None:
    """Also with chunk files there that the log does not name yet, and temporary ones left over."""
    expected = tree(path)
    log = path / "log.jsonl"
    if keep < len(log.read_bytes()):
        os.truncate(log, keep)
    (path / ".parts").mkdir()
    (path / ".parts" / "0-1").write_bytes(b"left over")
    first = header_line(description())
    if keep < len(first):  # not even whose it is can be known
        with pytest.raises(CnnlensError, match="no recording"):
            write(path)
        return
    assert tree(write(path)) == expected


STEPS = """
import os, pathlib, sys
from tests.recording.test_recording import tree, write
folder = pathlib.Path(sys.argv[1])
expected = tree(write(folder / "whole.zarr"))
CALLS = "open write fsync ftruncate replace mkdir unlink rmdir".split()

def counted(call, left):
    def step(*arguments, **keywords):
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        return call(*arguments, **keywords)
    return step

kills = 0
while True:
    cut = folder / f"{kills}.zarr"
    child = os.fork()
    if child == 0:
        left = [kills]
        for name in CALLS:
            setattr(os, name, counted(getattr(os, name), left))
        write(cut)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert tree(write(cut)) == expected, kills
    if code == 0:
        break
    assert code == 9, code
    kills += 1
print(kills)
"""


@pytest.mark.slow
def test_killed_before_every_single_step_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", STEPS, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 60


@pytest.mark.parametrize("damage", ["short", "missing", "changed"])
def test_a_damaged_chunk_is_recorded_again(tmp_path: Path, path: Path, damage: str) -> None:
    expected = tree(path)
    chunk = path / "image" / "c.1.0.0.0"
    if damage == "missing":
        chunk.unlink()
    elif damage == "short":
        os.truncate(chunk, 100)
    else:
        chunk.write_bytes(bytes(len(chunk.read_bytes())))
    writer = RecordingWriter(path, description())
    assert writer.done == 1
    writer.close()
    assert not Recording.open(path).complete
    assert tree(write(path)) == expected


def test_of_what_was_recorded_long_before_everything_is_read_again(tmp_path: Path) -> None:
    """After a power failure an old chunk may be zeros of the right length, however many came after it."""
    path, described = tmp_path / "run.zarr", description(tensors=("x",), inputs=("x",), batch=1, count=60)
    writer = RecordingWriter(path, described)
    for batch in range(50):
        part, array = writer.part("x", batch), np.full((1, 4), batch + 1.5)
        writer.commit(batch, {"x": Part(part, write_chunk(part, [array], 1), array.shape, "<f8")})
    writer.close()
    (path / "x" / "c.2.0").write_bytes(bytes(32))
    writer = RecordingWriter(path, described)
    assert writer.done == 2
    writer.close()
    assert Recording.open(path)["x"][1].tolist() == [2.5] * 4
    with pytest.raises(CnnlensError, match="2 of 60 inputs are recorded"):
        Recording.open(path)["x"][2]


def test_complete_is_said_of_what_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.zarr"
    synced: list[int] = []

    def to_disk(handle: int) -> None:
        del handle
        found = Recording.open(path)
        assert not found.description.complete
        synced.append(found.recorded)

    monkeypatch.setattr("cnnlens.recording.writer._to_disk", to_disk)
    write(path)
    assert synced[-1] == COUNT
    assert Recording.open(path).complete


def test_a_recording_that_does_not_reach_the_disk_is_not_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    write(tmp_path / "run.zarr", batches=2, finish=False)
    with monkeypatch.context() as patch:
        patch.setattr("cnnlens.recording.writer._to_disk", broken)
        writer = RecordingWriter(tmp_path / "run.zarr", description())
        with pytest.raises(CnnlensError, match=r"it cannot be written \(Input/output error\)"):
            writer.finish("3" * 64)
        writer.close()
    assert not Recording.open(tmp_path / "run.zarr").complete
    assert Recording.open(write(tmp_path / "run.zarr")).complete


def test_what_this_process_keeps_for_itself_is_not_brought_to_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("cnnlens.recording.writer._to_disk", synced.append)
    image = cnnlens.sample.IMAGES / "9-ankle-boot.png"
    cnnlens.record(cnnlens.sample.MODEL, image, backend="reference", layers=["dense_1"])
    cnnlens.check(cnnlens.sample.MODEL, image, backends=["reference"])
    assert not synced


def test_a_recording_whose_log_is_gone_is_read_and_not_checked(tmp_path: Path) -> None:
    model, image = cnnlens.sample.MODEL, cnnlens.sample.IMAGES / "9-ankle-boot.png"
    path = tmp_path / "run.zarr"
    cnnlens.record(model, image, backend="reference", out=path)
    assert cnnlens.check(model, recordings=[path]).agree
    (path / "log.jsonl").unlink()
    found = Recording.open(path)
    assert not found.verifiable
    assert found["dense_1"][:].shape == (1, 10)
    with pytest.raises(CnnlensError, match=r"run\.zarr: log\.jsonl: is missing, so nothing can be verified; "):
        cnnlens.check(model, recordings=[path])


CHANGES = {
    "another model": {"model": {"file": "a.keras", "sha256": "1" * 64, "network_hash": "4" * 64}},
    "the backend then: reference; now: keras-jax": {"backend": "keras-jax"},
    "the versions then: numpy 2; now: numpy 3": {"versions": {"numpy": "3"}},
    "the precision then: native; now: strict": {"precision": "strict"},
    "the device then: cpu; now: gpu:0": {"device": "gpu:0"},
    "the batch then: 3; now: 4": {"batch": 4},
    "the number of inputs then: 7; now: 8": {"count": 8},
    "the recorded layers": {"tensors": ("image", "top")},
    "the inputs": {"sources": {"image": (("other", COUNT),)}},
}


@pytest.mark.parametrize("reason", CHANGES)
def test_another_run_is_not_gone_on_with(path: Path, reason: str) -> None:
    expected = tree(path)
    with pytest.raises(CnnlensError) as refused:
        RecordingWriter(path, description(**CHANGES[reason]))
    assert reason in str(refused.value)
    assert "--overwrite" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert tree(path) == expected
    writer = RecordingWriter(path, description(**CHANGES[reason]), overwrite=True)
    assert writer.done == 0
    writer.close()
    assert not path.exists()  # nothing was recorded, so nothing stays


def test_without_resume_a_recording_is_not_touched(path: Path) -> None:
    expected = tree(path)
    with pytest.raises(CnnlensError, match="a recording is there; use --overwrite"):
        RecordingWriter(path, description(), resume=False)
    assert tree(path) == expected


def test_what_is_no_recording_is_never_touched(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"precious")
    for overwrite in (False, True):
        with pytest.raises(CnnlensError, match="is no recording"):
            RecordingWriter(folder, description(), overwrite=overwrite)
    (folder / "log.jsonl").write_bytes(b"somebody's log\n")
    for overwrite in (False, True):
        with pytest.raises(CnnlensError, match="its log cannot be read"):
            RecordingWriter(folder, description(), overwrite=overwrite)
    with pytest.raises(CnnlensError, match="is no folder"):
        RecordingWriter(folder / "a.png", description())
    with pytest.raises(CnnlensError, match="does not exist; make it first"):
        RecordingWriter(tmp_path / "no" / "run.zarr", description())
    assert tree(folder) == {"a.png": b"precious", "log.jsonl": b"somebody's log\n"}


def test_two_processes_do_not_write_one_recording(path: Path) -> None:
    writer = RecordingWriter(path, description())
    with pytest.raises(CnnlensError, match="another process is recording to it"):
        RecordingWriter(path, description())
    writer.close()
    RecordingWriter(path, description()).close()


def test_a_log_that_may_not_grow_is_one_line_and_the_run_goes_on(tmp_path: Path) -> None:
    """A limit on the size of files, as `ulimit -f` sets it, stops the run in its midst: the log is what grows."""

    def batches(writer: RecordingWriter) -> None:
        for batch in range(writer.done, 100):
            part = writer.part("x", batch)
            array = np.full((1, 4), batch, np.int64)
            writer.commit(batch, {"x": Part(part, write_chunk(part, [array], 1), array.shape, "<i8")})

    described = description(tensors=("x",), inputs=("x",), count=100, batch=1)
    writer = RecordingWriter(tmp_path / "r.zarr", described)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2500, before[1]))
    try:
        with pytest.raises(CnnlensError) as stopped:
            batches(writer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    writer.close()
    recording = Recording.open(tmp_path / "r.zarr")
    assert 10 < recording.recorded < 90
    assert str(stopped.value) == (
        f"{tmp_path / 'r.zarr'}: it cannot be written (File too large); {recording.recorded} of 100 inputs are "
        "recorded: make space and give the same command again, and it goes on from there"
    )
    writer = RecordingWriter(tmp_path / "r.zarr", described)
    assert writer.done == recording.recorded
    batches(writer)
    writer.close()
    assert np.array_equal(Recording.open(tmp_path / "r.zarr")["x"][:, 0], np.arange(100))


def test_chunks_of_another_size_are_refused(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "r.zarr", description(tensors=("x",), inputs=("x",)))
    for batch, width in enumerate((4, 5)):
        part = writer.part("x", batch)
        array = np.zeros((BATCH, width), np.float32)
        committed = {"x": Part(part, write_chunk(part, [array], BATCH), array.shape, "<f4")}
        if batch:
            with pytest.raises(CnnlensError, match="inputs of one size are needed"):
                writer.commit(batch, committed)
        else:
            writer.commit(batch, committed)
    writer.close()
    assert Recording.open(tmp_path / "r.zarr").recorded == BATCH


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 2000))
def test_a_log_with_anything_behind_it_is_followed_as_far_as_it_goes(tail: bytes, cut: int) -> None:
    whole = header_line(description()) + log_line(0, {"a": 1}) + log_line(1, {"a": 2})
    found, batches, ends = read_log(io.BytesIO(whole + tail))
    assert found == description()
    assert batches[:2] == [{"a": 1}, {"a": 2}]
    assert ends[2] == len(whole)
    try:
        _, batches, ends = read_log(io.BytesIO(whole[:cut]))
    except ValueError:
        return
    assert len(batches) + 1 == len(ends)
    assert ends[-1] <= cut


# -- recordings that strangers made, or that were cut short ----------------------------------------------------------


def metadata(path: Path, change: Callable[[dict], object]) -> None:
    data = json.loads((path / "zarr.json").read_bytes())
    change(data)
    (path / "zarr.json").write_bytes(dumps(data))


def image(data: dict) -> dict:
    return data["consolidated_metadata"]["metadata"]["image"]


def link(path: Path) -> None:
    chunk = path / "image" / "c.0.0.0.0"
    moved = path.parent / "elsewhere"
    chunk.rename(moved)
    chunk.symlink_to(moved)


def link_folder(path: Path) -> None:
    (path / "image").rename(path.parent / "elsewhere")
    (path / "image").symlink_to(path.parent / "elsewhere")


def pipe(path: Path) -> None:
    (path / "image" / "c.0.0.0.0").unlink()
    os.mkfifo(path / "image" / "c.0.0.0.0")


HOSTILE: dict[str, Callable[[Path], object]] = {
    "it is missing": lambda p: (p / "image" / "c.1.0.0.0").unlink(),
    "instead of 480": lambda p: os.truncate(p / "image" / "c.2.0.0.0", 479),
    "holds 1,099,511,627,776 bytes": lambda p: os.truncate(p / "image" / "c.2.0.0.0", 1 << 40),
    "3 of 7 inputs are recorded": lambda p: os.truncate(
        p / "log.jsonl", read_log(io.BytesIO((p / "log.jsonl").read_bytes()))[2][1]
    ),
    "does not exist": shutil.rmtree,
    "cut short before its first batch": lambda p: (p / "zarr.json").unlink(),
    "zarr.json: is damaged": lambda p: os.truncate(p / "zarr.json", 500),
    "RecursionError": lambda p: (p / "zarr.json").write_text("[" * 200_000),
    "is no JSON object": lambda p: (p / "zarr.json").write_text("[1]"),
    "is 300,000,000 bytes long": lambda p: os.truncate(p / "zarr.json", 300_000_000),
    "is no Zarr v3 group": lambda p: metadata(p, lambda d: d.update(zarr_format=2)),
    "was not written by cnnlens": lambda p: metadata(p, lambda d: d["attributes"].clear()),
    "its format is 2": lambda p: metadata(p, lambda d: d["attributes"]["cnnlens"].update(format=2)),
    "its 'count' is '-'": lambda p: metadata(p, lambda d: d["attributes"]["cnnlens"].update(count="-")),
    "a batch of 0": lambda p: metadata(p, lambda d: d["attributes"]["cnnlens"].update(batch=0)),
    "the array of 'image' is missing": lambda p: metadata(
        p, lambda d: d["consolidated_metadata"]["metadata"].pop("image")
    ),
    "has the shape (8, 2, 5, 4)": lambda p: metadata(p, lambda d: image(d).update(shape=[8, 2, 5, 4])),
    "instead of 3,298,534,883,328": lambda p: metadata(
        p,
        lambda d: (
            image(d).update(shape=[7, 2, 1 << 19, 1 << 18]),
            image(d)["chunk_grid"]["configuration"].update(chunk_shape=[3, 2, 1 << 19, 1 << 18]),
        ),
    ),
    "is no array that can be read (shape [7, -2": lambda p: metadata(p, lambda d: image(d).update(shape=[7, -2, 5, 4])),
    "is no array that can be read (shape [7, 1000": lambda p: metadata(p, lambda d: image(d).update(shape=[7, 10**30])),
    "data type 'object'": lambda p: metadata(p, lambda d: image(d).update(data_type="object")),
    "codec 'pickle'": lambda p: metadata(p, lambda d: image(d).update(codecs=[{"name": "pickle"}])),
    "names an array '../image'": lambda p: metadata(
        p,
        lambda d: d["consolidated_metadata"]["metadata"].update(
            {"../image": d["consolidated_metadata"]["metadata"].pop("image")}
        ),
    ),
    "it is no plain file": pipe,
    "chunk of inputs 0 to 2: it is no plain file": link,
    "': it is no plain file": link_folder,
    "its first line is no JSON": lambda p: (p / "log.jsonl").write_bytes(b"{]\n"),
}


@pytest.mark.parametrize("reason", HOSTILE)
def test_what_is_wrong_is_said_in_one_line(path: Path, reason: str) -> None:
    HOSTILE[reason](path)
    if reason.startswith("': "):
        reason = reason[3:]
    with pytest.raises(CnnlensError) as refused:
        np.asarray(Recording.open(path)["image"])
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(str(path))


def test_a_name_that_was_not_recorded_is_said_with_the_nearest(path: Path) -> None:
    with pytest.raises(CnnlensError, match="'imag' was not recorded; did you mean 'image'"):
        Recording.open(path)["imag"]


def test_what_is_there_of_a_cut_recording_can_be_read(tmp_path: Path) -> None:
    recording = Recording.open(write(tmp_path / "run.zarr", batches=2, finish=False))
    assert (recording.complete, recording.recorded) == (False, 6)
    assert np.array_equal(recording["image"][4:6], ARRAYS["image"][4:6])
    with pytest.raises(CnnlensError, match="6 of 7 inputs are recorded; give the same record command again"):
        recording["image"][4:7]


def test_verify_finds_a_changed_bit(path: Path) -> None:
    chunk = path / "outer.conv_1" / "c.1.0.0.0"
    content = bytearray(chunk.read_bytes())
    content[77] ^= 4
    chunk.write_bytes(content)
    with pytest.raises(CnnlensError, match=r"'outer/conv\[1\]', chunk of inputs 3 to 5: its bytes are not those"):
        Recording.open(path).verify()


def test_without_zarr_only_what_another_program_wrote_anew_is_refused(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.zarr"
    shutil.copytree(path, copy)
    metadata(copy, lambda data: image(data).update(codecs=[*image(data)["codecs"], {"name": "gzip"}]))
    monkeypatch.setitem(sys.modules, "zarr", None)
    assert np.array_equal(Recording.open(path)["image"], ARRAYS["image"])
    with pytest.raises(CnnlensError) as refused:
        np.asarray(Recording.open(copy)["image"])
    assert str(refused.value) == (
        f"{copy}: 'image': another program wrote it anew, and reading that needs zarr, which is not installed; "
        'install it with: pip install "zarr>=3"'
    )


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("compressed", [True, False])
def test_what_somebody_wrote_anew_with_zarr_is_read_through_zarr(
    tmp_path: Path, path: Path, separator: str, compressed: bool
) -> None:
    """Other codecs, other chunks, no log, no consolidated metadata."""
    copy = tmp_path / "copy.zarr"
    source = zarr.open_group(path, mode="r")
    target = zarr.create_group(copy, zarr_format=3, attributes=dict(source.attrs))
    for name, array in source.arrays():
        made = target.create_array(
            name,
            shape=array.shape,
            dtype=array.dtype,
            chunks=(2, *array.shape[1:]) if compressed else array.chunks,
            compressors="auto" if compressed else None,
            chunk_key_encoding={"name": "default", "separator": separator},
            attributes=dict(array.attrs),
            dimension_names=array.metadata.dimension_names,
        )
        made[:] = array[:]
    recording = Recording.open(copy)
    assert recording.complete
    for name, array in ARRAYS.items():
        assert np.array_equal(recording[name], array)
        assert np.array_equal(recording[name][2:5], array[2:5])
    with pytest.raises(CnnlensError, match="missing, so nothing can be verified"):
        recording.verify()
    chunk = next(
        file for file in (copy / "image").rglob("*") if file.name != "zarr.json" and stat.S_ISREG(file.stat().st_mode)
    )
    chunk.unlink()
    with pytest.raises(CnnlensError, match="missing"):
        np.asarray(recording["image"])
