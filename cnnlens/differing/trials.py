"""A step of A on trial: what would it have to do otherwise to give what B gives?

Settings of B's operation are put into A's one at a time, neighbouring steps are exchanged, and then B's feature map is
treated as a recording of A's step, for which every fault that a check knows is tried.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.likeness import LIMIT, apart, as_other
from cnnlens.differing.feeding import in_axes_of
from cnnlens.differing.hypotheses.orders import exact_orders
from cnnlens.differing.tracing import Trace, TracedCall
from cnnlens.differing.wording import against_a
from cnnlens.errors import CnnlensError
from cnnlens.network.graph import CONFIG_ERRORS
from cnnlens.reference.arithmetic.functions import Activation
from cnnlens.reference.bare.ops import BareOperation
from cnnlens.reference.wrappers import TimeDistributed
from cnnlens.text import printable

__all__ = ["ALIKE", "described", "tried", "tried_as_b"]

Array: TypeAlias = NDArray[Any]

ALIKE = LIMIT
"""Of the largest value: float64 runs of one arithmetic agree to less, and other settings differ by far more."""

# What every operation has and no setting is.
_NO_SETTING = frozenset({"kind", "config", "keras_version", "channels_first", "filters", "units", "use_bias"})


@dataclass(frozen=True)
class Tried:
    """Says what explains a difference, and with which step of B it was found.

    ``after``: where two steps stand in the other order, the second one of A and the one of B that gives the same.
    """

    text: str
    other: TracedCall
    after: tuple[TracedCall, TracedCall] | None = None


def tried(
    a: Trace,
    near: Sequence[tuple[int, TracedCall]],
    step: TracedCall,
    options: Sequence[TracedCall],
    origins: Sequence[str] = (),
) -> Tried | None:
    """Find what B's steps do otherwise.

    Args:
        near: B's steps around, given A's inputs; ``options``: those that may stand in the step's place.
        origins: The tensors of A from which both are made.
    """
    for other in options[:3]:
        said = _by_setting(step, other)
        if said:
            return Tried(said, other)
    around = [one for _, one in near]
    found = _by_order(a, around, step, options[0]) or _by_insertion(around, step, options)
    found = found or _by_channels(a, step, options, origins) or _by_omission(a, step, options, origins)
    if found is not None:
        return found
    for other in options[:6]:
        said = _by_fault(step, other)
        if said:
            return Tried(against_a(said), other)
        said = tried_as_b(step, other)
        if said:
            return Tried(said, other)
    return None


def tried_as_b(step: TracedCall, other: TracedCall) -> str:
    """Find what A does otherwise by the time that it gives this step's tensor, had it to do what B's one step does."""
    said = _by_fault(other, step)
    return f"against B, in A {against_a(said, 'B')}" if said else ""


def _wanted(step: TracedCall, other: TracedCall) -> Array:
    """What B's step gives, in the own axes of A's."""
    turned = as_other(step.canonical, other.canonical)
    return in_axes_of(step, other.canonical if turned is None else turned)


def _gives(step: TracedCall, operation: Any, wanted: Array) -> bool:
    if not np.isfinite(wanted).any():
        return False  # what is NaN is given by everything that is
    try:
        with np.errstate(all="ignore"):
            made = operation(step.weights, *step.args, **step.kwargs)
    except (CnnlensError, *CONFIG_ERRORS):
        return False
    return not isinstance(made, (list, tuple)) and apart(wanted, np.asarray(made)) <= ALIKE


def _by_setting(step: TracedCall, other: TracedCall) -> str:
    """The settings of B's operation that, put into A's, give what B gives."""
    mine, theirs = step.operation, other.operation
    if type(mine) is not type(theirs):
        return ""
    wanted = _wanted(step, other)
    names = [name for name in vars(mine) if name in vars(theirs) and name not in _NO_SETTING]
    unlike = [name for name in names if _identity(getattr(mine, name)) != _identity(getattr(theirs, name))]
    for chosen in [*([name] for name in unlike), unlike]:
        if not chosen:
            continue
        changed: Any = copy.copy(mine)
        for name in chosen:
            setattr(changed, name, getattr(theirs, name))
        if _gives(step, changed, wanted):
            return _settings_said(step, other, chosen)
    return ""


def _settings_said(step: TracedCall, other: TracedCall, chosen: Sequence[str]) -> str:
    """Settings in words: padding as the numbers that it comes to, activations of one name by what they give."""
    told: list[str] = []
    another = "rule" in chosen and step.operation.kind != other.operation.kind
    for name in () if another else chosen:
        if name in _INSIDE or (name == "edges" and "padding" in chosen):
            continue
        if name == "settings":
            told += _unlike(step.operation, other.operation)
            continue
        values = [_value(one, name) for one in (other, step)]
        told.append(f"{_WORDS.get(name, name)} is {values[0]} where A's is {values[1]}")
    return ", and ".join(told) or f"it is {_kind(other)} where A's is {_kind(step)}"


def _unlike(mine: Any, theirs: Any) -> list[str]:
    """The settings of a bare operation that are others in B."""
    names = dict.fromkeys((*theirs.settings, *mine.settings))
    pairs = [(name, theirs.settings.get(name), mine.settings.get(name)) for name in names]
    return [f"{printable(name, 40)} is {_setting(own)} where A's is {_setting(given)}"
            for name, own, given in pairs if _identity(own) != _identity(given)]  # fmt: skip


# What of an operation no person set.
_INSIDE = frozenset({"rule", "loss", "shapes", "template"})
# The reference's names of settings that a person would call otherwise.
_WORDS = {
    "counts_padding": "count_include_pad", "edges": "padding", "maximum": "the pooling", "window": "pool_size",
    "dilation": "dilation_rate", "aligned": "align_corners",
}  # fmt: skip


def _value(step: TracedCall, name: str) -> str:
    value = getattr(step.operation, name)
    if name == "maximum":
        return "maximum" if value else "mean"
    if isinstance(value, Activation) and not value.elementwise:
        axis = _axis(value, np.ndim(step.args[0]))
        return value.name if axis is None else f"{value.name} over axis {axis}"
    if name in ("padding", "edges"):
        try:
            operation: Any = step.operation
            first = 2 if operation.channels_first else 1
            pads = operation.pads(np.shape(step.args[0])[first : first + operation.rank])
            shown = ", ".join(f"{before}+{after}" for before, after in pads)
            return f"{shown} ({value})" if isinstance(value, str) and value != "explicit" else shown
        except (CnnlensError, *CONFIG_ERRORS):
            pass
    return _setting(value)


def _setting(value: Any) -> str:
    name = getattr(value, "name", None)
    if isinstance(name, str):
        points = _points(value)
        return printable(f"{name} (-1 gives {points[0]}, 8 gives {points[1]})" if points else name, 60)
    if isinstance(value, (list, tuple)):
        return str(tuple(cast("Sequence[Any]", value)))
    return printable(value, 60)


_PLAIN = (str, int, float, bool, list, tuple, dict)


def _identity(value: Any) -> Any:
    """What tells a setting from another."""
    name = getattr(value, "name", None)
    if isinstance(value, Activation) and not value.elementwise:
        return id(value.function)  # a closure over its axis
    if isinstance(name, str):
        return name, _points(value)
    plain = value is None or type(value) in _PLAIN
    return str(value) if plain else id(value)  # an address in a text may be cut off


def _axis(activation: Activation, ndim: int) -> int | None:
    """The axis along which a softmax's values make one; None where they do on none."""
    try:
        made = activation.apply(np.arange(2.0**ndim).reshape((2,) * ndim))
    except CONFIG_ERRORS:
        return None
    made = np.exp(made) if activation.name.startswith("log") else made
    return next((axis for axis in range(ndim) if np.allclose(made.sum(axis=axis), 1)), None)


def _points(activation: Any) -> tuple[str, ...]:
    """What an activation makes of -1 and 8: variants of one name differ in these."""
    try:
        made = activation.apply(np.array([-1.0, 8.0])) if activation.elementwise else ()
    except (AttributeError, *CONFIG_ERRORS):
        return ()
    return tuple(f"{value:.4g}" for value in made)


def _by_order(a: Trace, near: Sequence[TracedCall], step: TracedCall, other: TracedCall) -> Tried | None:
    """A's step and the one after it, the other way round."""
    after = [one for one in a.steps if step.name in one.inputs]
    if len(after) != 1 or len(after[0].inputs) != 1 or len(step.inputs) != 1:
        return None
    second = after[0]
    try:
        with np.errstate(all="ignore"):
            middle = second.operation(second.weights, *step.args, **second.kwargs)
            made = step.operation(step.weights, np.asarray(middle), *step.args[1:], **step.kwargs)
    except (CnnlensError, *CONFIG_ERRORS):
        return None
    turned = step.turned(np.asarray(made))
    theirs = next((one for one in near if np.isfinite(turned).any() and apart(one.canonical, turned) <= ALIKE), None)
    if theirs is None:
        return None
    said = f"{_kind(second)} and {_kind(step)} stand in the other order: A has {_kind(step)} first"
    return Tried(said, other, (second, theirs))


def _by_insertion(near: Sequence[TracedCall], step: TracedCall, options: Sequence[TracedCall]) -> Tried | None:
    """A step that B has in front of its own and A has not."""
    if len(step.inputs) != 1 or not step.args or not isinstance(step.args[0], np.ndarray):
        return None
    fed = cast("Array", step.args[0])
    by_name = {one.name: one for one in near}
    for other in options:
        for name in other.inputs:
            between = by_name.get(name)
            turned = None if between is None else as_other(step.turned(fed), between.canonical)
            if between is None or turned is None:
                continue
            moved = replace(step, args=(in_axes_of(step, turned), *step.args[1:]))
            if _gives(moved, step.operation, _wanted(step, other)):
                done = _done(step.turned(fed), turned, between)
                return Tried(f"B has {done} in front of it, and A has not", other)
    return None


def _by_omission(a: Trace, step: TracedCall, options: Sequence[TracedCall], origins: Sequence[str]) -> Tried | None:
    """Steps that A has in front of its own and B has not."""
    for origin in origins:
        fed = a.own[origin]
        if len(step.inputs) != 1 or origin in step.inputs or fed.shape != a.own[step.inputs[0]].shape:
            continue
        try:
            made = step.on(lambda _, fed=fed: fed)
        except (CnnlensError, *CONFIG_ERRORS):
            continue
        for other in options:
            if np.isfinite(made.canonical).any() and apart(other.canonical, made.canonical) <= ALIKE:
                last = next(one for one in a.steps if one.name == step.inputs[0])
                done = _done(a.tensors[origin], last.canonical, last)
                return Tried(f"A has {done} in front of it, and B has not", other)
    return None


def _by_channels(a: Trace, step: TracedCall, options: Sequence[TracedCall], origins: Sequence[str]) -> Tried | None:
    """Both hand on the same channels in another order each: a shuffle in the other order."""
    if len(origins) != 1 or a.tensors[origins[0]].shape != step.canonical.shape or step.canonical.ndim < 3:
        return None
    source = np.moveaxis(a.tensors[origins[0]], 1, 0)
    mine = exact_orders(np.moveaxis(step.canonical, 1, 0), source)
    if mine is None or len({*mine[0]}) < 2:
        return None
    for other in options:
        turned = as_other(step.canonical, other.canonical)
        theirs = None if turned is None else exact_orders(np.moveaxis(turned, 1, 0), source)
        if theirs is not None and theirs[0] != mine[0]:
            return Tried(f"its channels are {_shuffle(theirs[0])} where A's are {_shuffle(mine[0])}", other)
    return None


def _done(before: Array, after: Array, step: TracedCall) -> str:
    """What a step more does: to the channels, where it is that, else what it is."""
    name = printable(step.call.name, 40)
    orders = exact_orders(*(np.moveaxis(z, 1, 0) for z in (after, before))) if after.ndim > 2 else None
    if orders is not None and orders[0] != tuple(range(len(orders[0]))):
        return f"its channels {_shuffle(orders[0])} ('{name}')"
    factor = _factor(before, after)
    return f"a factor {factor:.6g} ('{name}')" if factor is not None else f"{_kind(step)} ('{name}')"


def _factor(before: Array, after: Array) -> float | None:
    """The one number by which everything was multiplied; None where it was not."""
    with np.errstate(all="ignore"):
        factor = float((before * after).sum() / np.square(before).sum()) if before.shape == after.shape else np.nan
    return (
        factor if np.isfinite(factor) and factor not in (0.0, 1.0) and apart(after, factor * before) <= ALIKE else None
    )


def _shuffle(order: tuple[int, ...]) -> str:
    """An order of channels in words: as a shuffle of groups where it is one."""
    count = len(order)
    if order == tuple(range(count)):
        return "in their own order"
    for groups in range(2, count):
        if count % groups == 0 and order == tuple(np.arange(count).reshape(groups, -1).T.reshape(-1)):
            return f"shuffled by {groups} groups"
    return f"in the order {', '.join(map(str, order[:_SHOWN]))}{', …' if count > _SHOWN else ''}"


_SHOWN = 8


def _kind(step: TracedCall) -> str:
    activation = getattr(step.operation, "activation", None)
    name = getattr(activation, "name", None)
    kind = step.call.layer.kind
    if isinstance(name, str) and not step.weighted:
        kind = name
    elif isinstance(step.operation, BareOperation) and kind != step.operation.kind:
        kind = f"{kind}: {step.operation.kind}"  # a class of somebody's own says less than what it computes
    return printable(kind, 40)


def _behind_batch(x: Array) -> str:
    return f"(N, {', '.join(map(str, x.shape[1:]))})"


def _by_fault(step: TracedCall, other: TracedCall) -> str:
    """What a check would say if the other's feature map were a recording of the step."""
    from cnnlens.checking import audit
    from cnnlens.checking.finding import Cause
    from cnnlens.checking.noise.case import map_arrays, narrow

    output = _wanted(step, other).astype(np.float32)
    args = tuple(map_arrays(list(step.args), narrow))
    layer = step.call.layer
    if not isinstance(layer.operation, TimeDistributed):
        layer = replace(layer, make_operation=lambda: step.operation)
    found = audit(replace(step.call, layer=layer), step.weights, args, step.kwargs, output)
    named = found.verdict.fault and found.cause not in (Cause.UNEXPLAINED, Cause.SHAPE)
    return found.explanation if named else ""


def described(step: TracedCall, options: Sequence[TracedCall]) -> str:
    if not options:
        return "nothing in B that takes the same inputs gives this shape"
    x = step.canonical
    y = as_other(x, options[0].canonical)
    if y is None:
        return f"it gives {_behind_batch(options[0].canonical)} where A gives {_behind_batch(x)}"
    with np.errstate(all="ignore"):
        far = float(np.sqrt(np.nansum(np.square(x - y)) / np.nansum(np.square(x))))
    kinds = (_kind(step), _kind(options[0]))
    named = f", {kinds[0]} against {kinds[1]}" if kinds[0] != kinds[1] else ""
    return f"unexplained (relative RMS {far:.2g}{named})"
