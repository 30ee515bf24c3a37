"""What a kind of layer does to the features of a flattened map, in one table for all who follow them.

A Dense behind a Flatten is read in the flatten order, and that order lives on through every kind that treats its
features alike. A reader and a converter that disagree about such a kind permute a kernel wrongly, without a word.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KINDS", "REORDERING", "Kind", "hands_on", "keeps_features"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A layer's kind, a bare operation or an aten operator: ``merges`` where it may take more than one tensor."""

    keeps_features: bool = True
    merges: bool = False


_LAYERS = """
    Activation ActivityRegularization AlphaDropout BatchNormalization Dropout ELU GaussianDropout GaussianNoise Identity
    LayerNormalization LayerScale LeakyReLU Normalization PReLU ReLU Rescaling RMSNormalization Softmax ThresholdedReLU
"""
_BARE = """
    Relu Relu6 Sigmoid Silu Softplus Softsign Tanh TanhShrink Selu HardSigmoid HardSilu HardSwish HardTanh LogSigmoid
    SparsePlus SparseSigmoid Mish LeakyRelu Elu Celu Gelu Squareplus HardShrink SoftShrink Threshold Abs Absolute
    Negative Positive Square Sqrt Exp Log Erf
"""
_ATEN = """
    relu relu6 hardtanh elu celu selu gelu silu mish sigmoid tanh softplus softsign hardswish hardsigmoid leaky_relu
    prelu _prelu_kernel threshold log_sigmoid hardshrink softshrink tanhshrink rrelu dropout feature_dropout
    alpha_dropout native_dropout batch_norm _native_batch_norm_legit_no_training native_batch_norm layer_norm
    native_layer_norm rms_norm neg abs exp clamp clamp_min clamp_max clone to _to_copy sqrt square
"""
_MERGING = """
    Add Subtract Multiply Divide TrueDivide Average Maximum Minimum
    add sub mul div maximum minimum rsub pow
"""
KINDS = {
    **{name: Kind() for name in (_LAYERS + _BARE + _ATEN).split()},
    **{name: Kind(merges=True) for name in _MERGING.split()},
}


# What lays the features of a flattened map in another order, or beside others, without weights of its own.
REORDERING = frozenset(
    "Concatenate Reshape Permute Transpose Flip Roll Stack GetItem Slice Split Take Pad Repeat Tile Moveaxis Swapaxes "
    "Rot90 Sort Argsort Cumsum".split()
)


def keeps_features(kind: str) -> bool:
    """Whether each feature of a flattened map is behind ``kind`` where it was before."""
    return kind in KINDS and KINDS[kind].keeps_features


def hands_on(kind: str) -> bool:
    """Whether ``kind`` takes one map's features in any order, and hands them on in the same."""
    return keeps_features(kind) and not KINDS[kind].merges
