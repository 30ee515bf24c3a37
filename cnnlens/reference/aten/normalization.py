"""Normalisations of torch at inference: batch, instance, group, layer and RMS."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnlens.reference.aten.arguments import IN_EVAL, Arguments, Tensor, Translation
from cnnlens.reference.aten.operations import bare, layer
from cnnlens.reference.aten.registry import aten
from cnnlens.reference.bare.rules import same
from cnnlens.reference.keras.normalization import (
    BatchNormalization,
    GroupNormalization,
    LayerNormalization,
    RMSNormalization,
)
from cnnlens.reference.operation import Array

__all__ = ["EPSILON_32"]

#: What torch takes where ``eps`` is None: the distance from one to the next float32.
EPSILON_32 = float(np.finfo(np.float32).eps)


def _named(args: Arguments, kind: str, roles: dict[str, str]) -> dict[str, tuple[str, str]]:
    found = ((args.weight(argument), role) for argument, role in roles.items())
    return {name: (kind, role) for name, role in found if name is not None}


_AFFINE = {"weight": "gamma", "bias": "beta"}
_STATISTICS = {"running_mean": "moving_mean", "running_var": "moving_variance"}


@aten(
    "batch_norm", "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_no_update", "_batch_norm_with_update",
)  # fmt: skip
def _batch_norm(args: Arguments) -> Translation:
    if args.flag("training") and args.name != "_native_batch_norm_legit_no_training":
        # Decomposed, an instance norm is a batch norm of one example whose channels are those of the whole batch.
        if args.known(args.main)[:1] == (1,) and args.get("running_mean") is None:
            return _on_tensors(args)
        raise args.refuse(f"it normalises with the batch's own statistics (training); {IN_EVAL}")
    return _with_statistics(args)


def _with_statistics(args: Arguments) -> Translation:
    mean, variance = args.get("running_mean"), args.get("running_var")
    if mean is None or variance is None:
        raise args.refuse("it keeps no running statistics, so its result depends on the whole batch")
    if any(isinstance(args.get(name), Tensor) for name in (*_AFFINE, *_STATISTICS)):
        return _on_tensors(args)
    config = {
        "axis": 1,
        "epsilon": _epsilon(args),
        "scale": args.get("weight") is not None,
        "center": args.get("bias") is not None,
    }
    kind = "BatchNormalization"
    named = _named(args, kind, {**_AFFINE, **_STATISTICS})
    return layer(BatchNormalization(kind, config, (3,)), (args.tensor(),), named)


def _epsilon(args: Arguments) -> float:
    return args.number("eps", args.number("epsilon", 1e-5))


def _on_tensors(args: Arguments) -> Translation:
    """A batch norm whose vectors are computed in the graph, or that has no statistics of its own."""
    names = [name for name in (*_STATISTICS, *_AFFINE) if args.get(name) is not None]
    epsilon, rank = _epsilon(args), args.rank()
    others = (0, *range(2, rank))

    def call(settings: Any, x: Array, *vectors: Array) -> Array:
        found = {name: vector.reshape(-1, *(1,) * (rank - 2)) for name, vector in zip(names, vectors, strict=True)}
        mean = found.get("running_mean", x.mean(axis=others, keepdims=True))
        variance = found.get("running_var")
        centred = x - mean
        if variance is None:
            variance = np.square(centred).mean(axis=others, keepdims=True)
        result = centred / np.sqrt(variance + epsilon)
        result = result * found["weight"] if "weight" in found else result
        return result + found["bias"] if "bias" in found else result

    operands = [args.main, *(args.get(name) for name in names)]
    if "running_mean" in names:
        return bare(args, "BatchNorm", call, same, operands, {"epsilon": epsilon})
    roles = ["x", *("gamma" if name == "weight" else "beta" for name in names)]
    return bare(args, "InstanceNorm", call, same, operands, {"epsilon": epsilon}, roles)


@aten("instance_norm")
def _instance_norm(args: Arguments) -> Translation:
    if not args.flag("use_input_stats", True):
        return _with_statistics(args)
    return _grouped(args, -1)


@aten("group_norm", "native_group_norm")
def _group_norm(args: Arguments) -> Translation:
    return _grouped(args, args.integer("num_groups" if args.name == "group_norm" else "group", 1))


def _grouped(args: Arguments, groups: int) -> Translation:
    kind = "GroupNormalization"
    config: dict[str, Any] = {"groups": groups, "axis": 1, "epsilon": args.number("eps", 1e-5)}
    return layer(GroupNormalization(kind, config, (3,)), (args.tensor(),), _named(args, kind, _AFFINE))


@aten("layer_norm", "native_layer_norm")
def _layer_norm(args: Arguments) -> Translation:
    kind = "LayerNormalization"
    config = {"axis": _last(args), "epsilon": args.number("eps", 1e-5)}
    return layer(LayerNormalization(kind, config, (3,)), (args.tensor(),), _named(args, kind, _AFFINE))


@aten("rms_norm", "_fused_rms_norm")
def _rms_norm(args: Arguments) -> Translation:
    kind = "RMSNormalization"
    config = {"axis": _last(args), "epsilon": args.number("eps", EPSILON_32)}
    named = _named(args, kind, {"weight": "scale"})
    return layer(RMSNormalization(kind, config, (3,)), (args.tensor(),), named)


def _last(args: Arguments) -> list[int]:
    return list(range(-len(args.get("normalized_shape", [0])), 0))
