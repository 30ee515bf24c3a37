"""Draws a kernel as another framework reads it, rightly and as each mistake would."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import hsv_to_rgb
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.network.graph import Layer
from cnnlens.network.network import Network
from cnnlens.network.weight import Weight
from cnnlens.text import nearest, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cnnlens import layout
    from cnnlens.layout.crossing import Crossing
    from cnnlens.layout.readings import PictureAxes, Reading
from cnnlens.plot.of_models import model_title
from cnnlens.plot.panels import Panel, panels, room_for
from cnnlens.plot.strips import CELLS, Strip, strips

__all__ = ["layout_memory", "layout_readings", "letter_sizes", "weight_named"]

_MOST_PANELS = 8


def layout_readings(
    kind: str | None,
    source: str,
    target: str,
    *,
    weight: str | None = None,
    shape: Sequence[int] | None = None,
    flatten: Sequence[int] | None = None,
    sizes: Mapping[str, int] | None = None,
    model: tuple[Network, Layer] | None = None,
) -> Figure:
    """Draw a weight on its way between two frameworks, read rightly and in each wrong way that has the right shape.

    A number in each cell is the address from which its value came. Colours say where it belongs, or with a model what
    the weight is.

    Args:
        kind, source, target, weight, shape, flatten, sizes: As :func:`~cnnlens.layout.crossing.crossings` takes them;
            without a shape or sizes the picture chooses its own, at which no wrong reading has a wrong shape.
        model: A network and a layer of it, whose weights are the colours.

    Raises:
        CnnlensError: The weight has no picture, or none of the arguments' kind, as ``crossings`` says.
    """
    from cnnlens.layout import readings as reading
    from cnnlens.layout.crossing import crossings
    from cnnlens.layout.listing import title as spelt

    found = crossings(kind, source, target, weight=weight, shape=shape, flatten=flatten, sizes=sizes)
    one = next((each for each in found if each.source is not None), found[0])
    plan = reading.plan_of(one)
    if shape is None and not sizes and model is None:
        chosen = reading.specimen_sizes(one)
        if flatten is not None:  # that was asked for, and one output is enough to see it
            chosen = dict.fromkeys({*chosen} & {*"OU"}, 1)
        chosen.pop("Q", None)
        one = crossings(kind, source, target, weight=one.weight, flatten=flatten, sizes=chosen)[0]
    assert one.source is not None
    assert one.target is not None
    every = reading.readings(one)
    seen = [each for each in every if each.same_shape][:_MOST_PANELS]
    grids = [plan.tiles(each.array, one.letters) for each in seen]
    rows, columns, down, across = grids[0].shape
    wrap = min(rows, columns) == 1
    digits = len(str(grids[0].size - 1))
    room = room_for(len(seen), (rows, columns), (down, across), digits, wrap=wrap)
    if wrap:
        grids = [grid.reshape(1, -1, down, across) for grid in grids]
    places = _telling(grids, ((1, room.tiles[0] * room.tiles[1]) if wrap else room.tiles) + room.cells)
    shown = [grid[np.ix_(*places)].reshape(*room.tiles, *room.cells) for grid in grids]
    if model is None:
        home = np.empty(grids[0].size, np.int32)
        home[grids[0].ravel()] = np.arange(home.size, dtype=np.int32)
        cells = [_by_place(numbers, home, grids[0].shape, places) for numbers in shown]
    else:
        stored = _stored_for(model[1], one.weight, one.source.framework).ravel()
        cells = [stored[numbers] for numbers in shown]
    tiled = len(places[0]) * len(places[1]) > 1
    cut = [len(axis) for axis in places][: 2 if tiled else 3] != list(grids[0].shape[: 2 if tiled else 3])
    labels = _labels(plan, one, places, (rows, columns))
    drawn: list[Panel] = []
    for each, numbers, grid, tiles in zip(seen, shown, grids, cells, strict=True):
        moved = int(np.count_nonzero(grid != grids[0]))
        said = "every value in its place" if each.right else f"{moved:,} of {grid.size:,} misplaced"
        lines = [each.code, each.einops] if each.einops != each.code else [each.code]
        drawn.append(Panel(each.name, tiles, each.right, lines, numbers, numbers != shown[0], labels, said))
    what = f"{one.kind} {one.weight}" if model is None else f"{printable(model[1].name)}: {one.kind} {one.weight}"
    what = "Feature maps" if one.weight == "maps" else what
    return panels(
        drawn,
        title=f"{what}, from {spelt(one.source.framework)} to {spelt(one.target.framework)}",
        subtitle=[
            f"{one.source.layout} {one.source.shape} to {one.target.layout} {one.target.shape}"
            + (f", {one.condition}" if one.condition else "")
            + f": {_drawn(plan, one, places, grids[0].shape)}"
            + (f" · {model_title(model[0])}" if model else "")
        ],
        columns=room.columns,
        aside=_explained(one, every, model is not None, tiled, cut),
        bar=model is not None,
    )


def layout_memory(
    kind: str | None,
    source: str,
    targets: Sequence[str],
    *,
    weight: str | None = None,
    shape: Sequence[int] | None = None,
    flatten: Sequence[int] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Figure:
    """Draw what lies at which address of a weight, as ``source`` and each of ``targets`` stores it: a strip a layout.

    Args:
        kind, source, weight, shape, flatten, sizes: As :func:`~cnnlens.layout.crossing.crossings` takes them.
        targets: Frameworks, or layouts of feature maps; those that store it as another one does are named with that.

    Raises:
        CnnlensError: None of the targets has such a weight, or as ``crossings`` says.
    """
    from cnnlens.layout import LEGEND, listing

    found = listing.each_crossing(kind, source, targets, weight=weight, shape=shape, flatten=flatten, sizes=sizes)
    shown: list[Strip] = []
    for side, index, known in listing.memories(found, CELLS):
        who = [listing.title(each.framework) for each in listing.alike(found, side)]
        address = sum(number * stride for number, stride in zip(index, side.strides, strict=True))
        strides = f"stride{'s' * (len(side.strides) != 1)} {', '.join(map(str, side.strides)) or 'none'}"
        called = {
            letter: meaning
            for axis in side.axes
            for letter, meaning in zip(axis.letters, axis.meaning.split(" × "), strict=False)
        }
        shown.append(
            Strip(
                f"{', '.join(who)}: {side.variable}, {side.layout} {side.shape}, {strides}",
                known,
                {letter: called.get(letter, LEGEND[letter]) for letter in known.steps},
                {"Q": side.gates} if side.gates else {},
                (address, f"{side.variable}[{', '.join(map(str, index))}]"),
            )
        )
    one = found[0]
    what = "Feature maps" if one.weight == "maps" else f"{one.kind} {one.weight}"
    return strips(
        shown,
        title=f"{what} in memory" + (f", {one.condition}" if one.condition else ""),
        subtitle=[
            "Each column is an address, each band an axis, the slowest on top, with the index along it. "
            "A bracket is one step along an axis: its stride.",
            _moved(found) if len(found) == 1 else "",
        ],
    )


def _moved(found: Sequence[Crossing]) -> str:
    """What the line of NumPy does to the memory."""
    one = found[0]
    assert one.source is not None
    assert one.target is not None
    line, view = one.numpy.partition(" = ")[2], str(one.view).replace("-", "−")
    if not one.steps:
        return "Both lie in memory alike."
    if one.view is None:
        return f"{line} copies: no strides read the first memory in the order of the second."
    return f"{line} moves no value: it reads the first memory with strides {view}; a copy of that lies as the second."


def _telling(grids: Sequence[NDArray[Any]], room: Sequence[int]) -> list[list[int]]:
    """Which indices of each axis of ``(rows, columns, H, W)`` to draw: the first that have room, but for what would
    leave a wrong reading looking like the right one."""
    places = [list(range(min(size, most))) for size, most in zip(grids[0].shape, room, strict=True)]
    pinned: list[set[int]] = [set() for _ in places]
    for grid in grids[1:]:
        differs = grid != grids[0]
        here = differs[np.ix_(*places)]
        if here.any():
            found = [axis[int(place)] for axis, place in zip(places, np.argwhere(here)[0], strict=True)]
        else:
            found = [int(place) for place in np.unravel_index(int(differs.argmax()), differs.shape)]
        for axis, kept, place in zip(places, pinned, found, strict=True):
            if place not in axis:
                last = next((each for each in reversed(axis) if each not in kept), axis[-1])
                axis[axis.index(last)] = place
                axis.sort()
            kept.add(place)
    return places


def _by_place(numbers: NDArray[Any], home: NDArray[Any], whole: Sequence[int], places: Any) -> NDArray[np.uint8]:
    """A colour for each of ``numbers``: the hue of the tile in which it belongs (or of its row, in a single tile),
    paler where it comes first there; grey where that is not drawn.

    Args:
        numbers: Addresses, of any shape.
        home: The flat place in ``(rows, columns, H, W)`` at which the value of each address belongs.
        whole: Rows, columns, H and W.
        places: Those of each that are drawn.
    """
    row, column, down, across = np.unravel_index(home[numbers], whole)
    if len(places[0]) * len(places[1]) > 1:
        order = np.full(whole[:2], -1)
        order[np.ix_(*places[:2])] = np.arange(len(places[0]) * len(places[1])).reshape(len(places[0]), -1)
        group, depth = order[row, column], (down * whole[3] + across) / max(whole[2] * whole[3] - 1, 1)
    else:
        order = np.full(whole[2], -1)
        order[places[2]] = np.arange(len(places[2]))
        here = (row == places[0][0]) & (column == places[1][0])
        group, depth = np.where(here, order[down], -1), across / max(places[3][-1], 1)
    hue = 0.14 + 0.64 * (group * 0.382 % 1)  # none that red numbers could not be read on
    colours = hsv_to_rgb(np.stack([hue, 0.1 + 0.36 * np.minimum(depth, 1), 0.99 - 0.06 * np.minimum(depth, 1)], -1))
    colours[group < 0] = 0.92
    return np.rint(colours * 255).astype(np.uint8)


def _labels(plan: PictureAxes, one: Crossing, places: Sequence[Sequence[int]], whole: tuple[int, int]) -> list[str]:
    """The name of each tile that is drawn: an index for each letter that counts tiles."""
    letters = plan.rows + plan.columns
    sizes = dict(one.sizes)
    if not letters:
        return []
    found: list[str] = []
    for row in places[0]:
        for column in places[1]:
            at = np.unravel_index(row * whole[1] + column, [sizes[letter] for letter in letters])
            assert one.target is not None
            named = [
                f"gate {one.target.gates[place]}" if letter == "Q" else f"{letter} {place}"
                for letter, place in zip(letters, at, strict=True)
                if sizes[letter] > 1
            ]
            found.append(", ".join(named))
    return found if any(found) else []


def _drawn(plan: PictureAxes, one: Crossing, places: Sequence[Sequence[int]], whole: Sequence[int]) -> str:
    """What is laid out how, in words."""
    from cnnlens.layout.readings import axis_names

    sizes = dict(one.sizes)
    told: list[str] = []
    if letters := [letter for letter in plan.rows + plan.columns if sizes[letter] > 1]:
        told.append(f"a tile for each of {axis_names(''.join(letters))}")
    told.append(f"{axis_names(plan.down)} down, {axis_names(plan.across)} across")
    shown = [len(axis) for axis in places]
    if shown[0] * shown[1] < whole[0] * whole[1]:
        told.append(f"{shown[0] * shown[1]:,} of {whole[0] * whole[1]:,} tiles are drawn")
    if shown[2:] != list(whole[2:]):
        told.append(f"{shown[2]} × {shown[3]} of {whole[2]:,} × {whole[3]:,} cells are drawn")
    return "; ".join(told)


def _explained(one: Crossing, every: Sequence[Reading], weights: bool, tiles: bool, cut: bool) -> list[str]:
    assert one.source is not None
    assert one.target is not None
    held = "tile" if tiles else "row"
    whose = _possessive(one.source.framework)
    grey = f"; grey: a {held} that is not drawn" if cut else ""
    colour = f"Its colour is the {held} in which it belongs, its shade the place there{grey}. Red: in a wrong place."
    colour = "Its colour is the weight." if weights else colour
    told = [f"The number in a cell is the address of its value in {whose} array, counted from 0. {colour}"]
    if len([each for each in every if each.same_shape]) > 1:
        told.append(f"Every mistake drawn here has the right shape, {one.target.shape}: nothing complains.")
    other = [f"{each.name} ({each.code})" for each in every if not each.same_shape]
    if other:
        told.append(f"Of another shape, which a check of shapes sees: {'; '.join(other)}.")
    addresses = [
        (side, index, sum(number * stride for number, stride in zip(index, side.strides, strict=True)), where)
        for side, index, where in ((one.source, one.here, "here"), (one.target, one.there, "there"))
    ]
    told.append(
        " is ".join(
            f"{side.variable}[{', '.join(map(str, index))}] at address {address} {where}"
            for side, index, address, where in addresses
        )
        + "."
    )
    told.append(
        f"Strides: {one.source.strides} in {whose} array, {one.target.strides} in {_possessive(one.target.framework)}."
    )
    return [
        re.sub(r"(?<=\w), (?=[\w:])(?=[^()\[\]]*[)\]])", ",\u00a0", text) for text in told
    ]  # no break inside a shape


def _possessive(side: str) -> str:
    """Write whose array it is: ``Keras'`` or ``PyTorch's``."""
    from cnnlens.layout.listing import title

    return title(side) + ("'" if title(side).endswith("s") else "'s")


def _stored_for(layer: Layer, name: str, framework: str) -> NDArray[Any]:
    """A weight of a layer as ``framework`` stores it."""
    from cnnlens import layout

    weight = weight_named(layer, name)
    if weight.framework == framework:
        return weight.read()
    return layout.arrange(weight.kind, weight.role, weight.canonical(), framework, _whole_geometry(weight))


def weight_named(layer: Layer, role: str | None = None) -> Weight:
    """Find the weight of a layer with this role (its Keras name), or its first kernel.

    Raises:
        CnnlensError: The layer has none.
    """
    found = next((one for one in layer.stored.values() if (one.is_kernel if role is None else one.role == role)), None)
    if found is None:
        raise CnnlensError(
            f"{layer.shown} has no {printable(role or 'kernel')}; "
            + nearest(role or "kernel", [one.role for one in layer.stored.values()])
        )
    return found


def _whole_geometry(weight: Weight) -> layout.Geometry:
    from cnnlens import layout

    return layout.completed(weight.kind, weight.role, weight.stored.shape, weight.geometry, weight.framework)


def letter_sizes(weight: Weight, framework: str) -> tuple[tuple[int, ...], dict[str, int]]:
    """Give the shape of a weight as ``framework`` stores it, and the sizes by letter that the shape does not say.

    Raises:
        CnnlensError: The framework has no such weight.
    """
    from cnnlens import layout
    from cnnlens.layout.lookup import look_up

    geometry = _whole_geometry(weight)
    shape = layout.arranged_shape(weight.kind, weight.role, weight.canonical_shape, framework, geometry)
    if weight.framework == framework:
        shape = weight.stored.shape
    row, spatial = look_up(weight.kind, weight.role, geometry, framework, len(shape))
    return shape, geometry.known(row.hints, spatial)
