"""A PyTorch layer's arithmetic: its entry (an ATen operator and its arguments) as an ``Operation`` of the reference.

The same few lines serve a file that was just opened and a network that was handed over, for both have the entry and
the shapes. An operator that the reference has not is refused by its name when somebody wants it computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import NDArray

from cnnlens.errors import UnsupportedLayerError
from cnnlens.files.torch.weights import weight_names
from cnnlens.network.graph import CONFIG_ERRORS, Layer, Ref, Shape
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.reference import Operation
    from cnnlens.reference.aten import Translation

__all__ = ["call_arguments", "equip", "made_shapes", "same_arithmetic", "translated"]


def translated(
    entry: Mapping[str, Any], weights: Mapping[str, tuple[int, ...]], tensors: Sequence[Shape | None]
) -> Translation:
    """Translate a layer's entry into what the reference makes of it.

    Args:
        entry: ``{"target", "arguments"}``, as ``Layer.entry`` has it.
        weights: The shapes of the layer's arrays, by name.
        tensors: The shapes of the tensors that its call takes, in order.

    Raises:
        UnsupportedLayerError: the reference has no such operator, or not with these arguments.
    """
    from cnnlens.reference.aten import translate

    if "refused" in entry:
        raise UnsupportedLayerError(str(entry["refused"]))
    try:
        return translate(str(entry["target"]), cast("Mapping[str, Any]", entry["arguments"]), weights, tensors)
    except CONFIG_ERRORS as error:
        raise UnsupportedLayerError(
            f"the arguments of {printable(entry.get('target'))} do not fit together ({printable(error, 200)})"
        ) from error


def call_arguments(translation: Translation, refs: Sequence[Ref]) -> tuple[Any, ...]:
    """Make the arguments of a call: the structure that the operation wants, the call's tensors in place."""
    return _placed(translation, refs)


def made_shapes(translation: Translation, shapes: Sequence[Shape | None]) -> list[Shape | None]:
    """Work out the shapes that an operation makes of tensors of ``shapes``, None for a size not known.

    Raises:
        Exception: the operation cannot take them; whatever it raises.
    """
    made = translation.operation.output_shape(*_placed(translation, shapes))
    return list(cast("list[Shape]", made)) if isinstance(made, list) else [tuple(cast("Shape", made))]


def _placed(translation: Translation, things: Sequence[Any]) -> tuple[Any, ...]:
    from cnnlens.reference.aten import Tensor

    def place(part: Any) -> Any:
        if isinstance(part, Tensor):
            return things[part.index]
        if isinstance(part, list):
            return [place(one) for one in cast("list[Any]", part)]
        if isinstance(part, tuple):
            return tuple(place(one) for one in cast("tuple[Any, ...]", part))
        return part

    return tuple(place(part) for part in translation.args)


def same_arithmetic(one: Translation | None, other: Translation | None) -> bool:
    """Tell whether two calls on tensors of different shapes compute the same, so that they can be one layer's."""
    from cnnlens.reference.bare.ops import BareOperation

    if one is None or other is None:
        return one is other
    first, second = one.operation, other.operation
    # A bare operation may hold sizes inside its function, where nothing can compare them.
    return (
        not isinstance(first, BareOperation)
        and type(first) is type(second)
        and (first.kind, first.config, one.args) == (second.kind, second.config, other.args)
    )


def equip(layer: Layer, tensors: Sequence[Shape | None]) -> None:
    """Give ``layer`` its arithmetic, which is worked out when it is asked for.

    Args:
        layer: With its entry and its arrays; a container or an input where it says so.
        tensors: The shapes of the tensors that its first call takes, in order.
    """
    shapes = tuple(tensors)

    @cache
    def translation() -> Translation:
        arguments = cast("Mapping[str, Any]", layer.entry.get("arguments", {}))
        missing = [name for name in weight_names(arguments) if name not in layer.stored]
        if missing:
            raise UnsupportedLayerError(f"its array '{printable(missing[0])}' is not in the file")
        return translated(layer.entry, {name: one.stored.shape for name, one in layer.stored.items()}, shapes)

    def make() -> Operation:
        from cnnlens.reference.wrappers import Container, Input

        if layer.container:
            return Container()
        return Input() if layer.kind == "InputLayer" else translation().operation

    def unpack(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return translation().unpack(arrays)

    layer.make_operation = make
    layer.unpack = unpack if layer.stored and not layer.container else None
