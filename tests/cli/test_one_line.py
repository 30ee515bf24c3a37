"""Whatever sizes a file states, a command does its work or says in one line why not: no traceback, no killed process.

Every whole number that a model, a recording or an input holds is replaced by numbers that no computer can count to or
hold, and the commands run in a process that may take little memory.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens import sample
from cnnlens.errors import CnnlensError, in_one_line
from cnnlens.memory import available, refuse_beyond
from tests.support import files_torch_hostile_makers as torch_makers
from tests.support.files_hostile_makers import archive, weights
from tests.support.hostile_process import Ended, run_all
from tests.support.hostile_text import changed_at, numbers

IMAGE = str(sample.IMAGES / "9-ankle-boot.png")
ENDLESS = (0, -1, 1 << 31, 1 << 62, 1 << 63, 10**30)


def assert_lines(commands: list[list[object]], folder: Path) -> list[Ended]:
    found = run_all(commands, folder)
    for command, ended in zip(commands, found, strict=True):
        ended.assert_one_line([str(one) for one in command])
    return found


def looked_at(model: Path) -> list[list[object]]:
    return [
        ["summary", model, "--json"],
        ["maps", model, "-i", IMAGE, "--layer", "1"],
        ["maps", model, "-i", IMAGE, "--layer", "-1"],
        ["diff", sample.MODEL, model, "--inputs", "random"],
        ["check", model, "--backends", "reference"],
    ]


def in_turn(model: Path, before: list[list[object]]) -> list[list[object]]:
    """The summary, and another of the commands each time."""
    summary, *others = looked_at(model)
    return [summary, others[len(before) // 2 % len(others)]]


@pytest.mark.slow
def test_every_number_of_a_keras_config(tmp_path: Path) -> None:
    with zipfile.ZipFile(sample.MODEL) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    config = json.loads(parts["config.json"])
    commands: list[list[object]] = []
    seen: set[Any] = set()
    for path in numbers(config):
        kind = config["config"]["layers"][path[2]]["class_name"]
        if (kind, path[3:]) in seen:
            continue
        seen.add((kind, path[3:]))
        for number in ENDLESS:
            changed = json.dumps(changed_at(config, path, lambda _, number=number: number)).encode()
            commands += in_turn(
                archive(tmp_path / f"{len(commands)}.keras", {**parts, "config.json": changed}), commands
            )
    found = assert_lines(commands, tmp_path)
    assert {one.code for one in found} == {0, 1, 2}


def test_an_integer_without_end_is_refused(tmp_path: Path) -> None:
    config = {"class_name": "Sequential", "config": {"layers": [{"class_name": "A", "config": {"n": 10**4000}}]}}
    path = archive(tmp_path / "x.keras", {"config.json": json.dumps(config).encode(), "model.weights.h5": weights()})
    with pytest.raises(CnnlensError, match="an integer of more than 40 digits"):
        cnnlens.open(path)


@pytest.mark.slow
def test_every_number_of_a_safetensors_header(tmp_path: Path) -> None:
    header = {
        "conv.weight": {"dtype": "F32", "shape": [5, 3, 2, 4], "data_offsets": [0, 480]},
        "conv.bias": {"dtype": "F32", "shape": [5], "data_offsets": [480, 500]},
        "none": {"dtype": "F32", "shape": [0, 1 << 62, 1 << 62], "data_offsets": [500, 500]},
    }
    commands: list[list[object]] = []
    for path in [None, *numbers(header)]:
        for number in ENDLESS:
            changed = header if path is None else changed_at(header, path, lambda _, number=number: number)
            text = json.dumps(changed).encode()
            file = tmp_path / f"{len(commands)}.safetensors"
            file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(500))
            commands += in_turn(file, commands)
    assert_lines(commands, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(0, 1 << 62, 1 << 62), (1 << 62, 0), (1 << 63, 0), (1, 1 << 70, 0), (0,) * 32, ()])
def test_tensors_of_nothing_with_sizes_without_end(tmp_path: Path, shape: tuple[int, ...]) -> None:
    strides = (1,) * len(shape)
    state = torch_makers.state(none=torch_makers.tensor(shape, strides), **{"b.bias": torch_makers.tensor((3,), (1,))})
    folder = tmp_path / "old"
    folder.mkdir()
    models = [torch_makers.zipped(tmp_path, state), torch_makers.legacy(folder, state)]

    def fill(file: Any) -> None:
        file.create_dataset("layers/dense/vars/2", shape, "f4")

    if all(size < 1 << 63 for size in shape):
        (tmp_path / "x.weights.h5").write_bytes(weights(fill))
        models.append(tmp_path / "x.weights.h5")
    assert_lines([command for model in models for command in looked_at(model)], tmp_path)


# -- inputs ----------------------------------------------------------------------------------------------------------


def npy(shape: str, dtype: str = "<f4", data: bytes = bytes(4 * 28 * 28), order: bool = False) -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


def arrays() -> Iterator[tuple[str, bytes]]:
    shapes = ["(1, 28, 28)", "(True, 28, 28)", "(1, False)", "(28, 28.0)", "[1, 28, 28]", "5", "None", "(-1, 28)", "()"]
    shapes += [
        f"({'1, ' * 900}28, 28)",
        f"({'1, ' * 60}28, 28)",
        f"({'1, ' * 2000})",
        f"({1 << 63},)",
        f"({10**50}, 1)",
    ]
    shapes += [f"(0, {1 << 62}, {1 << 62})", f"(0, {1 << 63}, 28)", f"({1 << 62}, {1 << 62})", f"({10**300},)"]
    shapes += ["(" * 150 + ")" * 150, "(1, " * 900]
    for shape in shapes:
        for order in (False, True):
            yield f"{len(shape)}.npy", npy(shape, order=order)
    for dtype in ("|b1", "|O", "<M8[s]", "<f16", "<c8", "<U4", "|V4", "|S3", "<i99", "<f0", "f4,f4", "", "<" * 200):
        yield "x.npy", npy("(1, 28, 28)", dtype)
    for rank, size in ((3, 1 << 31), (8, (1 << 32) - 1), (1, 5), (3, 0), (2, 28)):
        yield "x-idx", bytes([0, 0, 8, rank]) + struct.pack(f">{rank}I", *([size] * rank)) + bytes(28 * 28)


@pytest.mark.slow
def test_arrays_that_lie(tmp_path: Path) -> None:
    commands: list[list[object]] = []
    for number, (name, data) in enumerate(arrays()):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_bytes(data)
        with zipfile.ZipFile(folder / "x.npz", "w", zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED) as file:
            file.writestr("x.npy", data)
        for path in (folder / name, folder / "x.npz"):
            commands.append(["maps", sample.MODEL, "-i", path])
            commands.append(["record", sample.MODEL, "-i", path, "--backend", "reference", "-o", folder / "r.zarr"])
    found = assert_lines(commands, tmp_path)
    assert {one.code for one in found} == {0, 2}


@pytest.mark.slow
def test_an_archive_whose_member_has_a_nul_in_its_name(tmp_path: Path) -> None:
    for name in ("x\0y.npy", "x.npy\0", "\0.npy"):
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
            file.writestr("A" * len(name), npy("(1, 28, 28)"))
        data = (tmp_path / "x.npz").read_bytes().replace(b"A" * len(name), name.encode())
        (tmp_path / "x.npz").write_bytes(data)
        commands: list[list[object]] = [
            ["maps", sample.MODEL, "-i", tmp_path / "x.npz"],
            ["check", sample.MODEL, "-b", "reference", "-i", tmp_path / "x.npz"],
        ]
        for ended in run_all(commands, tmp_path):
            ended.assert_one_line(ascii(name))


# -- recordings ------------------------------------------------------------------------------------------------------


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    cnnlens.record(sample.MODEL, IMAGE, backend="reference", layers=["conv2d", "dense_1"], out=tmp_path / "whole.zarr")
    return tmp_path / "whole.zarr"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zarr.json", "log.jsonl"])
def test_every_number_of_a_recording(recording: Path, tmp_path: Path, name: str) -> None:
    lines = [json.loads(one) for one in (recording / name).read_text().splitlines()] if name == "log.jsonl" else [
        json.loads((recording / name).read_text())
    ]  # fmt: skip
    commands: list[list[object]] = []
    seen: set[Any] = set()
    for path in numbers(lines):
        kind = tuple(part for part in path if part not in ("conv2d", "dense_1"))  # of both tensors the same is said
        if kind in seen:
            continue
        seen.add(kind)
        for number in (*ENDLESS, 10**4000):
            changed = changed_at(lines, path, lambda _, number=number: number)
            folder = tmp_path / f"{len(commands)}.zarr"
            shutil.copytree(recording, folder)
            (folder / name).write_text("".join(_dumps(line) + "\n" for line in changed))
            commands.append(["check", sample.MODEL, folder])
            commands.append(["record", sample.MODEL, "-i", IMAGE, "--backend", "reference", "-o", folder])
    found = assert_lines(commands, tmp_path)
    assert 2 in {one.code for one in found}


def _dumps(data: Any) -> str:
    import sys

    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(data)
    finally:
        sys.set_int_max_str_digits(limit)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["log.jsonl", "zarr.json", "conv2d/zarr.json"])
def test_a_sparse_file_of_20_gb_in_a_recording(recording: Path, tmp_path: Path, name: str) -> None:
    os.truncate(recording / name, 20 << 30)
    commands: list[list[object]] = [
        ["check", sample.MODEL, recording],
        ["record", sample.MODEL, "-i", IMAGE, "--backend", "reference", "-o", recording],
    ]
    found = assert_lines(commands, tmp_path)
    assert all(one.megabytes < 300 and one.seconds < 10 for one in found)


# -- the last resort -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError("Unable to allocate 8 TiB"), "memory ran out (Unable to allocate 8 TiB); give fewer"),
        (MemoryError(), "memory ran out; give fewer"),
        (OverflowError("int too large"), "a number is too large to compute with (int too large)"),
        (RecursionError("maximum recursion depth exceeded"), "nested deeper than Python can follow"),
    ],
    ids=["memory", "memory without a word", "overflow", "recursion"],
)
def test_what_python_has_no_room_for_is_one_line(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr("cnnlens.files.network", fail)
    monkeypatch.setattr("cnnlens.files.opener.network", fail)
    calls: list[Callable[[], Any]] = [
        lambda: cnnlens.open(sample.MODEL),
        lambda: cnnlens.diff(sample.MODEL, sample.MODEL),
        lambda: cnnlens.check(sample.MODEL, IMAGE, backends=["reference"]),
        lambda: cnnlens.record(sample.MODEL, IMAGE),
        lambda: cnnlens.convert(sample.MODEL),
    ]
    for call in calls:
        with pytest.raises(CnnlensError) as caught:
            call()
        assert said in str(caught.value)
    from cnnlens.cli.main import main

    assert main(["summary", str(sample.MODEL)]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1


def test_other_errors_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError), in_one_line():
        raise ZeroDivisionError


def test_memory_is_refused_before_it_is_taken() -> None:
    assert 1 << 28 < available() < 1 << 62
    refuse_beyond(1 << 20, "a little", "")
    with pytest.raises(CnnlensError, match=r"all of it takes .* GB of memory, and .* GB are available; take less"):
        refuse_beyond(1 << 61, "all of it", "take less")


def test_what_a_network_needs_is_known_from_its_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    network = cnnlens.open(sample.MODEL)
    asked: list[int] = []
    monkeypatch.setattr("cnnlens.reference.executor.refuse_beyond", lambda needed, *_: asked.append(needed))
    network.run(np.zeros((7, 1, 28, 28)), layers=["conv2d", "dense_1"], batch=5)
    wanted, alive = 32 * 28 * 28 + 10, 32 * 28 * 28 + 32 * 14 * 14  # the first pooling takes and gives most
    assert asked == [8 * (wanted + alive + network.parameters), 8 * (7 * wanted + 5 * alive)]
