"""``cnnlens diff`` of two models of 100 MB against reading both files: how many times longer it takes.

Reading is opening a file and touching every number of it as float32. The models are ResNet50 as Keras saves it and what
a person may have made of it in PyTorch: the same weights, flipped or poured kernels, a copy in half precision, another
training, a fine-tuned one. Both sides run in turn in one process, so that a machine whose speed drifts moves both.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import cnnlens
from benchmarks.harness import Options, Report, Row, in_turn, output, peer

_TORCH = {"kernel": "weight", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean",
          "moving_variance": "running_var"}  # fmt: skip
_GOAL = 3  # times reading both

Change = Callable[[np.ndarray], np.ndarray]


def _poured(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0).reshape(array.shape) if array.ndim == 4 else array


def _tuned(array: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(array.size).standard_normal(array.shape, np.float32)
    return array + np.float32(0.01 * array.std()) * noise


def _eight_bits(array: np.ndarray) -> np.ndarray:
    step = np.abs(array).max() / 127
    return (np.round(array / step) * step).astype(np.float32) if array.ndim > 1 else array


CASES: dict[str, tuple[Change, str]] = {
    "equal": (lambda array: array, "equal"),
    "flipped kernels": (lambda array: array[:, :, ::-1, ::-1] if array.ndim == 4 else array, "flipped on H and W"),
    "poured kernels": (_poured, "reshaped where it should have been transposed"),
    "half precision": (lambda array: array.astype(np.float16), "float16"),
    "fine-tuned": (_tuned, "fine-tuned"),
    "int8": (_eight_bits, "int8"),
}


def run(options: Options, report: Report) -> None:
    """A row a pair of models."""
    runs = 1 if options.small else 5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = [_keras(folder / f"{seed}.keras", seed) for seed in (0, 1)]
        report.row(_row("two Keras files, equal", models[0], _copy(models[0], folder), "equal", runs))
        report.row(_row("two Keras files, another training", models[0], models[1], "another model", runs))
        for case, (change, expected) in CASES.items():
            other = _torch(models[0], folder / "other.safetensors", change)
            report.row(_row(f"Keras and safetensors, {case}", models[0], other, expected, runs))


def _keras(path: Path, seed: int) -> Path:
    output(peer("keras_diff_models", path, seed))
    return path


def _copy(path: Path, folder: Path) -> Path:
    other = folder / "copy.keras"
    other.write_bytes(path.read_bytes())
    return other


def _torch(path: Path, target: Path, change: Change) -> Path:
    """The model's arrays in PyTorch's layouts, changed, as safetensors."""
    from safetensors.numpy import save_file

    arrays: dict[str, np.ndarray] = {}
    for layer in cnnlens.open(path).layers:
        for role, weight in layer.stored.items():
            canonical = np.ascontiguousarray(weight.canonical())
            arrays[f"{layer.name}.{_TORCH.get(role, role)}"] = np.ascontiguousarray(change(canonical))
    save_file(arrays, target)
    return target


def _row(name: str, a: Path, b: Path, expected: str, runs: int) -> Row:
    from cnnlens.differing.differ import diff

    def ours() -> float:
        start = time.perf_counter()
        found = diff(str(a), str(b))
        seconds = time.perf_counter() - start
        if expected not in " ".join(found.verdict):
            raise AssertionError(f"{name}: {expected} was expected, {found.verdict} came")
        return seconds

    def read() -> float:
        start = time.perf_counter()
        for path in (a, b):
            for layer in cnnlens.open(path).layers:
                for array in layer.weights.values():
                    np.asarray(array, np.float32).sum()
        return time.perf_counter() - start

    taken = in_turn({"diff": ours, "read": read}, runs)
    return Row.of(f"diff: {name}", taken["diff"], taken["read"], "s", _GOAL)
