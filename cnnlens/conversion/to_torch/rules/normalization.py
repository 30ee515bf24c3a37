"""Normalisation layers at inference: batch, layer, group, RMS and unit normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from cnnlens.conversion.to_torch.call_site import CallSite, rule
from cnnlens.conversion.to_torch.names import literal
from cnnlens.conversion.to_torch.rules.activations import flat_vectors
from cnnlens.conversion.to_torch.value import Value, dims_of, listed
from cnnlens.conversion.to_torch.weights import Entry, filled
from cnnlens.reference.keras.normalization import BatchNormalization, GroupNormalization, LayerNormalization
from cnnlens.reference.operation import normalise_axis

__all__: list[str] = []


def _momentum(site: CallSite) -> float:
    value = site.config.get("momentum", 0.99)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise site.refuse("its momentum is no number")
    return round(1 - float(value), 12)


def _affine(
    site: CallSite, arrays: dict[str, Entry], roles: tuple[tuple[str, str], ...], size: Sequence[int], dtype: str
) -> list[str]:
    """Fill in ones or zeros for what Keras does not have, frozen; the names of those."""
    frozen: list[str] = []
    for key, role in roles:
        if key not in arrays:
            arrays[key] = filled(1.0 if key == "weight" else 0.0, size, dtype)
            frozen.append(f"{key} ({role})")
    return frozen


def _normalised(
    site: CallSite, x: Value, text: str, arrays: dict[str, Entry], comments: Sequence[str], frozen: Sequence[str]
) -> Value:
    """Call the module that ``text`` makes, what is ``frozen`` of it as it stands."""
    first = site.is_new()
    module = site.module(text, arrays, comments=comments)
    for name in frozen if first else ():
        key, _, role = name.partition(" ")
        remark = site.remark(f"no-{key}", f"Keras has no {role.strip('()')} here, so this one stays as it is.")
        site.out.after_member(f"{module}.{key}.requires_grad_(False)", remark)
    return x.new(f"{module}({x.text})")


@rule("BatchNormalization")
def batch_normalization(site: CallSite) -> Value:
    operation = cast("BatchNormalization", site.operation)
    axis = normalise_axis(operation.axis, site.x.rank)
    if not 2 <= site.x.rank <= 5 or axis == 0:
        raise site.refuse(f"batch normalisation on axis {axis} of {site.x.rank} axes is not possible in PyTorch")
    x = site.x if site.x.rank == 2 else site.x.first([0, axis])
    if x.text != site.x.text:
        site.note("norm-axis", "PyTorch normalises axis 1.")
    arrays: dict[str, Entry] = {}
    dtype = site.weights.dtype("moving_mean")
    names = (("gamma", "weight"), ("beta", "bias"), ("moving_mean", "running_mean"), ("moving_variance", "running_var"))
    wanted = {"gamma": operation.scale, "beta": operation.center}
    for role, key in names:
        if wanted.get(role, True):
            arrays[key] = site.weights.arranged(role, "BatchNormalization", x.flat)
    (count,) = site.weights.shape("moving_mean")
    affine = operation.scale or operation.center
    momentum = _momentum(site)
    comments: list[str] = []
    if (operation.epsilon, momentum) != (1e-5, 0.1):
        comments = site.remark(
            "batch-norm",
            "epsilon and momentum are Keras' (PyTorch's defaults are 1e-5 and 0.1); a momentum of 0.99 in Keras, which "
            "weighs the old value, is 0.01 here.",
        )
    comments += flat_vectors(site, x)
    frozen = _affine(site, arrays, (("weight", "gamma"), ("bias", "beta")), (count,), dtype) if affine else []
    arrays["num_batches_tracked"] = Entry(lambda: np.zeros((), np.int64), "int64")
    rank = max(x.rank - 2, 1)
    settings = f"eps={literal(operation.epsilon)}, momentum={literal(momentum)}"
    text = f"nn.BatchNorm{rank}d({count}, {settings}{'' if affine else ', affine=False'})"
    return _normalised(site, x, text, arrays, comments, frozen)


@rule("LayerNormalization")
def layer_normalization(site: CallSite) -> Value:
    operation = cast("LayerNormalization", site.operation)
    x = site.x
    axes = sorted(normalise_axis(axis, x.rank) for axis in operation.axes)
    scale, center = "gamma" in site.weights, "beta" in site.weights and not operation.rms_scaling
    x = _behind(site, x, axes)
    behind = x.order[x.rank - len(axes) :]
    sizes = [x.shape[axis] for axis in behind]
    epsilon = literal(operation.epsilon)
    if operation.rms_scaling:
        return _old_rms(site, x, axes, epsilon, scale)
    if None in sizes and not (scale or center):
        return x.new(f"F.layer_norm({x.text}, {x.text}.shape[-{len(axes)} :], eps={epsilon})")
    known = _known(site, sizes)
    arrays: dict[str, Entry] = {}
    turn = [axes.index(axis) for axis in behind]
    for key, role, wanted in (("weight", "gamma", scale), ("bias", "beta", center)):
        if wanted:
            arrays[key] = _vector(site, role, "LayerNormalization", x, axes, turn)
    comments = site.remark("layer-norm", "Keras' epsilon; PyTorch's default is 1e-5.") + flat_vectors(site, x)
    settings = f"{dims_of(known)}, eps={epsilon}"
    frozen: list[str] = []
    if not scale and not center:
        settings += ", elementwise_affine=False"
    else:
        dtype = site.weights.dtype("gamma" if scale else "beta")
        frozen = _affine(site, arrays, (("weight", "gamma"),), known, dtype)
        if not center:
            settings += ", bias=False"
    return _normalised(site, x, f"nn.LayerNorm({settings})", arrays, comments, frozen)


def _known(site: CallSite, sizes: Sequence[int | None]) -> tuple[int, ...]:
    if any(size is None for size in sizes):
        raise site.refuse("it normalises over axes whose sizes the file leaves open")
    return cast("tuple[int, ...]", tuple(sizes))


def _behind(site: CallSite, x: Value, axes: Sequence[int]) -> Value:
    """``x`` with the axes that are normalised behind all others, as they stand if they stand there."""
    if x.flat is not None or set(x.order[x.rank - len(axes) :]) == set(axes):
        return x
    turned = x.last(axes)
    site.note(
        "norm-last",
        "PyTorch normalises over the last axes: channels go behind for it, as Keras has them.",
        "Channels last for the normalisation.",
    )
    return turned


def _vector(site: CallSite, role: str, kind: str, x: Value, axes: Sequence[int], turn: Sequence[int]) -> Entry:
    """Gamma or beta over several axes, in the order in which those are held."""
    if x.flat is not None:
        return site.weights.arranged(role, kind, x.flat)
    # Keras keeps the numbers in the order of the axes in the input, whatever shape it stores them in.
    wanted = [x.shape[axis] for axis in axes]
    return site.weights.entry(role, lambda array: array.reshape(cast("Any", wanted)).transpose(turn))


def _old_rms(site: CallSite, x: Value, axes: Sequence[int], epsilon: str, scale: bool) -> Value:
    site.note("rms-scaling", "Keras' rms_scaling: divided by the deviation, yet the mean stays and no beta is added.")
    text = x.text if x.text.isidentifier() else site.let(x.text, "inner")
    dims = listed(range(-len(axes), 0))
    factor = f"torch.rsqrt({text}.var(dim=({dims},), correction=0, keepdim=True) + {epsilon})"
    if len(axes) > 1:
        factor = factor.replace(f"({dims},)", f"({dims})")
    if not scale:
        return x.new(f"{text} * {factor}")
    factor = site.let(factor, "factor")
    turn = [sorted(axes).index(axis) for axis in x.order[x.rank - len(axes) :]]
    entry = _vector(site, "gamma", "LayerNormalization", x, sorted(axes), turn)
    known = _known(site, [x.shape[axis] for axis in x.order[x.rank - len(axes) :]])
    return x.new(f"{text} * {factor} * {site.parameter(known, entry, suffix='gamma')}")


@rule("GroupNormalization")
def group_normalization(site: CallSite) -> Value:
    operation = cast("GroupNormalization", site.operation)
    axis = normalise_axis(operation.axis, site.x.rank)
    if axis == 0:
        raise site.refuse("the batch axis cannot be normalised in groups")
    x = site.x.plain().first([0, axis])
    channels = x.shape[axis]
    if channels is None:
        raise site.refuse("the number of its channels is open")
    groups = channels if operation.groups == -1 else operation.groups
    arrays = {
        key: site.weights.arranged(role, "GroupNormalization")
        for key, role in (("weight", "gamma"), ("bias", "beta"))
        if role in site.weights
    }
    comments = site.remark("group-norm", "Keras' epsilon; PyTorch's default is 1e-5.")
    affine = bool(arrays)
    frozen: list[str] = []
    if affine:
        dtype = next(iter(arrays.values())).dtype
        frozen = _affine(site, arrays, (("weight", "gamma"), ("bias", "beta")), (channels,), dtype)
    settings = f"{groups}, {channels}, eps={literal(operation.epsilon)}{'' if affine else ', affine=False'}"
    return _normalised(site, x, f"nn.GroupNorm({settings})", arrays, comments, frozen)


@rule("RMSNormalization")
def rms_normalization(site: CallSite) -> Value:
    operation = cast("Any", site.operation)
    x = site.x
    axes = sorted(normalise_axis(axis, x.rank) for axis in operation.axes)
    epsilon = literal(float(operation.epsilon))
    shape = site.weights.shape("scale")
    if axes == list(range(x.rank - len(axes), x.rank)) and len(shape) == len(axes):
        x = _behind(site, x, axes)
        behind = x.order[x.rank - len(axes) :]
        known = _known(site, [x.shape[axis] for axis in behind])
        turn = [axes.index(axis) for axis in behind]
        entry = _vector(site, "scale", "RMSNormalization", x, axes, turn)
        size = dims_of(known)
        comments = flat_vectors(site, x)
        module = site.module(f"nn.RMSNorm({size}, eps={epsilon})", {"weight": entry}, comments=comments)
        return x.new(f"{module}({x.text})")
    x = x.keras()
    site.note("rms", "Keras spreads the scale over the last axes, whichever axes it normalises.")
    text = x.text if x.text.isidentifier() else site.let(x.text, "inner")
    dims = dims_of(axes)
    factor = site.let(f"torch.rsqrt({text}.square().mean(dim={dims}, keepdim=True) + {epsilon})", "factor")
    return x.new(f"{text} * {factor} * {site.parameter(shape, site.weights.kept('scale'))}")


@rule("UnitNormalization")
def unit_normalization(site: CallSite) -> Value:
    x = site.x
    operation = cast("Any", site.operation)
    axes = [normalise_axis(axis, x.rank) for axis in operation.axes]
    if x.flat is not None and axes != [1]:
        x = x.plain()
    places = x.places(axes)
    dims = dims_of(places)
    return x.new(f"F.normalize({x.text}, dim={dims}, eps=1e-12)")
