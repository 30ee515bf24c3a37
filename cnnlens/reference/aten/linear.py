"""Convolutions and linear layers of torch: kernels turned to Keras' axes, padding by numbers.

Torch stores a convolution's kernel ``(out, in / groups, *spatial)`` and a transposed one's
``(in, out / groups, *spatial)``; the reference wants ``(*spatial, in / groups, out)`` and ``(*spatial, out / groups,
in)``. No kernel is flipped on either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from cnnlens.reference.aten.arguments import Arguments, Tensor, Translation, WeightName, is_operand
from cnnlens.reference.aten.operations import bare, layer
from cnnlens.reference.aten.registry import aten
from cnnlens.reference.keras.convolution import Convolution, TransposedConvolution
from cnnlens.reference.keras.dense import Dense
from cnnlens.reference.operation import Array, LinearOperation

__all__ = ["dense"]


@aten("conv1d", "conv2d", "conv3d")
def _convolution(args: Arguments) -> Translation:
    padding = args.get("padding", 0)
    return _forward(args, int(args.name[4]), padding)


@aten("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _transposed_convolution(args: Arguments) -> Translation:
    return _backward(args, int(args.name.removeprefix("conv_transpose")[0]))


@aten("convolution", "_convolution", "mkldnn_convolution", "cudnn_convolution")
def _any_convolution(args: Arguments) -> Translation:
    rank = len(_kernel_shape(args)) - 2
    if args.flag("transposed"):
        return _backward(args, rank)
    return _forward(args, rank, args.get("padding", 0))


def _kernel_shape(args: Arguments) -> tuple[int, ...]:
    kernel = args.get("weight")
    if not is_operand(kernel):
        raise args.refuse("it has no weight")
    shape = args.known(kernel)
    if None in shape:
        raise args.refuse(f"its weight is computed in the graph, and its shape {shape} depends on the batch")
    return cast("tuple[int, ...]", shape)


def _common(args: Arguments, rank: int, shape: Sequence[int]) -> dict[str, Any]:
    if len(shape) != rank + 2:
        raise args.refuse(f"a kernel of {rank + 2} axes was expected, its shape is {tuple(shape)}")
    tensor = args.known(args.tensor())
    if len(tensor) != rank + 2:
        raise args.refuse(f"an input (N, C, …) of {rank + 2} axes was expected, its shape is {tensor}")
    return {
        "kernel_size": list(shape[2:]),
        "strides": args.integers("stride", rank, 1),
        "dilation_rate": args.integers("dilation", rank, 1),
        "groups": args.integer("groups", 1),
        "use_bias": args.get("bias") is not None,
        "data_format": "channels_first",
    }


def _forward(args: Arguments, rank: int, padding: Any) -> Translation:
    shape = _kernel_shape(args)
    config = _common(args, rank, shape)
    if isinstance(padding, str):
        # Torch's "same" is for strides of one alone, where it is Keras' own.
        config["padding"] = padding
        if padding == "same" and any(step != 1 for step in config["strides"]):
            raise args.refuse("padding 'same' with strides")
    else:
        config["padding"] = [[pad, pad] for pad in args.integers("padding", rank, 0)]
    if config["groups"] < 1 or shape[0] % config["groups"]:
        raise args.refuse(f"{shape[0]} filters cannot be cut into {config['groups']} groups")
    return _with_kernel(args, Convolution(f"Conv{rank}D", {"filters": shape[0], **config}, (3,)))


def _backward(args: Arguments, rank: int) -> Translation:
    shape = _kernel_shape(args)
    config = _common(args, rank, shape)
    if config["groups"] < 1 or shape[0] % config["groups"]:
        raise args.refuse(f"{shape[0]} input channels cannot be cut into {config['groups']} groups")
    config["padding"] = [[pad, pad] for pad in args.integers("padding", rank, 0)]
    config["output_padding"] = args.integers("output_padding", rank, 0)
    config["filters"] = shape[1] * config["groups"]
    return _with_kernel(args, TransposedConvolution(f"Conv{rank}DTranspose", config, (3,)))


def _turned(kernel: Array) -> Array:
    """The first two axes behind the spatial ones, in the other order: right for both directions."""
    return np.transpose(kernel, (*range(2, kernel.ndim), 1, 0))


def _with_kernel(args: Arguments, operation: LinearOperation) -> Translation:
    """A layer where kernel and bias are weights; the same arithmetic on whatever stands there otherwise."""
    kernel, bias = args.get("weight"), args.get("bias")
    if isinstance(kernel, WeightName) and not isinstance(bias, Tensor):
        named = ((kernel.name, "kernel"), (args.weight("bias"), "bias"))
        roles = {name: (operation.kind, role) for name, role in named if name is not None}
        return layer(operation, (args.tensor(),), roles, {kernel.name: _turned})

    def call(settings: Any, x: Array, taps: Array, *rest: Array) -> Array:
        return operation({"kernel": _turned(taps), **({"bias": rest[0]} if rest else {})}, x)

    def shape(settings: Any, x: Any, *rest: Any) -> Any:
        return operation.output_shape(x)

    operands = [args.main, kernel, *([] if bias is None else [bias])]
    kind = "ConvTranspose" if isinstance(operation, TransposedConvolution) else "Conv"
    return bare(args, kind, call, shape, operands, operation.config)


@aten("linear")
def _linear(args: Arguments) -> Translation:
    kernel, bias = args.get("weight"), args.get("bias")
    if not is_operand(kernel):
        raise args.refuse("it has no weight")
    if isinstance(kernel, WeightName) and not isinstance(bias, Tensor) and isinstance(args.main, Tensor):
        return dense(args, args.main, kernel.name, args.weight("bias"), turned=True)

    def call(settings: Any, x: Array, matrix: Array, *rest: Array) -> Array:
        product = np.matmul(x, matrix.T)
        return product + rest[0] if rest else product

    def shape(settings: Any, x: Any, matrix: Any, *rest: Any) -> Any:
        return (*x[:-1], *matrix[:-1])

    return bare(args, "Matmul", call, shape, [args.main, kernel, *([] if bias is None else [bias])])


def dense(args: Arguments, x: Tensor, weight: str, bias: str | None, *, turned: bool) -> Translation:
    """Compute ``x @ kernel + bias``; ``turned``: the kernel is stored ``(out, in)``."""
    shape = args.known(WeightName(weight))
    if len(shape) != 2:
        raise args.refuse(f"a weight of two axes was expected, its shape is {shape}")
    operation = Dense("Dense", {"units": shape[0 if turned else 1], "use_bias": bias is not None}, (3,))
    named = {weight: ("Dense", "kernel"), **({} if bias is None else {bias: ("Dense", "bias")})}

    def transpose(array: Array) -> Array:
        return array.T

    return layer(operation, (x,), named, {weight: transpose} if turned else None)
