"""Whether checks tell the truth: of faults planted in layers, whether each is seen and truly named.

``planted`` plants every fault of ``tests.support.planted`` in every layer that can have it, at several sizes of the
data and of the output, in two float32 arithmetics: the reference's own and Keras under PyTorch. A fault that stands
less than ``swept.SIGHT`` bits above the honest rounding of the same arithmetic is counted apart, as no audit can
promise it, and so is one below what the audit says that it sees (``Audit.sees``).
``smallest_factors`` finds the smallest fault of scale that is seen. ``swept`` asks the same of what the atlas' sweep
draws (``benchmarks/swept.py``). Each mistake has what makes it again alone:
``python -m benchmarks.truth LAYER SIZE MAGNITUDE ARITHMETIC FAULT``.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Options, Report
from benchmarks.swept import MISTAKES, swept, unseen
from cnnlens.checking.finding import Verdict
from tests.support.audited import Audited
from tests.support.planted import (
    FAULTS,
    LAYERS,
    RECURRENT,
    SIZES,
    Planting,
    faults_of,
    judged,
    planted_layer,
    relative,
    visible,
)

Array = NDArray[Any]

MAGNITUDES = (1e-20, 1e-6, 1.0, 1e4, 1e8)
ARITHMETICS: dict[str, tuple[float, ...]] = {"reference": MAGNITUDES, "keras-torch": (1.0, 1e4)}
SECTIONS = ("layers", "factors", "swept")
# Keras under PyTorch repeats the edge before it takes a mean, which counts it several times (Keras 3.15): a true alarm.
FRAMEWORK_FAULTS = {("AveragePooling2D", "same", "keras-torch")}
FAN_INS = {9: 1, 288: 32, 4608: 512}
TODAY = {9: -18, 288: -18, 4608: -17}
"""The power of two of the smallest factor on a whole kernel that is found: no worse."""


def _run(layer: Audited, arithmetic: str) -> Any:
    """A function that computes the layer in float32 with other weights, inputs or configuration."""

    def reference(weights: Mapping[str, Array] | None = None, inputs: Any = None, **changed: Any) -> Array:
        operation = layer.build(**changed) if changed else layer.operation
        used = {name: np.asarray(array, np.float32) for name, array in {**layer.weights, **(weights or {})}.items()}
        given = layer.inputs if inputs is None else inputs
        with np.errstate(all="ignore"):
            return np.array(operation(used, *((list(given),) if layer.listed else tuple(given))), np.float32)

    def keras_torch(weights: Mapping[str, Array] | None = None, inputs: Any = None, **changed: Any) -> Array:
        import warnings

        import keras

        warnings.filterwarnings("ignore", message="You are using a softmax")
        given = layer.inputs if inputs is None else inputs
        config = {"name": "layer", **layer.config, **changed}
        entry = {"class_name": layer.kind, "module": "keras.layers", "registered_name": None, "config": config}
        made: Any = keras.layers.deserialize(entry)
        tensors = [keras.ops.convert_to_tensor(x) for x in given]
        used = {**layer.weights, **(weights or {})}
        made.build([x.shape for x in given] if layer.listed else given[0].shape)
        for variable in made.weights:
            parts = variable.path.split("/")
            way = next(
                (f"{part.split('_')[0]}_layer/" for part in parts if part.startswith(("forward_", "backward_"))), ""
            )
            if way + parts[-1] in used:
                variable.assign(used[way + parts[-1]])
        if layer.kind == "Normalization":
            made.finalize_state()
        import torch

        with torch.no_grad():
            result = made(tensors if layer.listed else tensors[0])
        return np.array(keras.ops.convert_to_numpy(result), np.float32)

    return keras_torch if arithmetic == "keras-torch" else reference


def planting(number: int, size: str, magnitude: float, arithmetic: str) -> tuple[Planting, Array]:
    """Make a layer with its arithmetic and its honest results, and what these are in float64."""
    layer = planted_layer(number, size, magnitude, seed=number)
    run = _run(layer, arithmetic)
    with np.errstate(all="ignore"):
        weights = {name: array.astype(np.float64) for name, array in layer.weights.items()}
        inputs = [x.astype(np.float64) for x in layer.inputs]
        exact = layer.operation(weights, *((inputs,) if layer.listed else inputs))
    return Planting(layer, run, run()), exact


def planted_in(place: tuple[int, str, float, str]) -> list[dict[str, Any]]:
    """Plant every fault in one layer: a row each, and one for the honest layer."""
    np.seterr(all="ignore")
    number, size, magnitude, arithmetic = place
    bench, exact = planting(*place)
    rows: list[dict[str, Any]] = []
    where = {"layer": number, "kind": LAYERS[number][0], "size": size, "magnitude": magnitude, "arithmetic": arithmetic}
    honest = bench.layer.check(bench.honest)
    rows.append({**where, "fault": None, "verdict": str(honest.verdict), "says": honest.explanation})
    for fault in faults_of(bench.layer.kind):
        output = fault.make(bench)
        if output is None or output.shape != bench.honest.shape:
            continue
        above = visible(bench.honest, exact, output)
        if not above > 0:
            continue  # it changes nothing here
        started = time.perf_counter()
        audit = bench.layer.check(np.ascontiguousarray(output, np.float32))
        rows.append({
            **where, "fault": fault.name, "above": round(above, 1), "verdict": str(audit.verdict),
            "relative": relative(exact, output), "sees": audit.sees,
            "judged": judged(fault, audit) if audit.verdict.fault else None, "says": audit.explanation,
            "seconds": round(time.perf_counter() - started, 3),
        })  # fmt: skip
    return rows


def planted(workers: int | None = None, layers: Sequence[int] | None = None) -> dict[str, Any]:
    """Plant everything; give counts, and every mistake."""
    started = time.perf_counter()
    places = [
        (number, size, magnitude, arithmetic)
        for number in (range(len(LAYERS)) if layers is None else layers)
        for size in SIZES
        for arithmetic, magnitudes in ARITHMETICS.items()
        for magnitude in magnitudes
        if not (LAYERS[number][0] == "Embedding" and magnitude != 1.0)  # indices
        and (LAYERS[number][0], LAYERS[number][2].get("padding"), arithmetic) not in FRAMEWORK_FAULTS
        and not (LAYERS[number][0] in RECURRENT and magnitude in (1e-6, 1e4))  # dear: what they amplify is drawn
    ]
    os.environ["KERAS_BACKEND"] = "torch"
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(workers or os.cpu_count(), get_context("spawn")) as pool:
        rows = [row for found in pool.map(planted_in, places, chunksize=4) for row in found]
    faults = [row for row in rows if row["fault"] is not None]
    seen = [row for row in faults if Verdict(row["verdict"]).fault]
    missed = [row for row in faults if not Verdict(row["verdict"]).fault]
    false = [row for row in seen if row["judged"] == "false"]
    return {
        "planted": len(faults),
        "seen": len(seen),
        "below_sight": sum(unseen(row) for row in missed),
        "false_passes": [row for row in missed if not unseen(row)],
        "false_alarms": [row for row in rows if row["fault"] is None and Verdict(row["verdict"]).fault],
        "sentences": dict(Counter(row["judged"] for row in seen)),
        "false_sentences": false,
        "by_fault": {
            name: dict(Counter(row["judged"] or "not seen" for row in faults if row["fault"] == name))
            for name in dict.fromkeys(fault.name for fault in FAULTS)
        },
        "slowest": sorted((row["seconds"], row["kind"], row["fault"]) for row in faults)[-3:],
        "seconds": time.perf_counter() - started,
    }


def smallest_factors() -> list[dict[str, Any]]:
    """Find the smallest factor ``1 + 2^-k`` on a whole kernel, and on one channel of it, that is seen."""
    rows: list[dict[str, Any]] = []
    for fan_in, channels in FAN_INS.items():
        layer = Audited("Conv2D", (2, 12, 11, channels), seed=fan_in, filters=8, kernel_size=3)
        for arithmetic in ARITHMETICS:
            bench = Planting(layer, _run(layer, arithmetic), layer.honest)
            row: dict[str, Any] = {"fan_in": fan_in, "arithmetic": arithmetic}
            for what, channel in (("whole kernel", None), ("one channel", 5)):
                found = [
                    power for power in range(-10, -23, -1)
                    if layer.check(bench.scaled(channel, 1 + 2.0**power)).verdict.fault
                ]  # fmt: skip
                row[what] = min(found, default=0)
            rows.append(row)
    return rows


def run(options: Options, report: Report) -> None:
    """Run every section, or those that are named, and print what they found."""
    report.found = found = dict[str, Any]()
    names = options.names or SECTIONS
    if "layers" in names:
        found["planted"] = planted(layers=range(2) if options.small else None)
        for name in MISTAKES:
            for row in found["planted"][name]:
                print(name.replace("_", " "), _shown(row), flush=True)
        _print(found["planted"])
    if "factors" in names:
        found["smallest_factors"] = smallest_factors()
        for row in found["smallest_factors"]:
            print(f"fan-in {row['fan_in']:5} {row['arithmetic']:12} whole kernel 2^{row['whole kernel']}, "
                  f"one channel 2^{row['one channel']}")  # fmt: skip
    if "swept" in names:
        found["swept"] = swept(options)
        _print(found["swept"])
    report.good &= good(found)


def _print(section: Mapping[str, Any]) -> None:
    for name, value in section.items():
        if name not in ("by_fault", "slowest"):
            print(f"{name.replace('_', ' '):18} {len(value) if isinstance(value, list) else value}", flush=True)


def good(found: Mapping[str, Any]) -> bool:
    """Tell whether nothing passed, nothing false was said, and sight is as it was."""
    sharp = all(row["whole kernel"] <= TODAY[row["fan_in"]] for row in found.get("smallest_factors", ()))
    return sharp and not any(found[one][name] for one in ("planted", "swept") if one in found for name in MISTAKES)


def _shown(row: Mapping[str, Any]) -> str:
    place = f"{row['layer']} {row['size']} {row['magnitude']:g} {row['arithmetic']} {row['fault']!r}"
    return f"{place} ({row['kind']}, {row.get('above')} bits): {row['verdict']}: {row['says']}"


if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "torch"
    for one in planted_in((int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4])):
        if len(sys.argv) < 6 or one["fault"] == sys.argv[5]:
            print(_shown(one), one.get("judged"), one.get("seconds"))
