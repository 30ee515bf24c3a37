"""Recording streams any number of inputs, and whatever interrupts it, nothing is lost, doubled or torn."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from PIL import Image

import cnnlens
from cnnlens.cli.main import main
from cnnlens.errors import CnnlensError
from cnnlens.progress import Progress, saying
from cnnlens.recording.recorder import record
from cnnlens.recording.recording import Recording
from cnnlens.sample import MODEL
from tests.network.test_network import MODELS, arrays, canonical
from tests.support.workers import ended

# Nearly all start a process or write thousands of images; tests/recording/test_recording.py has the fast ones.
pytestmark = pytest.mark.slow

SMALL = ["max_pooling2d_1", "dense_1"]


@pytest.fixture(scope="module", autouse=True)
def workers() -> Iterator[None]:
    with ended():
        yield


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), np.uint8)


def tree(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


# -- what is recorded ------------------------------------------------------------------------------------------------


def test_every_tensor_is_recorded_as_the_reference_computes_it(tmp_path: Path) -> None:
    given = images(11)
    seen: list[tuple[int, int]] = []
    recording = record(MODEL, given, out=tmp_path / "run.zarr", batch=4, progress=lambda *now: seen.append(now))
    network = cnnlens.open(MODEL)
    expected = network.run(given[:, None] / np.float32(255), dtype="float32")
    assert list(recording) == ["input_layer", *(layer.name for layer in network.layers)]
    assert np.array_equal(recording["input_layer"], (given[:, None] / np.float32(255)).astype(np.float32))
    for name, array in expected.items():
        assert recording[name].shape == array.shape
        assert np.abs(recording[name] - array).max() <= 1e-5 * np.abs(array).max()
    assert seen == [(0, 11), (4, 11), (8, 11), (11, 11)]
    assert recording.complete
    assert recording.verify() > 0
    with xarray.open_zarr(tmp_path / "run.zarr") as dataset:
        assert dataset["conv2d"].dims == ("sample", "conv2d_channel", "conv2d_height", "conv2d_width")
        assert np.array_equal(dataset["conv2d"].values, recording["conv2d"])


def test_a_run_that_a_bad_picture_ended_goes_on_without_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "run.zarr"
    folder.mkdir()
    for number, one in enumerate(images(11)):
        Image.fromarray(one).save(folder / f"{number:02}.png")
    whole = (folder / "07.png").read_bytes()
    (folder / "07.png").write_bytes(whole[:80])
    options = ["-i", str(folder), "--layers", "dense_1", "--batch", "3", "-o", str(out)]
    assert main(["record", str(MODEL), *options]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "07.png" in said
    assert "--skip-bad" in said
    before = tree(out)
    log = before["log.jsonl"]
    assert log.count(b"\n") == 3  # what it is, and two batches

    (folder / "01.png").write_bytes((folder / "02.png").read_bytes())
    assert main(["record", str(MODEL), *options, "--skip-bad"]) == 2
    assert "recorded with other inputs (one of 0 to 2 differs)" in capsys.readouterr().err
    assert tree(out) == before
    Image.fromarray(images(11)[1]).save(folder / "01.png")

    assert main(["record", str(MODEL), *options, "--skip-bad"]) == 0
    assert "1 of 11 pictures" in capsys.readouterr().out
    after = tree(out)
    assert all(after[name] == one for name, one in before.items() if name.rsplit("/", 1)[-1].startswith("c."))
    recording = Recording.open(out)
    assert (recording.count, recording.complete, recording.names[7]) == (10, True, "08")
    assert recording.verify()
    fresh = record(MODEL, folder, layers=["dense_1"], batch=3, skip_bad=True)
    assert np.array_equal(recording["dense_1"], fresh["dense_1"])
    assert recording.info["inputs"] == fresh.info["inputs"]
    with xarray.open_zarr(out) as dataset:
        assert dataset["dense_1"].shape == (10, 10)

    (folder / "07.png").write_bytes(whole)  # what is complete, no other inputs follow
    assert main(["record", str(MODEL), *options]) == 2
    assert "the number of inputs then: 10; now: 11" in capsys.readouterr().err


def test_it_says_what_made_it(tmp_path: Path) -> None:
    info = record(MODEL, images(2), layers=["dense_1"], out=tmp_path / "run.zarr", precision="strict").info
    network = cnnlens.open(MODEL)
    assert info["model"]["file"] == MODEL.name
    assert info["model"]["sha256"] == network.source.sha256
    assert (info["backend"], info["device"], info["precision"]) == ("reference", "cpu", "strict")
    assert info["versions"]["numpy"] == np.__version__
    assert info["weights"] == []  # asked, and every bit is the file's
    assert any("divided by 255" in note for note in info["inputs"]["notes"])
    assert info["tensors"] == ["input_layer", "dense_1"]


def test_the_hash_of_the_inputs_does_not_depend_on_the_batch_or_the_container(tmp_path: Path) -> None:
    given = images(7)
    np.save(tmp_path / "x.npy", given)
    one = record(MODEL, given, layers=["dense_1"], batch=3)
    two = record(MODEL, tmp_path / "x.npy", layers=["dense_1"], batch=7)
    three = record(MODEL, images(7, 1), layers=["dense_1"])
    assert one.info["inputs"]["sha256"] == two.info["inputs"]["sha256"] != three.info["inputs"]["sha256"]


def test_without_a_place_it_lives_as_long_as_the_object() -> None:
    recording = record(MODEL, images(3), layers=SMALL)
    path = recording.path
    assert recording["dense_1"].shape == (3, 10)
    assert path.is_dir()
    del recording
    assert not path.exists()


@pytest.mark.parametrize(
    ("layers", "found"),
    [
        (["conv2d"], ["conv2d"]),
        ([0, "dense_1"], ["conv2d", "dense_1"]),
        ([-1, "input_layer"], ["dense_1"]),
        (["dense", "dense", "conv2d"], ["conv2d", "dense"]),
    ],
)
def test_layers_are_chosen_by_name_or_index(layers: list[Any], found: list[str]) -> None:
    assert list(record(MODEL, images(2), layers=layers)) == ["input_layer", *found]


MEMORY = """
import resource, sys
import numpy as np
import cnnlens
from cnnlens.inputs.stream import open_inputs
from cnnlens.recording.recorder import record
model, path, out = sys.argv[1:]
network = cnnlens.open(model)
def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
record(network, path, layers=["conv2d"], limit=600, out=out + "-small.zarr")
before = most()
stream = open_inputs(network, path)
for start in range(0, stream.count, 256):
    stream.batch(start, start + 256)
print(most() - before)
before = most()
recording = record(network, path, layers=["conv2d"], limit=3000, out=out + ".zarr")
print(most() - before, recording["conv2d"].nbytes >> 20)
"""


@pytest.mark.slow
def test_memory_is_bounded(tmp_path: Path) -> None:
    """300 MB of inputs pass through a process that grows by no more than 60 MB, and 280 MB of feature maps by it."""
    given = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float64, (50_000, 28, 28))
    given.flush()
    del given
    arguments = [str(MODEL), str(tmp_path / "x.npy"), str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", MEMORY, *arguments], capture_output=True, text=True, check=True)
    read, recorded, written = map(int, done.stdout.split())
    assert read < 60
    assert recorded < 30
    assert written > 280


def test_recording_and_reading_need_no_zarr_library() -> None:
    code = f"""
import sys
from cnnlens import record
from cnnlens.cli.main import main
import numpy as np
recording = record({str(MODEL)!r}, np.zeros((2, 28, 28), np.uint8), layers=["conv2d"])
assert np.asarray(recording["conv2d"]).shape == (2, 32, 28, 28)
main(["summary", {str(MODEL)!r}])
assert "zarr" not in sys.modules and "PIL" not in sys.modules and "matplotlib" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# -- going on --------------------------------------------------------------------------------------------------------


def test_what_is_complete_is_not_recorded_again(tmp_path: Path) -> None:
    record(MODEL, images(9), layers=SMALL, batch=4, out=tmp_path / "run.zarr")

    def times() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in (tmp_path / "run.zarr").rglob("*") if file.is_file()}

    before = times()
    recording = record(MODEL, images(9), layers=SMALL, batch=4, out=tmp_path / "run.zarr")
    assert recording.complete
    assert times() == before


OTHERS: dict[str, dict[str, Any]] = {
    "with other inputs (one of 4 to 7 differs)": {"inputs": np.concatenate([images(4), images(5, 1)])},
    "the number of inputs then: 9; now: 8": {"inputs": images(8)},
    "the batch then: 4; now: 3": {"batch": 3},
    "the recorded layers": {"layers": ["dense_1"]},
    "the precision": {"precision": "strict"},
}


@pytest.mark.parametrize("reason", OTHERS)
def test_another_run_is_refused_in_one_line_unless_it_may_overwrite(tmp_path: Path, reason: str) -> None:
    usual: dict[str, Any] = {"inputs": images(9), "layers": SMALL, "batch": 4, "out": tmp_path / "run.zarr"}
    record(MODEL, **usual)
    expected = tree(tmp_path / "run.zarr")
    with pytest.raises(CnnlensError) as refused:
        record(MODEL, **{**usual, **OTHERS[reason]})
    assert reason in str(refused.value)
    assert "--overwrite" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert tree(tmp_path / "run.zarr") == expected
    recording = record(MODEL, **{**usual, **OTHERS[reason]}, overwrite=True)
    assert recording.complete
    assert tree(tmp_path / "run.zarr") != expected


def test_inputs_that_break_off_leave_what_was_recorded(tmp_path: Path) -> None:
    given = images(10).astype(np.float32)
    given[6, 3, 2] = np.nan
    with pytest.raises(CnnlensError, match=r"image 6 holds nan at channel 0, position \(3, 2\).*--allow-nonfinite"):
        record(MODEL, given, layers=SMALL, batch=2, out=tmp_path / "run.zarr")
    assert Recording.open(tmp_path / "run.zarr").recorded == 6
    recording = record(MODEL, given, layers=SMALL, batch=2, out=tmp_path / "run.zarr", allow_nonfinite=True)
    assert recording.complete
    assert np.isnan(recording["input_layer"][6]).sum() == 1


SCRIPT = """
import sys
from cnnlens.recording.recorder import record
def said(done, count):
    print(done, flush=True)
record(sys.argv[1], sys.argv[2], out=sys.argv[3], batch=2, layers=["max_pooling2d_1", "dense_1"], progress=said)
print("complete", flush=True)
"""


def start(tmp_path: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(MODEL), str(tmp_path / "x.npy"), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def children(pid: int) -> list[int]:
    """The backend processes of a process."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"\nPPid:\t{pid}\n" in (entry / "status").read_text():
                command = (entry / "cmdline").read_bytes()
                if b"cnnlens.backend.child" in command:
                    found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_killed_at_random_moments_nothing_is_lost_doubled_or_torn(tmp_path: Path) -> None:
    """Nine kills of parent, backend's process or both; then the bytes are those of a run that nobody killed."""
    np.save(tmp_path / "x.npy", images(1101))
    record(MODEL, tmp_path / "x.npy", layers=SMALL, batch=2, out=tmp_path / "whole.zarr")
    expected = tree(tmp_path / "whole.zarr")
    out = tmp_path / "killed.zarr"
    dice = random.Random(int(os.environ.get("CNNLENS_SEED", time.time_ns() % 1000)))
    reached: list[int] = []
    kinds = ["parent", "child", "both"] * 3
    for number, kind in enumerate(kinds):
        process = start(tmp_path, out)
        assert process.stdout is not None
        assert process.stderr is not None
        if number % 5:  # most of them while batches pass by, the others while all is being started
            begun = process.stdout.readline()
            if begun == "complete\n":  # a fast machine: the kills before were enough
                process.communicate(timeout=60)
                break
            assert begun.strip().isdigit(), process.stderr.read()
            reached.append(int(begun))
            time.sleep(dice.random() * 0.06)
        else:
            time.sleep(dice.random() * 0.6)
        if kind != "parent":
            for child in children(process.pid):
                os.kill(child, signal.SIGKILL)
        if kind != "child":
            process.kill()
        _, said = process.communicate(timeout=60)
        if kind == "child" and process.returncode:
            assert "killed by SIGKILL" in said
        if out.exists() and (out / "zarr.json").exists():
            recording = Recording.open(out)
            assert recording.verify() >= 0  # whatever the log names is there and whole
    assert reached == sorted(reached)  # nothing that was once recorded is done again
    assert len(reached) > 4
    process = start(tmp_path, out)
    said, errors = process.communicate(timeout=120)
    assert said.endswith("complete\n"), errors
    assert tree(out) == expected


# -- disks -----------------------------------------------------------------------------------------------------------


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cnnlens", "record", *map(str, arguments)], capture_output=True, text=True
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB, where this may be made."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)], capture_output=True)
    if made.returncode:
        pytest.skip("only root may mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_space(tmp_path: Path, small_disk: Path) -> None:
    np.save(tmp_path / "x.npy", images(60))
    arguments = [MODEL, "-i", tmp_path / "x.npy", "-l", "conv2d,dense_1", "--batch", 5, "-o", small_disk / "run.zarr"]
    done = command(*arguments)
    check_trouble(done, small_disk / "run.zarr", "No space left on device")
    subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)
    assert command(*arguments).returncode == 0
    whole = record(MODEL, tmp_path / "x.npy", layers=["conv2d", "dense_1"], batch=5, out=tmp_path / "whole.zarr")
    assert tree(small_disk / "run.zarr") == tree(whole.path)


def check_trouble(done: subprocess.CompletedProcess[str], out: Path, reason: str) -> None:
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"cnnlens: {out}: it cannot be written ({reason}); ")
    assert "inputs are recorded: make space and give the same command again" in done.stderr
    recording = Recording.open(out)
    assert 0 < recording.recorded < recording.count
    recording.verify()
    assert not (out / ".parts").exists()


# -- other networks, the command, live models ------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_every_graph_is_recorded_tensor_by_tensor(graphs: Path, tmp_path: Path, name: str) -> None:
    network = cnnlens.open(graphs / f"{name}.keras")
    given = [canonical(one) for one in arrays(graphs / f"{name}.inputs.npz").values()]
    recording = record(network, given, batch=2, out=tmp_path / "run.zarr")  # 3 examples: the last batch is short
    expected = network.run(given, layers=[*network.by_name], dtype="float32", batch=2)
    assert set(network.tensors) == set(recording)
    for name, array in expected.items():
        assert recording[name].shape == array.shape, name
        difference = np.abs(recording[name][:].astype(np.float64) - array)  # masks are booleans
        assert difference.max() <= 1e-6 * max(np.abs(array).max(), 1e-30), name
    with xarray.open_zarr(recording.path) as dataset:
        assert set(dataset.sizes) >= {"sample"}
        assert dataset.sizes["sample"] == 3


def test_the_command_says_what_it_recorded_and_goes_on(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", images(9))
    arguments = [MODEL, "-i", tmp_path / "x.npy", "-l", "conv2d,7", "--batch", 4, "-o", tmp_path / "run.zarr"]
    done = command(*arguments)
    assert (done.returncode, done.stderr) == (0, "")  # no bar where nobody looks
    assert "9 inputs through reference on cpu, native precision (numpy" in done.stdout
    assert "0..255 divided by 255" in done.stdout
    assert "conv2d       conv2d       (9, 32, 28, 28)  float32" in done.stdout
    facts = json.loads(command(*arguments, "--json").stdout)
    assert facts["complete"] is True
    assert facts["arrays"]["dense_1"] == {"array": "dense_1", "shape": [9, 10], "dtype": "float32"}
    assert facts["bytes"] == 4 * 9 * (784 + 32 * 784 + 10)
    done = command(*arguments[:-1], tmp_path / "run.zarr", "--precision", "strict")
    assert done.returncode == 2
    assert done.stderr == (
        f"cnnlens: {tmp_path / 'run.zarr'}: the precision then: native; now: strict; use --overwrite to throw it "
        "away, or choose another place with -o\n"
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-i", "no-such.npy"], "no-such.npy: does not exist"),
        (["-i", "{x}", "-b", "keras-jx"], "did you mean 'keras-jax'"),
        (["-i", "{x}", "-l", "conv2"], "no layer is named 'conv2'; did you mean 'conv2d'"),
        (["-i", "{x}", "-l", "99"], "there is no layer 99"),
        (["-i", "{x}", "--batch", "0"], "a batch holds at least one input"),
        (["-i", "{x}", "--device", "gpu"], "the reference runs on the cpu alone"),
        (["-i", "{x}", "--scale", "0..2"], "no scale '0..2'"),
        (["-i", "{model}"], "holds"),
    ],
)
def test_the_command_refuses_in_one_line_and_leaves_nothing(tmp_path: Path, arguments: list[str], reason: str) -> None:
    np.save(tmp_path / "x.npy", images(3))
    given = [one.format(x=tmp_path / "x.npy", model=MODEL) for one in arguments]
    done = command(MODEL, *given, "-o", tmp_path / "run.zarr")
    assert done.returncode == 2
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.npy"]


def test_ctrl_c_leaves_what_was_recorded(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", images(20000))
    process = start(tmp_path, tmp_path / "run.zarr")
    assert process.stdout is not None
    while process.stdout.readline().strip() in ("0", "2"):
        pass
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in said  # which the command line catches
    recording = Recording.open(tmp_path / "run.zarr")
    assert 0 < recording.recorded < 20000
    recording.verify()
    assert not (tmp_path / "run.zarr" / ".parts").exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_shows_the_rate_and_the_time_left_on_a_terminal_alone() -> None:
    with Progress("images", io.StringIO()) as silent:
        silent(1, 2)
        assert silent._stream.getvalue() == ""  # type: ignore[attr-defined]
    terminal = Terminal()
    with Progress("images", terminal) as progress:
        progress(50, 100)
        progress(100, 100)
    drawn = terminal.getvalue()
    assert drawn.startswith("\r[==========          ] 50/100 images")
    assert drawn.endswith("\n")
    bar = Progress("images", io.StringIO())
    assert bar.line(5000, 20000, 2500, 2.0) == "[=====               ] 5,000/20,000 images, 1,250/s, 12 s left"
    assert bar.line(30, 20000, 30, 60.0) == "[                    ] 30/20,000 images, 0.5/s, 11 h 06 min left"
    assert bar.line(100, 100, 50, 10.0).endswith("100/100 images, 5/s, in 10 s")


def test_what_is_waited_for_is_said_until_something_is_counted() -> None:
    terminal, counted = Terminal(), []
    saying(lambda done, count: counted.append(done), "a caller's own function counts alone")
    saying(None, "nobody hears it")
    with Progress("images", terminal) as progress:
        saying(progress, "starting a backend …")
        saying(progress, "waiting for the first batch")
        assert progress.line(0, 100, 0, 0.0).endswith("0/100 images, waiting for the first batch")
        assert progress.line(32, 100, 32, 2.0).endswith("32/100 images, 16/s, 4 s left")
    assert counted == []
    assert terminal.getvalue().startswith("\rstarting a backend …")
    assert not terminal.getvalue().endswith("\n")


LIVE = """
import sys, warnings
import numpy as np, keras
from cnnlens import record
from cnnlens.errors import CnnlensError
kl = keras.layers
first = [keras.Input((7, 5, 2)), kl.Conv2D(3, (2, 3), name="conv")]
model = keras.Sequential([*first, kl.Flatten(name="flat"), kl.Dense(4, name="top")])
x = np.random.default_rng(0).random((11, 7, 5, 2), np.float32)
recording = record(model, x, batch=4, out=sys.argv[1])
assert recording.info["backend"] == "keras-" + keras.config.backend(), recording.info
assert recording.info["weights"] == []
assert recording.recorded == 11 and recording.verify()
assert np.allclose(recording["top"], model(x), atol=1e-5)
conv = np.moveaxis(np.asarray(model.layers[0](x)), -1, 1)
assert np.allclose(recording["conv"], conv, atol=1e-5)
assert recording["conv"].shape == (11, 3, 6, 3)
model.layers[0].set_weights([np.zeros((2, 3, 2, 3)), np.ones(3)])
try:
    record(model, x, batch=4, out=sys.argv[1])
except CnnlensError as error:
    assert "another model was recorded" in str(error), error
else:
    raise AssertionError
assert (np.asarray(record(model, x, layers=["conv"])["conv"]) == 1).all()
try:
    record(object(), x)
except CnnlensError as error:
    assert "a live model of keras or a live model of torch was expected, a builtins.object came" in str(error), error
"""


@pytest.mark.framework
def test_a_live_model_is_recorded_in_this_process(tmp_path: Path) -> None:
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "-c", LIVE, str(tmp_path / "run.zarr")], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.usefixtures("plugins")
def test_a_batch_that_memory_does_not_hold_is_halved_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CNNLENS_FAULT", "run:much")  # more than three at once are no memory there
    given, said = images(19), "memory ran out of a batch: 2 inputs went through at once from there on"
    np.save(tmp_path / "x.npy", given)
    options = ["--layers", "max_pooling2d_1", "--backend", "faulty", "--batch", "8"]
    assert main(["record", str(MODEL), "--inputs", str(tmp_path / "x.npy"), *options, "-o", str(tmp_path / "run")]) == 0
    assert said in capsys.readouterr().out
    recording = Recording.open(tmp_path / "run")
    assert recording.info["notes"] == [said]
    whole = record(MODEL, given, layers=["max_pooling2d_1"], batch=2)
    assert np.array_equal(recording["max_pooling2d_1"], whole["max_pooling2d_1"])
    assert recording.verify()
    stats = cnnlens.stats(MODEL, given, layers=["max_pooling2d_1"], backend="faulty", batch=8, draw=None)
    assert said in stats.notes
    wanted = np.asarray(whole["max_pooling2d_1"], np.float64)
    assert np.allclose(stats["max_pooling2d_1"].mean, wanted.mean((0, 2, 3)), rtol=1e-6)
