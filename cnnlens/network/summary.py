"""What a model is, as data and as a page: layers and their settings, shapes in every layout, statistics of each array.

The JSON is for programs and stays stable; the page says the same for people. A layer is called by its number there,
where another says what feeds it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

from cnnlens.kinds import UNKNOWN, kind_of, layer_kind
from cnnlens.network.graph import Layer, Ref, shown_shape
from cnnlens.network.kernel import Statistics
from cnnlens.network.network import Network
from cnnlens.network.settings import epsilon_of, in_words, settings_of
from cnnlens.network.weight import Weight
from cnnlens.page import Page, Rows, Table, Tone, Toned
from cnnlens.text import finite_or_null, printable

__all__ = ["as_json", "as_page", "statistics_json", "trainable_parameters"]

_LEGEND = "←: the numbers of what feeds it, where that is not the layer above alone"
_AGAIN = "; 4:1 is the second use of 4, and a slash stands between the uses of a shared layer"
_COUNTERS = frozenset({"num_batches_tracked"})  # of training: no weights, and a row of the table for each batch norm


def as_json(network: Network) -> dict[str, Any]:
    """Give the network as plain data.

    ``{"model": {...}, "layers": [{"name", "kind", "output_shape", "settings", "calls", "weights": [{"name",
    "canonical_shape", "layouts", "mean", "std", "min", "max", ...}]}], "also": [{"what", "says", "arrays",
    "numbers"}]}``. Output shapes are canonical ``(N, C, *spatial)`` with null for the batch, and
    ``stored_output_shape`` has the file's own axes. Statistics are in the array's dtype, over its finite values; null
    where there are none.
    ``settings`` are those of ``cnnlens.network.settings``; ``calls`` say what feeds each use of a layer;
    ``trainable_parameters`` is null where the file does not say; ``also`` is what it holds beside the network.
    """
    source = network.source
    return {
        "model": {
            "name": network.name,
            "kind": network.kind,
            "file": str(source.path),
            "format": source.format,
            "framework": source.framework,
            "keras_version": source.keras_version,
            "size": source.size,
            "sha256": source.sha256,
            "parameters": network.parameters,
            "trainable_parameters": trainable_parameters(network),
            "inputs": {name: _list(shape) for name, shape in network.input_shapes.items()},
            "input_dtypes": {ref.name: _dtype(network, ref) or None for ref in network.inputs},
            "outputs": {ref.name: _list(network.canonical_shape(ref)) for ref in network.outputs},
            "notes": list(network.notes),
        },
        "layers": [_layer(network, index, layer) for index, layer in enumerate(network.layers)],
        "also": [
            {"what": one.what, "says": one.says, "arrays": one.arrays, "numbers": one.numbers} for one in network.also
        ],
    }


def _layer(network: Network, index: int, layer: Layer) -> dict[str, Any]:
    settings = settings_of(layer)
    return {
        "index": index,
        "name": layer.name,
        "kind": layer.kind,
        "inputs": list(layer.inputs),
        "calls": [{"name": call.name, "inputs": [ref.name for ref in call.refs]} for call in network.calls_of(layer)],
        "settings": settings,
        "in_words": in_words(settings),
        "output_shape": _list(layer.output_shape),
        "stored_output_shape": _list(layer.stored_output_shape),
        "parameters": layer.parameters,
        "weights": [_weight(weight) for weight in layer.stored.values()],
    }


def _weight(weight: Weight) -> dict[str, Any]:
    return {
        "name": weight.name,
        "dtype": weight.stored.stored_dtype,
        "stored_shape": list(weight.stored.shape),
        "canonical_shape": list(weight.canonical_shape),
        "layouts": {name: _list(shape) for name, shape in weight.layouts().items()},
        **statistics_json(weight.stats()),
    }


def statistics_json(stats: Statistics) -> dict[str, Any]:
    """Give statistics as plain data; null where an array has no finite value."""
    return {
        "mean": finite_or_null(stats.mean),
        "std": finite_or_null(stats.std),
        "min": finite_or_null(stats.min),
        "max": finite_or_null(stats.max),
        "count": stats.count,
        "nan": stats.nan,
        "posinf": stats.posinf,
        "neginf": stats.neginf,
    }


def _list(shape: tuple[int | None, ...] | None) -> list[int | None] | None:
    return None if shape is None else list(shape)


def _dtype(network: Network, ref: Ref) -> str:
    """The type of an input, as the file says it; empty where it does not."""
    return str(settings_of(network.calls_by_name[ref.call].layer).get("dtype", ""))


def trainable_parameters(network: Network) -> int | None:
    """Count the numbers that training would move, as Keras counts them; None where the file does not say which.

    >>> import cnnlens.sample
    >>> trainable_parameters(cnnlens.open(cnnlens.sample.MODEL))
    333526
    """
    whole: Any = getattr(network.source, "config", None)
    if network.source.framework != "keras" or not isinstance(whole, Mapping):
        return None
    config: Any = cast("Mapping[str, Any]", whole).get("config")
    frozen = {()} if isinstance(config, Mapping) and config.get("trainable") is False else set[tuple[str, ...]]()
    frozen |= {layer.path for layer in network.layers if layer.config.get("trainable") is False}
    counted: dict[int, int] = {}
    for layer in network.layers:
        if layer.stored and layer_kind(layer.kind, layer.module or None) is UNKNOWN:
            return None  # its author's own code says it
        for weight in layer.stored.values():
            still = (
                any(layer.path[:deep] in frozen for deep in range(len(layer.path) + 1))
                or weight.config.get("trainable") is False
                or weight.role.rpartition("/")[2] in kind_of(weight.kind).statistics
                or weight.stored.dtype.kind not in "fc"
            )
            counted[id(weight.stored)] = 0 if still else math.prod(weight.stored.shape)
    return sum(counted.values())


def as_page(network: Network, warning: str = "") -> Page:
    """Write the network for people: a header, the layers, their arrays, and what else is in the file.

    Args:
        warning: A line that stands in the header, above the notes.
    """
    parts: list[str | Table] = [*_header(network, warning), ""]
    alike = _alike(network)
    parts += [f"all {alike[kind][0]:,} {kind}: epsilon {alike[kind][1]:.6g}" for kind in alike]
    parts += [""] if alike else []
    feeds = _feeds(network)
    parts.append(_layers(network, alike, feeds) if network.layers else "the file holds no layers")
    if any(feeds):
        parts.append(Toned(_LEGEND + (_AGAIN if any(":" in one for one in feeds) else ""), Tone.PALE))
    if any(layer.stored for layer in network.layers):
        parts += ["", _arrays(network)]
    if network.also:
        rows = [
            [one.what, one.says, *("" if number is None else f"{number:,}" for number in (one.arrays, one.numbers))]
            for one in network.also
        ]
        parts += ["", Table([["also in the file", "", "arrays", "numbers"], *rows], right=(2, 3), fold=(1,))]
    return Page(parts)


def _header(network: Network, warning: str) -> list[str]:
    source = network.source
    version = f"Keras {printable(source.keras_version, 20)}" if source.keras_version else "Keras, version not stated"
    if source.framework == "torch":
        version = "PyTorch"
    trainable = trainable_parameters(network)
    still = 0 if trainable is None else network.parameters - trainable
    lines: list[str] = [
        Toned(printable(source.path, 300), Tone.STRONG),
        f"{printable(network.kind)} '{printable(network.name)}' · {version} · {source.format} · "
        f"{source.size:,} bytes · {network.parameters:,} parameters"
        + (f", {still:,} of them not trainable" if still else ""),
        Toned(f"sha256 {source.sha256}", Tone.PALE),
    ]
    for what, refs in (("input", network.inputs), ("output", network.outputs)):
        shown = [
            f"{printable(ref.name, 40)} {shown_shape(network.canonical_shape(ref))} "
            f"{printable(_dtype(network, ref), 40) if what == 'input' else ''}".rstrip()
            for ref in refs
        ]
        lines += [f"{what}{'s' if len(shown) > 1 else ''}: {', '.join(shown)}"] if shown else []
    lines += [Toned(warning, Tone.DOUBT)] if warning else []
    return [*lines, *(f"note: {note}" for note in network.notes)]


def _alike(network: Network) -> dict[str, tuple[int, float]]:
    """The kinds of which several layers have one epsilon, which is said once: how many they are, and what it is."""
    found: dict[str, list[float]] = {}
    for layer in network.layers:
        epsilon = epsilon_of(layer)
        if isinstance(epsilon, float):
            found.setdefault(layer.shown_kind, []).append(epsilon)
    return {kind: (len(all_), all_[0]) for kind, all_ in found.items() if len(all_) > 1 and len(set(all_)) == 1}


def _layers(network: Network, alike: Collection[str], feeds: Sequence[str]) -> Table:
    output = ["output"] if network.calls else []

    def row(index: int) -> list[str]:
        layer = network.layers[index]
        # What its output's shape says, and what is said once for all.
        without = ["epsilon"] if layer.shown_kind in alike else []
        without += ["filters", "units", "target_shape"] if layer.output_shape is not None else []
        words = in_words(settings_of(layer), without)
        return [
            str(index),
            printable(layer.name, 40),
            " ".join(part for part in (layer.shown_kind, words, feeds[index]) if part),
            *(shown_shape(layer.output_shape) for _ in output),
            f"{layer.parameters:,}" if layer.stored else "",
        ]

    rows = Rows(["#", "layer", "kind", *output, "params"], range(len(network.layers)), row)
    return Table(rows, right=(0, len(rows[0]) - 1), fold=(2,), give_way=[(2, 1)])


def _feeds(network: Network) -> list[str]:
    """What feeds each layer, by its number: nothing where that is the layer above alone."""
    numbers = {layer.name: str(number) for number, layer in enumerate(network.layers)}
    used: Counter[str] = Counter()
    known: dict[str, str] = {}  # the calls by what they are called here
    by_layer: dict[str, list[list[str]]] = {}
    for call in network.calls:
        again = used[call.layer.name]
        used[call.layer.name] += 1
        known[call.name] = numbers.get(call.layer.name, printable(call.name, 40)) + (f":{again}" if again else "")
        from_ = dict.fromkeys(known.get(ref.call, "?") + (f"[{ref.index}]" if ref.index else "") for ref in call.refs)
        by_layer.setdefault(call.layer.name, []).append(list(from_))
    first = [[known[ref.call]] for ref in network.inputs if len(network.inputs) == 1]
    said: list[str] = []
    for number, layer in enumerate(network.layers):
        uses = by_layer.get(layer.name, [])
        plain = uses == [[str(number - 1)]] or (not number and uses == first) or not any(uses)
        said.append("" if plain else "← " + " / ".join(", ".join(use) for use in uses))
    return said


def _arrays(network: Network) -> Table:
    found: list[tuple[str, str, Weight]] = []
    for index, layer in enumerate(network.layers):
        weights = [weight for weight in layer.stored.values() if weight.role not in _COUNTERS]
        found += [("", "", one) if number else (str(index), layer.name, one) for number, one in enumerate(weights)]
    others = any(_axes(weight)[0] != _axes(weight)[1] for _, _, weight in found)

    def row(one: tuple[str, str, Weight]) -> list[str]:
        name, stored, canonical, *numbers = _weight_cells(one[2])
        return [one[0], printable(one[1], 40), name, stored, *([canonical] if others else []), *numbers]

    heads = ["stored", "canonical if other"] if others else ["stored as canonical"]
    rows = Rows(["#", "layer", "weight", *heads, "mean", "std"], found, row)
    return Table(rows, right=(0, len(rows[0]) - 2), give_way=[(4, 3), (1, 2)] if others else [(1, 2)])


def _axes(weight: Weight) -> tuple[str, str]:
    """Its axes and shape, as the file stores them and canonical."""
    return (
        f"{weight.stored_axes} {weight.stored.shape}".strip(),
        f"{weight.canonical_axes} {weight.canonical_shape}".strip(),
    )


def _weight_cells(weight: Weight) -> list[str]:
    stats = weight.stats()
    shown = [f"{value:.3g}" if math.isfinite(value) else "-" for value in (stats.mean, stats.std)]
    if stats.finite < stats.count:
        shown[1] = Toned(f"{shown[1]}  ({stats.count - stats.finite:,} of {stats.count:,} not finite)", Tone.BAD)
    stored, canonical = _axes(weight)
    return [printable(weight.name, 40), stored, "" if canonical == stored else canonical, *shown]
