"""What training left in a file of Keras': the optimizer and its state, losses, metrics. Nothing of it is rebuilt."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from cnnlens.errors import FileRefusedError
from cnnlens.files.arrays import StoredArray
from cnnlens.network.graph import Extra
from cnnlens.text import printable

__all__ = ["OPTIMIZER_STATE", "left_by_training"]

OPTIMIZER_STATE = frozenset({"optimizer", "optimizer_weights"})
"""The groups at the root of an HDF5 file that Keras 3 and its older versions keep an optimizer's state in."""

_DEEP = 6  # losses and metrics in lists and dictionaries


def left_by_training(compiled: Any, state: Callable[[], Sequence[StoredArray]]) -> list[Extra]:
    """List what a file says of its training.

    Args:
        compiled: The config of its compilation, as the file has it; anything else where it has none.
        state: Lists the arrays in ``OPTIMIZER_STATE``.
    """
    said: Mapping[str, Any] = cast("Mapping[str, Any]", compiled) if isinstance(compiled, Mapping) else {}
    found = [_optimizer(said.get("optimizer") or said.get("optimizer_config"), state)]
    for what, key in (("loss", "loss"), ("metrics", "metrics"), ("metrics", "weighted_metrics")):
        names = ", ".join(_names(said.get(key), _DEEP))
        found.append(Extra(what, printable(names, 200)) if names else None)
    return [one for one in found if one is not None]


def _optimizer(given: Any, state: Callable[[], Sequence[StoredArray]]) -> Extra | None:
    says = given if isinstance(given, str) else ""
    if isinstance(given, Mapping):
        entry = cast("Mapping[str, Any]", given)
        config: Any = entry.get("config")
        config = cast("Mapping[str, Any]", config) if isinstance(config, Mapping) else {}
        inner = _names(config.get("inner_optimizer"), 1)
        name = "".join(_names({**entry, "config": None}, 1)) + (f"({inner[0]})" if inner else "")
        settings = [
            f"{key} {shown}"
            for key, value in config.items()
            if not (key == "ema_momentum" and not config.get("use_ema")) and (shown := _setting(value))
        ]
        says = ", ".join([name or "a class that the file does not name", *settings])
    try:
        arrays = state()
    except FileRefusedError:
        return Extra(
            "optimizer", f"{printable(says, 300) or 'a class that the file does not name'}; its state cannot be read"
        )
    if not says and not arrays:
        return None
    numbers = sum(math.prod(array.shape) for array in arrays)
    return Extra("optimizer", printable(says, 300) or "a class that the file does not name", len(arrays), numbers)


def _setting(value: Any) -> str:
    """A number, or the name of a schedule; empty for what says nothing."""
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, (int, float)):
        return f"{value:.6g}"
    return "".join(_names(value, 1)) if isinstance(value, Mapping) else ""


def _names(value: Any, deep: int) -> list[str]:
    """The names of losses and metrics, however Keras wrote them: by name, as objects, in lists, by output."""
    if isinstance(value, str):
        return [value]
    if deep and isinstance(value, list):
        return [name for part in cast("list[Any]", value) for name in _names(part, deep - 1)]
    if not isinstance(value, Mapping):
        return []
    entry = cast("Mapping[str, Any]", value)
    if "class_name" in entry:
        config, kind = entry.get("config"), entry["class_name"]
        own = cast("Mapping[str, Any]", config).get("name") if isinstance(config, Mapping) else config
        named = own if kind == "function" or (isinstance(config, Mapping) and deep > 1 and own) else kind
        return [named] if isinstance(named, str) else []
    return [
        f"{output}: {', '.join(names)}" for output, part in entry.items() if deep and (names := _names(part, deep - 1))
    ]
