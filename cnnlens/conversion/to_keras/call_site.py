"""One call of a PyTorch layer on its way to Keras: what it is given, what it computes, and the table of who writes it.

A rule takes a ``CallSite``, makes Keras layers with the builder, and gives the values that come out. Rules are found by
the name of the aten operator first, then by the class of the reference's operation, which knows the layers' settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from numpy.typing import NDArray

from cnnlens.conversion.to_keras.builder import Builder
from cnnlens.conversion.to_keras.value import Value, channels_last
from cnnlens.errors import UnsupportedLayerError
from cnnlens.network.graph import Call, Shape
from cnnlens.reference.aten.arguments import Arguments, Tensor
from cnnlens.reference.operation import Operation
from cnnlens.text import printable

__all__ = ["BY_CLASS", "BY_NAME", "CallSite", "aten", "operator_name", "reference"]


def operator_name(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Split a layer's aten operator, without namespace and the underscore of its in-place form, and overload."""
    parts = str(entry.get("target", "")).removeprefix("torch.ops.").split(".")
    name = parts[1] if len(parts) > 1 else ""
    stripped = name.removesuffix("_") if not name.endswith("__") else name
    return stripped, parts[2] if len(parts) > 2 else "default"


@dataclass
class CallSite:
    """Holds one call that is being written in Keras.

    Attributes:
        builder: The model that is made.
        call: The call; ``tensors``: what it takes, in the order of ``call.refs``.
        shared: A name for the layer where it is called several times, else empty.
        keeps_flat: Whether all that follows this call works on each feature alone and ends in Linear layers.
    """

    builder: Builder
    call: Call
    tensors: list[Value]
    shared: str = ""
    keeps_flat: bool = False

    @cached_property
    def operation(self) -> Operation:
        return self.call.layer.operation

    @cached_property
    def args(self) -> Arguments:
        """Give the arguments of the aten call."""
        name, overload = operator_name(self.call.layer.entry)
        shapes = {name: tuple(weight.stored.shape) for name, weight in self.call.layer.stored.items()}
        arguments = cast("Mapping[str, Any]", self.call.layer.entry.get("arguments") or {})
        return Arguments(name, overload, arguments, shapes, [tensor.shape for tensor in self.tensors])

    @cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Give the layer's arrays by Keras' role, in Keras' axes."""
        return self.call.layer.computing_weights()

    @property
    def name(self) -> str:
        return self.call.layer.name

    @property
    def shape(self) -> Shape:
        """Give the shape of the first output, as PyTorch has it."""
        return self.shape_of(0)

    def shape_of(self, index: int) -> Shape:
        shape = self.call.shapes[index] if index < len(self.call.shapes) else None
        if shape is None:
            raise UnsupportedLayerError("the shape of what it gives is not known")
        return shape

    @property
    def main(self) -> Value:
        """Give the tensor that it is called on."""
        value = self.args.main
        if not isinstance(value, Tensor):
            raise UnsupportedLayerError("it is called on no tensor")
        return self.tensors[value.index]

    def tensor(self, value: Any) -> Value:
        """Give the tensor of a marker."""
        if not isinstance(value, Tensor):
            raise UnsupportedLayerError(f"a tensor was expected where {printable(value)} stands")
        return self.tensors[value.index]

    def map(self, tensor: Value | None = None) -> Value:
        """Bring a feature map into Keras' order, channels last."""
        one = self.main if tensor is None else tensor
        return self.builder.turned(one, channels_last(one.rank))

    def layer(
        self,
        kind: str,
        inputs: Value | Sequence[Value],
        config: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any]] | None = None,
        *,
        shape: Shape | None = None,
        axes: Sequence[int] | None = None,
        name: str = "",
        apart: bool = False,
        kwargs: Mapping[str, Any] | None = None,
    ) -> Value:
        """Call a Keras layer in this call's name; what comes out has this call's shape and its input's order."""
        first = inputs if isinstance(inputs, Value) else inputs[0]
        wanted, order = self.shape if shape is None else shape, first.axes if axes is None else axes
        shared = self.shared + name if self.shared else ""
        return self.builder.layer(
            kind, self.name + name, config, inputs, wanted, order, arrays, shared, apart=apart, kwargs=kwargs
        )

    def operate(
        self,
        kind: str,
        args: Sequence[Any],
        settings: Mapping[str, Any] | None = None,
        *,
        shape: Shape | None = None,
        axes: Sequence[int],
        name: str = "",
        kwargs: Mapping[str, Any] | None = None,
    ) -> Value:
        """Call an operation of ``keras.ops`` in this call's name."""
        wanted = self.shape if shape is None else shape
        return self.builder.operation(kind, self.name + name, settings or {}, args, wanted, axes, kwargs)


_NO_CODE = "no Keras code is known for it"
_NO_OPERATION = "Keras has no such operation"
#: Operators that have no rule, and why.
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        "view_as reshape_as upsample_bicubic2d _upsample_nearest_exact1d _upsample_nearest_exact2d "
        "_upsample_nearest_exact3d var_mean std_mean any all cumprod cosine_similarity mv dot vdot baddbmm addbmm "
        "bilinear _trilinear hstack vstack dstack split_copy split_with_sizes_copy "
        "topk sort index_select gather take_along_dim index _unsafe_index unfold unfold_copy im2col rot90 "
        "repeat_interleave one_hot tril triu arange linspace ones new_full new_ones scalar_tensor empty "
        "new_empty empty_like full_like eye _scaled_dot_product_flash_attention_for_cpu "
        "_scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention "
        "_scaled_dot_product_cudnn_attention".split(),
        _NO_CODE,
    ),
    **dict.fromkeys(
        "frac lerp addcmul addcdiv pairwise_distance _weight_norm _weight_norm_interface col2im slice_scatter "
        "select_scatter index_put _unsafe_index_put nan_to_num".split(),
        _NO_OPERATION,
    ),
}

Rule = Callable[[CallSite], "Value | list[Value]"]
BY_NAME: dict[str, Rule] = {}
BY_CLASS: dict[type[Operation], Rule] = {}


def aten(*names: str) -> Callable[[Rule], Rule]:
    """Decorator: the function writes these aten operators."""

    def add(rule: Rule) -> Rule:
        BY_NAME.update(dict.fromkeys(names, rule))
        return rule

    return add


def reference(*classes: type[Operation]) -> Callable[[Rule], Rule]:
    """Decorator: the function writes layers that the reference computes with these operations."""

    def add(rule: Rule) -> Rule:
        BY_CLASS.update(dict.fromkeys(classes, rule))
        return rule

    return add
