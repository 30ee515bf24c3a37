"""The writer's own promises: whose folder it takes, what a disk's trouble leaves, and what is ready when it says so."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlens.backend.chunks import write_chunk
from cnnlens.errors import CnnlensError
from cnnlens.recording import ledger
from cnnlens.recording import writer as writers
from cnnlens.recording.format import Description, read_log
from cnnlens.recording.ledger import Part
from cnnlens.recording.recording import Recording
from cnnlens.recording.writer import RecordingWriter, is_disk_trouble
from tests.recording.test_recording import ARRAYS, BATCH, COUNT, description, tree, write


def parts_of(writer: RecordingWriter, batch: int) -> dict[str, Part]:
    found: dict[str, Part] = {}
    for name, array in ARRAYS.items():
        place = writer.part(name, batch)
        crc = write_chunk(place, [array[batch * BATCH : (batch + 1) * BATCH]], BATCH)
        found[name] = Part(place, crc, (BATCH, *array.shape[1:]), array.dtype.str)
    return found


def small() -> Description:
    return description(tensors=("x",), inputs=("x",), count=8, batch=2)


def part(writer: RecordingWriter, batch: int, array: np.ndarray) -> dict[str, Part]:
    place = writer.part("x", batch)
    return {"x": Part(place, write_chunk(place, [array], len(array)), array.shape, array.dtype.str)}


def failing(number: int, when: Callable[..., bool] = lambda *_: True) -> Callable[..., None]:
    def call(*arguments: object) -> None:
        if when(*arguments):
            raise OSError(number, os.strerror(number))

    return call


# -- what it says of itself ------------------------------------------------------------------------------------------


def test_what_is_known_of_tensors_and_chunks(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "run.zarr", description())
    assert (writer.done, writer.finished, writer.expected("image")) == (0, False, (None, None))
    places = {writer.part(name, batch) for name in ARRAYS for batch in range(3)}
    assert len(places) == 3 * len(ARRAYS)
    assert {place.parent.parent for place in places} == {tmp_path / "run.zarr"}
    first = parts_of(writer, 0)
    writer.commit(0, first)
    assert writer.done == 1
    for name, array in ARRAYS.items():
        assert writer.expected(name) == ((BATCH, *array.shape[1:]), array.dtype.str)
        assert writer.crc32(0, name) == first[name].crc32
        assert not first[name].path.exists()
    writer.close()
    assert not RecordingWriter(tmp_path / "run.zarr", description()).finished
    writer = RecordingWriter(write(tmp_path / "whole.zarr"), description())
    assert (writer.finished, writer.done) == (True, 3)
    writer.finish("another")  # it is complete: its hash stays
    writer.close()
    assert Recording.open(tmp_path / "whole.zarr").info["inputs"]["sha256"] == "3" * 64


def test_little_endian_is_what_is_said_of_big_endian(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "r.zarr", small())
    for batch in range(2):
        writer.commit(batch, part(writer, batch, np.full((2, 3), batch + 0.5, ">f4")))
    assert writer.expected("x") == ((2, 3), "<f4")
    writer.close()
    assert Recording.open(tmp_path / "r.zarr")["x"][:4, 0].tolist() == [0.5, 0.5, 1.5, 1.5]


# -- whose folder it is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_records_all_the_same(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(number))
    assert Recording.open(write(tmp_path / "run.zarr")).complete


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.EACCES])
def test_what_another_process_writes_is_left_to_it(path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (path / ".parts").mkdir()
    (path / ".parts" / "0-1").write_bytes(b"the other's")
    before = tree(path)
    monkeypatch.setattr(fcntl, "flock", failing(number))
    opened = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    with pytest.raises(CnnlensError, match="another process is recording to it"):
        RecordingWriter(path, description())
    assert tree(path) == before
    if opened:
        assert len(os.listdir("/proc/self/fd")) == opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "run.zarr")


def test_links_are_not_followed(tmp_path: Path, path: Path) -> None:
    (tmp_path / "link.zarr").symlink_to(path)
    with pytest.raises(CnnlensError, match="it exists and is a link"):
        RecordingWriter(tmp_path / "link.zarr", description())
    log = tmp_path / "elsewhere"
    shutil.copy(path / "log.jsonl", log)
    (path / "log.jsonl").unlink()
    (path / "log.jsonl").symlink_to(log)
    with pytest.raises(CnnlensError, match="no recording that record made"):
        RecordingWriter(path, description())


def test_a_chunk_that_is_a_link_is_recorded_again(tmp_path: Path, path: Path) -> None:
    expected = tree(path)
    chunk = path / "image" / "c.1.0.0.0"
    chunk.replace(tmp_path / "elsewhere")
    chunk.symlink_to(tmp_path / "elsewhere")
    writer = RecordingWriter(path, description())
    assert writer.done == 1
    writer.close()
    assert tree(write(path)) == expected
    assert not chunk.is_symlink()


def test_a_folder_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.png").write_bytes(b"precious")
    (folder / "log.jsonl").touch()  # as a kill before the first line leaves it
    for overwrite in (False, True):
        with pytest.raises(CnnlensError, match="no recording that record made"):
            RecordingWriter(folder, description(), overwrite=overwrite)
    assert tree(folder) == {"deep/a.png": b"precious", "log.jsonl": b""}


def test_to_overwrite_throws_away_what_is_a_recordings_and_nothing_else(tmp_path: Path, path: Path) -> None:
    other = description(backend="keras-jax")
    for mine in ("notes.txt", "more/notes.txt"):
        (path / mine).parent.mkdir(exist_ok=True)
        (path / mine).write_bytes(b"mine")
        before = tree(path)
        with pytest.raises(CnnlensError, match="is no recording's and would be lost; move it away"):
            RecordingWriter(path, other, overwrite=True)
        assert tree(path) == before
        (path / mine).unlink()  # its folder stays: an empty one is nothing to lose
    wanted = write(tmp_path / "new.zarr", backend="keras-jax")
    writer = RecordingWriter(path, other, overwrite=True)
    assert writer.done == 0
    for batch in range(3):
        writer.commit(batch, parts_of(writer, batch))
    writer.finish("3" * 64)
    writer.close()
    assert tree(path) == tree(wanted)
    assert not (path / "more").exists()


def test_nothing_stays_of_a_run_that_recorded_nothing(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "run.zarr", description())
    parts_of(writer, 0)
    writer.close()
    writer.close()
    assert not (tmp_path / "run.zarr").exists()
    one = write(tmp_path / "one.zarr", batches=1, finish=False)
    assert Recording.open(one).recorded == BATCH
    assert not (one / ".parts").exists()


def test_metadata_that_is_gone_is_begun_again(path: Path) -> None:
    expected = tree(path)
    (path / "zarr.json").unlink()
    writer = RecordingWriter(path, description())
    assert writer.done == 0
    writer.close()
    assert tree(write(path)) == expected


def test_arrays_of_other_names_are_not_gone_on_with(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version may name arrays otherwise: its chunks would not be found."""
    monkeypatch.setattr(ledger, "array_names", lambda tensors: {name: f"a.{name[:3]}" for name in tensors})
    with pytest.raises(CnnlensError, match="other names than expected; use --overwrite"):
        RecordingWriter(path, description())


# -- what is written when --------------------------------------------------------------------------------------------


def test_the_log_comes_after_the_chunks_it_speaks_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the two it loses a batch; the other way round it would have one that is not there."""
    writer = RecordingWriter(tmp_path / "run.zarr", description())
    monkeypatch.setattr(os, "write", failing(errno.ENOSPC))
    with pytest.raises(CnnlensError, match=r"it cannot be written \(No space left on device\); make space, or choose"):
        writer.commit(0, parts_of_without_write(writer))
    assert writer.done == 0
    assert (tmp_path / "run.zarr" / "image" / "c.0.0.0.0").exists()
    writer.close()


def parts_of_without_write(writer: RecordingWriter) -> dict[str, Part]:
    """The first batch, written by other means than ``os.write``."""
    import zlib

    found: dict[str, Part] = {}
    for name, array in ARRAYS.items():
        place = writer.part(name, 0)
        place.write_bytes(array[:BATCH].tobytes())
        found[name] = Part(place, zlib.crc32(place.read_bytes()), (BATCH, *array.shape[1:]), array.dtype.str)
    return found


def test_half_a_line_does_not_stay_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = RecordingWriter(tmp_path / "r.zarr", small())
    writer.commit(0, part(writer, 0, np.ones((2, 3))))
    before = (tmp_path / "r.zarr" / "log.jsonl").read_bytes()
    chunk = part(writer, 1, np.ones((2, 3)))
    written = os.write
    pieces = [7, 0]

    def little(handle: int, line: bytes) -> int:
        if not (size := pieces.pop(0)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written(handle, line[:size])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", little)
        with pytest.raises(CnnlensError, match="2 of 8 inputs are recorded"):
            writer.commit(1, chunk)
    assert (tmp_path / "r.zarr" / "log.jsonl").read_bytes() == before
    writer.commit(1, part(writer, 1, np.ones((2, 3))))  # the same process goes on when there is space
    with (tmp_path / "r.zarr" / "log.jsonl").open("rb") as stream:
        assert len(read_log(stream)[1]) == 2
    writer.close()


def test_a_line_is_written_whole_however_little_the_disk_takes_at_a_time(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, written = tree(path), os.write
    monkeypatch.setattr(os, "write", lambda handle, line: written(handle, bytes(line)[:11]))
    writer = RecordingWriter(tmp_path / "slow.zarr", description())
    for batch in range(3):
        writer.commit(batch, parts_of(writer, batch))
    writer.finish("3" * 64)
    writer.close()
    assert tree(tmp_path / "slow.zarr") == expected


def test_what_follows_the_last_whole_batch_is_cut_off_the_log(path: Path) -> None:
    log = path / "log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    (path / "top" / "c.1.0").unlink()
    RecordingWriter(path, description()).close()
    assert log.read_bytes() == b"".join(lines[:2])


def test_a_whole_log_is_not_touched(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "ftruncate", failing(errno.EIO))
    RecordingWriter(path, description()).close()


def test_a_chunk_that_the_log_does_not_know_is_recorded_again(path: Path) -> None:
    log = path / "log.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"top":', b'"top_":'))
    writer = RecordingWriter(path, description())
    assert writer.done == 0
    writer.close()


def test_trouble_with_the_disk_in_the_background_is_told_at_the_next_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "_to_disk", failing(errno.EIO))
    writer = RecordingWriter(tmp_path / "r.zarr", small())
    writer.commit(0, part(writer, 0, np.ones((2, 3))))
    assert writer._syncing is not None
    writer._syncing.exception(10)
    with pytest.raises(CnnlensError, match="Input/output error"):
        writer.commit(1, part(writer, 1, np.ones((2, 3))))
    writer.close()


def test_one_way_to_the_disk_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk slower than the batches gets no queue of them."""
    import threading

    go, entered = threading.Event(), []

    def slow(handle: int) -> None:
        entered.append(handle)
        assert go.wait(10)

    monkeypatch.setattr(writers, "_to_disk", slow)
    writer = RecordingWriter(tmp_path / "r.zarr", small())
    for batch in range(4):
        writer.commit(batch, part(writer, batch, np.ones((2, 3))))
    go.set()
    writer.finish("3" * 64)
    writer.close()
    assert len(entered) == 2  # that of the first batch, and that of all


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system takes no advice on its cache")
@pytest.mark.parametrize(("room", "durable", "kept"), [(191, True, False), (192, True, True), (0, False, True)])
def test_what_is_large_beside_memory_leaves_the_systems_cache_once_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, durable: bool, kept: bool
) -> None:
    """Four chunks of 48 bytes and a quarter of so much memory; what is gone with its process is never brought there."""
    done: list[str] = []

    def advised(handle: int, start: int, length: int, advice: int) -> None:
        assert (start, length, advice) == (0, 0, os.POSIX_FADV_DONTNEED)
        done.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)

    monkeypatch.setattr(writers, "available", lambda: 4 * room)
    monkeypatch.setattr(writers, "_to_disk", lambda _: done.append("synced"))
    monkeypatch.setattr(os, "posix_fadvise", advised)
    writer = RecordingWriter(tmp_path / "r.zarr", small(), durable=durable)
    for batch in range(4):
        writer.commit(batch, part(writer, batch, np.ones((2, 3))))
        if writer._syncing is not None:
            writer._syncing.result(10)
    writer.finish("3" * 64)
    writer.close()
    synced = ["synced"] * durable
    assert done == [one for batch in range(4) for one in synced + [f"c.{batch}.0"] * (not kept)] + synced


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files cannot be looked at here")
def test_what_is_brought_to_the_disk_is_all_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python holds back in a buffer no fsync knows of."""
    synced, seen = os.fsync, []

    def looked(handle: int) -> None:
        seen.append(Path(f"/proc/self/fd/{handle}").read_bytes())
        synced(handle)

    monkeypatch.setattr(os, "fsync", looked)
    path = write(tmp_path / "run.zarr")
    for file in (path / "zarr.json", path / "image" / "zarr.json", path / "log.jsonl"):
        assert file.read_bytes() in seen


def test_a_closed_writer_has_no_thread_left(tmp_path: Path) -> None:
    import threading

    write(tmp_path / "run.zarr")
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("cnnlens-sync")]


def test_a_beginning_that_failed_is_begun_again_by_the_same_process(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = RecordingWriter(tmp_path / "new.zarr", description())
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(errno.ENOSPC))
        with pytest.raises(CnnlensError, match="No space left"):
            writer.commit(0, parts_of(writer, 0))
    for batch in range(3):
        writer.commit(batch, parts_of(writer, batch))
    writer.finish("3" * 64)
    writer.close()
    assert tree(tmp_path / "new.zarr") == tree(path)


def test_to_the_disk_is_asked_of_the_file_system(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as stream:
        writers._to_disk(stream.fileno())
    with pytest.raises(OSError, match="Bad file descriptor"):
        writers._to_disk(-1)


@pytest.mark.parametrize(("killed", "more"), [("log.jsonl", 0), ("log.jsonl", 2), ("zarr.json", 2)])
def test_a_kill_while_the_inputs_are_renewed_leaves_nothing_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: str, more: int
) -> None:
    """Others had begun to follow; then those that there were go on after all."""
    write(tmp_path / "run.zarr", batches=2, finish=False)
    written, rest = RecordingWriter._write, COUNT - 2 * BATCH + more
    others = description(sources={"image": (("folder", 2 * BATCH), ("others", rest))}, count=COUNT + more)

    def cut(writer: RecordingWriter, name: str, *arguments: Any, **options: Any) -> None:
        if name == killed:
            raise OSError(errno.EIO, "killed")
        written(writer, name, *arguments, **options)

    writer = RecordingWriter(tmp_path / "run.zarr", others)
    with monkeypatch.context() as patch:
        patch.setattr(RecordingWriter, "_write", cut)
        with pytest.raises(CnnlensError, match="killed"):
            writer.commit(2, parts_of(writer, 2))
    writer.close()
    write(tmp_path / "run.zarr", finish=False)
    assert tree(tmp_path / "run.zarr") == tree(write(tmp_path / "one.zarr", finish=False))


# -- what cannot be recorded -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dtype", "said"),
    [
        ((2, 3), "<U1", "'x' is <U1, which cannot be recorded"),
        ((3, 3), "<f4", r"'x' is \(3, 3\) for 2 inputs, and only what has a row for each input is recorded"),
        ((), "<f4", r"'x' is \(\) for 2 inputs, and only"),
    ],
)
def test_what_has_no_row_for_each_input_or_no_numbers(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, said: str
) -> None:
    writer = RecordingWriter(tmp_path / "r.zarr", small())
    place = writer.part("x", 0)
    place.write_bytes(b"")
    with pytest.raises(CnnlensError, match=said):
        writer.commit(0, {"x": Part(place, 0, shape, dtype)})
    writer.close()
    assert not (tmp_path / "r.zarr").exists()


def test_a_batch_of_another_dtype_is_refused(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "r.zarr", small())
    writer.commit(0, part(writer, 0, np.ones((2, 3), np.float32)))
    with pytest.raises(CnnlensError, match=r"'x' was \(\(2, 3\), '<f4'\) and batch 1 is \(\(2, 3\), '<f8'\)"):
        writer.commit(1, part(writer, 1, np.ones((2, 3))))
    writer.close()


def test_trouble_says_what_is_safe_and_what_to_do(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "run.zarr", description())
    assert str(writer.trouble("quota")) == (
        f"{tmp_path / 'run.zarr'}: it cannot be written (quota); make space, or choose another place with -o"
    )
    for batch in range(3):
        writer.commit(batch, parts_of(writer, batch))
    text = str(writer.trouble(OSError(errno.EDQUOT, "Disk quota exceeded")))
    assert f"(Disk quota exceeded); {COUNT} of {COUNT} inputs are recorded" in text  # the last batch has but one
    assert "(no word of it)" in str(writer.trouble(OSError("no word of it")))
    writer.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS])
def test_the_disks_troubles_are_known_from_what_a_worker_says(number: int) -> None:
    assert is_disk_trouble(RuntimeError(f"worker: {os.strerror(number)} while writing")) == os.strerror(number)
    assert is_disk_trouble(RuntimeError(os.strerror(errno.ENOENT))) is None
