"""Keras' walk on torch, captured as a graph of torch's own operations and relieved of copies that change no number.

Keras computes channels last and torch channels first, so Keras copies every feature map to and fro around each
convolution and pooling: half of the time on a CPU. Captured with torch's tracer, those copies can be seen and left out,
and sums and activations can be written where their input was. The operations themselves stay as Keras called them; the
caller compares the results bit for bit with Keras' own before it uses a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any

__all__ = ["captured", "write_in_place"]

# Work equally on any order of axes in memory, and fastest on channels last.
_ANY_ORDER = ("convolution.default", "max_pool2d_with_indices.default", "avg_pool2d.default")
# Give another view of the memory that they are given.
_VIEWS = (
    "permute.default", "reshape.default", "contiguous.default", "detach.default", "alias.default", "flatten.using_ints",
    "dropout.default", "unsqueeze.default", "transpose.int",
)  # fmt: skip
# Make memory of their own.
_FRESH = (
    *_ANY_ORDER, "mm.default", "addmm.default", "bmm.default", "add.Tensor", "sub.Tensor", "mul.Tensor", "div.Tensor",
    "relu.default", "sigmoid.default", "tanh.default", "hardtanh.default", "constant_pad_nd.default", "cat.default",
    "_native_batch_norm_legit_no_training.default", "native_batch_norm.default", "clamp.default", "silu.default",
    "conv1d.default", "conv2d.default", "conv3d.default", "linear.default", "batch_norm.default", "max_pool2d.default",
    "adaptive_avg_pool2d.default", "mean.dim", "hardswish.default", "hardsigmoid.default", "leaky_relu.default",
    "gelu.default", "elu.default", "relu6.default", "layer_norm.default", "group_norm.default", "softmax.int",
)  # fmt: skip
_IN_PLACE = {
    "add.Tensor": "add_.Tensor", "sub.Tensor": "sub_.Tensor", "mul.Tensor": "mul_.Tensor",
    "relu.default": "relu_.default", "sigmoid.default": "sigmoid_.default", "hardtanh.default": "hardtanh_.default",
    "clamp.default": "clamp_.default", "silu.default": "silu_.default", "tanh.default": "tanh_.default",
    "hardswish.default": "hardswish_.default", "hardsigmoid.default": "hardsigmoid_.default",
    "leaky_relu.default": "leaky_relu_.default", "elu.default": "elu_.default", "relu6.default": "relu6_.default",
}  # fmt: skip


def captured(walk: Callable[[Sequence[Any]], list[Any]], tensors: Sequence[Any]) -> Callable[..., list[Any]]:
    """Capture ``walk`` as a function of tensors of these shapes alone, or raise what torch does where it cannot be."""
    make_fx = import_module("torch.fx.experimental.proxy_tensor").make_fx

    def flat(*inputs: Any) -> list[Any]:
        return walk(inputs)

    module: Any = make_fx(flat)(*tensors)
    graph = module.graph
    _leave_out_copies(graph)
    write_in_place(graph)
    graph.eliminate_dead_code()
    module.recompile()
    return module


def _named(node: Any) -> str:
    """``relu.default`` of ``torch.ops.aten.relu.default``; empty for what is no operation of torch."""
    name = str(node.target)
    return name.removeprefix("aten.") if node.op == "call_function" and name.startswith("aten.") else ""


def _operation(name: str) -> Any:
    function, overload = name.split(".")
    return getattr(getattr(import_module("torch").ops.aten, function), overload)


def _leave_out_copies(graph: Any) -> None:
    torch = import_module("torch")
    for node in reversed(graph.nodes):
        name = _named(node)
        if name in ("view.default", "_unsafe_view.default"):
            # What was one piece when it was captured may lie otherwise now; reshape takes both.
            node.target = _operation("reshape.default")
        elif name == "clone.default" and node.users and node.meta["val"].dim() == 4:
            served = all(_named(user) in (*_ANY_ORDER, "contiguous.default") for user in node.users)
            if served and all(user.args[0] is node for user in node.users):
                # No copy where the memory has this order already, as it has behind most layers.
                node.target = _operation("contiguous.default")
                node.kwargs = {"memory_format": torch.channels_last}


def write_in_place(graph: Any) -> None:
    """Have sums and activations write where their input was, if nothing reads that any more.

    Args:
        graph: A ``torch.fx.Graph``; ``meta["val"]`` of its nodes has ``shape`` and ``dtype`` of what they give. What
            the graph gives out counts as read at its end, so a wanted tensor is never written over.
    """
    order = {node: position for position, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        name = _named(node)
        if name not in _IN_PLACE or not _is_tensor(node.args[0]):
            continue
        target = node.args[0]
        root = _root(target)
        others = [one for one in node.all_input_nodes if one is not target]
        if (
            root is not None
            and target.meta["val"].shape == node.meta["val"].shape
            and target.meta["val"].dtype == node.meta["val"].dtype
            and all(_root(one) is not root for one in others)
            and all(order[user] <= order[node] for user in _users(root))
        ):
            node.target = _operation(_IN_PLACE[name])


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "meta") and hasattr(value.meta.get("val"), "shape")


def _root(node: Any) -> Any:
    """The operation that made the memory that ``node`` shows; None where the memory is not the graph's own."""
    while True:
        name = _named(node)
        if name in _VIEWS or _is_first_of_several(node) or name in _IN_PLACE.values():
            node = node.args[0]
        else:
            return node if name in _FRESH else None


def _is_first_of_several(node: Any) -> bool:
    return node.op == "call_function" and getattr(node.target, "__name__", "") == "getitem" and node.args[1] == 0


def _users(node: Any) -> Iterator[Any]:
    """Whatever reads a memory, also by its views."""
    for user in node.users:
        yield user
        if _named(user) not in _FRESH:  # whatever is not known to make memory of its own may show this one
            yield from _users(user)
