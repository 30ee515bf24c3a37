"""Whole checks: applications and random networks under every backend, and what running backends side by side costs.

``applications``: every layer of keras.applications' models audited under TensorFlow, JAX and PyTorch. ``networks``: two
hundred random networks, where any alarm is a false one but those that were looked into and are the framework's.
``side_by_side``: three backends together against the slowest of them alone, each in a fresh process so that every
framework starts once.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.applications import NAMES, write_models
from benchmarks.speed import ROOT, Row
from cnnlens import sample
from cnnlens.checking import checker as checking
from cnnlens.checking import listing as check_listing

BACKENDS = ("keras-tensorflow", "keras-jax", "keras-torch")

# Alarms that are true. Seed 164: oneDNN on AVX-512 (TensorFlow 2.21, torch 2.13) convolves (8, 1, 10, 5) in
# channels-last order with a 2 x 4 kernel at strides (1, 3) and reads memory that is not the input's: other numbers each
# time, up to infinity. torch.backends.mkldnn.flags(enabled=False) gives the right ones, as does channels-first order.
FRAMEWORK_FAULTS = {(164, "keras-tensorflow"), (164, "keras-torch")}


def applications(names: list[str] | None = None, backends: tuple[str, ...] = BACKENDS) -> list[dict[str, Any]]:
    """Check each model; a row a model and backend: verdicts, the lowest bits, the first fault."""
    results: list[dict[str, Any]] = []
    for name in names or NAMES:
        folder = Path(tempfile.mkdtemp(prefix="cnnlens-bench-"))
        try:
            write_models(folder, [name])
            started = time.perf_counter()
            found = checking.check(folder / f"{name}.keras", str(folder / f"{name}.canonical.npy"), backends=backends)
            seconds = time.perf_counter() - started
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        for run in found.runs:
            audits = [row.audits[run.label] for row in found.rows if run.label in row.audits]
            rounded = [audit for audit in audits if audit.verdict == "float32"]
            worst = min(rounded, key=lambda audit: audit.bits, default=None)
            results.append(
                {
                    "name": name,
                    "backend": run.label,
                    "layers": len(audits),
                    "agrees": found.problem(run) is None,
                    "lowest_bits": None if worst is None else worst.bits,
                    "lowest_layer": None if worst is None else worst.name,
                    "not_audited": sum(audit.verdict == "not audited" for audit in audits),
                    "says": check_listing.sentence(found, run),
                    "seconds": seconds,
                }
            )
            bits = "" if worst is None else f"lowest {worst.bits:4.1f} bits at {worst.name:32}"
            verdict = "agrees" if results[-1]["agrees"] else f"DISAGREES: {results[-1]['says']}"
            print(f"{name:18} {run.label:17} {len(audits):4} layers  {bits} {verdict}", flush=True)
    return results


def networks(count: int = 200, backends: tuple[str, ...] = BACKENDS) -> dict[str, Any]:
    """Check random networks; every alarm is printed with its seed."""
    from tests.support.random_networks import random_network

    alarms: list[dict[str, Any]] = []
    faults: list[dict[str, Any]] = []
    audited = 0
    for seed in range(count):
        found = checking.check(random_network(seed), backends=backends)
        audited += sum(len(row.audits) for row in found.rows)
        for run in found.runs:
            if found.problem(run) is not None:
                alarm = {"seed": seed, "backend": run.label, "says": check_listing.sentence(found, run)}
                (faults if (seed, run.label) in FRAMEWORK_FAULTS else alarms).append(alarm)
                print(f"seed {seed}: {run.label}: {alarm['says']}", flush=True)
        if seed % 20 == 19:
            counted = f"{len(alarms)} false alarms, {len(faults)} faults of a framework"
            print(f"{seed + 1} networks, {audited} layers audited, {counted}", flush=True)
    return {"networks": count, "layers_audited": audited, "alarms": alarms, "framework_faults": faults}


def side_by_side(runs: int = 3) -> Row:
    """Seconds of a check with all three backends, against 1.3 times the slowest alone and a second more."""
    command = [sys.executable, "-m", "cnnlens", "check", str(sample.MODEL), "--backends"]
    kinds = (*BACKENDS, ",".join(BACKENDS))
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(runs + 1):
        for kind in kinds:
            started = time.perf_counter()
            subprocess.run([*command, kind], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            taken[kind].append(time.perf_counter() - started)
    medians = {kind: statistics.median(seconds[1:]) for kind, seconds in taken.items()}  # the first one warms the disk
    together = medians.pop(kinds[-1])
    allowed = 1.3 * max(medians.values()) + 1
    return Row("three backends together against 1.3 x the slowest + 1 s", together, allowed, "s", allowed / together, 1)


if __name__ == "__main__":
    print(json.dumps({"networks": networks(int(sys.argv[1]) if len(sys.argv) > 1 else 200)}, indent=2))
