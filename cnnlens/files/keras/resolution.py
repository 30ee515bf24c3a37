"""The claims that layers lay to a file's arrays, collected: which layer has which, what nobody claimed, and remarks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from cnnlens.files.arrays import StoredArray
from cnnlens.files.keras.variables import Declared, contradiction, declare
from cnnlens.reference.keras.names import base_class
from cnnlens.text import printable

__all__ = ["LayerPath", "Resolution", "shown"]

LayerPath = tuple[str, ...]

_MANY = 20


def shown(path: LayerPath) -> str:
    """Write a layer path for a person: ``'encoder/conv2d'``."""
    return "'" + printable("/".join(path), 120) + "'"


class Resolution:
    """Holds weights by layer path, filled by a resolver."""

    def __init__(self) -> None:
        self.weights: dict[LayerPath, dict[str, StoredArray]] = {}
        self.notes: dict[str, None] = {}
        self.contradictions: dict[str, None] = {}
        self._claimed: set[int] = set()
        self._missing: list[tuple[LayerPath, Mapping[str, Any], Declared]] = []
        self._owners: dict[tuple[str, str], list[tuple[LayerPath, Mapping[str, Any]]]] = {}

    def note(self, remark: str, *, contradicts: bool = False) -> None:
        """Adds a remark for the person; ``contradicts`` where the arrays are not those that the config implies."""
        self.notes[remark] = None
        if contradicts:
            self.contradictions[remark] = None

    def claim(
        self, path: LayerPath, entry: Mapping[str, Any] | None, declared: Declared, found: Mapping[str, StoredArray]
    ) -> bool:
        """Files ``found`` under ``path``; what contradicts the config by its axes stays unmatched, with a note."""
        problem = contradiction(declared, {name: array.shape for name, array in found.items()})
        if problem:
            remark = f"layer {shown(path)}: {problem}; the file's arrays for it are listed as unmatched"
            self.note(remark, contradicts=True)
            return False
        self._claimed.update(id(array) for array in found.values())
        if found:
            self.weights.setdefault(path, {}).update(found)
            if entry is not None:
                self._owners.setdefault((path[-1], base_class(entry)), []).append((path, entry))
        return True

    def missing(self, path: LayerPath, entry: Mapping[str, Any]) -> None:
        """Remembers a layer whose arrays were not where they belong; ``share`` looks for them elsewhere."""
        declared = declare(entry)
        if declared.names is None or len(declared.names) > declared.optional:
            self._missing.append((path, entry, declared))

    def share(self) -> None:
        """Gives layers without arrays those of the same layer elsewhere: Keras stores a shared layer once."""
        lost: list[LayerPath] = []
        for path, entry, declared in self._missing:
            owners = [
                owner
                for owner, other in self._owners.get((path[-1], base_class(entry)), [])
                if owner != path and _same_layer(entry, other)
            ]
            if len(owners) == 1:
                self.weights[path] = dict(self.weights[owners[0]])
                self.note(f"layer {shown(path)} is stored as {shown(owners[0])}, which it shares its arrays with")
            elif declared.names is not None:
                lost.append(path)
        for path in lost[:_MANY]:
            self.note(f"the file holds no arrays for layer {shown(path)}", contradicts=True)
        if len(lost) > _MANY:
            self.note(f"the file holds no arrays for {len(lost) - _MANY} more layers", contradicts=True)

    def unmatched(self, arrays: Iterable[StoredArray]) -> dict[str, StoredArray]:
        """List the arrays that no layer claimed, by their place in the file."""
        return {array.place: array for array in arrays if id(array) not in self._claimed}


def _same_layer(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two entries can describe one layer: the same config, and no identities that differ."""
    identities = {entry.get("shared_object_id") for entry in (one, other)} - {None}
    return len(identities) < 2 and _without_identities(one.get("config")) == _without_identities(other.get("config"))


def _without_identities(value: object) -> object:
    """A config without ``shared_object_id``, which Keras writes from the second use of an object on."""
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value).items()
        return {key: _without_identities(item) for key, item in pairs if key != "shared_object_id"}
    if isinstance(value, list):
        return [_without_identities(item) for item in cast("list[object]", value)]
    return value
