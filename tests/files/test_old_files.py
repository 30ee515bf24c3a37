"""Files of Keras 2 and early Keras 3 run too: the outputs are those that the Keras that wrote them recorded.

The files stand beside this checkout in ``shared``; without it these tests are skipped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cnnlens
from cnnlens.network import summary
from cnnlens.reference.executor import Executor
from cnnlens.text import printable
from tests.support import SHARED

FILES = SHARED / "data" / "keras_files"
pytestmark = pytest.mark.skipif(not FILES.exists(), reason="the old files are not beside this checkout")

RECORDED = sorted(path for path in FILES.glob("*/*.out.npz"))
# The variances in it are negative, so its batch norm gives NaN; TensorFlow's max-pooling then drops NaN (it takes the
# largest of the others) and the recorded outputs say nothing about the rest. The reference lets NaN through.
HIDDEN_NAN = {"sequential"}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("recorded", RECORDED, ids=lambda path: f"{path.parent.name}-{path.name.split('.')[0]}")
def test_outputs_are_those_of_the_keras_that_wrote_the_file(recorded: Path, suffix: str) -> None:
    name = recorded.name.split(".")[0]
    network = cnnlens.open(recorded.with_name(name + suffix))
    outputs = [ref.name for ref in network.outputs]
    generator = np.random.default_rng(0)
    shapes = [network.shape(ref) for ref in network.inputs]
    inputs = [generator.standard_normal((2, *(shape or ())[1:])).astype(np.float32) for shape in shapes]
    given = Executor(network, layers=outputs).stored(inputs)
    with np.load(recorded) as truth:
        for index, output in enumerate(outputs):
            wanted = truth[f"y{index}"]
            assert given[output].shape == wanted.shape
            if name in HIDDEN_NAN:
                assert network["batch_normalization"].weights["moving_variance"].min() < 0
                assert np.isnan(given[output]).all()
                continue
            # Some of these files have negative variances: NaN where Keras has NaN is part of the truth.
            finite = np.isfinite(wanted)
            assert np.array_equal(np.isfinite(given[output]), finite)
            scale = np.abs(wanted[finite]).max(initial=0.0)
            assert np.abs(given[output][finite] - wanted[finite]).max(initial=0.0) <= 3e-6 * scale


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(FILES.glob("*/*.keras")) + sorted(FILES.glob("*/*.h5")), ids=lambda p: p.name)
def test_every_file_can_be_shown(path: Path) -> None:
    network = cnnlens.open(path)
    data = summary.as_json(network)
    # Keras 3.0 broke off while writing two of them: that is said, and what is there is shown.
    broken = any("not written to its end" in note for note in network.notes)
    assert broken or any(layer["weights"] for layer in data["layers"])
    table = summary.as_table(network)
    for layer in network.layers:
        assert printable(layer.name, 40) in table
