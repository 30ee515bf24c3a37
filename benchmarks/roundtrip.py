"""Keras -> PyTorch -> Keras over random networks: every array must come back bit for bit, both runs must audit.

``python -m benchmarks roundtrip``: forty random networks, and each kind of layer that holds arrays. Each is converted
to a PyTorch module, which is run, audited and compared with the reference; that module is converted back, which is run
under Keras, audited and compared with the module; and what came back is held against what went out.
"""

from __future__ import annotations

import json
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Options, Report
from cnnlens import conversion
from cnnlens.conversion import converter
from cnnlens.differing.hypotheses.orders import bit_sums
from cnnlens.errors import CnnlensError
from cnnlens.network.network import Network
from cnnlens.opening import architecture

COUNT = 40


def networks(count: int = COUNT) -> Iterator[tuple[str, Network]]:
    """Random networks by their seeds, then a network of one layer for each kind that holds arrays."""
    from tests.support.random_networks import random_network
    from tests.support.reference_cases import LAYERS
    from tests.support.to_torch_models import network_of_case

    for seed in range(count):
        yield f"seed {seed}", random_network(seed)
    seen: set[str] = set()
    for case in LAYERS:
        if case.kind not in seen:
            seen.add(case.kind)
            network = network_of_case(case, np.random.default_rng(len(seen)))
            if any(layer.stored for layer in network.layers):
                yield case.name, network


def run(options: Options, report: Report) -> None:
    """Convert there and back; prints each network that does not come back whole."""
    failures: list[dict[str, Any]] = []
    as_constants: list[str] = []
    kinds: set[str] = set()
    arrays = 0
    apart: list[float] = []
    started = time.perf_counter()
    tried = 0
    for name, network in networks(2 if options.small else COUNT):
        tried += 1
        kinds |= {layer.kind for layer in network.layers}
        with tempfile.TemporaryDirectory(prefix="cnnlens-roundtrip-") as folder:
            try:
                there, back = there_and_back(network, Path(folder))
                lost = list(lost_arrays(network, back.result))
                held = constants(back.files[0])
            except CnnlensError as error:
                failures.append({"network": name, "says": str(error)})
                print(f"{name}: {error}", flush=True)
                continue
        apart += [one.apart or 0.0 for twins in (there.twins, back.twins) for one in twins.outputs]
        arrays += there.arrays
        for one in [one for one in lost if bit_sums(array_of(network, one)) in held]:
            lost.remove(one)
            as_constants.append(f"{name}: {one}")
            print(f"{name}: {one} came back as a constant of the config", flush=True)
        if lost:
            failures.append({"network": name, "says": f"not bit for bit: {', '.join(lost)}"})
            print(f"{name}: {failures[-1]['says']}", flush=True)
        if tried % 10 == 0:
            print(f"{tried} networks, {arrays} arrays there and back, {len(failures)} failures", flush=True)
    report.good &= not failures
    report.found = {
        "networks": tried,
        "kinds": sorted(kinds),
        "arrays": arrays,
        "largest_float64_difference": max(apart, default=0.0),
        "as_constants": as_constants,
        "failures": failures,
        "seconds": time.perf_counter() - started,
    }


def there_and_back(network: Network, folder: Path) -> tuple[conversion.Conversion, conversion.Conversion]:
    """Both conversions, the second from the files that the first wrote.

    Raises:
        CnnlensError: one of them does not agree with what it was made of.
    """
    there = conversion.convert(network, "torch", folder / "there.py")
    shapes = [converter.example_of(network, ref) for ref in network.inputs]
    module = architecture.open_architecture(f"{there.files[0]}:load", example_shapes=shapes)
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


def array_of(network: Network, name: str) -> np.ndarray:
    """The array that ``lost_arrays`` names."""
    layer, _, weight = name.rpartition("/")
    return network[layer].stored[weight].read()


def constants(path: Path) -> set[tuple[int, int]]:
    """The constants in a .keras file's config, as sums of their bits: Keras has no layer for every parameter."""
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    found: set[tuple[int, int]] = set()
    waiting: list[Any] = [config]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict) and one.get("class_name") == "__tensor__":
            found.add(bit_sums(np.asarray(one["config"]["value"], one["config"]["dtype"])))
        elif isinstance(one, dict | list):
            waiting += one.values() if isinstance(one, dict) else one
    return found


def _bits(array: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return array.shape, np.ascontiguousarray(array).tobytes()
