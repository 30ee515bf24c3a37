"""Where a Keras layer keeps its variables, by the names that cnnlens has for them.

The same walk serves three ends: setting a file's arrays, reading them back, and reading a live model. It follows the
attributes that Keras' own saving follows, so that a path in a file is a path here.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["find", "host", "inner_layers", "own_variables", "walk"]

Array = NDArray[Any]

# A wrapper's name for a variable that is its layer's too.
_ROLES = {("SpectralNormalization", "kernel"): "layer_kernel"}


def own_variables(layer: Any) -> dict[str, Any]:
    """List a layer's own variables by role, those of layers inside it left out; random seeds are none.

    Roles are Keras' short names. Where two are the same, or the class is not Keras' own, they are ``var0``, ``var1`` …
    as in files: trainable ones first.
    """
    variables = [*layer._trainable_variables, *layer._non_trainable_variables]
    kind = type(layer).__name__
    # Keras numbers the variables that a layer gave no name (LayerScale's gamma); the attribute has one then.
    held = cast("dict[str, Any]", vars(layer))
    attributes = {id(value): name for name, value in held.items() if not name.startswith("_")}
    own = [
        attributes.get(id(one), str(one.name)) if str(one.name).startswith("variable") else str(one.name)
        for one in variables
    ]
    names = [_ROLES.get((kind, name), name) for name in own]
    if len(set(names)) < len(names) or not type(layer).__module__.startswith("keras."):
        names = [f"var{index}" for index in range(len(variables))]
    return dict(zip(names, variables, strict=True))


def inner_layers(layer: Any) -> dict[str, Any]:
    """List the layers inside a layer by attribute; in a model by name; in a list as ``attribute/class_name``."""
    keras = import_module("keras")
    if isinstance(layer, keras.Model):
        return {one.name: one for one in layer.layers}
    tracked = {id(one): one for one in layer._flatten_layers(include_self=False, recursive=False)}
    found: dict[str, Any] = {}
    # Under torch a layer is a torch module too, which keeps modules apart from its other attributes.
    attributes: dict[str, Any] = {**vars(layer), **vars(layer).get("_modules", {})}
    if type(layer).__module__.startswith("keras."):
        # Attention keeps its projections under private names, some of which files have without the underscore.
        attributes = {name.removeprefix("_"): value for name, value in attributes.items()}
    for attribute, value in attributes.items():
        if id(value) in tracked:
            found[attribute] = tracked.pop(id(value))
    for attribute, value in attributes.items():
        if attribute.removeprefix("_") != "layers" and isinstance(value, (list, tuple)):
            used: dict[str, int] = {}
            for one in cast("list[Any]", value):
                if id(one) in tracked:
                    stem = import_module("cnnlens.files.keras.kinds").snake_case(type(one).__name__)
                    used[stem] = used.get(stem, -1) + 1
                    found[f"{attribute}/{stem}" + (f"_{used[stem]}" if used[stem] else "")] = tracked.pop(id(one))
    return found


def walk(layer: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """List a layer and every layer inside it, each with its path."""
    yield path, layer
    for name, inner in inner_layers(layer).items():
        yield from walk(inner, (*path, name))


def find(layer: Any, owner: tuple[str, ...], role: str) -> Any:
    """Find the variable that a ``Weight`` with this owner and role is, or None."""
    holder, left = layer, "/".join(owner)
    while left:
        # A layer in a list goes by two parts: the list and its place in it.
        found = [one for one in inner_layers(holder).items() if f"{left}/".startswith(f"{one[0]}/")]
        if not found:
            return None
        name, holder = found[0]
        left = left[len(name) + 1 :]
    variables = own_variables(holder)
    role = role.rpartition("/")[2]  # a projection of attention has its place in its role too
    if role in variables:
        return variables[role]
    listed = list(variables.values())
    index = int(role[3:]) if role.startswith("var") and role[3:].isdigit() else len(listed)
    return listed[index] if index < len(listed) else None


def host(variable: Any) -> Array:
    """Copy a variable's value to NumPy; bfloat16, which NumPy has not, is widened to float32."""
    array = import_module("keras").ops.convert_to_numpy(variable)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else np.asarray(array)
