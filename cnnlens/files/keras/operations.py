"""A Keras layer's arithmetic: its entry in the config as an ``Operation`` of the reference, wrappers included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.files.keras.graph import LayerSpec
from cnnlens.network.graph import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnnlens.files.arrays import StoredArray
    from cnnlens.network.graph import Layer
    from cnnlens.network.network import Network
    from cnnlens.reference import Operation

__all__ = ["WeightFile", "make_operation", "refusing", "unpacker", "version_tuple"]


def version_tuple(version: str | None) -> tuple[int, ...]:
    """Read ``"3.8.0"`` as ``(3, 8, 0)``; a file that names no version is of Keras 2 or 1 (legacy HDF5)."""
    parts: list[int] = []
    for part in (version or "2").split(".")[:3]:
        digits = "".join(char for char in part[:6] if char in "0123456789")
        if not digits:
            break
        parts.append(int(digits))
    return tuple(parts) or (2,)


def refusing(reason: str) -> Callable[[], Operation]:
    def make() -> Operation:
        raise UnsupportedLayerError(reason)

    return make


Unpack = Callable[[Mapping[str, "NDArray[Any]"]], "dict[str, NDArray[Any]]"]


def unpacker(layer: Layer) -> Unpack | None:
    """Make what unpacks a quantised layer's kernel and scales to one float32 kernel; None for any other."""
    if "kernel_scale" not in layer.stored:
        return None

    def unpack(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        from cnnlens.files.keras.quantised import dequantise

        stored = {name: cast("StoredArray", weight.stored) for name, weight in layer.stored.items()}
        kept = {name: array for name, array in arrays.items() if not name.startswith("kernel") and name != "g_idx"}
        try:
            return {**kept, "kernel": dequantise(stored, layer.config)}
        except CnnlensError as error:
            raise UnsupportedLayerError(str(error), layer.shown) from None

    return unpack


def make_operation(spec: LayerSpec, version: tuple[int, ...], model: Callable[[LayerSpec], Network]) -> Operation:
    """Build the arithmetic of one layer, wrappers included.

    Args:
        spec: The layer, as the graph of its file has it.
        version: The Keras that wrote the file.
        model: Builds the network of a model that a wrapper holds.

    Raises:
        UnsupportedLayerError: the reference has none; the message lacks the layer's name.
    """
    from cnnlens.files.keras.variables import quantisation_mode
    from cnnlens.reference import build
    from cnnlens.reference.wrappers import Container, Input, ModelOperation, TimeDistributed

    if spec.model is not None:
        return Container()
    if spec.class_name == "InputLayer":
        return Input()
    inner = spec.wrapped.get("layer")
    if spec.class_name == "TimeDistributed" and inner is not None:
        if inner.model is not None:
            return TimeDistributed(ModelOperation(model(inner)))
        return TimeDistributed(make_operation(inner, version, model))
    if spec.class_name == "SpectralNormalization" and inner is not None:
        # At inference the layer is called as it is: its stored kernel is the normalised one (Keras 3
        # SpectralNormalization.call divides by sigma in training only). It casts what comes out to its input's type.
        if inner.class_name == "Embedding":
            raise UnsupportedLayerError("Keras rounds the vectors that it looks up to the type of the identifiers")
        return make_operation(inner, version, model)
    mode = quantisation_mode(spec.config)
    if mode and mode != "int4":
        # Keras' int8 and float8 layers round their input too, at run time (keras.src.quantizers.abs_max_quantize).
        raise UnsupportedLayerError(f"it is quantised as {mode}, and Keras then rounds the layer's input as well")
    return build(spec.class_name, spec.module or None, spec.config, version)


class WeightFile(Source, Protocol):
    """Says what of a model file is needed to build a network from its config."""

    @property
    def weights(self) -> Mapping[tuple[str, ...], Mapping[str, Any]]: ...
    @property
    def unmatched(self) -> Mapping[str, Any]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def config(self) -> dict[str, Any] | None: ...
