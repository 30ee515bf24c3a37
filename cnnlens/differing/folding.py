"""A batch norm that one model has and the other has folded into the layer in front of it, or into the one behind it.

The kernel's output channels (its input channels, behind it) then differ by gamma / sqrt(variance + epsilon) and the
bias by the rest; both are computed back, and the epsilon that does it is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnnlens.differing.cause import Cause, Causes, Kind, Status
from cnnlens.differing.finding import Finding
from cnnlens.differing.hypotheses.scales import Fold, fold
from cnnlens.differing.items import Item
from cnnlens.differing.moves import Chain
from cnnlens.differing.parts import Part
from cnnlens.differing.proof import Line, identifier, proven

__all__ = ["Folded", "unfold"]

Array: TypeAlias = NDArray[Any]

_ALLOWED = 2e-5  # relative error of a factor: float32's rounding of a kernel's few elements, and of the fold itself
_VECTORS = ("gamma", "beta", "moving_mean", "moving_variance")


@dataclass(frozen=True)
class Folded:
    """Says what a fold explains.

    Attributes:
        kernel, bias: The findings that take the place of the old ones; ``bias`` None where neither has one.
        norm: About the batch norm's own arrays.
    """

    kernel: Finding
    bias: Finding | None
    norm: Cause


def unfold(pair: tuple[Part, Part], norm: Part, side: str, found: Finding, axis: int = 0) -> Folded | None:
    """Tell whether ``norm``, which only ``side`` ("A" or "B") has, was folded into the pair's other part.

    Args:
        pair: The two convolutions, A's first.
        found: What was found out about their kernels: factors for each channel.
        axis: 0 where the norm stands behind them (its factors are the output channels'), 1 where in front.
    """
    a, b = pair[0].kernel, pair[1].kernel
    factors = _factors(found, a, axis)
    if a is None or b is None or factors is None or found.chain is None:
        return None
    vectors = {role: norm.items[role].stored.reshape(-1) for role in _VECTORS if role in norm.items}
    wide = {role: array.astype(np.float64) for role, array in vectors.items()}
    with np.errstate(all="ignore"):
        folded = fold(factors if side == "B" else 1 / factors, wide, _ALLOWED)
    if folded is None:
        return None
    kernel = _kernel_line(a, b, found.chain, vectors, folded.epsilon, side, axis)
    if kernel is None:
        return None
    made = _bias if axis == 0 else _bias_behind
    bias = made(pair, vectors, folded.epsilon, side, found.chain)
    kept = tuple(one for one in found.causes if one.kind is not Kind.SCALED)

    def causes(of: Fold) -> Causes:
        fields = (("norm", norm.name), ("side", side), ("axis", axis), ("epsilon", of.epsilon), ("alike", of.alike),
                  ("taps", any(size > 1 for size in a.shape[2:])))  # fmt: skip
        return (*kept, Cause(Kind.FOLDED, "", fields))

    detail = {"epsilon": folded.epsilon, "alike": list(folded.alike), "norm": norm.name, "side": side,
              "axis": axis}  # fmt: skip
    told, certain = causes(folded), causes(replace(folded, alike=()))
    finding = Finding(Status.EXPLAINED, told, kernel, folded.worst, found.chain, found.kinship,
                      detail=detail, certain=certain)  # fmt: skip
    name = (pair[1] if side == "A" else pair[0]).name
    fields = (("into", name), ("side", side), ("axis", axis), ("epsilon", folded.epsilon), ("alike", folded.alike))
    return Folded(finding, bias, Cause(Kind.FOLDED, "", fields))


def _shift(status: Status, where: str, line: Line | None = None, off: float = 0.0) -> Finding:
    """The finding about a bias that a fold changes: where the batch norm's shift is, and how far it is off."""
    return Finding(status, (Cause(Kind.FOLDED, "", (("shift", where), ("off", off))),), line, off)


def _factors(found: Finding, kernel: Item | None, axis: int) -> Array | None:
    if kernel is None or not found.has(Kind.SCALED):
        return None
    factors = np.asarray(found.detail["factors"], np.float64)
    if found.detail["axis"] is None:
        return np.repeat(factors, kernel.shape[axis])
    return factors if found.detail["axis"] == axis else None


def _along(item: Item, axis: int) -> tuple[int, ...] | None:
    """The shape in which a vector of channels goes along with the stored array; None where they are merged."""
    where = item.stored_axis(axis)
    if where is None:
        return None
    return tuple(-1 if axis == where else 1 for axis in range(len(item.chain.source)))


def _kernel_line(
    a: Item, b: Item, chain: Chain, vectors: Mapping[str, Array], epsilon: float, side: str, axis: int
) -> Line | None:
    variable = identifier(b.place.rpartition("/")[2])
    target = identifier(a.place.rpartition("/")[2])
    shape = _along(a, axis)
    moved, names = chain.text(variable)
    if shape is None:
        return None
    root = f"np.sqrt(moving_variance + {epsilon!r})" if epsilon else "np.sqrt(moving_variance)"
    gamma = "gamma" if "gamma" in vectors else "1"
    factor = f"({root} / {gamma})" if side == "A" else f"({gamma} / {root})"
    if shape[-1] != -1:
        factor += f".reshape({', '.join(map(str, shape))})"
    line = Line(target, f"{moved} * {factor}", names, "to float32's rounding")
    return proven(line, {variable: b.stored, **_wide(vectors)}, a.stored, _close)


def _wide(vectors: Mapping[str, Array]) -> dict[str, Array]:
    return {role: array.astype(np.float64) for role, array in vectors.items()}


def _close(made: Array, wanted: Array) -> bool:
    x = wanted.astype(np.float64)
    size = np.abs(x) + 1e-6 * float(np.sqrt(np.square(x).mean())) if x.size else x
    return bool((np.abs(made - x) <= _ALLOWED * size).all())


def _bias(pair: tuple[Part, Part], vectors: Mapping[str, Array], epsilon: float, side: str, _: Chain) -> Finding | None:
    """What became of the biases: the one behind the fold holds the batch norm's shift as well."""
    plain, holder = (pair[0], pair[1]) if side == "A" else (pair[1], pair[0])
    if "bias" not in holder.items:
        return _shift(Status.DIFFERS, "missing", off=1.0)
    wide = _wide(vectors)
    gamma = wide.get("gamma", np.ones_like(wide["moving_variance"]))
    mean, beta = wide.get("moving_mean", 0.0), wide.get("beta", 0.0)
    root = np.sqrt(wide["moving_variance"] + epsilon)
    held = holder.items["bias"].stored.astype(np.float64)
    own = plain.items["bias"].stored.astype(np.float64) if "bias" in plain.items else 0.0
    wanted = beta + (own - mean) * gamma / root
    size = np.abs(beta) + (np.abs(own) + np.abs(mean)) * np.abs(gamma / root)
    if held.shape != np.shape(wanted) or not (np.abs(held - wanted) <= 1e-5 * size).all():
        off = float(np.sqrt(np.square(held - wanted).sum() / max(float(np.square(wanted).sum()), 1e-300)))
        return _shift(Status.DIFFERS, "wrong", off=off)
    line: Line | None = None
    if "bias" in pair[0].items and "bias" in pair[1].items:
        a, b = pair[0].items["bias"], pair[1].items["bias"]
        names = {"bias": b.stored.astype(np.float64), **wide, "gamma": gamma}
        spread = f"np.sqrt(moving_variance + {epsilon!r})"
        made = f"(bias - beta) * {spread} / gamma + moving_mean" if side == "A" else (
            f"beta + (bias - moving_mean) * gamma / {spread}")  # fmt: skip
        names = {"beta": np.zeros(()), "moving_mean": np.zeros(()), **names}

        def near(got: Array, expected: Array) -> bool:
            slack = 1e-5 * (np.abs(expected) + np.abs(np.asarray(size * root / gamma if side == "A" else size)))
            return bool((np.abs(got - expected) <= slack).all())

        line = proven(Line(identifier(a.place), made, held="to float32's rounding"), names, a.stored, near)
    return _shift(Status.EXPLAINED, "held", line)


def _bias_behind(
    pair: tuple[Part, Part], vectors: Mapping[str, Array], epsilon: float, side: str, chain: Chain
) -> Finding | None:
    """What became of the biases where the batch norm stood in front: its shift came through the kernel."""
    plain, holder = (pair[0], pair[1]) if side == "A" else (pair[1], pair[0])
    if "bias" not in holder.items:
        return _shift(Status.DIFFERS, "missing", off=1.0)
    wide = _wide(vectors)
    nothing = np.zeros_like(wide["moving_variance"])
    wide = {"gamma": nothing + 1, "beta": nothing, "moving_mean": nothing, **wide}
    kernel = plain.items["kernel"]
    weights = np.moveaxis(kernel.chain.apply(kernel.stored).astype(np.float64), 1, -1)
    shift = wide["beta"] - wide["moving_mean"] * wide["gamma"] / np.sqrt(wide["moving_variance"] + epsilon)
    taps = tuple(range(1, weights.ndim))
    held = holder.items["bias"].stored.astype(np.float64)
    own = plain.items["bias"].stored.astype(np.float64) if "bias" in plain.items else 0.0
    wanted = own + (weights * shift).sum(axis=taps)
    size = np.abs(own) + (np.abs(weights) * np.abs(shift)).sum(axis=taps)
    if held.shape != np.shape(wanted) or not (np.abs(held - wanted) <= _ALLOWED * size).all():
        off = float(np.sqrt(np.square(held - wanted).sum() / max(float(np.square(wanted).sum()), 1e-300)))
        return _shift(Status.DIFFERS, "wrong", off=off)
    line: Line | None = None
    if "bias" in plain.items:
        a, b = pair[0].items["bias"], pair[1].items["bias"]
        line = _shift_line((pair[0].items["kernel"], pair[1].items["kernel"]), (a, b), chain, wide, epsilon, side, size)
    return _shift(Status.EXPLAINED, "held through the kernel", line)


def _shift_line(
    kernels: tuple[Item, Item], biases: tuple[Item, Item], chain: Chain, wide: Mapping[str, Array], epsilon: float,
    side: str, size: Array,
) -> Line | None:  # fmt: skip
    shape, out = _along(kernels[0], 1), kernels[0].stored_axis(0)
    if shape is None or out is None:
        return None
    variable = identifier(kernels[1].place.rpartition("/")[2])
    moved, names = chain.text(variable)
    root = f"np.sqrt(moving_variance + {epsilon!r})"
    sign, shift = ("-", f"beta * {root} / gamma - moving_mean") if side == "A" else (
        "+", f"beta - moving_mean * gamma / {root}")  # fmt: skip
    others = tuple(axis for axis in range(len(shape)) if axis != out)
    text = f"bias {sign} ({moved} * ({shift}).reshape({', '.join(map(str, shape))})).sum({others})"

    def near(made: Array, wanted: Array) -> bool:
        return bool((np.abs(made - wanted) <= _ALLOWED * size).all())

    arrays = {variable: kernels[1].stored, "bias": biases[1].stored.astype(np.float64), **wide}
    return proven(
        Line(identifier(biases[0].place), text, names, "to float32's rounding"), arrays, biases[0].stored, near
    )
