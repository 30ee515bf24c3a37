"""Are a converted model's arrays the original's, bit for bit, in another order?

The float64 proof compares what two models compute; it would not see a weight that lost its last bit on the way through
a file. So each array of the result, read again from its file, is compared with what was meant to be written, and that
with the original's numbers: a conversion moves numbers and makes none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.differing.hypotheses.orders import bit_sums
from cnnlens.errors import CnnlensError
from cnnlens.network.network import Network
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.conversion.to_keras import KerasModel
    from cnnlens.conversion.to_torch import Program

__all__ = ["in_keras", "in_torch", "rounded_once"]

_MASK = (1 << 64) - 1


def in_torch(network: Network, program: Program, result: Network) -> int:
    """Compare the arrays of a generated PyTorch module with those of the Keras model; how many there are.

    Raises:
        CnnlensError: one differs; nothing that such a module computes is to be trusted.
    """
    held = {weight.stored.place: weight.read() for layer in result.layers for weight in layer.stored.values()}
    made: dict[tuple[str, str], tuple[int, int]] = {}
    sizes: dict[tuple[str, str], int] = {}
    for key, source in program.sources.items():
        array = program.state[key]
        # An array that no operation reads is not in the exported graph, and has nothing to be compared with.
        if key in held:
            _same(_single(array), held[key], key)
        before, sums = made.get(source, (0, 0)), bit_sums(array)
        made[source] = ((before[0] + sums[0]) & _MASK, (before[1] + sums[1]) & _MASK)
        sizes[source] = sizes.get(source, 0) + array.size
    for (layer, name), sums in made.items():
        array = network[layer].stored[name].read()
        # A packed array (int4) is unpacked, and then other numbers on purpose.
        if array.size == sizes[layer, name] and network[layer].unpack is None and bit_sums(array) != sums:
            raise _changed(f"{layer}/{name}")
    return len(program.sources)


def in_keras(network: Network, model: KerasModel, result: Network) -> int:
    """Compare the arrays of a written Keras file with those of the PyTorch model; how many of them it holds.

    Raises:
        CnnlensError: one differs from what was to be written.
    """
    originals = {bit_sums(_single(weight.read())) for layer in network.layers for weight in layer.stored.values()}
    count = 0
    for layer, arrays in model.weights.items():
        for name, array in arrays.items():
            _same(array, result[layer].stored[name].read(), f"{layer}/{name}")
            count += bit_sums(array) in originals
    return count


def rounded_once(exact: KerasModel, model: KerasModel) -> bool:
    """Tell whether ``model`` is ``exact`` with its float64 numbers rounded to float32 and nothing else."""
    if exact.weights.keys() != model.weights.keys() or not _rounds(exact.config, model.config):
        return False
    return all(
        arrays.keys() == model.weights[layer].keys()
        and all(
            np.array_equal(array.astype(model.weights[layer][name].dtype), model.weights[layer][name], equal_nan=True)
            for name, array in arrays.items()
        )
        for layer, arrays in exact.weights.items()
    )


def _rounds(exact: Any, model: Any) -> bool:
    """The same of two configs, in which constants stand as lists of numbers beside their dtype."""
    if isinstance(exact, Mapping) and isinstance(model, Mapping):
        one, other = cast("Mapping[str, Any]", exact), cast("Mapping[str, Any]", model)
        if one.get("class_name") == "__tensor__" == other.get("class_name"):
            value = np.asarray(one["config"]["value"], one["config"]["dtype"])
            narrow = np.asarray(other["config"]["value"], other["config"]["dtype"])
            return np.array_equal(value.astype(narrow.dtype), narrow, equal_nan=True)
        return one.keys() == other.keys() and all(_rounds(one[key], other[key]) for key in one)
    if isinstance(exact, list) and isinstance(model, list):
        pairs = cast("list[Any]", exact), cast("list[Any]", model)
        return len(pairs[0]) == len(pairs[1]) and all(_rounds(a, b) for a, b in zip(*pairs, strict=True))
    return exact == model


def _single(array: NDArray[Any]) -> NDArray[Any]:
    """Numbers of half the size as the float32 that either framework makes of them as it loads them, digit for digit."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _same(meant: NDArray[Any], found: NDArray[Any], place: str) -> None:
    if meant.dtype != found.dtype or meant.shape != found.shape or meant.tobytes() != found.tobytes():
        raise _changed(place)


def _changed(place: str) -> CnnlensError:
    return CnnlensError(f"array '{printable(place)}' is not the original's bit for bit after the conversion; report it")
