"""keras.applications' models converted to PyTorch and run where neither Keras nor cnnlens can be imported.

The claim is that a converted model needs torch and safetensors alone, so it runs in an environment of its own that has
those and what they require, and nothing else; every layer is then held against what Keras itself computed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
import venv
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

import cnnlens
from benchmarks.applications import LIMIT, NAMES, SMALL, write_models
from benchmarks.harness import RESULTS, Options, Report, keep_figures
from cnnlens.conversion import to_torch

RESULT = RESULTS / "conversion-cpu.json"
CHILD = Path(__file__).parent / "peers" / "converted.py"


@dataclass(frozen=True)
class Converted:
    """How far a converted model and Keras are apart: at the output, and at the worst layer."""

    name: str
    layers: int
    lines: int
    output: float
    worst: float
    worst_layer: str
    missing: int
    convert_seconds: float
    run_seconds: float

    @property
    def good(self) -> bool:
        """Whether every layer is within the limit, and none is missing."""
        return self.worst <= LIMIT and self.output <= LIMIT and not self.missing


def _required(name: str, seen: set[str]) -> Iterator[metadata.Distribution]:
    """A distribution and all that it requires here."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in seen:
        return
    seen.add(key)
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return  # a requirement of another platform
    yield found
    for requirement in found.requires or ():
        if "extra ==" not in requirement:
            yield from _required(re.split(r"[ ;<>=!~\[(]", requirement, maxsplit=1)[0], seen)


def environment(folder: Path) -> Path:
    """The Python of a new environment that has torch, safetensors and NumPy (which reads the inputs), linked in."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    seen: set[str] = set()
    for name in ("torch", "safetensors", "numpy"):
        for distribution in _required(name, seen):
            tops = {path.parts[0] for path in distribution.files or () if path.parts[0] not in ("..", "__pycache__")}
            for top in tops:
                target = Path(str(distribution.locate_file(top)))
                if target.exists() and not (site / top).exists():
                    (site / top).symlink_to(target)
    return folder / "bin" / "python"


def convert(folder: Path, name: str, python: Path) -> Converted:
    """Convert FOLDER/NAME.keras, run it in ``python`` and hold every layer against Keras' arrays in FOLDER/NAME."""
    started = time.perf_counter()
    program = to_torch.program(cnnlens.open(folder / f"{name}.keras"))
    program.write(folder / "model.py")
    (folder / "watched.py").write_text(program.watched())
    converting = time.perf_counter() - started
    names = json.loads((folder / name / "names.json").read_text())
    command = [str(python), "-I", str(CHILD), str(folder), str(folder / f"{name}.canonical.npy")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name}: the converted model does not run:\n{done.stderr[-3000:]}")
    report = json.loads(done.stdout)
    layers: dict[str, int] = report["layers"]
    worst, worst_layer = 0.0, ""
    for index, layer in enumerate(names):
        if layer not in layers:
            continue
        theirs = np.load(folder / name / f"{index}.npy")
        ours = program.stored(layer, np.load(folder / "seen" / f"{layers[layer]}.npy"))
        difference = _apart(ours, theirs)
        if not difference <= worst:
            worst, worst_layer = difference, layer
    (last,) = program.output_names
    output = _apart(np.load(folder / "output.npy"), np.load(folder / name / f"{names.index(last)}.npy"))
    inputs = set(program.input_shapes)
    return Converted(
        name=name,
        layers=len(layers),
        lines=program.source.count("\n"),
        output=output,
        worst=worst,
        worst_layer=worst_layer,
        missing=sum(layer not in layers and layer not in inputs for layer in names),
        convert_seconds=round(converting, 2),
        run_seconds=round(report["seconds"], 2),
    )


def _apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    if ours.shape != theirs.shape:
        raise AssertionError(f"shape {ours.shape}, and Keras has {theirs.shape}")
    return float(np.abs(ours.astype(np.float64) - theirs).max() / max(np.abs(theirs).max(), 1e-30))


def run(options: Options, report: Report) -> None:
    """Convert each application, one at a time, and print a line each; what was found is kept in ``RESULT``."""
    found: list[Converted] = []
    home = Path(tempfile.mkdtemp(prefix="cnnlens-bench-"))
    try:
        python = environment(home / "environment")
        for name in options.names or (SMALL if options.small else NAMES):
            folder = home / name
            folder.mkdir()
            write_models(folder, [name])
            one = convert(folder, name, python)
            shutil.rmtree(folder)
            found.append(one)
            print(
                f"{name:18} {one.layers:4} layers  {one.lines:5} lines  output {one.output:.1e}   "
                f"worst {one.worst:.1e} at {one.worst_layer:30} {'ok' if one.good else 'TOO FAR'}",
                flush=True,
            )
    finally:
        shutil.rmtree(home, ignore_errors=True)
    report.found = {one.name: asdict(one) for one in found}
    report.good &= all(one.good for one in found)
    keep_figures(RESULT, report.found, NAMES)
