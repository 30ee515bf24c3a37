"""``.pt2`` files that somebody made to hurt, or that were damaged: refused in one line, before anything is believed."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens.errors import CnnlensError, FileRefusedError
from cnnlens.files.torch.program_symbols import constant, multiple_of, read_expression
from tests.support.hostile_text import Runner, mutants, run

torch = pytest.importorskip("torch")

__all__ = ["run"]

from torch import nn  # noqa: E402

Members = dict[str, bytes]
MODEL = "net/models/model.json"
WEIGHTS = "net/data/weights/model_weights_config.json"


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, (3, 2))
        self.fc = nn.Linear(4 * 3 * 5, 2)

    def forward(self, x: Any) -> Any:
        return self.fc(torch.relu(self.conv(x)).flatten(1))


@pytest.fixture(scope="module")
def honest() -> Members:
    """The members of an honest file, small enough to change one thing in it."""
    buffer = io.BytesIO()
    torch.manual_seed(0)
    torch.export.save(torch.export.export(Small().eval(), (torch.rand(2, 3, 5, 6),)), buffer)
    with zipfile.ZipFile(buffer) as archive:
        found = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    return {f"net/{name}": data for name, data in found.items()}


def write(path: Path, members: Members, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_the_honest_file_opens_and_runs(honest: Members, tmp_path: Path) -> None:
    network = cnnlens.open(write(tmp_path / "net.pt2", honest))
    assert [call.name for call in network.calls] == ["x", "conv", "relu", "flatten", "fc"]
    assert network.run(np.ones((1, 3, 5, 6)))["fc"].shape == (1, 2)


Change = Callable[[dict[str, Any]], None]


def nodes(model: dict[str, Any]) -> list[dict[str, Any]]:
    return model["graph_module"]["graph"]["nodes"]


def tensors(model: dict[str, Any]) -> dict[str, Any]:
    return model["graph_module"]["graph"]["tensor_values"]


def argument(node: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in node["inputs"] if one["name"] == name)


def deep_stack(model: dict[str, Any]) -> None:
    frames = [f"k{number},{'.'.join(['m'] * (number % 50 + 1))}{number},a.B" for number in range(5000)]
    nodes(model)[0]["metadata"]["nn_module_stack"] = ";".join(frames)


MODEL_CHANGES: dict[str, tuple[Change, str]] = {
    "undefined tensor": (
        lambda m: argument(nodes(m)[1], "self")["arg"].update(as_tensor={"name": "ghost"}),
        "takes 'ghost', which nothing before it makes",
    ),
    "a cycle": (
        lambda m: argument(nodes(m)[0], "input")["arg"].update(as_tensor={"name": "relu"}),
        "takes 'relu', which nothing before it makes",
    ),
    "made twice": (lambda m: nodes(m).append(copy.deepcopy(nodes(m)[0])), "two nodes make 'conv2d'"),
    "negative axis": (lambda m: tensors(m)["relu"]["sizes"][1].update(as_int=-4), "an axis of -4 entries"),
    "endless axis": (lambda m: tensors(m)["relu"]["sizes"][1].update(as_int=1 << 62), "entries"),
    "many axes": (lambda m: tensors(m)["relu"].update(sizes=[{"as_int": 1}] * 1000), "more than 64 axes"),
    "no shape": (lambda m: tensors(m)["relu"].update(sizes="(2, 4)"), "has no shape"),
    "no nodes": (lambda m: m["graph_module"]["graph"].update(nodes=None), "no graph of an exported program"),
    "no signature": (lambda m: m["graph_module"].update(signature=7), "no graph of an exported program"),
    "other schema": (lambda m: m.update(schema_version={"major": 9, "minor": 0}), "schema is of version 9"),
    "no target": (lambda m: nodes(m)[0].update(target=["aten"]), "names no operator"),
    "long name": (
        lambda m: argument(nodes(m)[0], "input")["arg"].update(as_tensor={"name": "x" * 10_000}),
        "a tensor without a name, or with one of more than 500 characters",
    ),
    "unmade output": (
        lambda m: m["graph_module"]["signature"]["output_specs"][0]["user_output"]["arg"].update(
            as_tensor={"name": "nowhere"}
        ),
        "the output 'nowhere' is made by no node",
    ),
    "two inputs of one name": (
        lambda m: m["graph_module"]["signature"]["input_specs"].append(
            m["graph_module"]["signature"]["input_specs"][-1]
        ),
        "two inputs of one name",
    ),
}


@pytest.mark.parametrize("name", MODEL_CHANGES)
def test_graphs_that_do_not_fit_together_are_refused(name: str, honest: Members, tmp_path: Path) -> None:
    change, expected = MODEL_CHANGES[name]
    model = json.loads(honest[MODEL])
    change(model)
    path = write(tmp_path / "net.pt2", {**honest, MODEL: json.dumps(model).encode()})
    with pytest.raises(FileRefusedError, match=r"models/model\.json") as caught:
        cnnlens.open(path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 900


# What is only strange opens; what it cannot compute is said when it is run, in one line.
STRANGE: dict[str, Change] = {
    "unknown operator": lambda m: nodes(m)[1].update(target="torch.ops.evil.run_\x1b[31m.default"),
    "no namespace": lambda m: nodes(m)[1].update(target="relu"),
    "deep modules": deep_stack,
    "modules without commas": lambda m: nodes(m)[0]["metadata"].update(nn_module_stack=";;a;b,c;(,,,"),
    "wrong number of strides": lambda m: argument(nodes(m)[0], "input").update(name="stride"),
    "absurd padding": lambda m: nodes(m)[0]["inputs"].append(
        {"name": "padding", "arg": {"as_ints": [1 << 70, -5]}, "kind": 1}
    ),
    "text for a number": lambda m: nodes(m)[0]["inputs"].append(
        {"name": "stride", "arg": {"as_string": "__import__('os')"}, "kind": 1}
    ),
    "arguments of no kind": lambda m: nodes(m)[1]["inputs"].append({"name": "x", "arg": {"as_anything": {}}}),
    "a graph as an argument": lambda m: nodes(m)[1]["inputs"].append(
        {"name": "g", "arg": {"as_graph": {"name": "g", "graph": {}}}}
    ),
    "a symbol that is code": lambda m: tensors(m)["relu"]["sizes"].__setitem__(
        0, {"as_expr": {"expr_str": "__import__('os').system('true')", "hint": None}}
    ),
    "a shape that is not the operator's": lambda m: tensors(m)["relu"]["sizes"][1].update(as_int=400),
    "nothing of shapes": lambda m: tensors(m).clear(),
    "names that clear the screen": lambda m: nodes(m)[1].update(name="\x1b[2J\n" * 50),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_only_strange_opens_and_never_escapes_as_a_traceback(
    name: str, honest: Members, tmp_path: Path
) -> None:
    model = json.loads(honest[MODEL])
    STRANGE[name](model)
    path = write(tmp_path / "net.pt2", {**honest, MODEL: json.dumps(model).encode()})
    said = ""
    try:
        network = cnnlens.open(path)
        assert network["fc"].weights["weight"].shape == (2, 60)
        network.run(np.ones((2, 3, 5, 6)))
    except CnnlensError as error:
        said = str(error)
    assert "\n" not in said
    assert "\x1b" not in said
    assert len(said) < 1200


def weights(**changes: Any) -> Change:
    def change(table: dict[str, Any]) -> None:
        entry = table["config"]["fc.weight"]
        for key, value in changes.items():
            (entry["tensor_meta"] if key in entry["tensor_meta"] else entry)[key] = value

    return change


def sizes(*numbers: int) -> list[dict[str, int]]:
    return [{"as_int": number} for number in numbers]


WEIGHT_CHANGES: dict[str, tuple[Change, str]] = {
    "longer than its member": (weights(sizes=sizes(2, 6000)), "are needed"),
    "behind its member": (weights(storage_offset={"as_int": 1}), "are needed"),
    "offset before it": (weights(storage_offset={"as_int": -1}), "do not fit"),
    "huge offset": (weights(storage_offset={"as_int": 1 << 60}), "are needed"),
    "huge stride": (weights(strides=sizes(1 << 40, 1)), "are needed"),
    "negative stride": (weights(strides=sizes(-60, 1)), "no whole numbers"),
    "one number everywhere": (weights(sizes=sizes(1 << 20, 1 << 20), strides=sizes(0, 0)), "spread over"),
    "other strides": (weights(strides=sizes(1)), "do not fit"),
    "shape as text": (weights(sizes="2, 60"), "no whole numbers"),
    "symbolic shape": (weights(sizes=[{"as_expr": {"expr_str": "s0"}}, {"as_int": 60}]), "no whole numbers"),
    "no member": (weights(path_name="weight_77"), "is not in the archive"),
    "another place": (weights(path_name="../../models/model.json"), "is not in the archive"),
}


@pytest.mark.parametrize("name", WEIGHT_CHANGES)
def test_arrays_that_claim_more_than_there_is_are_refused(name: str, honest: Members, tmp_path: Path) -> None:
    change, expected = WEIGHT_CHANGES[name]
    table = json.loads(honest[WEIGHTS])
    change(table)
    path = write(tmp_path / "net.pt2", {**honest, WEIGHTS: json.dumps(table).encode()})
    with pytest.raises(FileRefusedError) as caught:
        cnnlens.open(path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"use_pickle": True}, "is pickled"), ({"dtype": 9}, "complex32"), ({"layout": 2}, "is sparse")],
)
def test_arrays_that_are_not_read_are_named_and_their_layer_is_refused(
    changes: dict[str, Any], expected: str, honest: Members, tmp_path: Path
) -> None:
    table = json.loads(honest[WEIGHTS])
    weights(**changes)(table)
    network = cnnlens.open(write(tmp_path / "net.pt2", {**honest, WEIGHTS: json.dumps(table).encode()}))
    assert any("'fc.weight'" in note and expected in note for note in network.notes)
    assert "weight" not in network["fc"].weights
    assert network.run(np.ones((2, 3, 5, 6)), layers=["relu"])["relu"].shape == (2, 4, 3, 5)
    with pytest.raises(CnnlensError, match=r"layer 'fc' .*'weight' is not in the file"):
        network.run(np.ones((2, 3, 5, 6)))


@pytest.mark.filterwarnings("ignore:No complete tensor found:UserWarning")
def test_strides_and_offsets_are_honoured(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Small().eval()
    with torch.no_grad():
        pool = torch.rand(3 + 4 * 3 * 3 * 2)
        module.conv.weight.set_(pool.untyped_storage(), 3, (4, 3, 3, 2), (18, 1, 6, 3))
        module.fc.weight.set_(torch.rand(60, 2).t())
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(module, (torch.rand(2, 3, 5, 6),)), path)
    network = cnnlens.open(path)
    for name in ("conv", "fc"):
        np.testing.assert_array_equal(network[name].weights["weight"], getattr(module, name).weight.detach().numpy())
    x = torch.rand(3, 3, 5, 6, dtype=torch.float64)
    np.testing.assert_allclose(network.run(x.numpy())["fc"], module.double()(x).detach().numpy(), rtol=1e-12)


def test_damaged_archives_are_refused(honest: Members, tmp_path: Path) -> None:
    path = write(tmp_path / "net.pt2", honest)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(FileRefusedError, match="truncated zip archive"):
        cnnlens.open(path)
    at = data.index(honest["net/data/weights/weight_0"])
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    network = cnnlens.open(path)
    with pytest.raises(FileRefusedError, match="checksum"):
        network["conv"].weights["weight"]
    for name, text, expected in (
        (MODEL, b"{" * 100_000, "JSON"),
        (MODEL, b"[]", "expected a JSON object"),
        (WEIGHTS, b"\xff\xfe", "not JSON"),
    ):
        with pytest.raises(FileRefusedError, match=expected):
            cnnlens.open(write(tmp_path / "bad.pt2", {**honest, name: text}))


def test_a_json_that_unpacks_without_end_is_refused(honest: Members, tmp_path: Path) -> None:
    bomb = b" " * (64 << 20) + honest[MODEL]
    path = write(tmp_path / "bomb.pt2", {**honest, MODEL: bomb}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(FileRefusedError, match="at most"):
        cnnlens.open(path)


def test_every_string_of_the_archive_reaches_a_terminal_as_plain_text(
    honest: Members, tmp_path: Path, run: Runner
) -> None:
    for name in (MODEL, WEIGHTS):
        for number, mutant in enumerate(mutants(json.loads(honest[name]))):
            path = write(tmp_path / "net.pt2", {**honest, name: json.dumps(mutant).encode()})
            run("summary", path)
            if number % 10 == 0:
                run("check", path, "--backends", "reference")
    assert {0, 2} <= set(run.codes)


def test_pickles_in_the_archive_are_never_touched(honest: Members, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    evil = b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR."
    sample = next(name for name in honest if "sample_inputs" in name)
    network = cnnlens.open(write(tmp_path / "net.pt2", {**honest, sample: evil, "net/data/constants/opaque_0": evil}))
    network.run(np.ones((1, 3, 5, 6)))
    assert not marker.exists()


def test_other_archives_of_torch_export_are_refused_by_name(honest: Members, tmp_path: Path) -> None:
    old = write(
        tmp_path / "old.pt2",
        {"serialized_exported_program.json": b"{}", "serialized_state_dict.pt": b"", "version": b"8.8"},
    )
    with pytest.raises(FileRefusedError, match=r"torch 2\.7 or older; save it again with a newer torch"):
        cnnlens.open(old)
    pickled = {name: data for name, data in honest.items() if "/weights/" not in name}
    with pytest.raises(FileRefusedError, match="all its weights are one pickle"):
        cnnlens.open(write(tmp_path / "pickled.pt2", {**pickled, "net/data/weights/model.pt": b"cos\nsystem\n"}))
    without = {name: data for name, data in honest.items() if not name.startswith("net/models/")}
    with pytest.raises(FileRefusedError, match="without a model"):
        cnnlens.open(write(tmp_path / "empty.pt2", without))
    compiled = {**without, "net/data/aotinductor/model/x.so": b"\x7fELF"}
    with pytest.raises(FileRefusedError, match="AOTInductor"):
        cnnlens.open(write(tmp_path / "compiled.pt2", compiled))
    two = {**without, "net/models/a.json": honest[MODEL], "net/models/b.json": honest[MODEL]}
    with pytest.raises(FileRefusedError, match=r"2 models in one archive \('a', 'b'\)"):
        cnnlens.open(write(tmp_path / "two.pt2", two))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Symbol('s77', positive=True, integer=True)", {"s77": 1}),
        ("Mul(Integer(4), Symbol('s0', integer=True))", {"s0": 4}),
        ("Add(Integer(-3), Mul(Integer(2), Symbol('s0')), Integer(5))", {"s0": 2, "": 2}),
        ("Add(Symbol('a'), Mul(Integer(-1), Symbol('a')))", {}),
        ("Mul(Symbol('a'), Symbol('b'))", None),
        ("FloorDiv(Symbol('a'), Integer(2))", None),
        ("Pow(Symbol('a'), Integer(2))", None),
        ("Integer(7", None),
        ("__import__('os').system('true')", None),
        ("(" * 1000, None),
        ("Mul(" * 300 + "Integer(1)" + ")" * 300, None),
        ("", None),
    ],
)
def test_sizes_are_read_by_a_parser_of_our_own(text: str, expected: dict[str, int] | None) -> None:
    assert read_expression(text) == expected


def test_what_a_size_is_to_the_batch() -> None:
    batch = frozenset({"s0"})
    assert multiple_of({"s0": 4}, batch) == 4
    assert multiple_of({"s0": 4, "": 1}, batch) is None
    assert multiple_of({"s1": 4}, batch) is None
    assert constant({"": 3}) == 3
    assert constant({}) == 0
    assert constant({"s0": 1}) is None
