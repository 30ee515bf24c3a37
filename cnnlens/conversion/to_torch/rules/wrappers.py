"""``TimeDistributed``: one layer or one model on every step of axis 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from cnnlens.conversion.to_torch.call_site import RULES, CallSite, rule
from cnnlens.conversion.to_torch.names import identifier
from cnnlens.conversion.to_torch.value import Value
from cnnlens.network.graph import Shape
from cnnlens.reference.wrappers import ModelOperation, TimeDistributed
from cnnlens.text import printable

__all__: list[str] = []


@rule("TimeDistributed")
def time_distributed(site: CallSite) -> Value:
    operation = cast("TimeDistributed", site.operation)
    x = site.x.plain().first([0, 1])
    if x.rank < 3:
        raise site.refuse("it needs an input (N, T, …)")
    inner_shape: Shape = (None, *x.shape[2:])
    order = (0, *(axis - 1 for axis in x.order[2:]))
    site.note(
        "time-distributed",
        "TimeDistributed: the steps become part of the batch, (N, T, ...) as (N * T, ...), and come back after.",
        "The steps as part of the batch.",
    )
    base = x.text if x.text.isidentifier() else site.let(x.text, "steps")
    folded = Value(f"{base}.flatten(0, 1)", inner_shape, order, x.axis)
    inner = operation.inner
    steps = str(x.shape[1]) if x.shape[1] is not None else f"{base}.shape[1]"
    if isinstance(inner, ModelOperation):
        attribute, new = site.attribute()
        if not new or site.nested is None:
            raise site.refuse("a wrapped model that is used several times is not converted")
        site.out.file.modules[site.key] = f"{site.out.prefix}{attribute}"
        made = site.nested(inner.network, attribute, folded)
    else:
        entry = cast("Mapping[str, Any]", site.config.get("layer") or {})
        found = RULES.get(inner.kind)
        if found is None or inner.kind == "TimeDistributed":
            raise site.refuse(f"it wraps a {printable(inner.kind)}, for which no PyTorch code is known")
        seen = None if site.seen is None else (None, *site.seen[2:])
        shape = cast("Shape", inner.output_shape(inner_shape))
        body = cast("Mapping[str, Any]", entry.get("config") or inner.config)
        one = replace(
            site,
            kind=inner.kind,
            config=body,
            operation=inner,
            args=(folded,),
            kwargs={},
            shapes=(shape,),
            seen=seen,
            wanted=identifier(site.name),
            keeps_flat=lambda: False,
        )
        result = found(one)
        if isinstance(result, list):
            raise site.refuse("it wraps a layer with several outputs")
        made = result
    made = made.plain().first([0])
    batch = f"{base}.shape[0]" if "shape" in steps else "-1"
    text = f"{made.text}.unflatten(0, ({batch}, {steps}))"
    return Value(text, site.shape, (0, 1, *(axis + 1 for axis in made.order[1:])), site.axis)
