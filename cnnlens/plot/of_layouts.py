"""Draws a kernel as another framework reads it, rightly and as each mistake would."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.network.graph import Layer
from cnnlens.network.network import Network
from cnnlens.network.weight import Weight
from cnnlens.text import nearest, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cnnlens import layout
from cnnlens.plot.of_models import model_title
from cnnlens.plot.panels import Panel, panels

__all__ = ["layout_readings", "letter_sizes", "weight_named"]

_MOST_TILES = 7  # of a real kernel, each way
_MOST_IN_A_LINE = 4  # where there is one input or one output channel: fewer, and larger


_MOST_PANELS = 6


def layout_readings(
    kind: str,
    source: str,
    target: str,
    *,
    weight: str | None = None,
    shape: Sequence[int] | None = None,
    flatten: Sequence[int] | None = None,
    sizes: Mapping[str, int] | None = None,
    model: tuple[Network, Layer] | None = None,
) -> Figure:
    """Draw a kernel on its way between two frameworks, read rightly and in each wrong way that looks different.

    Args:
        kind, source, target, weight, shape, flatten, sizes: As :func:`~cnnlens.layout.crossing.crossings` takes them;
            without a shape or sizes the picture chooses its own, at which no wrong reading has a wrong shape.
        model: A network and a layer of it, whose kernel is drawn instead of letters.

    Raises:
        CnnlensError: The weight has no picture, or none of the arguments' kind, as ``crossings`` says.
    """
    from cnnlens.layout import readings as reading
    from cnnlens.layout.crossing import crossings

    found = crossings(kind, source, target, weight=weight, shape=shape, flatten=flatten, sizes=sizes)
    one = next((each for each in found if each.source is not None), found[0])
    plan = reading.plan_of(one)
    if shape is None and not sizes and model is None:
        chosen = reading.specimen_sizes(one)
        if flatten is not None:  # that was asked for
            chosen = {letter: size for letter, size in chosen.items() if letter not in "DHWC"}
        chosen.pop("Q", None)
        one = crossings(kind, source, target, weight=one.weight, flatten=flatten, sizes=chosen)[0]
    assert one.source is not None
    assert one.target is not None
    kernel = reading.specimen(one) if model is None else _stored_for(model[1], one.weight, one.source.framework)
    seen = reading.readings(one, kernel)[:_MOST_PANELS]
    every = [plan.tiles(each.array, one.letters) for each in seen]
    most = _MOST_IN_A_LINE if min(every[0].shape[:2]) == 1 else _MOST_TILES
    cut = any(max(tiles.shape[:2]) > most for tiles in every)
    shown: list[Panel] = []
    for each, tiles in zip(seen, every, strict=True):
        said = "" if each.right else "the same shape: nothing complains" if each.same_shape else "another shape"
        shown.append(Panel(each.name, tiles[:most, :most], each.right, [each.code, said]))
    what = f"{one.kind} {one.weight}" if model is None else f"{printable(model[1].name)}: {one.kind} {one.weight}"
    titles = {"keras": "Keras", "torch": "PyTorch", "flax": "Flax", "onnx": "ONNX", "tflite": "TFLite"}
    drawn = f"drawn in canonical axes, {_drawn(plan, reading.axis_names)}"
    if cut:
        drawn += f"; the first {most} of each"
    return panels(
        shown,
        title=f"{what}, from {titles[one.source.framework]} to {titles[one.target.framework]}",
        subtitle=[
            f"{one.source.layout} {one.source.shape} to {one.target.layout} {one.target.shape}"
            + (f", {one.condition}" if one.condition else "")
            + (f" · {model_title(model[0])}" if model else ""),
            drawn,
        ],
        bar=model is not None,
        limit=None if model else 1.25,
    )


def _drawn(plan: Any, names: Callable[[str], str]) -> str:
    """How the picture is laid out, in words."""
    tiles = [f"{word} {names(letters)}" for word, letters in (("down", plan.rows), ("across", plan.columns)) if letters]
    cells = f"{names(plan.down)} down and {names(plan.across)} across"
    return (f"tiles: {', '.join(tiles)}; in each tile " if tiles else "") + cells


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
