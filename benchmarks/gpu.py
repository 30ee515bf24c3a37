"""Everything that needs an NVIDIA GPU, in one script that ends by itself: ``python -m benchmarks --device gpu``.

What each backend sees; what capturing feature maps on the device costs beside the plain forward, and copying them to
the host beside pinned memory's bandwidth; the effective bits of every precision, by the audit; recordings to be checked
on another machine; extraction by ``pytorch`` against forward hooks. Each step is a process of its own that is ended
when the time is over (``LIMIT``), and what was found by then is kept. ``--device cpu`` runs the same steps without one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import pytorch
from benchmarks.harness import ROOT, Options, Report, Row, output, peer
from cnnlens import CnnlensError, sample
from cnnlens import open as open_model
from cnnlens.backend import seam as backend
from cnnlens.backend import worker
from cnnlens.benching import Bench, BenchRow, bench
from cnnlens.checking import checker as checking
from cnnlens.checking import listing as check_listing
from cnnlens.recording.recorder import record

LIMIT = {"gpu": 240.0, "cpu": 3600.0}  # s for all steps together
_LEAST = 15.0  # s, or a step is not begun
_BACKENDS = ("keras-torch", "keras-jax", "pytorch", "keras-tensorflow")
_PRECISIONS = ("strict", "tf32", "bfloat16", "float16")
_CAPTURE, _COPY = 0.95, 0.85
# Layers that are captured, by model: some early, some late.
_LAYERS = {
    "MobileNetV2": ["Conv1", "block_3_expand", "block_6_expand", "block_16_project"],
    "ResNet50": ["conv1_conv", "conv2_block3_3_conv", "conv4_block6_3_conv", "conv5_block3_3_conv"],
    "native": ["features.0.0", "features.7.conv.0.0", "features.18.0"],
}


@dataclass(frozen=True)
class Step:
    """What a step needs to know: the device, a folder, and whether it is to be quick."""

    device: str
    folder: Path
    small: bool
    report: Report


def devices(step: Step) -> None:
    """Say which backends have the device, and how fast memory is copied from it."""
    found: dict[str, str] = {}
    for name in _BACKENDS:
        if backend.find(name).missing:
            print(f"{name}: not installed here", flush=True)
            continue
        try:
            with worker.pool(name, step.device, "native") as process:
                able = [one for one in process.devices() if one.startswith(step.device)]
        except CnnlensError as error:
            print(f"{name}: {error}", flush=True)
            continue
        if able:
            found[name] = able[0]
        else:
            print(f"{name}: sees no {step.device}", flush=True)
    copied: dict[str, float] | None = None
    if {"keras-torch", "pytorch"} & set(found):
        copied = json.loads(output(peer("torch_copy", _torch(step.device))))
        print(f"from the device to the host: {max(copied.values()):.1f} GB/s", flush=True)
    step.report.found = {"devices": found, "copy_gb_s": copied}


def _torch(device: str) -> str:
    return {"cpu": "cpu", "gpu": "cuda"}[device]


def _seen(step: Step) -> dict[str, Any]:
    """What ``devices`` found."""
    return json.loads((step.folder / "devices.json").read_text())["found"]


def speed(model: str, name: str, step: Step) -> None:
    """Time a model under a backend in every precision, and audit it: rows of rates, and a table of bits."""
    if model == "native":
        path = pytorch.saved("Small" if step.small else "MobileNetV2", step.folder / "native.pt2")
    else:
        path = step.folder / f"{model}.keras"
        if not path.exists():
            output(peer("keras_loops", "save", model, 32 if step.small else 224, step.folder), name)
    network = open_model(path)
    layers = ["conv1", "conv2"] if model == "native" and step.small else _LAYERS[model]
    shape = network.canonical_shape(network.inputs[0]) or ()
    images = np.random.default_rng(0).random((1, *(int(size or 1) for size in shape[1:])), np.float32)
    found = bench(
        network, images, backends=[name], devices=[step.device], precisions=_PRECISIONS, layers=layers,
        batches=[2 if step.small else 64], seconds=1 if step.small else 10, progress=None,
    )  # fmt: skip
    print(found, flush=True)
    rates = _seen(step)["copy_gb_s"]
    for row in found.rows:
        for one in _rates(row, model, max(rates.values()) * 1e9 if rates else None):
            step.report.row(one)
        bits = row.exactness
        if bits is not None:  # what was asked for is what ran
            step.report.good &= bits.agrees
    step.report.found = {"bits": _bits(found), **found.to_json()}


def _rates(row: BenchRow, model: str, bandwidth: float | None) -> list[Row]:
    """Capture against the plain forward, and copies against what binds them: the forward, or the bandwidth."""
    stages = row.stages
    if not {"forward", "capture", "copy"} <= stages.keys():
        return []
    at = {stage: dict(zip(stages[stage].rounds, stages[stage].seconds, strict=True)) for stage in stages}
    rounds = sorted(at["forward"].keys() & at["capture"].keys() & at["copy"].keys())
    rate = {stage: [row.batch / at[stage][one] for one in rounds] for stage in ("forward", "capture", "copy")}
    title = f"{model}, {row.label}, batch {row.batch}"
    found = [Row.of(f"{title}: capture, forward", rate["capture"], rate["forward"], "images/s", _CAPTURE)]
    if bandwidth is not None:
        copied = bandwidth / (row.bytes / row.batch)
        binding = [min(one, copied) for one in rate["forward"]]
        what = "forward" if min(rate["forward"]) < copied else "pinned copies"
        found.append(Row.of(f"{title}: maps on the host, {what}", rate["copy"], binding, "images/s", _COPY))
    return found


def _bits(found: Bench) -> list[dict[str, Any]]:
    return [
        {"backend": row.backend, "precision": row.precision, "bits": row.exactness.bits, "layer": row.exactness.layer,
         "verdict": str(row.exactness.verdict), "agrees": row.exactness.agrees, "finer": list(row.exactness.finer)}
        if row.exactness is not None
        else {"backend": row.backend, "precision": row.precision, "error": row.error}
        for row in found.rows
    ]  # fmt: skip


def recordings(step: Step) -> None:
    """Record the sample on the device and on the CPU, check both together, and leave the device's to be taken away."""
    made: list[Any] = []
    network = open_model(sample.MODEL)
    for name in _seen(step)["devices"]:
        if name not in backend.suited(network.source.framework):
            continue
        for device in dict.fromkeys((step.device, "cpu")):
            try:
                path = step.folder / "recordings" / f"{name}-{device}.zarr"
                path.parent.mkdir(exist_ok=True)
                images = str(sample.IMAGES)
                made.append(record(network, images, backend=name, device=device, precision="strict", out=path))
            except CnnlensError as error:
                print(f"{name} on {device}: {error}", flush=True)
    found = checking.check(network, recordings=made)
    print(check_listing.as_page(found), flush=True)
    step.report.found = check_listing.as_json(found)
    step.report.good &= found.agree


def hooks(step: Step) -> None:
    """Extraction by ``pytorch`` against forward hooks on the device."""
    pytorch.run(Options(device=step.device, small=step.small), step.report)


STEPS: Mapping[str, Callable[[Step], None]] = {
    "devices": devices,
    "recordings": recordings,
    **{
        f"{model}-{name}": partial(speed, model, name)
        for model, name in (
            *(("MobileNetV2", name) for name in ("keras-torch", "keras-jax")),
            *(("ResNet50", name) for name in ("keras-torch", "keras-jax")),
            ("native", "pytorch"),
            ("MobileNetV2", "keras-tensorflow"),
        )
    },
    "hooks": hooks,
}


def run(options: Options, report: Report) -> None:
    """Run each step while there is time; nothing is made up for those that were left out."""
    began = time.monotonic()
    report.found = found = dict[str, Any]()
    with tempfile.TemporaryDirectory(prefix="cnnlens-gpu-") as name:
        folder = Path(name)
        for step in ("devices", *(one for one in options.names or STEPS if one != "devices")):
            left = LIMIT[options.device] - (time.monotonic() - began)
            why = _left_out(step, found, options.device) or ("no time was left" if left < _LEAST else "")
            if why:
                print(f"{step}: left out: {why}", flush=True)
                found[step] = {"left_out": why}
                continue
            command = [sys.executable, "-m", "benchmarks.gpu", step, options.device, name, str(int(options.small))]
            try:
                subprocess.run(command, cwd=ROOT, check=True, timeout=left)
            except (subprocess.SubprocessError, OSError) as error:
                why = "the time was over" if isinstance(error, subprocess.TimeoutExpired) else str(error)
                print(f"{step}: not finished: {why}", flush=True)
                found[step] = {"left_out": why}
                report.good = False
                continue
            said = json.loads((folder / f"{step}.json").read_text())
            report.rows += [Row(**{key: one[key] for key in Row.__dataclass_fields__}) for one in said.get("rows", ())]
            report.good &= said["good"]
            found[step] = said.get("found")
        if not found["devices"]["devices"]:
            print(f"no backend has a {options.device} here", flush=True)
            report.good = False
        if options.json is not None and (folder / "recordings").exists():
            with tarfile.open(options.json.with_suffix(".tar"), "w") as archive:
                for path in (folder / "recordings").glob(f"*-{options.device}.zarr"):
                    archive.add(path, path.name)
    found["seconds"] = round(time.monotonic() - began, 1)


def _left_out(step: str, found: Mapping[str, Any], device: str) -> str:
    """Say why a step has nothing to do."""
    if step == "devices":
        return ""
    there: Mapping[str, str] = found["devices"]["devices"]
    wanted = "pytorch" if step == "hooks" else step.partition("-")[2]
    if not there or (wanted and wanted not in there):
        return f"{wanted or 'no backend'} has no {device} here"
    return ""


if __name__ == "__main__":
    name, device, folder, small = sys.argv[1:]
    report = Report()
    try:
        STEPS[name](Step(device, Path(folder), small == "1", report))
    finally:
        (Path(folder) / f"{name}.json").write_text(json.dumps(report.to_json()))
