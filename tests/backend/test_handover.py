"""A network that was handed over is the same network, without the file that it came from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cnnlens
from cnnlens import sample
from cnnlens.backend import handover
from cnnlens.files.keras.network import keras_network
from cnnlens.reference.executor import Executor
from cnnlens.testing import MemoryModel
from tests.network.test_network import MODELS


@pytest.mark.parametrize("name", MODELS)
def test_it_computes_the_same_bits_in_another_process(graphs: Path, name: str, tmp_path: Path) -> None:
    network = cnnlens.open(graphs / f"{name}.keras")
    handover.write(network, tmp_path)
    with np.load(graphs / f"{name}.inputs.npz") as found:
        given = list(dict(found).values())
    here = Executor(network, dtype="float32").stored(given)
    np.savez(tmp_path / "given.npz", *given)
    code = (
        "import sys, numpy as np; from pathlib import Path; from cnnlens.backend import handover\n"
        "from cnnlens.reference.executor import Executor\n"
        "folder = Path(sys.argv[1]); network = handover.load(folder)\n"
        "given = list(np.load(folder / 'given.npz').values())\n"
        "there = Executor(network, dtype='float32').stored(given)\n"
        "np.savez(folder / 'there.npz', *there.values())\n"
        "assert 'pyfive' not in sys.modules and 'zarr' not in sys.modules\n"
        "print(handover.network_hash(network))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    with np.load(tmp_path / "there.npz") as there:
        for wanted, came in zip(here.values(), there.values(), strict=True):
            assert np.array_equal(wanted, came)
    assert done.stdout.strip() == handover.network_hash(network)


def test_everything_that_is_shown_survives(tmp_path: Path) -> None:
    network = cnnlens.open(sample.MODEL)
    handover.write(network, tmp_path)
    other = handover.load(tmp_path)
    for mine, theirs in zip(network.layers, other.layers, strict=True):
        assert (mine.name, mine.kind, mine.output_shape, mine.inputs) == (
            theirs.name,
            theirs.kind,
            theirs.output_shape,
            theirs.inputs,
        )
        for name, array in mine.weights.items():
            assert np.array_equal(array, theirs.weights[name])
            assert mine.stored[name].layouts() == theirs.stored[name].layouts()
    assert other.source.sha256 == network.source.sha256


def test_arrays_without_axes_keep_none(tmp_path: Path) -> None:
    """A Normalization layer's count is a single number."""
    layers = [
        {"class_name": "InputLayer", "config": {"batch_shape": [None, 5, 3], "name": "signal"}},
        {"class_name": "Normalization", "config": {"name": "norm", "axis": [-1]}},
    ]
    config = {"name": "one", "layers": [{"module": "keras.layers", **layer} for layer in layers]}
    arrays = {
        ("norm",): {"mean": np.ones(3, np.float32), "variance": np.ones(3, np.float32), "count": np.array(7, np.int32)}
    }
    network = keras_network(MemoryModel({"class_name": "Sequential", "config": config}, arrays))
    handover.write(network, tmp_path)
    count = handover.load(tmp_path)["norm"].weights["count"]
    assert (count.shape, int(count)) == ((), 7)


def test_the_hash_tells_models_apart_and_files_not(tmp_path: Path) -> None:
    network = cnnlens.open(sample.MODEL)
    copy = tmp_path / "copy.keras"
    copy.write_bytes(Path(sample.MODEL).read_bytes())
    assert handover.network_hash(cnnlens.open(copy)) == handover.network_hash(network)
    handover.write(network, tmp_path)
    weights = bytearray((tmp_path / "weights.bin").read_bytes())
    weights[1] ^= 1  # the last bit but eight of the first weight
    (tmp_path / "weights.bin").write_bytes(weights)
    assert handover.network_hash(handover.load(tmp_path)) != handover.network_hash(network)


def test_nothing_in_it_is_executable(tmp_path: Path) -> None:
    handover.write(cnnlens.open(sample.MODEL), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.json", "weights.bin"]
    assert json.loads((tmp_path / "network.json").read_text())["version"] == 1
