"""``TimeDistributed``: one layer or one model on every step of axis 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from cnnlens.conversion.to_torch.held import Held
from cnnlens.conversion.to_torch.names import identifier
from cnnlens.conversion.to_torch.use import RULES, Use, rule
from cnnlens.network.graph import Shape
from cnnlens.reference.wrappers import ModelOperation, TimeDistributed
from cnnlens.text import printable

__all__: list[str] = []


@rule("TimeDistributed")
def time_distributed(use: Use) -> Held:
    operation = cast("TimeDistributed", use.operation)
    x = use.x.plain().first([0, 1])
    if x.rank < 3:
        raise use.refuse("it needs an input (N, T, …)")
    inner_shape: Shape = (None, *x.shape[2:])
    order = (0, *(axis - 1 for axis in x.order[2:]))
    use.note(
        "time-distributed",
        "TimeDistributed: the steps become part of the batch, (N, T, ...) as (N * T, ...), and come back after.",
        "The steps as part of the batch.",
    )
    base = x.text if x.text.isidentifier() else use.let(x.text, "steps")
    folded = Held(f"{base}.flatten(0, 1)", inner_shape, order, x.axis)
    inner = operation.inner
    steps = str(x.shape[1]) if x.shape[1] is not None else f"{base}.shape[1]"
    if isinstance(inner, ModelOperation):
        attribute, new = use.attribute()
        if not new or use.nested is None:
            raise use.refuse("a wrapped model that is used several times is not converted")
        use.out.file.modules[use.key] = f"{use.out.prefix}{attribute}"
        made = use.nested(inner.network, attribute, folded)
    else:
        entry = cast("Mapping[str, Any]", use.config.get("layer") or {})
        found = RULES.get(inner.kind)
        if found is None or inner.kind == "TimeDistributed":
            raise use.refuse(f"it wraps a {printable(inner.kind)}, for which no PyTorch code is known")
        seen = None if use.seen is None else (None, *use.seen[2:])
        shape = cast("Shape", inner.output_shape(inner_shape))
        body = cast("Mapping[str, Any]", entry.get("config") or inner.config)
        one = replace(
            use,
            kind=inner.kind,
            config=body,
            operation=inner,
            args=(folded,),
            kwargs={},
            shapes=(shape,),
            seen=seen,
            wanted=identifier(use.name),
            follows_flat=lambda: False,
        )
        result = found(one)
        if isinstance(result, list):
            raise use.refuse("it wraps a layer with several outputs")
        made = result
    made = made.plain().first([0])
    batch = f"{base}.shape[0]" if "shape" in steps else "-1"
    text = f"{made.text}.unflatten(0, ({batch}, {steps}))"
    return Held(text, use.shape, (0, 1, *(axis + 1 for axis in made.order[1:])), use.axis)
