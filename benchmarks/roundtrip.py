"""Keras -> PyTorch -> Keras over random networks: every array must come back bit for bit, both runs must audit.

``python -m benchmarks roundtrip``: forty random networks of every kind that they are made of. Each is converted to a
PyTorch module, which is run, audited and compared with the reference; that module is converted back, which is run under
Keras, audited and compared with the module; and what came back is held against what went out.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens import architecture, conversion
from cnnlens.errors import CnnlensError
from cnnlens.network import Network

COUNT = 40


def run(count: int = COUNT) -> dict[str, Any]:
    """Convert there and back; prints each network that does not come back whole."""
    from tests.random_networks import random_network

    failures: list[dict[str, Any]] = []
    kinds: set[str] = set()
    arrays = 0
    apart: list[float] = []
    started = time.perf_counter()
    for seed in range(count):
        network = random_network(seed)
        kinds |= {layer.kind for layer in network.layers}
        with tempfile.TemporaryDirectory(prefix="cnnlens-roundtrip-") as folder:
            try:
                there, back = there_and_back(network, Path(folder))
                lost = list(lost_arrays(network, back.result))
            except CnnlensError as error:
                failures.append({"seed": seed, "says": str(error)})
                print(f"seed {seed}: {error}", flush=True)
                continue
        apart += [one.apart or 0.0 for twins in (there.twins, back.twins) for one in twins.outputs]
        arrays += there.arrays
        if lost:
            failures.append({"seed": seed, "says": f"not bit for bit: {', '.join(lost)}"})
            print(f"seed {seed}: {failures[-1]['says']}", flush=True)
        if seed % 10 == 9:
            print(f"{seed + 1} networks, {arrays} arrays there and back, {len(failures)} failures", flush=True)
    return {
        "networks": count,
        "kinds": sorted(kinds),
        "arrays": arrays,
        "largest_float64_difference": max(apart, default=0.0),
        "failures": failures,
        "seconds": time.perf_counter() - started,
    }


def there_and_back(network: Network, folder: Path) -> tuple[conversion.Conversion, conversion.Conversion]:
    """Both conversions, the second from the files that the first wrote.

    Raises:
        CnnlensError: one of them does not agree with what it was made of.
    """
    there = conversion.convert(network, "torch", folder / "there.py")
    shapes = [shape[1:] for shape in network.input_shapes.values() if shape is not None]
    module = architecture.open_architecture(
        f"{there.files[0]}:load", example_shapes=[tuple(size or 64 for size in shape) for shape in shapes]
    )
    return there, conversion.convert(module, "keras", folder / "back.keras")


def lost_arrays(network: Network, back: Network) -> Iterator[str]:
    """The arrays of ``network`` that ``back`` does not hold bit for bit.

    As they are stored, or in canonical order where one layer has become another that stores the same kernel otherwise
    (a convolution of one channel a group).
    """
    held = [weight for layer in back.layers for weight in layer.stored.values()]
    for layer in network.layers:
        for name, weight in layer.stored.items():
            stored, canonical = _bits(weight.read()), _bits(weight.canonical())
            found = next((one for one in held if _bits(one.read()) == stored), None) or next(
                (one for one in held if _bits(one.canonical()) == canonical), None
            )
            if found is None:
                yield f"{layer.name}/{name}"
            else:
                held.remove(found)


def _bits(array: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return array.shape, np.ascontiguousarray(array).tobytes()
