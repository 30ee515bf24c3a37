"""Names that Keras gives by rule: a class's in a file, an entry's own class, the numbers of those that share one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["base_class", "numbered", "snake_case"]


def snake_case(class_name: str) -> str:
    """Give Keras' group name for a class: ``Conv2DTranspose`` is ``conv2d_transpose`` (``keras.src.utils.naming``)."""
    name = re.sub(r"\W+", "", class_name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def base_class(entry: Mapping[str, Any]) -> str:
    """Give the class name of a layer entry without the package of a registered class; empty where it has none."""
    name = entry.get("class_name")
    return name.rsplit(">", 1)[-1] if isinstance(name, str) else ""


def numbered(items: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Give entries with their group names: the class in snake case, and from the second of a class on a counter."""
    used: dict[str, int] = {}
    found: list[tuple[str, Mapping[str, Any]]] = []
    for item in items:
        stem = snake_case(base_class(item))
        count = used[stem] = used.get(stem, -1) + 1
        found.append((f"{stem}_{count}" if count else stem, item))
    return found
