"""Everything that needs an NVIDIA GPU, in one call: ``python -m benchmarks.gpu [--json FILE]``.

Checks the sample and a ResNet under every backend that has the GPU, in every precision (strict layers must be float32;
the table says what the others ran in), holds GPU recordings against CPU recordings, and times extraction on both, with
the bits that it gave; the same for a native ResNet-18 under ``pytorch``, whose extraction is also held against
forward hooks and TorchLens on the GPU. What a backend cannot do there is said, and the others go on. The result names
the GPU; it belongs in benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import pytorch
from benchmarks.__main__ import machine
from benchmarks.applications import write_models
from cnnlens import CnnlensError, sample
from cnnlens import open as open_model
from cnnlens.backend import PRECISIONS, worker
from cnnlens.backend import seam as backend
from cnnlens.benching import bench
from cnnlens.checking import checker as checking
from cnnlens.checking import listing as check_listing
from cnnlens.network.network import Network
from cnnlens.recording.recorder import record

BACKENDS = ("keras-jax", "keras-torch", "keras-tensorflow", "pytorch")


def gpus() -> dict[str, str]:
    """The backends that have a GPU here, with its name; what is wrong with the others is printed."""
    found: dict[str, str] = {}
    for name in BACKENDS:
        if backend.find(name).missing:
            print(f"{name}: not installed here", flush=True)
            continue
        try:
            with worker.pool(name, "gpu", "native") as process:
                devices = [device for device in process.devices() if device.startswith("gpu")]
        except CnnlensError as error:
            print(f"{name}: {error}", flush=True)
            continue
        if devices:
            found[name] = devices[0]
        else:
            print(f"{name}: sees no GPU", flush=True)
    return found


def check(network: Network, inputs: Any, names: list[str], precision: str, folder: Path) -> dict[str, Any]:
    """GPU runs of each backend beside a CPU recording of each, in one check."""
    recordings = []
    for name in names:
        for device in ("cpu", "gpu"):
            try:
                path = folder / f"{name}-{device}-{precision}.zarr"
                recordings.append(record(network, inputs, backend=name, device=device, precision=precision, out=path))
            except CnnlensError as error:
                print(f"{name} on {device}, {precision}: {error}", flush=True)
    found = checking.check(network, recordings=recordings)
    print(check_listing.as_page(found), flush=True)
    return check_listing.as_json(found)


def main() -> int:
    """Exit code 0 when every layer has the bits that its precision asks for, 1 when one has not, 2 without a GPU."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description="Everything that needs an NVIDIA GPU."
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--model", default="ResNet50", metavar="NAME", help="the application to check (default: ResNet50)"
    )
    options = parser.parse_args()
    started = time.perf_counter()
    found = gpus()
    if not found:
        print("no backend has a GPU here")
        return 2
    names = list(found)
    result: dict[str, Any] = {"machine": machine(), "gpu": found, "checks": {}, "extraction": []}
    folder = Path(tempfile.mkdtemp(prefix="cnnlens-gpu-"))
    good = True
    try:
        models: dict[str, tuple[Network, Any, list[str] | None, int]] = {}
        keras = [name for name in names if name != "pytorch"]
        if keras:
            write_models(folder, [options.model], backend=keras[0].removeprefix("keras-"))
            images = str(folder / f"{options.model}.canonical.npy")
            models["sample"] = open_model(sample.MODEL), str(sample.IMAGES), ["conv2d", "conv2d_1"], 1024
            models[options.model] = open_model(folder / f"{options.model}.keras"), images, None, 32
        if "pytorch" in names:
            native = open_model(pytorch.saved("ResNet18", folder / "ResNet18.pt2"))
            models["ResNet18"] = native, np.random.default_rng(0).random((4, 3, 224, 224), np.float32), None, 32
        for title, (network, inputs, layers, batch) in models.items():
            runners = backend.suited(network.source.framework)
            able = [name for name in names if name in runners]
            for precision in PRECISIONS:
                one = check(network, inputs, able, precision, Path(tempfile.mkdtemp(dir=folder)))
                result["checks"][f"{title} {precision}"] = one
                good &= one["agree"]
            wanted = layers or [layer.name for layer in network.layers if layer.kind in ("Conv2D", "Conv2d")][-3:]
            timed = bench(
                network, backends=able, devices=["cpu", "gpu"], precisions=PRECISIONS, batches=[batch], layers=wanted
            )  # fmt: skip
            print(timed, flush=True)
            result["extraction"].append({"title": title, **timed.to_json()})
        if "pytorch" in names:
            rows, medians = pytorch.run(device="cuda")
            result["pytorch"] = {"rows": [asdict(row) for row in rows], "images_s": medians}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result["seconds"] = time.perf_counter() - started
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
