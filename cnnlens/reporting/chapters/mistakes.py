"""What a wrong reading of a kernel draws, and what the sample then says of its pictures.

The mistakes are those of ``cnnlens layouts --from keras --to torch``, made on the sample's own kernels; the network
with them is computed by the reference in float64.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens import sample
from cnnlens.layout.crossing import crossings
from cnnlens.layout.readings import Reading, readings
from cnnlens.network.network import Network
from cnnlens.reporting.packing import Packer

__all__ = ["flatten_mistakes", "kernel_mistakes"]

Array = NDArray[Any]

# What the words call the readings of ``cnnlens.layout.readings``.
_KEYS = {
    "right": "right",
    "reshaped, not transposed": "reshaped",
    "H and W swapped": "swapped",
    "upside down: H flipped": "flipped",
    "mirrored: W flipped": "mirrored",
}


def kernel_mistakes(packer: Packer, network: Network, layers: Sequence[str], pictures: Sequence[int]) -> dict[str, Any]:
    """Read the kernels of ``layers`` in each wrong way, and say what the network makes of it.

    Returns:
        ``readings``, the right one first: ``key``, ``code``, ``kernels`` of the first layer (packed ``(O, H, W)``),
        ``misplaced`` of ``of`` values, ``right`` of ten pictures, and ``says``, the probabilities for ``pictures``.
    """
    stored = {name: network[name].stored["kernel"].read() for name in layers}
    read: dict[str, list[Reading]] = {}
    for name, kernel in stored.items():
        (crossing,) = crossings("Conv2D", "keras", "torch", weight="kernel", shape=kernel.shape)
        read[name] = readings(crossing)
    first = layers[0]
    rows: list[dict[str, Any]] = []
    for place, one in enumerate(read[first]):
        if not one.same_shape:
            continue
        alike = {name: next(each for each in read[name] if each.name == one.name) for name in layers}
        wrong = {name: stored[name].reshape(-1)[each.array] for name, each in alike.items()}
        kernels = packer.add(f"mistakes.{place}", np.ascontiguousarray(wrong[first][:, 0], np.float32))
        said = _predicted(network, {name: kernel.transpose(2, 3, 1, 0) for name, kernel in wrong.items()}, pictures)
        moved = sum(int((each.array != read[name][0].array).sum()) for name, each in alike.items())
        key = _KEYS[one.name]
        rows.append({"key": key, "code": one.code, "kernels": kernels, "misplaced": moved, **said})
    refused = next(one.code for one in read[first] if not one.same_shape)
    best = max(rows[1:], key=lambda row: row["right"])
    return {
        "readings": rows,
        "of": sum(kernel.size for kernel in stored.values()),
        "layer": first,
        "places": {
            "mistakes": str(len(rows) - 1),
            "right": str(rows[0]["right"]),
            "best": str(best["right"]),
            "worst": str(min(row["right"] for row in rows)),
            "pictures": str(len(sample.LABELS)),
            "refused": refused.removeprefix("weight = "),
        },
    }


def flatten_mistakes(network: Network, layer: str, pictures: Sequence[int]) -> dict[str, Any]:
    """Read the kernel of the Dense behind the Flatten in each order of the flattened map.

    Returns:
        As ``kernel_mistakes``, with ``order`` (None of the right one) in the place of ``key``, and no kernels.
    """
    weight = network[layer].stored["kernel"]
    kernel, sizes = weight.read(), weight.geometry.flatten
    assert sizes is not None
    (crossing,) = crossings("Dense", "keras", "torch", weight="kernel", shape=kernel.shape, flatten=sizes)
    every = readings(crossing)
    rows: list[dict[str, Any]] = []
    for one in every:
        # Addresses stand as (O, C, H, W); the layer takes the map's features as Keras flattens them.
        order = [crossing.letters.index(letter) for letter in "HWCO"]
        wrong = kernel.reshape(-1)[one.array].transpose(order).reshape(kernel.shape)
        moved = int((one.array != every[0].array).sum())
        said = _predicted(network, {layer: wrong}, pictures)
        order = re.search(r"\(.*\)", one.name)  # `taken for (H, C, W)`
        rows.append({"order": order and order[0], "code": one.code, "misplaced": moved, **said})
    kept = next(row for row, one in zip(rows, every, strict=True) if one.name.startswith("not reordered"))
    return {
        "readings": [rows[0], kept, *(row for row in rows[1:] if row is not kept)],
        "of": kernel.size,
        "places": {
            "map": " × ".join(map(str, sizes)),
            "features": f"{kernel.shape[0]:,}",
            "right": str(rows[0]["right"]),
            "kept": str(kept["right"]),
            "pictures": str(len(sample.LABELS)),
            "line": rows[0]["code"],
            "channels": str(sizes[-1]),
            "plane": str(sizes[0] * sizes[1]),
        },
    }


def _predicted(network: Network, kernels: Mapping[str, Array], pictures: Sequence[int]) -> dict[str, Any]:
    """What the network says with other kernels, as Keras stores them."""
    ((name, images),) = network.read(sample.IMAGES).arrays.items()
    x: Any = np.moveaxis(images.astype(np.float64), 1, -1)
    for call in network.calls:
        if call.name != name:
            weights = {role: array.astype(np.float64) for role, array in call.layer.weights.items()}
            if call.name in kernels:
                weights["kernel"] = kernels[call.name].astype(np.float64)
            x = call.layer.operation(weights, x)
    guesses = x.argmax(axis=1)
    return {
        "right": int((guesses == np.arange(len(x))).sum()),  # the images are in the order of their classes
        "says": [x[place].tolist() for place in pictures],
    }
