"""A Network's layers made with Keras and given the file's arrays.

Each layer is made once, from its own config and with initializers that draw nothing (drawing is what makes Keras slow
to open a model), built for the shapes that the network already knows, and filled. A variable that the file has no array
for, and an array that no variable takes, end the loading: a model that runs is the model of the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from importlib import import_module
from operator import getitem
from typing import Any, cast

import numpy as np

from cnnlens.backend import NARROW
from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.network.graph import Call, Layer, Ref, find_refs, map_refs
from cnnlens.network.network import Network
from cnnlens.text import printable
from cnnlens_backends._keras_config import Cleaner, UntrustedError, function_name, hard_sigmoid_of_keras_2, is_bare
from cnnlens_backends._keras_errors import first_line
from cnnlens_backends._keras_variables import find, walk

__all__ = ["make_layers"]

_TRUST = "view it without running it, or run it with --trust-code (trust_code=True) if you trust its author"
# What TensorFlow takes as the name of a scope; Keras builds one from a layer's name.
_SAFE_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.-]*")


def make_layers(network: Network, trust_code: bool = False, precision: str = "native") -> dict[str, Any]:
    """Make Keras' layer (or operation) for each layer that a call uses, built and filled, by the layer's name.

    In ``bfloat16`` and ``float16`` all have Keras' own policy ``mixed_bfloat16`` or ``mixed_float16``, whatever the
    file says: variables are the file's numbers, cast when they are used.

    Raises:
        UnsupportedLayerError: a layer is not Keras' own, or the installed Keras has no such layer.
        CnnlensError: arrays and layer do not belong together.
    """
    maker = _Maker(network, trust_code, f"mixed_{precision}" if precision in NARROW else None)
    made: dict[str, Any] = {}
    for call in network.calls:
        layer = call.layer
        if layer.container or layer.kind == "InputLayer" or layer.name in made:
            continue
        made[layer.name] = maker.make(layer)
        maker.build(made[layer.name], call, made)
        _fill(made[layer.name], layer)
    return made


def shown(layer: Layer) -> str:
    """How a layer is named in messages."""
    return f"layer '{printable(layer.name)}' ({printable(layer.kind)})"


def _blank(largest: list[int]) -> Any:
    """An initializer that draws nothing, and nothing larger than what the file has: a config may claim any size."""
    keras = import_module("keras")

    class Blank(keras.Initializer):
        def __call__(self, shape: Any, dtype: Any = None, **_: Any) -> Any:
            if math.prod(shape) > largest[0]:
                raise CnnlensError(f"its config asks for an array of shape {tuple(shape)}, which the file has not")
            return keras.ops.convert_to_tensor(np.zeros(shape, np.float32), dtype=dtype)

        def get_config(self) -> dict[str, Any]:
            return {}

        def clone(self) -> Any:
            return self

    return Blank()


class _Maker:
    def __init__(self, network: Network, trust_code: bool, policy: str | None) -> None:
        self.network = network
        self.trust_code = trust_code
        # A file that names no version was written by Keras 2 or by 1.
        first = str(network.source.keras_version or "2").split(".")[0]
        self.largest = [0]
        self.blank = _blank(self.largest)
        self.cleaner = Cleaner(int(first) if first.isdigit() else 2, self.blank, policy)
        self.count = 0

    def make(self, layer: Layer) -> Any:
        self.largest[0] = max((math.prod(weight.stored.shape) for weight in layer.stored.values()), default=0)
        try:
            return self._make(layer)
        except UntrustedError as error:
            if not self.trust_code:
                raise UnsupportedLayerError(f"{shown(layer)}: {error}; {_TRUST}") from None
            return self._trusted(layer)
        except CnnlensError as error:
            raise UnsupportedLayerError(f"{shown(layer)}: {error}") from None
        except Exception as error:
            raise _refused(layer, "make it of its config", error) from error

    def _make(self, layer: Layer) -> Any:
        if layer.kind in ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"):
            return _tensorflow_function(layer)
        if layer.kind == "Expression":
            return _expression(layer)
        registered = layer.entry.get("registered_name")
        if isinstance(registered, str) and ">" in registered:
            raise UntrustedError(f"its class ({printable(registered, 60)}) is not Keras' own")
        if is_bare(layer.module):
            known, arguments = self.cleaner.operation(layer.kind, layer.module, layer.config)
        else:
            known, arguments = self.cleaner.layer(layer.kind, layer.module, layer.config)
            arguments["name"] = self._name(layer)
        saving = import_module("keras").saving
        ours: dict[str, Any] = {"Blank": type(self.blank), hard_sigmoid_of_keras_2.__name__: hard_sigmoid_of_keras_2}
        # Bidirectional makes its second layer of the first one's config, and has to find our names again.
        with saving.custom_object_scope(ours), import_module("keras.src.saving.serialization_lib").SafeModeScope(True):
            return known.from_config(arguments)

    def _name(self, layer: Layer) -> str:
        name = layer.name.rsplit("/", 1)[-1]
        self.count += 1
        return name if _SAFE_NAME.fullmatch(name) else f"layer_{self.count}"

    def _trusted(self, layer: Layer) -> Any:
        """The layer as the file says it, code included."""
        keras = import_module("keras")
        entry = {name: value for name, value in layer.entry.items() if name not in ("build_config", "compile_config")}
        try:
            return keras.saving.deserialize_keras_object(entry, safe_mode=False)
        except Exception as error:
            raise _refused(layer, "make it of its config", error) from error

    def build(self, made: Any, call: Call, layers: Mapping[str, Any]) -> None:
        """Make a layer's variables, for the shapes of its first call."""
        keras = import_module("keras")
        if not isinstance(made, keras.Layer) or made.built:
            return
        layer = call.layer
        try:
            only = call.args[0] if len(call.args) == 1 and not list(find_refs(dict(call.kwargs))) else None
            shapes = None if only is None else map_refs(only, self.network.shape)
            own = type(made).__module__.startswith("keras.")
            if own and only is not None and all(self.network.shape(ref) is not None for ref in find_refs(only)):
                made.build(shapes)
            else:  # several tensors, or a class of the author's: Keras finds out what build wants
                args, kwargs = self._symbols(call, layers)
                made(*args, **kwargs)
        except UnsupportedLayerError:
            raise
        except CnnlensError as error:
            raise CnnlensError(f"{shown(layer)}: {error}; save the model again") from None
        except Exception as error:
            raise _refused(layer, "build it for its input", error) from error

    def _symbol(self, ref: Ref, layers: Mapping[str, Any]) -> Any:
        """A tensor of the graph without values: of the shape that the network knows, or what its layers say."""
        keras = import_module("keras")
        shape = self.network.shape(ref)
        call = self.network.calls_by_name[ref.call]
        if shape is not None:
            return keras.KerasTensor(shape, dtype=input_dtype(call.layer) if not call.refs else "float32")
        if not call.refs:
            raise UnsupportedLayerError(f"{shown(call.layer)}: the file does not say its shape")
        args, kwargs = self._symbols(call, layers)
        result: Any = args[0] if call.layer.container else layers[call.layer.name](*args, **kwargs)
        return cast("list[Any]", result)[ref.index] if isinstance(result, (list, tuple)) else result

    def _symbols(self, call: Call, layers: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What a call takes, with such tensors where tensors are."""

        def symbol(ref: Ref) -> Any:
            return self._symbol(ref, layers)

        return map_refs(call.args, symbol), map_refs(dict(call.kwargs), symbol)


def input_dtype(layer: Layer) -> str:
    """The dtype of an InputLayer."""
    dtype = layer.config.get("dtype")
    return dtype if isinstance(dtype, str) else "float32"


def _fill(made: Any, layer: Layer) -> None:
    """Set every variable of a layer from the file's arrays."""
    keras = import_module("keras")
    if not isinstance(made, keras.Layer):
        return
    missing = {id(variable): variable for variable in made.weights}
    for weight in layer.stored.values():
        variable = find(made, weight.owner, weight.role)
        if variable is None:
            raise CnnlensError(
                f"{shown(layer)}: Keras' layer has no weight '{printable(weight.name)}'; save the model again"
            )
        array = weight.read()
        if tuple(variable.shape) != array.shape:
            raise CnnlensError(
                f"{shown(layer)}: its weight '{printable(weight.name)}' is {tuple(variable.shape)} by its config and "
                f"{array.shape} in the file; save the model again"
            )
        variable.assign(array)
        missing.pop(id(variable), None)
    if missing:
        names = ", ".join(printable(variable.path.rsplit("/", 1)[-1]) for variable in missing.values())
        raise CnnlensError(f"{shown(layer)}: the file has no array for its weight '{names}'; save the model again")
    for _, inner in walk(made):
        if hasattr(inner, "finalize_state"):  # Normalization works with what it derives from its variables
            inner.finalize_state()


def _tensorflow_function(layer: Layer) -> Any:
    """The function of ``keras.ops`` of the meaning of a TensorFlow function that Keras 2 recorded, or of a node."""
    from cnnlens.reference import build

    ops: Any = import_module("keras").ops
    # Core knows which argument stands where in the op of the same meaning.
    operation: Any = build(layer.kind, None, layer.config, (2,))
    kind = operation.inner.kind
    function = getattr(ops.image if kind == "Resize" else ops, function_name(kind), None)
    if kind == "GetItem":
        function = getitem
    if function is None:
        raise UnsupportedLayerError(f"keras.ops has no function for {printable(kind)}")

    def call(*args: Any, **kwargs: Any) -> Any:
        _, operands, settings = operation.resolved(args, kwargs)
        if kind == "Einsum":
            operands.insert(0, settings.pop("subscripts"))
        return function(*operands, **{name: _tupled(value) for name, value in settings.items()})

    return call


def _tupled(value: Any) -> Any:
    """Settings of several numbers as JAX wants them; a file has lists."""
    return tuple(_tupled(part) for part in cast("list[Any]", value)) if isinstance(value, list) else value


def _expression(layer: Layer) -> Any:
    """What a person said that a Lambda computes, made of functions of ``keras.ops``; the file's code is left alone."""
    from cnnlens.reference.expression import fold, parse

    ops = import_module("keras").ops
    node = parse(str(layer.config.get("expression", "")))

    def make(kind: str, operands: Any) -> Any:
        return getattr(ops, function_name(kind))(*operands)

    def call(x: Any, **_: Any) -> Any:
        return fold(node, x, make)

    return call


def _refused(layer: Layer, what: str, error: Exception) -> UnsupportedLayerError:
    keras = import_module("keras")
    return UnsupportedLayerError(
        f"{shown(layer)}: Keras {keras.__version__} cannot {what} ({first_line(error)}); view it without running it"
    )
