"""A Keras layer's arithmetic: its entry in the config as an ``Operation`` of the reference, wrappers included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.files.keras.graph import LayerSpec, layer_spec
from cnnlens.files.keras.network import _wrapped_model
from cnnlens.network import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnnlens.files.arrays import StoredArray
    from cnnlens.network import Layer
    from cnnlens.reference import Operation

__all__ = ["WeightFile", "make_operation", "operation_of_entry", "refusing", "unpacker", "version_tuple"]


def version_tuple(version: str | None) -> tuple[int, ...]:
    """``"3.8.0"`` as ``(3, 8, 0)``; a file that names no version was written by Keras 2 or by 1 (legacy HDF5)."""
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
    """For a quantised layer, what makes one float32 kernel of the packed one and its scales; None for any other."""
    if "kernel_scale" not in layer.stored:
        return None

    def unpack(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        from cnnlens.files.keras.quantised import dequantise

        stored = {name: cast("StoredArray", weight.stored) for name, weight in layer.stored.items()}
        kept = {name: array for name, array in arrays.items() if not name.startswith("kernel") and name != "g_idx"}
        try:
            return {**kept, "kernel": dequantise(stored, layer.config)}
        except CnnlensError as error:
            raise UnsupportedLayerError(f"{layer.shown}: {error}") from None

    return unpack


def make_operation(spec: LayerSpec, file: WeightFile, version: tuple[int, ...]) -> Operation:
    """The arithmetic of one layer, wrappers included.

    Raises:
        UnsupportedLayerError: the reference has none; the message lacks the layer's name.
    """
    from cnnlens.files.keras.variables import quantisation_mode
    from cnnlens.reference import build
    from cnnlens.reference.wrappers import Container, Input, TimeDistributed

    if spec.model is not None:
        return Container()
    if spec.class_name == "InputLayer":
        return Input()
    inner = spec.wrapped.get("layer")
    if spec.class_name == "TimeDistributed" and inner is not None:
        if inner.model is not None:
            return TimeDistributed(_wrapped_model(inner, file))
        return TimeDistributed(make_operation(inner, file, version))
    if spec.class_name == "SpectralNormalization" and inner is not None:
        # At inference the layer is called as it is: its stored kernel is the normalised one (Keras 3
        # SpectralNormalization.call divides by sigma in training only).
        return make_operation(inner, file, version)
    mode = quantisation_mode(spec.config)
    if mode and mode != "int4":
        # Keras' int8 and float8 layers round their input too, at run time (keras.src.quantizers.abs_max_quantize).
        raise UnsupportedLayerError(f"it is quantised as {mode}, and Keras then rounds the layer's input as well")
    return build(spec.class_name, spec.module or None, spec.config, version)


def operation_of_entry(
    layer: Layer, arrays: Mapping[tuple[str, ...], Mapping[str, Any]], keras_version: str | None
) -> Operation:
    """The arithmetic of a layer that was handed over: from its entry alone, its arrays by path.

    Raises:
        UnsupportedLayerError: the reference has none.
    """
    from cnnlens.reference.wrappers import Container

    if layer.container:
        return Container()
    return make_operation(
        layer_spec(layer.entry, layer.path), _Arrays(arrays, keras_version), version_tuple(keras_version)
    )


class WeightFile(Source, Protocol):
    """What of a model file is needed to build a network from its config."""

    @property
    def weights(self) -> Mapping[tuple[str, ...], Mapping[str, Any]]: ...
    @property
    def unmatched(self) -> Mapping[str, Any]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def config(self) -> dict[str, Any] | None: ...


@dataclass
class _Arrays:
    """Arrays by path where a file is expected: for a model inside a wrapper, whose paths begin at that model."""

    weights: Mapping[tuple[str, ...], Mapping[str, Any]]
    keras_version: str | None
    unmatched: Mapping[str, Any] = field(default_factory=lambda: dict[str, Any]())
    notes: tuple[str, ...] = ()
    config: dict[str, Any] | None = None
    path: Path = Path("a wrapped model")
    format: str = ""
    framework: str = "keras"
    size: int = 0
    sha256: str = ""
