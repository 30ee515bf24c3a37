"""The rows of Keras' layers, and the operators of PyTorch that compute what they compute.

Sources: ``keras.layers`` of Keras 3.15.1, of Keras 2.13 and 1.2 for the older names; PyTorch 2.13's
``native_functions.yaml``.
"""

from __future__ import annotations

from typing import Any

from cnnlens.kinds.kind import Features, Kind, Rounding

__all__ = ["LAYERS"]

NONE, ONCE, EACH, PRODUCTS, SUMS, OTHER = Rounding
ALONE, KEPT, PLACED, RESHAPED, REORDERED, MIXED = Features


def _row(name: str, rounding: Rounding = OTHER, features: Features = MIXED, aten: str = "", **facts: Any) -> Kind:
    weights, older, modules, statistics = (
        facts.pop(name, "") for name in ("weights", "older", "modules", "statistics")
    )
    roles = None if weights is None else tuple(weights.split())
    return Kind(
        name=name, layer=True, rounding=rounding, features=features, aten=tuple(aten.split()), weights=roles,
        older=tuple(older.split()), modules=tuple(modules.split()), statistics=tuple(statistics.split()), **facts,
    )  # fmt: skip


def _ranks(
    name: str, rounding: Rounding = OTHER, features: Features = MIXED, aten: str = "", of: str = "123", **facts: Any
) -> tuple[Kind, ...]:
    """A row for each number of spatial axes, which stands for ``{n}``."""
    return tuple(
        _row(
            name.format(n=n), rounding, features, aten.format(n=n),
            **{key: value.format(n=n) if isinstance(value, str) else value for key, value in facts.items()},
        )
        for n in of
    )  # fmt: skip


_AFFINE = "gamma beta"
_MASKED: dict[str, Any] = {"takes_masks": True, "passes_masks": True}
_RECURRENT: dict[str, Any] = {"weights": "kernel recurrent_kernel bias", **_MASKED}

# A line a row.
# fmt: off
LAYERS: tuple[Kind, ...] = (
    _row("InputLayer", NONE),
    # --- products
    *_ranks("Conv{n}D", PRODUCTS, MIXED, "conv{n}d", weights="kernel bias", older="Convolution{n}D",
            modules="Conv{n}d"),
    *_ranks("Conv{n}DTranspose", PRODUCTS, MIXED, "conv_transpose{n}d", weights="kernel bias",
            older="Convolution{n}DTranspose Deconvolution{n}D", modules="ConvTranspose{n}d"),
    *_ranks("DepthwiseConv{n}D", PRODUCTS, MIXED, weights="kernel bias", of="12"),
    *_ranks("SeparableConv{n}D", weights="depthwise_kernel pointwise_kernel bias", older="SeparableConvolution{n}D",
            of="12"),
    *_ranks("LocallyConnected{n}D", PRODUCTS, MIXED, weights="kernel bias", of="12"),
    _row("Dense", PRODUCTS, MIXED, "linear", weights="kernel bias", modules="Linear", passes_masks=True),
    _row("EinsumDense", PRODUCTS, MIXED, weights="kernel bias"),
    _row("Dot", PRODUCTS),
    # --- normalisation and factors
    _row("BatchNormalization", OTHER, KEPT, "batch_norm native_batch_norm _native_batch_norm_legit "
         "_native_batch_norm_legit_no_training cudnn_batch_norm miopen_batch_norm _batch_norm_no_update "
         "_batch_norm_with_update", weights="gamma beta moving_mean moving_variance",
         statistics="moving_mean moving_variance",
         older="SyncBatchNormalization BatchNormalizationV1 BatchNormalizationV2",
         modules="BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm", passes_masks=True),
    _row("LayerNormalization", OTHER, KEPT, "layer_norm native_layer_norm", weights=_AFFINE, modules="LayerNorm",
         passes_masks=True),
    _row("GroupNormalization", OTHER, PLACED, "group_norm native_group_norm", weights=_AFFINE,
         modules="GroupNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d", passes_masks=True),
    _row("RMSNormalization", OTHER, KEPT, "rms_norm _fused_rms_norm", weights="scale", modules="RMSNorm"),
    _row("UnitNormalization", OTHER, PLACED, passes_masks=True),
    _row("Normalization", EACH, KEPT, weights="mean variance count", statistics="mean variance count",
         passes_masks=True),
    _row("Rescaling", EACH, KEPT, passes_masks=True),
    _row("LayerScale", EACH, KEPT, weights="gamma", torch="{x} * {gamma}"),
    _row("CustomScaleLayer", EACH, PLACED),
    _row("PReLU", EACH, KEPT, "prelu _prelu_kernel", weights="alpha", modules="PReLU", passes_masks=True),
    # --- activations
    _row("Activation", OTHER, KEPT, passes_masks=True),
    _row("ReLU", OTHER, ALONE, at_least_zero=True, passes_masks=True),
    _row("LeakyReLU", OTHER, ALONE, passes_masks=True),
    _row("ELU", OTHER, ALONE, passes_masks=True),
    _row("ThresholdedReLU", OTHER, ALONE, passes_masks=True),
    # --- merges
    _row("Add", ONCE, PLACED, "add", home="numpy", torch="{a} + {b}", passes_masks=True),
    _row("Subtract", ONCE, PLACED, "sub subtract rsub", home="numpy", torch="{a} - {b}", passes_masks=True),
    _row("Multiply", ONCE, PLACED, "mul multiply", home="numpy", torch="{a} * {b}", **_MASKED),
    _row("Average", ONCE, PLACED, passes_masks=True),
    _row("Maximum", NONE, PLACED, "maximum fmax", home="numpy", torch="torch.maximum", **_MASKED),
    _row("Minimum", NONE, PLACED, "minimum fmin", home="numpy", torch="torch.minimum", **_MASKED),
    _row("Concatenate", NONE, REORDERED, "cat concat concatenate", home="numpy", passes_masks=True),
    # --- shapes
    _row("Flatten", NONE, RESHAPED, "flatten ravel"),
    _row("Reshape", NONE, RESHAPED, "view _unsafe_view reshape view_copy _reshape_copy unflatten view_as reshape_as "
         "pixel_shuffle pixel_unshuffle", home="numpy"),
    _row("Permute", NONE, REORDERED, "channel_shuffle native_channel_shuffle"),
    _row("RepeatVector", NONE),
    *_ranks("Cropping{n}D", NONE),
    *_ranks("ZeroPadding{n}D", NONE),
    _row("CenterCrop", resizes=True),
    _row("Resizing", resizes=True),
    _row("UpSampling1D", OTHER, MIXED, "upsample_nearest1d _upsample_nearest_exact1d upsample_linear1d", resizes=True),
    _row("UpSampling2D", OTHER, MIXED, "upsample_nearest2d _upsample_nearest_exact2d upsample_bilinear2d "
         "upsample_bicubic2d", resizes=True),
    _row("UpSampling3D", OTHER, MIXED, "upsample_nearest3d _upsample_nearest_exact3d upsample_trilinear3d",
         resizes=True),
    # --- pooling
    *_ranks("MaxPooling{n}D", NONE, MIXED, "max_pool{n}d max_pool{n}d_with_indices", older="MaxPool{n}D", of="13"),
    _row("MaxPooling2D", NONE, MIXED, "max_pool2d max_pool2d_with_indices mkldnn_max_pool2d", older="MaxPool2D"),
    *_ranks("AveragePooling{n}D", SUMS, MIXED, "avg_pool{n}d", older="AvgPool{n}D"),
    *_ranks("GlobalMaxPooling{n}D", NONE, older="GlobalMaxPool{n}D"),
    _row("GlobalAveragePooling1D", SUMS, older="GlobalAvgPool1D", takes_masks=True),
    *_ranks("GlobalAveragePooling{n}D", SUMS, older="GlobalAvgPool{n}D", of="23"),
    *_ranks("AdaptiveMaxPooling{n}D", NONE, MIXED, "adaptive_max_pool{n}d"),
    _row("AdaptiveAveragePooling1D", SUMS, MIXED, "adaptive_avg_pool1d"),
    *_ranks("AdaptiveAveragePooling{n}D", SUMS, MIXED, "adaptive_avg_pool{n}d _adaptive_avg_pool{n}d", of="23"),
    # --- sequences
    _row("Embedding", NONE, MIXED, "embedding", weights="embeddings", modules="Embedding"),
    _row("ReversibleEmbedding", weights=None),
    _row("Masking", NONE, PLACED),
    _row("LSTM", OTHER, MIXED, "lstm", cell="LSTMCell", gates=4, modules="LSTM", **_RECURRENT),
    _row("GRU", OTHER, MIXED, "gru", cell="GRUCell", gates=3, modules="GRU", **_RECURRENT),
    _row("SimpleRNN", OTHER, MIXED, "rnn_tanh rnn_relu", cell="SimpleRNNCell", gates=1, modules="RNN RNNCell",
         **_RECURRENT),
    *_ranks("ConvLSTM{n}D", OTHER, MIXED, cell="ConvLSTM{n}DCell", gates=4, **_RECURRENT),
    _row("CuDNNLSTM", gates=4, weights="kernel recurrent_kernel bias"),
    _row("CuDNNGRU", gates=3, weights="kernel recurrent_kernel bias"),
    *(_row(name, **_MASKED) for name in ("RNN", "Bidirectional", "TimeDistributed")),
    _row("StackedRNNCells"),
    _row("SpectralNormalization", weights="layer_kernel vector_u", statistics="vector_u"),
    _row("MultiHeadAttention", modules="MultiheadAttention", **_MASKED),
    _row("GroupQueryAttention", older="GroupedQueryAttention", **_MASKED),
    *(_row(name, weights=None, **_MASKED) for name in ("Attention", "AdditiveAttention")),
    # --- what a person said that a Lambda computes: cnnlens' own
    _row("Expression", OTHER, ALONE),
    # --- nothing at inference
    _row("Identity", NONE, ALONE, "clone contiguous alias detach lift_fresh_copy lift lift_fresh lift_copy detach_copy "
         "alias_copy resolve_conj resolve_neg view_as_real_copy data requires_grad", passes_masks=True),
    _row("ActivityRegularization", NONE, ALONE, passes_masks=True),
    _row("Dropout", NONE, ALONE, "dropout native_dropout _fused_dropout", training_only=True, passes_masks=True),
    _row("AlphaDropout", NONE, ALONE, "alpha_dropout feature_alpha_dropout", training_only=True, passes_masks=True),
    *_ranks("SpatialDropout{n}D", NONE, ALONE, training_only=True, passes_masks=True, of="13"),
    _row("SpatialDropout2D", NONE, ALONE, "feature_dropout", training_only=True, passes_masks=True),
    *(_row(name, NONE, ALONE, training_only=True, passes_masks=True) for name in ("GaussianDropout", "GaussianNoise")),
    *(_row(name, NONE, ALONE, training_only=True) for name in (
        "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter",
        "RandomContrast", "RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur",
        "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation",
        "RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom", "AugMix", "CutMix",
        "MixUp", "RandAugment",
    )),
    _row("RandomCrop", resizes=True),
    # --- what computes no feature maps from numbers, or does so in code of its author's own
    *(_row(name) for name in (
        "Lambda", "TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer", "Discretization", "Hashing", "HashedCrossing",
        "CategoryEncoding", "StringLookup", "IntegerLookup", "TextVectorization", "AutoContrast", "Equalization",
        "Solarization", "ContrastLimitedAdaptiveHistogramEqualization", "MaxNumBoundingBoxes", "MelSpectrogram",
    )),
    # --- around layers that are to be quantised: of tensorflow_model_optimization
    *(_row(name, weights=None) for name in (
        "QuantizeAnnotate", "QuantizeWrapper", "QuantizeWrapperV2", "QuantizeLayer",
    )),
    *(_row(name, weights=None) for name in ("TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer")),
    _row("STFTSpectrogram", weights="real_kernel imag_kernel"),
)
# fmt: on
