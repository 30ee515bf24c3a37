"""Operations of ``keras.ops`` over all axes, and models without arrays: converted, or refused by what they are."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

import cnnlens
from cnnlens.errors import CnnlensError

keras = pytest.importorskip("keras")
pytest.importorskip("torch")

# What keeps a row for each input, or several; every other one gives a number for all inputs.
ROWS = ("cumsum", "flip", "roll", "repeat", "squeeze")
SUMS = (
    "sum",
    "mean",
    "max",
    "min",
    "prod",
    "std",
    "var",
    "any",
    "all",
    "logsumexp",
    "argmax",
    "argmin",
    "amax",
    "amin",
)
MORE = {"roll": (1,), "repeat": (2,)}


def _saved(folder: Path, *names: str, **settings: Any) -> Path:
    x = keras.Input((3, 4))
    made = [getattr(keras.ops, name)(x, *MORE.get(name, ()), **settings) for name in names]
    keras.Model(x, made if len(made) > 1 else made[0]).save(folder / "net.keras")
    return folder / "net.keras"


def test_operations_over_all_axes_are_converted(tmp_path: Path) -> None:
    made = cnnlens.convert(_saved(tmp_path, *ROWS, axis=None), "torch", tmp_path / "net.py")
    assert len(made.result.outputs) == len(ROWS)
    assert made.twins.agree
    assert made.arrays == 0  # nor was the file without arrays taken for a broken one


@pytest.mark.parametrize("name", SUMS)
def test_one_number_for_all_inputs_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(CnnlensError, match=r"net\.keras: output '.*' has no row for each input"):
        cnnlens.convert(_saved(tmp_path, name, axis=None), "torch", tmp_path / "net.py")


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_a_softmax_over_the_batch_is_refused_in_words(name: str, tmp_path: Path) -> None:
    with pytest.raises(CnnlensError, match="over all values of the batch"):
        cnnlens.convert(_saved(tmp_path, name, axis=None), "torch", tmp_path / "net.py")


def test_a_model_that_gives_one_number_alone_is_not_recorded(tmp_path: Path) -> None:
    path = _saved(tmp_path, "sum")
    backend = importlib.import_module("keras").backend.backend()
    with pytest.raises(CnnlensError, match="nothing that it computes has a row for each input"):
        cnnlens.record(path, None if backend is None else [[[0.0] * 4] * 3], backend="reference")
