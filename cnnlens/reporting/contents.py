"""What a report says, as plain data: the network, what it makes of some inputs, and what a check found.

It is that of ``cnnlens summary --json`` and the other commands, with more beside it; the page shows these numbers and
makes none but of the packed arrays.
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.result import Check
from cnnlens.checking.twins import Twins
from cnnlens.differing.result import Diff
from cnnlens.inputs.stream import InputStream
from cnnlens.network.graph import Call, Ref, shown_shape
from cnnlens.network.network import Network
from cnnlens.network.summary import as_json
from cnnlens.plot.colours import ACTIVATIONS, INFINITE, NAN, WEIGHTS, paint
from cnnlens.reference.receptive import receptive_fields
from cnnlens.reporting.budget import Budget
from cnnlens.reporting.found import check_said, diff_said, twins_said
from cnnlens.reporting.lanes import lanes
from cnnlens.reporting.maps import inputs_said, maps_said
from cnnlens.reporting.packing import LEVELS, Packer
from cnnlens.reporting.weights import add_weight
from cnnlens.reporting.working import field_said, working_said

__all__ = ["COLOURS", "Fed", "add_colours", "contents"]

COLOURS = {"levels": LEVELS, "nan": NAN, "infinite": INFINITE}
"""What a page must know of an array of levels, and of values that are no numbers."""


class Fed(NamedTuple):
    """Holds what was given to the network: all of it, and by input name the first examples, canonical, which a page
    shows."""

    stream: InputStream
    arrays: Mapping[str, NDArray[Any]]


def contents(
    network: Network,
    fed: Fed | None,
    maps: Mapping[str, NDArray[Any]],
    *,
    shown: Collection[str],
    check: Check | None = None,
    twins: Twins | None = None,
    diff: Diff | None = None,
    notes: Collection[str] = (),
    characters: int,
) -> tuple[dict[str, Any], str]:
    """Put together what a page says, and pack its arrays.

    Args:
        network: The model.
        fed: What went into it; None where nothing did.
        maps: Feature maps by tensor, canonical ``(N, C, *spatial)``.
        shown: The layers whose arrays and maps the page has.
        check, twins, diff: What was found out about it and another model.
        notes: What the reader must know.
        characters: How long the packed arrays may become.

    Returns:
        The data (``docs/json.md``), without its format; and the block of packed arrays.
    """
    packer = Packer()
    budget = Budget(packer, characters)
    said = as_json(network)
    add_colours(packer)
    inputs = None if fed is None else inputs_said(budget, fed.stream, fed.arrays)
    arrays = {} if fed is None else dict(fed.arrays)
    layers: list[dict[str, Any]] = said["layers"]
    for place, (layer, row) in enumerate(zip(network.layers, layers, strict=True)):
        row["shown"] = layer.name in shown
        row["maps"] = []
        if not row["shown"]:
            continue
        for number, (weight, one) in enumerate(zip(layer.stored.values(), row["weights"], strict=True)):
            add_weight(one, budget, layer, weight, f"{place}.weight.{number}")
    known = {**maps, **arrays}
    fields = receptive_fields(network, {name: array.shape for name, array in arrays.items()}) if maps else {}
    for place, (layer, row) in enumerate(zip(network.layers, layers, strict=True)):  # after all weights
        refs = [Ref(call.name, index) for call in network.calls_of(layer) for index in range(len(call.shapes))]
        for number, ref in enumerate(refs):
            if row["shown"] and ref.name in maps:
                one = maps_said(budget, ref.name, maps[ref.name], f"{place}.maps.{number}")
                one["working"] = working_said(network, network.calls_by_name[ref.call], known)
                one["sees"] = field_said(fields[ref.name])
                row["maps"].append(one)
    found = {
        "check": None if check is None else check_said(budget, check, "check"),
        "twins": None if twins is None else twins_said(budget, twins),
        "diff": None if diff is None else diff_said(budget, diff),
    }
    budget.settle()
    return {
        "made_with": {
            "cnnlens": version("cnnlens"),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "platform": platform.platform(),
        },
        **said,
        "notes": list(notes),
        "graph": _graph(network),
        "inputs": inputs,
        **found,
        "colours": COLOURS,
        "arrays": packer.table,
    }, packer.block()


def add_colours(packer: Packer) -> None:
    """Pack the colours of pictures, 256 of each: those that the commands draw with."""
    steps = np.linspace(0, 1, 256)
    for name, table in (("weights", WEIGHTS), ("activations", ACTIVATIONS), ("grey", "gray")):
        packer.add(f"colours.{name}", paint(steps, table, 0, 1))


def _graph(network: Network) -> list[dict[str, Any]]:
    """A row a call: its name, its layer's place in ``layers`` (None of an input that is no layer there), where its lane
    is. Where there is no graph the layers stand below each other and nothing runs between them."""
    places = {layer.name: place for place, layer in enumerate(network.layers)}
    if not network.calls:
        return [
            {"name": layer.name, "layer": place, "kind": layer.shown_kind, "shapes": [], "feeds": [], **row}
            for (place, layer), row in zip(enumerate(network.layers), lanes([()] * len(network.layers)), strict=True)
        ]
    rows = {call.name: row for row, call in enumerate(network.calls)}
    feeds = [list(dict.fromkeys(rows[ref.call] for ref in call.refs)) for call in network.calls]
    return [
        {
            "name": call.name,
            "layer": places.get(call.layer.name),
            "kind": call.layer.shown_kind,
            "shapes": _shapes(network, call),
            "feeds": sources,
            **row,
        }
        for call, sources, row in zip(network.calls, feeds, lanes(feeds), strict=True)
    ]


def _shapes(network: Network, call: Call) -> list[str]:
    return [shown_shape(network.canonical_shape(Ref(call.name, index))) for index in range(len(call.shapes))]
