"""Every convention as one line of data: the axes of each kind of weight in Keras, PyTorch, Flax, ONNX and TFLite.

A porter's mistake is always a wrong line of this table, so this is the one place where such a line is written; the
permutations, the reshapes, the gate orders and the NumPy one-liners are all derived from it. The lines were run against
the frameworks themselves (Keras 3.15.1 on TensorFlow 2.21, JAX 0.10.2 and torch 2.13, Flax 0.12.8, ONNX Runtime 1.31.1,
TFLite of TensorFlow 2.21) with axis sizes that all differ, except a product by a general einsum equation in Flax and
ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from cnnlens.errors import CnnlensError
from cnnlens.kinds import LAYERS
from cnnlens.text import nearest, printable

__all__ = [
    "ALIASES", "APART", "FRAMEWORKS", "GATES", "LEGEND", "NORMAL_NAMES", "ROWS", "TFLITE_EINSUM", "TRANSPARENT",
    "Absent", "Row",
]  # fmt: skip

FRAMEWORKS = ("keras", "torch", "flax", "onnx", "tflite")

LEGEND: Mapping[str, str] = {
    "N": "batch",
    "O": "output channels (units)",
    "I": "input channels, of one group where there are groups",
    "C": "channels",
    "M": "depth multiplier: outputs for each input channel",
    "D": "depth",
    "H": "height",
    "W": "width (the length of a 1-D layer)",
    "G": "groups",
    "Q": "gates of a recurrent layer",
    "U": "units of a recurrent layer",
    "B": "the two biases of a recurrent layer, input and recurrent",
    "A": "heads of an attention layer",
    "F": "width of one head",
    "V": "vocabulary",
    "E": "width of an embedding",
    "X": "output position, first axis",
    "Y": "output position, second axis",
    "Z": "output position, third axis",
}

GATES: Mapping[str, str] = {
    "i": "input", "f": "forget", "g": "cell", "o": "output", "r": "reset", "z": "update", "n": "new",
}  # fmt: skip
"""What the letters stand for in which the gates of a recurrent layer are ordered; Keras writes c for g and h for n."""


@dataclass(frozen=True)
class Absent:
    """Says that a framework has no such weight, and why, in words that complete "flax has ..."."""

    reason: str


Stored: TypeAlias = str | Absent


@dataclass(frozen=True)
class Row:
    """Says how every framework stores one weight (or several stored alike) of one kind of layer (or several).

    Patterns are in the language of :mod:`cnnlens.layout.patterns`. ``hints`` says which field of the geometry gives the
    sizes of which letters. ``gates`` orders the entries of Q, by framework. ``fill`` lists letters that a framework
    stores at a given size, with zeros after the first entry; ``fixed`` lists sizes that never vary. ``lacks``
    completes the error for a letter that a framework's pattern does not have, which is then possible at size 1 only.
    ``second`` names an array that a framework adds to this one: zeros on the way there, added on the way back.
    ``flat`` marks the rows for weights behind a Flatten.
    """

    kinds: tuple[str, ...]
    weights: tuple[str, ...]
    canonical: str
    keras: Stored
    torch: Stored
    flax: Stored
    onnx: Stored
    tflite: Stored
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    hints: tuple[tuple[str, str], ...] = ()
    gates: Mapping[str, str] = field(default_factory=dict[str, str])
    fill: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    lacks: Mapping[str, str] = field(default_factory=dict[str, str])
    fixed: Mapping[str, int] = field(default_factory=dict[str, int])
    second: Mapping[str, str] = field(default_factory=dict[str, str])
    flat: bool = False
    reset_after: bool | None = None

    def stored(self, framework: str) -> Stored:
        """Give the pattern in ``framework`` ("canonical" included)."""
        if framework != "canonical" and framework not in FRAMEWORKS:
            raise CnnlensError(f"no framework '{printable(framework)}': {nearest(framework, FRAMEWORKS)}")
        return cast(Stored, getattr(self, framework))


_CONV = {"torch": "weight", "flax": "kernel", "onnx": "W"}
_BIAS = {"torch": "bias", "flax": "bias", "onnx": "B"}
NORMAL_NAMES: Mapping[str, Mapping[str, str]] = {
    "gamma": {"torch": "weight", "flax": "scale", "onnx": "scale"},
    "scale": {"torch": "weight", "flax": "scale", "onnx": "scale"},
    "beta": {"torch": "bias", "flax": "bias", "onnx": "B"},
    "moving_mean": {"torch": "running_mean", "flax": "mean", "onnx": "input_mean"},
    "moving_variance": {"torch": "running_var", "flax": "var", "onnx": "input_var"},
}
"""What the frameworks call a normalisation layer's vectors, by their Keras names."""

_ONE_ARRAY_A_GATE = Absent("one array for each gate (ii, if, ig, io and hi, hf, hg, ho in an LSTM cell), not one array")
_GRU_GATE_BY_GATE = Absent("one array for each gate (ir, iz, in and hr, hz, hn in a GRU cell), not one array")
_TFLITE_LOOP = Absent(
    "no fixed layout for this layer: the converter unrolls it or writes a WHILE loop of FULLY_CONNECTED"
)
TFLITE_EINSUM = Absent("no fixed layout for this product: the converter rewrites it")
_DECOMPOSED = Absent("no such operator: the converter decomposes the layer into elementwise operators")
_NO_CONV_LSTM = Absent("no ConvLSTM layer; a hand-written cell takes (QU)I and the spatial axes for its Conv")
_NO_LOCAL = Absent("no locally connected layer; unfold the input and multiply position by position")
_NO_NORMALIZATION = Absent("no such layer; its mean and variance become constants of a subtraction and a division")

_SECOND_BIAS = {"torch": "bias_hh_l0"}
_LSTM = {"canonical": "ifgo", "keras": "ifgo", "torch": "ifgo", "onnx": "iofg"}
_GRU = {"canonical": "rzn", "keras": "zrn", "torch": "rzn", "onnx": "zrn"}
_CONV_LSTM = {"canonical": "ifgo", "keras": "ifgo", "flax": "igfo"}
_NO_GROUPS = "no groups in a transposed convolution"
_FLATTENED = (("*C", "flatten"),)
_HEADS = (("A", "heads"),)
_INTO_HEADS = ("(AF)I", "IAF", "(AF)I", "IAF", "I(AF)", TFLITE_EINSUM)
_OF_HEADS = ("(AF)", "AF", "(AF)", "AF", "(AF)", TFLITE_EINSUM)
_OUT_OF_HEADS = ("O(AF)", "AFO", "O(AF)", "AFO", "(AF)O", TFLITE_EINSUM)
_LINEAR = {"torch": "weight", "flax": "kernel", "onnx": "B of MatMul"}
_LINEAR_BIAS = {"torch": "bias", "flax": "bias"}
_SPLIT = (("C", "groups"), ("M", "depth_multiplier"))

_CONVS = ("Conv1D", "Conv2D", "Conv3D")
_DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D")
_SEPARABLE = ("SeparableConv1D", "SeparableConv2D")
_TRANSPOSED = ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
_NORMED = ("gamma", "beta", "moving_mean", "moving_variance")
_CONV_LSTMS = ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")


def _same(kinds: tuple[str, ...], weights: tuple[str, ...], axes: str, names: Mapping[str, str] | None = None) -> Row:
    """Weights that every framework stores with the same axes."""
    return Row(kinds, weights, axes, axes, axes, axes, axes, axes, names or {})


def _flat(kinds: tuple[str, ...], weights: tuple[str, ...]) -> Row:
    """Vectors of a normalisation between a Flatten and a Dense: one entry for each place of the flattened map."""
    return Row(kinds, weights, "(C*)", "(*C)", "(C*)", "(*C)", "(C*)", "(*C)", hints=_FLATTENED, flat=True)


# One line a row is what makes this a table that a person can hold against the frameworks' documentation.
# fmt: off
ROWS: tuple[Row, ...] = (
    # kinds, weights, canonical, keras, torch, flax, onnx, tflite
    Row(("Conv1D",), ("kernel",), "OI*", "*IO", "OI*", "*IO", "OI*", "O1*I", _CONV),
    Row(("Conv2D",), ("kernel",), "OI*", "*IO", "OI*", "*IO", "OI*", "O*I", _CONV),
    Row(("Conv3D",), ("kernel",), "OI*", "*IO", "OI*", "*IO", "OI*", "*IO", _CONV),
    Row(("DepthwiseConv1D",), ("kernel",), "(CM)1*", "*CM", "(CM)1*", "*1(CM)", "(CM)1*", "11*(CM)", _CONV, _SPLIT),
    Row(("DepthwiseConv2D",), ("kernel",), "(CM)1*", "*CM", "(CM)1*", "*1(CM)", "(CM)1*", "1*(CM)", _CONV, _SPLIT),
    Row(("SeparableConv1D",), ("depthwise_kernel",), "(CM)1*", "*CM", "(CM)1*", "*1(CM)", "(CM)1*", "11*(CM)", _CONV,
        _SPLIT),
    Row(("SeparableConv2D",), ("depthwise_kernel",), "(CM)1*", "*CM", "(CM)1*", "*1(CM)", "(CM)1*", "1*(CM)", _CONV,
        _SPLIT),
    Row(("SeparableConv1D",), ("pointwise_kernel",), "OI*", "*IO", "OI*", "*IO", "OI*", "O1*I", _CONV),
    Row(("SeparableConv2D",), ("pointwise_kernel",), "OI*", "*IO", "OI*", "*IO", "OI*", "O*I", _CONV),
    Row(("Conv1DTranspose",), ("kernel",), "(GO)I*", "*OI", "(GI)O*", "~*IO", "(GI)O*", "O1*I", _CONV,
        (("G", "groups"),), lacks=dict.fromkeys(("keras", "flax", "tflite"), _NO_GROUPS)),
    Row(("Conv2DTranspose",), ("kernel",), "(GO)I*", "*OI", "(GI)O*", "~*IO", "(GI)O*", "O*I", _CONV,
        (("G", "groups"),), lacks=dict.fromkeys(("keras", "flax", "tflite"), _NO_GROUPS)),
    Row(("Conv3DTranspose",), ("kernel",), "(GO)I*", "*OI", "(GI)O*", "~*IO", "(GI)O*", "*OI", _CONV,
        (("G", "groups"),), lacks=dict.fromkeys(("keras", "flax", "tflite"), _NO_GROUPS)),
    Row(("Dense",), ("kernel",), "O(C*)", "(*C)O", "O(C*)", "(*C)O", "O(C*)", "O(*C)", _CONV, _FLATTENED,
        flat=True),
    Row(("Dense", "EinsumDense"), ("kernel",), "OI", "IO", "OI", "IO", "OI", "OI", _CONV),
    _same((*_CONVS, *_DEPTHWISE, *_SEPARABLE, *_TRANSPOSED, "Dense", "EinsumDense"), ("bias",), "O", _BIAS),
    _same(("BatchNormalization",), _NORMED, "C"),
    _flat(("BatchNormalization",), _NORMED),
    _same(("GroupNormalization",), ("gamma", "beta"), "C"),
    _flat(("GroupNormalization",), ("gamma", "beta")),
    Row(("LayerNormalization",), ("gamma", "beta"), "C*", "*C", "C*", "*C", "C*", _DECOMPOSED),
    _flat(("LayerNormalization",), ("gamma", "beta")),
    Row(("RMSNormalization",), ("scale",), "C*", "*C", "C*", "*C", "C*", _DECOMPOSED),
    _flat(("RMSNormalization",), ("scale",)),
    Row(("Normalization",), ("mean", "variance"), "C*", "*C", _NO_NORMALIZATION, _NO_NORMALIZATION, _NO_NORMALIZATION,
        _NO_NORMALIZATION),
    Row(("Normalization",), ("mean", "variance"), "(C*)", "(*C)", _NO_NORMALIZATION, _NO_NORMALIZATION,
        _NO_NORMALIZATION, _NO_NORMALIZATION, hints=_FLATTENED, flat=True),
    Row(("PReLU",), ("alpha",), "C*", "*C", "C", "", "C*", "*C",
        {"torch": "weight", "flax": "negative_slope", "onnx": "slope"},
        lacks={"torch": "no slope a position in nn.PReLU; multiply with alpha.transpose(2, 0, 1) instead",
               "flax": "one slope for the whole layer in linen.PReLU"}),
    Row(("PReLU",), ("alpha",), "(C*)", "(*C)", "(C*)", Absent("one slope for the whole layer in linen.PReLU"), "(C*)",
        "(*C)", {"torch": "weight", "onnx": "slope"}, _FLATTENED, flat=True),
    _same(("Embedding",), ("embeddings",), "VE", {"torch": "weight", "flax": "embedding", "onnx": "data"}),
    Row(("LSTM",), ("kernel",), "(QU)I", "I(QU)", "(QU)I", _ONE_ARRAY_A_GATE, "1(QU)I", _TFLITE_LOOP,
        {"torch": "weight_ih_l0", "onnx": "W"}, gates=_LSTM),
    Row(("LSTM",), ("recurrent_kernel",), "(QU)I", "I(QU)", "(QU)I", _ONE_ARRAY_A_GATE, "1(QU)I", _TFLITE_LOOP,
        {"torch": "weight_hh_l0", "onnx": "R"}, gates=_LSTM),
    Row(("LSTM",), ("bias",), "(QU)", "(QU)", "(QU)", _ONE_ARRAY_A_GATE, "1(BQU)", _TFLITE_LOOP,
        {"torch": "bias_ih_l0", "onnx": "B"}, gates=_LSTM, fill={"onnx": {"B": 2}}, second=_SECOND_BIAS),
    Row(("GRU",), ("kernel",), "(QU)I", "I(QU)", "(QU)I", _GRU_GATE_BY_GATE, "1(QU)I", _TFLITE_LOOP,
        {"torch": "weight_ih_l0", "onnx": "W"}, gates=_GRU),
    Row(("GRU",), ("recurrent_kernel",), "(QU)I", "I(QU)", "(QU)I", _GRU_GATE_BY_GATE, "1(QU)I", _TFLITE_LOOP,
        {"torch": "weight_hh_l0", "onnx": "R"}, gates=_GRU),
    Row(("GRU",), ("bias",), "B(QU)", "B(QU)", "B(QU)", _GRU_GATE_BY_GATE, "1(BQU)", _TFLITE_LOOP,
        {"torch": "bias_ih_l0, bias_hh_l0", "onnx": "B"}, gates=_GRU, fixed={"B": 2}, reset_after=True),
    Row(("GRU",), ("bias",), "(QU)", "(QU)", Absent("no GRU that resets before the matrix product"),
        _GRU_GATE_BY_GATE, "1(BQU)", _TFLITE_LOOP, {"onnx": "B"}, gates=_GRU, fill={"onnx": {"B": 2}},
        reset_after=False),
    Row(("SimpleRNN",), ("kernel",), "UI", "IU", "UI", "IU", "1UI", _TFLITE_LOOP,
        {"torch": "weight_ih_l0", "flax": "i/kernel", "onnx": "W"}),
    Row(("SimpleRNN",), ("recurrent_kernel",), "UI", "IU", "UI", "IU", "1UI", _TFLITE_LOOP,
        {"torch": "weight_hh_l0", "flax": "h/kernel", "onnx": "R"}),
    Row(("SimpleRNN",), ("bias",), "U", "U", "U", "U", "1(BU)", _TFLITE_LOOP,
        {"torch": "bias_ih_l0", "flax": "i/bias", "onnx": "B"}, fill={"onnx": {"B": 2}}, second=_SECOND_BIAS),
    Row(_CONV_LSTMS, ("kernel",), "(QU)I*", "*I(QU)", _NO_CONV_LSTM, "*I(QU)", _NO_CONV_LSTM, _TFLITE_LOOP,
        {"flax": "ih/kernel"}, gates=_CONV_LSTM),
    Row(_CONV_LSTMS, ("recurrent_kernel",), "(QU)I*", "*I(QU)", _NO_CONV_LSTM, "*I(QU)", _NO_CONV_LSTM, _TFLITE_LOOP,
        {"flax": "hh/kernel"}, gates=_CONV_LSTM),
    Row(_CONV_LSTMS, ("bias",), "(QU)", "(QU)", _NO_CONV_LSTM, "(QU)", _NO_CONV_LSTM, _TFLITE_LOOP,
        {"flax": "ih/bias"}, gates=_CONV_LSTM),
    Row(("MultiHeadAttention",), ("query/kernel", "key/kernel", "value/kernel"), *_INTO_HEADS,
        {"torch": "in_proj_weight (a third of it)", "flax": "kernel", "onnx": "B of MatMul"}, _HEADS),
    Row(("MultiHeadAttention",), ("query/bias", "key/bias", "value/bias"), *_OF_HEADS,
        {"torch": "in_proj_bias (a third of it)", "flax": "bias"}, _HEADS),
    Row(("MultiHeadAttention",), ("attention_output/kernel",), *_OUT_OF_HEADS,
        {"torch": "out_proj.weight", "flax": "out/kernel", "onnx": "B of MatMul"}, _HEADS),
    _same(("MultiHeadAttention",), ("attention_output/bias",), "O", {"torch": "out_proj.bias", "flax": "out/bias"}),
    Row(("MultiHeadAttention", "GroupQueryAttention"), ("gate/kernel",), *_INTO_HEADS, _LINEAR, _HEADS),
    Row(("MultiHeadAttention", "GroupQueryAttention"), ("gate/bias",), *_OF_HEADS, _LINEAR_BIAS, _HEADS),
    Row(("GroupQueryAttention",), ("query/kernel", "key/kernel", "value/kernel"), *_INTO_HEADS, _LINEAR, _HEADS),
    Row(("GroupQueryAttention",), ("query/bias", "key/bias", "value/bias"), *_OF_HEADS, _LINEAR_BIAS, _HEADS),
    Row(("GroupQueryAttention",), ("attention_output/kernel",), *_OUT_OF_HEADS, _LINEAR, _HEADS),
    _same(("GroupQueryAttention",), ("attention_output/bias",), "O", _LINEAR_BIAS),
    Row(("LocallyConnected1D",), ("kernel",), "(OX)I*", "X(*I)O", _NO_LOCAL, "X(I*)O", _NO_LOCAL, _NO_LOCAL,
        {"flax": "kernel"}, (("*", "kernel_size"), ("X", "positions"))),
    Row(("LocallyConnected1D",), ("bias",), "OX", "XO", _NO_LOCAL, "XO", _NO_LOCAL, _NO_LOCAL, {"flax": "bias"}),
    Row(("LocallyConnected2D",), ("kernel",), "(OXY)I*", "(XY)(*I)O", _NO_LOCAL, "XY(I*)O", _NO_LOCAL, _NO_LOCAL,
        {"flax": "kernel"}, (("*", "kernel_size"), ("XY", "positions"))),
    Row(("LocallyConnected2D",), ("bias",), "OXY", "XYO", _NO_LOCAL, "XYO", _NO_LOCAL, _NO_LOCAL, {"flax": "bias"}),
)

# fmt: on

APART: tuple[Row, ...] = tuple(
    Row(("GRU",), (weight,), "(QU)", Absent(f"{place} row of the bias"), "(QU)", _GRU_GATE_BY_GATE,
        Absent(f"{place} half of B"), _TFLITE_LOOP, gates=_GRU)
    for weight, place in (("input_bias", "the first"), ("recurrent_bias", "the second"))
)  # fmt: skip
"""Arrays that PyTorch alone keeps apart, of what is one array in the table."""

_LAID_OUT = {kind for row in ROWS for kind in row.kinds}
ALIASES: Mapping[str, str] = {
    **{older: row.name for row in LAYERS if row.name in _LAID_OUT for older in row.older},
    **{row.cell: row.name for row in LAYERS if row.cell},
    "CuDNNLSTM": "LSTM",
    "ConvLSTMCell": "ConvLSTM2D",
}
"""Other names of a kind: Keras 1, Keras 2 and the cells that recurrent layers wrap."""

TRANSPARENT = ("TimeDistributed", "Bidirectional", "RNN", "SpectralNormalization")
"""Wrappers: their child's weights are stored as the child alone stores them."""
