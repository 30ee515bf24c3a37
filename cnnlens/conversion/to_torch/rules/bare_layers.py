"""Bare ops that are a layer's arithmetic, such as ``keras.ops.conv``: the layer's own rule on the op's operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.conversion.to_torch.call_site import RULES, CallSite, Results
from cnnlens.conversion.to_torch.value import Value
from cnnlens.conversion.to_torch.weights import Entry, LayerWeights
from cnnlens.reference.operation import build_layer
from cnnlens.text import printable

__all__ = ["LAYERS", "Move", "Settings", "ints", "tensor_of"]

Settings = Mapping[str, Any]
Array = NDArray[Any]
Move = Callable[[CallSite, list[Any], Settings], Results]


def tensor_of(site: CallSite, value: Any) -> Value:
    """Write the tensor that an operand is, in Keras' order of features.

    Raises:
        UnsupportedLayerError: it is a constant.
    """
    if not isinstance(value, Value):
        raise site.refuse("an op on constants alone is not converted")
    return value.plain()


def ints(value: Any) -> list[int]:
    """Write one whole number or several."""
    items = list(cast("Sequence[Any]", value)) if isinstance(value, (list, tuple)) else [value]
    return [int(item) for item in items]


def _as_layer(kind: str, roles: tuple[str, ...] = ()) -> Move:
    def convert(site: CallSite, operands: list[Any], settings: Settings) -> Results:
        x = tensor_of(site, operands[0])
        rank = x.rank - 2
        config: dict[str, Any] = dict(settings)
        arrays: dict[str, Array] = {}
        for role, value in zip(roles, operands[1:], strict=True):
            if not isinstance(value, np.ndarray):
                raise site.refuse("a convolution by a kernel that the network computes is not converted")
            arrays[role] = cast("Array", value)
        if roles:
            first, last = arrays[roles[0]].shape, arrays[roles[-1]].shape
            channels = x.shape[1 if settings.get("data_format") == "channels_first" else -1]
            config |= {
                "kernel_size": list(first[:rank]),
                "filters": last[-2 if "Transpose" in kind else -1],
                "depth_multiplier": first[-1],
                "groups": (channels or 1) // (first[-2] or 1) if kind == "Conv{}D" else 1,
                "use_bias": False,
            }
        named = kind.format(rank)
        operation = build_layer(named, None, config, (3,))
        if operation is None or named not in RULES:
            raise site.refuse(f"no PyTorch code is known for {printable(named)}")
        one = replace(
            site, kind=named, config=config, operation=operation, args=(x,), kwargs={},
            weights=_Constants(site.weights, arrays),
        )  # fmt: skip
        return RULES[named](one)

    return convert


class _Constants(LayerWeights):
    """Kernels that stand in the file's config where a layer's are in its arrays."""

    def __init__(self, weights: LayerWeights, arrays: Mapping[str, Array]) -> None:
        super().__init__(weights.layer)
        self.constants = dict(arrays)

    def __contains__(self, role: str) -> bool:
        return role in self.constants

    def shape(self, role: str) -> tuple[int, ...]:
        return self.constants[role].shape

    def dtype(self, role: str) -> str:
        return str(self.constants[role].dtype)

    def read(self, role: str) -> Array:
        return self.constants[role]

    def entry(self, role: str, change: Callable[[Array], Array]) -> Entry:
        return Entry(lambda: change(self.constants[role]), self.dtype(role))


def _resize(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    config = {**settings, "height": ints(settings["size"])[0], "width": ints(settings["size"])[1]}
    operation = build_layer("Resizing", None, config, (3,))
    assert operation is not None
    x = tensor_of(site, operands[0])
    made = RULES["Resizing"](replace(site, kind="Resizing", config=config, operation=operation, args=(x,), kwargs={}))
    assert isinstance(made, Value)
    return made


LAYERS: dict[str, Move] = {
    "MaxPool": _as_layer("MaxPooling{}D"),
    "AveragePool": _as_layer("AveragePooling{}D"),
    "AdaptiveMaxPool": _as_layer("AdaptiveMaxPooling{}D"),
    "AdaptiveAveragePool": _as_layer("AdaptiveAveragePooling{}D"),
    "Conv": _as_layer("Conv{}D", ("kernel",)),
    "DepthwiseConv": _as_layer("DepthwiseConv{}D", ("kernel",)),
    "SeparableConv": _as_layer("SeparableConv{}D", ("depthwise_kernel", "pointwise_kernel")),
    "ConvTranspose": _as_layer("Conv{}DTranspose", ("kernel",)),
    "Resize": _resize,
}
