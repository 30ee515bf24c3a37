"""The pictures of a network: which array of which layer goes into which plot, with what said about it.

``plot`` draws arrays and knows no network; the command line knows neither. What stands between them, the choice of
arrays, titles and the numbers that belong to a picture, is here, so that Python, the command line and a report agree.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import NDArray

from cnnlens import layout
from cnnlens.errors import CnnlensError
from cnnlens.network.graph import Layer, Ref, shown_shape, without_graph
from cnnlens.network.kernel import Statistics, statistics
from cnnlens.network.network import Network
from cnnlens.network.rescaling import rescaled
from cnnlens.network.untrained.draw import initializer_of
from cnnlens.network.weight import Weight, real, weight_named
from cnnlens.plot import activations, beside, distribution, weights
from cnnlens.plot.sheet import placed
from cnnlens.text import columns, nearest, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


__all__ = ["drawn", "feature_maps", "histogram", "histograms", "image", "inputs_needed", "kernels", "model_title"]

Facts = dict[str, Any]
Look = Mapping[str, Any]
"""What a plot of an array takes beside the array: colours, limits, columns, an axes; titles of the caller's own."""


def kernels(
    layer: Layer,
    *,
    weight: str | None = None,
    channel: int | str | None = None,
    untrained: bool = False,
    seed: int | None = None,
    look: Look | None = None,
) -> tuple[Figure | Axes, Facts]:
    """Draw a layer's kernels as one grid, and give their facts (``text`` for people).

    Args:
        weight: Which of the layer's arrays, as ``weight_named`` finds it (``pointwise_kernel``,
            ``backward_layer/kernel``, ``recurrent_kernel:forget``); None draws its first kernel.
        channel: As ``plot.kernels`` takes it.
        untrained: Draw the same array as its initializer makes it, from ``seed``.

    Raises:
        CnnlensError: the layer has no such array, or no such input channel; or the file names no initializer.
    """
    found, gate = _weight(layer, weight)
    seed = _seed(untrained, seed)
    origin = ""
    if untrained:
        stored, density = _untrained(layer, found, gate, seed)
        array = layout.canonicalise(found.kind, found.role, stored, found.geometry, found.framework)
        origin = f"{density.name} {density.parameters}, seed {seed}"
    else:
        array = real(found.gate(gate) if gate else found.canonical())
    facts = _facts(layer, found, gate, array)
    if untrained:
        facts["initializer"] = {"name": density.name, "seed": seed}  # pyright: ignore[reportPossiblyUnboundVariable]
        facts["text"] += f"  (untrained: {printable(origin, 120)})"
    what = printable(weight) if weight is not None else "kernels"
    titles = {
        "title": f"{printable(layer.name)}: {what}" + (", untrained" if untrained else ""),
        "subtitle": " · ".join(filter(None, [_what(layer), facts["axes"], minus(origin), _source(layer)])),
    }
    return drawn(weights.kernels, titles, look, array, channel=channel), facts


def histogram(
    layer: Layer,
    *,
    weight: str | None = None,
    untrained: bool = False,
    seed: int | None = None,
    bins: int | None = None,
    counts: bool = False,
    look: Look | None = None,
) -> tuple[Figure | Axes, Facts]:
    """Draw the histogram of one array of a layer; ``untrained`` with a draw of its initializer and the exact density.

    Args:
        weight, untrained, seed: As ``kernels`` takes them.
        bins, counts: As ``plot.histogram`` takes them.

    Raises:
        CnnlensError: there is no such array, or the file does not say its initializer.
    """
    found, gate = _weight(layer, weight)
    seed = _seed(untrained, seed)
    trained = real(found.gate(gate) if gate else found.read())
    name = printable(found.name) + (f":{printable(gate)}" if gate else "")
    facts: Facts = {"layer": layer.name, "weight": found.name, "trained": _numbers(statistics(trained))}
    if gate:
        facts["gate"] = gate
    lines = [f"{printable(layer.name)} {name} {trained.shape}{_magnitudes(found)}"]
    lines.append("  trained    " + _shown(statistics(trained)))
    arrays: dict[str, NDArray[Any]] = {"trained": trained}
    density = None
    if untrained:
        arrays["untrained"], density = _untrained(layer, found, gate, seed)
        facts["untrained"] = _numbers(statistics(arrays["untrained"]))
        facts["initializer"] = {"name": density.name, "seed": seed}
        lines.append(
            "  untrained  " + _shown(statistics(arrays["untrained"])) + f"  ({printable(density.name)}, seed {seed})"
        )
    facts["text"] = "\n".join(lines)
    titles = {
        "title": f"{printable(layer.name)}: {name} {trained.shape}{_magnitudes(found)}",
        "subtitle": " · ".join(filter(None, [_what(layer), _source(layer)])),
    }
    found_bins: dict[str, distribution.Binned] = {}
    options: dict[str, Any] = {"density": density, "bins": bins, "counts": counts, "binned": found_bins}
    figure = drawn(distribution.histogram, titles, look, arrays, **options)
    for one, binned in found_bins.items():
        facts[one]["histogram"] = _binned(binned)
    return figure, facts


def histograms(network: Network, *, bins: int | None = None, look: Look | None = None) -> tuple[Figure | Axes, Facts]:
    """Draw the histograms of all kernels of a network on one page, recurrent ones among them, and give their facts.

    Raises:
        CnnlensError: no layer has a kernel, or there are more than one page holds.
    """
    found = [
        (layer, weight)
        for layer in network.layers
        for weight in layer.stored.values()
        if weight.is_kernel or (weight.role.endswith("recurrent_kernel") and len(weight.stored.shape) > 1)
    ]
    if not found:
        raise CnnlensError(f"{printable(network.source.path, 300)}: no layer has a kernel, so there is nothing to draw")
    counts = Counter(layer.name for layer, _ in found)
    panels: list[tuple[str, NDArray[Any]]] = []
    rows = [["layer", "weight", "shape", "mean", "std", "min", "max"]]
    all_facts: list[Facts] = []
    for layer, weight in found:
        array = real(weight.read())
        stats = statistics(array)
        panels.append((layer.name if counts[layer.name] == 1 else f"{layer.name} {weight.name}", array))
        all_facts.append({"layer": layer.name, "weight": weight.name, "trained": _numbers(stats)})
        numbers = (f"{one + 0.0:.4g}" for one in (stats.mean, stats.std, stats.min, stats.max))
        rows.append([printable(layer.name, 40), printable(weight.name, 40), str(array.shape), *numbers])
    titles = {
        "title": f"{model_title(network)}: {len(panels)} kernels",
        "subtitle": "each over its own range, with a line at zero",
    }
    counted: list[distribution.Binned] = []
    figure = drawn(distribution.histograms, titles, look, panels, bins=bins, binned=counted)
    for facts, binned in zip(all_facts, counted, strict=True):
        facts["trained"]["histogram"] = _binned(binned)
    return figure, {"layers": all_facts, "text": "\n".join(columns(rows, right=(3, 4, 5, 6)))}


def drawn(
    draw: Callable[..., Figure], titles: Mapping[str, str], look: Look | None, *arrays: Any, **options: Any
) -> Figure | Axes:
    """Have ``draw`` draw ``arrays`` under our ``titles`` unless ``look`` says others, where and as large as its ``ax``,
    ``size`` and ``dpi`` say; what it has as None nobody asked for."""
    said: dict[str, Any] = {**titles, **{name: one for name, one in (look or {}).items() if one is not None}}
    where = {name: said.pop(name, None) for name in ("ax", "size", "dpi")}
    held = list(arrays)
    del arrays

    def once(place: Axes | None) -> Figure:
        return draw(*[held.pop(0) for _ in range(len(held))], ax=place, **options, **said)

    return placed(once, **where)


def _seed(untrained: bool, seed: int | None) -> int:
    if seed is not None and not untrained:
        raise CnnlensError("seed is that of the untrained draw; ask for untrained too, or leave it out")
    if seed is not None and seed < 0:
        raise CnnlensError(f"seed must be a whole number from 0, not {seed}")
    return seed or 0


def _untrained(layer: Layer, found: Weight, gate: str, seed: int) -> tuple[NDArray[Any], Any]:
    """A draw of an array's initializer, as the array is stored, and the density that it is drawn from."""
    from cnnlens.network.untrained import keras as initializers

    if gate:
        raise CnnlensError(
            f"{layer.shown}: an untrained '{printable(found.name)}' is drawn as a whole; name it without ':{gate}'"
        )
    spec = initializer_of(layer, found)
    return initializers.draw(spec, found.stored.shape, seed), initializers.density(spec, found.stored.shape)


def _binned(binned: distribution.Binned) -> Facts:
    return {"counts": binned.counts.tolist(), "edges": binned.edges.tolist()}


def _weight(layer: Layer, name: str | None) -> tuple[Weight, str]:
    """The array that is asked for, and the gate in it; the first kernel where nothing is."""
    if name is not None:
        return weight_named(layer.stored, name, layer.shown)
    found = next((one for one in layer.stored.values() if one.is_kernel), None)
    if found is None:
        raise CnnlensError(f"{layer.shown} has no kernel to draw; name a weight: {nearest('kernel', layer.stored)}")
    return found, ""


def feature_maps(
    network: Network,
    layers: Sequence[Layer],
    image: Any,
    *,
    index: int = 0,
    scale: str = "auto",
    kernel: int | None = None,
    labels: Sequence[str] | None = None,
    look: Look | None = None,
) -> list[tuple[Layer, Figure | Axes, Facts]]:
    """Draw what ``layers``, each named once, make of an image: a figure each, and its facts.

    Args:
        image: What ``images.load`` takes. A mapping of these by input name where several inputs stand in front of the
            layers; those that none of the layers needs may be left out, and are not read.
        index: Which image, where a source holds several.
        scale: As ``images.load`` takes it; vectors and sequences stay as they are with ``auto``.
        kernel: Draw this kernel of the layer beside the one map that it makes, instead of all maps.
        labels: What the channels of those layers mean that give one number each.

    Raises:
        CnnlensError: an image cannot be read, an input that is needed is not given or there is none of that name, or
            the network cannot be run on it.
    """
    if not network.calls:
        raise without_graph(network)
    if kernel is not None:
        asked = {name for name, one in (look or {}).items() if one is not None}
        other = next((name for name in ("channels", "columns", "limits", "vmin", "vmax") if name in asked), None)
        other = "labels" if labels is not None else other
        if other is not None:
            raise CnnlensError(f"kernel {kernel} is drawn beside its one map; leave {other} out, or kernel")
    before = [network.tensors[layer.inputs[0]].call for layer in layers if kernel is not None and layer.inputs]
    calls = [call.name for call in network.calls if any(call.layer is layer for layer in layers)]
    part = network.part(calls)
    names, arrays, notes = _read(network, part.inputs, layers, image, index, scale)
    maps = part.run(arrays, layers=[*(layer.name for layer in layers), *before], dtype="float32")
    if labels is not None and all(maps[layer.name].ndim != 2 for layer in layers):
        dense = [layer.name for layer in network.layers if layer.output_shape and len(layer.output_shape) == 2]
        raise CnnlensError(
            f"labels name the channels of a layer that gives one number each, and {layers[0].shown} gives maps; "
            + (f"draw layer '{printable(dense[-1])}'" if dense else "leave labels out")
        )
    results: list[tuple[Layer, Figure | Axes, Facts]] = []
    for layer in layers:
        shape = maps[layer.name].shape
        stats = statistics(maps[layer.name][0])
        facts: Facts = {
            "layer": layer.name,
            "image": names,
            "notes": notes,
            "output_shape": list(shape),
            **_numbers(stats),
            "text": f"{printable(layer.name)} {shown_shape(shape)}: {_shown(stats)}\n"
            + "\n".join(f"  {note}" for note in notes),
        }
        subtitle = f"{_what(layer)} · {shown_shape(shape)} of {printable(names)} · reference, float32"
        if kernel is None:
            what = "feature maps" if len(shape) > 2 else "activations"
            titles = {"title": f"{printable(layer.name)}: {what}", "subtitle": subtitle}
            figure = drawn(
                activations.feature_maps,
                titles,
                look,
                maps.pop(layer.name)[0],  # large, and nobody else's
                labels=labels if len(shape) == 2 else None,
            )
        else:
            figure = _beside(layer, kernel, maps[layer.inputs[0]][0], maps[layer.name][0], subtitle, look)
        results.append((layer, figure, facts))
    return results


def image(source: Any, *, index: int = 0, look: Look | None = None) -> tuple[Figure | Axes, Facts]:
    """Draw one image as it is stored, whatever ``images.load`` takes, and give its facts.

    Raises:
        CnnlensError: it cannot be read, or is no picture.
    """
    from cnnlens.inputs import images

    found = images.one(source, index, scale="none")
    array = found.array[0]
    stats = statistics(array)
    name = printable(found.names[0])
    facts: Facts = {
        "image": name,
        "notes": list(found.notes),
        "shape": list(array.shape),
        **_numbers(stats),
        "text": f"{name} {shown_shape(array.shape)}: {_shown(stats)}\n"
        + "\n".join(f"  {note}" for note in found.notes),
    }
    if array.ndim != 3:
        raise CnnlensError(f"{name}: a picture of (C, H, W) is drawn, and this is of {array.shape}")
    subtitle = " · ".join([shown_shape(array.shape), f"{_short(stats.min)} to {_short(stats.max)}"])
    return drawn(beside.image, {"title": name, "subtitle": subtitle}, look, array), facts


def inputs_needed(network: Network, layer: Layer) -> list[str]:
    """Name the inputs that a layer of a network with a graph depends on, in the network's order."""
    return [ref.name for ref in network.part([call.name for call in network.calls if call.layer is layer]).inputs]


def _read(
    network: Network, needed: Sequence[Ref], layers: Sequence[Layer], image: Any, index: int, scale: str
) -> tuple[str, dict[str, NDArray[Any]], list[str]]:
    """One image for each input that is ``needed``: what it is called, its array by the input's name, remarks."""
    from cnnlens.inputs import images

    known = [ref.name for ref in network.inputs]
    wanted = [ref.name for ref in needed]
    given: Mapping[str, Any] = cast("Mapping[str, Any]", image) if isinstance(image, Mapping) else {}
    if not isinstance(image, Mapping) and len(wanted) == 1:
        given = {wanted[0]: image}
    strange = next((name for name in given if name not in known), None)
    if strange is not None:
        raise CnnlensError(f"the network has no input '{printable(strange)}'; {nearest(str(strange), known)}")
    missing = [name for name in wanted if name not in given]
    if missing:
        of = f"{layers[0].shown} needs" if len(layers) == 1 else f"these {len(layers)} layers need"
        came = "an image without a name came" if not isinstance(image, Mapping) else f"{_quoted(missing)} not given"
        raise CnnlensError(
            f"{of} {_quoted(wanted)} of the network's inputs {_quoted(known)}, and {came}; name each with --image "
            "NAME=PATH, or draw a layer that needs fewer"
        )
    found = {
        ref.name: images.one(
            given[ref.name],
            index,
            shape=None if (shape := network.canonical_shape(ref)) is None else shape[1:],
            scale="none" if scale == "auto" and shape is not None and len(shape) < 4 else scale,
            model_rescales=rescaled(network, ref),
        )
        for ref in needed
    }
    several = len(known) > 1
    notes = [f"{printable(name)}: {note}" if several else note for name, one in found.items() for note in one.notes]
    unread = [name for name in given if name not in wanted]
    if unread:
        notes.append(f"{_quoted(unread)} not needed here and not read")
    return ", ".join(one.names[0] for one in found.values()), {name: one.array for name, one in found.items()}, notes


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{printable(name)}'" for name in names)


def _beside(
    layer: Layer, index: int, seen: NDArray[Any], maps: NDArray[Any], subtitle: str, look: Look | None
) -> Figure | Axes:
    kernel = layer.kernel
    if kernel is None or kernel.array.ndim != 4 or maps.ndim != 3 or len(maps) != len(kernel.array):
        raise CnnlensError(f"{layer.shown} has no 2-D kernel that makes one map each")
    if not 0 <= index < len(kernel.array):
        raise CnnlensError(
            f"--kernel: layer '{printable(layer.name)}' has kernels 0 to {len(kernel.array) - 1}, not {index}"
        )
    groups = max(len(seen) // kernel.array.shape[1], 1)
    # A grouped kernel sees its own group's channels alone.
    first = index // max(len(kernel.array) // groups, 1) * kernel.array.shape[1]
    bias = next((one for one in layer.stored.values() if one.role == "bias"), None)
    titles = {"title": f"{printable(layer.name)}: kernel {index} and its map", "subtitle": subtitle}
    return drawn(
        beside.kernel_and_map,
        titles,
        look,
        kernel.array[index],
        seen[first : first + kernel.array.shape[1]],
        maps[index],
        bias=float(bias.canonical()[index]) if bias is not None and bias.canonical_shape == (len(maps),) else None,
        activation=_activation(layer),
    )


def _activation(layer: Layer) -> str:
    """What a layer applies to its sums, as its config says it; nothing where it is linear."""
    said = layer.config.get("activation")
    if isinstance(said, Mapping):
        entry = cast("Mapping[str, Any]", said)
        inner = entry.get("config")
        said = inner if isinstance(inner, str) else entry.get("class_name")
    return printable(said, 22) if isinstance(said, str) and said != "linear" else ""


# -- what a picture says ---------------------------------------------------------------------------------------------


def _facts(layer: Layer, weight: Weight, gate: str, array: NDArray[Any]) -> Facts:
    stats = statistics(array)
    facts: Facts = {
        "layer": layer.name,
        "weight": weight.name,
        "stored_shape": list(weight.stored.shape),
        "canonical_shape": list(weight.canonical_shape),
        "layouts": {name: None if shape is None else list(shape) for name, shape in weight.layouts().items()},
        **_numbers(stats),
    }
    stored = f"{weight.stored_axes} {weight.stored.shape}".strip()
    canonical = f"{weight.canonical_axes} {weight.canonical_shape}".strip()
    part = _magnitudes(weight)
    if gate:
        facts["gate"] = gate
        part = f", gate {printable(gate)} {array.shape} of {', '.join(weight.gates)}"
    facts["axes"] = f"stored {stored}, drawn as {canonical}{part}"
    facts["text"] = (
        f"{printable(layer.name)} ({layer.shown_kind}) {printable(weight.name)}: {stored} in the file, "
        f"{canonical} canonical{part}\n  {_shown(stats)}"
    )
    return facts


def _magnitudes(weight: Weight) -> str:
    return f", magnitudes of {weight.stored.stored_dtype}" if weight.is_complex else ""


def _what(layer: Layer) -> str:
    return layer.shown_kind


def model_title(network: Network) -> str:
    return printable(os.path.basename(os.fspath(network.source.path)), 40)


def _numbers(stats: Statistics) -> Facts:
    from cnnlens.network.summary import statistics_json

    return statistics_json(stats)


def _shown(stats: Statistics) -> str:
    broken = stats.count - stats.finite
    named = (("mean", stats.mean), ("std", stats.std), ("min", stats.min), ("max", stats.max))
    text = ", ".join(f"{name} {one + 0.0:.6g}" for name, one in named)  # -0.0 + 0.0 is 0
    return text + (f", {broken:,} of {stats.count:,} not finite" if broken else "")


def _short(value: float) -> str:
    return minus(f"{value + 0.0:.6g}")


def minus(text: str) -> str:
    """Write numbers with a true minus sign, as all that is drawn has it."""
    return distribution.MINUS.sub("−", text)


def _source(layer: Layer) -> str:
    return "" if layer.source is None else printable(os.path.basename(os.fspath(layer.source.path)), 40)
