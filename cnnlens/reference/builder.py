"""The NumPy reference: every layer kind as an operation on arrays, without a framework.

``build`` turns what a model file says about a layer into an ``Operation``; what cannot be computed is refused there,
by its kind and with the reason, before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnlens.errors import UnsupportedLayerError
from cnnlens.kinds import layer_kind
from cnnlens.reference import expression as _expression
from cnnlens.reference.bare.ops import build_bare, is_bare
from cnnlens.reference.bare.table import OPERATIONS
from cnnlens.reference.keras import activations as _activations
from cnnlens.reference.keras import attention as _attention
from cnnlens.reference.keras import convolution as _convolution
from cnnlens.reference.keras import dense as _dense
from cnnlens.reference.keras import local as _local
from cnnlens.reference.keras import merging as _merging
from cnnlens.reference.keras import normalization as _normalization
from cnnlens.reference.keras import pooling as _pooling
from cnnlens.reference.keras import recurrent as _recurrent
from cnnlens.reference.keras import resizing as _resizing
from cnnlens.reference.keras import shaping as _shaping
from cnnlens.reference.operation import LinearOperation, Operation, Shape, Weights, build_layer, known_kinds
from cnnlens.text import nearest, printable

__all__ = ["LinearOperation", "Operation", "Shape", "Weights", "build", "known_kinds"]

# Importing a module registers its layer kinds.
_MODULES = (
    *(_activations, _attention, _convolution, _dense, _local, _merging, _normalization, _pooling, _recurrent),
    *(_resizing, _shaping, _expression),
)


# Layers that are Keras' own and are not computed, with the reason that a person is given.
_CUDNN = "its weights are those of NVIDIA's own layout, which is not computed by the reference"
_PICTURES = "how it changes pictures is not computed by the reference"
_FOREIGN = "it holds code of another framework, which is never run here"
_CATEGORIES = "numbers made of words or categories are not computed by the reference"
_ROUNDED = (
    "it rounds arrays or outputs to a few bits whenever it runs (quantisation-aware training), which is not computed"
)
REFUSED = {
    **dict.fromkeys(("QuantizeWrapper", "QuantizeWrapperV2", "QuantizeLayer"), _ROUNDED),
    **dict.fromkeys(("CuDNNLSTM", "CuDNNGRU"), _CUDNN),
    "Lambda": "it holds Python code of whoever wrote the file, which is never run here; say what it computes with "
    "--lambda NAME=EXPRESSION (lambdas={name: expression}), such as 'x / 255 - 0.5'",
    **dict.fromkeys(("Discretization", "CategoryEncoding", "StringLookup", "IntegerLookup"), _CATEGORIES),
    **dict.fromkeys(("Hashing", "HashedCrossing", "TextVectorization"), _CATEGORIES),
    "ReversibleEmbedding": "it computes one of two things, and which is said by the call alone",
    **dict.fromkeys(("STFTSpectrogram", "MelSpectrogram"), "spectrograms are not computed by the reference"),
    **dict.fromkeys(("AutoContrast", "Equalization", "Solarization", "MaxNumBoundingBoxes"), _PICTURES),
    "ContrastLimitedAdaptiveHistogramEqualization": _PICTURES,
    **dict.fromkeys(("TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer"), _FOREIGN),
    "RandomCrop": "which part it keeps is random, or depends on the Keras version",
}


def build(kind: str, module: str | None, config: Mapping[str, Any], keras_version: tuple[int, ...] = (3,)) -> Operation:
    """Build the operation of a layer.

    Args:
        kind: The class name in the file, such as ``Conv2D``, ``Add`` (layer or bare op) or ``TFOpLambda``.
        module: The module in the file, such as ``keras.layers`` or ``keras.src.ops.numpy``; None where it names none.
        config: The layer's configuration, as the file stores it.
        keras_version: The Keras that wrote the file.

    Raises:
        UnsupportedLayerError: There is no such operation, or not with this configuration. The message names the kind
            and the reason, never the layer.
    """
    bare = is_bare(kind, module)
    make = build_bare if bare else build_layer
    operation = make(kind, module, config, keras_version)
    if operation is not None:
        return operation
    shown = printable(kind)
    row = layer_kind(kind, module)
    if not bare and row.name in REFUSED:
        raise UnsupportedLayerError(f"{shown}: {REFUSED[row.name]}")
    if bare:
        raise UnsupportedLayerError(f"the reference has no op {shown}; {nearest(kind, OPERATIONS)}")
    where = f" of {printable(module)}" if module and not module.startswith("keras") else ""
    raise UnsupportedLayerError(f"the reference has no layer {shown}{where}; {nearest(kind, known_kinds())}")
