"""The weights of one model into another that exists already, whatever frameworks the two are of.

Parts are paired by what feeds them and what they feed, by kind and canonical shape; where a file has no graph, by their
order among parts of one shape, or by values where the two hold the same already. Names come last. Arrays then pass
through the canonical layout, with the order of a flattened map on either side, so that no shape has to be trusted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens import layout
from cnnlens.conversion.blocks import Block, Signature, blocks_of, colours
from cnnlens.errors import CnnlensError
from cnnlens.network.network import Network
from cnnlens.network.weight import Weight
from cnnlens.text import printable

__all__ = ["Applied", "Matching", "Pair", "apply", "match"]

Array = NDArray[Any]

# Branches that are alike are told apart one after the other, and each time everything is coloured anew.
_MOST_ALIKE = 100
_SHOWN = 3

# What an array that one side lacks must be for the layer to compute the same.
_NEUTRAL: Mapping[str, float] = {"bias": 0.0, "beta": 0.0, "gamma": 1.0, "bias_ih": 0.0, "bias_hh": 0.0}


@dataclass(frozen=True)
class Pair:
    """Names two parts that hold the same weights.

    Attributes: source, target: The parts. how: ``graph`` where only this pair fits, ``alike`` where branches are
    interchangeable; for files without a graph ``shape`` where no other part has it, ``values`` by the numbers that
    both hold, ``names`` where all parts of one shape are called the same on both sides, ``order`` by their order
    among them.
    """

    source: Block
    target: Block
    how: str


@dataclass(frozen=True)
class Matching:
    """Says which part of a model is which of another; every weighted part of both is in a pair."""

    pairs: tuple[Pair, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Applied:
    """Holds the arrays for a target.

    Attributes:
        arrays: By layer name and weight name, in the target's own layout and dtype.
        kept: Arrays of the target that have no partner and stay as they are (counters of batches, statistics).
        matching: Where they came from.
        notes: What was filled in or narrowed, a line each.
        exact: Those of ``arrays`` that lost digits in the target's dtype, before they did: the sum of two biases.
    """

    arrays: Mapping[tuple[str, str], Array]
    kept: tuple[str, ...]
    matching: Matching
    notes: tuple[str, ...]
    exact: Mapping[tuple[str, str], Array]


# -- which is which --------------------------------------------------------------------------------------------------


def match(source: Network, target: Network) -> Matching:
    """Pair the weighted parts of two models of one architecture.

    Raises:
        CnnlensError: they share no structure; names what one has and the other has not, and the nearest part.
    """
    ours, theirs = _comparable(blocks_of(source), blocks_of(target))
    if not ours or not theirs:
        empty = source if not ours else target
        raise CnnlensError(f"{printable(empty.source.path, 300)}: it holds no weights to carry over")
    if source.calls and target.calls:
        pairs = _by_graph(source, target, ours, theirs)
        if pairs is not None:
            return Matching(tuple(pairs))
    pairs = _by_order(source, target, ours, theirs)
    notes: list[str] = []
    ambiguous = sum(pair.how == "order" for pair in pairs)
    if ambiguous:
        notes.append(
            f"{ambiguous} of {len(pairs)} parts are one of several of their shape, and were paired by their order: "
            "a model whose branches stand in another order needs its graph (a .pt2 file, --arch, or a .keras file)"
        )
    return Matching(tuple(pairs), tuple(notes))


def _comparable(ours: list[Block], theirs: list[Block]) -> tuple[list[Block], list[Block]]:
    """Both sides with guessed kinds read as the other side has them, where its own reading has no partner."""
    return _read_as(ours, theirs), _read_as(theirs, ours)


def _read_as(blocks: Sequence[Block], others: Sequence[Block]) -> list[Block]:
    known = Counter(block.signature for block in others)
    left = known - Counter(block.signature for block in blocks)
    found: list[Block] = []
    for block in blocks:
        better = next((one for one in block.others if left[one] > 0), None)
        if block.others and known[block.signature] == 0 and better is not None:
            left[better] -= 1
            block = replace(block, signature=better)
        found.append(block)
    # A normalisation without statistics may be any; the parts that nothing else knows are left out of it.
    return [block for block in found if block.signature[0] != "statistics"]


def _by_graph(source: Network, target: Network, ours: Sequence[Block], theirs: Sequence[Block]) -> list[Pair] | None:
    """Pairs by what feeds what; None where the graphs are not the same."""
    marks: tuple[dict[Block, str], dict[Block, str]] = ({}, {})
    found: dict[Block, Pair] = {}
    for turn in range(_MOST_ALIKE):
        classes = _classes(colours(source, ours, marks[0])), _classes(colours(target, theirs, marks[1]))
        if {key: len(members) for key, members in classes[0].items()} != {
            key: len(members) for key, members in classes[1].items()
        }:
            return None
        several = [key for key, members in classes[0].items() if len(members) > 1]
        for key, members in classes[0].items():
            if len(members) == 1:
                found.setdefault(members[0], Pair(members[0], classes[1][key][0], "alike" if turn else "graph"))
        if not several:
            return [found[block] for block in ours]
        first = classes[0][several[0]][0]
        alike = classes[1][several[0]]
        twin = next((one for one in alike if one.values == first.values), alike[0])
        marks[0][first] = marks[1][twin] = f"pair {turn}"
    return None


def _classes(colour: Mapping[Block, str]) -> dict[str, list[Block]]:
    found: dict[str, list[Block]] = {}
    for block, own in colour.items():
        found.setdefault(own, []).append(block)
    return found


def _by_order(source: Network, target: Network, ours: Sequence[Block], theirs: Sequence[Block]) -> list[Pair]:
    """Pairs by shape, and by values or order among several of one shape.

    Raises:
        CnnlensError: the two do not have the same parts.
    """
    groups = _groups(ours), _groups(theirs)
    if {key: len(members) for key, members in groups[0].items()} != {
        key: len(members) for key, members in groups[1].items()
    }:
        raise _unlike(source, target, ours, theirs)
    found: dict[Block, Pair] = {}
    for key, members in groups[0].items():
        others = groups[1][key]
        values = [block.values for block in others]
        by_values = len(members) > 1 and sorted(block.values for block in members) == sorted(values)
        if by_values and len(set(values)) == len(values):
            placed = {block.values: block for block in others}
            found.update({block: Pair(block, placed[block.values], "values") for block in members})
            continue
        names = {_plain_name(block): block for block in others}
        if len(members) > 1 and len(names) == len(members) and {_plain_name(block) for block in members} == set(names):
            found.update({block: Pair(block, names[_plain_name(block)], "names") for block in members})
            continue
        how = "order" if len(members) > 1 else "shape"
        found.update({one: Pair(one, other, how) for one, other in zip(members, others, strict=True)})
    return [found[block] for block in ours]


def _plain_name(block: Block) -> str:
    """A part's name as both frameworks can have it: ``layer1.0.conv1`` is ``layer1_0_conv1`` in a converted model."""
    return "_".join(re.findall(r"[A-Za-z0-9]+", block.layer.name)) + block.part


def _groups(blocks: Sequence[Block]) -> dict[Signature, list[Block]]:
    found: dict[Signature, list[Block]] = {}
    for block in blocks:
        found.setdefault(block.signature, []).append(block)
    return found


def _unlike(source: Network, target: Network, ours: Sequence[Block], theirs: Sequence[Block]) -> CnnlensError:
    """The error of two models that are not of one structure."""
    counts = [Counter(block.signature for block in blocks) for blocks in (ours, theirs)]
    only = [_first(ours, counts[0] - counts[1]), _first(theirs, counts[1] - counts[0])]
    lines: list[str] = []
    for network, blocks, others in ((source, only[0], theirs), (target, only[1], ours)):
        if blocks:
            shown = ", ".join(block.shown for block in blocks[:_SHOWN])
            more = f" and {len(blocks) - _SHOWN} more" if len(blocks) > _SHOWN else ""
            near = _nearest(blocks[0], others)
            lines.append(
                f"{printable(network.source.path, 200)} alone has {shown}{more}"
                + (f" (nearest there: {near.shown})" if near else "")
            )
    return CnnlensError(
        f"the two models are not of one structure ({len(ours)} and {len(theirs)} weighted parts): {'; '.join(lines)}"
    )


def _first(blocks: Sequence[Block], left: Counter[Signature]) -> list[Block]:
    """The last blocks of each signature, as many as are left over."""
    found: list[Block] = []
    for block in reversed(blocks):
        if left[block.signature] > 0:
            left[block.signature] -= 1
            found.append(block)
    return found[::-1]


def _nearest(block: Block, others: Sequence[Block]) -> Block | None:
    family, shape = block.signature
    alike = [one for one in others if one.signature[0] == family and len(one.signature[1]) == len(shape)]

    def distance(other: Block) -> float:
        return sum(abs(np.log(max(a, 1) / max(b, 1))) for a, b in zip(shape, other.signature[1], strict=True))

    return min(alike, key=distance, default=None)


# -- the arrays ------------------------------------------------------------------------------------------------------


def apply(source: Network, target: Network, matching: Matching | None = None) -> Applied:
    """Turn the source's weights into what the target stores.

    Args:
        matching: Of :func:`match`; None makes it.

    Raises:
        CnnlensError: the models do not match, or the target has no room for what the source has (a bias that is not
            zero, a gamma that is not one), or the source lacks what cannot be filled in (running statistics).
    """
    found = matching or match(source, target)
    arrays: dict[tuple[str, str], Array] = {}
    exact: dict[tuple[str, str], Array] = {}
    notes = list(found.notes)
    filled: list[str] = []
    for pair in found.pairs:
        for name, array, made_up in _carried(pair, source, target):
            key = pair.target.layer.name, name
            arrays[key] = np.ascontiguousarray(array, pair.target.layer.stored[name].stored.dtype)
            if not np.array_equal(arrays[key], array, equal_nan=array.dtype.kind == "f"):
                exact[key] = array
            if made_up:
                filled.append(f"{pair.target.layer.name}/{name}")
        notes += _settings(pair)
    if filled:
        notes.append(f"the source has no {_listed(filled)}: filled with what changes nothing")
    narrow = [
        f"{layer}/{name}"
        for (layer, name), array in arrays.items()
        if target[layer].stored[name].stored.dtype.itemsize < 4 and array.dtype.kind == "f"
    ]
    if narrow:
        notes.append(f"rounded to the target's own type: {_listed(narrow)}")
    kept = [
        f"{layer.name}/{name}"
        for layer in (target.layers_of_calls if target.calls else target.layers)
        for name in layer.stored
        if (layer.name, name) not in arrays
    ]
    return Applied(arrays, tuple(kept), found, tuple(notes), exact)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _carried(pair: Pair, source: Network, target: Network) -> list[tuple[str, Array, bool]]:
    """Each array of a target's part: its name there, the numbers, and whether they were made up."""
    arrays = {
        role: _reread(weight, pair.target.weights.get(role), source).canonical()
        for role, weight in pair.source.weights.items()
    }
    _merge_biases(arrays, pair.target.weights)
    found: list[tuple[str, Array, bool]] = []
    for role, stored in pair.target.weights.items():
        array, made_up = arrays.pop(role, None), False
        weight = _reread(stored, pair.source.weights.get(role), target)
        if array is None:
            if role not in _NEUTRAL:
                raise CnnlensError(
                    f"{pair.source.shown} has no '{printable(role)}', which {pair.target.shown} needs and nothing "
                    "can stand for"
                )
            array, made_up = np.full(weight.canonical_shape, _NEUTRAL[role], np.float32), True
        found.append((weight.name, _arranged(array, weight, pair), made_up))
    for role, array in arrays.items():
        if role not in _NEUTRAL or np.any(array != _NEUTRAL[role]):
            raise CnnlensError(
                f"{pair.source.shown} has a '{printable(role)}' for which {pair.target.shown} has no room"
            )
    return found


def _reread(weight: Weight, other: Weight | None, network: Network) -> Weight:
    """A weight of a file without a graph, as the other model knows it: its kind, and the map that was flattened."""
    if network.calls or other is None:
        return weight
    geometry = weight.geometry
    if geometry.flatten is None and other.geometry.flatten is not None:
        geometry = replace(geometry, flatten=other.geometry.flatten)
    if geometry.groups <= 1 < other.geometry.groups:
        geometry = replace(geometry, groups=other.geometry.groups)
    kind, role = weight.kind, weight.role
    if weight.framework == "torch" and other.kind in layout.KINDS:
        kind, role = _torch_kind(other.kind), other.role if other.role != "depthwise_kernel" else "kernel"
    read = replace(weight, kind=kind, role=role, geometry=geometry)
    try:
        _ = read.canonical_shape, read.canonical_axes
    except CnnlensError:
        return weight
    return read


def _torch_kind(kind: str) -> str:
    """The kind under which PyTorch's array of the same meaning stands in the table."""
    return kind.replace("Depthwise", "").replace("Separable", "")


def _merge_biases(arrays: dict[str, Array], wanted: Mapping[str, Weight]) -> None:
    """PyTorch's two biases of a recurrent layer and Keras' one: their sum, or the one and zeros."""
    if "bias" in wanted and "bias_ih" in arrays and "bias_hh" in arrays:
        first, second = arrays.pop("bias_ih"), arrays.pop("bias_hh")
        two_rows = len(wanted["bias"].canonical_shape) == 2
        arrays["bias"] = np.stack([first, second]) if two_rows else np.add(first, second, dtype=np.float64)
    elif "bias" in arrays and "bias_ih" in wanted:
        whole = arrays.pop("bias")
        arrays["bias_ih"], arrays["bias_hh"] = (
            (whole[0], whole[1]) if whole.ndim == 2 else (whole, np.zeros_like(whole))
        )


def _arranged(canonical: Array, weight: Weight, pair: Pair) -> Array:
    """Canonical numbers in the target's own axes."""
    shape = weight.canonical_shape
    if canonical.shape != shape:
        if [size for size in canonical.shape if size != 1] != [size for size in shape if size != 1]:
            raise CnnlensError(
                f"{pair.source.shown} and {pair.target.shown}: '{printable(weight.name)}' is {canonical.shape} here "
                f"and {shape} there"
            )
        canonical = canonical.reshape(shape)
    stored = layout.arrange(weight.kind, weight.role, canonical, weight.framework, weight.geometry)
    if stored.shape != tuple(weight.stored.shape):
        raise CnnlensError(
            f"{pair.target.shown}: '{printable(weight.name)}' would be {stored.shape}, it is {weight.stored.shape}"
        )
    return stored


def _settings(pair: Pair) -> list[str]:
    """Settings outside the arrays by which the two compute different things with the same weights."""
    ours, theirs = (_epsilon(block) for block in (pair.source, pair.target))
    if ours is None or theirs is None or np.isclose(ours, theirs, rtol=1e-6, atol=0):
        return []
    return [f"{pair.target.shown} has epsilon {theirs:g}, {pair.source.shown} has {ours:g}: set it by hand"]


def _epsilon(block: Block) -> float | None:
    config = block.layer.config
    value = config.get("epsilon", config.get("eps"))
    return float(value) if isinstance(value, int | float) else None
