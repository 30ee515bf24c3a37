"""What a page says of a check and of a diff is what the commands say; what fails or differs is drawn where it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens.checking.finding import Verdict
from cnnlens.checking.listing import sentences
from cnnlens.checking.result import Check, LayerCheck, Run
from cnnlens.checking.verdict import audit
from cnnlens.cli.main import main
from cnnlens.network.network import Network
from cnnlens.reporting.reporter import report_network
from cnnlens.sample import IMAGES, MODEL
from cnnlens.testing.networks import inputs_for, network
from tests.reporting.test_report import unpacked
from tests.support.page_networks import HARD, hard_network


@pytest.fixture(scope="module")
def sample() -> Network:
    return cnnlens.open(MODEL)


def faulty(net: Network, layer: str, change: Any) -> Check:
    """A check of a run that computes as the reference does but for ``layer``, whose output is changed."""
    inputs = np.random.default_rng(5).random(
        (3, *(size or 1 for size in (net.canonical_shape(net.inputs[0]) or ())[1:]))
    )
    maps = net.run(inputs, dtype="float32")
    maps |= {ref.name: inputs.astype(np.float32) for ref in net.inputs}
    stored = {name: np.moveaxis(one, 1, -1) if one.ndim > 2 else one for name, one in maps.items()}
    rows: list[LayerCheck] = []
    for call in (one for one in net.calls if one.layer.kind != "InputLayer"):
        output = stored[call.name].copy()
        if call.name == layer:
            change(output)
        args = [stored[ref.name] for ref in call.refs]
        found = audit(call, call.layer.computing_weights(), args, {}, output)
        rows.append(LayerCheck(call.name, call.layer.shown_kind, {"run": found}))
    run = Run("run", "keras-jax", {"numpy": "2"}, "cpu", "strict", (), 3, 3)
    return Check(net, "drawn", (run,), tuple(rows), {})


def test_where_bits_are_lost_is_where_the_fault_is(sample: Network) -> None:
    def change(output: np.ndarray[Any, Any]) -> None:
        output[1, 7, 5, 3] += 1.0  # example, row, column, channel
        output[:, 2, 4, 6] += 0.001
        output[2, 9, 1, 8] = np.nan

    found = next(row.audits["run"] for row in faulty(sample, "conv2d_1", change).rows if row.name == "conv2d_1")
    assert found.verdict is Verdict.WRONG
    lost = found.lost
    assert lost is not None
    assert lost.shape == (64, 14, 14)
    assert lost[8, 9, 1] == np.inf
    assert min(lost[3, 7, 5], lost[6, 2, 4]) > 9
    lost[[3, 6, 8], [7, 2, 9], [5, 4, 1]] = 0
    assert lost.max() < 4  # what is left is float32's rounding


def test_what_passes_has_no_such_map_and_a_dense_layer_one_number_a_channel(sample: Network) -> None:
    def change(output: np.ndarray[Any, Any]) -> None:
        output[:, 4] = 0.5

    rows = {row.name: row.audits["run"] for row in faulty(sample, "dense_1", change).rows}
    assert [name for name, one in rows.items() if one.lost is not None] == ["dense_1"]
    lost = rows["dense_1"].lost
    assert lost is not None
    assert lost.shape == (10,)
    assert lost.argmax() == 4


def test_the_page_has_the_check_as_it_is_printed_and_its_map(sample: Network) -> None:
    def change(output: np.ndarray[Any, Any]) -> None:
        output[..., 5] = 0.0

    check = faulty(sample, "conv2d", change)
    made = report_network(sample, None, check=check, layers=["conv2d"])
    said = made.to_json()["check"]
    assert [one["text"] for one in said["said"]][-len(sentences(check)) :] == [str(line) for line in sentences(check)]
    assert any(one["tone"] == "bad" and one["text"].startswith("run: ") for one in said["said"])
    plain = json.loads(json.dumps(check.to_json()))
    row = said["layers"][0]["runs"]["run"]
    lost = row.pop("lost")
    assert row == plain["layers"][0]["runs"]["run"]
    assert (unpacked(made.html(), lost["array"]) == check.rows[0].audits["run"].lost).all()
    assert "lost" not in said["layers"][1]["runs"]["run"]


def test_all_inputs_are_checked_and_the_first_are_drawn_as_they_were_scaled(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 255, (15, 28, 28), np.uint8))
    made = cnnlens.report(MODEL, inputs=tmp_path / "x.npy", backends=["reference"], scale="none", sample=6, limit=4,
                          layers=["conv2d"], progress=False)  # fmt: skip
    data = made.to_json()
    assert (data["inputs"]["count"], data["inputs"]["of"]) == (4, 15)
    assert [(run["inputs"], run["audited_inputs"]) for run in data["check"]["runs"]] == [(15, 6)]
    assert unpacked(made.html(), "input.0").max() > 200
    assert "feature maps are of the first 4 of 15 inputs" in str(made)
    recorded = cnnlens.record(MODEL, tmp_path / "x.npy", backend="reference", scale="none", out=tmp_path / "run.zarr",
                              progress=False)  # fmt: skip
    again = cnnlens.report(MODEL, recordings=[recorded], sample=6, progress=False).to_json()["check"]
    assert again["layers"] == [
        {**row, "runs": {label: {k: v for k, v in one.items() if k != "lost"} for label, one in row["runs"].items()}}
        for row in data["check"]["layers"]
    ]


def test_maps_go_as_far_as_the_reference_does() -> None:
    net = hard_network("refused")
    data = report_network(net, inputs_for(net, 2)).to_json()
    assert [bool(row["maps"]) for row in data["layers"]] == [True, False, False]
    assert "the reference has no layer MyOwnAttention" in data["notes"][0]
    assert data["notes"][1] == "2 of 3 layers have no feature maps for that reason"


def test_maps_stop_where_only_the_numbers_show_that_a_layer_cannot_be_computed() -> None:
    net = network("chain")
    head = replace(net["head"], stored={"bias": net["head"].stored["bias"]})
    layers = tuple(head if one.name == "head" else one for one in net.layers)
    calls = tuple(replace(one, layer=head) if one.layer.name == "head" else one for one in net.calls)
    data = report_network(replace(net, layers=layers, calls=calls), inputs_for(net, 2)).to_json()
    assert [bool(row["maps"]) for row in data["layers"]] == [True] * 7 + [False]
    assert "layer 'head'" in data["notes"][0]


@pytest.fixture
def ported(sample: Network, tmp_path: Path) -> Path:
    from safetensors.numpy import save_file

    arrays = {f"{one.name}.weight": one.kernel.to("torch") for one in sample.layers if one.kernel is not None}
    arrays["conv2d_1.weight"] = arrays["conv2d_1.weight"].swapaxes(2, 3)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, tmp_path / "ported.safetensors")
    return tmp_path / "ported.safetensors"


def test_two_models_that_differ_are_drawn_beside_each_other(sample: Network, ported: Path) -> None:
    made = cnnlens.report(MODEL, against=ported, layers=["conv2d"], progress=False)
    diff = cnnlens.diff(MODEL, ported, progress=False)
    said = json.loads(json.dumps(made.to_json()["diff"]))
    assert said["verdict"] == list(diff.verdict)
    drawn = {f"{row['a']}/{one['role']}": one.pop("drawn") for row in said["rows"] for one in row["arrays"]}
    assert said == json.loads(json.dumps(diff.to_json()))
    kernel = sample["conv2d_1"].kernel
    assert kernel is not None
    sides = {side: unpacked(made.html(), one["array"]) for side, one in drawn["conv2d_1/kernel"].items()}
    assert (sides["a"] == kernel.array).all()
    assert (sides["b"] == kernel.array.swapaxes(2, 3)).all()
    assert (sides["difference"] == sides["a"] - sides["b"]).all()
    assert list(drawn["conv2d/bias"]) == ["a"]
    assert drawn["conv2d/kernel"] is None


@pytest.mark.parametrize("name", sorted(HARD.keys() - {"deep", "wide"}))
def test_what_is_hard_to_show_is_shown(name: str) -> None:
    net = hard_network(name)
    made = report_network(net, inputs_for(net, 2))
    data = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert len(data["layers"]) == len(net.layers)
    assert "window.owned = 1</script>" not in made.html()
    assert not {char for char in made.html() if ord(char) < 32} - {"\n"}


# -- from other commands -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_check_and_a_diff_become_pages(
    ported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check", str(MODEL), "-i", str(IMAGES), "-b", "reference", "-o", "check.html"]) == 0
    said = capsys.readouterr().out
    assert "is within rounding" in said
    assert said.endswith("wrote check.html\n")
    assert main(["check", str(MODEL), "--twin", str(MODEL), "-b", "reference", "--json", "-o", "twins.html"]) == 0
    assert json.loads(capsys.readouterr().out)["page"] == "twins.html"
    assert main(["diff", str(MODEL), str(ported), "-o", "diff.html"]) == 1
    record = ["record", str(MODEL), "-i", str(IMAGES), "--limit", "3", "-b", "reference", "-o", "run.zarr"]
    assert main([*record, "--report", "record.html"]) == 0
    pages = {path.stem: json.loads(data_of(path)) for path in tmp_path.glob("*.html")}
    kinds = {name: [key for key in ("check", "twins", "diff", "inputs") if page[key]] for name, page in pages.items()}
    assert kinds == {
        "check": ["check", "inputs"], "twins": ["twins"], "diff": ["diff"], "record": ["check", "inputs"],
    }  # fmt: skip
    assert pages["record"]["inputs"]["count"] == 3
    assert all(page["format"] == "cnnlens.report/1" for page in pages.values())


def data_of(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition('id="data">')[2].partition("</script>")[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "MODEL", "-o", "report.txt"], "name a .html file"),
        (["report", "MODEL", "-o", "/dev/full"], "name a .html file"),
        (["report", "MODEL", "nowhere.zarr", "-o", "x.html"], "nowhere.zarr: does not exist"),
        (["report", "MODEL", "--against", "nowhere.pt", "-o", "x.html"], "nowhere.pt: no such file"),
        (["record", "MODEL", "-i", "IMAGES", "-o", "run.zarr", "--report", "x.keras"], "name a .html file"),
        (["record", "MODEL", "-i", "IMAGES", "-o", "run.zarr", "--reduce", "mean", "--report", "x.html"], "--report"),
        (["convert", "MODEL", "--into", "MODEL", "--report", "x.html"], "cnnlens check -o"),
    ],
)
def test_what_cannot_be_a_page_is_a_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"MODEL": str(MODEL), "IMAGES": str(IMAGES)}
    assert main([given.get(one, one) for one in arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.chdir(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        assert main(["report", str(MODEL), "-o", "report.html"]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "report.html: it cannot be written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
