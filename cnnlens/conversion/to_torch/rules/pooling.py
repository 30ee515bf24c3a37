"""Pooling over windows, over everything, and to a wanted number of windows."""

from __future__ import annotations

from typing import cast

from cnnlens.conversion.to_torch.call_site import CallSite, rule
from cnnlens.conversion.to_torch.rules.padding import Padding, alike, constant_pad, padded, padding_of, spatial, to_maps
from cnnlens.conversion.to_torch.value import Value, listed
from cnnlens.reference.keras.pooling import AdaptivePooling, GlobalPooling, Pooling

__all__: list[str] = []


@rule(*(f"{name}Pooling{rank}D" for name in ("Max", "Average") for rank in (1, 2, 3)))
def pooling(site: CallSite) -> Value:
    operation = cast("Pooling", site.operation)
    rank = operation.rank
    x = to_maps(site, site.x, rank, operation.channels_first)
    seen = site.x.shape if site.seen is None else site.seen
    ones = (1,) * rank
    sizes = spatial(seen, operation.channels_first)
    plan = padding_of(operation.padding, sizes, operation.window, operation.strides, ones)
    result = Value("", site.shape, x.order, site.axis)
    window = alike(operation.window)
    if operation.strides != operation.window:
        window += f", stride={alike(operation.strides)}"
    if operation.maximum:
        if plan.argument is not None:
            window += f", padding={alike(plan.argument)}"
        module = site.module(f"nn.MaxPool{rank}d({window})", comments=plan.by_size(site, operation.strides))
        text = padded(site, x, plan, operation.window, operation.strides, ones, '-float("inf")')
        return result.new(f"{module}({text})")
    if plan.argument is not None:
        comments = site.remark(
            "average-count",
            "Keras divides by the cells that are there, not by the size of the window.",
            "Divided by the cells that are there.",
        )
        window += f", padding={alike(plan.argument)}, count_include_pad=False"
        return result.new(f"{site.module(f'nn.AvgPool{rank}d({window})', comments=comments)}({x.text})")
    module = site.module(f"nn.AvgPool{rank}d({window})")
    if plan == Padding():
        return result.new(f"{module}({x.text})")
    site.note(
        "average-count-uneven",
        "Keras' average under 'same' divides by the cells that are there: the mean with zeros padded, over the share "
        "of the window that is no padding.",
        "Divided by the cells that are there.",
    )
    if plan.open:
        helper = site.helper("same_pad")
        more = f"{operation.window}, {operation.strides}"
        one = x.text if x.text.isidentifier() else site.let(x.text, "maps")
        top = f"{module}({helper}({one}, {more}))"
        bottom = f"{module}({helper}(torch.ones_like({one}[:1, :1]), {more}))"
    else:
        one = x.text if x.text.isidentifier() else site.let(x.text, "maps")
        assert plan.pads is not None
        top = f"{module}({constant_pad(one, plan.pads)})"
        bottom = f"{module}({constant_pad(f'torch.ones_like({one}[:1, :1])', plan.pads)})"
    share = site.let(bottom, "share")
    return result.new(f"{top} / {share}")


@rule(*(f"Global{name}Pooling{rank}D" for name in ("Max", "Average") for rank in (1, 2, 3)))
def global_pooling(site: CallSite) -> Value:
    operation = cast("GlobalPooling", site.operation)
    x = site.x
    axes = operation.axes(x.rank)
    dims = listed(x.places(axes))
    dims = f"({dims})" if len(axes) > 1 else dims
    keep = ", keepdim=True" if operation.keepdims else ""
    name = "amax" if operation.maximum else "mean"
    order = x.order if operation.keepdims else x.without(axes)
    return Value(f"{x.text}.{name}(dim={dims}{keep})", site.shape, order, site.axis)


@rule(*(f"Adaptive{name}Pooling{rank}D" for name in ("Max", "Average") for rank in (1, 2, 3)))
def adaptive_pooling(site: CallSite) -> Value:
    operation = cast("AdaptivePooling", site.operation)
    x = to_maps(site, site.x, operation.rank, operation.channels_first)
    name = "Max" if operation.maximum else "Avg"
    module = site.module(f"nn.Adaptive{name}Pool{operation.rank}d({alike(operation.sizes)})")
    return Value(f"{module}({x.text})", site.shape, x.order, site.axis)
