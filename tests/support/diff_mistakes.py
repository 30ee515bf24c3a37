"""Mistakes as people make them when they move weights, planted in one model of a pair.

Each says for which arrays it can be made, what it makes of an array (in PyTorch's layout, in Keras', or both), and
under which words the detective must name it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from tests.support.diff_models import Array, Layer, to_keras, to_torch

Change = Callable[[Layer, str, Array], Array]


@dataclass(frozen=True)
class Mistake:
    """One kind of mistake.

    Attributes:
        tags: The words under which it may be named, one of them.
        kinds: The kinds of layer that it happens to; ``roles``: to which arrays.
        torch: What it makes of a right array in PyTorch's layout: what stands in the PyTorch file.
        keras: What it makes of a right array in Keras' layout; None where ``torch`` says it.
        rounding: Relative to what the line may be off: 0 for bit for bit.
    """

    tags: tuple[str, ...]
    kinds: tuple[str, ...]
    torch: Change
    keras: Change | None = None
    roles: tuple[str, ...] = ("kernel",)
    rounding: float = 0.0
    flat: bool = False
    several_taps: bool = False

    def happens(self, layer: Layer, role: str, array: Array) -> bool:
        """Whether it changes this array at all: a flip of one tap is no mistake."""
        if layer.kind not in self.kinds or role not in self.roles or (self.flat and not layer.flat):
            return False
        if self.several_taps and layer.taps == (1, 1):
            return False
        right = to_torch(layer, role, array)
        made = self.torch(layer, role, right)
        changed = made.shape != right.shape or not np.array_equal(made, right)
        if self.keras is not None:
            other = self.keras(layer, role, array)
            changed = changed and (other.shape != array.shape or not np.array_equal(other, array))
        return changed

    def in_torch(self, layer: Layer, role: str, array: Array) -> Array:
        """From a right Keras array to the wrong PyTorch one."""
        return np.ascontiguousarray(self.torch(layer, role, to_torch(layer, role, array)))

    def in_keras(self, layer: Layer, role: str, array: Array) -> Array:
        """From a right Keras array to the wrong Keras one."""
        if self.keras is not None:
            return np.ascontiguousarray(self.keras(layer, role, array))
        return np.ascontiguousarray(to_keras(layer, role, self.torch(layer, role, to_torch(layer, role, array))))


def _simple(change: Callable[[Array], Array]) -> Change:
    return lambda layer, role, array: change(array)


def _flat_order(order: tuple[int, ...]) -> tuple[Change, Change]:
    """The flattened axis in another order of (C, H, W), as a PyTorch file and as a Keras file would hold it."""

    def in_torch(layer: Layer, role: str, array: Array) -> Array:
        assert layer.flat is not None
        height, width, channels = layer.flat
        if role == "kernel":
            box = array.reshape(array.shape[0], channels, height, width)
            return box.transpose(0, *(1 + axis for axis in order)).reshape(array.shape[0], -1)
        return array.reshape(channels, height, width).transpose(order).reshape(-1)

    def in_keras(layer: Layer, role: str, array: Array) -> Array:
        # Of (H, W, C), which is Keras' own order.
        assert layer.flat is not None
        box = array.reshape(*layer.flat, -1).transpose(*order, 3)
        return box.reshape(array.shape)

    return in_torch, in_keras


def _bfloat16(array: Array) -> Array:
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def _float16(array: Array) -> Array:
    return array.astype(np.float16).astype(np.float32)


def int8(array: Array, channels: bool) -> Array:
    """Symmetric steps of eight bits, one for all or one for each output channel (the first axis)."""
    largest = np.abs(array).max(axis=tuple(range(1, array.ndim)), keepdims=True) if channels else np.abs(array).max()
    step = (largest / 127).astype(np.float32)
    return (np.round(array / step) * step).astype(np.float32)


def int8_affine(array: Array) -> Array:
    low, high = min(float(array.min()), 0.0), max(float(array.max()), 0.0)
    step = np.float32((high - low) / 255)
    zero = np.round(-low / step)
    return ((np.clip(np.round(array / step) + zero, 0, 255) - zero) * step).astype(np.float32)


def permutation(size: int, seed: int = 5) -> Array:
    """An order of ``size`` things that is not the old one."""
    order = np.random.default_rng([size, seed]).permutation(size)
    return np.roll(order, 1) if (order == np.arange(size)).all() else order


def _scales(array: Array) -> Array:
    factors = np.random.default_rng(len(array)).uniform(0.3, 3.0, len(array)).astype(np.float32)
    factors[::3] *= -1
    return array * factors.reshape(-1, *(1,) * (array.ndim - 1))


_CONVS = ("conv", "depthwise")
_KERNELS = ("conv", "depthwise", "dense")

MISTAKES: dict[str, Mistake] = {
    "height and width swapped": Mistake(("hw",), _CONVS, _simple(lambda w: w.transpose(0, 1, 3, 2))),
    "flipped on H": Mistake(("flip:H",), _CONVS, _simple(lambda w: w[:, :, ::-1])),
    "flipped on W": Mistake(("flip:W",), _CONVS, _simple(lambda w: w[:, :, :, ::-1])),
    "flipped on both": Mistake(("flip:HW",), _CONVS, _simple(lambda w: w[:, :, ::-1, ::-1])),
    "HWIO poured into OIHW": Mistake(
        ("reshape",), ("conv",),
        lambda layer, role, w: w.transpose(2, 3, 1, 0).reshape(w.shape),
        lambda layer, role, k: k.transpose(3, 2, 0, 1).reshape(k.shape),
    ),
    "OHWI poured into OIHW": Mistake(
        ("reshape",), ("conv",),
        lambda layer, role, w: w.transpose(0, 2, 3, 1).reshape(w.shape),
        lambda layer, role, k: k.transpose(3, 0, 1, 2).reshape(k.shape),
    ),
    "a Dense kernel poured": Mistake(
        ("reshape", "io"), ("dense",),
        lambda layer, role, w: to_keras(layer, role, w).reshape(w.shape),
        lambda layer, role, k: to_torch(layer, role, k).reshape(k.shape),
    ),
    "in and out swapped": Mistake(
        ("io",), ("conv", "dense"), lambda layer, role, w: w.swapaxes(0, 1),
        lambda layer, role, k: k.swapaxes(-1, -2),
    ),
    "input channels reversed": Mistake(("bgr",), ("conv",), _simple(lambda w: w[:, ::-1])),
    **{
        f"flattened as {''.join('CHW'[axis] for axis in order)}": Mistake(
            ("flatten",), ("dense",), *_flat_order(order), flat=True
        )
        for order in permutations(range(3)) if order != (0, 1, 2)
    },
    "vectors behind the Flatten left as they were": Mistake(
        ("flatten",), ("norm",), *_flat_order((1, 2, 0)), roles=("gamma", "beta", "moving_mean", "moving_variance"),
        flat=True,
    ),
    "output channels permuted": Mistake(
        ("permuted:out",), ("conv", "dense"), _simple(lambda w: w[permutation(len(w))])
    ),
    "input channels permuted": Mistake(
        ("permuted:in", "bgr"), ("conv",), _simple(lambda w: w[:, permutation(w.shape[1])])
    ),
    "both permuted": Mistake(
        ("permuted",), ("conv", "dense"),
        _simple(lambda w: w[permutation(len(w))][:, permutation(w.shape[1], 6)]),
    ),
    "scaled": Mistake(("scaled",), _KERNELS, _simple(lambda w: w * np.float32(1 / 255)), rounding=1e-6),
    "negated": Mistake(("scaled",), _KERNELS, _simple(np.negative), rounding=1e-6),
    "scaled by channels": Mistake(("scaled",), ("conv", "dense"), _simple(_scales), rounding=1e-6),
    "rounded to float16": Mistake(("rounded:float16",), _KERNELS, _simple(_float16), rounding=2e-3),
    "rounded to bfloat16": Mistake(("rounded:bfloat16",), _KERNELS, _simple(_bfloat16), rounding=8e-3),
    "int8, one step": Mistake(("rounded:int8",), _KERNELS, _simple(lambda w: int8(w, False)), rounding=-1),
    "int8, a step a channel": Mistake(
        ("rounded:int8",), ("conv", "dense"), _simple(lambda w: int8(w, True)), rounding=-1
    ),
    "int8, affine": Mistake(("rounded:int8",), _KERNELS, _simple(int8_affine), rounding=-1),
    "swapped and rounded": Mistake(
        ("hw+rounded:float16",), _CONVS, _simple(lambda w: _float16(w.transpose(0, 1, 3, 2))),
        rounding=2e-3, several_taps=True
    ),
    "flipped and scaled": Mistake(
        ("flip:HW+scaled",), _CONVS, _simple(lambda w: w[:, :, ::-1, ::-1] * np.float32(0.5)),
        rounding=1e-6, several_taps=True
    ),
    "flipped and permuted": Mistake(
        ("flip:HW+permuted:out",), ("conv",), _simple(lambda w: w[permutation(len(w)), :, ::-1, ::-1]),
        several_taps=True
    ),
    "swapped and flipped": Mistake(
        ("hw+flip:H", "hw+flip:W"), _CONVS, _simple(lambda w: w.transpose(0, 1, 3, 2)[:, :, ::-1]), several_taps=True
    ),
    "flattened otherwise and rounded": Mistake(
        ("flatten+rounded:bfloat16",), ("dense",),
        lambda layer, role, w: _bfloat16(np.ascontiguousarray(_flat_order((1, 2, 0))[0](layer, role, w))),
        lambda layer, role, k: _bfloat16(np.ascontiguousarray(_flat_order((1, 2, 0))[1](layer, role, k))),
        flat=True, rounding=8e-3,
    ),
    "poured and int8": Mistake(
        ("reshape+rounded:int8",), ("conv",),
        lambda layer, role, w: int8(w.transpose(2, 3, 1, 0).reshape(w.shape), False),
        lambda layer, role, k: int8(k.transpose(3, 2, 0, 1).reshape(k.shape), False),
        rounding=-1, several_taps=True,
    ),
    "multiplier counted first": Mistake(
        ("multiplier",), ("depthwise",),
        lambda layer, role, w: w.reshape(layer.inputs, layer.outputs, *w.shape[1:]).swapaxes(0, 1).reshape(w.shape),
    ),
}  # fmt: skip
