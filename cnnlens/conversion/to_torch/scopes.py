"""The graph of a network cut into models: what each nested model holds, is given, and gives.

A ``Network`` has its nested models written out, once for each use. A person would write each as a class with a
``forward`` of its own, whichever tensors it is called on; so the uses are laid over each other here, and what differs
between them is what the class is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from cnnlens.conversion.to_torch.value import join_shapes
from cnnlens.network.graph import Call, Layer, Ref, Shape, find_refs
from cnnlens.network.network import Network

__all__ = ["Item", "Scope", "ScopeInput", "fill", "read_scope", "sources"]


@dataclass(frozen=True)
class ScopeInput:
    """Stands for input ``index`` of the model that a call is in."""

    index: int


Source = Ref | ScopeInput


@dataclass(frozen=True)
class Item:
    """Describes one call in a model, over all uses of that model.

    Attributes:
        name: The call's name in the model's first use.
        calls: The same call in each use.
        args, kwargs: What it is called with, tensors as a ``Ref`` (in the names of the first use) or a ``ScopeInput``.
        inner: The nested model that is called, if it is one.
    """

    name: str
    layer: Layer
    calls: tuple[Call, ...]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inner: Scope | None = None
    # Which of the nested model's uses each of ``calls`` is.
    places: tuple[int, ...] = ()

    @property
    def axis(self) -> int:
        return self.calls[0].channel_axis

    @property
    def shapes(self) -> tuple[Shape | None, ...]:
        """Give the shapes of its outputs in Keras' axes, open where uses differ."""
        return tuple(join_shapes(each) for each in zip(*(call.shapes for call in self.calls), strict=True))


@dataclass
class Scope:
    """Describes a model: what it calls in order, what it is given in each use, and what it gives."""

    path: tuple[str, ...]
    layer: Layer | None
    items: list[Item]
    inputs: list[tuple[Ref, ...]]  # each with one tensor a use
    outputs: list[Source] = field(default_factory=list[Source])
    # The uses in the order in which they are run.
    order: list[int] = field(default_factory=list[int])


def sources(structure: Any) -> list[Source]:
    """List every ``Ref`` and ``ScopeInput`` in nested lists, tuples and dicts, in order."""
    found: list[Source] = []
    fill(structure, lambda source: found.append(source))
    return found


def fill(structure: Any, change: Callable[[Source], Any]) -> Any:
    """Rebuild ``structure`` with ``change(source)`` in place of every ``Ref`` and ``ScopeInput``."""
    if isinstance(structure, (Ref, ScopeInput)):
        return change(structure)
    if isinstance(structure, list):
        return [fill(part, change) for part in cast("list[Any]", structure)]
    if isinstance(structure, tuple):
        return tuple(fill(part, change) for part in cast("tuple[Any, ...]", structure))
    if isinstance(structure, dict):
        return {name: fill(part, change) for name, part in cast("dict[str, Any]", structure).items()}
    return structure


def read_scope(network: Network) -> Scope:
    """Read the outermost model of ``network``, nested ones inside."""
    by_parent: dict[tuple[str, ...], list[Call]] = {}
    by_layer: dict[str, list[Call]] = {}
    for call in network.calls:
        if call.refs:
            by_parent.setdefault(_path(call.layer)[:-1], []).append(call)
            by_layer.setdefault(call.layer.name, []).append(call)
    reader = _ScopeReader(by_parent, by_layer)
    scope = reader.read((), None, [""])
    own = {ref: ScopeInput(index) for index, ref in enumerate(network.inputs)}
    order = [own[refs[0]].index for refs in scope.inputs]
    scope.items = [_given(item, order) for item in scope.items]
    scope.inputs = [(ref,) for ref in network.inputs]
    scope.outputs = [own.get(ref, ref) for ref in network.outputs]
    _in_branches(scope)
    _set_order(scope, [0])
    return scope


def _given(item: Item, order: Sequence[int]) -> Item:
    """The item with the inputs in the model's order rather than in that of their first use."""

    def change(source: Source) -> Source:
        return ScopeInput(order[source.index]) if isinstance(source, ScopeInput) else source

    return Item(
        item.name, item.layer, item.calls, fill(item.args, change), fill(item.kwargs, change), item.inner, item.places
    )


def _path(layer: Layer) -> tuple[str, ...]:
    return layer.path or (layer.name,)


@dataclass
class _ScopeReader:
    by_parent: dict[tuple[str, ...], list[Call]]
    by_layer: dict[str, list[Call]]

    def read(self, path: tuple[str, ...], layer: Layer | None, prefixes: list[str]) -> Scope:
        """The model at ``path``, whose calls' names begin with one of ``prefixes`` in each of its uses."""
        uses: list[dict[str, Call]] = [{} for _ in prefixes]
        for call in self.by_parent.get(path, []):
            name = re.escape(_path(call.layer)[-1])
            for use, prefix in zip(uses, prefixes, strict=True):
                if call.name.startswith(prefix) and re.fullmatch(name + r"(:\d+)?", call.name[len(prefix) :]):
                    use[call.name[len(prefix) :]] = call
        scope = Scope(path, layer, [], [])
        inputs: dict[tuple[Ref, ...], ScopeInput] = {}
        names = [{prefix + name for name in use} for use, prefix in zip(uses, prefixes, strict=True)]

        def source(refs: tuple[Ref, ...]) -> Source:
            if refs[0].call in names[0]:
                return refs[0]
            return inputs.setdefault(refs, ScopeInput(len(inputs)))

        for name in uses[0]:
            calls = tuple(use[name] for use in uses)
            if calls[0].layer.container:
                scope.items.append(self._container(calls, source))
                continue
            args, kwargs = _over([(call.args, dict(call.kwargs)) for call in calls], source)
            scope.items.append(Item(calls[0].name, calls[0].layer, calls, args, kwargs))
        scope.inputs = list(inputs)
        if layer is not None:
            containers = self.by_layer[layer.name]
            scope.outputs = list(sources(_over([call.args for call in containers], source)))
            scope.inputs = list(inputs)
            _in_branches(scope)
        return scope

    def _container(self, calls: tuple[Call, ...], source: Callable[[tuple[Ref, ...]], Source]) -> Item:
        layer = calls[0].layer
        every = self.by_layer[layer.name]
        inner = self.read(_path(layer), layer, [f"{call.name}/" for call in every])
        places = [next(place for place, one in enumerate(every) if one.name == call.name) for call in calls]
        args = tuple(source(tuple(refs[place] for place in places)) for refs in inner.inputs)
        return Item(calls[0].name, layer, calls, args, {}, inner, tuple(places))


def _over(structures: Sequence[Any], source: Callable[[tuple[Ref, ...]], Source]) -> Any:
    """The first structure, with the source that stands for all of them in place of each tensor."""
    rows = [list(find_refs(structure)) for structure in structures]
    tuples = iter(zip(*rows, strict=True))
    return fill(structures[0], lambda _: source(next(tuples)))


def _in_branches(scope: Scope) -> None:
    """Put the calls in the order in which a person writes them, branch after branch; drop what leads to no output.

    The file's own order goes by depth, and so jumps from branch to branch at every step.
    """
    by_name = {item.name: item for item in scope.items}
    ordered: dict[str, Item] = {}
    stack = [(source.call, False) for source in reversed(scope.outputs) if isinstance(source, Ref)]
    while stack:
        name, ready = stack.pop()
        if name in ordered:
            continue
        item = by_name[name]
        if ready:
            ordered[name] = item
            continue
        stack.append((name, True))
        needed = [source.call for source in sources((item.args, item.kwargs)) if isinstance(source, Ref)]
        stack += [(one, False) for one in reversed(needed) if one not in ordered]
    scope.items = list(ordered.values())


def _set_order(scope: Scope, order: list[int]) -> None:
    """Note in which order the uses of each nested model are run, ``order`` being that of the model itself."""
    scope.order = order
    inner: dict[str, list[Item]] = {}
    for item in scope.items:
        if item.inner is not None:
            inner.setdefault(item.layer.name, []).append(item)
    for items in inner.values():
        places = [item.places[use] for use in order for item in items]
        for item in items:
            assert item.inner is not None
            _set_order(item.inner, places)
