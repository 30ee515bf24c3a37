"""The pictures of a network: which array of which layer goes into which plot, with what said about it.

``plot`` draws arrays and knows no network; the command line knows neither. What stands between them, the choice of
arrays, titles and the numbers that belong to a picture, is here, so that Python, the command line and a report agree.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.network.graph import Layer, shown_shape, without_graph
from cnnlens.network.kernel import Kernel, Statistics, statistics
from cnnlens.network.network import Network
from cnnlens.network.rescaling import rescaled
from cnnlens.network.untrained.draw import initializer_of
from cnnlens.network.weight import Weight
from cnnlens.plot import activations, beside, distribution, weights
from cnnlens.text import nearest, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


__all__ = ["feature_maps", "histogram", "kernels", "model_title"]

Facts = dict[str, Any]


def kernels(network: Network, layer: Layer, channel: int | str | None = None) -> tuple[Figure, Facts]:
    """Draw a layer's kernels as one grid, and give their facts (``text`` for people).

    Args:
        layer: A layer with a kernel; of a separable convolution the depthwise kernel is drawn.
        channel: As ``plot.kernels`` takes it.

    Raises:
        CnnlensError: the layer has no kernel, or no such input channel.
    """
    kernel = layer.kernel
    if kernel is None:
        raise CnnlensError(f"layer '{printable(layer.name)}' ({printable(layer.kind)}) has no kernel to draw")
    facts = _facts(layer, kernel)
    figure = weights.kernels(
        kernel.array,
        channel=channel,
        title=f"{printable(layer.name)}: kernels",
        subtitle=f"{_what(layer)} · {facts['axes']} · {model_title(network)}",
    )
    return figure, facts


def histogram(
    network: Network, layer: Layer, weight: str | None = None, untrained_seed: int | None = None
) -> tuple[Figure, Facts]:
    """Draw the histogram of one array of a layer; with a seed also of an untrained draw, with its exact density.

    Raises:
        CnnlensError: there is no such array, or the file does not say its initializer.
    """
    if weight is None:
        found = next((one for one in layer.stored.values() if one.is_kernel), None)
    else:
        found = layer.stored.get(weight)
    if found is None:
        wanted = weight or "kernel"
        raise CnnlensError(
            f"layer '{printable(layer.name)}' ({printable(layer.kind)}) has no weight '{printable(wanted)}'; "
            f"{nearest(wanted, layer.stored)}"
        )
    trained = found.measured()
    facts: Facts = {"layer": layer.name, "weight": found.name, "trained": _numbers(statistics(trained))}
    lines = [f"{printable(layer.name)} {printable(found.name)} {found.stored.shape}{_magnitudes(found)}"]
    lines.append("  trained    " + _shown(statistics(trained)))
    arrays: dict[str, NDArray[Any]] = {"trained": trained}
    density = None
    if untrained_seed is not None:
        from cnnlens.network.untrained import keras as initializers

        spec = initializer_of(layer, found)
        drawn = initializers.draw(spec, found.stored.shape, untrained_seed)
        density = initializers.density(spec, found.stored.shape)
        arrays["untrained"] = drawn
        facts["untrained"] = _numbers(statistics(drawn))
        facts["initializer"] = {"name": density.name, "seed": untrained_seed}
        lines.append(
            "  untrained  " + _shown(statistics(drawn)) + f"  ({printable(density.name)}, seed {untrained_seed})"
        )
    facts["text"] = "\n".join(lines)
    figure = distribution.histogram(
        arrays,
        density=density,
        title=f"{printable(layer.name)}: {printable(found.name)} {found.stored.shape}{_magnitudes(found)}",
        subtitle=f"{_what(layer)} · {model_title(network)}",
    )
    return figure, facts


def feature_maps(
    network: Network,
    layers: Sequence[Layer],
    image: str | os.PathLike[str] | NDArray[Any],
    *,
    index: int = 0,
    scale: str = "auto",
    kernel: int | None = None,
) -> list[tuple[Layer, Figure, Facts]]:
    """Draw what ``layers`` make of an image: a figure each, and its facts.

    Args:
        image: What ``images.load`` takes; ``index`` says which where it holds several.
        scale: As ``images.load`` takes it.
        kernel: Draw this kernel of the layer beside the one map that it makes, instead of all maps.

    Raises:
        CnnlensError: the image cannot be read, or the network not run on it.
    """
    from cnnlens.inputs import images

    if not network.calls:
        raise without_graph(network)
    if len(network.inputs) != 1:
        raise CnnlensError(f"the model has {len(network.inputs)} inputs, and an image is one; record() takes several")
    wanted = network.canonical_shape(network.inputs[0])
    shape = None if wanted is None else wanted[1:]
    loaded = images.one(image, index, shape=shape, scale=scale, model_rescales=rescaled(network, network.inputs[0]))
    name = loaded.names[0]
    before = [network.tensors[layer.inputs[0]].call for layer in layers if kernel is not None and layer.inputs]
    maps = network.run(loaded.array, layers=[*(layer.name for layer in layers), *before], dtype="float32")
    results: list[tuple[Layer, Figure, Facts]] = []
    for layer in layers:
        array = maps[layer.name][0]
        stats = statistics(array)
        facts: Facts = {
            "layer": layer.name,
            "image": name,
            "notes": list(loaded.notes),
            "output_shape": list(maps[layer.name].shape),
            **_numbers(stats),
            "text": f"{printable(layer.name)} {shown_shape(maps[layer.name].shape)}: {_shown(stats)}\n"
            + "\n".join(f"  {note}" for note in loaded.notes),
        }
        subtitle = f"{_what(layer)} · {shown_shape(maps[layer.name].shape)} of {printable(name)} · reference, float32"
        if kernel is None:
            figure = activations.feature_maps(array, title=f"{printable(layer.name)}: feature maps", subtitle=subtitle)
        else:
            figure = _beside(layer, kernel, maps[layer.inputs[0]][0], array, subtitle)
        results.append((layer, figure, facts))
    return results


def _beside(layer: Layer, index: int, seen: NDArray[Any], maps: NDArray[Any], subtitle: str) -> Figure:
    kernel = layer.kernel
    if kernel is None or kernel.array.ndim != 4 or maps.ndim != 3 or len(maps) != len(kernel.array):
        raise CnnlensError(
            f"layer '{printable(layer.name)}' ({printable(layer.kind)}) has no 2-D kernel that makes one map each"
        )
    if not 0 <= index < len(kernel.array):
        raise CnnlensError(
            f"--kernel: layer '{printable(layer.name)}' has kernels 0 to {len(kernel.array) - 1}, not {index}"
        )
    groups = max(len(seen) // kernel.array.shape[1], 1)
    # A grouped kernel sees its own group's channels alone.
    first = index // max(len(kernel.array) // groups, 1) * kernel.array.shape[1]
    return beside.kernel_and_map(
        kernel.array[index],
        seen[first : first + kernel.array.shape[1]],
        maps[index],
        title=f"{printable(layer.name)}: kernel {index} and its map",
        subtitle=subtitle,
    )


# -- what a picture says ---------------------------------------------------------------------------------------------


def _facts(layer: Layer, kernel: Kernel) -> Facts:
    weight = next(one for one in layer.stored.values() if one.is_kernel)
    stats = kernel.stats()
    facts: Facts = {
        "layer": layer.name,
        "weight": weight.name,
        "stored_shape": list(weight.stored.shape),
        "canonical_shape": list(kernel.array.shape),
        "layouts": {name: None if shape is None else list(shape) for name, shape in weight.layouts().items()},
        **_numbers(stats),
    }
    stored = f"{weight.stored_axes} {weight.stored.shape}"
    canonical = f"{weight.canonical_axes} {weight.canonical_shape}"
    facts["axes"] = f"stored {stored}, drawn as {canonical}{_magnitudes(weight)}"
    facts["text"] = (
        f"{printable(layer.name)} ({printable(layer.kind)}) {printable(weight.name)}: {stored} in the file, "
        f"{canonical} canonical{_magnitudes(weight)}\n  {_shown(stats)}"
    )
    return facts


def _magnitudes(weight: Weight) -> str:
    return f", magnitudes of {weight.stored.stored_dtype}" if weight.is_complex else ""


def _what(layer: Layer) -> str:
    return printable(layer.kind, 30)


def model_title(network: Network) -> str:
    return printable(os.path.basename(os.fspath(network.source.path)), 40)


def _numbers(stats: Statistics) -> Facts:
    from cnnlens.network.summary import statistics_json

    return statistics_json(stats)


def _shown(stats: Statistics) -> str:
    broken = stats.count - stats.finite
    text = f"mean {stats.mean:.6g}, std {stats.std:.6g}, min {stats.min:.6g}, max {stats.max:.6g}"
    return text + (f", {broken:,} of {stats.count:,} not finite" if broken else "")


# -- a kernel read rightly and wrongly ---------------------------------------------------------------------------------
