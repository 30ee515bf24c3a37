"""Files as people have them, of every format and kind: none is refused, each says what it is.

``python -m benchmarks honest``: the models that the tests of both frameworks are made of, written by Keras and PyTorch
of today in each container that they have, small files of every other format, and the real models beside the project
where they are. Each is opened, summarised and verified; what is refused is printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness import Options, Report

_LEAST = 150  # files, or something was not written


def run(options: Options, report: Report) -> None:
    """Open them all.

    Found: how many files there were of each origin, what was refused with the reason, which need more than the
    framework to run, and how many notes there were.
    """
    import cnnlens
    from cnnlens.errors import CnnlensError
    from cnnlens.network import summary
    from cnnlens.opening.findings import examine
    from cnnlens.recording.recording import Recording

    began = time.monotonic()
    counts: Counter[str] = Counter()
    refused: dict[str, str] = {}
    needs: list[str] = []
    notes = 0
    with tempfile.TemporaryDirectory(prefix="cnnlens-honest-") as place:
        for origin, name, target in _files(Path(place)):
            counts[origin] += 1
            try:
                if origin in ("npy", "npz", "idx", "pictures"):
                    notes += len(cnnlens.images.load(target, shape=(1, 28, 28)).notes)
                elif origin == "recording":
                    Recording.open(target).verify()
                else:
                    network = cnnlens.open(target)
                    str(summary.as_page(network))
                    notes += len(network.notes)
                    report = examine(target)
                    if report.refused:
                        raise CnnlensError(report.refused)
                    if report.verdict != "safe to run":
                        needs.append(f"{origin}: {name}: {report.findings[0].what}")
            except CnnlensError as error:
                refused[f"{origin}: {name}"] = str(error).removeprefix(f"{target}: ")
                print(f"refused: {origin}: {name}: {error}", flush=True)
    total = sum(counts.values())
    print(f"{total} files in {time.monotonic() - began:.0f} s: {len(refused)} refused, {notes} notes; {dict(counts)}")
    report.found = {"files": total, "of": dict(counts), "refused": refused, "need_more_to_run": needs, "notes": notes}
    report.good &= not refused and total >= _LEAST


def _files(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Origin, name and path of each."""
    for name in ("keras", "torch", "small"):
        (folder / name).mkdir()
    yield from _of_keras(folder / "keras")
    yield from _of_torch(folder / "torch")
    yield from _small(folder / "small")
    yield from _beside()


def _of_keras(folder: Path) -> Iterator[tuple[str, str, str]]:
    from tests.support import SUPPORT

    environment = {**os.environ, "KERAS_BACKEND": "numpy", "TF_CPP_MIN_LOG_LEVEL": "3"}
    script = str(SUPPORT / "files_keras_models.py")
    subprocess.run([sys.executable, script, str(folder)], env=environment, check=True, capture_output=True)
    for name, entry in json.loads((folder / "manifest.json").read_text()).items():
        if "path" in entry:
            yield f"Keras {entry['container']}", name, str(folder / entry["path"])


_OF_ARRAYS = ("state", "legacy state", "checkpoint", "safetensors")
_FORMS = (*_OF_ARRAYS, "module", "traced", "export")


def _of_torch(folder: Path) -> Iterator[tuple[str, str, str]]:
    import torch

    from tests.support.to_keras_models import MODELS, randomised

    for name, (make, shapes) in MODELS.items():
        module: Any = randomised(make())
        inputs = tuple(torch.rand(2, *shape) for shape in shapes)
        for form in _FORMS:
            if form in _OF_ARRAYS and not module.state_dict():
                continue  # nothing that could be shown
            ending = {"safetensors": "safetensors", "export": "pt2"}.get(form, "pt")
            path = folder / f"{name}-{form.replace(' ', '-')}.{ending}"
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    _write(form, module, inputs, path)
            except Exception as error:  # torch's own limits: what it cannot pickle, trace or export
                print(f"not written: {name} as {form}: {type(error).__name__}: {str(error)[:100]!r}", flush=True)
                continue
            yield f"PyTorch {form}", name, str(path)


def _write(form: str, module: Any, inputs: tuple[Any, ...], path: Path) -> None:
    import torch
    from safetensors.torch import save_model

    match form:
        case "state":
            torch.save(module.state_dict(), path)
        case "legacy state":
            torch.save(module.state_dict(), path, _use_new_zipfile_serialization=False)
        case "checkpoint":
            torch.save({"state_dict": module.state_dict(), "epoch": 3}, path)
        case "safetensors":
            save_model(module, str(path))
        case "module":
            torch.save(module, path)
        case "traced":
            torch.jit.save(torch.jit.trace(module, inputs, check_trace=False), path)
        case _:
            torch.export.save(torch.export.export(module, inputs), path)


def _small(folder: Path) -> Iterator[tuple[str, str, str]]:
    from benchmarks.fuzz import formats
    from tests.support.honest_files import seeds

    for name in formats():
        for number, seed in enumerate(seeds(name, by_torch=True)):
            if name == "signatures" or (name == "archive" and "::" not in seed.target):
                continue  # what is named and not opened
            below = folder / name / str(number)
            for file, data in seed.files.items():
                (below / file).parent.mkdir(parents=True, exist_ok=True)
                (below / file).write_bytes(data)
            yield name, f"{number} {seed.target}", f"{below}/{seed.target}"


def _beside() -> Iterator[tuple[str, str, str]]:
    from tests.support import SHARED

    for path in sorted((SHARED / "data").rglob("*")):
        if path.suffix in (".keras", ".h5") and path.is_file():
            yield "beside the project", str(path.relative_to(SHARED / "data")), str(path)
