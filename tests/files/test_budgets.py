"""What a small file may cost: budgets on sums, not on items.

To open and summarise a file takes at most 2 s and 10 times the reading of its bytes, and 256 MiB and 4 times its bytes.
Files far beyond the limits are refused at once; files just within them keep to the budget. Seconds are the process's
own, and three times as many are allowed here, for machines that are slow or busy.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import cnnlens
from cnnlens.files.limits import LIMITS, calls_at_most, items_at_most, unpacked_at_most
from tests.support import files_torch_hostile_makers as torch_makers
from tests.support.files_hostile_makers import archive, keras_members, weights
from tests.support.hostile_process import Ended, run_all

pytestmark = pytest.mark.slow

Layer = dict[str, Any]
Maker = Callable[[Path], Path]

INPUT: Layer = {
    "class_name": "InputLayer",
    "config": {"name": "i", "batch_input_shape": [None, 3]},
    "inbound_nodes": [],
}
ITEMS = LIMITS.items - 10
REPEATED = (16 << 20) - 99  # float32 numbers of just less than 64 MiB


def summarised(files: list[Path], folder: Path) -> Iterator[tuple[Path, Ended]]:
    found = run_all([["summary", file] for file in files], folder, 6000, 60)
    for file, ended in zip(files, found, strict=True):
        ended.assert_one_line(file)
        size = file.stat().st_size
        assert ended.cpu_seconds < 3 * (2 + 10 * size / 1e9), (file.name, ended)
        assert ended.megabytes < 256 + 4 * size / 2**20, (file.name, ended)
        yield file, ended


def deflated(folder: Path, config: object, **parts: bytes) -> Path:
    text = config if isinstance(config, bytes) else json.dumps(config).encode()
    return archive(folder / "x.keras", keras_members(config=text, **parts), zipfile.ZIP_DEFLATED)


def sequential(layers: list[Any], **more: Any) -> Layer:
    return {"class_name": "Sequential", "config": {"name": "s", "layers": layers, **more}}


def functional(layers: list[Layer], last: str, call: int = 0) -> Layer:
    ends = {"input_layers": [["i", 0, 0]], "output_layers": [[last, call, 0]]}
    return {"class_name": "Functional", "config": {"name": "f", "layers": [INPUT, *layers], **ends}}


def dense(name: str, units: int = 3) -> Layer:
    return {"class_name": "Dense", "config": {"name": name, "units": units}}


def nested(depth: int) -> Layer:
    """A model that calls a model twice that calls a model twice …: 2^depth calls."""
    inner: Layer = dense("m") if depth == 0 else nested(depth - 1)
    inner = {**inner, "config": {**inner["config"], "name": "m"}}
    return functional([{**inner, "inbound_nodes": [[["i", 0, 0, {}]], [["m", 0, 0, {}]]]}], "m", 1)


def tensors(folder: Path, entries: dict[str, bytes]) -> Path:
    return torch_makers.zipped(folder, torch_makers.alone(torch_makers.mapping(entries)))


def modules(children: dict[str, bytes], kind: str = "mine.Net") -> Maker:
    """A pickled module with these in it, each a whole module or a reference to one."""
    own = {"_parameters": b"}", "_buffers": b"}", "_modules": torch_makers.mapping(children)}
    package, _, name = kind.rpartition(".")
    made = torch_makers.named(package, name) + b")\x81" + torch_makers.mapping(own) + b"b"
    return lambda folder: torch_makers.zipped(folder, torch_makers.alone(made))


def linear(name: str = "weight") -> bytes:
    """A Linear of PyTorch's own."""
    array = {name: torch_makers.tensor((3, 3), (3, 1))}
    own = {"_parameters": torch_makers.mapping(array), "_buffers": b"}", "_modules": b"}"}
    return torch_makers.named("torch.nn.modules.linear", "Linear") + b")\x81" + torch_makers.mapping(own) + b"b"


def sequence_of(count: int) -> Maker:
    return modules({str(i): linear() for i in range(count)}, "torch.nn.modules.container.Sequential")


def script(*lines: str) -> Maker:
    code = torch_makers.FORWARD + "".join(f"    {line}\n" for line in (*lines, "return torch.relu(x)"))
    return torch_makers.script(code, compress=True)


def spread(count: int, each: tuple[int, int]) -> Maker:
    """Sparse arrays that store next to nothing, shown with their zeros."""
    whole = torch_makers.storage("1", 4, torch_makers.named("torch", "LongStorage"))
    parts = (torch_makers.tensor((2, 2), (2, 1), at=whole), torch_makers.tensor((2,), (1,)))
    entries = {f"{i}.weight": torch_makers.sparse("coo", each, *parts) for i in range(count)}
    pickled = torch_makers.alone(torch_makers.mapping({"a.weight": torch_makers.tensor(), **entries}))
    return lambda folder: torch_makers.zipped(folder, pickled, _1=struct.pack("<4q", 0, 1, 2, 2))


def codes(shape: int) -> Maker:
    """Packed parameters whose codes are said to be so many rows."""
    rows = torch_makers.quantised(torch_makers.FLOAT, torch_makers.integer(0), how="tensor", shape=shape)
    packed = {"fc._packed_params._packed_params": torch_makers.sequence(rows, b"N")}
    return lambda folder: torch_makers.zipped(folder, torch_makers.state(**packed))


def safetensors(folder: Path, count: int) -> Path:
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"t{number}.weight": empty for number in range(count)}).encode()
    (folder / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return folder / "x.safetensors"


def hdf5(folder: Path, fill: Callable[[Any], None]) -> Path:
    (folder / "x.weights.h5").write_bytes(weights(fill))
    return folder / "x.weights.h5"


def zeros(count: int, each: int, chunk: int) -> Callable[[Any], None]:
    def fill(file: Any) -> None:
        for number in range(count):
            file.create_dataset(
                f"layers/dense/vars/{number + 2}", data=np.zeros(each, "f4"), chunks=(chunk,), compression="gzip"
            )

    return fill


def wasteful_chunks(file: Any) -> None:
    """Each chunk is a million times as large as what it holds of the array."""
    data = file.create_dataset(
        "layers/dense/vars/2", (20, 1), "f4", maxshape=(None, None), chunks=(1, 1_000_000), compression="gzip"
    )
    data[...] = 1


def shards(folder: Path) -> Path:
    (folder / "s").mkdir()
    names = [f"s{number}.weights.h5" for number in range(4)]
    for name in names:
        with h5py.File(folder / name, "w") as file:
            for number in range(ITEMS // 2):
                file.create_group(f"layers/{name}{number}")
    (folder / "x.weights.json").write_text(json.dumps({"weight_map": dict(enumerate(names))}))
    return folder / "x.weights.json"


BEYOND: dict[str, tuple[Maker, str]] = {
    "32 kB that are 33 MB of empty objects": (
        lambda folder: deflated(folder, b'{"config": {"layers": [' + b"{}," * 11_000_000 + b"{}]}}"),
        "unpack to 33 MB",
    ),
    "empty lists": (
        lambda folder: deflated(folder, b'{"config": {"x": [' + b"[]," * 5_000_000 + b"[]]}}"),
        "more than 1,000,000 values",
    ),
    "700,000 layers": (
        lambda folder: archive(
            folder / "x.keras",
            keras_members(config=json.dumps(sequential([dense("a")] * 400_000)).encode()),
        ),
        "a JSON text of",
    ),
    "100,000 layers": (lambda folder: deflated(folder, sequential([dense("a")] * 100_000)), "layers in its config"),
    "half a million submodules": (
        lambda folder: torch_makers.zipped(folder, torch_makers.alone(
            torch_makers.module() + b"q\x000" + torch_makers.module(**{str(i): b"h\x00" for i in range(510_000)})
        )), "steps",
    ),
    "20,000 submodules by reference": (
        lambda folder: torch_makers.zipped(folder, torch_makers.alone(
            torch_makers.module() + b"q\x000" + torch_makers.module(**{str(i): b"h\x00" for i in range(20_000)})
        )), "modules or arrays",
    ),
    "modules twice in modules, 40 deep": (
        lambda folder: torch_makers.zipped(folder, torch_makers.alone(torch_makers.doubled(40))), "modules or arrays",
    ),
    "TorchScript code of 100 MB": (script("#" * 100_000_000), "members that unpack to 100 MB"),
    "packed parameters of 10**12 rows": (codes(10**12), "its storage has 60"),
    "sparse arrays of 64 MiB each": (spread(100, (4096, 4096)), "or leaving out zeros"),
    "tensors of 64 MiB by a stride of 0": (
        lambda folder: tensors(folder, {f"{i}.weight": torch_makers.tensor((REPEATED,), (0,)) for i in range(2000)}),
        "by sharing or repeating",
    ),
    "200,000 tensors": (lambda folder: safetensors(folder, 100_000), "tensors, "),
    "a pickle of tensors": (
        lambda folder: tensors(folder, {f"{i}.weight": torch_makers.tensor() for i in range(50_000)}),
        "steps",
    ),
    "deflated members": (
        lambda folder: archive(
            folder / "x.keras",
            keras_members() | {f"assets/{i}": bytes(9_000_000) for i in range(9)},
            zipfile.ZIP_DEFLATED,
        ),
        "members that unpack to 72 MB",
    ),
    "compressed arrays": (lambda folder: hdf5(folder, zeros(9, 2_000_000, 100_000)), "compressed arrays that declare"),
    "tiny chunks": (lambda folder: hdf5(folder, zeros(1, 100_000, 1)), "chunks"),
    "chunks larger than what they hold": (lambda folder: hdf5(folder, wasteful_chunks), "arrays that declare 80 MB"),
    "objects in shards": (shards, "objects in its shards"),
}  # fmt: skip

WITHIN: dict[str, Maker] = {
    "12 nested calls": lambda folder: deflated(folder, nested(12)),
    "17 nested calls": lambda folder: deflated(folder, nested(17)),
    "40 nested calls": lambda folder: deflated(folder, nested(40)),
    "values": lambda folder: deflated(folder, b'{"config": {"x": [' + b'{"a":1},' * 499_000 + b"{}]}}"),
    "one long text": lambda folder: deflated(
        folder, b'{"class_name": "' + ("é" * 7_000_000 + "\U0001f600").encode() + b'"}'
    ),
    "layers": lambda folder: deflated(folder, sequential([dense(f"d{i}") for i in range(ITEMS)])),
    "wrapped layers": lambda folder: deflated(
        folder,
        sequential(
            [
                {"class_name": "Bidirectional", "config": {"name": f"b{i}", "layer": {
                    "class_name": "LSTM", "config": {"name": "l", "units": 5, "return_sequences": True}}}}
                for i in range(ITEMS)
            ]
        ),
    ),
    "calls with many inputs": lambda folder: deflated(
        folder,
        functional(
            [
                {"class_name": "Add", "config": {"name": f"a{i}"}, "inbound_nodes": [[["i", 0, 0, {}]] * 250]}
                for i in range(600)
            ],
            "a1",
        ),
    ),
    "a long name in front of many": lambda folder: deflated(
        folder, sequential([INPUT, sequential([dense(f"d{i}") for i in range(ITEMS // 2)], name="x" * 1_500_000)])
    ),
    "calls of one model": lambda folder: deflated(
        folder,
        functional(
            [
                {
                    **functional([{**dense("d"), "inbound_nodes": [[["i", 0, 0, {}]]]}], "d"),
                    "inbound_nodes": [[["i", 0, 0, {}]], *([["f", i, 0, {}]] for i in range(3000))],
                }
            ],
            "f",
            3000,
        ),
    ),
    "layers with arrays": lambda folder: deflated(
        folder,
        sequential([dense(f"d{i}", 5) for i in range(ITEMS // 3)]),
        weights=weights(
            lambda file: [
                file.create_group(f"layers/dense_{i + 1}/vars").create_dataset("0", data=np.ones((3, 5), "f4"))
                for i in range(ITEMS // 3 - 10)
            ]
        ),
    ),
    "scalars": lambda folder: hdf5(
        folder, lambda file: [file["layers/dense/vars"].create_dataset(str(i + 2), data=1.5) for i in range(ITEMS - 10)]
    ),
    "tensors that repeat": lambda folder: tensors(
        folder, {f"{i}.weight": torch_makers.tensor((2000,), (0,)) for i in range(ITEMS)}
    ),
    "one tensor that repeats": lambda folder: tensors(folder, {"a.weight": torch_makers.tensor((REPEATED,), (0,))}),
    "safetensors": lambda folder: safetensors(folder, ITEMS),
    "a Sequential": sequence_of(LIMITS.items // LIMITS.items_a_call),
    "a Sequential of more": sequence_of(ITEMS),
    "TorchScript's brackets": script(f"y = {'(' * 10_000}x{')' * 10_000}"),
    "TorchScript's code": script("#" * 16_000_000),
    "TorchScript's words": script(*["y = torch.relu(x)"] * 2_600),
    "TorchScript's calls": script("for i in range(2600):", "  x = torch.relu(x)"),
    "TorchScript's steps": script("for i in range(190000):", "  y = x"),
    "sparse arrays": spread(ITEMS, (40, 50)),
    "a sparse array of terabytes": spread(1, (1 << 20, 1 << 20)),
    "zeros": lambda folder: hdf5(folder, zeros(4, 4_000_000, 100_000)),
    "chunks": lambda folder: hdf5(folder, zeros(1, 10 * ITEMS, 1)),
    "deflated weights": lambda folder: deflated(folder, sequential([]), weights=weights(
        lambda file: file.create_dataset("layers/dense/vars/2", data=np.zeros(16_000_000, "f4")))),
    "members": lambda folder: archive(
        folder / "x.keras", keras_members() | {f"assets/{i}": b"" for i in range(49_000)}
    ),
    "bfloat16": lambda folder: bfloat16(folder, 50_000_000),
}  # fmt: skip


def bfloat16(folder: Path, count: int) -> Path:
    entry = {"dtype": "BF16", "shape": [count], "data_offsets": [0, 2 * count]}
    header = json.dumps({"a.weight": entry}).encode()
    (folder / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(2 * count))
    return folder / "x.safetensors"


def made(folder: Path, makers: dict[str, Maker]) -> dict[Path, str]:
    files: dict[Path, str] = {}
    for number, (name, maker) in enumerate(makers.items()):
        (folder / str(number)).mkdir()
        files[maker(folder / str(number))] = name
    return files


def test_what_is_far_beyond_is_refused_at_once(tmp_path: Path) -> None:
    files = made(tmp_path, {name: maker for name, (maker, _) in BEYOND.items()})
    for file, ended in summarised(list(files), tmp_path):
        name = files[file]
        assert ended.code == 2, (name, ended)
        assert BEYOND[name][1] in ended.said, (name, ended.said)


def test_what_is_just_within_keeps_to_the_budget(tmp_path: Path) -> None:
    files = made(tmp_path, WITHIN)
    for file, ended in summarised(list(files), tmp_path):
        assert ended.code == 0, (files[file], ended)


EXPRESSIONS = {
    "x" + " + 1" * 250_000: "an expression of 1,000,001 characters",
    "(" * 10_000 + "x" + ")" * 10_000: "an expression of 20,001 characters",
    "(" * 400 + "x" + ")" * 400: "more than 50 levels deep",
    "x" + "+1" * 400: "more than 100 operations",
    "9" * 999: "a number that is not finite",
    "x * 9**9**9**9": "a number that is not finite",
}


def test_an_expression_for_a_lambda_costs_next_to_nothing(tmp_path: Path) -> None:
    function = {"class_name": "__lambda__", "config": {"code": "4wE=", "defaults": None, "closure": None}}
    layer: Layer = {"class_name": "Lambda", "config": {"name": "own", "function": function}}
    file = deflated(tmp_path, sequential([INPUT, layer]))
    commands = [["summary", file, "--lambda", f"own={expression}"] for expression in EXPRESSIONS]
    for said, ended in zip(EXPRESSIONS.values(), run_all(commands, tmp_path), strict=True):
        ended.assert_one_line(said)
        assert ended.code == 2
        assert said in ended.said
        assert len(ended.said) < 600
        assert ended.cpu_seconds < 1
        assert ended.megabytes < 64


def test_a_sequential_of_more_calls_is_shown_without_its_graph(tmp_path: Path) -> None:
    count = calls_at_most(0)
    assert len(cnnlens.open(sequence_of(count)(tmp_path)).calls) == count + 1
    network = cnnlens.open(sequence_of(count + 100)(tmp_path))
    assert network.calls == ()
    assert len(network.layers) == count + 100
    assert any("calls, which no model of its size makes" in note for note in network.notes)


def test_a_budget_grows_with_what_is_stored() -> None:
    assert items_at_most(0) == LIMITS.items
    assert items_at_most(10**9) == LIMITS.items + 50_000
    assert unpacked_at_most(10**9) - unpacked_at_most(0) == 4 * 10**9
