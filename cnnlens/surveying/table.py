"""Every family that is swept, and why each other kind is not."""

from __future__ import annotations

from cnnlens.surveying import layers, operations, operators, sequences, windows
from cnnlens.surveying.setting import Family

__all__ = ["FAMILIES", "UNSWEPT"]

FAMILIES: tuple[Family, ...] = (
    *windows.families(), *layers.families(), *sequences.families(), *operations.families(), *operators.families(),
)  # fmt: skip
"""All tables, in the order of the sweep; a kind has one for each framework, and some several."""

_WHY = {
    "it is what a network is given, and computes nothing": "InputLayer",
    "Keras 3 has it no more": "LocallyConnected1D LocallyConnected2D ThresholdedReLU CuDNNLSTM CuDNNGRU",
    "it is no class of keras.layers: whoever uses it brings it": "LayerScale CustomScaleLayer",
    "what it computes is said by its call alone": "ReversibleEmbedding",
    "cells are swept in RNN, one at a time": "StackedRNNCells",
    "it is cnnlens' own word for what a person says of a Lambda": "Expression",
    "it holds its author's own code": "Lambda TFOpLambda SlicingOpLambda TensorFlowOpLayer TorchModuleWrapper JaxLayer "
    "FlaxLayer TFSMLayer",
    "what it keeps is random, or depends on the version": "RandomCrop",
    "the reference does not compute it": "Discretization Hashing HashedCrossing CategoryEncoding StringLookup "
    "IntegerLookup TextVectorization AutoContrast Equalization Solarization "
    "ContrastLimitedAdaptiveHistogramEqualization MaxNumBoundingBoxes MelSpectrogram STFTSpectrogram ScaledMatmul",
    "it is tensorflow_model_optimization's": "QuantizeAnnotate QuantizeWrapper QuantizeWrapperV2 QuantizeLayer",
    "the layers that are made of it are swept": "Conv DepthwiseConv SeparableConv ConvTranspose BatchNorm WeightNorm",
    "it moves values by rules that have no settings to cover, and tests hold it against the frameworks": "Ravel "
    "BroadcastTo Unstack Split SplitBySize GetItem Slice Fold Scatter",
    "it needs a second operand of another rank, and tests hold it against the frameworks": "Tensordot Distance",
    "it is made of no input": "Arange Linspace Full Empty Eye",
}
UNSWEPT: dict[str, str] = {kind: why for why, kinds in _WHY.items() for kind in kinds.split()}
"""Why a kind is not in the sweep."""
