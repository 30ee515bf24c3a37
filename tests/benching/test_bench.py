"""A bench as it runs: the reference for its mechanics, JAX and PyTorch for what it measures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
import cnnlens.sample
from cnnlens.backend import worker
from cnnlens.benching import STAGES, Bench
from cnnlens.checking.finding import Verdict
from cnnlens.cli.main import main
from cnnlens.errors import CnnlensError
from tests.support.once import needs


@pytest.fixture(scope="module")
def ran() -> Bench:
    return cnnlens.bench(
        cnnlens.sample.MODEL,
        cnnlens.sample.IMAGES,
        backends=["reference"],
        precisions=["strict", "bfloat16"],
        batches=[13, 2],
        layers=["conv2d", "dense_1"],
        seconds=0.5,
    )


@pytest.mark.slow
def test_a_row_says_what_it_took_and_how_exact_it_was(ran: Bench) -> None:
    assert [(row.precision, row.batch) for row in ran.rows] == [
        ("strict", 2), ("strict", 13), ("bfloat16", 2), ("bfloat16", 13)
    ]  # fmt: skip
    for row in ran.rows[:2]:
        assert row.error == ""
        assert list(row.stages) == list(STAGES)
        assert all(second > 0 for timed in row.stages.values() for second in timed.seconds)
        for timed in row.stages.values():
            assert timed.rounds[0] == 0
            assert len(timed.seconds) == len(timed.rounds) <= ran.rounds
        assert row.bytes == row.batch * 4 * (32 * 28 * 28 + 10)
        assert row.load is not None
        assert row.first is not None
        assert row.load > 0 < row.first
        assert row.exactness is not None
        assert row.exactness.verdict is Verdict.FLOAT32
        assert 20 < row.exactness.bits < 25
        assert row.exactness.layer in cnnlens.open(cnnlens.sample.MODEL).by_name
    assert ran.agree
    assert ran.layers == ("conv2d", "dense_1")
    assert "10 pictures" in ran.inputs
    assert "repeated to fill a batch" in ran.inputs


@pytest.mark.slow
def test_what_cannot_run_says_so_in_its_row(ran: Bench) -> None:
    for row in ran.rows[2:]:
        assert row.error == "it has no precision 'bfloat16' on the device 'cpu'; it has strict, native"
        assert not row.stages
    assert "has no precision 'bfloat16'" in str(ran)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"backends": ["referense"]}, "no backend is named 'referense'; did you mean 'reference'?"),
        ({"precisions": ["bfloat"]}, "precision 'bfloat': strict, native, tf32, bfloat16 or float16 was expected"),
        ({"devices": ["tpu"]}, "device 'tpu': cpu, gpu or gpu:1 (the second one) was expected"),
        ({"batches": [32, 0]}, "a batch holds at least one input, not 0"),
        ({"layers": ["conv"]}, "no layer is named 'conv'; did you mean"),
        ({"seconds": 0}, "seconds: more than 0 was expected, 0 came"),
        ({"backends": []}, "there is nothing to time"),
    ],
)
def test_bad_input_is_told_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], said: str
) -> None:
    def start(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(worker.Worker, "start", start)
    arguments: dict[str, Any] = {"backends": ["reference"], **given}
    with pytest.raises(CnnlensError) as caught:
        cnnlens.bench(cnnlens.sample.MODEL, **arguments)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_ctrl_c_ends_the_rounds_and_keeps_what_there_is() -> None:
    said: list[str] = []

    def progress(line: str) -> None:
        said.append(line)
        if line.startswith("round 3"):
            raise KeyboardInterrupt

    result = cnnlens.bench(
        cnnlens.sample.MODEL, backends=["reference"], precisions=["strict"], batches=[2], seconds=30, progress=progress
    )
    assert result.interrupted
    assert [len(timed.seconds) for timed in result.rows[0].stages.values()] == [2] * len(STAGES)
    assert "interrupted" in str(result).splitlines()[-1]


def test_ctrl_c_before_anything_was_measured_is_what_it_is() -> None:
    def at_once(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cnnlens.bench(cnnlens.sample.MODEL, backends=["reference"], batches=[2], progress=at_once)


@pytest.mark.slow
def test_the_command_prints_a_table_and_draws_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, picture = str(cnnlens.sample.MODEL), tmp_path / "bench.png"
    arguments = ["bench", model, "-b", "reference", "--batch", "2", "--precision", "strict", "--seconds", "0.2"]
    assert main([*arguments, "-o", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert printed.endswith(f"wrote {picture}\n")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"][0]["stages"]["forward"]["images_s"] > 0
    assert found["picture"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--precision", "strict,fp8"], "precision 'fp8': strict, native, tf32, bfloat16 or float16 was expected"),
        (["--backends", "torsh"], "no backend is named 'torsh'"),
        (["--devices", "cuda"], "device 'cuda': cpu, gpu or gpu:1"),
        (["--batch", "1,many"], "--batch 'many': whole numbers separated by commas were expected"),
        (["-o", "figure.txt"], "figure.txt"),
    ],
)
def test_a_misspelt_argument_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert main(["bench", str(cnnlens.sample.MODEL), *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_a_disk_without_room_for_the_inputs_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    resource = pytest.importorskip("resource")  # POSIX
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, limits[1]))  # the network is smaller, 1,024 inputs are larger
    try:
        code = main(
            ["bench", str(cnnlens.sample.MODEL), "--backends", "reference", "--batch", "1024", "--seconds", "0.1"]
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capsys.readouterr().err
    assert (code, said.count("\n")) == (2, 1), said
    assert "it cannot be written (File too large); make space, or set TMPDIR" in said


def test_where_nothing_runs_the_exit_code_is_two(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", str(cnnlens.sample.MODEL), "-b", "reference", "--devices", "gpu", "--batch", "2"]
    assert main(arguments) == 2
    assert "the reference runs on the cpu alone" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["keras-tensorflow", "keras-jax", "keras-torch"])
def test_a_framework_is_timed_and_audited_in_each_precision(backend: str) -> None:
    needs("keras", *(["torch"] if backend == "keras-torch" else [backend.removeprefix("keras-")]))
    result = cnnlens.bench(
        cnnlens.sample.MODEL, backends=[backend], precisions=["native", "bfloat16", "tf32"], batches=[3], seconds=0.3
    )
    native, brain, tensor = result.rows
    for row, verdict, bits in ((native, Verdict.FLOAT32, 22), (brain, Verdict.BFLOAT16, 8.5)):
        assert row.error == ""
        assert row.exactness is not None
        assert row.exactness.verdict is verdict
        assert math.isclose(row.exactness.bits, bits, abs_tol=2)
        assert list(row.stages) == list(STAGES)
        assert row.host_peak is None or row.host_peak > 50 << 20
        assert row.device_peak is None
    assert "it has no precision 'tf32'" in tensor.error
    # What is copied, bfloat16 included, is float32 on the host.
    network = cnnlens.open(cnnlens.sample.MODEL)
    maps = network.run([np.zeros((1, 1, 28, 28), np.float32)], list(result.layers))
    total = sum(array.size for array in maps.values())
    assert native.bytes == brain.bytes == 3 * 4 * total
