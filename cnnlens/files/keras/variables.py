"""What each Keras layer class keeps: variable names in stored order, and the axes that its config fixes.

A Keras 3 file numbers a layer's arrays instead of naming them, so the names come from here: trainable ones first, then
the others, each in the order in which ``build`` makes them (``Layer.save_own_variables``). The axes serve to notice
when a file's arrays are not those of the layer that they are filed under.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnlens.files.jsontext import integer, mapping, text
from cnnlens.kinds import CELLS, LAYERS, kind_of, layer_kind
from cnnlens.reference.keras.names import base_class, snake_case

__all__ = ["RULES", "Declared", "contradiction", "declare", "is_bare_op", "names_by_group", "quantisation_mode"]

Axes = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Declared:
    """Says what a config says about a layer's own arrays.

    Attributes:
        names: Variable names in stored order; None where the class is not known.
        shapes: Axes by name, None for one that the config leaves open; names that nothing is known of are missing.
        optional: How many names at the end may be missing in the file.
    """

    names: tuple[str, ...] | None
    shapes: Mapping[str, Axes]
    optional: int = 0


Config = Mapping[str, Any]
Rule = Callable[[Config], Declared]


def is_bare_op(entry: Mapping[str, Any]) -> bool:
    """Tell whether an entry in ``config["layers"]`` is an operation such as ``x + y``, which is no layer."""
    return text(entry.get("module")).startswith(("keras.src.ops", "keras.ops"))


def _flag(config: Config, key: str, default: bool = True) -> bool:
    value = config.get(key, default)
    return value if isinstance(value, bool) else default


def _sizes(config: Config, key: str, rank: int) -> tuple[int | None, ...]:
    value = config.get(key)
    if integer(value) is not None:
        return (integer(value),) * rank
    if isinstance(value, list) and len(value) == rank:  # pyright: ignore[reportUnknownArgumentType]
        return tuple(integer(item) for item in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return (None,) * rank


def _with_bias(config: Config, *kernels: tuple[str, Axes], bias: Axes) -> Declared:
    shapes: dict[str, Axes] = dict(kernels)
    if _flag(config, "use_bias"):
        shapes["bias"] = bias
    return Declared(tuple(shapes), shapes)


def _conv(rank: int) -> Rule:
    def rule(config: Config) -> Declared:
        filters = integer(config.get("filters"))
        kernel = (*_sizes(config, "kernel_size", rank), None, filters)
        return _with_bias(config, ("kernel", kernel), bias=(filters,))

    return rule


def _conv_transpose(rank: int) -> Rule:
    def rule(config: Config) -> Declared:
        filters = integer(config.get("filters"))
        kernel = (*_sizes(config, "kernel_size", rank), filters, None)
        return _with_bias(config, ("kernel", kernel), bias=(filters,))

    return rule


def _depthwise(rank: int) -> Rule:
    def rule(config: Config) -> Declared:
        kernel = (*_sizes(config, "kernel_size", rank), None, integer(config.get("depth_multiplier", 1)))
        return _with_bias(config, ("kernel", kernel), bias=(None,))

    return rule


def _separable(rank: int) -> Rule:
    def rule(config: Config) -> Declared:
        filters = integer(config.get("filters"))
        depthwise = (*_sizes(config, "kernel_size", rank), None, integer(config.get("depth_multiplier", 1)))
        pointwise = (*(1,) * rank, None, filters)
        return _with_bias(config, ("depthwise_kernel", depthwise), ("pointwise_kernel", pointwise), bias=(filters,))

    return rule


def _locally_connected(config: Config) -> Declared:
    # Three implementations, three kernel shapes; only the names are sure.
    names = ("kernel", "bias") if _flag(config, "use_bias") else ("kernel",)
    return Declared(names, {})


_AFTER_QUANTISATION: Mapping[str, Sequence[str]] = {
    # variable_serialization_spec of Dense and EinsumDense, Keras 3.15; older versions store a prefix of each.
    "int8": ("kernel", "bias", "kernel_scale"),
    "int4": ("kernel", "bias", "kernel_scale", "kernel_zero", "g_idx"),
    "float8": ("kernel", "bias", "inputs_scale", "inputs_amax_history", "kernel_scale", "kernel_amax_history",
               "outputs_grad_scale", "outputs_grad_amax_history"),
    "gptq": ("bias", "quantized_kernel", "kernel_scale", "kernel_zero", "g_idx"),
    "awq": ("bias", "quantized_kernel", "kernel_scale", "kernel_zero", "awq_scales", "g_idx"),
}  # fmt: skip


def quantisation_mode(config: Config) -> str | None:
    """Give the mode, "int8", "int4", "float8", "gptq" or "awq" by the layer's dtype policy, else None."""
    policy = config.get("dtype")
    mode = mapping(mapping(policy).get("config")).get("mode")
    if isinstance(mode, str):
        return mode.split("/")[0]
    name = policy if isinstance(policy, str) else mapping(mapping(policy).get("config")).get("name")
    if isinstance(name, str) and "_from_" in name:
        return name.split("_from_")[0].split("/")[0]
    return None


def _dense(config: Config) -> Declared:
    units = integer(config.get("units"))
    mode = quantisation_mode(config)
    if mode is not None and mode in _AFTER_QUANTISATION:
        names = tuple(n for n in _AFTER_QUANTISATION[mode] if n != "bias" or _flag(config, "use_bias"))
        kernel: Axes = (None, None if mode == "int4" else units)
        return Declared(names, {"kernel": kernel, "bias": (units,)}, optional=2 if mode == "int4" else 0)
    return _with_bias(config, ("kernel", (None, units)), bias=(units,))


def _einsum_dense(config: Config) -> Declared:
    biased = config.get("bias_axes") is not None
    mode = quantisation_mode(config)
    spec = _AFTER_QUANTISATION.get(mode or "", ("kernel", "bias"))
    return Declared(tuple(n for n in spec if n != "bias" or biased), {}, optional=2 if mode == "int4" else 0)


def _embedding(config: Config) -> Declared:
    mode = quantisation_mode(config)
    whole = (integer(config.get("input_dim")), integer(config.get("output_dim")))
    if mode == "int8":
        return Declared(("embeddings", "embeddings_scale"), {"embeddings": whole})
    if mode == "int4":
        return Declared(("embeddings", "embeddings_scale", "embeddings_zero", "g_idx"), {}, optional=2)
    return Declared(("embeddings",), {"embeddings": whole})


def _reversible_embedding(config: Config) -> Declared:
    own = _embedding(config)
    if _flag(config, "tie_weights") or own.names is None:
        return own
    scale = ("reverse_embeddings_scale",) if quantisation_mode(config) in ("int8", "int4") else ()
    if quantisation_mode(config) == "int4":
        return Declared(None, {})
    return Declared((*own.names, "reverse_embeddings", *scale), own.shapes)


def _batch_normalization(config: Config) -> Declared:
    names = [*(("gamma",) if _flag(config, "scale") else ()), *(("beta",) if _flag(config, "center") else ())]
    names += ["moving_mean", "moving_variance"]
    if _flag(config, "renorm", default=False):
        names += ["moving_stddev", "renorm_mean", "renorm_stddev"]
    return Declared(tuple(names), dict.fromkeys(names, (None,)), optional=1 if "renorm_mean" in names else 0)


def _gamma_beta(config: Config) -> Declared:
    if _flag(config, "rms_scaling", default=False):
        return Declared(("gamma",), {})
    names = [*(("gamma",) if _flag(config, "scale") else ()), *(("beta",) if _flag(config, "center") else ())]
    return Declared(tuple(names), {})


def _normalization(config: Config) -> Declared:
    if config.get("mean") is not None:
        return Declared((), {})
    return Declared(("mean", "variance", "count"), {"count": ()}, optional=1)


def _cell(gates: int) -> Rule:
    def rule(config: Config) -> Declared:
        units = integer(config.get("units"))
        wide = None if units is None else gates * units
        kernels: list[tuple[str, Axes]] = [("kernel", (None, wide)), ("recurrent_kernel", (units, wide))]
        shapes: dict[str, Axes] = dict(kernels)
        names = (*shapes, "bias") if _flag(config, "use_bias") else tuple(shapes)
        return Declared(names, shapes)

    return rule


def _conv_lstm_cell(rank: int | None) -> Rule:
    def rule(config: Config) -> Declared:
        names = ("kernel", "recurrent_kernel", "bias") if _flag(config, "use_bias") else ("kernel", "recurrent_kernel")
        filters = integer(config.get("filters"))
        if rank is None or filters is None:
            return Declared(names, {})
        sizes = _sizes(config, "kernel_size", rank)
        return Declared(
            names, {"kernel": (*sizes, None, 4 * filters), "recurrent_kernel": (*sizes, filters, 4 * filters)}
        )

    return rule


def _attention(config: Config) -> Declared:
    names = [*(("scale",) if _flag(config, "use_scale", default=False) else ())]
    if config.get("score_mode") == "concat":
        names.append("concat_score_weight")
    return Declared(tuple(names), {})


RULES: Mapping[str, Rule] = {
    **{f"Conv{rank}D": _conv(rank) for rank in (1, 2, 3)},
    **{f"Conv{rank}DTranspose": _conv_transpose(rank) for rank in (1, 2, 3)},
    **{f"DepthwiseConv{rank}D": _depthwise(rank) for rank in (1, 2)},
    **{f"SeparableConv{rank}D": _separable(rank) for rank in (1, 2)},
    **{f"LocallyConnected{rank}D": _locally_connected for rank in (1, 2)},
    "Dense": _dense,
    "EinsumDense": _einsum_dense,
    "Embedding": _embedding,
    "ReversibleEmbedding": _reversible_embedding,
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _gamma_beta,
    "GroupNormalization": _gamma_beta,
    "Normalization": _normalization,
    **{name: _cell(kind_of(name).gates) for name in ("CuDNNLSTM", "CuDNNGRU")},
    **{f"{name}Cell": _cell(kind_of(name).gates) for name in ("LSTM", "GRU", "SimpleRNN")},
    **{f"ConvLSTM{rank}DCell": _conv_lstm_cell(rank) for rank in (1, 2, 3)},
    "ConvLSTMCell": _conv_lstm_cell(None),
    "Attention": _attention,
    "AdditiveAttention": lambda config: Declared(("scale",) if _flag(config, "use_scale") else (), {}),
}


def declare(entry: Mapping[str, Any]) -> Declared:
    """Read what a layer's entry in the config says about its own arrays (not those of layers inside it)."""
    kind = base_class(entry)
    module = entry.get("module")
    rule = RULES.get(layer_kind(kind, None).name or kind)
    if rule is not None:
        return rule(mapping(entry.get("config")))
    row = layer_kind(kind, module if isinstance(module, str) else None)
    return Declared(() if row.cell else row.weights, {})


def names_by_group(stem: str) -> tuple[str, ...] | None:
    """Name the variables of a group that Keras named after a class ("conv2d"), where a file has no config.

    Args:
        stem: The group's name without its counter.
    """
    return _NAMES_BY_GROUP.get(stem)


_CELL = ("kernel", "recurrent_kernel", "bias")
# Four arrays of a batch normalisation are unambiguous; fewer (scale=False or center=False) are not, and stay numbered.
_NAMES_BY_GROUP: Mapping[str, tuple[str, ...]] = {
    **{snake_case(row.name): row.weights for row in LAYERS if row.weights and not row.cell},
    **{snake_case(cell): _CELL for cell in (*CELLS, "ConvLSTMCell", "Cell")},
    **{f"{name}_dense": ("kernel", "bias") for name in ("query", "key", "value", "output")},
}


def contradiction(declared: Declared, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Say how stored axes contradict declared ones, as in "kernel is (5, 8), declared (?, 9)"; empty if they agree."""
    for name, axes in declared.shapes.items():
        stored = shapes.get(name)
        if stored is None:
            continue
        agree = len(stored) == len(axes) and all(
            want is None or want == have for want, have in zip(axes, stored, strict=False)
        )
        if not agree:
            wanted = ", ".join("?" if size is None else str(size) for size in axes)
            return f"{name} is {stored}, declared ({wanted}{',' if len(axes) == 1 else ''})"
    return ""
