"""The contract's networks as PyTorch would export them, for backends that run PyTorch's models.

The same shapes of graph as in ``cnnlens.testing.networks`` and layers of the same names, written down as operators of
ATen with their arguments: making them needs no PyTorch, and no file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import UnsupportedLayerError
from cnnlens.files import StoredArray
from cnnlens.files.torch.operations import call_arguments, equip, translated
from cnnlens.files.torch.weights import argument_kinds, geometry_of_entry, torch_weight
from cnnlens.network.graph import Call, Layer, Ref, Shape, map_refs
from cnnlens.network.network import Network
from cnnlens.network.weight import Weight

__all__ = ["NETWORKS", "REFUSED", "TorchGraph", "torch_network"]

Sizes = Sequence[int]


@dataclass(frozen=True)
class _Source:
    """Where a network in memory comes from; see ``cnnlens.network.graph.Source``."""

    sha256: str
    path: Path = Path("in-memory.pt2")
    format: str = "memory"
    framework: str = "torch"
    keras_version: str | None = None
    size: int = 0


class TorchGraph:
    """Builds a network of PyTorch's operators: one line a call."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.generator = np.random.default_rng(seed)
        self.layers: dict[str, Layer] = {}
        self.calls: list[Call] = []
        self.shapes: dict[Ref, Shape] = {}

    def input(self, name: str, *shape: int) -> Ref:
        """Give it an input of ``shape`` without its batch."""
        entry: dict[str, Any] = {"target": "input", "arguments": {}}
        config = {"batch_shape": [None, *shape], "dtype": "float32"}
        return self._called(Layer(name, "InputLayer", config, "torch", entry, path=(name,)), (), (None, *shape))

    def call(
        self,
        name: str,
        kind: str,
        target: str,
        tensors: Sequence[Ref],
        shape: Sizes | None,
        weights: Mapping[str, Sizes | NDArray[Any]] | None = None,
        /,
        **settings: Any,
    ) -> Ref:
        """Call a new layer, or again one that is there.

        Args:
            name: The layer's; ``kind``: its class.
            target: The operator, without ``aten.`` where it is ATen's.
            tensors: What it takes: its first argument, or all of a list named ``tensors`` or ``other``.
            shape: What it gives, without the batch; None for what the reference makes of these shapes.
            weights: Its arrays by argument name, or shapes of arrays that are drawn.
            settings: Its other arguments; or all, a tensor of ``tensors`` being ``{"tensor": 0}`` and so on.
        """
        if name not in self.layers:
            self.layers[name] = self._layer(name, kind, target, tensors, weights or {}, settings)
        layer = self.layers[name]
        try:
            shapes = {one: weight.stored.shape for one, weight in layer.stored.items()}
            args = call_arguments(translated(layer.entry, shapes, [self.shapes[ref] for ref in tensors]), tensors)
        except UnsupportedLayerError:
            args = tuple(tensors)
        if shape is None:
            made: Any = layer.operation.output_shape(*map_refs(args, self.shapes.__getitem__))
            first = cast("list[Shape]", made)[0] if isinstance(made, list) else cast("Shape", made)
            return self._called(layer, args, first)
        return self._called(layer, args, (None, *shape))

    def container(self, name: str, kind: str, x: Ref) -> Ref:
        if name not in self.layers:
            self.layers[name] = Layer(name, kind, {}, "", container=True, path=tuple(name.split(".")))
        return self._called(self.layers[name], (x,), self.shapes[x])

    def network(self, inputs: Sequence[Ref], outputs: Sequence[Ref]) -> Network:
        arrays = [weight.read() for layer in self.layers.values() for weight in layer.stored.values()]
        digest = hashlib.sha256(repr(self.calls).encode())
        for array in arrays:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        source = _Source(digest.hexdigest())
        listed = tuple({call.layer.name: call.layer for call in self.calls}.values())
        return Network(self.name, "Module", source, listed, tuple(self.calls), tuple(inputs), tuple(outputs))

    def _layer(
        self,
        name: str,
        kind: str,
        target: str,
        tensors: Sequence[Ref],
        weights: Mapping[str, Sizes | NDArray[Any]],
        settings: Mapping[str, Any],
    ) -> Layer:
        op = target.split(".", 1)[0]
        numbered: list[Any] = [{"tensor": number} for number in range(len(tensors))]
        first = _FIRST.get(op, "input")
        operands: dict[str, Any] = (
            {first: numbered} if first == "tensors" else dict(zip((first, "other"), numbered, strict=False))
        )
        if any(
            one in (value, *(value if isinstance(value, list) else []))
            for value in settings.values()
            for one in numbered
        ):
            operands = {}  # the settings say where each tensor goes
        arguments = {**operands, **{one: {"weight": one} for one in weights}, **settings}
        full = target if target.count(".") > 1 else f"aten.{target}"
        kinds, geometry = argument_kinds(op, arguments), geometry_of_entry(arguments, None)
        stored: dict[str, Weight] = {}
        for one, given in weights.items():
            drawn = given if isinstance(given, np.ndarray) else self._numbers(one, given)
            array = StoredArray(drawn.shape, drawn.dtype, drawn.dtype.name, f"{name}.{one}", drawn.view)
            stored[one] = torch_weight(one, [kinds[one]] if one in kinds else [], array, geometry, settings)
        module = f"torch.nn.{kind}" if kind[0].isupper() else "torch.ops.aten"
        entry = {"target": full, "arguments": arguments}
        layer = Layer(name, kind, dict(settings), module, entry, path=tuple(name.split(".")), stored=stored)
        equip(layer, [self.shapes[ref] for ref in tensors])
        return layer

    def _called(self, layer: Layer, args: tuple[Any, ...], shape: Shape) -> Ref:
        self.layers[layer.name] = layer
        number = sum(call.layer is layer for call in self.calls)
        call = Call(f"{layer.name}:{number}" if number else layer.name, layer, args, {}, (shape,), 1)
        if not number:
            layer.output_shape = layer.stored_output_shape = shape
            layer.inputs = tuple(ref.name for ref in call.refs)
            if layer.container or layer.kind == "InputLayer":
                equip(layer, [self.shapes[ref] for ref in call.refs])
        self.calls.append(call)
        ref = Ref(call.name)
        self.shapes[ref] = shape
        return ref

    def _numbers(self, role: str, shape: Sizes) -> NDArray[np.float32]:
        if role == "running_var" or (role == "weight" and len(shape) == 1):
            return self.generator.uniform(0.5, 2.0, shape).astype(np.float32)  # not 1, so that leaving it out shows
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 4
        return self.generator.normal(0, fan_in**-0.5, shape).astype(np.float32)


# What an operator calls its first tensor, where that is not ``input``.
_FIRST = {
    **dict.fromkeys(("relu", "relu_", "add", "sub", "max_pool2d", "mean", "flatten", "tanh", "softmax"), "self"),
    "cat": "tensors",
}
_NORM: dict[str, Any] = {"training": False, "momentum": 0.1, "cudnn_enabled": True}


def _chain(g: TorchGraph) -> Network:
    """Layers in a row, one of them written in place, with paddings and strides that differ by axis."""
    x = photo = g.input("photo", 3, 11, 9)
    conv = {"weight": (5, 3, 3, 5), "bias": (5,)}
    x = g.call("first", "Conv2d", "conv2d.default", [x], (5, 11, 9), conv, stride=[1, 1], padding=[1, 2])
    x = g.call("act", "ReLU", "relu_.default", [x], (5, 11, 9))
    x = g.call("pool", "MaxPool2d", "max_pool2d.default", [x], (5, 5, 3), kernel_size=[2, 3], stride=[2, 3])
    kernel = {"weight": (7, 5, 3, 2)}
    x = g.call("second", "Conv2d", "conv2d.default", [x], (7, 3, 2), kernel, stride=[2, 2], padding=[1, 1])
    names: list[str] = ["weight", "bias", "running_mean", "running_var"]
    arrays = dict.fromkeys(names, (7,))
    x = g.call("norm", "BatchNorm2d", "batch_norm.default", [x], (7, 3, 2), arrays, eps=0.002, **_NORM)
    x = g.call("relu", "relu", "relu.default", [x], (7, 3, 2))
    x = g.call("flat", "Flatten", "flatten.using_ints", [x], (42,), start_dim=1)
    x = g.call("drop", "Dropout", "dropout.default", [x], (42,), p=0.5, train=False)
    x = g.call("head", "Linear", "linear.default", [x], (4,), {"weight": (4, 42), "bias": (4,)})
    x = g.call("softmax", "softmax", "softmax.int", [x], (4,), dim=-1)
    return g.network([photo], [x])


def _branches(g: TorchGraph) -> Network:
    """Two inputs and two outputs, neither in the order in which they were made."""
    image, extra = g.input("image", 2, 9, 8), g.input("extra", 5)
    left = {"weight": (4, 2, 3, 3), "bias": (4,)}
    a = g.call("left", "Conv2d", "conv2d.default", [image], (4, 9, 8), left, padding=[1, 1])
    b = g.call("right", "Conv2d", "conv2d.default", [image], (4, 9, 8), {"weight": (4, 2, 1, 1), "bias": (4,)})
    joined = g.call("joined", "add", "add.Tensor", [a, b], (4, 9, 8))
    pooled = g.call("pooled", "mean", "mean.dim", [joined], (4,), dim=[2, 3])
    both = g.call("both", "cat", "cat.default", [extra, pooled], (9,), dim=1)
    first = g.call("z_first", "Linear", "linear.default", [both], (3,), {"weight": (3, 9), "bias": (3,)})
    first = g.call("squashed", "tanh", "tanh.default", [first], (3,))
    second = g.call("a_second", "Linear", "linear.default", [pooled], (6,), {"weight": (6, 4), "bias": (6,)})
    return g.network([extra, image], [second, first])


def _shared(g: TorchGraph) -> Network:
    """One layer used twice, and something before it wanted behind it."""
    image = g.input("image", 3, 8, 6)
    conv = {"weight": (3, 3, 3, 5), "bias": (3,)}
    x = g.call("conv", "Conv2d", "conv2d.default", [image], (3, 8, 6), conv, padding=[1, 2])
    y = g.call("act", "ReLU", "relu_.default", [x], (3, 8, 6))
    z = g.call("conv", "Conv2d", "conv2d.default", [y], (3, 8, 6))
    return g.network([image], [g.call("difference", "sub", "sub.Tensor", [z, x], (3, 8, 6))])


def _nested(g: TorchGraph) -> Network:
    """A module used twice inside another, beside a second one with a layer of the same name."""
    x = image = g.input("image", 2, 7, 5)
    handed: list[Ref] = []
    for _ in range(2):
        conv = {"weight": (2, 2, 3, 3), "bias": (2,)}
        x = g.call("inner.conv", "Conv2d", "conv2d.default", [x], (2, 7, 5), conv, padding=[1, 1])
        x = g.container("inner", "Inner", x)
        handed.append(x)
    pair = g.call("cat", "cat", "cat.default", handed, (4, 7, 5), dim=1)
    conv = {"weight": (8, 1, 2, 3), "bias": (8,)}
    x = g.call("block.conv", "Conv2d", "conv2d.default", [pair], (8, 6, 3), conv, groups=4)
    x = g.call("block.act", "ReLU", "relu_.default", [x], (8, 6, 3))
    return g.network([image], [g.container("block", "Block", x)])


def _signal(g: TorchGraph) -> Network:
    """One spatial axis."""
    wave = g.input("wave", 3, 19)
    coarse = {"weight": (5, 3, 4), "bias": (5,)}
    x = g.call("coarse", "Conv1d", "conv1d.default", [wave], (5, 7), coarse, stride=[3], padding=[2])
    return g.network(
        [wave], [g.call("fine", "Conv1d", "conv1d.default", [x], (6, 6), {"weight": (6, 5, 2), "bias": (6,)})]
    )


def _volume(g: TorchGraph) -> Network:
    """Three spatial axes."""
    scan = g.input("scan", 2, 6, 5, 4)
    conv = {"weight": (3, 2, 2, 3, 1), "bias": (3,)}
    x = g.call("conv", "Conv3d", "conv3d.default", [scan], (3, 5, 5, 4), conv, padding=[0, 1, 0])
    return g.network([scan], [g.call("act", "ReLU", "relu_.default", [x], (3, 5, 5, 4))])


def _unknown(g: TorchGraph) -> Network:
    """An operator that its author registered and nobody else has."""
    image = g.input("image", 2, 6, 5)
    x = g.call("attention", "Attention", "mymodule.attention.default", [image], (2, 6, 5), heads=2)
    return g.network([image], [x])


def _file(g: TorchGraph) -> Network:
    """An operator that makes a file."""
    image = g.input("image", 2, 6, 5)
    settings: dict[str, Any] = {"filename": "in-memory", "shared": True, "size": 60}
    x = g.call("anything", "from_file", "from_file.default", [image], (2, 6, 5), **settings)
    return g.network([image], [x])


Maker = Callable[[TorchGraph], Network]

NETWORKS: dict[str, Maker] = {
    "chain": _chain, "branches": _branches, "shared": _shared, "nested": _nested, "signal": _signal,
    "volume": _volume,
}  # fmt: skip
REFUSED: dict[str, Maker] = {"unknown": _unknown, "lambda": _file}


def torch_network(name: str) -> Network:
    """Build one of ``NETWORKS`` or ``REFUSED``, with arrays that are the same every time."""
    makers = {**NETWORKS, **REFUSED}
    return makers[name](TorchGraph(name, sorted(makers).index(name)))
