"""Keras' ``same`` padding in PyTorch: as an argument where both sides are alike, else in front of the layer.

Measured against Keras 3.15.1: total = max((ceil(n / s) - 1) s + (k - 1) d + 1 - n, 0), and the odd one is behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnnlens.conversion.to_torch.call_site import CallSite
from cnnlens.conversion.to_torch.value import Value, listed, shown
from cnnlens.network.graph import Shape
from cnnlens.reference.arithmetic.patches import same_padding

__all__ = ["Padding", "alike", "constant_pad", "padding_of", "to_maps"]


@dataclass(frozen=True)
class Padding:
    """Says what a layer pads: ``argument`` is PyTorch's own if it suffices, else ``pads`` (before, after) an axis.

    ``open`` where sizes are not known, so that it is worked out at run time.
    """

    argument: tuple[int, ...] | None = None
    pads: tuple[tuple[int, int], ...] | None = None
    open: bool = False

    def by_size(self, site: CallSite, strides: Sequence[int]) -> list[str]:
        """Write a comment where PyTorch's own padding is right for this size of input alone."""
        if self.argument is None or all(stride == 1 for stride in strides):
            return []
        text = "Keras' 'same' depends on the size of the input; for this one both sides are alike."
        return site.remark("same-size", text)


def padding_of(
    mode: str, sizes: Shape, kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> Padding:
    """Work out the padding of a convolution or a pooling over inputs of ``sizes``."""
    if mode == "valid":
        return Padding()
    if mode == "causal":
        pads = tuple(((size - 1) * gap, 0) for size, gap in zip(kernel, dilation, strict=True))
        return Padding(pads=pads) if any(before for before, _ in pads) else Padding()
    found: list[tuple[int, int]] = []
    for size, tap, stride, gap in zip(sizes, kernel, strides, dilation, strict=True):
        if size is None and stride > 1:
            if (tap - 1) * gap + 1 > 1:
                return Padding(open=True)
            found.append((0, 0))
        else:
            # At stride 1 the padding is the same for every size.
            found.append(same_padding(size or 1, tap, stride, gap))
    if not any(before or after for before, after in found):
        return Padding()
    if all(before == after for before, after in found):
        return Padding(argument=tuple(before for before, _ in found))
    return Padding(pads=tuple(found))


def to_maps(site: CallSite, value: Value, rank: int, channels_first: bool) -> Value:
    """Bring ``value`` to ``(N, C, *spatial)``, which is what PyTorch's layers over maps take."""
    if value.rank != rank + 2:
        raise site.refuse(f"expected an input of {rank + 2} axes, got {value.rank}")
    order = tuple(range(rank + 2)) if channels_first else (0, rank + 1, *range(1, rank + 1))
    return value.ordered(order)


def spatial(shape: Shape, channels_first: bool) -> Shape:
    return shape[2:] if channels_first else shape[1:-1]


def constant_pad(text: str, pads: Sequence[tuple[int, int]], value: str = "") -> str:
    """Write ``F.pad`` over the last axes: PyTorch counts from the last axis to the first."""
    numbers = [number for pair in reversed(pads) for number in pair]
    return f"F.pad({text}, ({listed(numbers)}){f', value={value}' if value else ''})"


def alike(numbers: Sequence[int]) -> str:
    """Write one number where all are equal, else a tuple."""
    return str(numbers[0]) if len(set(numbers)) == 1 else shown(tuple(numbers))


def padded(site: CallSite, x: Value, plan: Padding, kernel: Sequence[int], strides: Sequence[int],
           dilation: Sequence[int], value: str = "") -> str:  # fmt: skip
    """The text of ``x`` with what PyTorch's own argument cannot pad, and a comment that says so."""
    if plan.open:
        helper = site.helper("same_pad")
        site.note(
            "same-open", "Keras pads 'same' by the size of the input, which is open here: worked out at run time."
        )
        more = f", dilation={shown(tuple(dilation))}" if any(gap > 1 for gap in dilation) else ""
        more += f", value={value}" if value else ""
        return f"{helper}({x.text}, {shown(tuple(kernel))}, {shown(tuple(strides))}{more})"
    if plan.pads is None:
        return x.text
    causal = all(after == 0 for _, after in plan.pads)
    if causal and len(plan.pads) == 1:
        site.note("causal", "Keras' 'causal' padding: in front only, so that no step sees a later one.", "Causal.")
    elif value:
        site.note(
            "same-max",
            "Keras' 'same' takes the odd row and column behind; -inf is padded, for a zero could be the maximum.",
            "'same' padding, the odd one behind.",
        )
    else:
        site.note(
            "same",
            "Keras' 'same' padding, unlike on both sides (the odd one is behind): F.pad takes (left, right, top, "
            "bottom) in 2-D, the last axis first. It depends on the size of the input.",
            "'same' padding, unlike on both sides.",
        )
    return constant_pad(x.text, plan.pads, value)
