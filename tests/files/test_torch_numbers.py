"""Numbers of every type in PyTorch's files are shown as what they stand for: held bit for bit against torch's own."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens.cli.main import main
from cnnlens.errors import FileRefusedError
from tests.support.files_torch_hostile_makers import (
    FLOAT,
    dense,
    integer,
    named,
    quantised,
    sequence,
    sparse,
    state,
    storage,
    tensor,
    text,
    zipped,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

# --- parts that lie about each other: no torch is needed ------------------------------------------------------------

_LIES: dict[str, tuple[bytes, str]] = {
    "codes that are not there": (quantised(FLOAT, integer(0), how="tensor", shape=50), "needs 150 elements"),
    "a zero point of 40 bits": (quantised(FLOAT, integer(1 << 40), how="tensor"), "the zero point 1099511627776"),
    "a scale of text": (quantised(text("x"), integer(0), how="tensor"), "damaged pickle"),
    "too few scales": (quantised(dense(4), dense(5), integer(0)), "shape (4,) where its axis has 5 channels"),
    "scales of two axes": (quantised(dense(5, 1), dense(5), integer(0)), "shape (5, 1) where its axis has 5"),
    "too many zero points": (quantised(dense(3), dense(5), integer(1)), "shape (5,) where its axis has 3"),
    "an axis beyond": (quantised(dense(5), dense(5), integer(2)), "along axis 2 of 2"),
    "a negative axis": (quantised(dense(5), dense(5), integer(-1)), "along axis -1 of 2"),
    "a scheme that is none": (quantised(dense(5), dense(5), integer(0), how="row"), "damaged pickle"),
    "indices of floats": (sparse("coo", (5, 3), dense(2, 4), dense(4)), "sparse COO tensor of shape (5, 3)"),
    "more values than indices": (sparse("coo", (5, 3), dense(2, 3, whole=True), dense(4)), "with parts of"),
    "values of other axes": (sparse("coo", (5, 3), dense(1, 3, whole=True), dense(3, 4)), "with parts of"),
    "too few rows": (sparse("csr", (5, 3), dense(5, whole=True), dense(3, whole=True), dense(3)), "parts of"),
    "blocks that do not fit": (
        sparse("bsr", (5, 3), dense(3, whole=True), dense(2, whole=True), dense(2, 2, 3)), "with parts of",
    ),
    "blocks of nothing": (
        sparse("bsr", (5, 3), dense(3, whole=True), dense(2, whole=True), dense(2, 0, 3)), "with parts of",
    ),
    "another layout": (sparse("mkl", (5, 3), dense(2, 3, whole=True), dense(3)), "damaged pickle"),
}  # fmt: skip


@pytest.mark.parametrize("name", _LIES)
def test_parts_that_do_not_fit_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    data, reason = _LIES[name]
    with pytest.raises(FileRefusedError) as caught:
        cnnlens.open(zipped(tmp_path, state(x=data)))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("index", [-1, 5, 1 << 40, -(1 << 62)])
@pytest.mark.parametrize("layout", ["coo", "csr", "bsc"])
def test_indices_outside_the_shape_are_refused_when_they_are_read(tmp_path: Path, layout: str, index: int) -> None:
    whole = storage("1", 4, named("torch", "LongStorage"))
    one = tensor((1,), (1,), at=whole)
    parts = {
        "coo": (tensor((2, 1), (1, 1), offset=1, at=whole), dense(1)),
        "csr": (tensor((6,), (0,), offset=3, at=whole), one, dense(1)),  # it begins with a row behind its values
        "bsc": (tensor((4,), (1,), at=whole), one, dense(1, 5, 1)),
    }[layout]
    numbers = np.array({"coo": [0, 1, index, 0], "csr": [0, 0, 0, index], "bsc": [0, index, 1, 1]}[layout], "<i8")
    network = cnnlens.open(zipped(tmp_path, state(x=sparse(layout, (5, 3), *parts)), _1=numbers.tobytes()))
    with pytest.raises(FileRefusedError, match=f"x: a sparse {layout.upper()} tensor with indices outside its shape"):
        network["(root)"].stored["x"].read()


def test_a_dense_size_beyond_the_budget_is_said(tmp_path: Path) -> None:
    huge = sparse("coo", (1 << 20, 1 << 20), dense(2, 3, whole=True), dense(3))
    network = cnnlens.open(zipped(tmp_path, state(x=huge), _0=bytes(60)))
    assert "not shown, since sparse COO, and 4.4 TB with its zeros: x" in network.notes
    assert list(network["a"].stored) == ["weight"]


def test_sparse_arrays_that_are_together_beyond_the_budget_are_refused(tmp_path: Path) -> None:
    large = sparse("coo", (4_000, 3_000), dense(2, 3, whole=True), dense(3))
    with pytest.raises(FileRefusedError, match=r"show 96 MB together by sharing or repeating .*, or leaving out zeros"):
        cnnlens.open(zipped(tmp_path, state(x=large, y=large)))


def test_packed_parameters_that_lie_are_refused(tmp_path: Path) -> None:
    pair = sequence(quantised(dense(4), dense(5), integer(0)), dense(5))
    with pytest.raises(FileRefusedError, match=r"fc\.weight: scales or zero points of shape \(4,\)"):
        cnnlens.open(zipped(tmp_path, state(**{"fc._packed_params._packed_params": pair})))


# --- what torch writes ----------------------------------------------------------------------------------------------


def _same(found: Any, expected: Any) -> None:
    """Bit for bit; of a number that is none, that it is none."""
    wanted = expected.numpy()
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    pairs = [(found.real, wanted.real), (found.imag, wanted.imag)] if found.dtype.kind == "c" else [(found, wanted)]
    for a, b in pairs:
        nan = np.isnan(b)
        np.testing.assert_array_equal(np.isnan(a), nan)
        assert np.where(nan, a.dtype.type(0), a).tobytes() == np.where(nan, b.dtype.type(0), b).tobytes()


def _kinds() -> dict[str, tuple[Any, Any, str]]:
    """Tensors of every form: what is saved, what it stands for by torch's own word, and the form as it is listed."""
    torch = pytest.importorskip("torch")
    drawn = pytest.importorskip("tests.support.torch_files").drawn

    generator = torch.Generator().manual_seed(4)
    w = torch.randn(5, 3, 2, 7, generator=generator)
    made: dict[str, tuple[Any, Any, str]] = {}
    for name, plain, low in (("quint8", "uint8", 0), ("qint8", "int8", -5), ("qint32", "int32", -5)):
        whole = drawn(plain, *w.shape)
        one = torch._make_per_tensor_quantized_tensor(whole, 0.0123456789, 3)
        made[f"{name}_t"] = (one, one.dequantize(), f"{name} per tensor")
        for axis in range(4):
            scales = torch.rand(w.shape[axis], dtype=torch.float64, generator=generator) + 0.001
            zeros = torch.randint(low, 50, (w.shape[axis],), generator=generator)
            one = torch._make_per_channel_quantized_tensor(whole, scales, zeros, axis)
            made[f"{name}_{axis}"] = (one, one.dequantize(), f"{name} per channel" + f" (axis {axis})" * (axis > 0))
    for dtype in (torch.quint8, torch.qint8):
        one = torch.quantize_per_channel(w, torch.rand(7) + 0.01, torch.rand(7) * 9, 3, dtype)
        name = str(dtype).removeprefix("torch.")
        made[f"{name}_float"] = (one, one.dequantize(), f"{name} per channel (axis 3)")
    turned = torch.quantize_per_tensor(w, 0.02, 7, torch.quint8).permute(3, 1, 0, 2)
    made["turned"] = (turned, turned.dequantize(), "quint8 per tensor")
    for name in "float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu".split():
        every = torch.arange(256).to(torch.uint8).view(getattr(torch, name)).reshape(8, 32)
        made[name] = (every, every.float(), name)
    for name in ("complex64", "complex128", "complex32"):
        numbers = torch.randn(3, 4, dtype=torch.complex128, generator=generator).to(getattr(torch, name)).T
        made[name] = (numbers, numbers.to(torch.complex64) if name == "complex32" else numbers, name)
    few = torch.relu(torch.randn(6, 10, generator=generator) - 1)
    share = f"{int((few != 0).sum()) / 60:.1%} stored"
    for name in ("coo", "csr", "csc"):
        one = few.to_sparse(layout=getattr(torch, f"sparse_{name}"))
        made[name] = (one, few, f"float32, sparse {name.upper()}, {share}")
    for name in ("bsr", "bsc"):
        one = few.to_sparse(layout=getattr(torch, f"sparse_{name}"), blocksize=(2, 5))
        made[name] = (one, few, f"float32, sparse {name.upper()}, {one.values().numel() / 60:.1%} stored")
    hybrid = torch.relu(torch.randn(4, 3, 2, generator=generator) - 1)
    one = hybrid.to_sparse(1)
    made["hybrid"] = (one, hybrid, f"float32, sparse COO, {one.values().numel() / 24:.1%} stored")
    twice = torch.sparse_coo_tensor([[0, 0, 1], [1, 1, 2]], [1.5, 2.25, 3.0], (3, 4))
    made["twice"] = (twice, twice.to_dense(), "float32, sparse COO, 25.0% stored")
    empty = torch.zeros(4, 3, dtype=torch.float64).to_sparse_csr()
    made["empty"] = (empty, empty.to_dense(), "float64, sparse CSR, 0.0% stored")
    half = few.bfloat16().to_sparse()
    made["half"] = (half, half.to_dense().float(), f"bfloat16, sparse COO, {share}")
    no_axes = torch.tensor(3.5).to_sparse()
    made["no_axes"] = (no_axes, no_axes.to_dense(), "float32, sparse COO, 100.0% stored")
    return made


@pytest.mark.framework
@pytest.mark.parametrize("zipped_format", [True, False], ids=["zip", "legacy"])
def test_every_form_is_shown_as_what_it_stands_for(tmp_path: Path, zipped_format: bool) -> None:
    torch = pytest.importorskip("torch")

    made = _kinds()
    torch.save({name: one for name, (one, _, _) in made.items()}, tmp_path / "x.pt",
               _use_new_zipfile_serialization=zipped_format)  # fmt: skip
    network = cnnlens.open(tmp_path / "x.pt")
    stored = network["(root)"].stored
    assert list(stored) == list(made)
    for name, (_, expected, form) in made.items():
        array = stored[name].read()
        _same(array, expected)
        assert not array.flags.writeable
        assert stored[name].stored.stored_dtype == form
        assert stored[name].stored.dtype == array.dtype
        assert stored[name].stats().count == expected.numel()
    notes = "\n".join(network.notes)
    assert "stored as qint8 per channel, shown as the float32 that it stands for: qint8_0" in notes
    assert "stored as float32, sparse COO, shown with its zeros: coo (" in notes
    assert "of complex numbers, the statistics are of their magnitudes: complex64, complex128, complex32" in notes


@pytest.mark.framework
def test_safetensors_of_eight_bits_and_complex(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file

    made = {name: each for name, each in _kinds().items() if name.startswith("float8") or name == "complex64"}
    save_file({name: one.contiguous() for name, (one, _, _) in made.items()}, tmp_path / "x.safetensors")
    stored = cnnlens.open(tmp_path / "x.safetensors")["(root)"].stored
    assert sorted(stored) == sorted(made)
    for name, (_, expected, form) in made.items():
        _same(stored[name].read(), expected)
        assert stored[name].stored.stored_dtype == form


# --- quantised models -----------------------------------------------------------------------------------------------


def _model(static: bool) -> Any:
    torch = pytest.importorskip("torch")
    nn, quantization = torch.nn, pytest.importorskip("torch.ao.quantization")

    torch.manual_seed(5)
    if not static:
        model = nn.Sequential(nn.Linear(7, 4), nn.LSTM(4, 3))
        return quantization.quantize_dynamic(model, {nn.Linear, nn.LSTM})
    convolutions = (nn.Conv2d(3, 5, (3, 2), stride=(1, 2)), nn.ReLU(), nn.Conv2d(5, 4, 1, bias=False))
    dense = (nn.Flatten(), nn.Linear(4 * 7 * 6, 9))
    parts = (quantization.QuantStub(), *convolutions, *dense, quantization.DeQuantStub())
    model = nn.Sequential(*parts).eval()
    model.qconfig = quantization.get_default_qconfig("x86")
    quantization.prepare(model, inplace=True)
    model(torch.rand(2, 3, 9, 12))
    return quantization.convert(model, inplace=True)


def _expected(model: Any, static: bool) -> dict[str, Any]:
    """The numbers of its layers by torch's own unpacking."""
    if static:
        layers = {"1": model[1], "3": model[3], "5": model[5]}
        pairs = {f"{name}.{part}": each() for name, layer in layers.items()
                 for part, each in (("weight", layer.weight), ("bias", layer.bias))}  # fmt: skip
    else:
        pairs = {"0.weight": model[0].weight(), "0.bias": model[0].bias()}
        cell = model[1]._all_weight_values[0].param.__getstate__()[0][4]
        for ending, packed in zip(("ih", "hh"), cell, strict=True):
            weight, bias = packed.__getstate__()[0]
            pairs |= {f"1._all_weight_values.0.weight_{ending}": weight, f"1._all_weight_values.0.bias_{ending}": bias}
    return {name: each.dequantize() if each.is_quantized else each.detach() for name, each in pairs.items()
            if each is not None}  # fmt: skip


_FORMS = ("state", "module", "script")


@pytest.mark.framework
@pytest.mark.parametrize(("form", "static"), list(itertools.product(_FORMS, (True, False))))
def test_packed_parameters_of_quantised_layers(tmp_path: Path, form: str, static: bool) -> None:
    torch = pytest.importorskip("torch")

    model = _model(static)
    path = tmp_path / "x.pt"
    if form == "script":
        torch.jit.script(model).save(path)
    else:
        torch.save(model.state_dict() if form == "state" else model, path)
    network = cnnlens.open(path)
    found = {f"{layer.name}.{name}": weight for layer in network for name, weight in layer.stored.items()}
    expected = _expected(model, static)
    shown = {name for name in found if not name.endswith(("scale", "zero_point"))}
    assert shown == set(expected)
    for name, numbers in expected.items():
        _same(found[name].read(), numbers)
    if static:
        assert [network[name].kind for name in ("1", "5")] == ["Conv2d", "Linear"]
        assert found["1.weight"].canonical_axes == "OIHW"
        assert found["1.weight"].stored.stored_dtype == "qint8 per channel"
    assert network["0" if not static else "5"].kernel is not None


@pytest.mark.framework
def test_pictures_are_of_the_numbers_that_are_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")

    w = torch.randn(5, 3, 2, 4, dtype=torch.complex64)
    q = torch.quantize_per_channel(w.real, torch.rand(5) / 9 + 0.01, torch.zeros(5), 0, torch.qint8)
    torch.save({"a.weight": w, "a.bias": torch.zeros(5), "b.weight": q, "b.bias": torch.zeros(5)}, tmp_path / "x.pt")
    path = str(tmp_path / "x.pt")
    for command, layer in itertools.product(("kernels", "hist"), "ab"):
        assert main([command, path, "--layer", layer, "-o", str(tmp_path / "x.png")]) == 0
        said, numbers = capsys.readouterr().out, w.abs() if layer == "a" else q.dequantize()
        assert ("magnitudes of complex64" in said) == (layer == "a")
        assert f"min {numbers.min().item():.6g}, max {numbers.max().item():.6g}" in said
    assert main(["summary", path]) == 0
    assert f"{2 * w.numel() + 10} parameters" in capsys.readouterr().out


@pytest.mark.framework
def test_no_framework_is_loaded(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    torch.save(_model(True), tmp_path / "x.pt")
    code = "import sys, cnnlens; [w.read() for each in cnnlens.open(sys.argv[1]) for w in each.stored.values()]"
    command = [sys.executable, "-c", f"{code}; print('torch' in sys.modules)", str(tmp_path / "x.pt")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"
