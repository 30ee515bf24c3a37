"""A Keras layer's arrays with all that their layout depends on: whose they are, and the geometry in the config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from cnnlens import layout
from cnnlens.errors import CnnlensError
from cnnlens.files.keras.graph import LayerSpec
from cnnlens.layout import Geometry
from cnnlens.network.weight import Stored, Weight

__all__ = ["TRANSPARENT", "geometry_of", "owners", "weight_of"]

# A wrapper's attribute whose arrays are the wrapper's own in all but name: shown without a prefix.
TRANSPARENT = frozenset({"layer", "cell"})


def weight_of(
    name: str,
    kind: str,
    role: str,
    array: Any,
    geometry: Geometry,
    config: Mapping[str, Any],
    framework: str,
    owner: tuple[str, ...] = (),
) -> Weight:
    """Make a weight with all that its stored shape says; ``unknown`` where the kind has no such shape."""
    stored = cast(Stored, array)
    try:
        geometry = layout.completed(kind, role, stored.shape, geometry, framework)
        weight = Weight(name, kind, role, stored, geometry, framework, config, owner)
        _ = weight.canonical_shape, weight.canonical_axes, weight.stored_axes
    except CnnlensError:
        return Weight(name, "unknown", role, stored, Geometry(), framework, config, owner)
    return weight


def owners(spec: LayerSpec, prefix: str = "") -> Iterator[tuple[str, LayerSpec]]:
    """List a layer and the layers it wraps, each with the prefix of its arrays' names."""
    yield prefix, spec
    for attribute, inner in spec.wrapped.items():
        yield from owners(inner, prefix if attribute in TRANSPARENT else f"{prefix}{attribute}/")


def geometry_of(config: Mapping[str, Any], flatten: tuple[int, ...] | None) -> Geometry:
    """Read the geometry of a layer's weights from its config."""

    def numbers(key: str) -> tuple[int, ...] | None:
        value = config.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return (value,)
        if isinstance(value, (list, tuple)) and all(isinstance(v, int) for v in cast("list[Any]", value)):
            return tuple(cast("list[int]", value))
        return None

    def number(key: str) -> int | None:
        value = config.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None

    def text(key: str) -> str | None:
        value = config.get(key)
        return value if isinstance(value, str) else None

    reset_after = config.get("reset_after")
    return Geometry(
        stride=numbers("strides"),
        padding=text("padding"),
        dilation=numbers("dilation_rate"),
        groups=number("groups") or 1,
        flatten=flatten,
        output_padding=numbers("output_padding"),
        depth_multiplier=number("depth_multiplier"),
        heads=number("num_heads"),
        equation=text("equation"),
        reset_after=reset_after if isinstance(reset_after, bool) else None,
    )
