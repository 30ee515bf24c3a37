"""What a page says of a layer's arrays: the numbers, the ends of their colours, their histogram, how to name an entry.

Each of these is made where the commands have it from: statistics in ``network.kernel``, colours in ``plot.values``,
bins in ``plot.distribution``, addresses in ``layout.addresses``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens import layout
from cnnlens.errors import CnnlensError
from cnnlens.network.graph import Layer
from cnnlens.network.kernel import Statistics, statistics
from cnnlens.network.untrained import keras as initializers
from cnnlens.network.untrained.draw import initializer_of
from cnnlens.network.weight import Weight, real
from cnnlens.plot.distribution import bin_values, finite_values, law_curve
from cnnlens.plot.values import limits_of
from cnnlens.reporting.budget import Budget, as_floats
from cnnlens.text import finite_or_null

__all__ = ["add_weight", "moments", "notations"]

_FRAMEWORKS = ("keras", "torch")
_PLACES = 160  # of a law's curve


def add_weight(row: dict[str, Any], budget: Budget, layer: Layer, weight: Weight, name: str) -> None:
    """Add to an array's row of ``cnnlens summary --json`` what a page shows of it, and pack its numbers.

    Added are ``view``: ``tiles``, of a kernel each, one ``matrix``, a ``vector``, or None where it is not drawn;
    ``array`` (canonical) and whether it is ``exact``; ``notation``; and of what is drawn ``limits``, ``statistics``
    and ``histogram``.

    Args:
        name: What its packed arrays are called.
    """
    row.update(view=None, array=None, exact=False)
    if weight.stored.dtype.kind not in "fiubc" or not math.prod(weight.stored.shape):
        return
    row["notation"] = notations(weight)
    array = as_floats(real(weight.canonical()))
    if array.ndim == 1:
        row.update(view="vector", array=budget.exact(name, array), exact=True)
    if array.ndim < 2 or not (weight.is_kernel or weight.role.endswith("recurrent_kernel")):
        return
    tiled = array.ndim > 2 and not (math.prod(array.shape[2:]) == 1 and array.shape[1] > 1)
    whole = limits_of(array.reshape(1, -1), weights=True)
    budget.add(row, name, array, whole.low, whole.high)
    each = [limits_of(array[:, one], weights=True) for one in range(array.shape[1])] if tiled else []
    ends = np.array([[one.low, one.high] for one in each])
    row.update(
        view="tiles" if tiled else "matrix",
        limits={
            "all": [float(whole.low), float(whole.high)],
            "inputs": budget.exact(f"{name}.limits", ends) if tiled else None,
        },
        statistics=budget.exact(f"{name}.statistics", moments(array)),
        histogram=_histogram(layer, weight),
    )


def moments(array: NDArray[Any]) -> NDArray[np.float64]:
    """Compute mean, deviation, smallest and largest of the finite values of each entry of the first axis, and how many
    are not finite: ``(K, 5)``; NaN where there is none that is."""
    found = [statistics(one) for one in array]
    return np.array([[one.mean, one.std, one.min, one.max, _broken(one)] for one in found], np.float64)


def _broken(one: Statistics) -> int:
    return one.nan + one.posinf + one.neginf


def notations(weight: Weight) -> list[dict[str, Any]]:
    """Say how Keras and PyTorch write the index of an entry; none of a framework that has no such array.

    ``axes`` are the letters of each axis, ``steps`` how many addresses one step along a letter is, ``strides`` that of
    the axes: the index on an axis is the sum of index times step over its letters, divided by its stride. The first
    entry is that of the canonical array.
    """
    shapes = {"canonical": weight.canonical_shape, **weight.layouts()}
    axes: dict[str, str] = {"canonical": weight.canonical_axes}
    names = {"canonical": weight.role, "keras": weight.role}
    in_torch = {role: name for name, role in layout.roles_in("torch", weight.kind).items()}
    names["torch"] = in_torch.get(weight.role, weight.role)
    for framework in _FRAMEWORKS:
        shape = shapes[framework]
        if shape is not None:
            axes[framework] = layout.stored_axes(weight.kind, weight.role, framework, weight.geometry, len(shape))
    if any("Q" in one for one in axes.values()):
        return []  # gates lie in another order there, which no stride says
    sizes = dict(zip("HWC", weight.geometry.flatten or (), strict=False))
    for framework, letters in axes.items():
        sizes |= {
            letter: size
            for letter, size in zip(layout.split_axes(letters), shapes[framework] or (), strict=True)
            if letter.isalpha()
        }
    found: list[dict[str, Any]] = []
    for framework, letters in axes.items():
        try:
            memory = layout.memory(letters, shapes[framework] or (), sizes, addresses=[])
        except CnnlensError:
            continue
        split = [[one for one in axis if one.isalpha()] for axis in layout.split_axes(letters)]
        found.append({
            "framework": framework, "name": names.get(framework, weight.role), "layout": letters, "axes": split,
            "shape": list(memory.shape), "strides": list(memory.strides), "sizes": dict(memory.sizes),
            "steps": dict(memory.steps),
        })  # fmt: skip
    return found


def _histogram(layer: Layer, weight: Weight) -> dict[str, Any]:
    """What ``cnnlens hist --untrained`` draws: bins of the weights and of an untrained draw, and the law of that."""
    trained = real(weight.read())
    arrays = {"trained": finite_values(trained, weight.name)[0]}
    density, why = None, None
    try:
        spec = initializer_of(layer, weight)
        density = initializers.density(spec, weight.stored.shape)
        arrays["untrained"] = finite_values(initializers.draw(spec, weight.stored.shape, 0), weight.name)[0]
    except CnnlensError as error:
        why = str(error)
    binned = bin_values(arrays, density)
    found: dict[str, Any] = {
        name: {"counts": one.counts.tolist(), "edges": one.edges.tolist(), "of": len(arrays[name])}
        for name, one in binned.items()
    }
    law = None
    if density is not None and any(len(one.edges) for one in binned.values()):
        edges = np.concatenate([one.edges for one in binned.values()])
        x, y = law_curve(density, float(edges.min()), float(edges.max()), places=_PLACES)
        law = {
            "name": density.name,
            "parameters": density.parameters,
            "x": x.tolist(),
            "y": [finite_or_null(one) for one in y.tolist()],
            "atoms": [list(one) for one in density.atoms],
        }
    return {**found, "law": law, "why_no_law": why}
