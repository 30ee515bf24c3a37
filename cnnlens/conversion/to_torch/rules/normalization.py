"""Normalisation layers at inference: batch, layer, group, RMS and unit normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from cnnlens.conversion.to_torch.held import Held, dims_of, listed
from cnnlens.conversion.to_torch.names import literal
from cnnlens.conversion.to_torch.rules.activations import flat_vectors
from cnnlens.conversion.to_torch.use import Use, rule
from cnnlens.conversion.to_torch.weights import Entry, filled
from cnnlens.reference.keras.normalization import BatchNormalization, GroupNormalization, LayerNormalization
from cnnlens.reference.operation import normalise_axis

__all__: list[str] = []


def _momentum(use: Use) -> float:
    value = use.config.get("momentum", 0.99)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise use.refuse("its momentum is no number")
    return round(1 - float(value), 12)


def _affine(
    use: Use, arrays: dict[str, Entry], roles: tuple[tuple[str, str], ...], size: Sequence[int], dtype: str
) -> list[str]:
    """Fill in ones or zeros for what Keras does not have, frozen; the names of those."""
    frozen: list[str] = []
    for key, role in roles:
        if key not in arrays:
            arrays[key] = filled(1.0 if key == "weight" else 0.0, size, dtype)
            frozen.append(f"{key} ({role})")
    return frozen


def _freeze(use: Use, module: str, frozen: Sequence[str], first: bool) -> None:
    for name in frozen if first else ():
        key, _, role = name.partition(" ")
        comments = use.remark(f"no-{key}", f"Keras has no {role.strip('()')} here, so this one stays as it is.")
        use.out.after_member(f"{module}.{key}.requires_grad_(False)", comments)


@rule("BatchNormalization")
def batch_normalization(use: Use) -> Held:
    operation = cast("BatchNormalization", use.operation)
    axis = normalise_axis(operation.axis, use.x.rank)
    if not 2 <= use.x.rank <= 5 or axis == 0:
        raise use.refuse(f"batch normalisation on axis {axis} of {use.x.rank} axes is not possible in PyTorch")
    x = use.x if use.x.rank == 2 else use.x.first([0, axis])
    if x.text != use.x.text:
        use.note("norm-axis", "PyTorch normalises axis 1.")
    arrays: dict[str, Entry] = {}
    dtype = use.weights.dtype("moving_mean")
    names = (("gamma", "weight"), ("beta", "bias"), ("moving_mean", "running_mean"), ("moving_variance", "running_var"))
    wanted = {"gamma": operation.scale, "beta": operation.center}
    for role, key in names:
        if wanted.get(role, True):
            arrays[key] = use.weights.arranged(role, "BatchNormalization", x.flat)
    (count,) = use.weights.shape("moving_mean")
    affine = operation.scale or operation.center
    momentum = _momentum(use)
    comments: list[str] = []
    if (operation.epsilon, momentum) != (1e-5, 0.1):
        comments = use.remark(
            "batch-norm",
            "epsilon and momentum are Keras' (PyTorch's defaults are 1e-5 and 0.1); a momentum of 0.99 in Keras, which "
            "weighs the old value, is 0.01 here.",
        )
    comments += flat_vectors(use, x)
    frozen = _affine(use, arrays, (("weight", "gamma"), ("bias", "beta")), (count,), dtype) if affine else []
    arrays["num_batches_tracked"] = Entry(lambda: np.zeros((), np.int64), "int64")
    rank = max(x.rank - 2, 1)
    settings = f"eps={literal(operation.epsilon)}, momentum={literal(momentum)}"
    first = use.is_new()
    module = use.module(
        f"nn.BatchNorm{rank}d({count}, {settings}{'' if affine else ', affine=False'})", arrays, comments=comments
    )
    _freeze(use, module, frozen, first)
    return x.new(f"{module}({x.text})")


@rule("LayerNormalization")
def layer_normalization(use: Use) -> Held:
    operation = cast("LayerNormalization", use.operation)
    x = use.x
    axes = sorted(normalise_axis(axis, x.rank) for axis in operation.axes)
    scale, center = "gamma" in use.weights, "beta" in use.weights and not operation.rms_scaling
    x = _behind(use, x, axes)
    behind = x.order[x.rank - len(axes) :]
    held = [x.shape[axis] for axis in behind]
    epsilon = literal(operation.epsilon)
    if operation.rms_scaling:
        return _old_rms(use, x, axes, epsilon, scale)
    if None in held and not (scale or center):
        return x.new(f"F.layer_norm({x.text}, {x.text}.shape[-{len(axes)} :], eps={epsilon})")
    known = _known(use, held)
    arrays: dict[str, Entry] = {}
    turn = [axes.index(axis) for axis in behind]
    for key, role, wanted in (("weight", "gamma", scale), ("bias", "beta", center)):
        if wanted:
            arrays[key] = _vector(use, role, "LayerNormalization", x, axes, turn)
    comments = use.remark("layer-norm", "Keras' epsilon; PyTorch's default is 1e-5.") + flat_vectors(use, x)
    settings = f"{dims_of(known)}, eps={epsilon}"
    frozen: list[str] = []
    if not scale and not center:
        settings += ", elementwise_affine=False"
    else:
        dtype = use.weights.dtype("gamma" if scale else "beta")
        frozen = _affine(use, arrays, (("weight", "gamma"),), known, dtype)
        if not center:
            settings += ", bias=False"
    first = use.is_new()
    module = use.module(f"nn.LayerNorm({settings})", arrays, comments=comments)
    _freeze(use, module, frozen, first)
    return x.new(f"{module}({x.text})")


def _known(use: Use, held: Sequence[int | None]) -> tuple[int, ...]:
    if any(size is None for size in held):
        raise use.refuse("it normalises over axes whose sizes the file leaves open")
    return cast("tuple[int, ...]", tuple(held))


def _behind(use: Use, x: Held, axes: Sequence[int]) -> Held:
    """``x`` with the axes that are normalised behind all others, as they stand if they stand there."""
    if x.flat is not None or set(x.order[x.rank - len(axes) :]) == set(axes):
        return x
    turned = x.last(axes)
    use.note(
        "norm-last",
        "PyTorch normalises over the last axes: channels go behind for it, as Keras has them.",
        "Channels last for the normalisation.",
    )
    return turned


def _vector(use: Use, role: str, kind: str, x: Held, axes: Sequence[int], turn: Sequence[int]) -> Entry:
    """Gamma or beta over several axes, in the order in which those are held."""
    if x.flat is not None:
        return use.weights.arranged(role, kind, x.flat)
    # Keras keeps the numbers in the order of the axes in the input, whatever shape it stores them in.
    wanted = [x.shape[axis] for axis in axes]
    return use.weights.entry(role, lambda array: array.reshape(cast("Any", wanted)).transpose(turn))


def _old_rms(use: Use, x: Held, axes: Sequence[int], epsilon: str, scale: bool) -> Held:
    use.note("rms-scaling", "Keras' rms_scaling: divided by the deviation, yet the mean stays and no beta is added.")
    text = x.text if x.text.isidentifier() else use.let(x.text, "inner")
    dims = listed(range(-len(axes), 0))
    factor = f"torch.rsqrt({text}.var(dim=({dims},), correction=0, keepdim=True) + {epsilon})"
    if len(axes) > 1:
        factor = factor.replace(f"({dims},)", f"({dims})")
    if not scale:
        return x.new(f"{text} * {factor}")
    factor = use.let(factor, "factor")
    turn = [sorted(axes).index(axis) for axis in x.order[x.rank - len(axes) :]]
    entry = _vector(use, "gamma", "LayerNormalization", x, sorted(axes), turn)
    known = _known(use, [x.shape[axis] for axis in x.order[x.rank - len(axes) :]])
    return x.new(f"{text} * {factor} * {use.parameter(known, entry, suffix='gamma')}")


@rule("GroupNormalization")
def group_normalization(use: Use) -> Held:
    operation = cast("GroupNormalization", use.operation)
    axis = normalise_axis(operation.axis, use.x.rank)
    if axis == 0:
        raise use.refuse("the batch axis cannot be normalised in groups")
    x = use.x.plain().first([0, axis])
    channels = x.shape[axis]
    if channels is None:
        raise use.refuse("the number of its channels is open")
    groups = channels if operation.groups == -1 else operation.groups
    arrays = {
        key: use.weights.arranged(role, "GroupNormalization")
        for key, role in (("weight", "gamma"), ("bias", "beta"))
        if role in use.weights
    }
    comments = use.remark("group-norm", "Keras' epsilon; PyTorch's default is 1e-5.")
    affine = bool(arrays)
    frozen: list[str] = []
    if affine:
        dtype = next(iter(arrays.values())).dtype
        frozen = _affine(use, arrays, (("weight", "gamma"), ("bias", "beta")), (channels,), dtype)
    settings = f"{groups}, {channels}, eps={literal(operation.epsilon)}{'' if affine else ', affine=False'}"
    first = use.is_new()
    module = use.module(f"nn.GroupNorm({settings})", arrays, comments=comments)
    _freeze(use, module, frozen, first)
    return x.new(f"{module}({x.text})")


@rule("RMSNormalization")
def rms_normalization(use: Use) -> Held:
    operation = cast("Any", use.operation)
    x = use.x
    axes = sorted(normalise_axis(axis, x.rank) for axis in operation.axes)
    epsilon = literal(float(operation.epsilon))
    shape = use.weights.shape("scale")
    if axes == list(range(x.rank - len(axes), x.rank)) and len(shape) == len(axes):
        x = _behind(use, x, axes)
        behind = x.order[x.rank - len(axes) :]
        known = _known(use, [x.shape[axis] for axis in behind])
        turn = [axes.index(axis) for axis in behind]
        entry = _vector(use, "scale", "RMSNormalization", x, axes, turn)
        size = dims_of(known)
        comments = flat_vectors(use, x)
        module = use.module(f"nn.RMSNorm({size}, eps={epsilon})", {"weight": entry}, comments=comments)
        return x.new(f"{module}({x.text})")
    x = x.keras()
    use.note("rms", "Keras spreads the scale over the last axes, whichever axes it normalises.")
    text = x.text if x.text.isidentifier() else use.let(x.text, "inner")
    dims = dims_of(axes)
    factor = use.let(f"torch.rsqrt({text}.square().mean(dim={dims}, keepdim=True) + {epsilon})", "factor")
    return x.new(f"{text} * {factor} * {use.parameter(shape, use.weights.kept('scale'))}")


@rule("UnitNormalization")
def unit_normalization(use: Use) -> Held:
    x = use.x
    operation = cast("Any", use.operation)
    axes = [normalise_axis(axis, x.rank) for axis in operation.axes]
    if x.flat is not None and axes != [1]:
        x = x.plain()
    places = x.places(axes)
    dims = dims_of(places)
    return x.new(f"F.normalize({x.text}, dim={dims}, eps=1e-12)")
