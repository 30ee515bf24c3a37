"""The NumPy reference: every layer kind as an operation on arrays, without a framework.

``build`` turns what a model file says about a layer into an ``Operation``; what cannot be computed is refused there,
by its kind and with the reason, before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnlens.errors import UnsupportedLayerError
from cnnlens.reference import activations as _activations
from cnnlens.reference import convolution as _convolution
from cnnlens.reference import dense as _dense
from cnnlens.reference import merging as _merging
from cnnlens.reference import normalization as _normalization
from cnnlens.reference import pooling as _pooling
from cnnlens.reference import resizing as _resizing
from cnnlens.reference import shaping as _shaping
from cnnlens.reference.bare_ops import build_bare, is_bare
from cnnlens.reference.operation import LinearOperation, Operation, Shape, Weights, build_layer, known_kinds
from cnnlens.text import nearest, printable

__all__ = ["LinearOperation", "Operation", "Shape", "Weights", "build", "known_kinds"]

# Importing a module registers its layer kinds.
_MODULES = (_activations, _convolution, _dense, _merging, _normalization, _pooling, _resizing, _shaping)


def build(kind: str, module: str | None, config: Mapping[str, Any], keras_version: tuple[int, ...] = (3,)) -> Operation:
    """The operation of a layer.

    Args:
        kind: The class name in the file, such as ``Conv2D``, ``Add`` (layer or bare op) or ``TFOpLambda``.
        module: The module in the file, such as ``keras.layers`` or ``keras.src.ops.numpy``; None where it names none.
        config: The layer's configuration, as the file stores it.
        keras_version: The Keras that wrote the file.

    Raises:
        UnsupportedLayerError: There is no such operation, or not with this configuration. The message names the kind
            and the reason, never the layer.
    """
    operation = build_bare(kind, module, config, keras_version) if is_bare(kind, module) else None
    if operation is None and not is_bare(kind, module):
        operation = build_layer(kind, module, config, keras_version)
    if operation is None:
        where = f" of {printable(module)}" if module else ""
        raise UnsupportedLayerError(
            f"the reference has no operation for {printable(kind)}{where}; {nearest(kind, known_kinds())}"
        )
    return operation
