"""A PyTorch network as a Keras 3 functional model in channels-last order: config, arrays, which tensor is which.

Nothing of Keras or PyTorch is imported. Each call of the PyTorch graph, which the reference understands already, is
said in Keras' layers where there is one and in operations of ``keras.ops`` where there is none; what neither can say
is refused, all of it at once, by name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cnnlens.conversion.to_keras import convolutions as _convolutions
from cnnlens.conversion.to_keras import elementwise as _elementwise
from cnnlens.conversion.to_keras import features as _features
from cnnlens.conversion.to_keras import poolings as _poolings
from cnnlens.conversion.to_keras import products as _products
from cnnlens.conversion.to_keras import recurrent as _recurrent
from cnnlens.conversion.to_keras import reductions as _reductions
from cnnlens.conversion.to_keras import shapes as _shapes
from cnnlens.conversion.to_keras.attention import gives_truths, head_attention, head_modules
from cnnlens.conversion.to_keras.builder import Builder
from cnnlens.conversion.to_keras.call_site import BY_CLASS, BY_NAME, REFUSED, CallSite, operator_name
from cnnlens.conversion.to_keras.consumers import Consumers
from cnnlens.conversion.to_keras.folding import folded, holding
from cnnlens.conversion.to_keras.value import FlatOrder, Value, channels_last, identity
from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.files.keras.network import keras_network
from cnnlens.files.keras.write import KERAS_VERSION, write_keras
from cnnlens.files.memory import MemoryModel
from cnnlens.network.graph import CONFIG_ERRORS, Call, Ref, without_graph
from cnnlens.network.network import Network
from cnnlens.text import printable

__all__ = ["KerasModel", "Twin", "model"]

# Importing a module fills the tables of rules.
_WRITERS = (*(_convolutions, _elementwise, _features, _poolings, _products, _recurrent, _reductions, _shapes),)
_SHOWN = 8
_UNKNOWN = "unknown"  # stands for a tensor made of weights alone that could not be computed


@dataclass(frozen=True)
class Twin:
    """Names the tensor of the Keras model that holds a PyTorch tensor, and how to turn it.

    Attributes:
        name: Its name in the Keras network.
        axes: ``keras.transpose(axes)`` is PyTorch's array, where both are canonical as ``Network.run`` gives them.
        flat: For a flattened map: the order of its features where it is not PyTorch's.
    """

    name: str
    axes: tuple[int, ...]
    flat: FlatOrder | None = None


def _by_path(arrays: Mapping[str, Mapping[str, NDArray[Any]]]) -> dict[tuple[str, ...], dict[str, NDArray[Any]]]:
    """Arrays by layer path: a recurrent layer's ``cell/kernel`` is its cell's ``kernel``."""
    found: dict[tuple[str, ...], dict[str, NDArray[Any]]] = {}
    for layer, own in arrays.items():
        for name, array in own.items():
            *inside, role = name.split("/")
            found.setdefault((layer, *inside), {})[role] = array
    return found


@dataclass(frozen=True)
class KerasModel:
    """Holds a Keras model that came of a PyTorch network.

    Attributes:
        config: As ``model.to_json()`` gives it.
        weights: Arrays by layer and by the names that they have in ``network``, in Keras' axes.
        names: The Keras tensor that holds each PyTorch tensor, by the name under which ``Network.run`` gives that.
        notes: What the person should know about how it was said in Keras, a line each.
        path: What the model is called in messages.
        roundings: Numbers that PyTorch's file does not hold, and that lost digits when they became float32.
    """

    config: dict[str, Any]
    weights: Mapping[str, Mapping[str, NDArray[Any]]]
    names: Mapping[str, Twin]
    notes: tuple[str, ...]
    path: Path
    roundings: tuple[str, ...] = ()

    @cached_property
    def network(self) -> Network:
        """Make the model a Network, which the reference and the Keras backends run."""
        arrays = _by_path(self.weights)
        file = MemoryModel(
            self.config, arrays, self.path, format="converted model", keras_version=KERAS_VERSION, notes=self.notes
        )
        return keras_network(file)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write it as a ``.keras`` file; whole or not at all.

        Raises:
            CnnlensError: h5py is missing, or the file cannot be written.
        """
        write_keras(Path(path), self.config, _by_path(self.weights))


def model(network: Network, exact: bool = False) -> KerasModel:
    """Turn a PyTorch network into a Keras model.

    Args:
        network: With a graph: of a ``.pt2`` file, a live module, or a state dict with its architecture.
        exact: Whether ``roundings`` are left out: those numbers stay in float64, for a comparison and not for a file.

    Raises:
        UnsupportedLayerError: it has no graph, or Keras cannot express some of its layers; names each and says why.
    """
    if network.source.framework != "torch":
        raise CnnlensError(
            f"{printable(network.source.path, 300)}: a network of PyTorch was expected, one of "
            f"{printable(network.source.framework)} came"
        )
    if not network.calls:
        raise without_graph(network)
    return _Conversion(network, exact).model()


class _Conversion:
    def __init__(self, network: Network, exact: bool) -> None:
        self.network = network
        self.builder = Builder(exact)
        self.consumers = Consumers(network)
        self.attention = head_modules(network)
        self.inside = {call.name for module in self.attention.values() for call in module.inside}
        self.tensor: dict[Ref, Value] = {}
        self.refused: dict[str, str] = {}
        self.notes: list[str] = []

    def model(self) -> KerasModel:
        for ref in self.network.inputs:
            self._input(ref)
        for call in self.network.calls:
            if Ref(call.name) not in self.tensor and not (call.name in self.inside and self._computed(call)):
                for index, tensor in enumerate(self._call(call)):
                    self.tensor[Ref(call.name, index)] = self._of_truths(call, tensor)
        if self.refused:
            raise self._refusal()
        outputs = [self._output(ref) for ref in self.network.outputs]
        name = Path(self.network.name).stem or "model"
        config = self.builder.config("".join(c if c.isascii() and c.isalnum() else "_" for c in name), outputs)
        listed = [entry["name"] for entry in config["config"]["layers"]]
        arrays = {one: self.builder.made[one].arrays for one in listed if self.builder.made[one].arrays}
        return KerasModel(
            config,
            arrays,
            self._names(set(listed)),
            tuple(self.notes),
            self.network.source.path,
            tuple(self.builder.roundings),
        )

    def _input(self, ref: Ref) -> None:
        shape = self.network.shape(ref)
        if shape is None or None in shape[1:]:
            turned = shape is not None and shape[0] is not None and shape.count(None) == 1
            raise UnsupportedLayerError(
                f"input '{printable(ref.name)}': the batch is not the first axis of its shape {shape}, as it is in "
                "Keras; export the model batch first"
                if turned
                else f"input '{printable(ref.name)}': its shape {shape} is not known; export the model with fixed sizes"
            )
        dtype = str(self.network.calls_by_name[ref.call].layer.config.get("dtype") or "float32").removeprefix("torch.")
        kind = "int32" if "int" in dtype else "float32"
        made = self.builder.input(ref.call, (None, *shape[1:]), self.consumers.order(ref), kind)
        self.tensor[ref] = self._of_truths(self.network.calls_by_name[ref.call], made)

    def _of_truths(self, call: Call, made: Value) -> Value:
        if call.layer.container or made.layer == _UNKNOWN:
            return made
        return replace(made, truths=gives_truths(call, [self.tensor[ref] for ref in call.refs]))

    def _computed(self, call: Call) -> bool:
        """Whether it takes something that is not a constant."""
        return any(ref not in self.tensor or self.tensor[ref].constant is None for ref in call.refs)

    def _call(self, call: Call) -> list[Value]:
        module = self.attention.get(call.name)
        try:
            tensors = [self._tensor(ref) for ref in (call.refs if module is None else module.given)]
            if module is not None:
                return head_attention(self._site(call, tensors), module, self.tensor)
            if call.layer.container:
                return tensors
            unknown = any(tensor.layer == _UNKNOWN for tensor in tensors)
            if not unknown:
                constant = all(tensor.constant is not None for tensor in tensors)
                known = folded(call, tensors) if constant else None
                return known if known is not None else self._written(*holding(self.builder, call, tensors))
        except CnnlensError as error:
            known = [self.tensor[ref] for ref in call.refs if ref in self.tensor]
            unknown = module is None and all(tensor.constant is not None for tensor in known)
            self.refused.setdefault(call.layer.name, _reason(call, error) + (_way_out(call) if unknown else ""))
        except CONFIG_ERRORS as error:
            unknown = False
            self.refused.setdefault(call.layer.name, f"{call.layer.shown}: {printable(error, 200)}")
        # Something to go on with, so that everything that cannot be said is found at once. What is made of weights
        # alone and is not known is said once, and not of whatever takes it.
        shapes = [shape or (None,) for shape in call.shapes]
        layer = _UNKNOWN if unknown else "refused"
        return [Value(layer, 0, index, shape, identity(len(shape))) for index, shape in enumerate(shapes)]

    def _tensor(self, ref: Ref) -> Value:
        if ref not in self.tensor:
            raise UnsupportedLayerError(f"Keras has no tensor for '{printable(ref.name)}', which it takes")
        return self.tensor[ref]

    def _written(self, call: Call, tensors: list[Value]) -> list[Value]:
        name, _ = operator_name(call.layer.entry)
        site = self._site(call, tensors)
        rule = BY_NAME.get(name) or next(
            (BY_CLASS[one] for one in type(site.operation).__mro__ if one in BY_CLASS), None
        )
        if rule is None:
            raise UnsupportedLayerError(REFUSED.get(name, "no Keras code is known for it"))
        made = rule(site)
        return made if isinstance(made, list) else [made]

    def _site(self, call: Call, tensors: list[Value]) -> CallSite:
        shared = call.layer.name if self.consumers.times[call.layer.name] > 1 else ""
        return CallSite(self.builder, call, tensors, shared, self.consumers.keeps_flat(Ref(call.name)))

    def _refusal(self) -> UnsupportedLayerError:
        reasons = list(self.refused.values())
        more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        return UnsupportedLayerError(
            f"{printable(self.network.source.path, 300)}: Keras cannot express "
            f"{len(reasons)} of its layers: {'; '.join(reasons[:_SHOWN])}{more}"
        )

    def _output(self, ref: Ref) -> Value:
        """An output of the model: a feature map stays channels-last, features stand in PyTorch's order."""
        tensor = self.builder.plain(self._tensor(ref))
        if tensor.constant is not None:
            raise UnsupportedLayerError(f"output '{printable(ref.name)}' depends on no input; Keras has no such model")
        if tensor.axes not in (identity(tensor.rank), channels_last(tensor.rank)):
            tensor = self.builder.turned(tensor, channels_last(tensor.rank))
        self.tensor[ref] = tensor
        return tensor

    def _names(self, listed: set[str]) -> dict[str, Twin]:
        found: dict[str, Twin] = {}
        for ref, tensor in self.tensor.items():
            if tensor.layer not in listed:
                continue
            call = tensor.layer if tensor.node == 0 else f"{tensor.layer}:{tensor.node}"
            canonical = (tensor.axes[0], tensor.axes[-1], *tensor.axes[1:-1]) if tensor.rank > 2 else tensor.axes
            axes = tuple(canonical.index(axis) for axis in range(tensor.rank))
            found[ref.name] = Twin(Ref(call, tensor.index).name, axes, tensor.flat)
        return found


def _way_out(call: Call) -> str:
    """What to do about arrays that the model computes of its weights, and the reference cannot."""
    if "parametrizations" in call.layer.path:
        place = call.layer.path.index("parametrizations")
        owner, name = ".".join(call.layer.path[:place]), "".join(call.layer.path[place + 1 : place + 2])
        module = f"model.get_submodule('{printable(owner)}')" if owner else "model"
        plain = f"torch.nn.utils.parametrize.remove_parametrizations({module}, '{printable(name)}')"
        return f"; {plain} makes it a plain weight"
    return "; it depends on no input: compute it once, and store it as a parameter"


def _reason(call: Call, error: CnnlensError) -> str:
    named = isinstance(error, UnsupportedLayerError) and error.layer is not None
    return str(error) if named else f"{call.layer.shown}: {error}"
