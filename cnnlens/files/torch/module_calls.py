"""What a module of torch.nn computes, from its class and its attributes: the operators that its ``forward`` calls.

Which operator a class calls stands in the table of layer kinds, or is the class's own name in small letters; the
operator's arguments have the names of the attributes. What is left over is in the few functions below. Sources: the
``forward`` of each class in ``torch/nn/modules`` (torch 2.13).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from cnnlens.errors import UnsupportedLayerError
from cnnlens.files.torch.module_tree import Module
from cnnlens.files.torch.operators import schemas_of
from cnnlens.files.torch.pickle_values import is_plain
from cnnlens.files.torch.program import Value
from cnnlens.kinds import LAYERS, OPERATIONS

__all__ = ["INPUT", "Call", "calls_of", "is_stock"]

INPUT = Value("input")
"""Stands for what a module's first call takes; ``Value("array:NAME")`` for an array of its own."""

Call = tuple[str, dict[str, Any]]
"""An operator with its overload, and its arguments by name."""

_STOCK = "torch.nn.modules."
_NAMED_ALIKE = re.compile(
    r"((max|avg|adaptive_avg|adaptive_max)_pool|(reflection|replication)_pad)[123]d|pixel_(un)?shuffle|channel_shuffle|"
    r"flatten|glu"
)
_EACH_AXIS = frozenset("kernel_size stride padding dilation output_padding output_size".split())
_INSTANCE = {f"InstanceNorm{n}d": "instance_norm" for n in (1, 2, 3)}
_OPERATORS: Mapping[str, str] = {
    **{name: row.aten[0] for row in LAYERS for name in row.modules if row.aten and not row.cell},
    **{row.module[3:].partition("(")[0]: row.aten[0] for row in OPERATIONS if row.module},
    **_INSTANCE,
}


def is_stock(module: Module) -> bool:
    """Tell whether a module's class is torch's own."""
    return module.kind.startswith(_STOCK)


def calls_of(module: Module, axes: int = 2) -> list[Call]:
    """List the operators that a module of torch.nn calls on its input, one after the other; none of an Identity.

    Args:
        module: The module.
        axes: How many spatial axes its input has, for the few classes that do not say it.

    Raises:
        UnsupportedLayerError: it is no such module, or more than one tensor goes through it.
    """
    own = {name: _plain(value) for name, value in module.record.attributes.items() if isinstance(name, str)}
    own["axes"] = int(module.name[-2]) if module.name[-2:] in ("1d", "2d", "3d") else axes
    if not is_stock(module):
        raise UnsupportedLayerError(f"what {module.name} computes is in its own code")
    special = _SPECIAL.get(re.sub(r"\dd$", "", module.name))
    if special is not None:
        return special(module, own)
    operator = _OPERATORS.get(module.name) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", module.name).lower()
    known = module.name in _OPERATORS or _NAMED_ALIKE.fullmatch(operator) is not None
    if not known or own.get("return_indices"):
        raise UnsupportedLayerError(f"nn.{module.name} is not followed from its attributes")
    return [_call(module, own, operator)]


def is_recurrent(module: Module) -> bool:
    """Tell whether a module is one of torch's that go over a sequence."""
    return is_stock(module) and module.name in ("LSTM", "GRU", "RNN")


def recurrent_call(module: Module) -> tuple[str, dict[str, Any], tuple[int, int], int]:
    """Give what an ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN`` calls: the operator, its arguments with its arrays by name,
    how many layers and directions and units there are, and how many states.

    Raises:
        UnsupportedLayerError: it does more than one operator does, or its first axis is time.
    """
    own = module.record.attributes
    if not own.get("batch_first"):
        raise UnsupportedLayerError(f"nn.{module.name} has time in front of the batch, whose size is not said")
    if own.get("proj_size"):
        raise UnsupportedLayerError(f"nn.{module.name} with projections is not computed")
    layers, units = own.get("num_layers"), own.get("hidden_size")
    if not isinstance(layers, int) or not isinstance(units, int) or not 0 < layers <= len(module.arrays):
        raise UnsupportedLayerError(f"nn.{module.name} does not say its size")
    biased, both = bool(own.get("bias", True)), bool(own.get("bidirectional"))
    roles = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if biased else ()))
    params = [
        f"{role}_l{layer}{way}" for layer in range(layers) for way in ("", "_reverse")[: 1 + both] for role in roles
    ]
    arguments = {"params": params, "has_biases": biased, "num_layers": layers, "dropout": 0.0, "train": False,
                 "bidirectional": both, "batch_first": True}  # fmt: skip
    kind = str(own.get("nonlinearity", "tanh"))
    operator = f"rnn_{kind}" if module.name == "RNN" else module.name.lower()
    return operator, arguments, (layers * (1 + both), units), 2 if module.name == "LSTM" else 1


def _plain(value: Any) -> Any:
    """An attribute as an argument: tuples are lists, what is no number, text or list of them is nothing."""
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in cast("list[Any]", value)[:10]]
    return value if is_plain(value) else None


def _call(module: Module, own: Mapping[str, Any], operator: str, **changed: Any) -> Call:
    overload, names = schemas_of(operator)[0]
    arguments: dict[str, Any] = {}
    for name in names:
        if name in changed:
            arguments[name] = changed[name]
        elif name in module.arrays:
            arguments[name] = Value(f"array:{name}")
        elif name == names[0]:
            arguments[name] = INPUT
        elif own.get(name) is not None and name != "training":
            value = own[name]
            arguments[name] = [value] * own["axes"] if name in _EACH_AXIS and isinstance(value, int) else value
    if None in cast("list[Any]", arguments.get("output_size") or []):
        raise UnsupportedLayerError(f"{module.name} that keeps an axis as it is depends on the size of its input")
    return f"aten.{operator}.{overload}", arguments


def _convolution(module: Module, own: Mapping[str, Any]) -> list[Call]:
    operator = _OPERATORS[module.name]
    mode, pads = own.get("padding_mode", "zeros"), own.get("_reversed_padding_repeated_twice")
    if mode == "zeros":
        return [_call(module, own, operator)]
    if not isinstance(pads, list) or mode not in ("circular", "reflect", "replicate"):
        raise UnsupportedLayerError(f"{module.name} with a padding_mode that torch does not have")
    padded: Call = ("aten.pad.default", {"self": INPUT, "pad": pads, "mode": mode})
    return [padded, _call(module, own, operator, padding=0)]


def _normalization(module: Module, own: Mapping[str, Any]) -> list[Call]:
    operator, of_batch = _OPERATORS[module.name], "running_mean" not in module.arrays
    # Without statistics of its own it takes those of what comes, in inference too.
    changed = {"use_input_stats" if operator == "instance_norm" else "training": of_batch, "cudnn_enabled": True}
    momentum = own.get("momentum")
    target, arguments = _call(module, own, operator, **changed, momentum=0.1 if momentum is None else momentum)
    return [(target, dict.fromkeys(("weight", "bias", "running_mean", "running_var")) | arguments)]


def _embedding(module: Module, own: Mapping[str, Any]) -> list[Call]:
    if own.get("max_norm") is not None:
        raise UnsupportedLayerError("Embedding with max_norm changes its own weight as it runs")
    return [("aten.embedding.default", {"weight": Value("array:weight"), "indices": INPUT})]


def _padding(module: Module, own: Mapping[str, Any]) -> list[Call]:
    pads = own.get("padding")
    return [("aten.constant_pad_nd.default", {"self": INPUT, "pad": pads, "value": own.get("value", 0)})]


def _upsample(module: Module, own: Mapping[str, Any]) -> list[Call]:
    mode, own_axes = own.get("mode"), cast("int", own["axes"])
    corners = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}
    axes = corners.get(str(mode), own_axes)
    if own.get("recompute_scale_factor") or mode not in (*corners, "nearest", "nearest-exact"):
        raise UnsupportedLayerError(f"{module.name} with these attributes depends on the size of its input")
    operator = f"_upsample_nearest_exact{axes}d" if mode == "nearest-exact" else f"upsample_{mode}{axes}d"
    arguments: dict[str, Any] = {"input": INPUT}
    for name, attribute in (("output_size", "size"), ("scale_factors", "scale_factor")):
        one = own.get(attribute)
        arguments[name] = cast("Any", one) if one is None or isinstance(one, list) else [one] * axes
    if mode in corners:
        arguments["align_corners"] = bool(own.get("align_corners"))
    return [(f"aten.{operator}.vec", arguments)]


def _softmax(module: Module, own: Mapping[str, Any]) -> list[Call]:
    dim = 1 if module.name == "Softmax2d" else own.get("dim")
    if not isinstance(dim, int):
        raise UnsupportedLayerError(f"{module.name} without dim depends on the rank of its input")
    return [(f"aten.{'log_softmax' if module.name.startswith('Log') else 'softmax'}.int", {"self": INPUT, "dim": dim})]


def _unflatten(module: Module, own: Mapping[str, Any]) -> list[Call]:
    return [("aten.unflatten.int", {"self": INPUT, "dim": own.get("dim"), "sizes": own.get("unflattened_size")})]


def _dropout(module: Module, own: Mapping[str, Any]) -> list[Call]:
    return [("aten.dropout.default", {"input": INPUT, "p": own.get("p", 0.5), "train": False})]


def _nothing(module: Module, own: Mapping[str, Any]) -> list[Call]:
    return []


_SPECIAL: Mapping[str, Callable[[Module, Mapping[str, Any]], list[Call]]] = {
    "Conv": _convolution, "ConvTranspose": _convolution, "BatchNorm": _normalization, "SyncBatchNorm": _normalization,
    "InstanceNorm": _normalization, "Embedding": _embedding, "ZeroPad": _padding, "ConstantPad": _padding,
    "Upsample": _upsample, "UpsamplingNearest": _upsample, "UpsamplingBilinear": _upsample, "Softmax": _softmax,
    "LogSoftmax": _softmax, "Unflatten": _unflatten, "Dropout": _dropout, "AlphaDropout": _dropout,
    "FeatureAlphaDropout": _dropout, "Identity": _nothing,
}  # fmt: skip
