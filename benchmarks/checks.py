"""Whole checks: applications and random networks under every backend, and what running backends side by side costs.

``applications``: every layer of keras.applications' models audited under TensorFlow, JAX and PyTorch. ``networks``:
five hundred random networks on inputs of nine kinds, each kind audited by itself; any alarm is a false one but those
that were looked into and are the framework's, and NaN that a compiled ReLU turns into zero (an exponential overflowed).
``side_by_side``: three backends together against the slowest of them alone, each in a fresh process so that every
framework starts once.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.applications import NAMES, SMALL, write_models
from benchmarks.harness import BACKENDS, Options, Report, Row, cnnlens, in_turn, seconds
from cnnlens import sample
from cnnlens.backend.options import RunOptions
from cnnlens.checking import checker as checking
from cnnlens.checking import listing as check_listing
from cnnlens.checking.auditing import audit_recording
from cnnlens.errors import CnnlensError
from cnnlens.inputs.stream import CanonicalStream
from cnnlens.recording.recorder import record_network

# Alarms that are true. Seed 164: oneDNN on AVX-512 (TensorFlow 2.21, torch 2.13) convolves (8, 1, 10, 5) in
# channels-last order with a 2 x 4 kernel at strides (1, 3) and reads memory that is not the input's: other numbers each
# time, up to infinity. torch.backends.mkldnn.flags(enabled=False) gives the right ones, as does channels-first order.
# Seed 401: oneDNN "could not create a primitive descriptor for the reorder primitive" for a separable convolution.
FRAMEWORK_FAULTS = {(164, "keras-tensorflow"), (164, "keras-torch"), (401, "keras-tensorflow")}


def applications(options: Options, report: Report) -> None:
    """Check each model; a row a model and backend: verdicts, the lowest bits, the first fault."""
    results: list[dict[str, Any]] = []
    for name in options.names or (SMALL if options.small else NAMES):
        folder = Path(tempfile.mkdtemp(prefix="cnnlens-bench-"))
        try:
            write_models(folder, [name])
            started = time.perf_counter()
            found = checking.check(folder / f"{name}.keras", str(folder / f"{name}.canonical.npy"), backends=BACKENDS)
            took = time.perf_counter() - started
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
                    "seconds": took,
                }
            )
            bits = "" if worst is None else f"lowest {worst.bits:4.1f} bits at {worst.name:32}"
            verdict = "agrees" if results[-1]["agrees"] else f"DISAGREES: {results[-1]['says']}"
            print(f"{name:18} {run.label:17} {len(audits):4} layers  {bits} {verdict}", flush=True)
    report.found = results
    report.good &= all(one["agrees"] for one in results)


_EACH = 2  # inputs of a kind


def distributions(shape: tuple[int, ...], seed: int) -> dict[str, NDArray[np.float32]]:
    """Inputs ``(2, C, *spatial)`` of each kind that rounds in a way of its own."""
    random = np.random.default_rng(seed)
    size = (_EACH, *shape)
    hot = np.zeros(size)
    for one in hot:
        one.flat[int(random.integers(one.size))] = 1
    constant = np.broadcast_to(random.random((_EACH, shape[0], *(1,) * (len(shape) - 1))), size)
    found = {
        "uniform": random.random(size), "normal": random.normal(size=size), "wide": random.normal(size=size) * 100,
        "white": np.ones(size), "black": np.zeros(size), "constant": constant, "one-hot": hot,
        "1e-20": random.normal(size=size) * 1e-20, "1e8": random.normal(size=size) * 1e8,
    }  # fmt: skip
    return {name: array.astype(np.float32) for name, array in found.items()}


class _Some:
    """Some of the inputs of a recording, as a recording."""

    def __init__(self, recording: Any, first: int) -> None:
        self._recording, self._first = recording, first
        self.info, self.count = recording.info, _EACH

    def __contains__(self, name: str) -> bool:
        return name in self._recording

    def __getitem__(self, name: str) -> NDArray[Any]:
        return np.asarray(self._recording[name][self._first : self._first + _EACH])

    def altered(self, name: str) -> str | None:
        return None


def networks(options: Options, report: Report) -> None:
    """Audit random networks on inputs of each kind; every alarm is printed with its seed."""
    from tests.support.random_networks import random_network

    alarms: list[dict[str, Any]] = []
    faults: list[dict[str, Any]] = []
    audits, count = 0, 5 if options.small else 500
    for seed in range(count):
        network = random_network(seed)
        ref = network.inputs[0]
        shape = tuple(int(size or 1) for size in (network.canonical_shape(ref) or ())[1:])
        kinds = distributions(shape, seed)
        inputs = CanonicalStream({ref.name: np.concatenate(list(kinds.values()))}, "inputs of every kind")
        for backend in BACKENDS:
            with tempfile.TemporaryDirectory(prefix="cnnlens-bench-") as folder:
                try:
                    run = record_network(
                        network, inputs, RunOptions(precision="strict"), backend=backend, out=Path(folder) / "run.zarr"
                    )
                except CnnlensError as error:
                    one = {"seed": seed, "inputs": "all", "backend": backend, "says": str(error)}
                    (faults if (seed, backend) in FRAMEWORK_FAULTS else alarms).append(one)
                    print(*one.values(), flush=True)
                    continue
                for place, kind in enumerate(kinds):
                    for name, audit in audit_recording(network, _Some(run, place * _EACH)):
                        audits += 1
                        if not audit.verdict.fault and not audit.verdict.narrow:
                            continue
                        says = f"{name}: {audit.verdict} ({audit.bits:.1f} bits, channel {audit.channel_bits:.1f})"
                        alarm = {
                            "seed": seed,
                            "inputs": kind,
                            "backend": backend,
                            "says": f"{says} {audit.explanation}",
                        }
                        known = (seed, backend) in FRAMEWORK_FAULTS or "which the backend hides" in audit.explanation
                        (faults if known else alarms).append(alarm)
                        print(*alarm.values(), flush=True)
        if seed % 20 == 19:
            counted = f"{len(alarms)} false alarms, {len(faults)} of a framework's faults"
            print(f"{seed + 1} networks, {audits:,} audits, {counted}", flush=True)
    report.found = {
        "networks": count, "kinds_of_inputs": 9, "audits": audits, "alarms": alarms, "framework_faults": faults,
    }  # fmt: skip
    report.good &= not alarms


def side_by_side(options: Options, report: Report) -> None:
    """Seconds of a check with all three backends, against 1.3 times the slowest alone and a second more."""
    together = ",".join(BACKENDS)
    sides = {
        kind: lambda kind=kind: seconds(cnnlens("check", sample.MODEL, "--backends", kind))
        for kind in (*BACKENDS, together)
    }
    taken = in_turn(sides, 1 if options.small else 3)
    allowed = [1.3 * max(taken[one][turn] for one in BACKENDS) + 1 for turn in range(len(taken[together]))]
    report.row(Row.of("three backends together against 1.3 x the slowest + 1 s", taken[together], allowed, "s", 1))
