"""Transposed convolutions: Keras' sizes and crops by what nn.ConvTranspose can do, and the rest by hand.

Rule (measured over hundreds of configurations): of the full result, ``(n - 1) s + ke`` long with
``ke = (k - 1) d + 1``, Keras keeps a piece that begins at ``max(full - out, 0) // 2`` under ``same`` and at 0 under
``valid``; how much is left out does not depend on n.
"""

from __future__ import annotations

from typing import cast

from cnnlens.conversion.to_torch.call_site import CallSite, rule
from cnnlens.conversion.to_torch.rules.activations import activated
from cnnlens.conversion.to_torch.rules.padding import alike, constant_pad, to_maps
from cnnlens.conversion.to_torch.rules.shaping import crop
from cnnlens.conversion.to_torch.value import Value
from cnnlens.reference.keras.convolution import TransposedConvolution

__all__: list[str] = []


def _lost(operation: TransposedConvolution, axis: int) -> tuple[int, int]:
    """What Keras leaves out of the full result in front and behind; negative: what it adds."""
    stride = operation.strides[axis]
    extent = (operation.kernel_size[axis] - 1) * operation.dilation[axis] + 1
    (wanted,) = cast("tuple[int]", operation.sizes((9,) * operation.rank)[axis : axis + 1])
    total = 8 * stride + extent - wanted
    left = max(total, 0) // 2 if operation.padding == "same" else 0
    return left, total - left


@rule("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def transposed(site: CallSite) -> Value:
    operation = cast("TransposedConvolution", site.operation)
    rank, kind = operation.rank, f"Conv{operation.rank}DTranspose"
    x = to_maps(site, site.x, rank, operation.channels_first)
    filters, channels = site.weights.shape("kernel")[-2:]
    lost = [_lost(operation, axis) for axis in range(rank)]
    # nn.ConvTranspose leaves out p on both sides and adds output_padding behind.
    pads = tuple(left for left, _ in lost)
    extra = [left - right for left, right in lost]
    widest = [max(pair) for pair in zip(operation.strides, operation.dilation, strict=True)]
    by_hand = any(more >= most for more, most in zip(extra, widest, strict=True))
    cut = {axis + 2: (0, -more) for axis, more in enumerate(extra) if more < 0}
    added = tuple(max(more, 0) for more in extra) if not by_hand else (0,) * rank
    settings = ""
    for name, numbers, default in (
        ("stride", operation.strides, 1),
        ("padding", pads, 0),
        ("output_padding", added, 0),
        ("dilation", operation.dilation, 1),
    ):
        if any(number != default for number in numbers):
            settings += f", {name}={alike(numbers)}"
    own_bias = operation.use_bias and not by_hand
    if not own_bias:
        settings += ", bias=False"
    arrays = {"weight": site.weights.arranged("kernel", kind)}
    if own_bias:
        arrays["bias"] = site.weights.arranged("bias", kind)
    module = site.module(
        f"nn.ConvTranspose{rank}d({channels}, {filters}, {alike(operation.kernel_size)}{settings})", arrays
    )
    text = f"{module}({x.text})"
    if cut:
        site.note(
            "crop",
            "A transposed convolution is cropped by Keras: where the odd one is left out behind, PyTorch's padding "
            "cannot say so, and it is cut off here.",
            "Keras' crop: the odd one behind.",
        )
        text = f"{text}[{crop(rank + 2, cut)}]"
    if by_hand:
        site.note("extend", "Keras' result is longer than PyTorch's may be: zeros behind it, then the bias.")
        text = constant_pad(text, tuple((0, max(more, 0)) for more in extra))
        if operation.use_bias:
            bias = site.parameter((filters,), site.weights.arranged("bias", kind), suffix="bias")
            text = f"{text} + {bias}[:{', None' * rank}]"
            if site.config.get("activation") not in (None, "linear"):
                text = site.let(text, "wide")
    order = x.order
    return activated(site, Value(text, site.shape, order, site.axis), site.config.get("activation"))
