"""Files of old versions: every command gives what the version that wrote them held and computed, or says why not.

``docs/versions.md`` has a cell for each; the files are those of ``python -m benchmarks old-versions``. More files of
Keras 2.13 and 3.0 stand beside some checkouts in ``shared``; without it the tests of those are skipped.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cnnlens
from benchmarks import old_versions
from cnnlens.conversion.to_torch import program
from cnnlens.network import summary
from cnnlens.reference.executor import Executor
from cnnlens.text import printable
from tests.support import SHARED, old_files
from tests.support.old_files import COMMANDS, Old, Opened
from tests.support.once import needs

OLD = old_files.files()
# The oldest and the newest version of each file: the others are slow, for they are many.
ENDS = {one for old in OLD for same in [[each for each in OLD if each.file == old.file]] for one in (same[0], same[-1])}


def shown(old: Old) -> str:
    return f"{old.version}-{old.file}"


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return old_files.unpack(tmp_path_factory.mktemp("old"))


@pytest.mark.parametrize(
    "old", [one if one in ENDS else pytest.param(one, marks=pytest.mark.slow) for one in OLD], ids=shown
)
def test_every_command_does_with_a_file_what_the_page_says(old: Old, unpacked: Path, tmp_path: Path) -> None:
    one = Opened(old, unpacked)
    found = {command: old_files.cell(command, one, tmp_path) for command in COMMANDS}
    assert found == old_files.kept()[old], "python -m tests.support.old_files > docs/versions.md"


def test_the_page_has_every_file_and_each_reason_once() -> None:
    kept = old_files.kept()
    assert list(kept) == OLD
    assert old_files.page(kept) == old_files.PAGE.read_text(encoding="utf-8")


def test_every_version_that_the_script_installs_has_files() -> None:
    installed = {name for name, version in old_versions.VERSIONS.items() if version.requirements}
    assert len(installed) == 11
    assert installed < set(old_files.versions())


def test_a_cell_is_not_works_where_the_numbers_are_others(unpacked: Path, tmp_path: Path) -> None:
    one = Opened(next(old for old in OLD if old.file == "convolutions.h5"), unpacked)
    one.truth["output"] += np.float32(1e-4)
    key = next(key for key in one.truth if key.endswith("bias"))
    one.truth[key][0] = np.nextafter(one.truth[key][0], np.float32(9))
    for command in ("summary", "maps"):
        with pytest.raises(AssertionError):
            old_files.cell(command, one, tmp_path)


def same_output(one: Opened, found: NDArray[Any]) -> bool:
    wanted = one.truth["output"]
    return bool(np.abs(found - wanted).max() <= old_files.ROUNDING * np.abs(wanted).max())


@pytest.mark.parametrize("old", [old for old in OLD if "weights" in old.file], ids=shown)
def test_weights_alone_run_with_the_config_of_a_whole_model(old: Old, unpacked: Path) -> None:
    one = Opened(old, unpacked, config=unpacked / old.version / "convolutions.h5")
    (output,) = (ref.name for ref in one.network.outputs)
    assert same_output(one, one.network.run(one.truth["input"], layers=[output], dtype="float32")[output])


@pytest.mark.parametrize("old", [old for old in OLD if old.file == "checkpoint.pt"], ids=lambda old: old.version)
def test_the_other_set_of_weights_is_the_versions_own_in_half_precision(old: Old, unpacked: Path) -> None:
    with np.load(unpacked / old.version / "truth.npz") as told:
        wanted = {key.removeprefix("ema/arrays/"): told[key] for key in told.files if key.startswith("ema/")}
    found = {".".join(name): array for name, array in Opened(old, unpacked, weights="ema").held.items()}
    assert found.keys() == wanted.keys()
    for name, array in found.items():
        assert (array.dtype, array.tobytes()) == (wanted[name].dtype, wanted[name].tobytes()), name


def test_a_lambda_of_keras_2_2_computes_what_a_person_says(unpacked: Path) -> None:
    one = Opened(Old("keras-2.2.4", "arithmetic.h5"), unpacked, lambdas={"lambda_1": "x / 4 - 0.5"})
    (output,) = (ref.name for ref in one.network.outputs)
    assert same_output(one, one.network.run(one.truth["input"], layers=[output], dtype="float32")[output])


@pytest.mark.framework
def test_what_old_keras_models_are_converted_to_gives_their_output_in_torch(unpacked: Path, tmp_path: Path) -> None:
    needs("torch")
    import torch

    for number, old in enumerate(old for old in OLD if old.framework == "keras"):
        one = Opened(old, unpacked)
        if old_files.kept()[old]["convert"] != "works":
            continue
        made = program(one.network)
        path, _ = made.write(tmp_path / f"made_{number}.py")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        model = getattr(module, made.class_name)()
        model.load_state_dict({name: torch.tensor(value) for name, value in made.state.items()})
        given = one.truth["input"]
        given = np.moveaxis(given, -1, 1) if given.ndim > 2 else given
        with torch.no_grad():
            assert same_output(one, model.eval()(torch.tensor(given)).numpy()), old


FILES = SHARED / "data" / "keras_files"
beside = pytest.mark.skipif(not FILES.exists(), reason="the old files are not beside this checkout")

RECORDED = sorted(path for path in FILES.glob("*/*.out.npz"))
# The variances in it are negative, so its batch norm gives NaN; TensorFlow's max-pooling then drops NaN (it takes the
# largest of the others) and the recorded outputs say nothing about the rest. The reference lets NaN through.
HIDDEN_NAN = {"sequential"}


@beside
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


@beside
@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(FILES.glob("*/*.keras")) + sorted(FILES.glob("*/*.h5")), ids=lambda p: p.name)
def test_every_file_can_be_shown(path: Path) -> None:
    network = cnnlens.open(path)
    data = summary.as_json(network)
    # Keras 3.0 broke off while writing two of them: that is said, and what is there is shown.
    broken = any("not written to its end" in note for note in network.notes)
    assert broken or any(layer["weights"] for layer in data["layers"])
    table = str(summary.as_page(network))
    for layer in network.layers:
        assert printable(layer.name, 40) in table
