"""What follows a tensor in the PyTorch graph, as far as it decides how the tensor is held in Keras.

An input that convolutions read is given channels-last from the start, and a map is flattened as it lies where nothing
but Linear layers would notice. Both look only forward, through what treats every value, or every feature, alike.
"""

from __future__ import annotations

from collections.abc import Callable

from cnnlens.conversion.to_keras.call_site import operator_name
from cnnlens.conversion.to_keras.value import channels_last, identity
from cnnlens.kinds import Features, operator_kind
from cnnlens.network.graph import Call, Ref
from cnnlens.network.network import Network

__all__ = ["Consumers"]

_SPATIAL = (
    "conv1d", "conv2d", "conv3d", "conv_transpose", "convolution", "max_pool", "avg_pool", "adaptive_", "upsample_",
    "pixel_", "channel_shuffle", "native_channel_shuffle", "group_norm", "native_group_norm", "instance_norm",
)  # fmt: skip
_REORDERS = ("permute", "transpose")
# Operators that read the last axis, or all of them, as PyTorch has them.
_AS_THEY_ARE = frozenset(
    "linear addmm layer_norm native_layer_norm rms_norm matmul mm bmm lstm gru rnn_tanh rnn_relu embedding "
    "scaled_dot_product_attention einsum".split()
)


class Consumers:
    """Knows who takes each tensor of a PyTorch network."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.takers: dict[Ref, list[Call]] = {}
        self.times: dict[str, int] = {}
        for call in network.calls:
            self.times[call.layer.name] = self.times.get(call.layer.name, 0) + 1
            for ref in call.refs:
                self.takers.setdefault(ref, []).append(call)
        self._outputs = set(network.outputs)
        self._flat: dict[Ref, bool] = {}

    def keeps_flat(self, ref: Ref) -> bool:
        """Tell whether a flattened map's features may stand in any order: Linear layers alone mix them."""
        if ref not in self._flat:
            self._flat[ref] = ref not in self._outputs and all(
                self._takes_any_order(call, ref) for call in self.takers.get(ref, [])
            )
        return self._flat[ref]

    def _takes_any_order(self, call: Call, ref: Ref) -> bool:
        if call.layer.container:
            return self.keeps_flat(Ref(call.name, call.refs.index(ref)))
        if self.times[call.layer.name] > 1:
            return False
        name, _ = operator_name(call.layer.entry)
        if name in ("linear", "addmm"):
            return call.refs == (ref,)
        row = operator_kind(name)
        # A vector with an entry for each feature can be put in any order.
        told_apart = row.name in ("BatchNormalization", "PReLU")
        known = row.features is Features.ALONE or told_apart
        return known and call.refs == (ref,) and self.keeps_flat(Ref(call.name))

    def order(self, ref: Ref) -> tuple[int, ...]:
        """Choose the order of axes in which an input is best given: what its first opinionated reader wants."""
        shape = self.network.shape(ref)
        rank = 0 if shape is None else len(shape)
        if rank < 3:
            return identity(rank)
        found = self._wanted(ref, rank, set())
        # A reader that has the batch elsewhere wants an order that no input of Keras' has.
        return found if found is not None and found[0] == 0 else channels_last(rank) if rank > 3 else identity(rank)

    def _wanted(self, ref: Ref, rank: int, seen: set[Ref]) -> tuple[int, ...] | None:
        if ref in seen:
            return None
        seen.add(ref)
        for call in self.takers.get(ref, []):
            found = self._wanted_by(call, ref, rank, seen)
            if found is not None:
                return found
        return None

    def _wanted_by(self, call: Call, ref: Ref, rank: int, seen: set[Ref]) -> tuple[int, ...] | None:
        name, _ = operator_name(call.layer.entry)
        if name.startswith(_SPATIAL):
            return channels_last(rank)
        if name in _AS_THEY_ARE:
            return identity(rank)
        if name in _REORDERS:
            behind = self._wanted(Ref(call.name), rank, seen)
            order = _new_order(call, rank)
            return None if behind is None or order is None else tuple(order[axis] for axis in behind)
        behind = Ref(call.name, call.refs.index(ref) if call.layer.container else 0)
        shape = self.network.shape(behind)
        return self._wanted(behind, rank, seen) if shape is not None and len(shape) == rank else None


def _new_order(call: Call, rank: int) -> list[int] | None:
    """``permute``'s order of axes: axis i of what comes out is axis ``order[i]`` of what goes in."""
    arguments: dict[str, object] = dict(call.layer.entry.get("arguments") or {})
    read: Callable[[str], object] = arguments.get
    dims = read("dims")
    if isinstance(dims, list):
        return [int(axis) % rank for axis in dims]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    first, second = read("dim0"), read("dim1")
    if not isinstance(first, int) or not isinstance(second, int):
        return None
    order = list(range(rank))
    order[first % rank], order[second % rank] = order[second % rank], order[first % rank]
    return order
