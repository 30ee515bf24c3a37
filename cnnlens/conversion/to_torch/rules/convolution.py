"""Convolutions: plain, grouped, depthwise and separable, in one to three dimensions."""

from __future__ import annotations

from typing import cast

from cnnlens.conversion.to_torch.call_site import CallSite, rule
from cnnlens.conversion.to_torch.rules.activations import activated
from cnnlens.conversion.to_torch.rules.padding import Padding, alike, padded, padding_of, spatial, to_maps
from cnnlens.conversion.to_torch.value import Value
from cnnlens.conversion.to_torch.weights import Entry
from cnnlens.reference.keras.convolution import Convolution, DepthwiseConvolution, SeparableConvolution

__all__: list[str] = []

Spatial = Convolution | DepthwiseConvolution | SeparableConvolution


def _plan(site: CallSite, operation: Spatial) -> Padding:
    sizes = spatial(site.x.shape if site.seen is None else site.seen, operation.channels_first)
    return padding_of(operation.padding, sizes, operation.kernel_size, operation.strides, operation.dilation)


def _settings(operation: Spatial, plan: Padding, *, groups: int = 1, bias: bool = True) -> str:
    """The arguments behind the kernel size, those at PyTorch's defaults left out."""
    parts: list[str] = []
    if any(stride != 1 for stride in operation.strides):
        parts.append(f"stride={alike(operation.strides)}")
    if plan.argument is not None:
        parts.append(f"padding={alike(plan.argument)}")
    if any(gap != 1 for gap in operation.dilation):
        parts.append(f"dilation={alike(operation.dilation)}")
    if groups != 1:
        parts.append(f"groups={groups}")
    if not bias:
        parts.append("bias=False")
    return "".join(f", {part}" for part in parts)


def _applied(site: CallSite, operation: Spatial, plan: Padding, x: Value, module: str) -> str:
    text = padded(site, x, plan, operation.kernel_size, operation.strides, operation.dilation)
    return f"{module}({text})"


def _result(site: CallSite, operation: Spatial, text: str) -> Value:
    shape = site.shape
    rank = len(shape)
    order = tuple(range(rank)) if operation.channels_first else (0, rank - 1, *range(1, rank - 1))
    # Before the activation, which may halve an axis, the shape's numbers do not matter.
    return activated(site, Value(text, shape, order, site.axis), site.config.get("activation"))


@rule("Conv1D", "Conv2D", "Conv3D")
def convolution(site: CallSite) -> Value:
    operation = cast("Convolution", site.operation)
    kind, rank = f"Conv{operation.rank}D", operation.rank
    x = to_maps(site, site.x, rank, operation.channels_first)
    kernel = site.weights.shape("kernel")
    arrays = {"weight": site.weights.arranged("kernel", kind)}
    if operation.use_bias:
        arrays["bias"] = site.weights.arranged("bias", kind)
    plan = _plan(site, operation)
    channels = kernel[-2] * operation.groups
    settings = _settings(operation, plan, groups=operation.groups, bias=operation.use_bias)
    text = f"nn.Conv{rank}d({channels}, {kernel[-1]}, {alike(kernel[:-2])}{settings})"
    module = site.module(text, arrays, comments=plan.by_size(site, operation.strides))
    return _result(site, operation, _applied(site, operation, plan, x, module))


@rule("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise(site: CallSite) -> Value:
    operation = cast("DepthwiseConvolution", site.operation)
    kind, rank = f"DepthwiseConv{operation.rank}D", operation.rank
    x = to_maps(site, site.x, rank, operation.channels_first)
    role = site.weights.first("kernel", "depthwise_kernel")
    channels, multiplier = site.weights.shape(role)[-2:]
    arrays = {"weight": site.weights.arranged(role, kind)}
    if operation.use_bias:
        arrays["bias"] = site.weights.arranged("bias", kind)
    plan = _plan(site, operation)
    settings = _settings(operation, plan, groups=channels, bias=operation.use_bias)
    text = f"nn.Conv{rank}d({channels}, {channels * multiplier}, {alike(operation.kernel_size)}{settings})"
    comments = plan.by_size(site, operation.strides)
    if multiplier > 1:
        comments += site.remark("multiplier", f"Output channel c * {multiplier} + m belongs to input channel c.")
    module = site.module(text, arrays, comments=comments)
    return _result(site, operation, _applied(site, operation, plan, x, module))


@rule("SeparableConv1D", "SeparableConv2D")
def separable(site: CallSite) -> Value:
    operation = cast("SeparableConvolution", site.operation)
    kind, rank = f"SeparableConv{operation.rank}D", operation.rank
    x = to_maps(site, site.x, rank, operation.channels_first)
    channels, multiplier = site.weights.shape("depthwise_kernel")[-2:]
    plan = _plan(site, operation)
    settings = _settings(operation, plan, groups=channels, bias=False)
    first = f"nn.Conv{rank}d({channels}, {channels * multiplier}, {alike(operation.kernel_size)}{settings})"
    taps = {"weight": site.weights.arranged("depthwise_kernel", kind)}
    comments = site.remark(
        "separable",
        "A separable convolution is two: one for each channel alone, then one of a single tap over all of them. "
        "Bias and activation belong to the second.",
    )
    comments += plan.by_size(site, operation.strides)
    spread = site.module(first, taps, suffix="depthwise", comments=comments, main=False)
    arrays: dict[str, Entry] = {"weight": site.weights.arranged("pointwise_kernel", kind)}
    if operation.use_bias:
        arrays["bias"] = site.weights.arranged("bias", kind)
    bias = "" if operation.use_bias else ", bias=False"
    second = f"nn.Conv{rank}d({channels * multiplier}, {operation.filters}, 1{bias})"
    mixed = site.module(second, arrays, suffix="pointwise")
    return _result(site, operation, f"{mixed}({_applied(site, operation, plan, x, spread)})")
