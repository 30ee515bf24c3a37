"""What ``check`` says of a fault that the atlas knows: where it is one or may be, and never of another mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens import sample
from cnnlens.checking.auditing import audit_recording
from cnnlens.checking.finding import Known
from cnnlens.checking.known import with_known
from cnnlens.checking.listing import known_sentence
from cnnlens.cli.main import main
from cnnlens.kinds import KINDS
from cnnlens.surveying.networks import network_of
from cnnlens.surveying.running import Kept
from cnnlens.surveying.setting import Called, Family, Operand
from cnnlens.surveying.table import FAMILIES
from tests.support import ROOT
from tests.support.known import known as atlas_known
from tests.support.known import written

Array = np.ndarray[Any, Any]
FILE = ROOT / "cnnlens" / "checking" / "known.json"
_AVERAGED = {"pool_size": [3, 3], "strides": [2, 2], "padding": "same", "data_format": "channels_last"}


def test_it_is_what_the_atlas_says() -> None:
    assert FILE.read_text(encoding="utf-8") == written(), "python -m tests.support.known > cnnlens/checking/known.json"
    found = json.loads(written())
    assert found["faults"]
    assert all(one["kind"] in KINDS and set(one["sides"]) <= set(found["sides"]) for one in found["faults"])


def test_older_sweeps_say_whether_they_show_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"python": "3.11.7", "numpy": "2.4.6", "keras": "3.10.0", "torch": "2.13.0+cpu"}
    side = {"label": "keras-torch@/env/python", "backend": "keras-torch@/env/python", "versions": versions}
    kinds = ("AveragePooling1D", "AveragePooling2D")
    findings = [{"kind": kinds[1], "fault": "lost precision", "sides": [side["label"]]}]
    cells = [{"kind": kind, "side": side["label"]} for kind in kinds]
    (tmp_path / "keras.json").write_text(json.dumps({"sides": [side], "cells": cells, "findings": findings}))
    monkeypatch.setattr("tests.support.known.OLDER", tmp_path)
    found = {one["kind"]: one["older"] for one in atlas_known()["faults"] if one["older"]}
    assert found == {
        kind: [["keras-torch", {"keras": "3.10.0", "torch": "2.13.0"}, kind == kinds[1]]] for kind in kinds
    }


def known_of(
    kind: str, shape: tuple[int, ...], config: dict[str, Any], wrong: Callable[[Array, Array], Array],
    backend: str = "keras-torch", x: Array | None = None, module: str = "keras.layers", **versions: str,
) -> Known | None:  # fmt: skip
    """What is known of a layer, given its output and input in its own axes, whose recorded output ``wrong`` makes."""
    call = Called(kind, config, (Operand(shape),), {}, module)
    network = network_of(Family(kind, {}, lambda _: call).settings()[0])
    (given,), (name,) = network.inputs, [ref.name for ref in network.outputs]
    x = np.random.default_rng(0).standard_normal((3, *shape), np.float32) if x is None else x
    canonical = np.moveaxis(x, -1, 1) if x.ndim > 2 else x
    with np.errstate(all="ignore"):
        honest = network.own_axes(
            network.outputs[0], np.asarray(network.run([canonical], [name], dtype="float32")[name])
        )
    output = np.asarray(wrong(honest, x), honest.dtype)
    maps = {given.name: canonical, name: np.moveaxis(output, -1, 1) if output.ndim > 2 else output}
    made = {"keras": "3.15.1", "torch": "2.13.0+cpu", **versions}
    info = {"backend": backend, "precision": "strict", "device": "cpu", "versions": made}
    ((_, audit),) = audit_recording(network, Kept(maps, info))
    assert not audit.verdict.passes("strict"), audit
    found = with_known(network, audit, Kept(maps, info))
    assert (found.verdict, found.cause, found.explanation) == (audit.verdict, audit.cause, audit.explanation)
    return found.known


def edges_counted(honest: Array, x: Array) -> Array:
    """The mean over windows of 3 at every second place of rows padded with their edges behind."""
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::2, ::2]
    return windows.mean(axis=(-1, -2))


def test_a_fault_of_the_same_name_is_known() -> None:
    found = known_of("AveragePooling2D", (10, 8, 4), _AVERAGED, edges_counted)
    assert found is not None
    assert (found.settings, found.other, found.named) == ({"pool_size": [3, 3], "padding": "same"}, (), True)
    said = known_sentence(found)
    assert said == (
        "the atlas knows such a fault of AveragePooling2D in keras 3.15.1 with torch 2.13.0, at pool_size 3×3 and "
        "padding same (docs/atlas.md, AveragePooling2D under keras-torch)"
    )


def test_other_versions_than_the_atlas_had_are_said() -> None:
    found = known_of("AveragePooling2D", (10, 8, 4), _AVERAGED, edges_counted, keras="3.14.0")
    assert found is not None
    assert "keras 3.15.1" in known_sentence(found)
    assert known_sentence(found).endswith("; other than there, this run has keras 3.14.0")


def test_versions_that_were_swept_too_are_as_they_were_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def known(shows: bool) -> Known | None:
        atlas = json.loads(FILE.read_text(encoding="utf-8"))
        for one in atlas["faults"]:
            one["older"] = [["keras-torch", {"keras": "3.10.0", "torch": "2.13.0"}, shows]]
        monkeypatch.setattr("cnnlens.checking.known._atlas", lambda: atlas)
        return known_of("AveragePooling2D", (10, 8, 4), _AVERAGED, edges_counted, keras="3.10.0")

    found = known(True)
    assert found is not None
    assert (found.versions["keras"], found.other) == ("3.10.0", ())
    assert known(False) is None


@pytest.mark.parametrize(
    "wrong",
    [
        lambda y, x: y * np.float32(0.5),
        lambda y, x: y[..., [1, 0, 2, 3]],
        lambda y, x: y[:, ::-1],
        lambda y, x: np.where(np.arange(4) == 2, np.nan, y),
        lambda y, x: y + np.random.default_rng(1).standard_normal(y.shape, np.float32),
        lambda y, x: y[:, :-1],
    ],
    ids=["half", "channels exchanged", "flipped", "NaN", "noise", "shape"],
)  # fmt: skip
def test_another_mistake_in_such_a_layer_is_not_excused(wrong: Callable[[Array, Array], Array]) -> None:
    assert known_of("AveragePooling2D", (10, 8, 4), _AVERAGED, wrong) is None


def test_settings_and_backend_are_those_of_the_atlas() -> None:
    assert known_of("AveragePooling2D", (10, 8, 4), _AVERAGED, edges_counted, "keras-jax") is None
    assert known_of("AveragePooling2D", (10, 8, 4), _AVERAGED, edges_counted, "planted-torch") is None
    assert (
        known_of("AveragePooling2D", (10, 8, 4), _AVERAGED, edges_counted, "keras-torch@/elsewhere/python") is not None
    )


@pytest.mark.parametrize(("threshold", "there"), [(0.5, True), (0.0, False)])
def test_a_number_must_not_be_the_one_that_shows_nothing(threshold: float, there: bool) -> None:
    x = np.array([[np.nan, 1, -2], [2, 3, -0.5]], np.float32)
    config = {"max_value": None, "negative_slope": 0.0, "threshold": threshold}
    found = known_of("ReLU", (3,), config, lambda y, x: np.nan_to_num(y), x=x)
    assert (found is not None) == there


def test_nan_is_known_where_it_goes_the_same_way() -> None:
    x = np.random.default_rng(0).standard_normal((3, 6, 8, 2), np.float32)
    x[1, 2, 3, 0] = np.nan

    def known(wrong: Callable[[Array, Array], Array], x: Array) -> Known | None:
        given = {"pool_size": [2, 2], "strides": [2, 2], "padding": "valid"}
        return known_of("MaxPooling2D", (6, 8, 2), given, wrong, "keras-tensorflow", x, tensorflow="2.21.0")

    hidden = known(lambda y, x: np.nan_to_num(y), x)
    assert hidden is not None
    assert hidden.fault == "NaN or infinity"  # at which strides, hangs on the processor of the atlas
    assert known(lambda y, x: np.where(np.arange(2) == 1, np.nan, y), np.nan_to_num(x)) is None, "made, not hidden"
    assert known(lambda y, x: np.nan_to_num(y) * np.float32(1.5), x) is None, "a factor besides"


def test_an_operator_of_pytorch_is_known_by_its_kind() -> None:
    """In a program it is called ``sign``."""
    family = next(one for one in FAMILIES if (one.framework, one.kind) == ("torch", "Sign"))
    network = network_of([next(one for one in family.settings()[0] if len(one.options["shape"]) == 1)])
    (given,), (name,) = network.inputs, [ref.name for ref in network.outputs]
    shape = network.shape(given)
    assert shape is not None
    x = np.random.default_rng(0).standard_normal((5, *shape[1:]), np.float32)
    x[3] = np.nan
    info = {"backend": "pytorch", "precision": "strict", "device": "cpu", "versions": {"torch": "2.13.0+cpu"}}
    kept = Kept({given.name: x, name: np.nan_to_num(np.sign(x))}, info)
    ((_, audit),) = audit_recording(network, kept)
    found = with_known(network, audit, kept).known
    assert found is not None
    assert (found.kind, found.sides, found.other) == ("Sign", ("pytorch",), ())


def test_what_has_no_name_may_be_another_fault_and_that_is_said() -> None:
    config = {"pad_width": [[0, 0], [1, 2], [3, 0], [0, 1]], "mode": "symmetric"}

    def known(wrong: Callable[[Array, Array], Array]) -> Known | None:
        return known_of("Pad", (6, 5, 4), config, wrong, module="keras.src.ops.numpy")

    noise = np.random.default_rng(1).standard_normal
    found = known(lambda y, x: y + np.where(np.arange(5) == 4, 0, noise(y.shape)))
    assert found is not None
    assert known_sentence(found).endswith("; whether it is this one cannot be told")
    assert known(lambda y, x: y[..., [1, 0, 2, 3, 4]]) is None, "channels exchanged have a name"


def test_inputs_must_be_of_a_class_that_shows_it() -> None:
    def known(zero: float) -> Known | None:
        x = np.where(np.arange(4) % 2, np.float32(zero), np.float32(0)) + np.zeros((3, 6, 5, 4), np.float32)
        x[..., 1] = zero
        given, random = {"axis": -1, "keepdims": False}, np.random.default_rng(0).integers

        def wrong(y: Array, x: Array) -> Array:
            return random(0, 4, y.shape)

        return known_of("Argmax", (6, 5, 4), given, wrong, "keras-jax", x, "keras.src.ops.numpy", jax="0.10.2")

    assert known(-0.0) is not None
    assert known(-1.0) is None


# -- the frameworks themselves ---------------------------------------------------------------------------------------


@pytest.mark.framework
def test_the_average_of_keras_under_torch_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    result = cnnlens.check(sample.AVERAGE, backends=["keras-torch"], progress=False)
    if result.agree:
        pytest.skip("this Keras is mended")
    audit = next(row for row in result.rows if row.name == "average").audits["keras-torch"]
    assert audit.known is not None
    assert audit.known.named
    line = f"note: average under keras-torch: {known_sentence(audit.known)}"
    assert line in str(result).splitlines() or line in " ".join(str(result).split())
    assert main(["check", str(sample.AVERAGE), "-b", "keras-torch", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    layers = {one["name"]: one["runs"]["keras-torch"]["known"] for one in said["layers"]}
    assert layers.pop("average")["see"] == "docs/atlas.md, AveragePooling2D under keras-torch"
    assert not any(layers.values())
    assert main(["check", str(sample.AVERAGE), "-b", "keras-torch", "-o", str(tmp_path / "page.html")]) == 1
    assert "the atlas knows such a fault" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.framework
def test_tensorflows_additions_and_maxima_are_known() -> None:
    pytest.importorskip("tensorflow")
    from cnnlens.files.keras.network import keras_network
    from cnnlens.files.memory import MemoryModel
    from cnnlens.testing import networks as keras

    entries = [keras.input_entry("a", 1, 1, 12), keras.input_entry("b", 1, 1, 1), keras.input_entry("c", 6, 8, 3)]
    for kind in ("Add", "Average"):
        sources = [keras.tensor("a"), keras.tensor("b")]
        entries.append({**keras.layer_entry(kind, kind.lower()), "inbound_nodes": [{"args": [sources], "kwargs": {}}]})
    pool = keras.layer_entry("MaxPooling2D", "pool", pool_size=[2, 2], strides=[2, 2], padding="valid")
    entries.append({**pool, "inbound_nodes": [{"args": [keras.tensor("c")], "kwargs": {}}]})
    outputs = [[name, 0, 0] for name in ("add", "average", "pool")]
    network = keras_network(MemoryModel(keras.functional("merged", entries, ["a", "b", "c"], outputs), {}))
    random = np.random.default_rng(0)
    shapes = {"a": (1, 1, 12), "b": (1, 1, 1), "c": (6, 8, 3)}
    inputs = {name: random.standard_normal((12, *shape), np.float32) for name, shape in shapes.items()}
    inputs["c"][5, 2, 3, 1] = np.nan
    result = cnnlens.check(network, inputs, backends=["keras-tensorflow"], allow_nonfinite=True, progress=False)
    audits = {row.name: row.audits["keras-tensorflow"] for row in result.rows}
    for name in ("add", "average", "pool"):
        known = audits[name].known
        assert (known is None) == (audits[name].fault_class is None), audits[name]
        if known is not None and name != "pool":
            assert known.settings == {"inputs": "(1, 1, n) and (1, 1, 1)"}
            assert not known.named, "no NaN was given that would show which"
    assert audits["pool"].known is not None, "TensorFlow's maxima hide NaN on every processor"
