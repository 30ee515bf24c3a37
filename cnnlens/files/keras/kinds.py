"""What kind of layer an array belongs to, where the file does not say.

Weights-only files and subclassed models hold arrays and names but no classes. The group's name often is the class in
snake case; where it is not, the names and axes of the arrays tell most kinds apart. A guess is said to be one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cnnlens.kinds import LAYERS
from cnnlens.reference.keras.names import snake_case

__all__ = ["guess_kind"]

_BY_GROUP = {snake_case(row.name): row.name for row in LAYERS if row.weights}
_BY_ROLE = {
    "moving_mean": "BatchNormalization", "embeddings": "Embedding", "alpha": "PReLU", "gamma": "LayerNormalization",
}  # fmt: skip
_BY_KERNEL_RANK = {5: "Conv3D", 4: "Conv2D", 3: "Conv1D", 2: "Dense"}


def guess_kind(
    path: tuple[str, ...], shapes: Mapping[str, tuple[int, ...]], place: tuple[str, ...] = ()
) -> tuple[str, bool]:
    """Guess the Keras class of the layer at ``path`` with arrays of these ``shapes``, else ``unknown``.

    Args:
        place: The groups that the arrays lie in, whose names Keras makes of classes.

    Returns:
        The class, and whether a transposed convolution has the same arrays: its kernel's in and out are exchanged.
    """
    for part in (*reversed(place), *reversed(path)):
        kind = _BY_GROUP.get(re.sub(r"_\d+$", "", part))
        if kind is not None:
            return kind, False
    kind = _by_arrays(shapes)
    if kind not in _BY_KERNEL_RANK.values() or kind == "Dense":
        return kind, False
    ins, outs = shapes["kernel"][-2:]
    size = shapes["bias"][-1] if shapes.get("bias") else None
    if ins != outs and size == ins:
        return f"{kind}Transpose", False
    return kind, ins == outs or size is None


def _by_arrays(shapes: Mapping[str, tuple[int, ...]]) -> str:
    for role, kind in _BY_ROLE.items():
        if role in shapes:
            return kind
    if "depthwise_kernel" in shapes:
        rank = len(shapes["depthwise_kernel"])
        if "pointwise_kernel" in shapes:
            return f"SeparableConv{rank - 2}D" if rank in (3, 4) else "unknown"
        return f"DepthwiseConv{rank - 2}D" if rank in (3, 4) else "unknown"
    if "recurrent_kernel" in shapes:
        recurrent = shapes["recurrent_kernel"]
        if len(recurrent) == 2 and recurrent[0]:
            return {4: "LSTM", 3: "GRU", 1: "SimpleRNN"}.get(recurrent[1] // recurrent[0], "unknown")
        return "ConvLSTM2D" if len(recurrent) == 4 else "unknown"
    if "kernel" in shapes:
        return _BY_KERNEL_RANK.get(len(shapes["kernel"]), "unknown")
    return "unknown"
